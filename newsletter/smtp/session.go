// Package smtp hands messages to a relay, one recipient each, and says exactly what became of them.
//
// A Session is one connection. Send takes a message through MAIL, RCPT, DATA and the final dot and returns the Reply
// that decided about it; Judge turns a reply into an Outcome. Between them lies the one distinction that readers
// notice: a message of which the final dot had not left was not delivered and can be sent again, while one whose
// answer is missing after it may have been (RFC 1047) and is doubtful.
//
// go-mail's SMTP client greets, negotiates TLS and authenticates. The transaction is ours, because it must know which
// byte has left: go-mail's Mail adds BODY and SMTPUTF8 wherever they are offered, its Data writes byte by byte and
// takes a broken connection for a failed message.
package smtp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	gomail "github.com/wneessen/go-mail/smtp"
)

// ErrSkip is what beforeDot returns when the reader may no longer be mailed.
var ErrSkip = errors.New("the reader may no longer be mailed")

// Envelope is where a message comes from and goes to: bare addresses, without angle brackets.
type Envelope struct {
	From string
	To   string
	// UTF8 asks for SMTPUTF8 (RFC 6531). Set it only where a local part is not ASCII: a relay that takes it may meet a
	// next one that does not.
	UTF8 bool
}

// Session is a connection to a relay, ready for the next message. It is not for concurrent use.
type Session struct {
	client   *gomail.Client
	conn     net.Conn // under TLS; closing it frees whoever waits on it
	timeouts Timeouts

	size     int64 // RFC 1870; 0: no limit known
	declares bool  // SIZE is offered
	mailMax  int   // RFC 9422; 0: no limit known
	utf8     bool

	out    []byte // what goes out in one write
	mails  int    // MAIL commands
	sent   int
	open   bool // a transaction was begun and not completed
	broken bool
}

const (
	block = 64 << 10 // content leaves in writes of this size

	// quitTimeout: nothing depends on the answer to QUIT.
	quitTimeout = 5 * time.Second
)

// newSession notes what the server offered in its last EHLO, that is, after TLS.
func newSession(client *gomail.Client, conn net.Conn, timeouts Timeouts) *Session {
	s := &Session{client: client, conn: conn, timeouts: timeouts}
	s.utf8, _ = client.Extension("SMTPUTF8")
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

// Usable tells whether another message can be sent on this connection. It is false after 421, a lost connection, an
// answer that is none, a message broken off, and the last message the server allows: dial anew.
func (s *Session) Usable() bool {
	return !s.broken && (s.mailMax <= 0 || s.mails < s.mailMax)
}

// Sent is the number of messages the server accepted since Dial.
func (s *Session) Sent() int { return s.sent }

// Limits are the largest message in bytes (RFC 1870) and the most messages in a connection (RFC 9422) the server
// offered; 0 means none.
func (s *Session) Limits() (size int64, mailMax int) { return max(s.size, 0), max(s.mailMax, 0) }

// Close takes leave and closes the connection. What the server answers to QUIT changes nothing about messages it
// accepted (RFC 5321 §4.1.1.10), so there is no error.
func (s *Session) Close() {
	if s.broken {
		_ = s.conn.Close()
		return
	}
	s.ask(PhaseQuit, quitTimeout, "QUIT")
	s.broken = true
	_ = s.client.Close()
}

// Send sends one message to one recipient and returns the reply that decided about it: the first refusal, or the
// answer to the final dot.
//
// The message goes out as it is. Every line ends in CRLF and none begins with a dot, so that the same bytes are right
// for DATA and BDAT; other messages are refused here. If given, beforeDot is called once, after the server has agreed
// to take the message and before the first byte of it leaves. An error of it breaks the message off: the reply then
// has PhaseContent, Code 0 and that error, and the connection is closed, which is the only way out of DATA. A refused
// recipient therefore never reaches beforeDot, and a reply of PhaseDot never comes without it.
//
// When the context ends, the connection is closed.
func (s *Session) Send(ctx context.Context, e Envelope, message []byte, beforeDot func() error) Reply {
	if reply := s.refuse(e, message); reply.Code != 0 {
		return reply
	}
	if !s.Usable() {
		return Reply{Phase: PhaseMail, Err: errors.New("the session is over")}
	}
	if ctx.Err() != nil {
		return Reply{Phase: PhaseMail, Err: context.Cause(ctx)}
	}
	stop := context.AfterFunc(ctx, func() { _ = s.conn.Close() })
	reply := s.transact(e, message, beforeDot)
	if !stop() {
		s.broken = true
		if reply.Code == 0 {
			reply.Err = fmt.Errorf("%w: %w", context.Cause(ctx), reply.Err)
		}
	}
	if s.broken {
		_ = s.conn.Close()
	}
	if strings.Contains(reply.Text, "@") {
		reply.Text = blank(blank(reply.Text, e.To), e.From)
	}
	return reply
}

// refuse refuses what must not go on the wire, with a reply the server could have given. Its Code is 0 if all is well.
func (s *Session) refuse(e Envelope, message []byte) Reply {
	refusal := func(phase Phase, code int, enhanced string, err error) Reply {
		return Reply{Phase: phase, Code: code, Enhanced: enhanced, Text: err.Error(), Err: err}
	}
	if err := checkAddress(e.From); err != nil {
		return refusal(PhaseMail, 553, "", fmt.Errorf("envelope sender: %w", err))
	}
	if err := checkAddress(e.To); err != nil {
		return refusal(PhaseRcpt, 553, "", fmt.Errorf("recipient: %w", err))
	}
	if e.UTF8 && !s.utf8 {
		return refusal(PhaseMail, 553, "5.6.7", errors.New("the server does not offer SMTPUTF8")) // RFC 6531 §3.5
	}
	if !e.UTF8 && !(plain(e.From) && plain(e.To)) {
		return refusal(PhaseMail, 553, "5.6.7", errors.New("an address is not ASCII, and SMTPUTF8 is not asked for"))
	}
	if s.size > 0 && int64(len(message)) > s.size {
		err := fmt.Errorf("message of %d bytes, the server takes %d", len(message), s.size)
		return refusal(PhaseMail, 552, "5.3.4", err)
	}
	if err := checkMessage(message); err != nil {
		return refusal(PhaseContent, 554, "5.6.0", err)
	}
	return Reply{}
}

// transact leads one message to its final reply. Its early returns are the refusals.
func (s *Session) transact(e Envelope, message []byte, beforeDot func() error) Reply {
	if reply := s.reset(); reply.Code != 250 {
		return s.refused(reply)
	}
	s.mails++
	size, utf8 := s.parameters(e, message)
	if reply := s.ask(PhaseMail, s.timeouts.Mail, "MAIL FROM:<", e.From, ">", size, utf8); reply.Code/100 != 2 {
		return s.refused(reply)
	}
	s.open = true
	if reply := s.ask(PhaseRcpt, s.timeouts.Rcpt, "RCPT TO:<", e.To, ">"); reply.Code/100 != 2 {
		return s.refused(reply)
	}
	if reply := s.ask(PhaseData, s.timeouts.Data, "DATA"); reply.Code != 354 {
		return s.refused(reply)
	}
	if beforeDot != nil {
		if err := beforeDot(); err != nil {
			return s.lost(PhaseContent, err)
		}
	}
	if err := s.writeContent(message); err != nil {
		return s.lost(PhaseContent, err)
	}
	reply := s.read(PhaseDot, s.timeouts.Dot)
	if reply.Code/100 != 2 {
		return s.refused(reply)
	}
	s.open = false
	s.sent++
	return reply
}

// parameters of MAIL: SIZE where it is offered (RFC 1870), SMTPUTF8 where it is needed, BODY never: messages are 7-bit.
func (s *Session) parameters(e Envelope, message []byte) (size, utf8 string) {
	if s.declares {
		size = " SIZE=" + strconv.Itoa(len(message))
	}
	if e.UTF8 {
		utf8 = " SMTPUTF8"
	}
	return size, utf8
}

// reset clears what a refused message left behind (RFC 5321 §4.1.1.5); without it MAIL may meet 503. It waits until
// the next message needs it. A refusal of RSET is one of the connection, never of the message.
func (s *Session) reset() Reply {
	if !s.open {
		return Reply{Code: 250}
	}
	reply := s.ask(PhaseMail, s.timeouts.Mail, "RSET")
	if reply.Code != 0 && reply.Code != 250 && reply.Code != 421 {
		return s.lost(PhaseMail, fmt.Errorf("reset after a refusal: %s", reply))
	}
	s.open = false
	return reply
}

// refused ends a transaction without success. 421 announces that the server closes; anything below 400 means that
// server and session are out of step.
func (s *Session) refused(r Reply) Reply {
	if r.Code < 400 || r.Code == 421 {
		s.broken = true
	}
	return r
}

// lost ends a transaction without a reply.
func (s *Session) lost(phase Phase, err error) Reply {
	s.broken = true
	return Reply{Phase: phase, Err: err}
}

// ask sends one command line and reads its reply.
func (s *Session) ask(phase Phase, timeout time.Duration, words ...string) Reply {
	s.out = s.out[:0]
	for _, word := range words {
		s.out = append(s.out, word...)
	}
	s.out = append(s.out, "\r\n"...)
	if err := s.write(timeout, s.out); err != nil {
		return s.lost(phase, err)
	}
	return s.read(phase, timeout)
}

func (s *Session) read(phase Phase, timeout time.Duration) Reply {
	if err := s.client.UpdateDeadline(timeout); err != nil {
		return s.lost(phase, err)
	}
	return readReply(s.client.Text.R, phase)
}

func (s *Session) write(timeout time.Duration, p []byte) error {
	if err := s.client.UpdateDeadline(timeout); err != nil {
		return err
	}
	if _, err := s.client.Text.W.Write(p); err != nil {
		return err
	}
	return s.client.Text.W.Flush()
}

// writeContent writes the message and its final dot, mostly in one write. An error means that the end of the dot's
// line has not left: a write that fails has not taken all of its bytes.
func (s *Session) writeContent(message []byte) error {
	for len(message) > block {
		if err := s.write(s.timeouts.Block, message[:block]); err != nil {
			return err
		}
		message = message[block:]
	}
	s.out = append(s.out[:0], message...)
	s.out = append(s.out, ".\r\n"...)
	return s.write(s.timeouts.Block, s.out)
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
