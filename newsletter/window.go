package newsletter

import (
	"strings"
	"time"

	"depesche/newsletter/render"
	"depesche/newsletter/smtp"
	"depesche/subscribers"
)

// window is deliveries whose doubts are committed, in the hands of one connection: the doubt window. They lie side by side in
// the table, so that what arrived is recorded in one statement.
type window struct {
	take       int64     // the commit that wrote the doubts
	at         time.Time // when
	deliveries []delivery
	begun      int // how many were given to the session, or given back
	open       int // how many are not settled
}

// Bounds of a doubt window. It holds what a connection sends in a quarter of a second, so that a hold, or a reader who
// leaves, is heeded within the second, and never more than mostDoubt.
const (
	firstDoubt = 1
	mostDoubt  = 128
	doubtTime  = 250 * time.Millisecond
)

// freshness is how long written doubts may be acted on. What is older is given back and asked for anew: a reader may have
// left meanwhile, a machine may have slept.
const freshness = time.Second

// delivery is one digest for one subscriber, in a dispatcher's hands.
type delivery struct {
	digest, variant, subscriber int64
	attempts                    int64
	address                     string
	nonce                       int64
	signedUp                    time.Time
	slot                        *slot
	window                      *window

	skipped string // why nobody needs it any more
	reply   smtp.Reply
	outcome smtp.Outcome
}

// domain is that of the recipient, in lower case.
func (d *delivery) domain() string {
	return strings.ToLower(d.address[strings.LastIndexByte(d.address, '@')+1:])
}

// parcel is a delivery being sent: its envelope and the personal values of its message, in buffers that serve the next one
// again. It is what the session sees of it.
type parcel struct {
	smtp.Mail
	delivery *delivery
	message  *render.Message
	personal render.Personal

	from                   []byte
	id, leaving, preferred [64]byte
}

// address fills a parcel with everything that is the reader's own.
func (r *run) address(p *parcel, d *delivery, message *render.Message) {
	keys, letter := r.newsroom.keys, r.digest.Newsletter
	p.delivery, p.message = d, message
	p.personal = render.Personal{
		To:          d.address,
		MessageID:   keys.AppendMessageID(p.id[:0], d.digest, r.digest.Revision, d.subscriber),
		Unsubscribe: keys.AppendToken(p.leaving[:0], subscribers.ToUnsubscribe, d.subscriber, letter, d.nonce),
		Preferences: keys.AppendToken(p.preferred[:0], subscribers.ToPrefer, d.subscriber, letter, d.nonce),
		Since:       d.signedUp.In(r.edition.zone),
	}
	// The envelope sender is the same for a reader from day to day, which greylisting servers remember, and tells whose mail
	// it was if it comes back.
	p.from = append(keys.AppendSender(p.from[:0], letter, d.subscriber), '@')
	p.from = append(p.from, r.edition.frozen.Senders.BounceDomain...)
	p.Mail = smtp.Mail{
		Envelope: smtp.Envelope{From: string(p.from), To: d.address, UTF8: !ascii(d.address)},
		Content:  p,
	}
}

// Length is that of the message, in octets.
func (p *parcel) Length() int { return p.message.Length(&p.personal) }

// Append splices the message for its reader. The values were checked when the parcel was addressed.
func (p *parcel) Append(dst []byte) []byte { return p.message.Append(dst, &p.personal) }

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// window makes a window of a stretch of deliveries.
func (r *run) window(now time.Time, take int64, stretch []delivery) *window {
	var w *window
	select {
	case w = <-r.spare:
	default:
		w = &window{}
	}
	*w = window{take: take, at: now, deliveries: append(w.deliveries[:0], stretch...), open: len(stretch)}
	for i := range w.deliveries {
		w.deliveries[i].window = w
	}
	return w
}

// recycle keeps a window's memory for the next.
func (r *run) recycle(w *window) {
	select {
	case r.spare <- w:
	default:
	}
}
