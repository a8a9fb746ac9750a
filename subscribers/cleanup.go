package subscribers

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Retention is how long the house keeps what it need not keep for ever. A sign-up that is not confirmed has
// Settings.ConfirmWithin.
type Retention struct {
	Proof    int            // years, each to its end, that the proof is kept after a reader has left (BGB §§ 195, 199); 3 if zero
	IP       time.Duration  // of network addresses in consent events; 180 days if zero
	Letters  time.Duration  // of letters that were sent or given up; 90 days if zero, 14 at least
	Accesses time.Duration  // of the record of who looked; a year if zero
	Zone     *time.Location // in which years end; UTC if nil
}

func (r Retention) withDefaults() Retention {
	if r.Proof == 0 {
		r.Proof = 3
	}
	if r.IP == 0 {
		r.IP = 180 * day
	}
	if r.Letters == 0 {
		r.Letters = 90 * day
	}
	r.Letters = max(r.Letters, postmarkAge) // so long a letter may be answered by another
	if r.Accesses == 0 {
		r.Accesses = 365 * day
	}
	if r.Zone == nil {
		r.Zone = time.UTC
	}
	return r
}

// left is the instant before which a reader must have left for the proof to go now.
func (r Retention) left(now time.Time) time.Time {
	return time.Date(now.In(r.Zone).Year()-r.Proof, 1, 1, 0, 0, 0, 0, r.Zone)
}

// Cleanup is what was deleted because its time had come, or would be.
type Cleanup struct {
	DryRun      bool `json:"dry_run"`
	Unconfirmed int  `json:"unconfirmed"` // sign-ups
	Former      int  `json:"former"`      // readers who left long ago, with the proof
	IPs         int  `json:"ips"`         // network addresses of consent events
	Letters     int  `json:"letters"`
	Accesses    int  `json:"accesses"`
	Traces      bool `json:"traces"` // bytes of what was deleted may still be in the files, or would be scrubbed from them
}

const cleanupPage = 500

// Cleanup deletes what has been kept long enough, and makes it unreadable in the database's files; that, also for what was
// erased before. A dry run counts and changes nothing.
func (r *Registry) Cleanup(ctx context.Context, now time.Time, dry bool) (Cleanup, error) {
	c := Cleanup{DryRun: dry}
	var err error
	if dry {
		err = r.countUnconfirmed(ctx, now, &c.Unconfirmed)
	} else {
		c.Unconfirmed, err = r.Purge(ctx, now)
	}
	if err != nil {
		return c, err
	}
	keep := r.settings.Retention.withDefaults()
	if c.Former, err = r.each(ctx, dry, formerReaders, keep.left(now), func(tx *sql.Tx, id int64) error { return r.retire(ctx, tx, now, id) }); err != nil {
		return c, err
	}
	for _, step := range []struct {
		count        *int
		find, delete string
		kept         time.Duration
	}{
		{&c.IPs, oldIPs, `UPDATE particulars SET ip = NULL, ip_salt = NULL WHERE consent = $1`, keep.IP},
		{&c.Letters, oldLetters, `DELETE FROM letters WHERE id = $1`, keep.Letters},
		{&c.Accesses, oldAccesses, `DELETE FROM accesses WHERE id = $1`, keep.Accesses},
	} {
		*step.count, err = r.each(ctx, dry, step.find, now.Add(-step.kept), func(tx *sql.Tx, id int64) error {
			return execute(ctx, tx, step.delete, id)
		})
		if err != nil {
			return c, err
		}
	}
	if c.Traces, err = r.tracesLeft(ctx); err != nil || !c.Traces || dry {
		return c, err
	}
	c.Traces, err = r.scrub(ctx, true)
	return c, err
}

// What has been kept long enough, by key, a page at a time: after the key $1, older than $2, at most $3.
const (
	// Whoever still waits for a confirmation is a matter of Purge.
	formerReaders = `
		SELECT s.id FROM subscribers s
		WHERE s.id > $1 AND s.address IS NOT NULL AND s.created < $2 AND NOT EXISTS (
			SELECT 1 FROM subscriptions p
			WHERE p.subscriber = s.id AND (p.state <> 'ended' OR p.ended IS NULL OR p.ended >= $2))
		ORDER BY s.id LIMIT $3`
	oldIPs = `
		SELECT p.consent FROM particulars p JOIN consents c ON c.id = p.consent
		WHERE p.consent > $1 AND p.ip IS NOT NULL AND c.at < $2 ORDER BY p.consent LIMIT $3`
	// Those of whom objects or complained are kept: they get one letter and no second.
	oldLetters = `
		SELECT l.id FROM letters l
		WHERE l.id > $1 AND l.settled IS NOT NULL AND l.created < $2 AND NOT EXISTS (
			SELECT 1 FROM subscribers s JOIN suppressions x ON x.person = s.person WHERE s.id = l.subscriber)
		ORDER BY l.id LIMIT $3`
	oldAccesses = `SELECT id FROM accesses WHERE id > $1 AND at < $2 ORDER BY id LIMIT $3`
)

// each finds what is older than an instant, page by page, deletes each of it with fn, a transaction a page, and counts.
func (r *Registry) each(
	ctx context.Context, dry bool, find string, before time.Time, fn func(tx *sql.Tx, id int64) error,
) (count int, err error) {
	for last := int64(0); ; {
		page, err := numbers(ctx, r.db.Read, find, last, before.UnixMilli(), cleanupPage)
		if err != nil {
			return count, fmt.Errorf("look what has been kept long enough: %w", err)
		}
		if len(page) == 0 {
			return count, nil
		}
		last, count = page[len(page)-1], count+len(page)
		if dry {
			continue
		}
		err = r.tx(ctx, func(tx *sql.Tx) error {
			for _, id := range page {
				if err := fn(tx, id); err != nil {
					return err
				}
			}
			return r.leaveTraces(ctx, tx)
		})
		if err != nil {
			return count - len(page), err
		}
	}
}

// retire erases a reader who left long ago, unless they came back while we looked.
func (r *Registry) retire(ctx context.Context, tx *sql.Tx, now time.Time, id int64) error {
	who, err := lock(ctx, tx, id)
	if err != nil {
		return err
	}
	var waiting int
	err = tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM subscriptions WHERE subscriber = $1 AND state <> 'ended'`, id).Scan(&waiting)
	if err != nil {
		return fmt.Errorf("look for subscriptions: %w", err)
	}
	if waiting > 0 {
		return nil
	}
	return r.erase(ctx, tx, now, who, "retention", &Erasure{})
}

func (r *Registry) countUnconfirmed(ctx context.Context, now time.Time, count *int) error {
	err := r.db.Read.QueryRowContext(ctx, `
		SELECT COUNT(*) FROM subscriptions WHERE (state = 'pending' OR (consent IS NULL AND state <> 'unproven')) AND requested <= $1`,
		now.Add(-r.settings.ConfirmWithin).UnixMilli()).Scan(count)
	if err != nil {
		return fmt.Errorf("count unconfirmed sign-ups: %w", err)
	}
	return nil
}
