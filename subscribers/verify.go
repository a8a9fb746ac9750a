package subscribers

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// Verification is what came of recomputing the whole ledger.
type Verification struct {
	Events   int64   `json:"events"` // that are sealed
	Erased   int64   `json:"erased"` // of these, how many have lost their particulars, as they may
	Wordings int64   `json:"wordings"`
	Head     Head    `json:"head"`
	Broken   int64   `json:"broken"`           // links that do not hold
	Breaks   []Break `json:"breaks,omitempty"` // the first of them, by number
}

// Break is a link that does not hold. Number is 0 where none can be named.
type Break struct {
	Number int64  `json:"number"`
	Event  int64  `json:"event,omitempty"` // its id
	What   string `json:"what"`
}

// Valid says whether every link holds.
func (v Verification) Valid() bool { return v.Broken == 0 }

const (
	maxBreaks  = 20 // that are named
	verifyPage = 2000
)

// Verify recomputes every link of the chain up to its end, the hashes of particulars that are still there, and the words
// events refer to. heads are ends of the chain that were written down elsewhere, in any order: each must still be a link,
// or the ledger was cut off or begun anew. Events that are not sealed yet are not looked at: Seal first. Memory does not grow
// with the ledger.
func (r *Registry) Verify(ctx context.Context, heads ...Head) (Verification, error) {
	v := &verifier{Registry: r, badWords: map[string]bool{}}
	v.heads = slices.DeleteFunc(slices.Clone(heads), func(h Head) bool { return h.Number == 0 })
	slices.SortFunc(v.heads, func(a, b Head) int { return cmp.Compare(a.Number, b.Number) })
	if _, err := v.checkKeys(ctx); err != nil {
		return v.Verification, err
	}
	if err := v.checkWordings(ctx); err != nil {
		return v.Verification, err
	}
	end, err := r.Head(ctx)
	if err != nil {
		return v.Verification, err
	}
	for {
		more, err := v.page(ctx, end.Number)
		if err != nil {
			return v.Verification, err
		}
		if !more {
			break
		}
	}
	return v.Verification, v.finish(ctx, end)
}

type verifier struct {
	*Registry
	Verification
	heads    []Head          // not met yet, ascending
	badWords map[string]bool // hashes of wordings whose text does not give them
	last     Head            // as recorded
	pending  *pendingLink    // a link that did not hold, until the next one says which half of it was changed
}

// pendingLink is a link that does not fit its event.
type pendingLink struct {
	at       int // index in Breaks, -1 when it is not named
	computed Head
}

// verified is one event with all that hangs on it.
type verified struct {
	chained
	number int64
	chain  string
	words  string // hash of the wording row it refers to, "" where that is missing
	kept   keptParticulars
}

func (v *verifier) fail(number, event int64, what string) int {
	v.Broken++
	if len(v.Breaks) == maxBreaks {
		return -1
	}
	v.Breaks = append(v.Breaks, Break{number, event, what})
	return len(v.Breaks) - 1
}

// checkWordings looks whether each text still gives its hash.
func (v *verifier) checkWordings(ctx context.Context) error {
	for last := ""; ; {
		page, err := v.wordingsAfter(ctx, last)
		if err != nil {
			return err
		}
		for _, w := range page {
			if newWording(w.Kind, w.Language, w.Text).Hash != w.Hash && len(v.badWords) < maxBreaks {
				v.badWords[w.Hash] = true
			}
			last = w.Hash
			v.Wordings++
		}
		if len(page) < wordingsPage || ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

const wordingsPage = 500

func (v *verifier) wordingsAfter(ctx context.Context, last string) ([]Wording, error) {
	rows, err := v.db.Read.QueryContext(context.WithoutCancel(ctx), `
		SELECT hash, kind, language, text FROM wordings WHERE hash > $1 ORDER BY hash LIMIT $2`, last, wordingsPage)
	if err != nil {
		return nil, fmt.Errorf("read wordings: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var page []Wording
	for rows.Next() {
		var w Wording
		if err := rows.Scan(&w.Hash, &w.Kind, &w.Language, &w.Text); err != nil {
			return nil, fmt.Errorf("read wordings: %w", err)
		}
		page = append(page, w)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read wordings: %w", err)
	}
	return page, nil
}

// page verifies the next events and says whether there may be more.
func (v *verifier) page(ctx context.Context, end int64) (more bool, err error) {
	// A context that can be cancelled would cost a goroutine for every row of SQLite's.
	rows, err := v.db.Read.QueryContext(context.WithoutCancel(ctx), `
		SELECT `+chainedColumns+`, c.number, COALESCE(c.chain, ''), COALESCE(w.hash, ''),
			COALESCE(p.salt, ''), COALESCE(p.body, ''), COALESCE(p.ip_salt, ''), COALESCE(p.ip, '')
		FROM consents c
		LEFT JOIN wordings w ON w.hash = c.wording
		LEFT JOIN particulars p ON p.consent = c.id
		WHERE c.number > $1 AND c.number <= $2 ORDER BY c.number LIMIT $3`, v.last.Number, end, verifyPage)
	if err != nil {
		return false, fmt.Errorf("read consents: %w", err)
	}
	defer func() { _ = rows.Close() }()
	read := 0
	for rows.Next() {
		var e verified
		err := rows.Scan(append(e.columns(), &e.number, &e.chain, &e.words, &e.kept.salt, &e.kept.body, &e.kept.ipSalt, &e.kept.ip)...)
		if err != nil {
			return false, fmt.Errorf("read consents: %w", err)
		}
		v.check(e)
		read++
	}
	if err := rows.Err(); err != nil {
		return false, fmt.Errorf("read consents: %w", err)
	}
	return read == verifyPage, ctx.Err()
}

func (v *verifier) check(e verified) {
	if missing := e.number - v.last.Number - 1; missing > 0 {
		v.fail(v.last.Number+1, 0, "the event is missing"+andMore(missing))
		v.pending, v.last = nil, Head{Number: e.number - 1} // what it was linked to is gone
	} else {
		v.checkLink(e)
	}
	v.Events++
	v.last = Head{e.number, e.chain}
	v.checkHeads()
	v.checkParts(e)
}

func andMore(missing int64) string {
	if missing == 1 {
		return ""
	}
	return fmt.Sprintf(", and %d after it", missing-1)
}

// checkLink compares the recorded link with the one its event gives. Where they differ the next link tells why: it was
// made from this one as it was before.
func (v *verifier) checkLink(e verified) {
	computed := v.keys.link(v.last, e.chained)
	if p := v.pending; p != nil {
		v.pending = nil
		if v.keys.link(p.computed, e.chained).Chain == e.chain {
			if p.at >= 0 {
				v.Breaks[p.at].What = "its link was changed"
			}
			return
		}
	}
	if computed.Chain != e.chain {
		v.pending = &pendingLink{v.fail(e.number, e.id, "one of its fields was changed"), computed}
	}
}

func (v *verifier) checkHeads() {
	for len(v.heads) > 0 && v.heads[0].Number <= v.last.Number {
		if h := v.heads[0]; h.Number == v.last.Number && h.Chain != v.last.Chain {
			v.fail(h.Number, 0, "its link is not the one that was written down elsewhere")
		}
		v.heads = v.heads[1:]
	}
}

// checkParts looks at what an event keeps the hash of.
func (v *verifier) checkParts(e verified) {
	_, all, ip := e.kept.open(e.particulars)
	switch {
	case all == Deleted:
		v.Erased++
	case all == Altered:
		v.fail(e.number, e.id, "its particulars were changed")
	case ip == Altered:
		v.fail(e.number, e.id, "its network address was changed")
	}
	switch {
	case e.wording != "" && e.words == "":
		v.fail(e.number, e.id, "the words it refers to are missing")
	case v.badWords[e.words]:
		v.fail(e.number, e.id, "the words it refers to were changed")
	}
}

// finish looks at the end of the chain: it must be where the sealer left it, and no earlier than anybody wrote down.
func (v *verifier) finish(ctx context.Context, end Head) error {
	v.Verification.Head = v.last
	switch {
	case v.last.Number < end.Number:
		v.fail(v.last.Number+1, 0, "the event is missing"+andMore(end.Number-v.last.Number)+": the ledger was cut off")
	case v.pending != nil && v.pending.computed == end:
		if at := v.pending.at; at >= 0 {
			v.Breaks[at].What = "its link was changed"
		}
	case v.last.Chain != end.Chain:
		v.fail(end.Number, 0, "its link is not the one the sealer left")
	}
	if len(v.heads) > 0 {
		last := v.heads[len(v.heads)-1].Number
		v.fail(v.last.Number+1, 0, fmt.Sprintf("the event is missing: the ledger once ended at %d", last))
	}
	var newest int64
	if err := v.db.Read.QueryRowContext(ctx, `SELECT COALESCE(MAX(number), 0) FROM consents`).Scan(&newest); err != nil {
		return fmt.Errorf("read the newest number: %w", err)
	}
	end, err := v.Registry.Head(ctx) // again: the sealer may have gone on
	if err == nil && newest > end.Number {
		v.fail(end.Number+1, 0, "the event was not sealed by us")
	}
	return err
}
