package newsletter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"depesche/newsletter/smtp"
)

// wire is one connection to the relay, dialled when it is needed and renewed when it is used up.
type wire struct {
	relay   smtp.Relay
	most    int // messages before it is renewed, 0: no limit
	pace    *pace
	session *smtp.Session
}

// awayError means that the relay cannot be reached at the moment.
type awayError struct{ err error }

func (e *awayError) Error() string { return fmt.Sprintf("the relay is away: %v", e.err) }
func (e *awayError) Unwrap() error { return e.err }

// ready dials unless a usable session is there. It returns a *smtp.Refusal where the relay will not have us, and an
// *awayError where trying later may help.
func (w *wire) ready(ctx context.Context) error {
	if w.session != nil && w.session.Usable() && (w.most == 0 || w.session.Sent() < w.most) {
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
	w.session = session
	return nil
}

// send transmits one message. A connection that breaks before the final dot, after it has carried others, has been closed
// by a server that wants a new one for the rest (B20): the message is tried once more at once.
func (w *wire) send(ctx context.Context, e smtp.Envelope, message []byte, beforeDot func() error) (smtp.Reply, error) {
	for again := true; ; again = false {
		if err := w.ready(ctx); err != nil {
			return smtp.Reply{}, err
		}
		if err := w.pace.wait(ctx); err != nil {
			return smtp.Reply{}, err
		}
		worn := w.session.Sent() > 0
		doubted := false
		reply := w.session.Send(ctx, e, message, func() error {
			doubted = true
			return beforeDot()
		})
		if reply.Code != 0 || doubted || !worn || !again || ctx.Err() != nil {
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

// pace keeps all connections together below a rate.
type pace struct{ ticker *time.Ticker }

// newPace allows so many messages a second; 0 means no limit.
func newPace(perSecond float64) *pace {
	if perSecond <= 0 {
		return &pace{}
	}
	return &pace{time.NewTicker(time.Duration(float64(time.Second) / perSecond))}
}

func (p *pace) wait(ctx context.Context) error {
	if p.ticker == nil {
		return ctx.Err()
	}
	select {
	case <-p.ticker.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
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
