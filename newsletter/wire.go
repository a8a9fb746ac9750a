package newsletter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"depesche/newsletter/smtp"
)

// wire is one connection to the relay, dialled when it is needed and renewed when it is used up. For a digest it is the
// session's traffic: it gives it what the recorder has cleared, and tells the recorder what became of it.
type wire struct {
	relay   smtp.Relay
	most    int // messages before it is renewed, 0: no limit
	session *smtp.Session

	// Of a run:
	run      *run
	number   int
	ctx      context.Context // ends when no more may be begun
	used     int             // messages given to the present session
	refusals int             // in a row, on the present session
	current  *window
	coming   <-chan *window // ordered
	waiting  []*window      // begun, not settled
	done     bool           // there is nothing more to do now
	parcels  []*parcel
	size     int           // of the next window
	each     time.Duration // what a message takes, of late
	settled  int
	since    time.Time
	turn     time.Time // before which nothing may be begun
	unheard  error     // what ended the last session, if a reply did not come
	refused  bool      // … or the server said 421
}

// awayError means that the relay cannot be reached at the moment, or takes nothing.
type awayError struct{ err error }

func (e *awayError) Error() string { return fmt.Sprintf("the relay is away: %v", e.err) }
func (e *awayError) Unwrap() error { return e.err }

// ready dials unless a usable session is there. It returns a *smtp.Refusal where the relay will not have us, and an
// *awayError where trying later may help.
func (w *wire) ready(ctx context.Context) error {
	if w.session != nil && w.session.Usable() && !w.worn() {
		return nil
	}
	w.close()
	session, err := smtp.Dial(ctx, w.relay)
	var refusal *smtp.Refusal
	switch {
	case errors.As(err, &refusal):
		return err
	case err != nil:
		return &awayError{err}
	}
	w.session, w.used, w.refusals = session, 0, 0
	return nil
}

// mostRefusals in a row and a connection is renewed: servers delay and then cut off a client that meets too many.
const mostRefusals = 9

// worn tells whether the connection has carried enough.
func (w *wire) worn() bool {
	most := w.most
	if w.run != nil {
		most = w.run.manners.fewer(most) // what one connection has found out holds for all
	}
	return most > 0 && w.used >= most || w.refusals >= mostRefusals
}

// send transmits one message that is not part of a digest. A connection that breaks before the final dot, after it has
// carried others, has been closed by a server that wants a new one for the rest (B20): the message is tried once more at once.
func (w *wire) send(ctx context.Context, e smtp.Envelope, message []byte, launch func() error) (smtp.Reply, error) {
	for again := true; ; again = false {
		if err := w.ready(ctx); err != nil {
			return smtp.Reply{}, err
		}
		worn := w.session.Sent() > 0
		launched := false
		w.used++
		reply := w.session.Send(ctx, e, message, func() error {
			launched = true
			return launch()
		})
		if reply.Code != 0 || launched || !worn || !again || ctx.Err() != nil {
			return reply, nil
		}
	}
}

func (w *wire) close() {
	if w.session != nil {
		w.session.Close()
		w.session = nil
	}
}

// work sends over the connection until there is nothing more to do, the dispatch is stopped, or the relay cannot be had.
// wireCtx ends when even what is on the wire is not waited for any more.
func (w *wire) work(ctx, wireCtx context.Context) error {
	w.ctx, w.done, w.size, w.each = ctx, false, firstDoubt, 0
	defer w.giveBack()
	for !w.done && ctx.Err() == nil && w.wanted() {
		if !w.advance(true) {
			break
		}
		if err := w.ready(wireCtx); err != nil {
			return err
		}
		w.unheard, w.refused, w.since, w.settled = nil, false, w.run.now(), 0
		w.session.Carry(wireCtx, w)
		if err := w.fare(); err != nil {
			return err
		}
	}
	return nil
}

// fare looks how a session has ended. One that took nothing is as good as no relay; one that closed after some messages, by
// its own word or without, wants a new connection for the rest.
func (w *wire) fare() error {
	session := w.session
	if session.Usable() || w.unheard == nil && !w.refused {
		return nil
	}
	w.run.manners.narrow(w.run)
	if session.Sent() == 0 {
		w.close()
		return &awayError{errors.Join(w.unheard, errSaid421(w.refused))}
	}
	if w.unheard != nil && !w.refused && w.ctx.Err() == nil {
		w.run.manners.closedAfter(w.run.now(), session.Sent())
	}
	if w.refused {
		return pauseUnless(w.ctx, time.Second)
	}
	return nil
}

func errSaid421(said bool) error {
	if said {
		return errors.New("the server closes its connections (421)")
	}
	return nil
}

// pauseUnless waits; that it was told not to is no error.
func pauseUnless(ctx context.Context, d time.Duration) error {
	_ = pause(ctx, d)
	return nil
}

// wanted says whether a connection of this number is still wanted.
func (w *wire) wanted() bool { return w.number < w.run.manners.width() }

// Next gives the session a message. See smtp.Traffic.
func (w *wire) Next(wait bool) *smtp.Mail {
	for w.ctx.Err() == nil && !w.worn() {
		if !w.advance(wait) {
			return nil
		}
		if w.run.now().Sub(w.current.at) > freshness || w.run.recalled.Load() {
			w.returnRest()
			continue
		}
		if !w.mayBegin(wait) {
			return nil
		}
		d := &w.current.deliveries[w.current.begun]
		w.current.begun++
		if p := w.parcel(d); p != nil {
			w.used++
			return &p.Mail
		}
	}
	return nil
}

// mayBegin keeps the distance between messages that the limits want.
func (w *wire) mayBegin(wait bool) bool {
	ahead := w.turn.Sub(w.run.now())
	if ahead > 0 && (!wait || pause(w.ctx, ahead) != nil) {
		return false
	}
	if distance := w.run.manners.distance(); distance > 0 {
		w.turn = later(w.turn, w.run.now().Add(-distance)).Add(distance)
	}
	return true
}

// advance sees to it that the current window has something to begin. Without wait it does not wait for the recorder.
func (w *wire) advance(wait bool) bool {
	for w.current == nil || w.current.begun == len(w.current.deliveries) {
		if w.current != nil {
			w.waiting = append(w.waiting, w.current)
			w.current = nil
			w.retire()
		}
		if !w.fetch(wait) {
			return false
		}
	}
	// The next window is ordered when this one is half begun, but no sooner than it can be used while it is fresh.
	rest := len(w.current.deliveries) - w.current.begun
	if w.coming == nil && 2*rest <= len(w.current.deliveries) && time.Duration(rest)*w.each < freshness/2 && !w.run.manners.limited() {
		w.coming = w.run.recorder.order(w.size, time.Duration(rest)*w.each)
	}
	return true
}

// fetch takes the window that was ordered, ordering one if none was.
func (w *wire) fetch(wait bool) bool {
	if w.done || w.run.recalled.Load() {
		return false
	}
	if w.coming == nil {
		if w.run.manners.limited() {
			if !wait {
				return false
			}
			begin, n, err := w.run.manners.turns(w.ctx, w.run, w.size)
			if err != nil {
				return false
			}
			w.turn, w.size = begin, n
		}
		w.coming = w.run.recorder.order(w.size, 0)
	}
	var next *window
	if wait {
		next = <-w.coming
	} else {
		select {
		case next = <-w.coming:
		default:
			return false
		}
	}
	w.coming = nil
	w.current, w.done = next, next == nil
	return next != nil
}

// parcel addresses a delivery. One that needs no mail, or cannot have one, is settled at once.
func (w *wire) parcel(d *delivery) *parcel {
	message, err := w.run.press.message(d.variant)
	if err != nil {
		w.run.fail(err)
		w.settle(d, smtp.Reply{Phase: smtp.PhaseMail, Err: err}, smtp.Outcome{Verdict: smtp.Again})
		return nil
	}
	if message == nil {
		d.skipped = "everything in it was withdrawn"
		w.settle(d, smtp.Reply{}, smtp.Outcome{})
		return nil
	}
	var p *parcel
	if n := len(w.parcels); n > 0 {
		p, w.parcels = w.parcels[n-1], w.parcels[:n-1]
	} else {
		p = &parcel{}
	}
	w.run.address(p, d, message)
	if err := message.Check(&p.personal); err != nil {
		w.run.alert("the mail for reader %d cannot be made: %v", d.subscriber, err)
		w.settle(d, smtp.Reply{Phase: smtp.PhaseMail, Err: err}, smtp.Outcome{Verdict: smtp.Failed})
		return nil
	}
	return p
}

// Launch notes that a message may have been accepted from now on. See smtp.Traffic.
func (w *wire) Launch(m *smtp.Mail) error {
	m.Content.(*parcel).delivery.slot.launch()
	return nil
}

// Settle notes what became of a message. See smtp.Traffic.
func (w *wire) Settle(m *smtp.Mail, reply smtp.Reply) {
	p := m.Content.(*parcel)
	outcome := smtp.Judge(reply)
	p.delivery.slot.answer(reply)
	if reply.Code == 0 && !errors.Is(reply.Err, context.Canceled) {
		w.unheard = reply.Err
	}
	if reply.Code == 421 {
		w.refused = true
	}
	if w.refusals++; reply.Code/100 == 2 {
		w.refusals = 0
	}
	w.settle(p.delivery, reply, outcome)
	w.parcels = append(w.parcels, p)
}

// settle notes the end of one delivery; its window is handed in when it was the last.
func (w *wire) settle(d *delivery, reply smtp.Reply, outcome smtp.Outcome) {
	d.reply, d.outcome = reply, outcome
	w.run.count(d)
	w.run.manners.hear(w.run, d)
	w.measure()
	d.window.open--
	w.retire()
}

// retire hands in the windows in which nothing is open any more.
func (w *wire) retire() {
	if len(w.waiting) == 0 || w.waiting[0].open > 0 {
		return // they end in their order
	}
	kept := w.waiting[:0]
	for _, x := range w.waiting {
		if x.open > 0 {
			kept = append(kept, x)
			continue
		}
		w.run.recorder.hand(x)
		w.run.manners.widen(w.run)
	}
	w.waiting = kept
}

// measure adapts the size of the next window to what a message takes.
func (w *wire) measure() {
	w.settled++
	if w.settled < w.size {
		return
	}
	now := w.run.now()
	w.each = now.Sub(w.since) / time.Duration(w.settled)
	w.since, w.settled = now, 0
	fitting := mostDoubt
	if w.each > 0 {
		fitting = int(min(doubtTime/w.each, mostDoubt))
	}
	w.size = max(1, min(2*w.size, fitting))
}

// returnRest gives back what of the current window was not begun: it is due again, as if nothing had been.
func (w *wire) returnRest() {
	for w.current.begun < len(w.current.deliveries) {
		d := &w.current.deliveries[w.current.begun]
		w.current.begun++
		d.outcome = smtp.Outcome{Verdict: smtp.Again}
		w.current.open--
	}
}

// giveBack returns everything that was not begun when the connection's work ends. All that was begun is settled by then.
func (w *wire) giveBack() {
	for {
		if w.current != nil {
			w.returnRest()
			w.waiting = append(w.waiting, w.current)
			w.current = nil
			w.retire()
		}
		if w.coming == nil {
			return
		}
		w.current, w.coming = <-w.coming, nil
	}
}

// pause waits, or returns the context's error if that ends first.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
