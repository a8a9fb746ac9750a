package smtp

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestModeIsWhatIsOffered(t *testing.T) {
	for offers, want := range map[string]Mode{
		"": Sequential, "CHUNKING": Sequential, "PIPELINING": Pipelining, "PIPELINING CHUNKING": Chunking,
	} {
		if got := visitMX(t, &mx{offers: strings.TrimSpace("ENHANCEDSTATUSCODES " + offers)}).Mode(); got != want {
			t.Errorf("%q offered: mode %s, want %s", offers, got, want)
		}
	}
}

// After STARTTLS the server offers anew, and only that counts (RFC 3207 §4.2).
func TestModeIsChosenAnewAfterSTARTTLS(t *testing.T) {
	for name, c := range map[string]struct {
		before, after string
		want          Mode
	}{
		"lost":   {"PIPELINING|250-CHUNKING|250-STARTTLS", "250 8BITMIME", Sequential},
		"gained": {"STARTTLS", "250-PIPELINING|250 CHUNKING", Chunking},
	} {
		t.Run(name, func(t *testing.T) {
			authority := newAuthority(t)
			relay, _ := listen(t, authority.server("127.0.0.1"), `
				< 220 mx
				> EHLO
				< 250-mx|250-`+c.before+`|250 SIZE 10
				> STARTTLS
				< 220 go
				tls
				> EHLO
				< 250-mx|`+c.after)
			relay.RootCAs = authority.pool()
			s, err := Dial(t.Context(), relay)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if size, _ := s.Limits(); s.Mode() != c.want || size != 0 {
				t.Errorf("mode %s, size %d, want %s and no size", s.Mode(), size, c.want)
			}
		})
	}
}

// What the server accepts is what was sent, envelope and content of the same message together, in every mode.
func TestManyMessages(t *testing.T) {
	eachMode(t, func(t *testing.T, mode Mode) {
		m := &mx{offers: offersFor[mode]}
		s, p := visitMX(t, m), letters(100)
		s.Carry(t.Context(), p)
		s.Carry(t.Context(), p) // nothing more: nothing happens
		if s.Sent() != 100 || !s.Usable() {
			t.Errorf("%d sent, usable %v", s.Sent(), s.Usable())
		}
		m.wants(t, p, func(int) bool { return true })
	})
}

// wants compares what was accepted with the messages that ought to be.
func (m *mx) wants(t *testing.T, p *post, ought func(i int) bool) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	var want []accepted
	for i, mail := range p.mails {
		if ought(i) {
			want = append(want, accepted{mail.From, mail.To, string(mail.Content.(bare))})
		}
	}
	if !slices.Equal(m.accepted, want) {
		t.Errorf("accepted\n%v\nwant\n%v", m.accepted, want)
	}
}

// One message of five is refused somewhere: it alone, and no envelope gets mixed up with another.
func TestRefusalsOnTheWire(t *testing.T) {
	for name, c := range map[string]struct {
		command, reply string
		want           Verdict
	}{
		"sender refused":           {"MAIL", "550 5.6.0 no", Failed},
		"sender refused for now":   {"MAIL", "451 4.3.0 later", Later},
		"recipient refused":        {"RCPT", "550 5.1.1 no such mailbox", Failed},
		"recipient, in two lines":  {"RCPT", "550-5.1.1 no such|550 5.1.1 mailbox", Failed},
		"recipient, for now":       {"RCPT", "450 4.2.1 later", Later},
		"greylisted":               {"RCPT", "451 4.7.1 greylisted", Later},
		"content refused":          {"dot", "554 5.6.0 no", Failed},
		"content refused for now":  {"dot", "451 4.3.0 later", Later},
		"too big":                  {"dot", "552 5.3.4 too big", Failed},
		"DATA refused":             {"DATA", "451 4.3.0 later", Later},
		"reset refused":            {"RSET", "451 4.3.0 later", Doubtful}, // its content is out, and nobody knows whose transaction it met
		"everything taken, but us": {"dot", "550 5.7.1 who are you", Ours},
	} {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, mode Mode) {
				if c.command == "DATA" && mode == Chunking || c.command == "RSET" && mode != Chunking {
					return // not said
				}
				m := &mx{offers: offersFor[mode], answer: func(command string, message int) string {
					if command == "RSET" {
						message++ // it comes before MAIL
					}
					if command == c.command && message == 3 {
						return c.reply
					}
					return ""
				}}
				s, p := visitMX(t, m), letters(5)
				s.Carry(t.Context(), p)
				want := []Verdict{Sent, Sent, c.want, Sent, Sent}
				got := p.verdicts()
				if c.command == "RSET" { // the connection is no good any more
					want[3], want[4] = got[3], got[4]
				}
				if !slices.Equal(got, want) {
					t.Errorf("verdicts %v, want %v", got, want)
				}
				if c.command != "RSET" {
					m.wants(t, p, func(i int) bool { return want[i] == Sent })
				}
			})
		})
	}
}

// A server that refuses the recipient and agrees to DATA all the same gets a lone dot and nothing of the message.
func TestDataAcceptedWithoutRecipient(t *testing.T) {
	for _, mode := range []Mode{Sequential, Pipelining} {
		t.Run(string(mode), func(t *testing.T) {
			m := &mx{offers: offersFor[mode], answer: func(command string, message int) string {
				switch {
				case message == 2 && command == "RCPT":
					return "550 5.1.1 no such mailbox"
				case message == 2 && command == "DATA":
					return "354 go on"
				}
				return ""
			}}
			s, p := visitMX(t, m), letters(3)
			s.Carry(t.Context(), p)
			if got, want := p.verdicts(), []Verdict{Sent, Failed, Sent}; !slices.Equal(got, want) {
				t.Errorf("verdicts %v, want %v", got, want)
			}
			m.wants(t, p, func(i int) bool { return i != 1 })
			if p.launched[p.mails[1]] {
				t.Error("the refused message was launched")
			}
		})
	}
}

// 421 anywhere: what was not accepted is due again, what was is sent, nothing is in doubt, the session is over (B10).
func TestServiceCloses(t *testing.T) {
	for _, command := range []string{"RSET", "MAIL", "RCPT", "DATA", "dot"} {
		t.Run(command, func(t *testing.T) {
			eachMode(t, func(t *testing.T, mode Mode) {
				if command == "DATA" && mode == Chunking || command == "RSET" && mode != Chunking {
					return
				}
				m := &mx{offers: offersFor[mode], answer: func(said string, message int) string {
					if said == "RSET" {
						message++
					}
					if said == command && message == 2 {
						return "421 4.3.2 shutting down cut"
					}
					return ""
				}}
				s, p := visitMX(t, m), letters(5)
				s.Carry(t.Context(), p)
				for i, verdict := range p.verdicts() {
					want := []Verdict{Again, ""}
					if i == 0 {
						want = []Verdict{Sent}
					}
					if !slices.Contains(want, verdict) {
						t.Errorf("message %d is %q, want one of %q", i+1, verdict, want)
					}
				}
				if s.Usable() {
					t.Error("the session is said to be usable")
				}
				m.wants(t, p, func(i int) bool { return i == 0 })
			})
		})
	}
}

// A server that closes without a word after some messages (B20): without CHUNKING nothing is in doubt; with it at most what
// was on the wire is, and none of it is lost.
func TestServerClosesSilently(t *testing.T) {
	eachMode(t, func(t *testing.T, mode Mode) {
		m := &mx{offers: offersFor[mode], answer: func(command string, message int) string {
			if command == "dot" && message == 20 {
				return "250 2.0.0 ok cut"
			}
			return ""
		}}
		s, p := visitMX(t, m), letters(40)
		s.Carry(t.Context(), p)
		doubtful := 0
		for i, verdict := range p.verdicts() {
			switch {
			case i < 20 && verdict != Sent:
				t.Errorf("message %d is %s, want sent", i+1, verdict)
			case i >= 20 && verdict == Doubtful:
				doubtful++
			case i >= 20 && verdict != Again && verdict != "":
				t.Errorf("message %d is %s, want again", i+1, verdict)
			}
		}
		if most := map[Mode]int{Chunking: DefaultFlight}[mode]; doubtful > most {
			t.Errorf("%d doubtful, at most %d can be", doubtful, most)
		}
		if s.Usable() {
			t.Error("the session is said to be usable")
		}
	})
}

// Replies that are none, or come before they are due, end the connection and settle nothing as sent.
func TestNonsenseOnTheWire(t *testing.T) {
	for name, c := range map[string]struct {
		command, reply string
		want           []Verdict
	}{
		"garbage at the end":       {"dot", "hello", []Verdict{Doubtful}},
		"too long at the end":      {"dot", "250 " + strings.Repeat("x", 5000), []Verdict{Doubtful}},
		"too many lines":           {"dot", strings.Repeat("250-x|", 60) + "250 x", []Verdict{Doubtful}},
		"garbage to the recipient": {"RCPT", "2x0 ok", []Verdict{Again, Doubtful}},
		"go on to the sender":      {"MAIL", "354 go on", []Verdict{Again, Doubtful}},
		"two answers to DATA":      {"DATA", "354 go on|250 2.0.0 taken", []Verdict{Again}},
	} {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, mode Mode) {
				if c.command == "DATA" && mode == Chunking {
					return
				}
				m := &mx{offers: offersFor[mode], answer: func(command string, message int) string {
					if command == c.command && message == 2 {
						return c.reply
					}
					return ""
				}}
				s, p := visitMX(t, m), letters(3)
				s.Carry(t.Context(), p)
				got := p.verdicts()
				if got[0] != Sent || !slices.Contains(c.want, got[1]) || got[2] == Sent {
					t.Errorf("verdicts %v, want sent, one of %v, not sent", got, c.want)
				}
				if s.Usable() {
					t.Error("the session is said to be usable")
				}
			})
		})
	}
}

// LIMITS MAILMAX (RFC 9422): no more messages than that in a connection.
func TestMailMaxInEveryMode(t *testing.T) {
	eachMode(t, func(t *testing.T, mode Mode) {
		m := &mx{offers: offersFor[mode] + " LIMITS_MAILMAX=5"}
		s, p := visitMX(t, m), letters(9)
		s.Carry(t.Context(), p)
		if s.Sent() != 5 || s.Usable() || p.next != 5 {
			t.Errorf("%d sent, usable %v, %d begun, want 5 and the end", s.Sent(), s.Usable(), p.next)
		}
		m.wants(t, p, func(i int) bool { return i < 5 })
	})
}

// The server closes the connection after every single byte of the dialogue of two messages, in either direction, in each
// mode. A pipe does not buffer, so it is known exactly what had left.
func TestCutAtEveryByte(t *testing.T) {
	eachMode(t, func(t *testing.T, mode Mode) {
		whole := cutAfter(t, mode, 1<<20)
		if !slices.Equal(whole.verdicts, []Verdict{Sent, Sent}) {
			t.Fatalf("uncut: %v", whole.verdicts)
		}
		total := 1<<20 - whole.left
		t.Logf("%d bytes", total)
		for n := range total {
			got := cutAfter(t, mode, n)
			for i, verdict := range got.verdicts {
				want := Again
				switch {
				case got.answered > i:
					want = Sent
				case got.complete > i:
					want = Doubtful
				}
				if verdict != want && (verdict != "" || want != Again) {
					t.Errorf("cut after %d bytes: message %d is %q, want %s", n, i+1, verdict, want)
				}
			}
		}
	})
}

type cutDialogue struct {
	verdicts           []Verdict
	complete, answered int // messages the server has read to their end, and the answers to which it has written to their end
	left               int // bytes the fuse would still have let pass
}

func cutAfter(t *testing.T, mode Mode, n int) cutDialogue {
	t.Helper()
	near, far := net.Pipe()
	wire := &fuse{Conn: far, left: n}
	m := &mx{offers: offersFor[mode]}
	var server sync.WaitGroup
	server.Go(func() { m.serve(wire) })
	p := letters(2)
	session, err := open(t.Context(), plainRelay, near)
	if err == nil {
		session.Carry(t.Context(), p)
		session.lose(io.ErrClosedPipe) // no QUIT: its bytes are not of interest
		session.Close()
	}
	server.Wait()
	return cutDialogue{p.verdicts(), len(m.accepted), wire.answers, wire.left}
}

// fuse is a connection that breaks when so many bytes have passed in both directions.
type fuse struct {
	net.Conn
	mu      sync.Mutex
	left    int
	answers int // final answers that passed to their end
}

// spend takes up to n bytes of what may pass.
func (f *fuse) spend(n int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n = min(n, f.left)
	f.left -= n
	return n
}

func (f *fuse) Read(p []byte) (int, error) {
	f.mu.Lock()
	over := f.left == 0
	f.mu.Unlock()
	if over {
		_ = f.Close()
		return 0, io.EOF
	}
	n, err := f.Conn.Read(p[:1]) // one at a time: what was read has left the client and must reach the server
	f.spend(n)
	return n, err
}

func (f *fuse) Write(p []byte) (int, error) {
	for i := range p {
		if f.spend(1) == 0 {
			_ = f.Close()
			return i, io.ErrShortWrite
		}
		if _, err := f.Conn.Write(p[i : i+1]); err != nil {
			return i, fmt.Errorf("write a byte: %w", err)
		}
	}
	if strings.HasSuffix(string(p), "250 2.0.0 right\r\n") {
		f.mu.Lock()
		f.answers++
		f.mu.Unlock()
	}
	return len(p), nil
}
