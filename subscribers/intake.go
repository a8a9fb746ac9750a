package subscribers

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"depesche/migrations"
)

// A sign-up is dealt with in two steps. The door keeps it as a slip, whatever is known about the address: what it does and
// how long it takes says nothing about anybody. Admit decides about it after the answer.

// slip is a sign-up as it was dropped into the box.
type slip struct {
	id          int64
	at          time.Time
	address     Address
	person      string // once it is decided about
	newsletter  string
	choice      int64
	wording     string
	particulars Particulars
	moves       int64 // of a change of address: the subscriber whose place its reader takes; 0 for nobody

	kept chan error
}

// intake writes the slips of all who wait in one transaction: one fsync for as many as came during the last one.
type intake struct {
	mutex   sync.Mutex
	waiting []*slip
	writing bool
}

const (
	keptAtOnce     = 256 // slips that one transaction keeps
	admittedAtOnce = 32  // slips that one transaction decides about: who wants to keep some must not wait for long
)

// receive gives back when the slip is on the disk, or with the error for which it is not.
func (r *Registry) receive(ctx context.Context, s *slip) error {
	s.kept = make(chan error, 1)
	r.intake.mutex.Lock()
	r.intake.waiting = append(r.intake.waiting, s)
	idle := !r.intake.writing
	r.intake.writing = true
	r.intake.mutex.Unlock()
	if idle {
		go r.keepSlips(context.WithoutCancel(ctx)) // others' slips are among them: it does not end with this request
	}
	select {
	case err := <-s.kept:
		return err
	case <-ctx.Done():
		return fmt.Errorf("keep sign-up: %w", ctx.Err())
	}
}

// keepSlips writes what waits until nothing does.
func (r *Registry) keepSlips(ctx context.Context) {
	for {
		batch := r.intake.take()
		if len(batch) == 0 {
			return
		}
		err := r.insertSlips(ctx, batch...)
		for _, s := range batch {
			if err != nil && len(batch) > 1 { // whose fault it was must be nobody else's
				s.kept <- r.insertSlips(ctx, s)
				continue
			}
			s.kept <- err
		}
		select {
		case r.arrivals <- struct{}{}:
		default: // somebody will look anyway
		}
	}
}

func (i *intake) take() []*slip {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	n := min(len(i.waiting), keptAtOnce)
	batch := slices.Clone(i.waiting[:n])
	i.waiting = slices.Delete(i.waiting, 0, n)
	i.writing = n > 0
	return batch
}

func (r *Registry) insertSlips(ctx context.Context, batch ...*slip) error {
	return r.tx(ctx, func(tx *sql.Tx) error {
		for _, s := range batch {
			body, err := json.Marshal(s.particulars)
			if err != nil {
				return fmt.Errorf("keep sign-up: %w", err)
			}
			_, err = tx.ExecContext(ctx, `
				INSERT INTO slips (id, at, address, newsletter, choice, wording, particulars, moves) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
				migrations.NewKey(s.at), s.at.UnixMilli(), s.address.Mailed, s.newsletter, s.choice, s.wording, string(body), orNull(s.moves))
			if err != nil {
				return fmt.Errorf("keep sign-up: %w", err)
			}
		}
		return nil
	})
}

// Arrivals is signalled when sign-ups wait for Admit.
func (r *Registry) Arrivals() <-chan struct{} { return r.arrivals }

// Admit decides about every sign-up that waits, in the order in which they came to one address, at the time of each: the
// event Requested, the pending subscription and the letter are one transaction with the end of the slip. It may be called
// by anybody at any time; what a process that died had kept is decided by the next.
func (r *Registry) Admit(ctx context.Context) error {
	ended := ctx.Done()
	ctx = context.WithoutCancel(ctx) // to SQLite's driver one that can end costs a goroutine a statement; each round is short
	for {
		select {
		case <-ended:
			return nil
		default:
		}
		var waits int
		err := r.db.Read.QueryRowContext(ctx, `SELECT COUNT(*) FROM (SELECT 1 FROM slips LIMIT 1) AS one`).Scan(&waits)
		if err != nil {
			return fmt.Errorf("look for sign-ups: %w", err)
		}
		if waits == 0 {
			return nil
		}
		var taken, letters int
		err = r.tx(ctx, func(tx *sql.Tx) error {
			taken, letters, err = r.admit(ctx, tx)
			return err
		})
		if err != nil {
			return err
		}
		if letters > 0 {
			r.signal()
		}
		if taken == 0 {
			return nil // another process has them in hand
		}
	}
}

func (r *Registry) admit(ctx context.Context, tx *sql.Tx) (taken, letters int, err error) {
	slips, err := r.takeSlips(ctx, tx)
	if err != nil {
		return 0, 0, err
	}
	for rest := slips; len(rest) > 0; {
		var next []slip
		next, rest = firstOfEach(rest)
		n, err := r.admitEach(ctx, tx, next)
		if err != nil {
			return 0, 0, err
		}
		letters += n
	}
	return len(slips), letters, r.gauge(ctx, tx, slips)
}

// firstOfEach splits slips that are sorted by person: the first of each, and the rest. What is decided about the second one
// depends on the first.
func firstOfEach(slips []slip) (first, rest []slip) {
	for i, s := range slips {
		if i > 0 && slips[i-1].person == s.person {
			rest = append(rest, s)
		} else {
			first = append(first, s)
		}
	}
	return first, rest
}

// admitEach decides about slips of different addresses, and says how many letters there are to mail.
func (r *Registry) admitEach(ctx context.Context, tx *sql.Tx, slips []slip) (letters int, err error) {
	guests := make([]guest, len(slips))
	earliest := slips[0].at
	for i, s := range slips {
		n, _ := r.settings.newsletter(s.newsletter)
		guests[i] = guest{s.address, s.person, n.Language, s.at}
		if s.at.Before(earliest) {
			earliest = s.at
		}
	}
	readers, err := r.enlist(ctx, tx, guests...)
	if err != nil {
		return 0, err
	}
	persons := make([]string, len(readers))
	for i, who := range readers {
		persons[i] = who.person
	}
	known, err := r.readRepute(ctx, tx, earliest, persons...)
	if err != nil {
		return 0, err
	}
	w := newWriting()
	for i, s := range slips {
		kind, err := r.signUp(ctx, tx, w, s, readers[i], known[persons[i]])
		if err != nil {
			return 0, err
		}
		if kind != "" {
			letters++
		}
	}
	return letters, w.flush(ctx, tx, r.db.Kind)
}

// takeSlips takes some slips out of the box, sorted by person: whoever else decides about others locks readers in the
// same order.
func (r *Registry) takeSlips(ctx context.Context, tx *sql.Tx) ([]slip, error) {
	rows, err := tx.QueryContext(ctx, `
		WITH first AS MATERIALIZED (
			SELECT id FROM slips ORDER BY id LIMIT $1`+r.db.SkipLocked()+`
		)
		DELETE FROM slips WHERE id IN (SELECT id FROM first)
		RETURNING id, at, address, newsletter, choice, wording, particulars, COALESCE(moves, 0)`, admittedAtOnce)
	if err != nil {
		return nil, fmt.Errorf("take sign-ups: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var slips []slip
	for rows.Next() {
		s, err := scanSlip(rows)
		if err != nil {
			return nil, fmt.Errorf("take sign-ups: %w", err)
		}
		s.person = r.keys.Person(s.address.Mailbox)
		slips = append(slips, s)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, fmt.Errorf("take sign-ups: %w", err)
	}
	slices.SortFunc(slips, func(a, b slip) int {
		return cmp.Or(cmp.Compare(a.person, b.person), cmp.Compare(a.id, b.id))
	})
	return slips, nil
}

func scanSlip(rows *sql.Rows) (slip, error) {
	var s slip
	var at int64
	var mailed, body string
	if err := rows.Scan(&s.id, &at, &mailed, &s.newsletter, &s.choice, &s.wording, &body, &s.moves); err != nil {
		return s, err
	}
	s.at, s.address = instant(at), Address{mailed, strings.ToLower(mailed)}
	return s, json.Unmarshal([]byte(body), &s.particulars)
}
