package newsletter

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/mail"
	"time"

	"depesche/migrations"
	"depesche/newsletter/render"
	"depesche/newsletter/smtp"
	"depesche/subscribers"
)

// letterMail is a letter as it was first made: what it takes to build the same bytes again for a retry, whatever has become
// of templates and configuration. The reader's link is a placeholder in it.
type letterMail struct {
	Header render.Header
	Body   render.Body
}

// DispatchLetters sends the letters that are due, one after the other: confirmations, and links on request. While another
// process of this database does, it returns at once. A letter whose reply was lost is sent again: a second confirmation
// does no harm, a missing one loses a reader.
func (n *Newsroom) DispatchLetters(ctx context.Context, o Options) (t Tally, err error) {
	unlock, ok, err := n.db.TryLock("letters")
	if err != nil || !ok {
		return t, err
	}
	defer unlock()
	over := o.Now() // on PostgreSQL others may be at work: only what has outlived its lease is given back
	if n.db.Path() != "" {
		over = over.Add(lease) // the lock is ours: whoever held a lease is dead
	}
	if err := n.registry.VoidLetterLeases(ctx, over); err != nil {
		return t, err
	}
	w := &wire{relay: n.Relay, most: n.PerSession, pace: newPace(n.PerSecond)}
	defer w.close()
	for ctx.Err() == nil {
		letters, err := n.registry.ClaimLetters(ctx, o.Now(), migrations.NewKey(o.Now()), lease, 20)
		if err != nil || len(letters) == 0 {
			return t, err
		}
		for _, letter := range letters {
			paused, err := n.sendLetter(ctx, w, o.Now, letter, &t)
			if err != nil || paused {
				return t, err
			}
		}
	}
	return t, nil
}

// sendLetter sends one letter and records what became of it.
func (n *Newsroom) sendLetter(ctx context.Context, w *wire, clock func() time.Time, l subscribers.Letter, t *Tally) (paused bool, err error) {
	ctx = context.WithoutCancel(ctx) // one that is begun is finished: it takes no longer than the server does
	made, err := n.letterMail(ctx, clock(), l)
	if err != nil {
		return false, err
	}
	message, err := render.Build(made.Header, made.Body)
	if err != nil {
		return false, fmt.Errorf("build letter: %w", err)
	}
	id := n.keys.MessageID(l.ID)
	data, err := message.Splice(nil, &render.Personal{To: l.Address, MessageID: []byte(id), Action: []byte(l.Token)})
	if err != nil {
		return false, fmt.Errorf("build letter: %w", err)
	}
	envelope := smtp.Envelope{From: n.keys.Sender(l.Newsletter, l.Subscriber) + "@" + n.Senders.BounceDomain, To: l.Address}
	reply, err := w.send(ctx, envelope, data, func() error {
		held, err := n.registry.DoubtLetter(ctx, clock(), l.ID, l.Fence)
		if err == nil && !held {
			err = errNotHeld
		}
		return err
	})
	if err != nil { // the relay cannot be had: the letter is due again
		reply, err = smtp.Reply{Phase: smtp.PhaseConnect, Err: err}, relayTrouble(err)
	}
	if errors.Is(reply.Err, smtp.ErrSkip) {
		return false, n.settleLetter(ctx, clock(), l, subscribers.Settled{State: subscribers.LetterSkipped, Reply: "no longer wanted"})
	}
	outcome := smtp.Judge(reply)
	settled := subscribers.Settled{
		State: subscribers.LetterDue, Code: reply.Code, Reply: replyText(reply), MessageID: id + "@" + n.Senders.MailDomain,
		Due: clock().Add(retryAfter(int64(l.Attempts)+1, reply)),
	}
	switch outcome.Verdict {
	case smtp.Sent:
		settled.State, settled.Counted = subscribers.LetterSent, true
		t.Sent++
	case smtp.Failed:
		settled.State, settled.Counted = subscribers.LetterFailed, true
		t.Failed++
	case smtp.Later:
		settled.Counted = true
		t.Later++
	default: // again, doubtful, ours: not the letter's fault
		settled.Due = clock().Add(time.Minute)
		t.Later++
	}
	if outcome.Pause {
		t.Alerts = append(t.Alerts, fmt.Sprintf("the server finds fault with the sender, no letter is sent: %s", reply))
	}
	if settleErr := n.settleLetter(ctx, clock(), l, settled); settleErr != nil || !outcome.Suppress {
		return outcome.Pause, errors.Join(err, settleErr)
	}
	return outcome.Pause, n.db.Tx(ctx, func(tx *sql.Tx) error { return n.reportDead(ctx, tx, clock(), l.Subscriber, reply) })
}

// settleLetter records an outcome. A letter that was deleted meanwhile, with the sign-up it belonged to, needs none.
func (n *Newsroom) settleLetter(ctx context.Context, now time.Time, l subscribers.Letter, s subscribers.Settled) error {
	if err := n.registry.SettleLetter(ctx, now, l.ID, l.Fence, s); !errors.Is(err, subscribers.ErrFenced) {
		return err
	}
	return nil
}

// relayTrouble keeps a refusal, which a person must hear of; a relay that is away is waited for by the next attempt.
func relayTrouble(err error) error {
	var away *awayError
	if errors.As(err, &away) {
		return nil
	}
	return err
}

// reportDead tells the registry that a mailbox does not exist.
func (n *Newsroom) reportDead(ctx context.Context, tx *sql.Tx, now time.Time, subscriber int64, reply smtp.Reply) error {
	return n.registry.Report(ctx, tx, now, subscribers.Report{
		Kind: subscribers.MailboxDead, Subscriber: subscriber, Reply: reply.String(),
	})
}

// letterMail is the letter as it was first made, or made now and kept.
func (n *Newsroom) letterMail(ctx context.Context, now time.Time, l subscribers.Letter) (made letterMail, err error) {
	if l.Message != "" {
		if err := json.Unmarshal([]byte(l.Message), &made); err != nil {
			return made, fmt.Errorf("read kept letter: %w", err)
		}
		return made, nil
	}
	template, err := n.template(l.Language, string(l.Kind))
	if err != nil {
		return made, err
	}
	title, zone := n.Brand.Paper, time.UTC
	if issuer, ok := n.Newsletter(l.Newsletter); ok {
		title, zone = render.Text(issuer.Title), issuer.Zone
	}
	letter := render.Letter{
		Newsletter: render.Newsletter{Title: title, BaseURL: render.URL(n.BaseURL)}, Brand: n.Brand,
		Requested: l.Requested.In(zone), Action: render.URL(l.Action), DeleteDays: int(n.DeleteAfter / (24 * time.Hour)),
	}
	for _, slug := range l.Topics {
		letter.Topics = append(letter.Topics, render.Text(n.desk.Name(slug)))
	}
	if made.Body, err = template.Letter(letter); err != nil {
		return made, fmt.Errorf("render letter: %w", err)
	}
	made.Header = render.Header{
		From: n.Senders.Letter, Domain: n.Senders.MailDomain, Date: l.Requested.In(zone), Language: render.Lang(l.Language),
	}
	kept, err := json.Marshal(made)
	if err != nil {
		return made, fmt.Errorf("keep letter: %w", err)
	}
	return made, n.registry.KeepMessage(ctx, now, l, string(kept), made.Body.Text)
}

// Nobody are the personal values of a mail that belongs to no reader: a preview, a test. Its links open nothing.
func Nobody(to string, now time.Time) render.Personal {
	token := bytes.Repeat([]byte("0"), render.TokenLength)
	return render.Personal{
		To: to, MessageID: fmt.Appendf(nil, "test-%d", now.UnixNano()), Unsubscribe: token, Preferences: token, Since: now,
	}
}

// SendTest mails the digest as it would be now to some addresses. Nothing is stored or counted.
func (n *Newsroom) SendTest(ctx context.Context, now time.Time, l Newsletter, addresses []string) (problems []error, err error) {
	day := DayOf(now, l.Zone)
	e, problems, err := n.reading(ctx, now, l, day)
	if err != nil {
		return problems, err
	}
	e.print("[TEST] ")
	v, err := e.variant(0, l.Topics)
	if err != nil {
		return problems, err
	}
	message, err := e.message(v)
	if err != nil {
		return problems, err
	}
	w := &wire{relay: n.Relay, pace: newPace(n.PerSecond)}
	defer w.close()
	for i, address := range addresses {
		to, err := subscribers.ParseAddress(address)
		if err != nil {
			return problems, fmt.Errorf("test address %d: %w", i+1, err)
		}
		if err := n.sendOnce(ctx, w, message, Nobody(to.Mailed, now.Add(time.Duration(i)))); err != nil {
			return problems, fmt.Errorf("test address %d: %w", i+1, err)
		}
	}
	return problems, nil
}

// SendAlert mails a line to a person who can act.
func (n *Newsroom) SendAlert(ctx context.Context, now time.Time, to, text string) error {
	from := mail.Address{Name: "depesche", Address: n.Senders.Letter.Address}
	message, err := render.Build(render.Header{From: from, Domain: n.Senders.MailDomain, Date: now, Language: "en"},
		render.Body{Subject: "depesche: a person is needed", Text: text, HTML: "<!doctype html><title>depesche</title><p>" + html.EscapeString(text)})
	if err != nil {
		return fmt.Errorf("build alert: %w", err)
	}
	w := &wire{relay: n.Relay, pace: newPace(0)}
	defer w.close()
	return n.sendOnce(ctx, w, message, Nobody(to, now))
}

// sendOnce sends a mail that is nobody's delivery; any reply but acceptance is an error.
func (n *Newsroom) sendOnce(ctx context.Context, w *wire, m *render.Message, p render.Personal) error {
	data, err := m.Splice(nil, &p)
	if err != nil {
		return err
	}
	reply, err := w.send(ctx, smtp.Envelope{From: n.Senders.Letter.Address, To: p.To}, data, func() error { return nil })
	if err != nil {
		return err
	}
	if smtp.Judge(reply).Verdict != smtp.Sent {
		return fmt.Errorf("the server did not take it: %s", reply)
	}
	return nil
}
