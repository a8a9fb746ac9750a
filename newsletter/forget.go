package newsletter

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"depesche/subscribers"
)

// Forget is the newsroom's part of an erasure, in the caller's transaction: deliveries that are due to the reader are
// skipped, and so are doubtful ones that no dispatcher has in hand; a server's words about them, which may hold the address,
// are deleted. What is on the wire in this moment its dispatcher records itself. It says how many it skipped.
func (n *Newsroom) Forget(ctx context.Context, tx *sql.Tx, now time.Time, subscriber int64) (skipped int64, err error) {
	result, err := tx.ExecContext(ctx, `
		UPDATE deliveries SET state = 'skipped', due = NULL, settled = $1, code = 0, reply = 'erased'
		WHERE digest IN (SELECT id FROM digests) AND subscriber = $2 AND (state = 'due' OR state = 'doubtful'
			AND NOT EXISTS (SELECT 1 FROM dispatchers x WHERE x.fence = deliveries.fence AND x.lease > $1))`,
		now.UnixMilli(), subscriber)
	if err != nil {
		return 0, fmt.Errorf("skip deliveries of the erased: %w", err)
	}
	if skipped, err = result.RowsAffected(); err != nil {
		return 0, fmt.Errorf("skip deliveries of the erased: %w", err)
	}
	_, err = tx.ExecContext(ctx, `
		UPDATE deliveries SET reply = ''
		WHERE digest IN (SELECT id FROM digests) AND subscriber = $1 AND state <> 'skipped' AND reply <> ''`, subscriber)
	if err != nil {
		return 0, fmt.Errorf("delete what servers said about the erased: %w", err)
	}
	return skipped, nil
}

// DeliveriesTo lists a reader's deliveries, the oldest first.
func (n *Newsroom) DeliveriesTo(ctx context.Context, subscriber int64) ([]subscribers.Delivered, error) {
	list, err := all(ctx, n.db.Read, func(scan func(...any) error) (d subscribers.Delivered, err error) {
		var settled sql.NullInt64
		err = scan(&d.Newsletter, &d.Day, &d.State, &settled, &d.Code, &d.Reply)
		if settled.Valid {
			d.Settled = instant(settled).UTC()
		}
		return d, err
	}, `SELECT g.newsletter, g.day, d.state, d.settled, d.code, d.reply
		FROM digests g JOIN deliveries d ON d.digest = g.id AND d.subscriber = $1 ORDER BY g.planned, g.newsletter`, subscriber)
	if err != nil {
		return nil, fmt.Errorf("list a reader's deliveries: %w", err)
	}
	return list, nil
}
