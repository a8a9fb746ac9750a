package newsletter

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"depesche/subscribers"
)

// Morning is what one `run` has to do and what became of it.
type Morning struct {
	Harvests []Harvest `json:"harvests"`
	Digests  []Result  `json:"digests"`
	Letters  Tally     `json:"letters"`
	Busy     bool      `json:"busy"` // another run is at work: it sends, this one did not
	Problems []error   `json:"-"`

	Ledger subscribers.Head `json:"ledger"` // the end of the chain of consents when all was done
}

// Result is what became of one newsletter's digest.
type Result struct {
	Newsletter string `json:"newsletter"`
	Day        Day    `json:"day"`
	Report     Report `json:"report"`
	Tally      Tally  `json:"tally"`
	TooLate    bool   `json:"too_late"` // never composed, and nobody said --force
	Overdue    bool   `json:"overdue"`  // this run found the latest time passed with deliveries left
	Broken     bool   `json:"broken"`   // could not be composed: the problems say why
}

// Plan says which digests a morning is about.
type Plan struct {
	Options
	Newsletter string // only this one; empty: all
	Day        Day    // this day's; empty: the one that is due
	Force      bool   // compose even if the latest time has passed
	AtOnce     bool   // an editor's word: compose now, whatever the schedule says
	Follow     bool   // stay until today's digests are done or too late
	Poll       bool   // ask the sources that are due first
	SendOnly   bool   // compose nothing
}

// Run is what the timer calls: it polls the sources that are due, composes at the planned time, sends what is due, first
// tries and retries, and returns. Called twice, twenty times at once, or after a kill, every reader gets one mail.
func (n *Newsroom) Run(ctx context.Context, p Plan) (Morning, error) {
	var m Morning
	for {
		err := n.pass(ctx, p, &m)
		if err != nil || !p.Follow || m.Busy || ctx.Err() != nil {
			return m, err
		}
		wake, waiting, err := n.wake(ctx, p)
		if err != nil || !waiting {
			return m, err
		}
		if pause(ctx, min(wake.Sub(p.Now()), 5*time.Minute)) != nil {
			return m, nil
		}
	}
}

// pass does everything that is due now.
func (n *Newsroom) pass(ctx context.Context, p Plan, m *Morning) error {
	if err := n.registry.LiftPauses(ctx, p.Now()); err != nil {
		return err
	}
	if _, err := n.registry.Purge(ctx, p.Now()); err != nil {
		return err
	}
	if p.Poll {
		harvests, err := n.Poll(ctx, p.Now(), false)
		m.Harvests = append(m.Harvests, harvests...)
		if err != nil {
			return err
		}
	}
	m.Digests = m.Digests[:0]
	var due []Digest
	for _, l := range n.Newsletters {
		if p.SendOnly || p.Newsletter != "" && l.Slug != p.Newsletter {
			continue
		}
		d, result, ok, err := n.compose(ctx, p, l, m)
		if err != nil {
			return err
		}
		if result != nil {
			m.Digests = append(m.Digests, *result)
		}
		if ok {
			due = append(due, d)
		}
	}
	return n.sendAll(ctx, p, due, m)
}

// compose finds or makes the digest a newsletter is due. ok says that something of it may be left to send.
func (n *Newsroom) compose(ctx context.Context, p Plan, l Newsletter, m *Morning) (d Digest, result *Result, ok bool, err error) {
	occasion, due := l.Occasion(p.Now())
	switch {
	case p.Day != "":
		occasion, due = l.On(p.Day), true
	case p.AtOnce:
		occasion, due = l.On(DayOf(p.Now(), l.Zone)), true
	}
	if p.AtOnce && !p.Now().Before(occasion.Latest) {
		p.Force = true
	}
	if !due || (!p.AtOnce && p.Now().Before(occasion.Planned)) {
		return d, nil, false, nil
	}
	d, problems, err := n.Compose(ctx, p.Now(), l, occasion, p.Force)
	m.Problems = append(m.Problems, problems...)
	if errors.Is(err, ErrTooLate) {
		m.Problems = append(m.Problems, err)
		return d, &Result{Newsletter: l.Slug, Day: occasion.Day, TooLate: true}, false, nil
	}
	if err != nil {
		// One newsletter that cannot be composed does not keep the others from their readers.
		m.Problems = append(m.Problems, err)
		return d, &Result{Newsletter: l.Slug, Day: occasion.Day, Broken: true}, false, nil
	}
	return d, &Result{Newsletter: l.Slug, Day: d.Day}, d.State == Ready, nil
}

// sendAll sends letters first, then the digests, if no other process of this database does.
func (n *Newsroom) sendAll(ctx context.Context, p Plan, due []Digest, m *Morning) error {
	unlock, ok, err := n.db.TryLock("dispatch")
	if err != nil {
		return err
	}
	if !ok {
		m.Busy = true
		return n.account(ctx, p.Now(), m)
	}
	defer unlock()
	letters, err := n.DispatchLetters(ctx, p.Options) // always ahead of digests
	m.Letters = letters
	if err != nil {
		return err
	}
	open, err := n.unfinished(ctx, p, due)
	if err != nil {
		return err
	}
	if err := n.bury(ctx, p.Now(), n.db.Path() != ""); err != nil {
		return err
	}
	if len(open) == 0 {
		return n.account(ctx, p.Now(), m)
	}
	err = n.dispatchAll(ctx, p, open, m)
	return errors.Join(err, n.account(ctx, p.Now(), m))
}

// dispatchAll sends digests, one after the other.
func (n *Newsroom) dispatchAll(ctx context.Context, p Plan, open []Digest, m *Morning) (err error) {
	x, err := n.enlist(ctx, p.Options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, x.close(ctx, !errors.Is(err, errUnrecorded))) }()
	for _, d := range open {
		if err := n.resend(ctx, p.Now(), d); err != nil {
			return err
		}
		overdue := !p.Now().Before(d.Latest)
		tally, err := x.dispatch(ctx, d)
		result := m.result(d)
		result.Tally = tally
		result.Overdue = overdue
		if isAway(err) { // its deliveries wait for the next run
			m.Problems = append(m.Problems, err)
			return nil
		}
		if err != nil {
			return err
		}
	}
	if until, paused := x.manners.paused(p.Now()); paused {
		m.Problems = append(m.Problems, fmt.Errorf("nothing is sent until %s: the server found fault with the sender ('depesche status')",
			n.InZone(until).Format("15:04")))
	}
	return nil
}

// unfinished are the digests of which something is left: those that are due, and earlier ones whose latest time has not
// been looked at.
func (n *Newsroom) unfinished(ctx context.Context, p Plan, due []Digest) ([]Digest, error) {
	earlier, err := all(ctx, n.db.Write, scanDigest, `
		SELECT `+digestColumns+` FROM digests WHERE state = 'ready' AND (newsletter = $1 OR $1 = '') ORDER BY planned, newsletter`, p.Newsletter)
	if err != nil {
		return nil, fmt.Errorf("find unfinished digests: %w", err)
	}
	known := map[int64]bool{}
	for _, d := range earlier {
		known[d.ID] = true
	}
	for _, d := range due {
		if !known[d.ID] {
			earlier = append(earlier, d)
		}
	}
	return earlier, nil
}

func (m *Morning) result(d Digest) *Result {
	for i := range m.Digests {
		if m.Digests[i].Newsletter == d.Newsletter && m.Digests[i].Day == d.Day {
			return &m.Digests[i]
		}
	}
	m.Digests = append(m.Digests, Result{Newsletter: d.Newsletter, Day: d.Day})
	return &m.Digests[len(m.Digests)-1]
}

// Alerts are what a person must hear of, whatever else went well.
func (m *Morning) Alerts() []string {
	alerts := m.Letters.Alerts
	for _, r := range m.Digests {
		alerts = append(alerts, r.Tally.Alerts...)
	}
	return alerts
}

// account adds the report of each digest, also of one whose sending was told to stop: that is no failure.
func (n *Newsroom) account(ctx context.Context, now time.Time, m *Morning) error {
	ctx = context.WithoutCancel(ctx)
	for i := range m.Digests {
		d, err := n.Digest(ctx, m.Digests[i].Newsletter, m.Digests[i].Day)
		if errors.Is(err, ErrNoDigest) {
			continue
		}
		if err != nil {
			return err
		}
		if m.Digests[i].Report, err = n.Report(ctx, now, d); err != nil {
			return err
		}
	}
	return nil
}

// wake is when there will be something to do again today. waiting is false when nothing will.
func (n *Newsroom) wake(ctx context.Context, p Plan) (at time.Time, waiting bool, err error) {
	now := p.Now()
	sooner := func(t time.Time) {
		if !waiting || t.Before(at) {
			at, waiting = t, true
		}
	}
	for _, l := range n.Newsletters {
		if p.SendOnly || p.Newsletter != "" && l.Slug != p.Newsletter {
			continue
		}
		today := l.On(DayOf(now, l.Zone))
		if l.appears(today.Day) && today.Planned.After(now) {
			sooner(today.Planned)
		}
	}
	var due sql.NullInt64
	err = n.db.Write.QueryRowContext(ctx, `
		SELECT MIN(CASE WHEN d.due < g.latest THEN COALESCE(d.due, g.planned) ELSE g.latest END)
		FROM digests g JOIN deliveries d ON d.digest = g.id
		WHERE g.state = 'ready' AND g.held IS NULL AND d.state = 'due' AND (g.newsletter = $1 OR $1 = '')`, p.Newsletter).Scan(&due)
	if err != nil {
		return at, false, fmt.Errorf("find what is due next: %w", err)
	}
	if due.Valid {
		sooner(later(instant(due), now.Add(time.Second)))
	}
	return at, waiting, nil
}
