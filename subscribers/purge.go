package subscribers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"depesche/migrations"
)

// Purge deletes sign-ups that were not confirmed in time, with everything that names a person (GDPR Art. 17): what stays
// are the events under their hashes. It says how many it deleted.
func (r *Registry) Purge(ctx context.Context, now time.Time) (deleted int, err error) {
	if err := r.forgetCounts(ctx, now); err != nil {
		return 0, err
	}
	limit := now.Add(-r.settings.ConfirmWithin).UnixMilli()
	for {
		stale, err := r.unconfirmed(ctx, limit)
		if err != nil {
			return deleted, err
		}
		for _, s := range stale {
			done := false
			err := r.tx(ctx, func(tx *sql.Tx) error {
				done, err = r.purge(ctx, tx, now, limit, s)
				return err
			})
			if err != nil {
				return deleted, err
			}
			if done {
				deleted++
			}
		}
		if len(stale) < purgePage {
			break
		}
	}
	if deleted > 0 && r.db.Kind == migrations.SQLite { // what is left in the file is a matter of Cleanup
		if _, err := r.db.Scrub(ctx, false); err != nil {
			return deleted, err
		}
	}
	return deleted, nil
}

const purgePage = 500

// unconfirmedSignUp is the key of a subscription.
type unconfirmedSignUp struct {
	subscriber int64
	newsletter string
}

func (r *Registry) unconfirmed(ctx context.Context, limit int64) ([]unconfirmedSignUp, error) {
	rows, err := r.db.Write.QueryContext(ctx, `
		SELECT subscriber, newsletter FROM subscriptions
		WHERE (state = 'pending' OR (consent IS NULL AND state <> 'unproven')) AND requested <= $1
		ORDER BY requested LIMIT $2`, limit, purgePage)
	if err != nil {
		return nil, fmt.Errorf("find unconfirmed sign-ups: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var all []unconfirmedSignUp
	for rows.Next() {
		var s unconfirmedSignUp
		if err := rows.Scan(&s.subscriber, &s.newsletter); err != nil {
			return nil, fmt.Errorf("find unconfirmed sign-ups: %w", err)
		}
		all = append(all, s)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("find unconfirmed sign-ups: %w", err)
	}
	return all, nil
}

// purge deletes one sign-up, unless it was confirmed or renewed while we came.
func (r *Registry) purge(ctx context.Context, tx *sql.Tx, now time.Time, limit int64, u unconfirmedSignUp) (bool, error) {
	who, err := lock(ctx, tx, u.subscriber)
	if err != nil {
		return false, err
	}
	s, err := readSubscription(ctx, tx, who, u.newsletter)
	if err != nil || s.state == "" || s.state == Unproven || s.requested > limit || s.state != Pending && s.consent.Valid {
		return false, err
	}
	from := int64(0) // who had confirmed once keeps the proof of that, and loses only what came after its end
	if s.consent.Valid {
		from = s.ended.Int64
	}
	if err := errors.Join(deleteTraces(ctx, tx, who.id, u.newsletter, from), r.leaveTraces(ctx, tx)); err != nil {
		return false, err
	}
	if s.consent.Valid {
		return true, execute(ctx, tx, `
			UPDATE subscriptions SET state = 'ended' WHERE subscriber = $1 AND newsletter = $2`, who.id, u.newsletter)
	}
	err = execute(ctx, tx, `DELETE FROM subscriptions WHERE subscriber = $1 AND newsletter = $2`, who.id, u.newsletter)
	if err != nil {
		return false, err
	}
	return true, r.forget(ctx, tx, now, who)
}

// deleteTraces deletes the letters and particulars of one subscription's sign-ups after an instant.
func deleteTraces(ctx context.Context, tx *sql.Tx, subscriber int64, newsletter string, after int64) error {
	return errors.Join(
		execute(ctx, tx, `DELETE FROM letters WHERE subscriber = $1 AND newsletter = $2 AND created > $3`,
			subscriber, newsletter, after),
		execute(ctx, tx, `DELETE FROM particulars WHERE consent IN (
			SELECT id FROM consents WHERE subscriber = $1 AND newsletter = $2 AND at > $3)`,
			subscriber, newsletter, after))
}

// forget erases a subscriber who has no subscription left.
func (r *Registry) forget(ctx context.Context, tx *sql.Tx, now time.Time, who subscriber) error {
	result, err := tx.ExecContext(ctx, `
		UPDATE subscribers SET address = NULL, erased = $1
		WHERE id = $2 AND NOT EXISTS (SELECT 1 FROM subscriptions p WHERE p.subscriber = subscribers.id)`,
		now.UnixMilli(), who.id)
	if err != nil {
		return fmt.Errorf("erase subscriber: %w", err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return err
	}
	_, err = r.record(ctx, tx, now, who, event{kind: Erased, Particulars: Particulars{How: "unconfirmed"}})
	return err
}

func execute(ctx context.Context, tx *sql.Tx, statement string, args ...any) error {
	if _, err := tx.ExecContext(ctx, statement, args...); err != nil {
		return fmt.Errorf("purge: %w", err)
	}
	return nil
}
