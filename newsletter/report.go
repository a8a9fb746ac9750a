package newsletter

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Report is the account of a digest: prepared = sent + failed + skipped + expired + doubtful + due.
type Report struct {
	Newsletter string      `json:"newsletter"`
	Day        Day         `json:"day"`
	State      DigestState `json:"state"`
	Held       bool        `json:"held"`
	Revision   int64       `json:"revision"`
	Planned    time.Time   `json:"planned"`
	Latest     time.Time   `json:"latest"`
	Began      *time.Time  `json:"began"`
	Entries    int         `json:"entries"`
	Prepared   int         `json:"prepared"`
	Sent       int         `json:"sent"`
	Failed     int         `json:"failed"`
	Skipped    int         `json:"skipped"`
	Expired    int         `json:"expired"`
	Doubtful   int         `json:"doubtful"`
	OnWire     int         `json:"on_wire"` // those of the doubtful that a dispatcher at work has in hand
	Due        int         `json:"due"`
	Silent     int         `json:"silent"`                 // readers none of whose topics had news: nothing was prepared for them
	Work       []Work      `json:"work,omitempty"`         // who is sending it
	Seconds    float64     `json:"seconds_left,omitempty"` // at the present rate
	Decisions  []Decided   `json:"decisions,omitempty"`
}

// AddsUp says whether every prepared delivery is accounted for.
func (r Report) AddsUp() bool {
	return r.Prepared == r.Sent+r.Failed+r.Skipped+r.Expired+r.Doubtful+r.Due
}

// Work is a dispatcher that is sending a digest.
type Work struct {
	Host      string    `json:"host"`
	Process   int       `json:"process"`
	Began     time.Time `json:"began"`
	Sent      int       `json:"sent"`
	PerSecond float64   `json:"per_second"`

	fence int64
}

// Report counts a digest's deliveries by state, all at one moment.
func (n *Newsroom) Report(ctx context.Context, now time.Time, d Digest) (Report, error) {
	r := Report{
		Newsletter: d.Newsletter, Day: d.Day, State: d.State, Held: !d.Held.IsZero(), Revision: d.Revision,
		Planned: d.Planned, Latest: d.Latest, Silent: d.Silent,
	}
	if !d.Began.IsZero() {
		r.Began = &d.Began
	}
	type row struct {
		state State
		count int
	}
	rows, err := all(ctx, n.db.Read, func(scan func(...any) error) (x row, err error) {
		return x, scan(&x.state, &x.count)
	}, `SELECT state, COUNT(*) FROM deliveries WHERE digest = $1 GROUP BY state`, d.ID)
	if err != nil {
		return r, fmt.Errorf("count deliveries: %w", err)
	}
	counts := map[State]*int{
		Due: &r.Due, Doubtful: &r.Doubtful, Sent: &r.Sent, Failed: &r.Failed, Skipped: &r.Skipped, Expired: &r.Expired,
	}
	for _, x := range rows {
		*counts[x.state] = x.count
		r.Prepared += x.count
	}
	err = n.db.Read.QueryRowContext(ctx, `SELECT COUNT(*) FROM entries WHERE digest = $1 AND withdrawn IS NULL`, d.ID).Scan(&r.Entries)
	if err != nil {
		return r, fmt.Errorf("count entries: %w", err)
	}
	if r.Decisions, err = n.Decisions(ctx, d); err != nil {
		return r, err
	}
	return r, n.addWork(ctx, now, d, &r)
}

// addWork adds who is sending the digest now, and how fast.
func (n *Newsroom) addWork(ctx context.Context, now time.Time, d Digest, r *Report) (err error) {
	r.Work, err = all(ctx, n.db.Read, func(scan func(...any) error) (w Work, err error) {
		var began int64
		err = scan(&w.fence, &w.Host, &w.Process, &began, &w.Sent)
		w.Began = time.UnixMilli(began)
		return w, err
	}, `SELECT fence, host, process, began, sent FROM dispatchers WHERE digest = $1 AND lease > $2 ORDER BY began`, d.ID, now.UnixMilli())
	if err != nil {
		return fmt.Errorf("look who is sending: %w", err)
	}
	rate := 0.0
	for i := range r.Work {
		w := &r.Work[i]
		w.PerSecond = float64(w.Sent) / max(now.Sub(w.Began).Seconds(), 0.001)
		rate += w.PerSecond
		var hand int
		err := n.db.Read.QueryRowContext(ctx, `SELECT COUNT(*) FROM deliveries WHERE digest = $1 AND state = 'doubtful' AND fence = $2 AND code = 0
			AND reply = ''`, d.ID, w.fence).Scan(&hand)
		if err != nil {
			return fmt.Errorf("count what is on the wire: %w", err)
		}
		r.OnWire += hand
	}
	if rate > 0 {
		r.Seconds = float64(r.Due+r.OnWire) / rate
	}
	return nil
}

// Trouble is a delivery an editor may want to look at.
type Trouble struct {
	Subscriber int64     `json:"subscriber"`
	State      State     `json:"state"`
	Code       int       `json:"code"`
	Reply      string    `json:"reply"`
	At         time.Time `json:"at"`
	Attempts   int       `json:"attempts"`
}

// Troubles lists the deliveries of a digest that failed or are doubtful.
func (n *Newsroom) Troubles(ctx context.Context, d Digest, limit int) ([]Trouble, error) {
	list, err := all(ctx, n.db.Read, func(scan func(...any) error) (t Trouble, err error) {
		var at sql.NullInt64
		err = scan(&t.Subscriber, &t.State, &t.Code, &t.Reply, &at, &t.Attempts)
		t.At = instant(at)
		return t, err
	}, `SELECT subscriber, state, code, reply, settled, attempts FROM deliveries
		WHERE digest = $1 AND state IN ('failed', 'doubtful') ORDER BY state, subscriber LIMIT $2`, d.ID, limit)
	if err != nil {
		return nil, fmt.Errorf("list deliveries in trouble: %w", err)
	}
	return list, nil
}

// SourceState is how the last look at a source ended.
type SourceState struct {
	Name      string     `json:"name"`
	Polled    *time.Time `json:"polled"`
	Succeeded *time.Time `json:"succeeded"`
	Problem   string     `json:"problem,omitempty"`
}

// SourceStates lists the configured sources.
func (n *Newsroom) SourceStates(ctx context.Context) ([]SourceState, error) {
	var states []SourceState
	for _, source := range n.Sources {
		var polled, succeeded sql.NullInt64
		state := SourceState{Name: source.Name}
		err := n.db.Read.QueryRowContext(ctx, `SELECT polled, succeeded, problem FROM sources WHERE name = $1`, source.Name).
			Scan(&polled, &succeeded, &state.Problem)
		if err != nil && err != sql.ErrNoRows {
			return nil, fmt.Errorf("read state of source %s: %w", source.Name, err)
		}
		if polled.Valid {
			t := instant(polled)
			state.Polled = &t
		}
		if succeeded.Valid {
			t := instant(succeeded)
			state.Succeeded = &t
		}
		states = append(states, state)
	}
	return states, nil
}

// Readers counts those a newsletter may be mailed to now.
func (n *Newsroom) Readers(ctx context.Context, newsletter string) (int, error) {
	var count int
	err := n.db.Read.QueryRowContext(ctx, `SELECT COUNT(*) FROM audience WHERE newsletter = $1`, newsletter).Scan(&count)
	if err != nil {
		return 0, fmt.Errorf("count readers of %s: %w", newsletter, err)
	}
	return count, nil
}

// Last is a newsletter's newest digest.
func (n *Newsroom) Last(ctx context.Context, newsletter string) (d Digest, found bool, err error) {
	list, err := all(ctx, n.db.Read, scanDigest, `
		SELECT `+digestColumns+` FROM digests WHERE newsletter = $1 ORDER BY planned DESC LIMIT 1`, newsletter)
	if err != nil {
		return d, false, fmt.Errorf("find newest digest of %s: %w", newsletter, err)
	}
	if len(list) == 0 {
		return d, false, nil
	}
	return list[0], true, nil
}
