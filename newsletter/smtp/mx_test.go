package smtp

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// mx is a server with the three extensions or fewer, which hears and answers at the same time, as a pipelining one must, and
// keeps what it accepted. It refuses what RFC 5321 has it refuse: MAIL within a transaction, RCPT without one.
type mx struct {
	offers string // extensions, in words; _ stands for a space within one
	// answer overrules what is answered to a command, "dot" being the end of a message; message counts MAIL commands. An
	// answer that ends in "cut" closes the connection after it, "more" stands for what would have been answered.
	answer func(command string, message int) string

	mu       sync.Mutex
	accepted []accepted
	heard    []string
}

// accepted is a message the server took responsibility for.
type accepted struct{ from, to, content string }

// visit is one connection to an mx.
type visit struct {
	mx       *mx
	reader   *bufio.Reader
	replies  chan string
	over     chan struct{} // closed when nothing more can be answered
	cut      bool          // nothing more is heard, either
	message  int
	from, to string // of the transaction that is open
}

// serve answers until the client leaves or the script cuts.
func (m *mx) serve(conn net.Conn) {
	v := &visit{mx: m, reader: bufio.NewReader(conn), replies: make(chan string, 1000), over: make(chan struct{})}
	go func() {
		defer close(v.over)
		defer func() { _ = conn.Close() }()
		for reply := range v.replies {
			text, cut := strings.CutSuffix(reply, "cut")
			if _, err := io.WriteString(conn, text); err != nil || cut {
				return
			}
		}
	}()
	v.say("220 mx ready\r\n")
	for !v.cut && v.hear() == nil {
	}
	close(v.replies)
	<-v.over
}

func (v *visit) say(reply string) { v.replies <- reply }

func (v *visit) hear() error {
	line, err := v.reader.ReadString('\n')
	if err != nil {
		return err
	}
	line = strings.TrimSuffix(line, "\r\n")
	verb, rest, _ := strings.Cut(line, " ")
	v.mx.mu.Lock()
	v.mx.heard = append(v.mx.heard, verb)
	v.mx.mu.Unlock()
	switch verb {
	case "EHLO":
		offers := strings.ReplaceAll(v.mx.offers, " ", "\r\n250-")
		v.say("250-mx\r\n250-" + strings.ReplaceAll(offers, "_", " ") + "\r\n250 8BITMIME\r\n")
	case "MAIL":
		v.message++
		if v.reply(verb, v.from == "", "250 2.1.0 ok", "503 5.5.1 nested MAIL") {
			v.from = between(rest)
		}
	case "RCPT":
		if v.reply(verb, v.from != "", "250 2.1.5 ok", "503 5.5.1 no MAIL") {
			v.to = between(rest)
		}
	case "DATA":
		if v.reply(verb, v.to != "", "354 go on", "554 5.5.1 no valid recipients") {
			return v.content(v.dots())
		}
	case "BDAT":
		size, err := strconv.Atoi(strings.TrimSuffix(rest, " LAST"))
		if err != nil {
			return err
		}
		content := make([]byte, size)
		_, err = io.ReadFull(v.reader, content)
		return v.content(string(content), err)
	case "RSET":
		if v.reply(verb, true, "250 2.0.0 ok", "") {
			v.from, v.to = "", ""
		}
	case "QUIT":
		v.say("221 bye\r\ncut")
	default:
		return fmt.Errorf("the client said %q", line)
	}
	return nil
}

func between(s string) string {
	_, s, _ = strings.Cut(s, "<")
	s, _, _ = strings.Cut(s, ">")
	return s
}

// reply answers a command and tells whether the answer was positive.
func (v *visit) reply(verb string, fits bool, yes, no string) bool {
	reply := no
	if fits {
		reply = yes
	}
	if v.mx.answer != nil {
		if other := v.mx.answer(verb, v.message); other != "" {
			reply = strings.ReplaceAll(other, "more", reply)
		}
	}
	if text, cut := strings.CutSuffix(reply, "cut"); cut {
		v.cut = true
		if text != "" {
			text += "\r\n"
		}
		v.say(text + "cut")
	} else {
		v.say(strings.ReplaceAll(reply, "|", "\r\n") + "\r\n")
	}
	return reply[0] == '2' || reply[0] == '3'
}

// dots reads a message up to its final dot.
func (v *visit) dots() (string, error) {
	var content strings.Builder
	for {
		line, err := v.reader.ReadString('\n')
		if err != nil || line == ".\r\n" {
			return content.String(), err
		}
		content.WriteString(strings.TrimPrefix(line, "."))
	}
}

// content ends a transaction.
func (v *visit) content(content string, err error) error {
	if err != nil {
		return err
	}
	v.mx.mu.Lock()
	number := len(v.mx.accepted)
	v.mx.accepted = append(v.mx.accepted, accepted{v.from, v.to, content})
	v.mx.mu.Unlock()
	if !v.reply("dot", v.to != "", "250-2.0.0 all|250 2.0.0 right", "554 5.5.1 no valid recipients") {
		v.mx.mu.Lock()
		v.mx.accepted = v.mx.accepted[:number]
		v.mx.mu.Unlock()
	}
	v.from, v.to = "", ""
	return nil
}

// The offers that lead to each mode.
var offersFor = map[Mode]string{
	Sequential: "CHUNKING", Pipelining: "PIPELINING", Chunking: "PIPELINING CHUNKING",
}

// eachMode runs a test in all three modes.
func eachMode(t *testing.T, test func(t *testing.T, mode Mode)) {
	t.Helper()
	for _, mode := range []Mode{Sequential, Pipelining, Chunking} {
		t.Run(string(mode), func(t *testing.T) { test(t, mode) })
	}
}

// visitMX opens a session with an mx over a connection of the kernel's.
func visitMX(t *testing.T, m *mx) *Session {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { m.serve(conn) })
		}
	})
	t.Cleanup(func() { _ = listener.Close(); serving.Wait() })
	relay := plainRelay
	relay.Port = listener.Addr().(*net.TCPAddr).Port
	s, err := Dial(t.Context(), relay)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// post is traffic of some messages and what became of them.
type post struct {
	mails    []*Mail
	next     int
	launched map[*Mail]bool
	replies  map[*Mail]Reply
}

// letters makes messages to r1, r2, …: each names its recipient in its content.
func letters(n int) *post {
	p := &post{launched: map[*Mail]bool{}, replies: map[*Mail]Reply{}}
	for i := range n {
		to := fmt.Sprintf("r%d@reader.example", i+1)
		p.mails = append(p.mails, &Mail{
			Envelope{From: fmt.Sprintf("b%d@news.example", i+1), To: to}, bare("Subject: hello\r\n\r\nhello " + to + "\r\n"),
		})
	}
	return p
}

func (p *post) Next(bool) *Mail {
	if p.next == len(p.mails) {
		return nil
	}
	p.next++
	return p.mails[p.next-1]
}

func (p *post) Launch(m *Mail) error {
	p.launched[m] = true
	return nil
}

func (p *post) Settle(m *Mail, r Reply) {
	if _, twice := p.replies[m]; twice {
		panic("a message was settled twice")
	}
	p.replies[m] = r
}

// verdicts are what follows for each message; those that were never begun are "".
func (p *post) verdicts() []Verdict {
	var list []Verdict
	for _, m := range p.mails {
		verdict := Verdict("")
		if reply, settled := p.replies[m]; settled {
			verdict = Judge(reply).Verdict
		}
		list = append(list, verdict)
	}
	return list
}
