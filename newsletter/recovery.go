package newsletter

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"depesche/newsletter/smtp"
)

// bury settles what dispatchers that are dead have left behind. Their journals tell what had not left, which is due again, and
// what had been answered; the rest stays doubtful. locked says that no other dispatcher can be alive, as on SQLite whoever
// holds the lock knows; elsewhere those are dead whose journal nobody holds on this machine, or whose lease is over.
func (n *Newsroom) bury(ctx context.Context, now time.Time, locked bool) error {
	list, err := bequests(n.JournalBase)
	for _, b := range list {
		err = errors.Join(err, n.inherit(ctx, now, b))
	}
	if err != nil {
		return err
	}
	over := now.UnixMilli()
	if locked {
		over = 1 << 62
	}
	if _, err := n.db.Write.ExecContext(ctx, `DELETE FROM dispatchers WHERE lease <= $1`, over); err != nil {
		return fmt.Errorf("bury dead dispatchers: %w", err)
	}
	return nil
}

// buryIfIdle does so unless a dispatcher is at work that would have to stop for it.
func (n *Newsroom) buryIfIdle(ctx context.Context, now time.Time) error {
	unlock, ok, err := n.db.TryLock("dispatch")
	if err != nil || !ok {
		return err
	}
	defer unlock()
	return n.bury(ctx, now, n.db.Path() != "")
}

// inherit records what a dead dispatcher's journal knows and removes it.
func (n *Newsroom) inherit(ctx context.Context, now time.Time, b bequest) error {
	err := n.db.Tx(ctx, func(tx *sql.Tx) error {
		for _, s := range b.notes() {
			known, err := n.settleNote(ctx, tx, now, b.fence, s)
			if err != nil {
				return err
			}
			if !known {
				return errForeign
			}
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM dispatchers WHERE fence = $1`, b.fence)
		return err
	})
	if errors.Is(err, errForeign) {
		return b.close()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("record what the journal %s knows: %w", b.path, err), b.close())
	}
	return b.remove()
}

// errForeign means that a journal belongs to another database, which will come for it.
var errForeign = errors.New("another database's journal")

// settleNote records one note. known is false where this database has no such digest.
func (n *Newsroom) settleNote(ctx context.Context, tx *sql.Tx, now time.Time, fence int64, s *slot) (known bool, err error) {
	err = tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM digests WHERE id = $1)`, s.digest).Scan(&known)
	if err != nil || !known {
		return known, err
	}
	d := &delivery{digest: s.digest, variant: s.variant, subscriber: s.subscriber, attempts: s.attempts}
	switch s.state.Load() {
	case doubted:
		d.outcome = smtp.Outcome{Verdict: smtp.Again}
	case launched:
		d.reply = smtp.Reply{Phase: smtp.PhaseDot, Err: errors.New("the dispatcher ended before the answer came")}
		d.outcome = smtp.Judge(d.reply)
	case answered:
		d.reply = s.reply()
		d.outcome = smtp.Judge(d.reply)
	}
	return true, n.settle(ctx, tx, now, d, fence, d.again(now))
}

// resend makes doubtful deliveries due again that nobody has in hand, where the newsletter wants that.
func (n *Newsroom) resend(ctx context.Context, now time.Time, d Digest) error {
	l, ok := n.Newsletter(d.Newsletter)
	if !ok || !l.Resend {
		return nil
	}
	_, err := n.db.Write.ExecContext(ctx, `
		UPDATE deliveries SET state = 'due', due = $1, revision = 0
		WHERE digest = $2 AND state = 'doubtful' AND fence NOT IN (SELECT x.fence FROM dispatchers x)`, now.UnixMilli(), d.ID)
	if err != nil {
		return fmt.Errorf("send doubtful deliveries again: %w", err)
	}
	return nil
}
