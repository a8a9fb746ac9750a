package subscribers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Flood is a time in which letters are queued and none is claimed: more sign-ups came in a minute than the configuration
// allows, or an editor said so.
type Flood struct {
	Began    time.Time `json:"began"`
	ByEditor bool      `json:"by_editor"`
	Peak     int       `json:"peak"` // sign-ups in its worst minute
}

const (
	calm      = 10 * time.Minute // without a minute above the limit, and a flood is over
	liftedFor = time.Hour        // after an editor has lifted one, and none begins
)

func minuteOf(t time.Time) int64 { return t.Unix() / 60 }

// gauge counts sign-ups by the minute, those of all processes together, and opens a flood where there are too many.
func (r *Registry) gauge(ctx context.Context, tx *sql.Tx, slips []slip) error {
	latest := map[int64]time.Time{}
	counts := map[int64]int{}
	for _, s := range slips {
		minute := minuteOf(s.at)
		counts[minute]++
		if s.at.After(latest[minute]) {
			latest[minute] = s.at
		}
	}
	minutes := make([]int64, 0, len(counts))
	for minute := range counts {
		minutes = append(minutes, minute)
	}
	slices.Sort(minutes) // whoever else counts locks them in the same order
	for _, minute := range minutes {
		var count int
		err := tx.QueryRowContext(ctx, `
			INSERT INTO arrivals (minute, count) VALUES ($1, $2)
			ON CONFLICT (minute) DO UPDATE SET count = arrivals.count + excluded.count RETURNING count`,
			minute, counts[minute]).Scan(&count)
		if err != nil {
			return fmt.Errorf("count sign-ups: %w", err)
		}
		if count > r.settings.Flood {
			if err := raise(ctx, tx, latest[minute], count); err != nil {
				return err
			}
		}
	}
	return nil
}

// raise keeps the worst minute of the flood at hand, or opens one, unless an editor has just lifted one.
func raise(ctx context.Context, tx *sql.Tx, now time.Time, count int) error {
	result, err := tx.ExecContext(ctx, `
		UPDATE floods SET peak = CASE WHEN peak < $1 THEN $1 ELSE peak END WHERE ended IS NULL`, count)
	if err != nil {
		return fmt.Errorf("measure flood: %w", err)
	}
	if open, err := result.RowsAffected(); err != nil || open > 0 {
		return err
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO floods (began, cause, peak)
		SELECT CAST($1 AS BIGINT), 'arrivals', CAST($2 AS BIGINT)
		WHERE NOT EXISTS (SELECT 1 FROM floods WHERE lifted > $3) ON CONFLICT DO NOTHING`,
		now.UnixMilli(), count, now.Add(-liftedFor).UnixMilli())
	if err != nil {
		return fmt.Errorf("open flood: %w", err)
	}
	return nil
}

// Flood is the flood at hand, nil for none.
func (r *Registry) Flood(ctx context.Context) (*Flood, error) {
	var began int64
	var cause string
	f := &Flood{}
	err := r.db.Read.QueryRowContext(ctx, `SELECT began, cause, peak FROM floods WHERE ended IS NULL ORDER BY began LIMIT 1`).
		Scan(&began, &cause, &f.Peak)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read flood: %w", err)
	}
	f.Began, f.ByEditor = instant(began), cause == "editor"
	return f, nil
}

// WatchFlood ends a flood that is over: ten minutes have passed without one above the limit. It gives a flood that nobody
// was told of yet, once among all processes, and whether one has ended just now.
func (r *Registry) WatchFlood(ctx context.Context, now time.Time) (begun *Flood, ended bool, err error) {
	f, err := r.Flood(ctx)
	if err != nil || f == nil {
		return nil, false, err
	}
	told, err := r.changed(ctx, `UPDATE floods SET told = $1 WHERE told IS NULL AND ended IS NULL AND cause = 'arrivals'`, now.UnixMilli())
	if err != nil {
		return nil, false, err
	}
	if told {
		return f, false, nil
	}
	ended, err = r.changed(ctx, `
		UPDATE floods SET ended = $1 WHERE ended IS NULL AND cause = 'arrivals' AND began <= $2
			AND NOT EXISTS (SELECT 1 FROM arrivals WHERE minute >= $3 AND count > $4)`,
		now.UnixMilli(), now.Add(-calm).UnixMilli(), minuteOf(now.Add(-calm)), r.settings.Flood)
	if ended {
		r.signal()
	}
	return nil, ended, err
}

// HoldLetters stops all letters until ReleaseLetters, as an editor does. It says whether they were not stopped before.
func (r *Registry) HoldLetters(ctx context.Context, now time.Time) (bool, error) {
	stopped := false
	err := r.db.Retry(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `UPDATE floods SET cause = 'editor' WHERE ended IS NULL`)
		if err != nil {
			return fmt.Errorf("hold letters: %w", err)
		}
		n, err := result.RowsAffected()
		if err != nil || n > 0 {
			return err
		}
		stopped = true
		_, err = tx.ExecContext(ctx, `INSERT INTO floods (began, cause, peak) VALUES ($1, 'editor', 0)`, now.UnixMilli())
		if err != nil {
			return fmt.Errorf("hold letters: %w", err)
		}
		return nil
	})
	return stopped, err
}

// ReleaseLetters lets letters leave again, and no flood begin for an hour. It says whether they were stopped.
func (r *Registry) ReleaseLetters(ctx context.Context, now time.Time) (bool, error) {
	return r.changed(ctx, `UPDATE floods SET ended = $1, lifted = $1 WHERE ended IS NULL`, now.UnixMilli())
}

// changed runs a statement and says whether it found a row.
func (r *Registry) changed(ctx context.Context, statement string, args ...any) (bool, error) {
	result, err := r.db.Write.ExecContext(ctx, statement, args...)
	if err != nil {
		return false, fmt.Errorf("change flood: %w", err)
	}
	n, err := result.RowsAffected()
	return n > 0, err
}
