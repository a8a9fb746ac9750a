package newsletter

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"depesche/migrations"
	"depesche/newsletter/smtp"
)

// lease is how long a dispatcher that says nothing counts as alive; a living one renews it with every commit.
const lease = time.Minute

// Tally is what a dispatch has done.
type Tally struct {
	Sent     int      `json:"sent"`
	Failed   int      `json:"failed"`
	Later    int      `json:"later"`    // deferred, or lost before the final dot: due again
	Doubtful int      `json:"doubtful"` // the reply was lost
	Skipped  int      `json:"skipped"`  // no longer wanted when it was their turn
	Commits  int      `json:"commits"`  // transactions it took
	Alerts   []string `json:"alerts,omitempty"`
}

// Progress is how far the sending of a digest is.
type Progress struct {
	Newsletter string
	Day        Day
	Prepared   int
	Left       int // not settled yet
	Tally      Tally
}

// Options of a dispatch.
type Options struct {
	Now      func() time.Time
	Patience time.Duration  // how long a relay that is away is waited for; the latest time ends it in any case
	Progress func(Progress) // called several times a second
}

// dispatcher is a process that sends digests: its fence, its journal, its connections and its manners, for one digest after
// the other.
type dispatcher struct {
	newsroom *Newsroom
	options  Options
	fence    int64
	journal  *journal
	manners  *manners
	wires    []*wire
}

// enlist makes this process a dispatcher. close ends that.
func (n *Newsroom) enlist(ctx context.Context, o Options) (*dispatcher, error) {
	now := o.Now()
	x := &dispatcher{newsroom: n, options: o, fence: migrations.NewKey(now)}
	connections := max(n.Connections, 1)
	var err error
	if x.manners, err = newManners(ctx, n, now); err != nil {
		return nil, err
	}
	most, err := x.manners.mostMessages(ctx, now)
	if err != nil {
		return nil, err
	}
	for i := range connections {
		x.wires = append(x.wires, &wire{relay: n.Relay, most: most, number: i})
	}
	// A connection has one window being sent, one ordered, and others about to be recorded.
	if x.journal, err = createJournal(n.JournalBase, x.fence, 4*mostDoubt*connections); err != nil {
		return nil, err
	}
	host, _ := os.Hostname() // only to tell people where it is
	_, err = n.db.Write.ExecContext(ctx, `
		INSERT INTO dispatchers (fence, host, process, digest, began, lease) VALUES ($1, $2, $3, 0, $4, $5)`,
		x.fence, host, os.Getpid(), now.UnixMilli(), now.Add(lease).UnixMilli())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("enlist as a dispatcher: %w", err), x.journal.remove())
	}
	return x, nil
}

// close takes leave of the relay and of the other dispatchers. The journal stays where it says something the database does
// not know.
func (x *dispatcher) close(ctx context.Context, recorded bool) error {
	for _, w := range x.wires {
		w.close()
	}
	if !recorded || len(x.journal.free) < x.journal.slots() {
		return x.journal.close()
	}
	_, err := x.newsroom.db.Write.ExecContext(context.WithoutCancel(ctx), `DELETE FROM dispatchers WHERE fence = $1`, x.fence)
	if err != nil {
		return errors.Join(fmt.Errorf("leave the dispatchers: %w", err), x.journal.close())
	}
	return x.journal.remove()
}

// run is one digest being sent.
type run struct {
	*dispatcher
	digest   Digest
	edition  *edition
	press    *press
	recorder *recorder
	spare    chan *window
	recalled atomic.Bool // what is not begun is to be given back: the digest was held or revised, or we are to end
	halted   atomic.Bool // the relay finds fault with us: going on would only make it worse
	cancel   context.CancelFunc

	sent, failed, again, doubtful, skipped, commits atomic.Int64

	prepared, left int // when the run began

	mu      sync.Mutex // guards what follows
	alerts  []string
	failure error
}

func (r *run) now() time.Time { return r.options.Now() }

// tally is what the run has done so far.
func (r *run) tally() Tally {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Tally{
		Sent: int(r.sent.Load()), Failed: int(r.failed.Load()), Later: int(r.again.Load()), Doubtful: int(r.doubtful.Load()),
		Skipped: int(r.skipped.Load()), Commits: int(r.commits.Load()), Alerts: r.alerts,
	}
}

// count adds a settled delivery to the tally.
func (r *run) count(d *delivery) {
	switch {
	case d.skipped != "":
		r.skipped.Add(1)
	case d.outcome.Verdict == smtp.Sent:
		r.sent.Add(1)
	case d.outcome.Verdict == smtp.Failed:
		r.failed.Add(1)
	case d.outcome.Verdict == smtp.Doubtful:
		r.doubtful.Add(1)
	default:
		r.again.Add(1)
	}
}

// alert is what a person must hear of; the same words once.
func (r *run) alert(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, told := range r.alerts {
		if told == text {
			return
		}
	}
	r.alerts = append(r.alerts, text)
}

// fail ends the run with an error; the first one counts.
func (r *run) fail(err error) {
	r.mu.Lock()
	if r.failure == nil {
		r.failure = err
	}
	r.mu.Unlock()
	r.stop()
}

// stop has everything given back that is not on the wire.
func (r *run) stop() {
	r.recalled.Store(true)
	r.cancel()
}

// halt stops the run because of the relay.
func (r *run) halt() {
	r.halted.Store(true)
	r.stop()
}

func (r *run) over() bool { return r.recalled.Load() }

// dispatch sends what is due of a digest. It returns when nothing of it is due now, when it is held, when its latest time
// has come, when ctx ends, or when the relay cannot be had: a *smtp.Refusal if it will not have us.
//
// Killed at any moment, it leaves doubtful deliveries, and in its journal what the next start needs to tell those that never
// left, those that were answered, and those of which nobody knows.
func (x *dispatcher) dispatch(ctx context.Context, d Digest) (Tally, error) {
	r := &run{dispatcher: x, spare: make(chan *window, 4*len(x.wires))}
	var away, waited time.Duration // the next wait for the relay, and all of them
	for {
		more, err := r.round(ctx, d)
		var gone *awayError
		switch {
		case errors.As(err, &gone) && waited < x.options.Patience && ctx.Err() == nil:
			away = min(max(2*away, time.Second), time.Minute)
			waited += away
			if pause(ctx, away) != nil {
				return r.tally(), nil
			}
		case err != nil:
			return r.tally(), err
		case !more || r.halted.Load() || ctx.Err() != nil:
			return r.tally(), nil
		default:
			away, waited = 0, 0
		}
	}
}

// round sends under one revision of the digest until nothing is due, or something has changed. more says whether it is worth
// asking for another round.
func (r *run) round(ctx context.Context, d Digest) (more bool, err error) {
	n, now := r.newsroom, r.now()
	if d, err = n.begin(ctx, now, d); err != nil || !d.Held.IsZero() || d.State != Ready {
		return false, err
	}
	if !now.Before(d.Latest) {
		return false, n.expire(ctx, now, d)
	}
	if _, paused := r.manners.paused(now); paused {
		return false, nil
	}
	if err := r.edit(ctx, d); err != nil {
		return false, err
	}
	before := r.sent.Load() + r.failed.Load() + r.doubtful.Load() + r.skipped.Load()
	err = r.send(ctx)
	progress := r.sent.Load()+r.failed.Load()+r.doubtful.Load()+r.skipped.Load() > before
	if err != nil && !(progress && isAway(err)) {
		return false, err
	}
	if ctx.Err() != nil {
		return false, nil
	}
	due, err := n.dueNow(ctx, r.now(), r.digest)
	if err != nil || due {
		return due, err
	}
	return false, n.finish(ctx, r.now(), r.digest, r.fence)
}

func isAway(err error) bool {
	var away *awayError
	return errors.As(err, &away)
}

// edit opens the digest's edition, anew when there is a new revision or date.
func (r *run) edit(ctx context.Context, d Digest) error {
	fresh := r.edition == nil || r.digest.Revision != d.Revision || !r.digest.Began.Equal(d.Began)
	r.digest = d
	if !fresh {
		return nil
	}
	e, err := r.newsroom.edition(ctx, d)
	if err != nil {
		return err
	}
	r.edition, r.press = e, newPress(r.newsroom, e)
	if r.options.Progress == nil {
		return nil
	}
	report, err := r.newsroom.Report(ctx, r.now(), d)
	r.prepared, r.left = report.Prepared, report.Due
	r.left += int(r.sent.Load() + r.failed.Load() + r.doubtful.Load() + r.skipped.Load())
	return err
}

// grace is how long what is on the wire may take to finish after the process was told to stop.
const grace = 8 * time.Second

// withGrace ends some time after ctx does: for what is on the wire then.
func withGrace(ctx context.Context) (context.Context, context.CancelFunc) {
	patient, cut := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if pause(patient, grace) == nil {
			cut()
		}
	})
	return patient, func() {
		stop()
		cut()
	}
}

// send runs the connections: one at first, more as it goes well.
func (r *run) send(ctx context.Context) error {
	begin, cancel := context.WithCancel(ctx)
	defer cancel()
	r.cancel = cancel
	r.recalled.Store(false)
	wireCtx, cut := withGrace(ctx)
	defer cut()
	var err error
	if r.recorder, err = newRecorder(ctx, r, r.journal); err != nil {
		return err
	}
	go r.recorder.work()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		r.watch(begin, ctx)
	}()
	err = r.connect(begin, wireCtx)
	cancel()
	<-watched
	r.recorder.close()
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.recorder.failure, r.failure, err)
}

// connect has each connection do its work, as many at once as manners allow, and waits for all.
func (r *run) connect(ctx, wireCtx context.Context) error {
	type end struct {
		wire *wire
		err  error
	}
	ends := make(chan end)
	working := map[*wire]bool{}
	start := func() {
		for _, w := range r.wires[:min(r.manners.width(), len(r.wires))] {
			if !working[w] && ctx.Err() == nil {
				working[w] = true
				w.run = r
				go func() { ends <- end{w, w.work(ctx, wireCtx)} }()
			}
		}
	}
	var first error
	finishing := false
	for start(); len(working) > 0; {
		select {
		case <-r.manners.widened:
			if !finishing {
				start()
			}
		case e := <-ends:
			delete(working, e.wire)
			finishing = finishing || e.wire.done || e.err != nil
			if e.err == nil {
				continue
			}
			if first == nil || isAway(first) {
				first = e.err // the others stop because of it, or say the same
			}
			if !isAway(e.err) {
				r.stop()
			}
		}
	}
	return first
}

// watch looks after what may change while a digest is being sent: a hold, a withdrawal, the latest time. It shows the
// progress, keeps the lease while nothing is recorded, and lets letters go ahead of the digest. ctx ends with the round, whole
// with the dispatch.
func (r *run) watch(ctx, whole context.Context) {
	letters := make(chan struct{}, 1)
	letters <- struct{}{}
	for beat := 0; pause(ctx, 200*time.Millisecond) == nil; beat++ {
		if r.options.Progress != nil {
			r.options.Progress(r.progress())
		}
		changed, err := r.changed(ctx, r.newsroom.db.Read, r.now())
		if changed && err == nil {
			r.recalled.Store(true)
		}
		if beat%5 != 4 {
			continue
		}
		select {
		case <-letters:
			go func() {
				// Trouble shows in the letters themselves, which are due again, and in the digest, which has the same relay.
				_, _ = r.newsroom.DispatchLetters(whole, r.options)
				letters <- struct{}{}
			}()
		default: // still at it
		}
		if beat%50 == 49 {
			r.recorder.keep()
		}
	}
	<-letters
}

func (r *run) progress() Progress {
	t := r.tally()
	return Progress{
		Newsletter: r.digest.Newsletter, Day: r.digest.Day, Prepared: r.prepared, Tally: t,
		Left: max(0, r.left-t.Sent-t.Failed-t.Doubtful-t.Skipped),
	}
}

// changed says whether the digest is not any more what this round began with.
func (r *run) changed(ctx context.Context, q querier, now time.Time) (bool, error) {
	d, err := scanDigest(q.QueryRowContext(ctx, `SELECT `+digestColumns+` FROM digests WHERE id = $1`, r.digest.ID).Scan)
	if err != nil {
		return false, fmt.Errorf("look at the digest again: %w", err)
	}
	return !d.Held.IsZero() || d.State != Ready || d.Revision != r.digest.Revision || !d.Began.Equal(r.digest.Began) ||
		!now.Before(d.Latest), nil
}

// begin notes when the sending of a digest began and reads its present state.
func (n *Newsroom) begin(ctx context.Context, now time.Time, d Digest) (Digest, error) {
	if d.Began.IsZero() {
		_, err := n.db.Write.ExecContext(ctx, `
			UPDATE digests SET began = $1 WHERE id = $2 AND began IS NULL AND held IS NULL AND state = 'ready'`, now.UnixMilli(), d.ID)
		if err != nil {
			return d, fmt.Errorf("begin sending: %w", err)
		}
	}
	return n.Digest(ctx, d.Newsletter, d.Day)
}

// refile finds a place for a delivery that is due and must not be sent as it is: out of the audience or without news, its
// reader is skipped; with another choice of topics, gets that variant.
func (r *run) refile(ctx context.Context, tx *sql.Tx, now time.Time, subscriber int64) error {
	var choice int64
	var topics string
	err := tx.QueryRowContext(ctx, `
		SELECT c.id, c.topics FROM audience a JOIN choices c ON c.id = a.choice WHERE a.newsletter = $1 AND a.subscriber = $2`,
		r.digest.Newsletter, subscriber).Scan(&choice, &topics)
	if errors.Is(err, sql.ErrNoRows) {
		r.skipped.Add(1)
		return settleSkipped(ctx, tx, now, r.digest.ID, subscriber, Due, "no longer subscribed")
	}
	if err != nil {
		return fmt.Errorf("read reader's choice: %w", err)
	}
	variant, err := r.newsroom.fit(ctx, tx, r.edition, choice, strings.Split(topics, ","))
	if err != nil {
		return err
	}
	if variant == 0 {
		r.skipped.Add(1)
		return settleSkipped(ctx, tx, now, r.digest.ID, subscriber, Due, "none of the chosen topics has news")
	}
	_, err = tx.ExecContext(ctx, `
		UPDATE deliveries SET variant = $1, due = $2 WHERE digest = $3 AND subscriber = $4 AND state = 'due'`,
		variant, now.UnixMilli(), r.digest.ID, subscriber)
	if err != nil {
		return fmt.Errorf("refile delivery: %w", err)
	}
	return nil
}

// settleSkipped records that a delivery is not needed any more. from is the state it must be in.
func settleSkipped(ctx context.Context, tx *sql.Tx, now time.Time, digest, subscriber int64, from State, why string) error {
	_, err := tx.ExecContext(ctx, `
		UPDATE deliveries SET state = 'skipped', due = NULL, settled = $1, reply = $2
		WHERE digest = $3 AND subscriber = $4 AND state = $5`,
		now.UnixMilli(), why, digest, subscriber, string(from))
	if err != nil {
		return fmt.Errorf("skip delivery: %w", err)
	}
	return nil
}

// expire gives up what is left when the latest time has come: yesterday's news is not sent tomorrow.
func (n *Newsroom) expire(ctx context.Context, now time.Time, d Digest) error {
	_, err := n.db.Write.ExecContext(ctx, `
		UPDATE deliveries SET state = 'expired', due = NULL, settled = $1 WHERE digest = $2 AND state = 'due'`, now.UnixMilli(), d.ID)
	if err != nil {
		return fmt.Errorf("expire deliveries: %w", err)
	}
	return n.finish(ctx, now, d, 0)
}

// dueNow says whether something of a digest could be sent now.
func (n *Newsroom) dueNow(ctx context.Context, now time.Time, d Digest) (due bool, err error) {
	err = n.db.Write.QueryRowContext(ctx, `
		SELECT EXISTS (SELECT 1 FROM deliveries WHERE digest = $1 AND due <= $2 AND state = 'due')
			OR EXISTS (SELECT 1 FROM deliveries WHERE digest = $1 AND due IS NULL AND state = 'due')`, d.ID, now.UnixMilli()).Scan(&due)
	if err != nil {
		return false, fmt.Errorf("look for what is due: %w", err)
	}
	return due, nil
}

// finish marks a digest as done when nothing of it is due or in the hands of another dispatcher; where doubtful deliveries
// are to be sent again, not before its latest time.
func (n *Newsroom) finish(ctx context.Context, now time.Time, d Digest, fence int64) error {
	resend := 0
	if l, ok := n.Newsletter(d.Newsletter); ok && l.Resend && now.Before(d.Latest) {
		resend = 1
	}
	_, err := n.db.Write.ExecContext(ctx, `
		UPDATE digests SET state = 'done' WHERE id = $1 AND state = 'ready' AND NOT EXISTS (
			SELECT 1 FROM deliveries d WHERE d.digest = $1 AND (d.state = 'due' OR d.state = 'doubtful' AND (
				CAST($2 AS BIGINT) = 1 OR d.fence IN (SELECT x.fence FROM dispatchers x WHERE x.fence <> $3 AND x.lease > $4))))`,
		d.ID, resend, fence, now.UnixMilli())
	if err != nil {
		return fmt.Errorf("finish digest: %w", err)
	}
	return nil
}
