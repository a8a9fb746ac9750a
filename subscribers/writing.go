package subscribers

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"depesche/migrations"
)

// writing is what a transaction has decided and has still to write, for one reader or for many: each table is written in one
// statement, so that many sign-ups cost a database as many messages as one.
type writing struct {
	events, bodies, places, marks, letters *table

	moves map[int64]int // letters about a change of address, by who asked for it
}

var (
	awaitedTable = shape{"INSERT INTO subscriptions (subscriber, newsletter, choice, state, requested) ", "ntntn", `
		ON CONFLICT (subscriber, newsletter) DO UPDATE
		SET choice = excluded.choice, state = 'pending', requested = excluded.requested`}
	marksTable   = shape{"INSERT INTO postmarks (person, kind, at) ", "ttn", ""}
	lettersTable = shape{
		"INSERT INTO letters (id, subscriber, newsletter, kind, choice, nonce, created, expires, state, due, moves) ", "nnttnnnntnn", "",
	}
	enlistedTable = shape{"INSERT INTO subscribers (id, address, person, language, nonce, created) ", "ntttnn", `
		ON CONFLICT (person, (CASE WHEN erased IS NULL THEN 0 ELSE id END)) DO UPDATE SET nonce = subscribers.nonce
		RETURNING id, address, language, person, nonce`}
)

func newWriting() *writing {
	return &writing{
		events: &table{shape: eventsTable}, bodies: &table{shape: bodiesTable}, places: &table{shape: awaitedTable},
		marks: &table{shape: marksTable}, letters: &table{shape: lettersTable},
		moves: map[int64]int{},
	}
}

func (w *writing) flush(ctx context.Context, tx *sql.Tx, kind migrations.Kind) error {
	for _, t := range []*table{w.events, w.bodies, w.places, w.marks, w.letters} {
		if err := t.flush(ctx, tx, kind); err != nil {
			return err
		}
	}
	return nil
}

// record writes an event and its particulars and gives its id.
func (w *writing) record(now time.Time, who subscriber, e event) (id int64, err error) {
	kept, err := e.keep()
	if err != nil {
		return 0, fmt.Errorf("record consent: %w", err)
	}
	id = migrations.NewKey(now)
	w.events.add(id, who.id, e.newsletter, string(e.kind), now.UnixMilli(), orNull(e.wording), who.person, kept.hash)
	w.bodies.add(id, kept.salt, kept.body, orNull(kept.ipSalt), orNull(kept.ip))
	return id, nil
}

// await makes the subscription pending. What it was before, if it ended, stays readable in ended.
func (w *writing) await(now time.Time, who subscriber, newsletter string, choice int64) {
	w.places.add(who.id, newsletter, choice, string(Pending), now.UnixMilli())
}

// queue puts the letter into the queue that a postmark allows.
func (w *writing) queue(now time.Time, who subscriber, mark postmark, m message) {
	if m.moves != 0 {
		w.moves[m.moves]++
	}
	w.marks.add(mark.person, string(mark.kind), mark.due.UnixMilli())
	w.letters.add(migrations.NewKey(now), who.id, m.newsletter, string(mark.kind), m.choice, newNonce(),
		now.UnixMilli(), m.expires.UnixMilli(), string(LetterDue), mark.due.UnixMilli(), orNull(m.moves))
}

// guest is who may be a reader, or become one.
type guest struct {
	Address
	person   string
	language string
	at       time.Time
}

// enlist gives the subscribers of persons, each once and in their order, new ones if need be, and locks their rows: whatever else
// happens to these readers waits for our commit.
func (r *Registry) enlist(ctx context.Context, tx *sql.Tx, guests ...guest) ([]subscriber, error) {
	t := &table{shape: enlistedTable}
	at, fresh := map[string]int{}, map[int64]bool{}
	for i, g := range guests {
		id := migrations.NewKey(g.at)
		fresh[id] = true
		at[g.person] = i
		t.add(id, g.Mailed, g.person, g.language, newNonce(), g.at.UnixMilli())
	}
	rows, err := t.query(ctx, tx, r.db.Kind)
	if err != nil {
		return nil, fmt.Errorf("enlist subscribers: %w", err)
	}
	defer func() { _ = rows.Close() }()
	all := make([]subscriber, len(guests))
	for rows.Next() {
		var s subscriber
		if err := rows.Scan(&s.id, &s.address, &s.language, &s.person, &s.nonce); err != nil {
			return nil, fmt.Errorf("enlist subscribers: %w", err)
		}
		s.fresh = fresh[s.id]
		all[at[s.person]] = s
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("enlist subscribers: %w", err)
	}
	if slices.ContainsFunc(all, func(s subscriber) bool { return s.id == 0 }) {
		return nil, fmt.Errorf("enlist subscribers: not all of %d were given back", len(all))
	}
	return all, nil
}
