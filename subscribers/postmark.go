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

// allow says when a letter of that kind may be mailed to a person with these marks: now, or when a day has passed since the last one
// of its kind. It is false where three letters have gone to that address, or will have, within a fortnight.
func allow(marks []postmark, now time.Time, person string, kind LetterKind) (postmark, bool) {
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
	return postmark{person, kind, due}, count < maxPostmarks
}

// readRepute reads what is known of persons: who must not be mailed, and what was. The earliest now of all counts.
func (r *Registry) readRepute(ctx context.Context, tx *sql.Tx, now time.Time, persons ...string) (map[string]repute, error) {
	known := make(map[string]repute, len(persons))
	among, args := r.among(persons)
	var person string
	var reason SuppressionReason
	var kind LetterKind
	var at int64
	err := scanEach(ctx, tx, `SELECT person, reason, at FROM suppressions WHERE person `+among, args, func() {
		s := known[person]
		s.reason, s.since = reason, at
		known[person] = s
	}, &person, &reason, &at)
	if err != nil {
		return nil, fmt.Errorf("read suppressions: %w", err)
	}
	since := fmt.Sprintf("$%d", len(args)+1)
	err = scanEach(ctx, tx, `SELECT person, kind, at FROM postmarks WHERE person `+among+` AND at > `+since,
		append(args, now.Add(-postmarkAge).UnixMilli()), func() {
			s := known[person]
			s.marks = append(s.marks, postmark{person, kind, instant(at)})
			known[person] = s
		}, &person, &kind, &at)
	if err != nil {
		return nil, fmt.Errorf("read postmarks: %w", err)
	}
	return known, nil
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
