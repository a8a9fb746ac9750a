package subscribers

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"depesche/migrations"
)

// Admission is what an import did.
type Admission struct {
	File       string         `json:"file"` // SHA-256
	Seen       bool           `json:"seen"` // the same file was imported before
	Lines      int            `json:"lines"`
	Active     int            `json:"active"`     // readers who came in with evidence and may be mailed
	Unproven   int            `json:"unproven"`   // who came in without, and are not mailed
	Proven     int            `json:"proven"`     // who were there without, and now may be mailed
	Ended      int            `json:"ended"`      // subscriptions that came in, or were brought, to an end
	Suppressed int            `json:"suppressed"` // persons nobody mails from now on
	Unchanged  int            `json:"unchanged"`  // lines that say what was known
	KeptOut    int            `json:"kept_out"`   // lines of persons who left, objected, complained or bounced: they stay out
	Waiting    int            `json:"waiting"`    // lines of persons who were never readers there
	Broken     int            `json:"broken"`     // lines that were not taken
	Labels     map[string]int `json:"unknown_labels,omitempty"`
}

// Changes is how many readers and persons stand differently now.
func (a Admission) Changes() int { return a.Active + a.Unproven + a.Proven + a.Ended + a.Suppressed }

// Sighting is what an import would find in a file, before it meets the readers who are there.
type Sighting struct {
	File      string         `json:"file"`
	Encoding  string         `json:"encoding"`
	Separator string         `json:"separator"`
	Columns   []Column       `json:"columns"`
	Lines     int            `json:"lines"`
	Standings map[string]int `json:"standings"`
	Proven    int            `json:"with_evidence"`
	Unproven  int            `json:"without_evidence"`
	Broken    int            `json:"broken"`
	First     []Sighted      `json:"first"`
	Labels    map[string]int `json:"unknown_labels,omitempty"`
}

// Sighted is a line as it was understood, its address masked.
type Sighted struct {
	Line       int    `json:"line"`
	Address    string `json:"address"`
	Standing   string `json:"standing"`
	Newsletter string `json:"newsletter,omitempty"`
	Topics     string `json:"topics,omitempty"`
	Evidence   bool   `json:"evidence"`
}

const sighted = 5 // lines a preview shows

// Preview reads the whole file and changes nothing.
func (r *Registry) Preview(ctx context.Context, now time.Time, sheet *Sheet, i Import) (Sighting, error) {
	s := Sighting{File: sheet.Hash, Encoding: sheet.Encoding, Separator: string(sheet.Separator), Standings: map[string]int{}}
	in, err := r.begin(now, sheet, i)
	if err != nil {
		return s, err
	}
	s.Columns, s.Labels = in.all, in.unknown
	err = in.read(ctx, sheet, func(c candidate, p *Problem) error {
		s.Lines++
		switch {
		case p != nil:
			s.Broken++
			in.tell(*p)
			return nil
		case c.standing == subscribed && c.proven:
			s.Proven++
		case c.standing == subscribed || c.standing == unproven:
			s.Unproven++
		}
		s.Standings[string(c.standing)]++
		if len(s.First) < sighted {
			s.First = append(s.First, Sighted{c.line, c.address.Masked(), string(c.standing), c.newsletter, c.topics, c.proven})
		}
		return nil
	})
	return s, err
}

func (in *perusal) tell(p Problem) {
	if in.Problem != nil {
		in.Problem(p)
	}
}

// begin reads the header.
func (r *Registry) begin(now time.Time, sheet *Sheet, i Import) (*perusal, error) {
	if err := sheet.Rewind(); err != nil {
		return nil, err
	}
	first, err := sheet.Next()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: the file is empty", ErrTable)
	}
	if err == nil {
		err = first.Err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: read header: %w", ErrTable, err)
	}
	c, headed, err := mapColumns(first.Fields, i.Map)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTable, err)
	}
	if !headed {
		err = sheet.Rewind()
	}
	if err != nil {
		return nil, err
	}
	in, err := r.newPerusal(now, i, c, sheet.Hash)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTable, err)
	}
	return in, nil
}

// ErrTable is a file or an order that cannot be understood: nothing was imported.
var ErrTable = errors.New("import")

func (in *perusal) read(ctx context.Context, sheet *Sheet, fn func(candidate, *Problem) error) error {
	for n := 0; ; n++ {
		if n%1000 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		l, err := sheet.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read table: %w", err)
		}
		c, problem := in.understand(l)
		if err := fn(c, problem); err != nil {
			return err
		}
	}
}

// How many rows a batch has: the first one few, for the writer waits until they are read, and each twice as many as the one before.
const firstBatch, importBatch = 1000, 10_000

// batch is a stretch of the file.
type batch struct {
	rows     []candidate
	problems []Problem
	fresh    []Wording
	read     int64
	err      error // the last one's

	first, last int // lines
}

// Import brings the readers of a list in, batch by batch: whatever ends it leaves whole readers behind, and doing it again
// goes on where it ended. now is asked once a batch. Lines that cannot be taken are told and passed over; the error is about
// everything else: ErrTable before anything was done.
func (r *Registry) Import(ctx context.Context, now func() time.Time, sheet *Sheet, i Import) (Admission, error) {
	a := Admission{File: sheet.Hash}
	in, err := r.begin(now(), sheet, i)
	if err != nil {
		return a, err
	}
	began, seen, err := r.firstImport(ctx, now(), sheet.Hash)
	if err != nil {
		return a, err
	}
	a.Seen = seen
	restore, err := r.db.Roomy(ctx)
	if err != nil {
		return a, err
	}
	defer restore()
	books := newBooks(r, began)
	reading, stop := context.WithCancel(ctx)
	defer stop()
	batches := make(chan batch, 1)
	go func() {
		defer close(batches)
		in.deal(reading, sheet, batches)
	}()
	for b := range batches {
		if err == nil {
			err = r.takeBatch(ctx, now(), b, books, in, &a)
		}
		if err != nil {
			stop() // and let the reading end
		}
	}
	if err == nil {
		err = ctx.Err() // the reading ended early
	}
	a.Labels = in.unknown
	return a, err
}

// deal reads ahead while a batch is being written.
func (in *perusal) deal(ctx context.Context, sheet *Sheet, batches chan<- batch) {
	var b batch
	size := firstBatch
	hand := func() error {
		b.fresh, in.fresh, b.read = in.fresh, nil, sheet.Done()
		b.arrange()
		select {
		case batches <- b:
		case <-ctx.Done():
			return ctx.Err()
		}
		size = min(2*size, importBatch)
		b = batch{rows: make([]candidate, 0, size)}
		return nil
	}
	err := in.read(ctx, sheet, func(c candidate, p *Problem) error {
		if p != nil {
			b.problems = append(b.problems, *p)
		} else {
			b.rows = append(b.rows, c)
		}
		if len(b.rows)+len(b.problems) < size {
			return nil
		}
		return hand()
	})
	b.err = err
	if err == nil || ctx.Err() == nil {
		_ = hand() // the last one; who waits for it no more has an error of its own
	}
}

// firstImport notes a file, or finds when it came first: what it does not date is as old as that.
func (r *Registry) firstImport(ctx context.Context, now time.Time, hash string) (at int64, seen bool, err error) {
	result, err := r.db.Write.ExecContext(ctx, `
		INSERT INTO imports (hash, at) VALUES ($1, $2) ON CONFLICT DO NOTHING`, hash, now.UnixMilli())
	if err != nil {
		return 0, false, fmt.Errorf("note import: %w", err)
	}
	noted, err := result.RowsAffected()
	if err == nil {
		err = r.db.Write.QueryRowContext(ctx, `SELECT at FROM imports WHERE hash = $1`, hash).Scan(&at)
	}
	if err != nil {
		return 0, false, fmt.Errorf("note import: %w", err)
	}
	return at, noted == 0, nil
}

// takeBatch writes a batch, what many readers share before it.
func (r *Registry) takeBatch(ctx context.Context, now time.Time, b batch, books *books, in *perusal, a *Admission) error {
	for _, p := range b.problems {
		in.tell(p)
	}
	a.Broken += len(b.problems)
	a.Lines += len(b.rows) + len(b.problems)
	if b.err != nil {
		return b.err
	}
	choices, err := r.share(ctx, now, b)
	if err != nil {
		return err
	}
	count, err := books.book(ctx, now, b.rows, choices)
	if err != nil {
		return fmt.Errorf("import lines %d to %d: %w", b.first, b.last, err)
	}
	a.add(count)
	if in.Progress != nil {
		in.Progress(b.read)
	}
	return nil
}

// arrange puts the rows in the order of an index, whose pages are then filled one after the other. What is said twice of a person stays
// in its order.
func (b *batch) arrange() {
	if len(b.rows) > 0 {
		b.first, b.last = b.rows[0].line, b.rows[len(b.rows)-1].line
	}
	slices.SortFunc(b.rows, func(x, y candidate) int {
		return cmp.Or(strings.Compare(x.person, y.person), cmp.Compare(x.line, y.line))
	})
}

func (a *Admission) add(b Admission) {
	a.Active += b.Active
	a.Unproven += b.Unproven
	a.Proven += b.Proven
	a.Ended += b.Ended
	a.Suppressed += b.Suppressed
	a.Unchanged += b.Unchanged
	a.KeptOut += b.KeptOut
	a.Waiting += b.Waiting
}

// share keeps the wordings and choices of a batch, in a transaction of their own so that no sign-up waits for ours, and gives the
// choices by newsletter and topics.
func (r *Registry) share(ctx context.Context, now time.Time, b batch) (map[[2]string]int64, error) {
	choices := map[[2]string]int64{}
	var unknown [][2]string
	for i := range b.rows {
		c := &b.rows[i]
		key := [2]string{c.newsletter, c.topics}
		if _, seen := choices[key]; seen || c.newsletter == "" {
			continue
		}
		choices[key] = 0
		if id, known := r.known.Load("choice " + c.newsletter + " " + c.topics); known {
			choices[key] = id.(int64)
		} else {
			unknown = append(unknown, key)
		}
	}
	if len(unknown) == 0 && len(b.fresh) == 0 {
		return choices, nil
	}
	slices.SortFunc(unknown, func(a, b [2]string) int { return strings.Compare(a[0]+"\x00"+a[1], b[0]+"\x00"+b[1]) })
	err := r.tx(ctx, func(tx *sql.Tx) error {
		for _, w := range b.fresh {
			if err := insertWording(ctx, tx, now, w); err != nil {
				return err
			}
		}
		for _, key := range unknown {
			id, err := keepChoice(ctx, tx, now, key)
			if err != nil {
				return err
			}
			choices[key] = id
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, key := range unknown {
		r.known.Store("choice "+key[0]+" "+key[1], choices[key])
	}
	return choices, nil
}

func keepChoice(ctx context.Context, tx *sql.Tx, now time.Time, key [2]string) (id int64, err error) {
	err = tx.QueryRowContext(ctx, `
		INSERT INTO choices (id, newsletter, topics) VALUES ($1, $2, $3)
		ON CONFLICT (newsletter, topics) DO UPDATE SET topics = excluded.topics RETURNING id`,
		migrations.NewKey(now), key[0], key[1]).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("keep choice: %w", err)
	}
	return id, nil
}
