package subscribers

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"depesche/migrations"
)

// books are where an import writes.
type books struct {
	r     *Registry
	began int64    // when the file was first imported
	ruled []*ruled // for each part of a batch that is written at once
}

// newBooks writes four parts at once to PostgreSQL, to which each is a process that works; SQLite has one writer.
func newBooks(r *Registry, began int64) *books {
	b := &books{r, began, []*ruled{newRuled()}}
	for r.db.Kind == migrations.PostgreSQL && len(b.ruled) < 4 {
		b.ruled = append(b.ruled, newRuled())
	}
	return b
}

// book writes rows that are sorted by person, each part in a transaction of its own: no person is in two of them.
func (b *books) book(ctx context.Context, now time.Time, rows []candidate, choices map[[2]string]int64) (sum Admission, err error) {
	var all sync.WaitGroup
	counts, errs := make([]Admission, len(b.ruled)), make([]error, len(b.ruled))
	for i, ruled := range b.ruled {
		var part []candidate
		part, rows = cutOff(rows, len(rows)/(len(b.ruled)-i))
		all.Go(func() {
			booking := booking{r: b.r, now: now, began: b.began, choices: choices, ruled: ruled}
			counts[i], errs[i] = booking.book(ctx, part)
		})
	}
	all.Wait()
	for _, count := range counts {
		sum.add(count)
	}
	return sum, errors.Join(errs...)
}

// cutOff takes n rows or a few more, for one person stays together.
func cutOff(rows []candidate, n int) (part, rest []candidate) {
	for 0 < n && n < len(rows) && rows[n].person == rows[n-1].person {
		n++
	}
	return rows[:n], rows[n:]
}

// booking is what one transaction of an import writes: the rows of a batch meet the readers who are there, each is decided
// about, and what follows goes into each table in a few statements.
type booking struct {
	r       *Registry
	now     time.Time
	began   int64 // when the file was first imported
	choices map[[2]string]int64
	count   Admission

	known   map[string]*known
	next    int64 // the next of the keys set aside
	refused []*known
	ends    []ending

	*ruled
}

// ruled are the tables of a booking. They are empty between bookings, and keep their room: a batch takes megabytes.
type ruled struct{ readers, events, bodies, places, proofs, refusals table }

// tables are in the order in which they are written.
func (r *ruled) tables() []*table {
	return []*table{&r.readers, &r.events, &r.bodies, &r.places, &r.proofs, &r.refusals}
}

func newRuled() *ruled {
	return &ruled{
		table{shape: readersTable},
		table{shape: eventsTable},
		table{shape: bodiesTable},
		table{shape: placesTable},
		table{shape: proofsTable},
		table{shape: refusalsTable},
	}
}

// known is what we know of a person in the list.
type known struct {
	person string
	id     int64             // of the subscriber, 0 without
	reason SuppressionReason // "" if none
	since  int64
	places []place
	gone   []string // newsletters they withdrew from, by the consents

	refused bool // reason is of this list
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
	readersTable = shape{"INSERT INTO subscribers (id, address, person, language, nonce, created) ", "ntttnn", ""}
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

// book writes rows in one transaction. Where somebody signs up while we write the same reader, or another list brings them, half of the
// rows is tried again, and so on: the next time that reader is found, and fewer of them come at once.
func (b booking) book(ctx context.Context, rows []candidate) (Admission, error) {
	if len(rows) == 0 {
		return Admission{}, nil
	}
	for tries := 0; ; tries++ {
		attempt := b
		err := b.r.db.Tx(ctx, func(tx *sql.Tx) error { return attempt.write(ctx, tx, rows) })
		again := migrations.IsConflict(err) || migrations.IsDeadlock(err)
		switch {
		case err == nil:
			return attempt.count, nil
		case !again || tries == 5:
			return Admission{}, err
		case len(rows) > 1:
			first, err := b.book(ctx, rows[:len(rows)/2])
			if err != nil {
				return first, err
			}
			second, err := b.book(ctx, rows[len(rows)/2:])
			second.add(first)
			return second, err
		}
	}
}

func (b *booking) write(ctx context.Context, tx *sql.Tx, rows []candidate) error {
	b.known = make(map[string]*known, len(rows))
	b.next = migrations.NewKeys(b.now, 2*len(rows)+1)
	for _, t := range b.tables() {
		t.values = t.values[:0] // of a transaction that failed
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
	most := 500
	if b.r.db.Kind == migrations.PostgreSQL {
		most = len(persons) // they are one parameter
	}
	for part := range slices.Chunk(persons, most) {
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
		SELECT s.person, CASE WHEN s.address IS NULL THEN 0 ELSE s.id END, COALESCE(p.newsletter, ''), COALESCE(p.state, ''),
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
	if !k.refused {
		k.refused = true
		b.refused = append(b.refused, k)
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
		b.readers.add(k.id, c.address.Mailed, c.person, c.language, newNonce(), b.now.UnixMilli())
	}
	state, kind, end := Unproven, Imported, int64(0)
	switch {
	case c.standing == ended:
		state, end = Ended, cmp.Or(c.since, b.began)
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
	var signedUp, consent any
	if c.proven {
		signedUp, consent = c.signedUp, event
	}
	b.places.add(k.id, c.newsletter, b.choices[[2]string{c.newsletter, c.topics}], string(state),
		cmp.Or(c.signedUp, b.now.UnixMilli()), signedUp, consent, orNull(end))
}

// record is Registry.record for many. The id is one for a table.
func (b *booking) record(k *known, c *candidate, kind EventKind) (id any) {
	id = b.key()
	b.events.add(id, k.id, c.newsletter, string(kind), b.now.UnixMilli(), orNull(c.wording), c.person, c.hash)
	b.bodies.add(id, c.salt, c.body, orNull(c.ipSalt), orNull(c.ip))
	return id
}

func (b *booking) flush(ctx context.Context, tx *sql.Tx) error {
	for _, k := range b.refused {
		b.refusals.add(k.person, string(k.reason), k.since, "import")
	}
	for _, t := range b.tables() {
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
