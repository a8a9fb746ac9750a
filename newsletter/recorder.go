package newsletter

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"depesche/migrations"
	"depesche/newsletter/smtp"
)

// recorder writes down what happens to deliveries, for all connections together: what became of the last windows and the
// doubts of the next go into one transaction, so that safety costs one fsync for many messages (group commit).
//
// A connection orders windows ahead of its need and hands them in when every message in them is settled. Nothing it is given
// was not committed as doubtful first.
type recorder struct {
	run     *run
	records chan record
	done    chan struct{}
	broken  chan struct{} // closed when nothing can be written any more
	failure error         // why; read it after broken is closed
	journal *journal
	take    int64      // number of the last commit
	taken   []delivery // by it
	start   int64      // the subscriber after whom it begins on each shelf: several dispatchers keep out of each other's way
	cursor  position   // of the last delivery taken for its first try
	shelves int64      // how many there are
	retried time.Time  // when retries were last looked for
}

// position is a place in the order in which deliveries are sent: shelf by shelf, and on a shelf in the order of the
// subscribers, in which the tables are stored.
//
// A shelf is as many variants as the press keeps: so each is made once, however many there are, and memory stays within bounds.
type position struct {
	shelf, subscriber int64
	around            bool // the end was reached: what is left is before the start
}

// record is what a connection wants written: a window that is settled, or a window to come.
type record struct {
	settled *window
	order   *order
}

// order asks for a window of at most so many deliveries.
type order struct {
	most   int
	given  time.Time
	ahead  time.Duration // for which the connection has something to do from then on
	answer chan *window  // nil: there is nothing more to do now
}

var (
	// errFenced means that this dispatcher was declared dead, or an editor changed what it is at.
	errFenced = errors.New("another dispatcher has taken over")

	// errUnrecorded means that replies are in the journal that the database does not have.
	errUnrecorded = errors.New("not all replies could be recorded")
)

func newRecorder(ctx context.Context, r *run, j *journal) (*recorder, error) {
	x := &recorder{
		run: r, journal: j, records: make(chan record, 64), done: make(chan struct{}), broken: make(chan struct{}),
	}
	var variants int64
	err := r.newsroom.db.Read.QueryRowContext(ctx, `SELECT COALESCE(MAX(variant), 0) FROM variants WHERE digest = $1`, r.digest.ID).Scan(&variants)
	if err != nil {
		return nil, fmt.Errorf("count variants: %w", err)
	}
	x.shelves = variants/mostPrints + 1
	if x.start, err = x.place(ctx); err != nil {
		return nil, err
	}
	x.cursor.subscriber = x.start
	return x, nil
}

// place is where this dispatcher begins: at the first subscriber, or where others are at work halfway, at a quarter, at three quarters, and
// so on. Side by side at one place they would look up the same readers, of whom only one gets each.
func (r *recorder) place(ctx context.Context) (after int64, err error) {
	var others int64
	db, d := r.run.newsroom.db.Read, r.run.digest
	err = db.QueryRowContext(ctx, `SELECT COUNT(*) FROM dispatchers WHERE fence < $1 AND lease > $2 AND (digest = 0 OR digest = $3)`,
		r.run.fence, r.run.now().UnixMilli(), d.ID).Scan(&others)
	var first, last sql.NullInt64
	if err == nil && others > 0 {
		err = db.QueryRowContext(ctx, `SELECT MIN(subscriber), MAX(subscriber) FROM deliveries WHERE digest = $1`, d.ID).Scan(&first, &last)
	}
	if err != nil {
		return 0, fmt.Errorf("find a place to begin: %w", err)
	}
	return first.Int64 + int64(halves(others)*float64(last.Int64-first.Int64)), nil
}

// halves gives 0, 1/2, 1/4, 3/4, 1/8, 5/8 …: each as far as can be from those before.
func halves(n int64) (place float64) {
	for half := 0.5; n > 0; n, half = n/2, half/2 {
		place += half * float64(n%2)
	}
	return place
}

// order asks for the next window. The answer comes when its doubts are committed; ahead is how long the connection has something
// to do without it.
func (r *recorder) order(most int, ahead time.Duration) <-chan *window {
	o := &order{most: most, given: r.run.now(), ahead: ahead, answer: make(chan *window, 1)}
	select {
	case r.records <- record{order: o}:
	case <-r.broken:
		o.answer <- nil
	}
	return o.answer
}

// hand in a window in which nothing is open any more.
func (r *recorder) hand(w *window) {
	select {
	case r.records <- record{settled: w}:
	case <-r.broken: // its replies are in the journal: the next start finds them there
	}
}

// keep renews the lease while there is nothing to write.
func (r *recorder) keep() {
	select {
	case r.records <- record{}:
	default: // something is being written: the lease with it
	}
}

// work commits until the records are closed.
func (r *recorder) work() {
	defer close(r.done)
	for first := range r.records {
		r.commit(r.gather(first))
	}
}

// patience is how long a commit waits at most for others to share it.
const patience = 25 * time.Millisecond

// gather puts together what one commit writes: what comes until the first connection would soon have nothing to do.
func (r *recorder) gather(last record) []record {
	batch := []record{last}
	end := r.run.now().Add(patience)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for open := true; len(batch) < cap(r.records); batch = append(batch, last) {
		if o := last.order; o != nil && end.Sub(o.given) > o.ahead/2 {
			end = o.given.Add(o.ahead / 2)
			timer.Reset(end.Sub(r.run.now()))
		}
		select {
		case last, open = <-r.records:
		default:
			select {
			case last, open = <-r.records:
			case <-timer.C:
				return batch
			}
		}
		if !open {
			break
		}
	}
	return batch
}

// close ends the recorder once everything handed in is written.
func (r *recorder) close() {
	close(r.records)
	<-r.done
}

// failed tells whether nothing can be written any more.
func (r *recorder) failed() bool {
	select {
	case <-r.broken:
		return true
	default:
		return false
	}
}

// commit writes a batch. It is not to be interrupted: a reply that has come must be kept, whoever wants to stop.
func (r *recorder) commit(batch []record) {
	var settled []*window
	var orders []*order
	for _, b := range batch {
		if b.settled != nil {
			settled = append(settled, b.settled)
		}
		if b.order != nil {
			orders = append(orders, b.order)
		}
	}
	var windows []*window
	var err error
	if !r.failed() {
		windows, err = r.transact(settled, orders)
	}
	if err != nil {
		r.failure = fmt.Errorf("%w: %w", errUnrecorded, err)
		close(r.broken)
		r.run.stop()
	}
	if !r.failed() {
		for _, w := range settled {
			r.retire(w)
		}
	}
	for i, o := range orders {
		if i < len(windows) {
			o.answer <- windows[i]
		} else {
			o.answer <- nil
		}
	}
}

// retire gives the slots of a settled window back.
func (r *recorder) retire(w *window) {
	for i := range w.deliveries {
		r.journal.release(w.deliveries[i].slot)
	}
	r.run.recycle(w)
}

// transact writes what has settled, and doubts for the orders, in one transaction.
func (r *recorder) transact(settled []*window, orders []*order) ([]*window, error) {
	ctx := context.Background()
	now := r.run.options.Now()
	tx, err := r.run.newsroom.db.Write.BeginTx(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("record replies: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit this does nothing
	r.take++
	if err := r.sign(ctx, tx, now); err != nil {
		return nil, err
	}
	for _, w := range settled {
		if err := r.settle(ctx, tx, now, w); err != nil {
			return nil, err
		}
	}
	if err := r.fetch(ctx, tx, now, orders); err != nil {
		r.vacate()
		return nil, err
	}
	if err := tx.Commit(); err != nil && !r.committed(ctx) {
		return nil, fmt.Errorf("record replies: commit: %w", err) // the slots stay as they are: nobody knows
	}
	r.run.commits.Add(1)
	return r.deal(now, orders), nil
}

// vacate frees the slots of deliveries whose doubts were not written.
func (r *recorder) vacate() {
	for i := range r.taken {
		if slot := r.taken[i].slot; slot != nil {
			r.journal.release(slot)
		}
	}
}

// sign renews the lease and says how far the dispatcher is. It is the fence of the whole transaction: whoever was declared
// dead finds no row to sign and writes nothing.
func (r *recorder) sign(ctx context.Context, tx *sql.Tx, now time.Time) error {
	result, err := tx.ExecContext(ctx, `
		UPDATE dispatchers SET lease = $1, take = $2, sent = $3, began = CASE WHEN digest = $4 THEN began ELSE $5 END, digest = $4
		WHERE fence = $6`, now.Add(lease).UnixMilli(), r.take, r.run.sent.Load(), r.run.digest.ID, now.UnixMilli(), r.run.fence)
	if err != nil {
		return fmt.Errorf("renew the dispatcher's lease: %w", err)
	}
	if signed, err := result.RowsAffected(); err != nil || signed == 0 {
		return errors.Join(err, errFenced)
	}
	return nil
}

// committed reads back whether a commit whose answer was lost has happened: it is never assumed.
func (r *recorder) committed(ctx context.Context) bool {
	for try := range 10 {
		if try > 0 && pause(ctx, time.Second) != nil {
			return false
		}
		var take int64
		err := r.run.newsroom.db.Write.QueryRowContext(ctx, `SELECT take FROM dispatchers WHERE fence = $1`, r.run.fence).Scan(&take)
		if err == nil {
			return take == r.take
		}
		if errors.Is(err, sql.ErrNoRows) {
			return false
		}
	}
	return false
}

// fetch takes deliveries for the orders: their doubts are written, and they have slots in the journal.
func (r *recorder) fetch(ctx context.Context, tx *sql.Tx, now time.Time, orders []*order) error {
	r.taken = r.taken[:0]
	want := 0
	for _, o := range orders {
		want += o.most
	}
	want = min(want, len(r.journal.free))
	if want == 0 || r.run.over() {
		return nil
	}
	for more := true; more && len(r.taken) < want; {
		before := len(r.taken)
		var err error
		if more, err = r.next(ctx, tx, now, want-before); err == nil {
			var admitted []delivery
			admitted, err = r.run.manners.admit(ctx, tx, now, r.taken[before:])
			r.taken = r.taken[:before+len(admitted)]
		}
		for i := before; i < len(r.taken); i++ {
			r.taken[i].slot = r.journal.take(&r.taken[i])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// next takes some deliveries: those whose retry is due every now and then, first tries in their order, and at the end
// whatever is due again. more says whether asking again may bring others.
func (r *recorder) next(ctx context.Context, tx *sql.Tx, now time.Time, most int) (more bool, err error) {
	before := len(r.taken)
	if now.Sub(r.retried) < retryGlance {
		if more, err = r.doubt(ctx, tx, now, most, firstTries); err != nil || more {
			return more, err
		}
		if r.start > 0 && !r.cursor.around {
			r.cursor = position{shelf: r.cursor.shelf, around: true}
			return true, nil
		}
		if r.cursor.shelf+1 < r.shelves {
			r.cursor = position{shelf: r.cursor.shelf + 1, subscriber: r.start}
			return true, nil
		}
		if len(r.taken) > before {
			return true, nil
		}
	}
	more, err = r.doubt(ctx, tx, now, most, laterTries)
	more = more || now.Sub(r.retried) >= retryGlance
	r.retried = now
	return more, err
}

// retryGlance is how often a busy dispatcher looks for retries among the first tries.
const retryGlance = 5 * time.Second

// tries is which deliveries a statement is about.
type tries int

const (
	firstTries tries = iota
	laterTries
)

// bounds are the values for $3 to $6.
func (r *recorder) bounds(t tries, now time.Time) []any {
	const all = math.MaxInt64
	if t == laterTries {
		return []any{int64(-1), now.UnixMilli(), int64(0), int64(all)}
	}
	last := int64(all)
	if r.cursor.around {
		last = r.start
	}
	return []any{r.cursor.subscriber, last, r.cursor.shelf * mostPrints, (r.cursor.shelf + 1) * mostPrints}
}

// The statement that finds deliveries. Every condition of sending is in it: the delivery is still due, this dispatcher lives, the
// digest is neither held nor revised nor renewed nor too late; and the reader is in the audience with a choice that means this
// variant, or else nothing is told of the reader. Candidates are those after $3, up to $4, of the variants from $5 to before $6.
//
// What is told is one text, because each column of a result costs as much as looking the reader up. What a choice means is asked for in
// a subquery: as a join, PostgreSQL with no statistics yet reads all the choices of the digest for each reader.
const (
	told = `
	SELECT d.subscriber, COALESCE((
		SELECT d.variant || ' ' || d.attempts || ' ' || a.nonce || ' ' || COALESCE(a.signed_up, 0) || ' ' || a.address
		FROM audience a WHERE a.newsletter = $1 AND a.subscriber = d.subscriber
			AND d.variant = (SELECT c.variant FROM digest_choices c WHERE c.digest = d.digest AND c.choice = a.choice)), '')
	FROM deliveries d`
	firstCandidates = `
	WHERE d.digest = $2 AND d.subscriber > $3 AND d.subscriber <= $4 AND d.variant >= $5 AND d.variant < $6
		AND d.state = 'due' AND d.due IS NULL`
	laterCandidates = `
	WHERE d.digest = $2 AND d.due > $3 AND d.due <= $4 AND d.variant >= $5 AND d.variant < $6 AND d.state = 'due'`
	sendable = `
		AND EXISTS (SELECT 1 FROM dispatchers x WHERE x.fence = $7)
		AND EXISTS (
			SELECT 1 FROM digests g
			WHERE g.id = $2 AND g.state = 'ready' AND g.revision = $8 AND g.held IS NULL AND g.latest > $9 AND g.began = $10)`
	inPlace = `
	ORDER BY d.subscriber LIMIT $11`
	asTheyComeDue = `
	ORDER BY d.due, d.subscriber LIMIT $11`

	// On PostgreSQL others write meanwhile, so the very statement that looks writes the doubts.
	next = `
	WITH next (subscriber, told) AS MATERIALIZED (`
	written = `
	FOR UPDATE OF d SKIP LOCKED), written AS (
		UPDATE deliveries SET state = 'doubtful', due = NULL, fence = $7, take = $12, revision = $8, settled = $9
		FROM next WHERE deliveries.digest = $2 AND deliveries.subscriber = next.subscriber AND deliveries.state = 'due' AND next.told <> '')
	SELECT subscriber, told FROM next`
)

// look is the statement that finds deliveries; doubting, that it writes their doubts, too.
func (t tries) look(doubting bool) string {
	switch {
	case t == firstTries && doubting:
		return next + told + firstCandidates + sendable + inPlace + written
	case t == firstTries:
		return told + firstCandidates + sendable + inPlace
	case doubting:
		return next + told + laterCandidates + sendable + asTheyComeDue + written
	}
	return told + laterCandidates + sendable + asTheyComeDue
}

// doubtStretch writes the doubts of a stretch of the table in which everything due was found to be sendable. It is for SQLite,
// where nobody else writes from the beginning of a transaction to its end, and a row by its place costs half of a row by a list.
const doubtStretch = `
	UPDATE deliveries SET state = 'doubtful', due = NULL, fence = $1, take = $2, revision = $3, settled = $4
	WHERE digest = $5 AND subscriber >= $6 AND subscriber <= $7 AND variant >= $8 AND variant < $9 AND state = 'due'
		AND (due IS NULL) = $10`

// tell takes apart what is told of a reader.
func (d *delivery) tell(words string) error {
	var signedUp int64
	for _, number := range []*int64{&d.variant, &d.attempts, &d.nonce, &signedUp} {
		word, rest, _ := strings.Cut(words, " ")
		n, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			return fmt.Errorf("read reader %d: %w", d.subscriber, err)
		}
		*number, words = n, rest
	}
	d.signedUp, d.address = time.UnixMilli(signedUp), words
	return nil
}

// doubt writes the doubts of some deliveries. Those of the candidates that must not be sent are looked at one by one: their
// reader has left, or has chosen other topics. more says whether there may be other candidates.
func (r *recorder) doubt(ctx context.Context, tx *sql.Tx, now time.Time, most int, t tries) (more bool, err error) {
	d, one := r.run.digest, r.run.newsroom.db.Kind != migrations.SQLite
	args := append(append([]any{d.Newsletter, d.ID}, r.bounds(t, now)...),
		r.run.fence, d.Revision, now.UnixMilli(), d.Began.UnixMilli(), most)
	if one {
		args = append(args, r.take)
	}
	before := len(r.taken)
	left, err := r.look(ctx, tx, t.look(one), args)
	if err != nil {
		return false, fmt.Errorf("write doubts: %w", err)
	}
	taken := r.taken[before:]
	more = len(taken)+len(left) == most
	if t == firstTries {
		for _, x := range taken {
			r.cursor.subscriber = max(r.cursor.subscriber, x.subscriber)
		}
		for _, subscriber := range left {
			r.cursor.subscriber = max(r.cursor.subscriber, subscriber)
		}
	}
	for _, subscriber := range left {
		if err := r.run.refile(ctx, tx, now, subscriber); err != nil {
			return false, err
		}
	}
	if !one {
		err = r.doubtStretches(ctx, tx, now, t, taken)
	}
	return more, err
}

// look adds to what is taken those that may be sent. left are the subscribers of the others.
func (r *recorder) look(ctx context.Context, tx *sql.Tx, query string, args []any) (left []int64, err error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var subscriber int64
	var words string
	for rows.Next() {
		if err := rows.Scan(&subscriber, &words); err != nil {
			return left, err
		}
		if words == "" {
			left = append(left, subscriber)
			continue
		}
		d := delivery{digest: r.run.digest.ID, subscriber: subscriber}
		if err := d.tell(words); err != nil {
			return left, err
		}
		r.taken = append(r.taken, d)
	}
	return left, rows.Err()
}

// doubtStretches writes the doubts of what was found: first tries lie side by side, others anywhere.
func (r *recorder) doubtStretches(ctx context.Context, tx *sql.Tx, now time.Time, t tries, taken []delivery) error {
	for len(taken) > 0 {
		n := 1
		if t == firstTries {
			n = len(taken)
		}
		d, bounds := r.run.digest, r.bounds(t, now)
		result, err := tx.ExecContext(ctx, doubtStretch, r.run.fence, r.take, d.Revision, now.UnixMilli(),
			d.ID, taken[0].subscriber, taken[n-1].subscriber, bounds[2], bounds[3], t == firstTries)
		if err != nil {
			return fmt.Errorf("write doubts: %w", err)
		}
		if written, err := result.RowsAffected(); err != nil || int(written) != n {
			return errors.Join(err, fmt.Errorf("write doubts: %d of %d were due", written, n))
		}
		taken = taken[n:]
	}
	return nil
}

// deal makes windows of what was taken, a stretch of it for each order: no delivery of another window lies between two of one.
func (r *recorder) deal(now time.Time, orders []*order) []*window {
	taken := r.taken
	slices.SortFunc(taken, func(x, y delivery) int { return cmp.Compare(x.subscriber, y.subscriber) })
	windows := make([]*window, len(orders))
	for i, o := range orders {
		n := min(o.most, len(taken))
		if n == 0 {
			break
		}
		windows[i] = r.run.window(now, r.take, taken[:n])
		taken = taken[n:]
	}
	return windows
}

// settle records a window: what did not simply arrive one by one, then all the rest of the stretch in one statement.
func (r *recorder) settle(ctx context.Context, tx *sql.Tx, now time.Time, w *window) error {
	var arrived []*delivery
	for i := range w.deliveries {
		d := &w.deliveries[i]
		if d.outcome.Verdict == smtp.Sent {
			arrived = append(arrived, d)
			continue
		}
		if err := r.settleOne(ctx, tx, now, d); err != nil {
			return err
		}
	}
	if len(arrived) == 0 {
		return nil
	}
	first, last := arrived[0], arrived[len(arrived)-1]
	result, err := tx.ExecContext(ctx, recordSent,
		now.UnixMilli(), first.digest, first.subscriber, last.subscriber, r.run.fence, w.take)
	if err != nil {
		return fmt.Errorf("record deliveries that were sent: %w", err)
	}
	recorded, err := result.RowsAffected()
	if err == nil && int(recorded) != len(arrived) {
		err = fmt.Errorf("record deliveries that were sent: %d of %d were in hand", recorded, len(arrived))
	}
	return err
}

// recordSent records a stretch of deliveries, those that are still in hand.
const recordSent = `
	UPDATE deliveries SET state = 'sent', attempts = attempts + 1, settled = $1, code = 250, reply = ''
	WHERE digest = $2 AND subscriber >= $3 AND subscriber <= $4 AND fence = $5 AND take = $6 AND state = 'doubtful'`

func (r *recorder) settleOne(ctx context.Context, tx *sql.Tx, now time.Time, d *delivery) error {
	if d.skipped != "" {
		return settleSkipped(ctx, tx, now, d.digest, d.subscriber, Doubtful, d.skipped)
	}
	return r.run.newsroom.settle(ctx, tx, now, d, r.run.fence, d.again(now))
}

// settle records the outcome of one delivery that is in the hands of the fence's holder. again is when it is due if it is.
// It belongs to no take then: one that stays doubtful must not be counted among those of its window that arrived.
func (n *Newsroom) settle(ctx context.Context, tx *sql.Tx, now time.Time, d *delivery, fence int64, again time.Time) error {
	state, counted, due, at := Due, 0, stored(again), sql.NullInt64{}
	switch d.outcome.Verdict {
	case smtp.Sent, smtp.Failed, smtp.Doubtful:
		state, counted, due, at = State(d.outcome.Verdict), 1, sql.NullInt64{}, stored(now)
	case smtp.Later:
		counted = 1
	}
	result, err := tx.ExecContext(ctx, `
		UPDATE deliveries SET state = $1, attempts = attempts + CAST($2 AS BIGINT), due = $3, settled = $4, code = $5, reply = $6,
			revision = CASE WHEN $1 = 'due' THEN 0 ELSE revision END, take = 0
		WHERE digest = $7 AND subscriber = $8 AND fence = $9 AND state = 'doubtful'`,
		string(state), counted, due, at, d.reply.Code, replyText(d.reply), d.digest, d.subscriber, fence)
	if err != nil {
		return fmt.Errorf("record reply: %w", err)
	}
	if changed, err := result.RowsAffected(); err != nil || changed == 0 || !d.outcome.Suppress {
		return err
	}
	return n.reportDead(ctx, tx, now, d.subscriber, d.reply)
}

// replyText is what an editor reads about a delivery: the server's words, or what became of the connection.
func replyText(r smtp.Reply) string {
	switch {
	case r.Code != 0:
		return strings.TrimSpace(r.Enhanced + " " + r.Text)
	case r.Err != nil:
		return string(r.Phase) + ": " + r.Err.Error()
	}
	return ""
}

// retryAfter is when a deferred message is tried again: two tries in the first hour, then every two (RFC 5321 §4.5.4.1).
// Greylisting servers say so and want to see us again after some minutes (RFC 6647 §4).
func retryAfter(attempts int64, r smtp.Reply) time.Duration {
	switch {
	case attempts <= 1 && strings.Contains(strings.ToLower(r.Text), "greylist"):
		return 6 * time.Minute
	case attempts <= 2:
		return 30 * time.Minute
	}
	return 2 * time.Hour
}
