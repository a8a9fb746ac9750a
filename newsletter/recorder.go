package newsletter

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"depesche/newsletter/smtp"
)

// recorder writes down what happens to deliveries, for all connections together: replies that came and doubts about to
// arise go into one transaction, so that safety costs one fsync for many messages and not one each.
//
// A connection hands in the reply to its last message together with the doubt of its next one, before that one's final dot.
// So at most one delivery of a connection is doubtful at any moment, and after a kill just that one stays so.
type recorder struct {
	newsroom *Newsroom
	digest   Digest
	clock    func() time.Time
	records  chan record
	done     chan struct{}
}

// record is what one connection wants written.
type record struct {
	settled *settled // the outcome of its last message, nil if none
	doubt   *job     // the message whose dot is to leave next, nil if none
	answer  chan error
}

// settled is a delivery with its outcome.
type settled struct {
	job
	outcome  smtp.Outcome
	reply    smtp.Reply
	revision int64
}

// errNotHeld is what a doubt gets when the delivery is not this dispatcher's to send any more.
var errNotHeld = fmt.Errorf("conditions have changed: %w", smtp.ErrSkip)

func newRecorder(n *Newsroom, d Digest, clock func() time.Time) *recorder {
	r := &recorder{newsroom: n, digest: d, clock: clock, records: make(chan record), done: make(chan struct{})}
	go r.run()
	return r
}

// write returns when everything in the record is committed. For a doubt, nil means: written down, the dot may leave.
func (r *recorder) write(settled *settled, doubt *job) error {
	if settled == nil && doubt == nil {
		return nil
	}
	answer := make(chan error, 1)
	r.records <- record{settled, doubt, answer}
	return <-answer
}

// close ends the recorder once every record handed in is written.
func (r *recorder) close() {
	close(r.records)
	<-r.done
}

func (r *recorder) run() {
	defer close(r.done)
	for first := range r.records {
		batch := []record{first}
		for more := true; more; {
			select {
			case next, open := <-r.records:
				if more = open; open {
					batch = append(batch, next)
				}
			default:
				more = false
			}
		}
		r.commit(batch)
	}
}

// commit writes a batch. It is not to be interrupted: a reply that has come must be kept, whoever wants to stop.
func (r *recorder) commit(batch []record) {
	ctx := context.Background()
	answers := make([]error, len(batch))
	err := r.newsroom.db.Tx(ctx, func(tx *sql.Tx) error {
		now := r.clock()
		for i, record := range batch {
			if record.settled != nil {
				if err := r.settle(ctx, tx, now, record.settled); err != nil {
					return err
				}
			}
			if record.doubt == nil {
				continue
			}
			held, err := r.doubt(ctx, tx, now, record.doubt)
			if err != nil {
				return err
			}
			if !held {
				answers[i] = errNotHeld
			}
		}
		return nil
	})
	for i, record := range batch {
		record.answer <- errors.Join(err, answers[i])
	}
}

// doubt marks a delivery as doubtful if it may still be sent: the very statement that writes the doubt carries every
// condition (the reader in the audience with a choice that means this variant, the digest not held, not revised, not too
// late, the delivery still ours). What it does not return is not sent.
func (r *recorder) doubt(ctx context.Context, tx *sql.Tx, now time.Time, j *job) (bool, error) {
	var subscriber int64
	err := tx.QueryRowContext(ctx, `
		UPDATE deliveries SET state = 'doubtful', revision = $1, settled = $2
		WHERE digest = $3 AND subscriber = $4 AND fence = $5 AND state = 'claimed'
			AND EXISTS (SELECT 1 FROM digests g WHERE g.id = $3 AND g.revision = $1 AND g.held IS NULL AND g.latest > $2)
			AND EXISTS (
				SELECT 1 FROM audience a JOIN digest_choices c ON c.digest = $3 AND c.choice = a.choice
				WHERE a.newsletter = $6 AND a.subscriber = deliveries.subscriber AND c.variant = deliveries.variant)
		RETURNING subscriber`,
		j.revision, now.UnixMilli(), r.digest.ID, j.subscriber, j.fence, r.digest.Newsletter).Scan(&subscriber)
	if errors.Is(err, sql.ErrNoRows) {
		return false, r.newsroom.refile(ctx, tx, now, r.digest, j)
	}
	if err != nil {
		return false, fmt.Errorf("write doubt: %w", err)
	}
	return true, nil
}

// settle records an outcome.
func (r *recorder) settle(ctx context.Context, tx *sql.Tx, now time.Time, s *settled) error {
	state, counted, due, at := Due, 0, now, sql.NullInt64{}
	switch s.outcome.Verdict {
	case smtp.Sent:
		state, counted, at = Sent, 1, stored(now)
	case smtp.Failed:
		state, counted, at = Failed, 1, stored(now)
	case smtp.Doubtful:
		state, counted, at = Doubtful, 1, stored(now)
	case smtp.Later:
		counted, due = 1, now.Add(retryAfter(s.attempts+1, s.reply))
	case smtp.Again:
		due = now.Add(time.Minute)
	case smtp.Ours:
		due = now.Add(30 * time.Minute)
	}
	revision := s.revision
	if state == Due {
		revision = 0
	}
	_, err := tx.ExecContext(ctx, `
		UPDATE deliveries SET state = $1, revision = $2, attempts = attempts + CAST($3 AS BIGINT), due = $4, settled = $5, code = $6, reply = $7
		WHERE digest = $8 AND subscriber = $9 AND fence = $10 AND state IN ('claimed', 'doubtful')`,
		string(state), revision, counted, due.UnixMilli(), at, s.reply.Code, replyText(s.reply), r.digest.ID, s.subscriber, s.fence)
	if err != nil {
		return fmt.Errorf("record reply: %w", err)
	}
	if s.outcome.Suppress {
		return r.newsroom.reportDead(ctx, tx, now, s.subscriber, s.reply)
	}
	return nil
}

// replyText is what an editor reads about a delivery: the server's words, or what became of the connection.
func replyText(r smtp.Reply) string {
	switch {
	case r.Code != 0:
		return r.Text
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
