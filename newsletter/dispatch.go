package newsletter

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"depesche/migrations"
	"depesche/newsletter/render"
	"depesche/newsletter/smtp"
	"depesche/subscribers"
)

// lease is how long a claimed delivery belongs to the dispatcher that claimed it; a living one renews it.
const lease = time.Minute

// round is how many deliveries a connection is given at a time.
const round = 100

// Tally is what a dispatch has done.
type Tally struct {
	Sent     int      `json:"sent"`
	Failed   int      `json:"failed"`
	Later    int      `json:"later"`    // deferred, or lost before the final dot: due again
	Doubtful int      `json:"doubtful"` // the reply was lost
	Skipped  int      `json:"skipped"`  // no longer wanted when it was their turn
	Alerts   []string `json:"alerts,omitempty"`
}

// Options of a dispatch.
type Options struct {
	Now      func() time.Time
	Patience time.Duration       // how long a relay that is away is waited for; the latest time ends it in any case
	Progress func(Tally, Report) // called after every round
}

// job is one delivery in a dispatcher's hands.
type job struct {
	subscriber int64
	variant    int64
	attempts   int64
	fence      int64
	revision   int64
	address    string
	nonce      int64
	signedUp   time.Time
	present    bool // in the audience
}

// Dispatch sends what is due of a digest. It returns when nothing of it is due now, when it is held, when its latest time
// has come, when ctx ends, or when the relay cannot be had: a *smtp.Refusal if it will not have us.
//
// Killed at any moment, it leaves claimed deliveries, which are due again when their lease is over (on SQLite: at once, the
// lock is free), and at most one doubtful delivery a connection.
func (n *Newsroom) Dispatch(ctx context.Context, d Digest, o Options) (Tally, error) {
	r := &run{newsroom: n, options: o, pace: newPace(n.PerSecond)}
	defer r.close()
	for range max(n.Connections, 1) {
		r.wires = append(r.wires, &wire{relay: n.Relay, most: n.PerSession, pace: r.pace})
	}
	var away time.Duration // the next wait for the relay
	var waited time.Duration
	for {
		more, err := r.round(ctx, d)
		var gone *awayError
		switch {
		case errors.As(err, &gone) && waited < o.Patience:
			away = min(max(2*away, time.Second), time.Minute)
			waited += away
			if err := pause(ctx, away); err != nil {
				return r.tally, nil
			}
		case err != nil:
			return r.tally, err
		case !more || r.paused:
			return r.tally, nil
		default:
			away, waited = 0, 0
		}
	}
}

// run is one dispatch at work.
type run struct {
	newsroom *Newsroom
	options  Options
	pace     *pace
	wires    []*wire
	edition  *edition
	variants map[int64]*render.Message
	mu       sync.Mutex // guards tally and paused
	tally    Tally
	paused   bool // the server finds fault with us: going on would only make it worse
}

func (r *run) close() {
	for _, w := range r.wires {
		w.close()
	}
}

// round claims some deliveries and sends them. more says whether it is worth asking for another round.
func (r *run) round(ctx context.Context, d Digest) (more bool, err error) {
	n := r.newsroom
	if ctx.Err() != nil {
		return false, nil
	}
	now := r.options.Now()
	d, err = n.begin(ctx, now, d)
	if err != nil || !d.Held.IsZero() || d.State != Ready {
		return false, err
	}
	if !now.Before(d.Latest) {
		return false, n.expire(ctx, now, d)
	}
	if err := r.edit(ctx, d); err != nil {
		return false, err
	}
	fence := migrations.NewKey(now)
	jobs, err := n.claim(ctx, now, d, fence, round*len(r.wires))
	if err != nil || len(jobs) == 0 {
		return false, errors.Join(err, n.finish(ctx, now, d))
	}
	stop := n.keep(ctx, d, fence, r.options.Now)
	err = r.deliver(ctx, d, jobs)
	stop()
	// Whatever was claimed and not sent, for whatever reason, is due again.
	_, releaseErr := n.db.Write.ExecContext(context.WithoutCancel(ctx), `
		UPDATE deliveries SET state = 'due' WHERE digest = $1 AND fence = $2 AND state = 'claimed'`, d.ID, fence)
	if releaseErr != nil {
		err = errors.Join(err, fmt.Errorf("release claimed deliveries: %w", releaseErr))
	}
	if r.options.Progress != nil && err == nil {
		report, err := n.Report(ctx, d)
		if err != nil {
			return false, err
		}
		r.options.Progress(r.tally, report)
	}
	return true, err
}

// edit opens the digest's edition, anew when there is a new revision or date.
func (r *run) edit(ctx context.Context, d Digest) error {
	if r.edition != nil && r.edition.digest.Revision == d.Revision && r.edition.digest.Began.Equal(d.Began) {
		return nil
	}
	e, err := r.newsroom.edition(ctx, d)
	if err != nil {
		return err
	}
	r.edition, r.variants = e, map[int64]*render.Message{}
	return nil
}

// deliver sends the jobs over all connections and returns when each is settled.
func (r *run) deliver(ctx context.Context, d Digest, jobs []job) error {
	if err := r.prepare(ctx, d, jobs); err != nil {
		return err
	}
	recorder := newRecorder(r.newsroom, d, r.options.Now)
	defer recorder.close()
	queue := make(chan job)
	failures := make(chan error, len(r.wires))
	stop, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, w := range r.wires {
		go func() {
			err := r.work(ctx, stop, w, recorder, queue)
			if err != nil {
				cancel() // the others finish the message they are at
			}
			failures <- err
		}()
	}
	for _, j := range jobs {
		select {
		case queue <- j:
			continue
		case <-stop.Done():
		}
		break
	}
	close(queue)
	var first error // the others stopped because of it, or say the same
	for range r.wires {
		if err := <-failures; first == nil {
			first = err
		}
	}
	return first
}

// prepare builds the messages of the variants the jobs need; the jobs come in the order of their variants, so only few
// are kept.
func (r *run) prepare(ctx context.Context, d Digest, jobs []job) error {
	needed := map[int64]bool{}
	for _, j := range jobs {
		needed[j.variant] = true
	}
	for number := range r.variants {
		if !needed[number] {
			delete(r.variants, number)
		}
	}
	for number := range needed {
		if _, built := r.variants[number]; built {
			continue
		}
		var topics string
		err := r.newsroom.db.Read.QueryRowContext(ctx, `SELECT topics FROM variants WHERE digest = $1 AND variant = $2`, d.ID, number).Scan(&topics)
		if err != nil {
			return fmt.Errorf("read variant %d: %w", number, err)
		}
		v, err := r.edition.variant(number, strings.Split(topics, ","))
		if errors.Is(err, ErrNothingLeft) {
			r.variants[number] = nil
			continue
		}
		if err != nil {
			return err
		}
		if r.variants[number], err = r.edition.message(v); err != nil {
			return fmt.Errorf("build variant %d: %w", number, err)
		}
	}
	return nil
}

// grace is how long a message that is on the wire may take to finish after the process was told to stop.
const grace = 8 * time.Second

// work sends jobs over one connection, one after the other, until the queue is closed. The outcome of each is written down
// together with the doubt of the next.
func (r *run) work(ctx, stop context.Context, w *wire, recorder *recorder, queue <-chan job) (err error) {
	wireCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		if pause(wireCtx, grace) == nil {
			cancel()
		}
	})()
	var last *settled
	defer func() { err = errors.Join(err, recorder.write(last, nil)) }()
	var buffer []byte
	for j := range queue {
		if stop.Err() != nil {
			return nil
		}
		j.revision = r.edition.digest.Revision
		message := r.variants[j.variant]
		if !j.present || message == nil {
			if err := r.skip(recorder, j, message == nil); err != nil {
				return err
			}
			continue
		}
		if buffer, err = r.splice(buffer[:0], message, j); err != nil {
			last = r.unsendable(recorder, last, j, err)
			continue
		}
		var unwritten error // what cannot be written down must not be sent: the run ends
		envelope := smtp.Envelope{From: r.sender(j), To: j.address}
		reply, err := w.send(wireCtx, envelope, buffer, func() error {
			err := recorder.write(last, &j)
			if err != nil && !errors.Is(err, smtp.ErrSkip) {
				unwritten = err
				return err
			}
			last = nil
			return err
		})
		if err := errors.Join(err, unwritten); err != nil {
			return err
		}
		if errors.Is(reply.Err, smtp.ErrSkip) {
			r.count(func(t *Tally) { t.Skipped++ })
			continue
		}
		if last != nil { // no doubt was written: the last outcome waits no longer
			if err := recorder.write(last, nil); err != nil {
				return err
			}
		}
		last = r.judge(j, reply)
	}
	return nil
}

// judge turns a reply into what follows from it.
func (r *run) judge(j job, reply smtp.Reply) *settled {
	outcome := smtp.Judge(reply)
	r.count(func(t *Tally) {
		switch outcome.Verdict {
		case smtp.Sent:
			t.Sent++
		case smtp.Failed:
			t.Failed++
		case smtp.Doubtful:
			t.Doubtful++
		default:
			t.Later++
		}
		if outcome.Pause && !r.paused {
			r.paused = true
			t.Alerts = append(t.Alerts, fmt.Sprintf("the server finds fault with the sender, nobody is mailed until the next run: %d %s", reply.Code, reply.Text))
		}
	})
	return &settled{job: j, outcome: outcome, reply: reply, revision: j.revision}
}

// skip settles a delivery nobody wants any more, or in which nothing is left.
func (r *run) skip(recorder *recorder, j job, empty bool) error {
	r.count(func(t *Tally) { t.Skipped++ })
	return r.newsroom.db.Tx(context.Background(), func(tx *sql.Tx) error {
		now := r.options.Now()
		if j.present && empty {
			return settleSkipped(context.Background(), tx, now, recorder.digest, &j, "everything in it was withdrawn")
		}
		return r.newsroom.refile(context.Background(), tx, now, recorder.digest, &j)
	})
}

// unsendable settles a delivery whose message cannot be made: an address that must not stand in a header, for instance.
func (r *run) unsendable(recorder *recorder, last *settled, j job, err error) *settled {
	r.count(func(t *Tally) {
		t.Failed++
		t.Alerts = append(t.Alerts, fmt.Sprintf("the mail for reader %d cannot be made: %v", j.subscriber, err))
	})
	if last != nil {
		if err := recorder.write(last, nil); err != nil {
			return last
		}
	}
	return &settled{
		job: j, outcome: smtp.Outcome{Verdict: smtp.Failed},
		reply: smtp.Reply{Phase: smtp.PhaseMail, Err: err},
	}
}

func (r *run) count(change func(*Tally)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.tally)
}

// splice puts a reader's personal values into the variant's message.
func (r *run) splice(buffer []byte, m *render.Message, j job) ([]byte, error) {
	keys, newsletter := r.newsroom.keys, r.edition.digest.Newsletter
	return m.Splice(buffer, &render.Personal{
		To:          j.address,
		MessageID:   []byte(keys.MessageID(r.edition.digest.ID, r.edition.digest.Revision, j.subscriber)),
		Unsubscribe: []byte(keys.Token(subscribers.ToUnsubscribe, j.subscriber, newsletter, j.nonce)),
		Preferences: []byte(keys.Token(subscribers.ToPrefer, j.subscriber, newsletter, j.nonce)),
		Since:       j.signedUp.In(r.edition.zone),
	})
}

// sender is the envelope sender: the same for a reader from day to day, which greylisting servers remember, and telling
// whose mail it was if it comes back.
func (r *run) sender(j job) string {
	return r.newsroom.keys.Sender(r.edition.digest.Newsletter, j.subscriber) + "@" + r.edition.frozen.Senders.BounceDomain
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

// claim takes deliveries that are due, in the order of their variants, for a lease.
func (n *Newsroom) claim(ctx context.Context, now time.Time, d Digest, fence int64, most int) ([]job, error) {
	_, err := n.db.Write.ExecContext(ctx, `
		WITH next AS MATERIALIZED (
			SELECT subscriber FROM deliveries WHERE digest = $1 AND state = 'due' AND due <= $2
			ORDER BY variant, subscriber LIMIT $3`+n.db.SkipLocked()+`)
		UPDATE deliveries SET state = 'claimed', fence = $4, lease = $5
		WHERE digest = $1 AND subscriber IN (SELECT subscriber FROM next) AND state = 'due'`,
		d.ID, now.UnixMilli(), most, fence, now.Add(lease).UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("claim deliveries: %w", err)
	}
	jobs, err := all(ctx, n.db.Write, func(scan func(...any) error) (job, error) {
		var j job
		var address sql.NullString
		var nonce, signedUp sql.NullInt64
		err := scan(&j.subscriber, &j.variant, &j.attempts, &address, &nonce, &signedUp)
		j.fence, j.address, j.present = fence, address.String, address.Valid
		j.nonce, j.signedUp = nonce.Int64, instant(signedUp)
		return j, err
	}, `SELECT d.subscriber, d.variant, d.attempts, a.address, a.nonce, a.signed_up
		FROM deliveries d LEFT JOIN audience a ON a.subscriber = d.subscriber AND a.newsletter = $1
		WHERE d.digest = $2 AND d.state = 'claimed' AND d.fence = $3
		ORDER BY d.variant, d.subscriber`, d.Newsletter, d.ID, fence)
	if err != nil {
		return nil, fmt.Errorf("read claimed deliveries: %w", err)
	}
	return jobs, nil
}

// keep renews the lease of a round while it lasts. The function it returns ends that.
func (n *Newsroom) keep(ctx context.Context, d Digest, fence int64, clock func() time.Time) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for pause(ctx, lease/3) == nil {
			// A failure shows at the next doubt: a lease that was lost has another fence.
			_, _ = n.db.Write.ExecContext(ctx, `
				UPDATE deliveries SET lease = $1 WHERE digest = $2 AND fence = $3 AND state IN ('claimed', 'doubtful')`,
				clock().Add(lease).UnixMilli(), d.ID, fence)
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// refile finds a place for a claimed delivery whose conditions have changed: out of the audience or without news, it is
// skipped; with another choice of topics, it gets that variant; otherwise (held, revised) it is due again.
func (n *Newsroom) refile(ctx context.Context, tx *sql.Tx, now time.Time, d Digest, j *job) error {
	var choice int64
	var topics string
	err := tx.QueryRowContext(ctx, `
		SELECT c.id, c.topics FROM audience a JOIN choices c ON c.id = a.choice WHERE a.newsletter = $1 AND a.subscriber = $2`,
		d.Newsletter, j.subscriber).Scan(&choice, &topics)
	if errors.Is(err, sql.ErrNoRows) {
		return settleSkipped(ctx, tx, now, d, j, "no longer subscribed")
	}
	if err != nil {
		return fmt.Errorf("read reader's choice: %w", err)
	}
	e, err := n.edition(ctx, d)
	if err != nil {
		return err
	}
	variant, err := n.fit(ctx, tx, e, choice, strings.Split(topics, ","))
	if err != nil {
		return err
	}
	if variant == 0 {
		return settleSkipped(ctx, tx, now, d, j, "none of the chosen topics has news")
	}
	_, err = tx.ExecContext(ctx, `
		UPDATE deliveries SET state = 'due', variant = $1 WHERE digest = $2 AND subscriber = $3 AND fence = $4 AND state = 'claimed'`,
		variant, d.ID, j.subscriber, j.fence)
	if err != nil {
		return fmt.Errorf("refile delivery: %w", err)
	}
	return nil
}

func settleSkipped(ctx context.Context, tx *sql.Tx, now time.Time, d Digest, j *job, why string) error {
	_, err := tx.ExecContext(ctx, `
		UPDATE deliveries SET state = 'skipped', settled = $1, reply = $2
		WHERE digest = $3 AND subscriber = $4 AND fence = $5 AND state = 'claimed'`,
		now.UnixMilli(), why, d.ID, j.subscriber, j.fence)
	if err != nil {
		return fmt.Errorf("skip delivery: %w", err)
	}
	return nil
}

// recover gives back what the dead held: on SQLite, where the lock of the dispatcher is ours, all of it; on PostgreSQL what
// has outlived its lease. Doubtful deliveries stay so unless the newsletter says they are to be sent again.
func (n *Newsroom) recover(ctx context.Context, now time.Time, d Digest, resend, locked bool) error {
	ended := now.UnixMilli()
	if locked {
		ended = 1 << 62
	}
	_, err := n.db.Write.ExecContext(ctx, `UPDATE deliveries SET state = 'due' WHERE digest = $1 AND state = 'claimed' AND lease < $2`, d.ID, ended)
	if err == nil && resend {
		_, err = n.db.Write.ExecContext(ctx, `UPDATE deliveries SET state = 'due' WHERE digest = $1 AND state = 'doubtful' AND lease < $2`, d.ID, ended)
	}
	if err != nil {
		return fmt.Errorf("recover deliveries: %w", err)
	}
	return nil
}

// expire gives up what is left when the latest time has come: yesterday's news is not sent tomorrow.
func (n *Newsroom) expire(ctx context.Context, now time.Time, d Digest) error {
	_, err := n.db.Write.ExecContext(ctx, `
		UPDATE deliveries SET state = 'expired', settled = $1
		WHERE digest = $2 AND (state = 'due' OR state = 'claimed' AND lease < $1)`, now.UnixMilli(), d.ID)
	if err != nil {
		return fmt.Errorf("expire deliveries: %w", err)
	}
	return n.finish(ctx, now, d)
}

// finish marks a digest as done when nothing of it is left to send.
// Where doubtful deliveries are sent again, they are left too, until the latest time.
func (n *Newsroom) finish(ctx context.Context, now time.Time, d Digest) error {
	open := ""
	if l, ok := n.Newsletter(d.Newsletter); ok && l.Resend && now.Before(d.Latest) {
		open = string(Doubtful)
	}
	_, err := n.db.Write.ExecContext(ctx, `
		UPDATE digests SET state = 'done' WHERE id = $1 AND state = 'ready'
			AND NOT EXISTS (SELECT 1 FROM deliveries WHERE digest = $1 AND state = 'due')
			AND NOT EXISTS (SELECT 1 FROM deliveries WHERE digest = $1 AND state IN ('claimed', $2))`, d.ID, open)
	if err != nil {
		return fmt.Errorf("finish digest: %w", err)
	}
	return nil
}
