package subscribers

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

const (
	day           = 24 * time.Hour
	postmarkAge   = 14 * day // over which letters are counted
	maxPostmarks  = 3        // to one address in that time: all kinds, all newsletters, all doors
	postmarksKept = postmarkAge + day
)

// limited is the kind that counts for the limit of a day: a change of address is a confirmation, too.
func (k LetterKind) limited() LetterKind {
	if k == ChangeLetter {
		return ConfirmLetter
	}
	return k
}

// postmark allows one letter to one person, not before an instant. Only allow makes one, and queue wants one: no door can
// forget the limits.
type postmark struct {
	person string
	kind   LetterKind
	due    time.Time
}

// allow says when a letter of that kind may be mailed to a person: now, or when a day has passed since the last one of its
// kind. It is false where three letters have gone to that address, or will have, within a fortnight.
func allow(ctx context.Context, tx *sql.Tx, now time.Time, person string, kind LetterKind) (postmark, bool, error) {
	marks, err := readPostmarks(ctx, tx, now, person)
	if err != nil {
		return postmark{}, false, err
	}
	due := now
	for _, m := range marks {
		if next := m.due.Add(day); m.kind.limited() == kind.limited() && next.After(due) {
			due = next
		}
	}
	count := 0
	for _, m := range marks {
		if m.due.After(due.Add(-postmarkAge)) {
			count++
		}
	}
	return postmark{person, kind, due}, count < maxPostmarks, nil
}

func readPostmarks(ctx context.Context, tx *sql.Tx, now time.Time, person string) ([]postmark, error) {
	rows, err := tx.QueryContext(ctx, `SELECT kind, at FROM postmarks WHERE person = $1 AND at > $2`,
		person, now.Add(-postmarkAge).UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("read postmarks: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var marks []postmark
	for rows.Next() {
		m := postmark{person: person}
		var at int64
		if err := rows.Scan(&m.kind, &at); err != nil {
			return nil, fmt.Errorf("read postmarks: %w", err)
		}
		m.due = instant(at)
		marks = append(marks, m)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read postmarks: %w", err)
	}
	return marks, nil
}

// press writes the mark of a letter that is queued.
func (m postmark) press(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO postmarks (person, kind, at) VALUES ($1, $2, $3)`,
		m.person, string(m.kind), m.due.UnixMilli())
	if err != nil {
		return fmt.Errorf("keep postmark: %w", err)
	}
	return nil
}

// forgetCounts deletes what no limit counts any more.
func (r *Registry) forgetCounts(ctx context.Context, now time.Time) error {
	_, err := r.db.Write.ExecContext(ctx, `DELETE FROM postmarks WHERE at < $1`, now.Add(-postmarksKept).UnixMilli())
	if err != nil {
		return fmt.Errorf("forget postmarks: %w", err)
	}
	_, err = r.db.Write.ExecContext(ctx, `DELETE FROM arrivals WHERE minute < $1`, minuteOf(now.Add(-day)))
	if err != nil {
		return fmt.Errorf("forget arrivals: %w", err)
	}
	return nil
}
