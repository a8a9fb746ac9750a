package newsletter

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"

	ours "depesche/newsletter/smtp"
)

// relay is a real SMTP server on the loopback that keeps what it takes, and answers as a test wants.
type relay struct {
	address *net.TCPAddr
	mu      sync.Mutex
	mails   []received
	// answer may refuse a message for a recipient, after its content has come; nil takes it.
	answer func(to string, data []byte) error
}

type received struct {
	from, to string
	data     []byte
}

func newRelay(t testing.TB) *relay {
	t.Helper()
	r := &relay{}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &relaySession{relay: r}, nil }))
	server.Domain = "relay.test"
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.address = listener.Addr().(*net.TCPAddr)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(listener); err != nil && !errors.Is(err, smtp.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return r
}

func (r *relay) config() ours.Relay {
	return ours.Relay{Host: "127.0.0.1", Port: r.address.Port, TLS: ours.TLSNone, Hello: "news.paper.test"}
}

func (r *relay) setAnswer(answer func(to string, data []byte) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

// taken are the messages the server answered with 250.
func (r *relay) taken() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]received(nil), r.mails...)
}

// perReader counts messages by recipient.
func (r *relay) perReader() map[string]int {
	counts := map[string]int{}
	for _, mail := range r.taken() {
		counts[mail.to]++
	}
	return counts
}

func (r *relay) mailTo(t testing.TB, to string) received {
	t.Helper()
	for _, mail := range r.taken() {
		if mail.to == to {
			return mail
		}
	}
	t.Fatalf("no mail to %s", to)
	return received{}
}

type relaySession struct {
	relay    *relay
	from, to string
}

func (s *relaySession) Reset()        { s.from, s.to = "", "" }
func (s *relaySession) Logout() error { return nil }

func (s *relaySession) Mail(from string, _ *smtp.MailOptions) error {
	s.from = from
	return nil
}

func (s *relaySession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = to
	if strings.HasPrefix(to, "unknown") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such mailbox"}
	}
	return nil
}

func (s *relaySession) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.relay.mu.Lock()
	defer s.relay.mu.Unlock()
	if s.relay.answer != nil {
		if err := s.relay.answer(s.to, data); err != nil {
			return err
		}
	}
	s.relay.mails = append(s.relay.mails, received{s.from, s.to, bytes.Clone(data)})
	return nil
}
