package newsletter

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"time"
)

// restoredKey is the row of house that says when the database was put back to an older state.
const restoredKey = "restored"

// Restored is for a database that was put back to an older state: what has been sent since is not known in it. Every digest that is
// not done is held, and so will be the first one that each newsletter composes from now on: it may bring what readers have had, or
// be today's a second time. A person looks at it and releases it. held says how many are.
func (n *Newsroom) Restored(ctx context.Context, now time.Time) (held int64, err error) {
	err = n.db.Tx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO house (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value`,
			restoredKey, strconv.FormatInt(now.UnixMilli(), 10))
		if err != nil {
			return fmt.Errorf("note that the database was put back: %w", err)
		}
		result, err := tx.ExecContext(ctx, `UPDATE digests SET held = $1 WHERE state = 'ready' AND held IS NULL`, now.UnixMilli())
		if err != nil {
			return fmt.Errorf("hold unfinished digests: %w", err)
		}
		held, err = result.RowsAffected()
		return err
	})
	return held, err
}

// holdFirst holds a digest that was composed in this transaction if it is its newsletter's first since the database was put back.
func holdFirst(ctx context.Context, tx *sql.Tx, d Digest) error {
	_, err := tx.ExecContext(ctx, `
		UPDATE digests SET held = composed WHERE id = $1 AND state = 'ready' AND NOT EXISTS (
			SELECT 1 FROM digests o WHERE o.newsletter = $2 AND o.id <> $1
				AND o.composed >= (SELECT CAST(value AS BIGINT) FROM house WHERE key = $3))
		AND EXISTS (SELECT 1 FROM house WHERE key = $3)`, d.ID, d.Newsletter, restoredKey)
	if err != nil {
		return fmt.Errorf("hold the first digest after a restoration: %w", err)
	}
	return nil
}

// Sent says whether the database knows of a mail of a digest that has left.
func (n *Newsroom) Sent(ctx context.Context, newsletter string, day Day) (known bool, err error) {
	err = n.db.Read.QueryRowContext(ctx, `
		SELECT EXISTS (SELECT 1 FROM digests g JOIN deliveries d ON d.digest = g.id
			WHERE g.newsletter = $1 AND g.day = $2 AND d.state IN ('sent', 'doubtful'))`, newsletter, string(day)).Scan(&known)
	if err != nil {
		return false, fmt.Errorf("look whether a digest was sent: %w", err)
	}
	return known, nil
}
