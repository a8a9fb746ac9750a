package subscribers

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"depesche/migrations"
)

// booking is what one transaction of an import writes: the rows of a batch meet the readers who are there, each is decided
// about, and what follows goes into each table in a few statements.
type booking struct {
	r       *Registry
	now     time.Time
	began   int64 // when the file was first imported
	choices map[[2]string]int64
	count   Admission

	known    map[string]*known
	next     int64 // the next of the keys set aside
	refusals []*known
	ends     []ending

	readers, events, bodies, places, proofs *table
}

// known is what we know of a person in the list.
type known struct {
	person string
	id     int64             // of the subscriber, 0 without
	reason SuppressionReason // "" if none
	since  int64
	places []place
	gone   []string // newsletters they withdrew from, by the consents
}

// place is a subscription.
type place struct {
	newsletter string
	state      State
	confirmed  int64 // when its reader pressed the button here; 0: never
}

// ending is a subscription that the list says has ended.
type ending struct {
	subscriber int64
	newsletter string
}

var (
	readersTable = shape{"INSERT INTO subscribers (id, address, mailbox, person, language, nonce, created) ", "nttttnn", ""}
	eventsTable  = shape{"INSERT INTO consents (id, subscriber, newsletter, kind, at, wording, person, particulars) ", "nnttnttt", ""}
	bodiesTable  = shape{"INSERT INTO particulars (consent, salt, body, ip_salt, ip) ", "ntttt", ""}
	placesTable  = shape{"INSERT INTO subscriptions (subscriber, newsletter, choice, state, requested, signed_up, consent, ended) ", "ntntnnnn", ""}
	proofsTable  = shape{
		"UPDATE subscriptions SET state = 'active', choice = v.column3, signed_up = v.column4, consent = v.column5 FROM (", "ntnnn",
		") AS v WHERE subscriptions.subscriber = v.column1 AND subscriptions.newsletter = v.column2 AND subscriptions.state = 'unproven'",
	}
	// A reason gives way to a graver one only.
	refusalsTable = shape{"INSERT INTO suppressions (person, reason, at, detail) ", "ttnt", `
		ON CONFLICT (person) DO UPDATE SET reason = excluded.reason, at = excluded.at, detail = excluded.detail`}
)

func (b *booking) write(ctx context.Context, tx *sql.Tx, rows []candidate) error {
	b.known = make(map[string]*known, len(rows))
	b.next = migrations.NewKeys(b.now, 2*len(rows)+1)
	b.readers, b.events, b.bodies = &table{shape: readersTable}, &table{shape: eventsTable}, &table{shape: bodiesTable}
	b.places, b.proofs = &table{shape: placesTable}, &table{shape: proofsTable}
	// One import at a time: two that bring the same persons in another order would wait for each other. Nobody else locks this row.
	if _, err := tx.ExecContext(ctx, `UPDATE house SET value = value WHERE key = 'oldest_binary'`); err != nil {
		return fmt.Errorf("wait for another import: %w", err)
	}
	if err := b.r.db.ByIndex(ctx, tx); err != nil {
		return err
	}
	if err := b.lookUp(ctx, tx, rows); err != nil {
		return err
	}
	for i := range rows {
		b.decide(&rows[i])
	}
	return b.flush(ctx, tx)
}

// lookUp finds those of a batch who are known, by their hash: those, too, whose address was erased.
func (b *booking) lookUp(ctx context.Context, tx *sql.Tx, rows []candidate) error {
	persons := make([]string, len(rows))
	for i := range rows {
		persons[i] = rows[i].person
	}
	for part := range slices.Chunk(persons, 500) {
		if err := b.lookUpPart(ctx, tx, part); err != nil {
			return fmt.Errorf("look up readers: %w", err)
		}
	}
	return nil
}

func (b *booking) lookUpPart(ctx context.Context, tx *sql.Tx, persons []string) error {
	among, args := b.r.among(persons)
	var person, newsletter, kind string
	var reason SuppressionReason
	var state State
	var id, at int64
	err := scanEach(ctx, tx, `SELECT person, reason, at FROM suppressions WHERE person `+among, args, func() {
		k := b.of(person)
		k.reason, k.since = reason, at
	}, &person, &reason, &at)
	if err != nil {
		return err
	}
	var found []string
	err = scanEach(ctx, tx, `
		SELECT s.person, CASE WHEN s.mailbox IS NULL THEN 0 ELSE s.id END, COALESCE(p.newsletter, ''), COALESCE(p.state, ''),
			COALESCE(c.kind, ''), COALESCE(c.at, 0)
		FROM subscribers s
		LEFT JOIN subscriptions p ON p.subscriber = s.id
		LEFT JOIN consents c ON c.id = p.consent
		WHERE s.person `+among, args, func() {
		k := b.of(person)
		k.id = max(k.id, id)
		switch {
		case id == 0 && state == Ended: // of a row that was erased
			k.gone = append(k.gone, newsletter)
		case id != 0 && state != "":
			if kind != string(Confirmed) {
				at = 0
			}
			k.places = append(k.places, place{newsletter, state, at})
		}
		found = append(found, person)
	}, &person, &id, &newsletter, &state, &kind, &at)
	if err != nil || len(found) == 0 {
		return err
	}
	among, args = b.r.among(found)
	return scanEach(ctx, tx, `
		SELECT DISTINCT s.person, c.newsletter FROM subscribers s JOIN consents c ON c.subscriber = s.id
		WHERE c.kind = 'withdrawn' AND s.person `+among, args, func() {
		k := b.of(person)
		k.gone = append(k.gone, newsletter)
	}, &person, &newsletter)
}

func (b *booking) of(person string) *known {
	k := b.known[person]
	if k == nil {
		k = &known{person: person}
		b.known[person] = k
	}
	return k
}

// decide says what becomes of a row. Nobody is brought back: who is suppressed or has left stays so, whatever the list says.
func (b *booking) decide(c *candidate) {
	k := b.of(c.person)
	if reason := c.standing.suppression(); reason != "" {
		b.suppress(k, reason, c.since)
		return
	}
	at := slices.IndexFunc(k.places, func(p place) bool { return p.newsletter == c.newsletter })
	switch {
	case c.standing == waiting:
		b.count.Waiting++
	case c.standing == ended && at >= 0:
		b.end(k, &k.places[at], c.since)
	case k.reason != "":
		b.count.KeptOut++
	case at < 0 && slices.Contains(k.gone, c.newsletter):
		if c.standing == ended {
			b.count.Unchanged++
			return
		}
		b.count.KeptOut++
	case at < 0:
		b.admit(k, c)
	case k.places[at].state == Ended:
		b.count.KeptOut++
	case k.places[at].state == Unproven && c.proven && c.standing == subscribed:
		k.places[at].state = Active
		b.count.Proven++
		b.proofs.add(k.id, c.newsletter, b.choices[[2]string{c.newsletter, c.topics}], c.signedUp, b.record(k, c, Imported))
	default:
		b.count.Unchanged++
	}
}

// heldBy says whether the reader pressed the button here after they had left there: that is the newer word.
func (b *booking) heldBy(p place, since int64) bool {
	if since == 0 {
		since = b.began
	}
	return p.state == Active && p.confirmed > since
}

var gravity = []SuppressionReason{"", Bounced, Left, Complained, Objected}

func (b *booking) suppress(k *known, reason SuppressionReason, since int64) {
	held := slices.ContainsFunc(k.places, func(p place) bool { return b.heldBy(p, since) })
	if held || slices.Index(gravity, k.reason) >= slices.Index(gravity, reason) {
		b.count.Unchanged++
		return
	}
	if !slices.Contains(b.refusals, k) {
		b.refusals = append(b.refusals, k)
	}
	k.reason, k.since = reason, since
	if since == 0 {
		k.since = b.began
	}
	b.count.Suppressed++
}

func (b *booking) end(k *known, p *place, since int64) {
	if p.state == Ended || b.heldBy(*p, since) {
		b.count.Unchanged++
		return
	}
	p.state = Ended
	b.ends = append(b.ends, ending{k.id, p.newsletter})
	b.count.Ended++
}

func (b *booking) key() int64 {
	b.next++
	return b.next - 1
}

// admit brings a new subscription in, and the reader if they are new, too.
func (b *booking) admit(k *known, c *candidate) {
	if k.id == 0 {
		k.id = b.key()
		b.readers.add(k.id, c.address.Mailed, c.address.Mailbox, c.person, c.language, newNonce(), b.now.UnixMilli())
	}
	state, kind, end := Unproven, Imported, sql.NullInt64{}
	switch {
	case c.standing == ended:
		state, end = Ended, sql.NullInt64{Int64: c.since, Valid: true}
		if c.since == 0 {
			end.Int64 = b.began
		}
		if !c.proven {
			kind = Withdrawn // all there is to remember of them
		}
		b.count.Ended++
	case c.standing == subscribed && c.proven:
		state = Active
		b.count.Active++
	default:
		b.count.Unproven++
	}
	k.places = append(k.places, place{newsletter: c.newsletter, state: state})
	event := b.record(k, c, kind)
	requested, consent := c.signedUp, sql.NullInt64{Int64: event, Valid: c.proven}
	signedUp := sql.NullInt64{Int64: c.signedUp, Valid: c.proven}
	if requested == 0 {
		requested = b.now.UnixMilli()
	}
	b.places.add(k.id, c.newsletter, b.choices[[2]string{c.newsletter, c.topics}], string(state), requested, signedUp, consent, end)
}

// record is Registry.record for many.
func (b *booking) record(k *known, c *candidate, kind EventKind) int64 {
	id := b.key()
	b.events.add(id, k.id, c.newsletter, string(kind), b.now.UnixMilli(), nullText(c.wording), c.person, c.hash)
	b.bodies.add(id, c.salt, c.body, nullText(c.ipSalt), nullText(c.ip))
	return id
}

func (b *booking) flush(ctx context.Context, tx *sql.Tx) error {
	refusals := &table{shape: refusalsTable}
	for _, k := range b.refusals {
		refusals.add(k.person, string(k.reason), k.since, "import")
	}
	for _, t := range []*table{b.readers, b.events, b.bodies, b.places, b.proofs, refusals} {
		if err := t.flush(ctx, tx, b.r.db.Kind); err != nil {
			return err
		}
	}
	for _, e := range b.ends { // few: a list is told of who left, and most of them are strangers
		who, err := lock(ctx, tx, e.subscriber)
		if err != nil {
			return err
		}
		if err := b.r.withdraw(ctx, tx, b.now, who, e.newsletter, "", ByList, Visit{}); err != nil {
			return err
		}
	}
	return nil
}
