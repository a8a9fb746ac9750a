package smtp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gosmtp "github.com/emersion/go-smtp"
)

var (
	anna  = Envelope{From: "b1@news.example", To: "anna@reader.example"}
	bert  = Envelope{From: "b2@news.example", To: "bert@reader.example"}
	hello = []byte("Subject: hello\r\n\r\nhello\r\n")
)

// taken is the dialogue of one message that the server takes.
const taken = `
	> MAIL FROM:<
	< 250 2.1.0 ok
	> RCPT TO:<
	< 250 2.1.5 ok
	> DATA
	< 354 go on
	> .
	< 250 2.0.0 queued as 1
`

// send sends a message that has no reason to wait.
func send(t *testing.T, s *Session, e Envelope) Reply {
	t.Helper()
	return s.Send(t.Context(), e, hello, nil)
}

func TestSend(t *testing.T) {
	s := meet(t, hi+`
		> MAIL FROM:<b1@news.example>
		< 250 ok
		> RCPT TO:<anna@reader.example>
		< 250 ok
		> DATA
		< 354 go on
		> .
		< 250 2.0.0 queued as 1
	`+taken)
	got := send(t, s, anna)
	if want := (Reply{Phase: PhaseDot, Code: 250, Enhanced: "2.0.0", Text: "queued as 1"}); got != want {
		t.Errorf("first reply = %+v, want %+v", got, want)
	}
	if got := send(t, s, bert); Judge(got).Verdict != Sent {
		t.Errorf("second reply = %v", got)
	}
	if !s.Usable() || s.Sent() != 2 {
		t.Errorf("usable %t, sent %d", s.Usable(), s.Sent())
	}
}

func TestSendToRealServer(t *testing.T) {
	mailbox := &mailbox{}
	server := gosmtp.NewServer(mailbox)
	server.Domain, server.MaxMessageBytes, server.EnableSMTPUTF8 = "mx.example", 1<<20, true
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() { _ = server.Close(); serving.Wait() })

	relay := plainRelay
	relay.Port = listener.Addr().(*net.TCPAddr).Port
	s, err := Dial(t.Context(), relay)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if size, _ := s.Limits(); size != 1<<20 {
		t.Errorf("size limit = %d", size)
	}

	for i, size := range []int{25, 4095, 4096, 4097, block - 3, block, block + 1, 3 * block, 1 << 19} {
		message := messageOf(size)
		reply := s.Send(t.Context(), anna, message, nil)
		if Judge(reply).Verdict != Sent {
			t.Fatalf("%d bytes: %v", size, reply)
		}
		if got := mailbox.messages[i]; !bytes.Equal(got, message) {
			t.Errorf("%d bytes arrived of %d", len(got), size)
		}
	}
	unknown := Envelope{From: anna.From, To: "nobody@reader.example"}
	if got := send(t, s, unknown); !Judge(got).Suppress || got.Phase != PhaseRcpt {
		t.Errorf("unknown reader: %+v", got)
	}
	if got := s.Send(t.Context(), Envelope{From: anna.From, To: "änne@reader.example", UTF8: true}, hello, nil); got.Code != 250 {
		t.Errorf("SMTPUTF8 after a refusal: %+v", got)
	}
}

// messageOf makes a message of that many bytes.
func messageOf(size int) []byte {
	message := []byte("Subject: n\r\n\r\n")
	for size-len(message) > 1000 {
		message = append(message, strings.Repeat("n", 58)+"\r\n"...)
	}
	message = append(message, strings.Repeat("n", size-len(message)-2)...)
	return append(message, "\r\n"...)
}

// mailbox is a go-smtp server's store.
type mailbox struct{ messages [][]byte }

func (m *mailbox) NewSession(*gosmtp.Conn) (gosmtp.Session, error) { return m, nil }

func (m *mailbox) Reset() {}

func (m *mailbox) Logout() error { return nil }

func (m *mailbox) Mail(string, *gosmtp.MailOptions) error { return nil }

func (m *mailbox) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	if strings.HasPrefix(to, "nobody@") {
		return &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 1, 1}, Message: "no such mailbox"}
	}
	return nil
}

func (m *mailbox) Data(r io.Reader) error {
	message, err := io.ReadAll(r)
	m.messages = append(m.messages, message)
	return err
}

func TestSendAfterRefusal(t *testing.T) {
	tests := []struct {
		name, script string
		phase        Phase
		verdict      Verdict
	}{
		{"mail", "> MAIL\n< 451 later\n", PhaseMail, Later},
		{"rcpt", "> MAIL\n< 250 ok\n> RCPT\n< 550-5.1.1 no\n< 550 5.1.1 such\n> RSET\n< 250 ok\n", PhaseRcpt, Failed},
		{"data", "> MAIL\n< 250 ok\n> RCPT\n< 250 ok\n> DATA\n< 451 4.3.0 no\n> RSET\n< 250 ok\n", PhaseData, Later},
		{
			"dot", "> MAIL\n< 250 ok\n> RCPT\n< 250 ok\n> DATA\n< 354 go\n> .\n< 554 5.6.0 no\n> RSET\n< 250 ok\n",
			PhaseDot, Failed,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := meet(t, hi+test.script+taken)
			if got := send(t, s, anna); got.Phase != test.phase || Judge(got).Verdict != test.verdict {
				t.Errorf("refused: %+v is %s", got, Judge(got).Verdict)
			}
			if !s.Usable() {
				t.Fatal("a refusal ended the session")
			}
			if got := send(t, s, bert); Judge(got).Verdict != Sent {
				t.Errorf("next: %+v", got)
			}
			if s.Sent() != 1 {
				t.Errorf("sent %d", s.Sent())
			}
		})
	}
}

func TestSendEndsTheSession(t *testing.T) {
	const toRcpt = "> MAIL\n< 250 ok\n> RCPT\n"
	const toData = toRcpt + "< 250 ok\n> DATA\n"
	const toDot = toData + "< 354 go\n> .\n"
	tests := []struct {
		name, script string
		phase        Phase
		code         int
		verdict      Verdict
	}{
		{"421 to mail", "> MAIL\n< 421 4.3.2 bye\n", PhaseMail, 421, Again},
		{"421 to rcpt", toRcpt + "< 421 bye\n", PhaseRcpt, 421, Again},
		{"421 to data", toData + "< 421 bye\n", PhaseData, 421, Again},
		{"421 to dot", toDot + "< 421 bye\n", PhaseDot, 421, Again},
		{"cut at mail", "> MAIL\ncut\n", PhaseMail, 0, Again},
		{"cut at rcpt", toRcpt + "cut\n", PhaseRcpt, 0, Again},
		{"cut at data", toData + "cut\n", PhaseData, 0, Again},
		{"cut before content", toData + "< 354 go\ncut\n", PhaseContent, 0, Again},
		{"cut within content", toData + "< 354 go\n> Subject\ncut\n", PhaseDot, 0, Doubtful},
		{"cut at dot", toDot + "cut\n", PhaseDot, 0, Doubtful},
		{"garbage to mail", "> MAIL\n< what?\n", PhaseMail, 0, Again},
		{"garbage to dot", toDot + "< what?\n", PhaseDot, 0, Doubtful},
		{"354 to mail", "> MAIL\n< 354 go\n", PhaseMail, 354, Again},
		{"250 to data", toData + "< 250 ok\n", PhaseData, 250, Again},
		{"354 to dot", toDot + "< 354 go\n", PhaseDot, 354, Doubtful},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := meet(t, hi+test.script)
			got := send(t, s, anna)
			if got.Phase != test.phase || got.Code != test.code || Judge(got).Verdict != test.verdict {
				t.Errorf("%+v is %s, want %s %d %s", got, Judge(got).Verdict, test.phase, test.code, test.verdict)
			}
			if s.Usable() || s.Sent() != 0 {
				t.Errorf("usable %t, sent %d", s.Usable(), s.Sent())
			}
			if got := send(t, s, bert); got.Code != 0 || Judge(got).Verdict != Again {
				t.Errorf("next: %+v", got)
			}
		})
	}
}

func TestRefusedReset(t *testing.T) {
	const refusal = hi + "> MAIL\n< 250 ok\n> RCPT\n< 550 no\n> RSET\n"
	for _, answer := range []string{"< 500 what", "< 451 no", "< 354 go", "< 421 bye", "cut"} {
		s := meet(t, refusal+answer)
		send(t, s, anna)
		got := send(t, s, bert)
		if got.Phase != PhaseMail || Judge(got) != (Outcome{Verdict: Again}) || s.Usable() {
			t.Errorf("RSET answered %q: %+v, usable %t", answer, got, s.Usable())
		}
	}
}

func TestBeforeDot(t *testing.T) {
	full := errors.New("disk full")
	for _, reason := range []error{full, fmt.Errorf("unsubscribed: %w", ErrSkip)} {
		s := meet(t, hi+"> MAIL\n< 250 ok\n> RCPT\n< 250 ok\n> DATA\n< 354 go\nhush\n")
		got := s.Send(t.Context(), anna, hello, func() error { return reason })
		if got.Phase != PhaseContent || got.Code != 0 || !errors.Is(got.Err, reason) {
			t.Errorf("reply = %+v, want %v", got, reason)
		}
		if s.Usable() {
			t.Errorf("the session goes on within DATA")
		}
	}

	calls := 0
	count := func() error { calls++; return nil }
	s := meet(t, hi+"> MAIL\n< 250 ok\n> RCPT\n< 550 5.1.1 no\n> RSET\n< 250 ok\n"+taken)
	s.Send(t.Context(), anna, hello, count)
	if calls != 0 {
		t.Errorf("a refused recipient was called doubtful")
	}
	s.Send(t.Context(), bert, hello, count)
	if calls != 1 {
		t.Errorf("beforeDot was called %d times", calls)
	}
}

// Nothing of the message has left when beforeDot is called.
func TestBeforeDotIsBeforeContent(t *testing.T) {
	relay, heard := listen(t, nil, hi+"> MAIL\n< 250 ok\n> RCPT\n< 250 ok\n> DATA\n< 354 go\n> .\n< 250 ok\n")
	relay.TLS = TLSNone
	s, err := Dial(t.Context(), relay)
	if err != nil {
		t.Fatal(err)
	}
	got := s.Send(t.Context(), anna, hello, func() error { return ErrSkip })
	if got.Code != 0 || !errors.Is(got.Err, ErrSkip) {
		t.Errorf("reply = %+v", got)
	}
	if text := heard(); strings.Contains(text, "Subject") || !strings.HasSuffix(text, "DATA\r\n") {
		t.Errorf("the server heard %q", text)
	}
}

func TestSendParameters(t *testing.T) {
	const offers = `
		< 220 mx
		> EHLO news.example
		< 250-mx
		< 250-8BITMIME
		< 250-SMTPUTF8
		< 250-DSN
		< 250 SIZE 1000
		> MAIL FROM:<`
	tests := []struct {
		envelope Envelope
		mail     string
	}{
		{anna, "b1@news.example> SIZE=25 RET=HDRS\n"},
		{Envelope{From: anna.From, To: "änne@reader.example", UTF8: true}, "b1@news.example> SIZE=25 BODY=8BITMIME SMTPUTF8 RET=HDRS\n"},
	}
	for _, test := range tests {
		script := offers + test.mail + "< 250 ok\n> RCPT TO:<" + test.envelope.To +
			"> NOTIFY=FAILURE,DELAY\n< 250 ok\n> DATA\n< 354 go\n> .\n< 250 ok\n"
		near, far := net.Pipe()
		p := newPeer(far, nil)
		var server sync.WaitGroup
		server.Go(func() {
			if err := p.play(script); err != nil {
				t.Error(err)
			}
		})
		s, err := open(t.Context(), plainRelay, near)
		if err != nil {
			t.Fatal(err)
		}
		if got := send(t, s, test.envelope); got.Code != 250 {
			t.Errorf("reply = %+v", got)
		}
		s.Close()
		server.Wait()
		// The script checks beginnings; here the whole line counts: no BODY or SMTPUTF8 but where they are needed.
		if want := "MAIL FROM:<" + strings.TrimSpace(test.mail) + "\r\n"; !strings.Contains(p.heard.String(), want) {
			t.Errorf("server heard %q, want %q", p.heard.String(), want)
		}
	}
}

func TestLimits(t *testing.T) {
	s := meet(t, `
		< 220 mx
		> EHLO
		< 250-mx
		< 250-SIZE 2000
		< 250 LIMITS RCPTMAX=10 MAILMAX=2
	`+taken+taken)
	if size, mailMax := s.Limits(); size != 2000 || mailMax != 2 {
		t.Errorf("limits = %d, %d", size, mailMax)
	}
	// RFC 1870: what is too big is not offered, and costs the session nothing.
	big := append([]byte("Subject: big\r\n\r\n"), bytes.Repeat([]byte("0123456789\r\n"), 200)...)
	got := s.Send(t.Context(), anna, big, func() error { t.Error("beforeDot was called"); return nil })
	if got.Code != 552 || got.Enhanced != "5.3.4" || Judge(got) != (Outcome{Verdict: Failed}) {
		t.Errorf("too big: %+v", got)
	}
	for range 2 {
		if !s.Usable() {
			t.Fatal("the session ended early")
		}
		if got := send(t, s, anna); got.Code != 250 {
			t.Errorf("reply = %+v", got)
		}
	}
	if s.Usable() {
		t.Error("the session goes on beyond MAILMAX")
	}
	if got := send(t, s, anna); Judge(got).Verdict != Again {
		t.Errorf("beyond MAILMAX: %+v", got)
	}
}

func TestLimitsThatAreNone(t *testing.T) {
	for _, offer := range []string{"SIZE", "SIZE 0", "SIZE many", "SIZE -1", "LIMITS", "LIMITS MAILMAX", "LIMITS MAILMAX=-1"} {
		s := meet(t, "< 220 mx\n> EHLO\n< 250-mx\n< 250 "+offer+"\n"+taken)
		if size, mailMax := s.Limits(); size != 0 || mailMax != 0 {
			t.Errorf("%s: limits = %d, %d", offer, size, mailMax)
		}
		if got := send(t, s, anna); got.Code != 250 {
			t.Errorf("%s: %+v", offer, got)
		}
	}
}

func TestEnvelopeIsChecked(t *testing.T) {
	s := meet(t, hi+taken)
	good := "anna@reader.example"
	for _, bad := range []string{
		"", "anna", "@reader.example", "anna@", "anna@reader.example>\r\nRCPT TO:<eve@x.example", "anna@reader.example\n",
		"an na@reader.example", "<anna@reader.example>", "anna@reader.example\x00", "anna@reader.example> BODY=8BITMIME",
		"anna\x7f@reader.example", "anna\u2028@reader.example", "anna\u0085@reader.example",
		strings.Repeat("a", 250) + "@x.example", "\xff@reader.example",
	} {
		got := send(t, s, Envelope{From: good, To: bad})
		if got.Err == nil || Judge(got) != (Outcome{Verdict: Failed}) {
			t.Errorf("to %q: %+v", bad, got)
		}
		if bad != "" && strings.Contains(got.String(), bad) {
			t.Errorf("to %q: the address is in the reply %v", bad, got)
		}
		got = send(t, s, Envelope{From: bad, To: good})
		if got.Err == nil || Judge(got) != (Outcome{Verdict: Ours, Pause: true}) {
			t.Errorf("from %q: %+v", bad, got)
		}
	}
	for _, utf8 := range []bool{true, false} {
		got := send(t, s, Envelope{From: good, To: "änne@reader.example", UTF8: utf8})
		if got.Code != 553 || got.Enhanced != "5.6.7" || Judge(got) != (Outcome{Verdict: Failed}) {
			t.Errorf("SMTPUTF8 %t: %+v", utf8, got)
		}
	}
	if got := send(t, s, anna); got.Code != 250 {
		t.Errorf("afterwards: %+v", got)
	}
}

func TestMessageIsChecked(t *testing.T) {
	tests := []struct{ message, fault string }{
		{"", "empty"},
		{"a", "line 1 does not end in CRLF"},
		{"a\r\nb", "line 2 does not end in CRLF"},
		{"a\nb\r\n", "line 1 does not end in CRLF"},
		{"a\r\n\nb\r\n", "line 2 does not end in CRLF"},
		{"a\r\n\n.\nMAIL FROM:<x>\r\n", "line 2 does not end in CRLF"},
		{".a\r\n", "line 1 begins with a dot"},
		{"a\r\n.\r\nMAIL FROM:<x>\r\n", "line 2 begins with a dot"},
		{"a\r\n..\r\n", "line 2 begins with a dot"},
		{"a\rb\r\n", "carriage return within a line"},
		{"a\r\r\n", "carriage return within a line"},
		{"a\x00\r\n", "NUL"},
		{strings.Repeat("a", 999) + "\r\n", "line 1 has 999 bytes"},
		{strings.Repeat("a", 998) + "\r\n", ""},
		{"a\r\n\r\nb.\r\n", ""},
	}
	for _, test := range tests {
		err := checkMessage([]byte(test.message))
		switch {
		case test.fault == "" && err != nil:
			t.Errorf("checkMessage(%.40q): %v", test.message, err)
		case test.fault != "" && (err == nil || !strings.Contains(err.Error(), test.fault)):
			t.Errorf("checkMessage(%.40q) = %v, want %q", test.message, err, test.fault)
		}
	}
	s := meet(t, hi)
	got := s.Send(t.Context(), anna, []byte("a\r\n.\r\n"), func() error { t.Error("beforeDot was called"); return nil })
	if got.Err == nil || Judge(got) != (Outcome{Verdict: Failed}) || !s.Usable() {
		t.Errorf("smuggling: %+v, usable %t", got, s.Usable())
	}
}

func TestReplyHoldsNoAddress(t *testing.T) {
	s := meet(t, hi+`
		> MAIL
		< 250 ok
		> RCPT
		< 550-5.1.1 <Anna@Reader.Example>: unknown, says b1@news.example
		< 550 5.1.1 (anna@reader.example)
	`)
	if got := send(t, s, anna); got.Text != "<…>: unknown, says … (…)" {
		t.Errorf("text = %q", got.Text)
	}
}

// A message whose context ends is answered for as far as it had come.
func TestSendContext(t *testing.T) {
	tests := []struct {
		script  string
		phase   Phase
		verdict Verdict
	}{
		{"> MAIL\nhush\n", PhaseMail, Again},
		{"> MAIL\n< 250 ok\n> RCPT\n< 250 ok\n> DATA\n< 354 go\n> .\nhush\n", PhaseDot, Doubtful},
	}
	for _, test := range tests {
		synctest.Test(t, func(t *testing.T) {
			s := meet(t, hi+test.script)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			got := s.Send(ctx, anna, hello, nil)
			if got.Phase != test.phase || !errors.Is(got.Err, context.DeadlineExceeded) || Judge(got).Verdict != test.verdict {
				t.Errorf("%+v, want %s %s", got, test.phase, test.verdict)
			}
			if s.Usable() {
				t.Error("the session outlived its context")
			}
		})
	}

	s := meet(t, hi+taken)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got := s.Send(ended, anna, hello, nil); Judge(got).Verdict != Again || !s.Usable() {
		t.Errorf("ended before: %+v, usable %t", got, s.Usable())
	}
	if got := send(t, s, anna); got.Code != 250 {
		t.Errorf("afterwards: %+v", got)
	}
}

// RFC 5321 §4.5.3.2, each wait for itself.
func TestTimeouts(t *testing.T) {
	tests := []struct {
		script string
		phase  Phase
		after  time.Duration
	}{
		{"> MAIL\nhush\n", PhaseMail, 5 * time.Minute},
		{"> MAIL\n< 250 ok\n> RCPT\nhush\n", PhaseRcpt, 5 * time.Minute},
		{"> MAIL\n< 250 ok\n> RCPT\n< 250 ok\n> DATA\nhush\n", PhaseData, 2 * time.Minute},
		{"> MAIL\n< 250 ok\n> RCPT\n< 250 ok\n> DATA\n< 354 go\n> .\nhush\n", PhaseDot, 10 * time.Minute},
	}
	for _, test := range tests {
		synctest.Test(t, func(t *testing.T) {
			s := meet(t, hi+test.script)
			began := time.Now()
			got := send(t, s, anna)
			if got.Phase != test.phase || !errors.Is(got.Err, os.ErrDeadlineExceeded) {
				t.Errorf("reply = %+v, want a deadline at %s", got, test.phase)
			}
			if waited := time.Since(began); waited != test.after {
				t.Errorf("%s: waited %v, want %v", test.phase, waited, test.after)
			}
		})
	}
}

// A server that does not read its block, and one that takes long over the answer but gives it.
func TestSlowServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		var server sync.WaitGroup
		server.Go(func() {
			const toContent = "> MAIL\n< 250 ok\n> RCPT\n< 250 ok\n> DATA\n< 354 go\n"
			if err := newPeer(far, nil).converse(hi + toContent); err != nil {
				t.Error(err)
			}
		})
		s, err := open(t.Context(), plainRelay, near)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		got := send(t, s, anna)
		if got.Phase != PhaseContent || Judge(got).Verdict != Again || time.Since(began) != 3*time.Minute {
			t.Errorf("after %v: %+v", time.Since(began), got)
		}
		server.Wait()
	})
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		var server sync.WaitGroup
		server.Go(func() {
			slow := &slowly{Conn: far, pause: time.Minute}
			if err := newPeer(slow, nil).play(hi + taken + taken); err != nil {
				t.Error(err)
			}
		})
		s, err := open(t.Context(), plainRelay, near)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if got := send(t, s, anna); got.Code != 250 {
				t.Errorf("slow server: %+v", got)
			}
		}
		s.Close()
		server.Wait()
	})
}

// slowly thinks before it speaks.
type slowly struct {
	net.Conn
	pause time.Duration
}

func (s *slowly) Write(p []byte) (int, error) {
	time.Sleep(s.pause) // of the bubble's clock
	return s.Conn.Write(p)
}

func TestClose(t *testing.T) {
	for _, script := range []string{"", "> QUIT\ncut\n", "> QUIT\n< 500 what?\n", "> QUIT\n< garbage\n", "cut\n"} {
		s := meet(t, hi+taken+script)
		if got := send(t, s, anna); got.Code != 250 {
			t.Errorf("reply = %+v", got)
		}
		s.Close()
		s.Close()
		if s.Usable() || s.Sent() != 1 {
			t.Errorf("usable %t, sent %d", s.Usable(), s.Sent())
		}
	}
	synctest.Test(t, func(t *testing.T) {
		s := meet(t, hi+"> QUIT\nhush\n")
		began := time.Now()
		s.Close()
		if waited := time.Since(began); waited != quitTimeout {
			t.Errorf("waited %v for the answer to QUIT", waited)
		}
	})
}

// A server that says anything at all never gets a message called sent without a positive answer after its dot, nor one
// called doubtful before.
func FuzzDialogue(f *testing.F) {
	f.Add([]byte("220 mx\r\n250 mx\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n"))
	f.Add([]byte("220 mx\r\n250-mx\r\n250 SIZE 9\r\n250 ok\r\n250 ok\r\n354 go\r\n550 5.1.1 no\r\n"))
	f.Add([]byte("220 mx\r\n250 mx\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n"))
	f.Fuzz(func(t *testing.T, said []byte) {
		near, far := net.Pipe()
		var server sync.WaitGroup
		server.Go(func() { _, _ = io.Copy(io.Discard, far) })
		server.Go(func() {
			_, _ = far.Write(said)
			_ = far.Close()
		})
		defer server.Wait()
		s, err := open(t.Context(), plainRelay, near)
		if err != nil {
			return
		}
		defer s.Close()
		called := false
		reply := s.Send(t.Context(), anna, hello, func() error { called = true; return nil })
		verdict := Judge(reply).Verdict
		if (verdict == Sent || verdict == Doubtful) && (!called || reply.Phase != PhaseDot) {
			t.Errorf("%+v is %s", reply, verdict)
		}
		if verdict == Sent != (s.Sent() == 1) {
			t.Errorf("%+v is %s, and %d sent", reply, verdict, s.Sent())
		}
	})
}

// BenchmarkSend measures one connection to a server in the same process that only counts lines.
func BenchmarkSend(b *testing.B) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	var server sync.WaitGroup
	defer server.Wait()
	server.Go(func() { sink(listener) })

	relay := plainRelay
	relay.Port = listener.Addr().(*net.TCPAddr).Port
	s, err := Dial(b.Context(), relay)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	message := append([]byte("Subject: news\r\n\r\n"), bytes.Repeat([]byte(strings.Repeat("n", 74)+"=\r\n"), 260)...)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for b.Loop() {
		if reply := s.Send(ctx, anna, message, nil); reply.Code != 250 {
			b.Fatal(reply)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
}

// sink takes every message of the first client.
func sink(listener net.Listener) {
	conn, err := listener.Accept()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	r := bufio.NewReaderSize(conn, 64<<10)
	answer := "220 sink\r\n"
	for content := false; ; {
		if answer != "" {
			if _, err := io.WriteString(conn, answer); err != nil {
				return
			}
		}
		line, err := r.ReadSlice('\n')
		switch {
		case err != nil:
			return
		case content && !bytes.Equal(line, []byte(".\r\n")):
			answer = ""
			continue
		case bytes.HasPrefix(line, []byte("EHLO")):
			answer = "250-sink\r\n250 SIZE 10000000\r\n"
		case bytes.HasPrefix(line, []byte("DATA")):
			answer, content = "354 go on\r\n", true
		default:
			answer, content = "250 2.0.0 ok\r\n", false
		}
	}
}
