package newsletter

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"depesche/newsletter/smtp"
)

// Manners are the limits a paper sets itself towards its relay and the servers behind it.
type Manners struct {
	PerSecond           float64            // messages a second in all, over all processes; 0: no limit
	PerSecondConnection float64            // messages a second on one connection; 0: no limit
	PerMinute           map[string]float64 // messages a minute to a recipient domain; none: no limit
}

// manners is how a dispatcher behaves: it keeps the limits, begins slowly, backs off where it is told to, and stays away from
// who finds fault with it. What outlives the process is in the table of that name.
type manners struct {
	newsroom *Newsroom
	troubled atomic.Bool  // somebody found fault: a success is worth noting
	learned  atomic.Int64 // messages after which the server closes a connection, 0: none known
	widened  chan struct{}

	mu      sync.Mutex
	lanes   int // connections that may be open now: the slow start
	closed  int // after how many messages the last connection was closed without a word
	domains map[string]*domain
}

// domain is what is known of the server of a recipient domain.
type domain struct {
	strikes int       // refusals of us in a row
	pause   time.Time // until then nothing is sent there
	tail    time.Time // when the last message that had to wait is due
}

const (
	// strikes in a row and a domain is left alone; so many such domains and it is the relay, or us.
	strikes      = 3
	sickDomains  = 3
	rememberMost = 24 * time.Hour // how long a limit that was found out is believed
)

// newManners reads what earlier processes have learned.
func newManners(ctx context.Context, n *Newsroom, now time.Time) (*manners, error) {
	m := &manners{newsroom: n, lanes: 1, domains: map[string]*domain{}, widened: make(chan struct{}, 1)}
	rows, err := n.pauses(ctx, now)
	for _, p := range rows {
		m.domains[p.Scope] = &domain{pause: p.Until}
	}
	return m, err
}

// Pause is a time in which nothing is sent to a recipient domain, or, with an empty scope, to the relay.
type Pause struct {
	Scope  string    `json:"scope"`
	Until  time.Time `json:"until"`
	Reason string    `json:"reason"`
}

// pauses are those that are not over.
func (n *Newsroom) pauses(ctx context.Context, now time.Time) ([]Pause, error) {
	list, err := all(ctx, n.db.Write, func(scan func(...any) error) (p Pause, err error) {
		var until int64
		err = scan(&p.Scope, &until, &p.Reason)
		p.Until = time.UnixMilli(until)
		return p, err
	}, `SELECT scope, pause, reason FROM manners WHERE pause > $1 ORDER BY scope`, now.UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("read pauses: %w", err)
	}
	return list, nil
}

// Pauses lists what stays unsent for a while because somebody found fault with us.
func (n *Newsroom) Pauses(ctx context.Context, now time.Time) ([]Pause, error) {
	return n.pauses(ctx, now)
}

// paused is the relay's pause, if there is one.
func (m *manners) paused(now time.Time) (until time.Time, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	relay, known := m.domains[""]
	if !known || !relay.pause.After(now) {
		return time.Time{}, false
	}
	return relay.pause, true
}

// width is how many connections may be open.
func (m *manners) width() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lanes
}

// widen opens the way for one more connection after a window that went well.
func (m *manners) widen(r *run) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lanes >= len(r.wires) {
		return
	}
	m.lanes++
	select {
	case m.widened <- struct{}{}:
	default:
	}
}

// narrow halves the number of connections: the server closed one that was in use.
func (m *manners) narrow(*run) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lanes = max(1, m.lanes/2)
}

// limited says whether a rate holds for all connections together.
func (m *manners) limited() bool { return m.newsroom.Manners.PerSecond > 0 }

// distance is the shortest time between two messages on a connection.
func (m *manners) distance() time.Duration {
	limits := m.newsroom.Manners
	return max(interval(limits.PerSecond), interval(limits.PerSecondConnection))
}

func interval(perSecond float64) time.Duration {
	if perSecond <= 0 {
		return 0
	}
	return time.Duration(float64(time.Second) / perSecond)
}

// turns waits until some messages may leave, at most so many. They may follow each other at the limit's distance from begin.
func (m *manners) turns(ctx context.Context, r *run, most int) (begin time.Time, n int, err error) {
	n = max(1, min(most, int(doubtTime.Seconds()*m.newsroom.Manners.PerSecond)))
	begin, err = m.newsroom.turn(ctx, r.now(), n)
	if err != nil {
		r.fail(err)
		return begin, n, err
	}
	return begin, n, pause(ctx, begin.Sub(r.now()))
}

// turn reserves the time of n messages under the rate for all: the clock of the relay's row moves on, whichever process it is
// that sends. Without a limit it is at once.
func (n *Newsroom) turn(ctx context.Context, now time.Time, messages int) (begin time.Time, err error) {
	if n.Manners.PerSecond <= 0 {
		return now, nil
	}
	needed := max(1, int64(float64(messages)*1000/n.Manners.PerSecond))
	var next int64
	err = n.db.Write.QueryRowContext(ctx, `
		INSERT INTO manners (scope, next) VALUES ('', CAST($1 AS BIGINT) + CAST($2 AS BIGINT))
		ON CONFLICT (scope) DO UPDATE SET next = CASE WHEN manners.next > $1 THEN manners.next ELSE $1 END + $2
		RETURNING next`, now.UnixMilli(), needed).Scan(&next)
	if err != nil {
		return now, fmt.Errorf("keep the rate: %w", err)
	}
	return time.UnixMilli(next - needed), nil
}

// admit keeps those deliveries whose domains may be sent to now. The others are due again when their domain's turn comes, or
// its pause is over.
func (m *manners) admit(ctx context.Context, tx *sql.Tx, now time.Time, taken []delivery) ([]delivery, error) {
	if len(m.newsroom.Manners.PerMinute) == 0 && !m.anyPaused(now) {
		return taken, nil
	}
	kept := taken[:0]
	for i := range taken {
		d := &taken[i]
		due, ok, err := m.admits(ctx, tx, now, d.domain())
		if err != nil {
			return kept, err
		}
		if ok {
			kept = append(kept, *d)
			continue
		}
		_, err = tx.ExecContext(ctx, `
			UPDATE deliveries SET state = 'due', due = $1, revision = 0
			WHERE digest = $2 AND subscriber = $3 AND state = 'doubtful'`,
			due.UnixMilli(), d.digest, d.subscriber)
		if err != nil {
			return kept, fmt.Errorf("postpone delivery: %w", err)
		}
	}
	return kept, nil
}

func (m *manners) anyPaused(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.domains {
		if d.pause.After(now) {
			return true
		}
	}
	return false
}

// admits says whether a message may go to a domain now, or when it may.
func (m *manners) admits(ctx context.Context, tx *sql.Tx, now time.Time, name string) (due time.Time, ok bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.domain(name)
	if d.pause.After(now) {
		return d.pause, false, nil
	}
	rate := m.newsroom.Manners.PerMinute[name]
	if rate <= 0 {
		return now, true, nil
	}
	step := interval(rate / 60)
	result, err := tx.ExecContext(ctx, `
		INSERT INTO manners (scope, next) VALUES ($1, CAST($2 AS BIGINT) + CAST($3 AS BIGINT))
		ON CONFLICT (scope) DO UPDATE SET next = CASE WHEN manners.next > $2 THEN manners.next ELSE $2 END + $3
			WHERE manners.next <= CAST($4 AS BIGINT)`, name, now.UnixMilli(), step.Milliseconds(), now.Add(doubtTime).UnixMilli())
	if err != nil {
		return now, false, fmt.Errorf("keep the rate of a domain: %w", err)
	}
	if admitted, err := result.RowsAffected(); err != nil || admitted > 0 {
		return now, true, err
	}
	d.tail = later(d.tail, now).Add(step)
	return d.tail, false, nil
}

// domain is what is known of one; m.mu is held.
func (m *manners) domain(name string) *domain {
	d, known := m.domains[name]
	if !known {
		d = &domain{}
		m.domains[name] = d
	}
	return d
}

// hear takes notice of a reply that finds fault with us and not with the reader: the domain is left alone after some of
// them; at once everybody is where no reader had been named yet, or several domains agree.
func (m *manners) hear(r *run, d *delivery) {
	if d.outcome.Verdict == smtp.Sent {
		if m.troubled.Load() {
			m.forgive(d.domain())
		}
		return
	}
	if !d.outcome.Pause {
		return
	}
	m.troubled.Store(true)
	name := d.domain()
	if d.reply.Phase != smtp.PhaseRcpt && d.reply.Phase != smtp.PhaseDot && d.reply.Phase != smtp.PhaseData {
		name = ""
	}
	until := d.again(r.now())
	for _, scope := range m.strike(name, until) {
		m.stayAway(r, scope, until, d.reply)
	}
}

func (m *manners) forgive(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.domain(name).strikes = 0
}

// strike counts a refusal and says which scopes are to be left alone because of it.
func (m *manners) strike(name string, until time.Time) (scopes []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.domain(name)
	d.strikes++
	if name == "" && d.strikes == 1 || name != "" && d.strikes == strikes {
		d.pause = until
		scopes = append(scopes, name)
	}
	sick := 0
	for other, d := range m.domains {
		if other != "" && d.strikes >= strikes {
			sick++
		}
	}
	if relay := m.domain(""); len(scopes) == 1 && sick >= sickDomains && relay.strikes == 0 {
		relay.strikes, relay.pause = 1, until
		scopes = append(scopes, "")
	}
	return scopes
}

// stayAway notes a pause for all processes and those to come, and calls a person.
func (m *manners) stayAway(r *run, scope string, until time.Time, reply smtp.Reply) {
	whom := "nobody is mailed"
	if scope == "" {
		r.halt()
	} else {
		whom = "nobody at " + scope + " is mailed"
	}
	r.alert("the server finds fault with the sender, %s until %s: %s", whom, m.newsroom.InZone(until).Format("15:04"), reply)
	_, err := m.newsroom.db.Write.ExecContext(context.Background(), `
		INSERT INTO manners (scope, pause, reason) VALUES ($1, $2, $3)
		ON CONFLICT (scope) DO UPDATE SET pause = excluded.pause, reason = excluded.reason`, scope, until.UnixMilli(), reply.String())
	if err != nil {
		r.fail(fmt.Errorf("note a pause: %w", err))
	}
}

// again is when a delivery that was neither accepted nor refused for good is tried again.
func (d *delivery) again(now time.Time) time.Time {
	switch {
	case d.outcome.Verdict == smtp.Later:
		return now.Add(retryAfter(d.attempts+1, d.reply))
	case d.outcome.Verdict == smtp.Ours && d.reply.Code/100 == 4:
		return now.Add(10 * time.Minute) // what Gmail asks for after 4.7.28
	case d.outcome.Pause:
		return now.Add(30 * time.Minute)
	}
	return now
}

// closedAfter learns from a server that closes without a word after so many messages (Yahoo does): later connections end
// themselves before. Once is an accident. What cannot be noted now will be learned again.
func (m *manners) closedAfter(now time.Time, sent int) {
	m.mu.Lock()
	again := sent == m.closed
	m.closed = sent
	m.mu.Unlock()
	if !again || m.fewer(sent) < sent {
		return
	}
	m.learned.Store(int64(sent))
	_, _ = m.newsroom.db.Write.ExecContext(context.Background(), `
		INSERT INTO manners (scope, most, noted) VALUES ('', $1, $2)
		ON CONFLICT (scope) DO UPDATE SET most = excluded.most, noted = excluded.noted`, sent, now.UnixMilli())
}

// fewer is the limit of messages in a connection, 0 for none, or the one that was found out if that is lower.
func (m *manners) fewer(most int) int {
	if learned := int(m.learned.Load()); learned > 0 && (most == 0 || learned < most) {
		return learned
	}
	return most
}

// mostMessages is how many messages a connection survives: what the paper set, or what was found out of late.
func (m *manners) mostMessages(ctx context.Context, now time.Time) (int, error) {
	most, learned := m.newsroom.PerSession, 0
	err := m.newsroom.db.Write.QueryRowContext(ctx, `SELECT COALESCE(MAX(most), 0) FROM manners WHERE scope = '' AND noted > $1`,
		now.Add(-rememberMost).UnixMilli()).Scan(&learned)
	if err != nil {
		return most, fmt.Errorf("read what was learned of the relay: %w", err)
	}
	if learned > 0 && (most == 0 || learned < most) {
		most = learned
	}
	return most, nil
}
