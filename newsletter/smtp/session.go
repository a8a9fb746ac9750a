// Package smtp hands messages to a relay, one recipient each, and says exactly what became of them.
//
// A Session is one connection. Carry takes message after message through it, in one of three modes the server's EHLO
// decides about, and tells of each the Reply that decided; Judge turns a reply into an Outcome. Between them lies the one
// distinction that readers notice: a message whose last byte had not left was not delivered and can be sent again, while one
// whose answer is missing after it may have been (RFC 1047) and is doubtful.
//
// go-mail's SMTP client greets, negotiates TLS and authenticates. The transaction is ours, on its exported Text, because it
// must know which byte has left, and because go-mail's waits for every answer: seven round trips a message, where RFC 2920
// needs one and RFC 3030 an eighth.
package smtp

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	gomail "github.com/wneessen/go-mail/smtp"
)

// ErrSkip is what a launch returns when the reader may no longer be mailed.
var ErrSkip = errors.New("the reader may no longer be mailed")

// Envelope is where a message comes from and goes to: bare addresses, without angle brackets.
type Envelope struct {
	From string
	To   string
	// UTF8 asks for SMTPUTF8 (RFC 6531). Set it only where a local part is not ASCII: a relay that takes it may meet a
	// next one that does not.
	UTF8 bool
}

// Content is the bytes of a message. Every line ends in CRLF, none begins with a dot, none is longer than 998 octets, all
// are 7 bits wide (but for an address that is not ASCII), so that the same bytes are right for DATA and for BDAT.
type Content interface {
	Length() int              // exactly what Append appends
	Append(dst []byte) []byte // the same bytes whenever it is called
}

// Mail is one message for one recipient.
type Mail struct {
	Envelope
	Content
}

// Traffic is where a session gets its messages and whom it tells what became of them. Its methods are called by the
// goroutine that called Carry.
type Traffic interface {
	// Next gives the next message, or nil where there is none now. With wait set nothing is on the wire: it may block until
	// there is one, and nil ends Carry.
	Next(wait bool) *Mail
	// Launch is called once for a message, after the last point at which it can be held back and before any byte of its
	// content leaves: the server may have accepted it from now on. An error keeps it back and ends the connection, which is
	// the only way out of DATA.
	Launch(*Mail) error
	// Settle tells the reply that decided about a message: the first refusal, or the answer to its end. It is called once for
	// every message Next gave, in their order, before Carry returns.
	Settle(*Mail, Reply)
}

// Mode is how a session uses its connection.
type Mode string

// The modes. Each needs the extensions of those before it.
const (
	Sequential Mode = "sequential" // every answer is waited for
	Pipelining Mode = "pipelining" // RFC 2920: a message's end and the next envelope in one write, one round trip a message
	Chunking   Mode = "chunking"   // RFC 3030: whole messages follow each other unanswered, as many as the flight window
)

// Session is a connection to a relay, ready for the next message. It is not for concurrent use.
type Session struct {
	client   *gomail.Client
	conn     net.Conn // under TLS; closing it frees whoever waits on it
	lookout  *lookout
	hearing  time.Time // until when an answer is waited for
	saying   time.Time // until when bytes may leave
	timeouts Timeouts

	mode     Mode
	window   int   // messages on the wire at once
	size     int64 // RFC 1870; 0: no limit known
	declares bool  // SIZE is offered
	mailMax  int   // RFC 9422; 0: no limit known
	utf8     bool
	eight    bool // 8BITMIME
	dsn      bool // RFC 3461
	secure   bool

	out     []byte // what is to leave in the next write
	written int64  // bytes the connection took, since Dial
	flight  []*transit
	spare   []*transit
	mails   int   // MAIL commands
	sent    int   // messages accepted
	open    bool  // a transaction was begun and not completed: RSET comes first
	broken  error // why nothing more can be said or heard
	mute    error // why nothing more can be said; what was answered before may still be heard
	closing bool  // 421 was said
}

const (
	block = 64 << 10 // what leaves in one write, at least where there is so much

	// DefaultFlight is how many messages may be unanswered on a connection with CHUNKING, MaxFlight the most that is allowed.
	DefaultFlight = 8
	MaxFlight     = 32

	// quitTimeout: nothing depends on the answer to QUIT.
	quitTimeout = 5 * time.Second
)

// errOutOfStep means that the server said something nobody had asked for.
var errOutOfStep = errors.New("the server spoke out of turn")

// transit is a message on its way: what was said of it and which answers are awaited.
type transit struct {
	mail     *Mail
	at       Phase   // how far the server has let it come
	awaited  []Phase // answers to come, in this order
	verdict  Reply   // the first refusal, or the answer to the end; Code 0: none yet
	decided  bool
	ready    bool  // the server said 354: the content may follow
	launched bool  // the content was put out
	end      int64 // where in the stream its last byte stands
}

// phaseReset is the answer to RSET: about the connection, never about a message.
const phaseReset Phase = "reset"

// newSession notes what the server offered in its last EHLO, that is, after TLS.
// deadline is the one that holds on the connection.
func newSession(client *gomail.Client, conn net.Conn, r Relay, deadline time.Time) *Session {
	s := &Session{
		client: client, conn: conn, lookout: newLookout(conn), hearing: deadline, saying: deadline, timeouts: r.Timeouts.withDefaults(),
	}
	offers := func(name string) bool { offered, _ := client.Extension(name); return offered }
	s.utf8, s.eight, s.dsn = offers("SMTPUTF8"), offers("8BITMIME"), offers("DSN")
	s.mode, s.window = Sequential, 1
	if offers("PIPELINING") {
		s.mode, s.window = Pipelining, 2 // the second is an envelope only: its content waits for the first one's answer
		if offers("CHUNKING") {
			s.mode, s.window = Chunking, r.flight()
		}
	}
	_, s.secure = client.TLSConnectionState()
	var size, limits string
	if s.declares, size = client.Extension("SIZE"); s.declares {
		s.size, _ = strconv.ParseInt(strings.TrimSpace(size), 10, 64)
	}
	_, limits = client.Extension("LIMITS")
	for limit := range strings.FieldsSeq(limits) {
		if name, value, _ := strings.Cut(limit, "="); strings.EqualFold(name, "MAILMAX") {
			s.mailMax, _ = strconv.Atoi(value)
		}
	}
	return s
}

// Mode is how the session uses its connection, decided by what the server offered.
func (s *Session) Mode() Mode { return s.mode }

// Usable tells whether another message can be sent on this connection. It is false after 421, a lost connection, an
// answer that is none, a message broken off, and the last message the server allows: dial anew.
func (s *Session) Usable() bool {
	return s.broken == nil && s.mute == nil && (s.mailMax <= 0 || s.mails < s.mailMax)
}

// Sent is the number of messages the server accepted since Dial.
func (s *Session) Sent() int { return s.sent }

// Limits are the largest message in bytes (RFC 1870) and the most messages in a connection (RFC 9422) the server
// offered; 0 means none.
func (s *Session) Limits() (size int64, mailMax int) { return max(s.size, 0), max(s.mailMax, 0) }

// Close takes leave and closes the connection. What the server answers to QUIT changes nothing about messages it
// accepted (RFC 5321 §4.1.1.10), so there is no error.
func (s *Session) Close() {
	if s.broken != nil || s.mute != nil {
		_ = s.conn.Close()
		return
	}
	s.out = append(s.out, "QUIT\r\n"...)
	if s.flush(quitTimeout) == nil {
		s.read(PhaseQuit, quitTimeout)
	}
	s.lose(net.ErrClosed)
	_ = s.client.Close()
}

// Carry sends what traffic gives until it gives nothing more, the connection is used up, or ctx ends, at which the
// connection is closed. Nothing is on the wire when it returns.
func (s *Session) Carry(ctx context.Context, traffic Traffic) {
	if ctx.Err() != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = s.conn.Close() })
	for {
		s.fill(traffic)
		if len(s.flight) == 0 {
			break
		}
		head := s.flight[0]
		s.await(head, PhaseData)
		if s.mode != Chunking {
			s.content(head, traffic)
			if s.mode == Pipelining {
				s.fill(traffic) // the next envelope leaves with this content (RFC 2920 §3.1)
			}
		}
		s.await(head, PhaseDot)
		s.settle(ctx, traffic)
	}
	switch {
	case s.closing:
		s.lose(errClosing)
	case s.mute != nil:
		s.lose(s.mute)
	}
	if !stop() {
		s.lose(context.Cause(ctx))
	}
	if s.broken != nil {
		_ = s.conn.Close()
	}
}

// fill puts as many messages on the wire as the window allows. After DATA nothing may follow but the content, so an
// envelope waits until those before it are complete.
func (s *Session) fill(traffic Traffic) {
	for s.Usable() && !s.closing && len(s.flight) < s.window {
		if s.mode != Chunking && len(s.flight) > 0 && !s.flight[len(s.flight)-1].complete() {
			return
		}
		mail := traffic.Next(len(s.flight) == 0)
		if mail == nil {
			return
		}
		if reply := s.refuse(mail); reply.Code != 0 {
			if len(s.flight) > 0 { // answers come in the order of the messages
				s.begin(mail, reply)
				continue
			}
			traffic.Settle(mail, reply)
			continue
		}
		s.introduce(s.begin(mail, Reply{}), traffic)
	}
}

// complete: nothing more will be put out for the message.
func (t *transit) complete() bool { return t.launched || t.decided && !t.ready }

// begin gives a message a place on the wire. One that is refused before anything is said has its verdict already.
func (s *Session) begin(mail *Mail, verdict Reply) *transit {
	var t *transit
	if n := len(s.spare); n > 0 {
		t, s.spare = s.spare[n-1], s.spare[:n-1]
	} else {
		t = &transit{}
	}
	*t = transit{mail: mail, at: PhaseMail, awaited: t.awaited[:0], verdict: verdict, decided: verdict.Code != 0}
	s.flight = append(s.flight, t)
	return t
}

// introduce says a message's envelope and, with CHUNKING, its content.
func (s *Session) introduce(t *transit, traffic Traffic) {
	if len(s.flight) == 1 && !s.quiet() {
		return
	}
	// With several messages on the wire nobody knows yet whether the last transaction ends well: RFC 3030 §2 wants RSET
	// after a refused BDAT, and without it the next RCPT would join the refused sender's transaction.
	if s.open || s.mode == Chunking && s.mails > 0 {
		s.say(t, phaseReset, s.timeouts.Mail, "RSET")
	}
	s.mails++
	size, more := s.parameters(t.mail)
	s.say(t, PhaseMail, s.timeouts.Mail, "MAIL FROM:<", t.mail.From, ">", size, more)
	notify := ""
	if s.dsn {
		notify = " NOTIFY=FAILURE,DELAY" // RFC 3461 §4.1: never of success
	}
	s.say(t, PhaseRcpt, s.timeouts.Rcpt, "RCPT TO:<", t.mail.To, ">", notify)
	if s.mode != Chunking {
		s.say(t, PhaseData, s.timeouts.Data, "DATA")
		return
	}
	if !s.launch(t, traffic) {
		return
	}
	s.out = append(s.out, "BDAT "...)
	s.out = strconv.AppendInt(s.out, int64(t.mail.Length()), 10)
	s.out = append(s.out, " LAST\r\n"...)
	s.out = t.mail.Append(s.out)
	s.put(t)
}

// parameters of MAIL: SIZE where it is offered (RFC 1870), SMTPUTF8 where it is needed and with it 8BITMIME (RFC 6531 §3.6),
// RET=HDRS where bounces can be shortened (RFC 3461 §4.3).
func (s *Session) parameters(m *Mail) (size, more string) {
	if s.declares {
		size = " SIZE=" + strconv.Itoa(m.Length())
	}
	if m.UTF8 {
		more = " SMTPUTF8"
		if s.eight {
			more = " BODY=8BITMIME SMTPUTF8"
		}
	}
	if s.dsn {
		more += " RET=HDRS"
	}
	return size, more
}

// content sends the content of a message the server has agreed to take, or the lone dot that is owed where it takes DATA
// although it refused the recipient (RFC 2920 §3.1).
func (s *Session) content(t *transit, traffic Traffic) {
	if !t.ready || s.broken != nil {
		return
	}
	if s.closing || s.mute != nil {
		s.lose(cmp.Or(s.mute, errClosing))
		return
	}
	if t.decided {
		t.ready = false
		s.say(t, PhaseDot, s.timeouts.Block, ".")
		return
	}
	if !s.quiet() || !s.launch(t, traffic) {
		return
	}
	s.out = t.mail.Append(s.out)
	s.out = append(s.out, ".\r\n"...)
	s.put(t)
}

// launch tells that from now on a message may have been accepted. What traffic holds back ends the connection.
func (s *Session) launch(t *transit, traffic Traffic) bool {
	if err := traffic.Launch(t.mail); err != nil {
		t.decided, t.verdict = true, Reply{Phase: PhaseContent, Err: err}
		s.lose(err)
		return false
	}
	return true
}

// put notes where a message ends in the stream and lets what has gathered leave.
func (s *Session) put(t *transit) {
	t.launched = true
	s.open = false // its end will end the transaction
	t.end = s.written + int64(len(s.out))
	t.awaited = append(t.awaited, PhaseDot)
	if len(s.out) >= block {
		_ = s.flush(s.timeouts.Block) // a failure is kept in s.mute
	}
}

// say puts a command out, to leave with the next write; a server without PIPELINING answers each before the next.
func (s *Session) say(t *transit, phase Phase, timeout time.Duration, words ...string) {
	if s.broken != nil || s.mute != nil || t.decided && phase != PhaseDot {
		return
	}
	for _, word := range words {
		s.out = append(s.out, word...)
	}
	s.out = append(s.out, "\r\n"...)
	t.awaited = append(t.awaited, phase)
	if s.mode == Sequential && s.flush(timeout) == nil {
		s.await(t, phase)
	}
}

// await reads answers to a message up to that of a phase.
func (s *Session) await(t *transit, last Phase) {
	for len(t.awaited) > 0 && s.broken == nil {
		phase := t.awaited[0]
		if phase == PhaseDot && last != PhaseDot {
			return
		}
		if !s.heard() && s.flush(s.timeouts.Block) != nil && !s.gone(t) {
			s.lose(s.mute) // a message that left before is answered perhaps, this one is not
			return
		}
		reply := s.read(phase, s.patience(phase))
		if s.broken != nil {
			return
		}
		t.awaited = t.awaited[:copy(t.awaited, t.awaited[1:])]
		s.answer(t, reply)
		if phase == last {
			return
		}
	}
}

// gone tells whether all of a message has left.
func (s *Session) gone(t *transit) bool { return t.launched && t.end <= s.written }

// patience is how long the answer of a phase is waited for (RFC 5321 §4.5.3.2).
func (s *Session) patience(phase Phase) time.Duration {
	if s.closing || s.mute != nil {
		return quitTimeout
	}
	switch phase {
	case PhaseRcpt:
		return s.timeouts.Rcpt
	case PhaseData:
		return s.timeouts.Data
	case PhaseDot:
		return s.timeouts.Dot
	}
	return s.timeouts.Mail
}

// answer takes one reply to one of a message's commands.
func (s *Session) answer(t *transit, reply Reply) {
	good := reply.Code/100 == 2
	if reply.Phase == PhaseData {
		good = reply.Code == 354
		t.ready = good
	}
	switch {
	case reply.Code == 421:
		s.closing = true
		if reply.Phase == phaseReset {
			// The connection ends before the message has begun: Postfix says so to RSET after twenty refusals. It is about what was
			// before, not about this message, nor about who sends it.
			reply = Reply{Phase: PhaseMail, Code: reply.Code, Text: reply.Text}
		}
	case reply.Phase == phaseReset:
		if s.open = !good; !good {
			s.lose(fmt.Errorf("reset after a refusal: %s", reply))
		}
		return
	case !good && reply.Code < 400:
		s.lose(errOutOfStep)
	}
	if good {
		t.at = after[reply.Phase]
	}
	switch reply.Phase {
	case PhaseMail:
		s.open = good
	case PhaseDot:
		s.open = !good // RFC 5321 §4.1.1.4 ends the transaction either way; not every server has read that
	}
	if t.decided || good && reply.Phase != PhaseDot {
		return
	}
	t.decided, t.verdict = true, reply
	if good {
		s.sent++
	}
}

// after is where a message stands when the server has agreed to a phase.
var after = map[Phase]Phase{PhaseMail: PhaseRcpt, PhaseRcpt: PhaseData, PhaseData: PhaseContent, PhaseDot: PhaseDot}

var errClosing = errors.New("the server closes the connection")

// settle tells what became of the first message on the wire and, where the connection is lost, of all.
func (s *Session) settle(ctx context.Context, traffic Traffic) {
	for len(s.flight) > 0 {
		t := s.flight[0]
		if s.broken == nil && (!t.decided || len(t.awaited) > 0) {
			return
		}
		s.flight = s.flight[:copy(s.flight, s.flight[1:])]
		reply := t.verdict
		if !t.decided {
			reply = s.lost(ctx, t)
		}
		if strings.Contains(reply.Text, "@") {
			reply.Text = blank(blank(reply.Text, t.mail.To), t.mail.From)
		}
		mail := t.mail
		t.mail = nil
		s.spare = append(s.spare, t)
		traffic.Settle(mail, reply)
	}
}

// lost is the reply of a message whose answer will not come: doubtful where all of it has left.
func (s *Session) lost(ctx context.Context, t *transit) Reply {
	reply := Reply{Phase: t.at, Err: s.broken}
	if s.gone(t) {
		reply.Phase = PhaseDot
	}
	if cause := context.Cause(ctx); cause != nil {
		reply.Err = fmt.Errorf("%w: %w", cause, reply.Err)
	}
	return reply
}

// lose ends the connection; the first reason stays.
func (s *Session) lose(err error) {
	if s.broken == nil {
		s.broken = err
	}
}

// quiet looks, where nothing is on the wire, whether the server has said something nobody asked for, or has gone: then
// nothing more is launched, and nothing is in doubt that need not be.
func (s *Session) quiet() bool {
	if s.broken != nil || s.mute != nil {
		return false
	}
	if s.client.Text.R.Buffered() == 0 && (s.secure || !s.lookout.pending()) {
		return true
	}
	if reply := s.read(PhaseMail, quitTimeout); s.broken == nil {
		s.lose(fmt.Errorf("%w: %s", errOutOfStep, reply))
	}
	return false
}

// departed looks whether a server that has said 421 is gone without another word. Answers come in the order of the commands,
// and after 421 it closes (RFC 5321 §3.8): what it has not answered then, it has not acted on, and nothing of it is in doubt.
func (s *Session) departed() {
	_, err := s.client.Text.R.Peek(1)
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		for _, t := range s.flight {
			t.launched = false
		}
	}
}

// heard tells whether a line of the server's is here already: reading it does not wait, so what is to leave may gather.
func (s *Session) heard() bool {
	r := s.client.Text.R
	waiting, _ := r.Peek(r.Buffered())
	return bytes.IndexByte(waiting, '\n') >= 0
}

// read reads one reply. A failure is kept in s.broken.
func (s *Session) read(phase Phase, timeout time.Duration) Reply {
	if !s.heard() {
		if err := s.allow(timeout, &s.hearing, s.conn.SetReadDeadline); err != nil {
			s.lose(err)
			return Reply{Phase: phase, Err: err}
		}
		_, _ = s.client.Text.R.Peek(1) // waits; an error comes again when the reply is read
	}
	if s.closing {
		s.departed()
	}
	if reply, ok := s.agreement(phase); ok {
		return reply
	}
	reply := readReply(s.client.Text.R, phase)
	if reply.Code == 0 {
		s.lose(reply.Err)
	}
	return reply
}

// agreement reads a yes in one short line, as nearly every answer is, where it lies. Only of the last one, which says what
// became of the message, anybody wants the words. It reads nothing where there is none.
func (s *Session) agreement(phase Phase) (reply Reply, ok bool) {
	r := s.client.Text.R
	waiting, _ := r.Peek(min(r.Buffered(), maxReplyText))
	end := bytes.IndexByte(waiting, '\n')
	if end < 4 || waiting[3] == '-' {
		return reply, false
	}
	code, words, _, ok := splitLine(bytes.TrimSuffix(waiting[:end], []byte{'\r'}))
	if !ok || code/100 != 2 && (code != 354 || phase != PhaseData) {
		return reply, false
	}
	reply = Reply{Phase: phase, Code: code}
	if phase == PhaseDot {
		reply = newReply(phase, code, []string{string(words)})
	}
	_, _ = r.Discard(end + 1)
	return reply, true
}

// flush writes what has gathered. A write that fails has not taken all of its bytes; how many it took is noted, because a
// message of which the last byte stayed here was not delivered.
func (s *Session) flush(timeout time.Duration) error {
	rest := s.out
	s.out = s.out[:0]
	for len(rest) > 0 && s.mute == nil {
		part := rest[:min(len(rest), 4*block)]
		n, err := s.write(part, timeout)
		s.written += int64(n)
		if err != nil {
			s.mute = err
		}
		rest = rest[n:]
	}
	return s.mute
}

// allow gives the other side some time from now. set sets until when, which is left alone where it would hardly change: a
// timer that is set anew for each of four round trips costs as much as the message.
func (s *Session) allow(timeout time.Duration, until *time.Time, set func(time.Time) error) error {
	if s.secure { // TLS may write while it reads: what holds for one must hold for the other
		return s.client.UpdateDeadline(timeout)
	}
	left := time.Until(*until)
	if left <= timeout && left > timeout-timeout/64 {
		return nil
	}
	*until = until.Add(timeout - left)
	return set(*until)
}

func (s *Session) write(part []byte, timeout time.Duration) (n int, err error) {
	if err := s.allow(timeout, &s.saying, s.conn.SetWriteDeadline); err != nil {
		return 0, err
	}
	w := s.client.Text.W
	n, err = w.Write(part)
	if err == nil {
		err = w.Flush()
	}
	return n - w.Buffered(), err
}

// Send sends one message to one recipient and returns the reply that decided about it: the first refusal, or the
// answer to its end.
//
// The message goes out as it is; one that DATA or BDAT would not carry unchanged is refused here. If given, launch is
// called once, before the first byte of content leaves: see Traffic. An error of it is in the reply, of PhaseContent. A
// reply of PhaseDot never comes without it.
func (s *Session) Send(ctx context.Context, e Envelope, message []byte, launch func() error) Reply {
	if err := checkMessage(message); err != nil {
		if reply := s.refuse(&Mail{e, bare(message)}); reply.Code != 0 {
			return reply
		}
		return refusal(PhaseContent, 554, "5.6.0", err)
	}
	single := &single{mail: &Mail{e, bare(message)}, launch: launch}
	if !s.Usable() {
		return Reply{Phase: PhaseMail, Err: errors.New("the session is over")}
	}
	if ctx.Err() != nil {
		return Reply{Phase: PhaseMail, Err: context.Cause(ctx)}
	}
	s.Carry(ctx, single)
	return single.reply
}

// bare is a message that is ready as it is.
type bare []byte

func (b bare) Length() int              { return len(b) }
func (b bare) Append(dst []byte) []byte { return append(dst, b...) }

// single is the traffic of one message.
type single struct {
	mail   *Mail
	given  bool
	launch func() error
	reply  Reply
}

func (s *single) Next(bool) *Mail {
	if s.given {
		return nil
	}
	s.given = true
	return s.mail
}

func (s *single) Launch(*Mail) error {
	if s.launch == nil {
		return nil
	}
	return s.launch()
}

func (s *single) Settle(_ *Mail, r Reply) { s.reply = r }

// refuse refuses what must not go on the wire, with a reply the server could have given. Its Code is 0 if all is well.
func (s *Session) refuse(m *Mail) Reply {
	if err := checkAddress(m.From); err != nil {
		return refusal(PhaseMail, 553, "", fmt.Errorf("envelope sender: %w", err))
	}
	if err := checkAddress(m.To); err != nil {
		return refusal(PhaseRcpt, 553, "", fmt.Errorf("recipient: %w", err))
	}
	if m.UTF8 && !s.utf8 {
		return refusal(PhaseMail, 553, "5.6.7", errors.New("the server does not offer SMTPUTF8")) // RFC 6531 §3.5
	}
	if !m.UTF8 && !(plain(m.From) && plain(m.To)) {
		return refusal(PhaseMail, 553, "5.6.7", errors.New("an address is not ASCII, and SMTPUTF8 is not asked for"))
	}
	if length := m.Length(); s.size > 0 && int64(length) > s.size {
		err := fmt.Errorf("message of %d bytes, the server takes %d", length, s.size)
		return refusal(PhaseMail, 552, "5.3.4", err)
	}
	return Reply{}
}

func refusal(phase Phase, code int, enhanced string, err error) Reply {
	return Reply{Phase: phase, Code: code, Enhanced: enhanced, Text: err.Error(), Err: err}
}

// maxAddress is RFC 5321 §4.5.3.1.3 without the angle brackets.
const maxAddress = 254

// checkAddress refuses what could end an address early and begin another command. It does not say which address: that
// has no place in an error. The null sender is refused too, since nothing of ours may go without a way back.
func checkAddress(address string) error {
	at := strings.LastIndexByte(address, '@')
	switch {
	case at < 1 || at == len(address)-1:
		return errors.New("not an address")
	case len(address) > maxAddress:
		return fmt.Errorf("address of %d bytes, at most %d are allowed", len(address), maxAddress)
	case !utf8.ValidString(address):
		return errors.New("address is not UTF-8")
	case strings.ContainsFunc(address, notInCommand) || strings.ContainsAny(address, "<>"):
		return errors.New("address holds a space, control character or angle bracket")
	}
	return nil
}

// notInCommand tells which characters may not stand in an argument of a command.
func notInCommand(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }

// maxLine is RFC 5322 §2.1.1 and RFC 5321 §4.5.3.1.6, without CRLF.
const maxLine = 998

// checkMessage holds the promise that a message can be written as it is. It is the last look before the wire: a lone
// line feed with a dot after it is how messages are smuggled into others (RFC 5321 §2.3.8, §4.5.2).
func checkMessage(message []byte) error {
	lines := 0
	for rest := message; len(rest) > 0; {
		lines++
		end := bytes.IndexByte(rest, '\n')
		switch {
		case end < 1 || rest[end-1] != '\r':
			return fmt.Errorf("message line %d does not end in CRLF", lines)
		case end-1 > maxLine:
			return fmt.Errorf("message line %d has %d bytes, at most %d are allowed", lines, end-1, maxLine)
		case rest[0] == '.':
			return fmt.Errorf("message line %d begins with a dot", lines)
		}
		rest = rest[end+1:]
	}
	switch {
	case lines == 0:
		return errors.New("message is empty")
	case bytes.Count(message, []byte{'\r'}) != lines:
		return errors.New("message holds a carriage return within a line")
	case bytes.IndexByte(message, 0) >= 0:
		return errors.New("message holds a NUL byte")
	}
	return nil
}
