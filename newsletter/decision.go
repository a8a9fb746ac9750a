package newsletter

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Decision is what a person says of a doubtful delivery.
type Decision string

// The decisions.
const (
	WasSent   Decision = "sent"  // the mail arrived, as the server's log says: it counts as sent
	SendAgain Decision = "again" // it did not: the next run sends it
)

// ErrNotDoubtful means that there was nothing to decide: no such delivery is doubtful, or a dispatcher at work has it in hand.
var ErrNotDoubtful = errors.New("no doubtful delivery")

// Resolve settles doubtful deliveries of a digest as a person decided, all of them or one subscriber's (0: all), and keeps who
// decided. What a dispatcher at work has in hand is not doubtful yet. It says how many were settled.
func (n *Newsroom) Resolve(ctx context.Context, now time.Time, d Digest, subscriber int64, decision Decision, person string) (int, error) {
	if err := n.buryIfIdle(ctx, now); err != nil {
		return 0, err
	}
	settled := 0
	err := n.db.Tx(ctx, func(tx *sql.Tx) error {
		ids, err := all(ctx, tx, func(scan func(...any) error) (id int64, err error) { return id, scan(&id) }, `
			SELECT subscriber FROM deliveries
			WHERE digest = $1 AND state = 'doubtful' AND (CAST($2 AS BIGINT) = 0 OR subscriber = $2)
				AND fence NOT IN (SELECT x.fence FROM dispatchers x WHERE x.lease > $3)
			ORDER BY subscriber`, d.ID, subscriber, now.UnixMilli())
		if err != nil {
			return fmt.Errorf("find doubtful deliveries: %w", err)
		}
		for _, id := range ids {
			if err := decide(ctx, tx, now, d, id, decision, person); err != nil {
				return err
			}
		}
		if settled = len(ids); settled == 0 || decision != SendAgain {
			return nil
		}
		if _, err := tx.ExecContext(ctx, `UPDATE digests SET state = 'ready' WHERE id = $1 AND state = 'done'`, d.ID); err != nil {
			return fmt.Errorf("open the digest again: %w", err)
		}
		return nil
	})
	if err == nil && settled == 0 {
		err = ErrNotDoubtful
	}
	return settled, err
}

// decide settles one. The fence stays behind: a dispatcher that comes back from the dead finds the delivery gone.
func decide(ctx context.Context, tx *sql.Tx, now time.Time, d Digest, subscriber int64, decision Decision, person string) error {
	state, due, revision := Sent, sql.NullInt64{}, "revision"
	if decision == SendAgain {
		state, due, revision = Due, stored(now), "0"
	}
	_, err := tx.ExecContext(ctx, `
		UPDATE deliveries SET state = $1, due = $2, settled = $3, fence = 0, revision = `+revision+`
		WHERE digest = $4 AND subscriber = $5 AND state = 'doubtful'`, string(state), due, now.UnixMilli(), d.ID, subscriber)
	if err != nil {
		return fmt.Errorf("settle a doubtful delivery: %w", err)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO decisions (digest, subscriber, at, decision, person) VALUES ($1, $2, $3, $4, $5)`,
		d.ID, subscriber, now.UnixMilli(), string(decision), person)
	if err != nil {
		return fmt.Errorf("keep who decided: %w", err)
	}
	return nil
}

// Decided counts what was decided about a digest, by whom.
type Decided struct {
	Decision Decision  `json:"decision"`
	Person   string    `json:"person"`
	Count    int       `json:"count"`
	Last     time.Time `json:"last"`
}

// Decisions lists who decided about doubtful deliveries of a digest.
func (n *Newsroom) Decisions(ctx context.Context, d Digest) ([]Decided, error) {
	list, err := all(ctx, n.db.Read, func(scan func(...any) error) (x Decided, err error) {
		var last int64
		err = scan(&x.Decision, &x.Person, &x.Count, &last)
		x.Last = time.UnixMilli(last)
		return x, err
	}, `SELECT decision, person, COUNT(*), MAX(at) FROM decisions WHERE digest = $1 GROUP BY decision, person ORDER BY decision, person`, d.ID)
	if err != nil {
		return nil, fmt.Errorf("list decisions: %w", err)
	}
	return list, nil
}
