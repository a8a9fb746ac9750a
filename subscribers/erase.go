package subscribers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Erasure is what an erasure deleted. Traces says that bytes of it may still stand in the database's file or log: Cleanup
// tries again.
type Erasure struct {
	Subscriptions int64 `json:"subscriptions"`
	Letters       int64 `json:"letters"`
	Particulars   int64 `json:"particulars"`
	Deliveries    int64 `json:"deliveries"` // that were due and are skipped
	Traces        bool  `json:"traces"`
}

// Erase deletes everything that names the person with that address (GDPR Art. 17): address, subscriptions, letters and the
// particulars of each consent event. What stays is the keyed hash: the events stand under it, and a suppression, so that
// no import brings the address back; a new double opt-in of the person's own still does. deliveries does the same for
// the newsroom's rows in the same transaction, and says how many it skipped. Doing it again deletes what is left. Errors:
// an AddressError, ErrNotFound.
func (r *Registry) Erase(
	ctx context.Context, now time.Time, address string, deliveries func(ctx context.Context, tx *sql.Tx, now time.Time, subscriber int64) (int64, error),
) (Erasure, error) {
	a, err := ParseAddress(address)
	if err != nil {
		return Erasure{}, err
	}
	if err := r.Admit(ctx); err != nil { // a sign-up that was kept a moment ago is erased, too
		return Erasure{}, err
	}
	var gone Erasure
	var traces []string
	err = r.tx(ctx, func(tx *sql.Tx) error {
		gone, traces = Erasure{}, []string{a.Mailed, a.Mailbox}
		if err := execute(ctx, tx, `DELETE FROM slips WHERE address = $1 OR LOWER(address) = $2`, a.Mailed, a.Mailbox); err != nil {
			return err // one that came meanwhile
		}
		ids, err := numbers(ctx, tx, `SELECT id FROM subscribers WHERE person = $1 ORDER BY id`, r.keys.Person(a.Mailbox))
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			return ErrNotFound
		}
		for _, id := range ids {
			who, err := lock(ctx, tx, id)
			if err != nil {
				return err
			}
			traces = append(traces, who.address)
			if err := r.erase(ctx, tx, now, who, "request", &gone); err != nil {
				return err
			}
			skipped, err := deliveries(ctx, tx, now, id)
			if err != nil {
				return err
			}
			gone.Deliveries += skipped
		}
		return suppress(ctx, tx, now, r.keys.Person(a.Mailbox), Objected, "")
	})
	if err != nil {
		return gone, err
	}
	gone.Traces, err = r.scrub(ctx, false, traces...)
	return gone, err
}

// erase deletes what names one subscriber and records that it did, unless there was nothing.
func (r *Registry) erase(ctx context.Context, tx *sql.Tx, now time.Time, who subscriber, why string, gone *Erasure) error {
	before := gone.Letters + gone.Particulars + gone.Subscriptions
	for _, step := range []struct {
		count     *int64
		statement string
	}{
		{&gone.Letters, `DELETE FROM letters WHERE subscriber = $1 OR moves = $1`},
		{&gone.Particulars, `DELETE FROM particulars WHERE consent IN (SELECT id FROM consents WHERE subscriber = $1 AND kind <> 'erased')`},
		{&gone.Subscriptions, `DELETE FROM subscriptions WHERE subscriber = $1`},
	} {
		result, err := tx.ExecContext(ctx, step.statement, who.id)
		if err != nil {
			return fmt.Errorf("erase subscriber: %w", err)
		}
		n, err := result.RowsAffected()
		if err != nil {
			return fmt.Errorf("erase subscriber: %w", err)
		}
		*step.count += n
	}
	if who.address == "" && gone.Letters+gone.Particulars+gone.Subscriptions == before {
		return nil
	}
	err := execute(ctx, tx, `UPDATE subscribers SET address = NULL, erased = $1 WHERE id = $2`, now.UnixMilli(), who.id)
	if err != nil {
		return err
	}
	if err := r.leaveTraces(ctx, tx); err != nil {
		return err
	}
	_, err = r.record(ctx, tx, now, who, event{kind: Erased, Particulars: Particulars{How: why}})
	return err
}

// leaveTraces notes, in the transaction that deletes, that the files have to be scrubbed after it: a kill in between shall
// not let that be forgotten.
func (r *Registry) leaveTraces(ctx context.Context, tx *sql.Tx) error {
	return execute(ctx, tx, `INSERT INTO house (key, value) VALUES ('traces', 'left') ON CONFLICT DO NOTHING`)
}

// scrub makes what was deleted unreadable in the database's files and says whether traces may be left.
func (r *Registry) scrub(ctx context.Context, anew bool, traces ...string) (left bool, err error) {
	clean, err := r.db.Scrub(ctx, anew, traces...)
	if err != nil || !clean {
		return true, err
	}
	return false, r.tx(ctx, func(tx *sql.Tx) error { return execute(ctx, tx, `DELETE FROM house WHERE key = 'traces'`) })
}

// tracesLeft says whether something was deleted whose bytes may still stand in the files.
func (r *Registry) tracesLeft(ctx context.Context) (bool, error) {
	left, err := texts(ctx, r.db.Read, `SELECT value FROM house WHERE key = 'traces'`)
	return len(left) > 0, err
}

// numbers reads a column of keys.
func numbers(ctx context.Context, db reader, query string, args ...any) ([]int64, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var all []int64
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return nil, fmt.Errorf("read: %w", err)
		}
		all = append(all, n)
	}
	return all, errors.Join(rows.Err(), rows.Close())
}

// Any says whether there is anybody in the house, erased or not.
func (r *Registry) Any(ctx context.Context) (bool, error) {
	some, err := numbers(ctx, r.db.Read, `SELECT id FROM subscribers LIMIT 1`)
	return len(some) > 0, err
}
