package main

import (
	"bufio"
	"bytes"
	"database/sql"
	"errors"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"depesche/migrations"
	"depesche/newsletter"
)

// turnstile is a mail server that hears at any time and answers a whole message only when its toll is paid: slowly, at once,
// or never. It writes down when each message began, so a test can say what a sender did, and not only what came of it.
type turnstile struct {
	t       *testing.T
	address string
	offers  []string // extensions
	most    int      // a connection is closed without a word after so many accepted messages; 0: never

	mu     sync.Mutex
	toll   toll
	pieces []*piece
	visits int
	open   int // connections of which something may still come
}

// toll returns when a message may be answered, or when its client has gone.
type toll func(gone <-chan struct{})

// atOnce and slowly are tolls.
func atOnce(<-chan struct{}) {}

func slowly(d time.Duration) toll {
	return func(gone <-chan struct{}) {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-gone:
		}
	}
}

// silence is a toll that nobody can pay; it counts the connections that have met it.
type silence struct{ met atomic.Int32 }

func (s *silence) toll(gone <-chan struct{}) {
	s.met.Add(1)
	<-gone
}

// falls silences a server and waits until some of its connections wait.
func (s *silence) falls(server *turnstile, connections int32) {
	server.t.Helper()
	server.set(s.toll)
	until(server.t, 20*time.Second, "the silence is met", func() bool { return s.met.Load() >= connections })
}

// piece is a message, from its MAIL command on.
type piece struct {
	visit, number int    // which connection, and which message of it
	command       string // MAIL, with its parameters
	from, to      string
	content       string
	began         time.Time
	complete      bool // all of it has come
	accepted      bool // and 250 was said to it
}

func newTurnstile(t *testing.T, toll toll, offers ...string) *turnstile {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &turnstile{t: t, address: listener.Addr().String(), toll: toll, offers: offers}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() { // every client is a process that has ended by then, and its connections with it
		_ = listener.Close()
		serving.Wait()
	})
	return s
}

// set changes the toll for the answers that are next.
func (s *turnstile) set(toll toll) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.toll = toll
}

// all are the messages of which something has come so far.
func (s *turnstile) all() []piece {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]piece, len(s.pieces))
	for i, p := range s.pieces {
		list[i] = *p
	}
	return list
}

// count counts messages.
func (s *turnstile) count(which func(piece) bool) (n int) {
	for _, p := range s.all() {
		if which(p) {
			n++
		}
	}
	return n
}

func anyPiece(piece) bool     { return true }
func unanswered(p piece) bool { return p.complete && !p.accepted }
func accepted(p piece) bool   { return p.accepted }
func complete(p piece) bool   { return p.complete }

// perReader counts messages of a sort by recipient.
func (s *turnstile) perReader(which func(piece) bool) map[string]int {
	counts := map[string]int{}
	for _, p := range s.all() {
		if which(p) {
			counts[p.to]++
		}
	}
	return counts
}

// turn is one connection to a turnstile.
type turn struct {
	*turnstile
	conn    net.Conn
	reader  *bufio.Reader
	answers chan func() string // what to say, in order; "" closes the connection
	gone    chan struct{}      // closed when the client has gone
	visit   int
	heard   int // messages begun
	taken   int // messages accepted
	piece   *piece
}

func (s *turnstile) serve(conn net.Conn) {
	s.mu.Lock()
	s.visits++
	s.open++
	v := &turn{
		turnstile: s, conn: conn, reader: bufio.NewReader(conn), visit: s.visits,
		answers: make(chan func() string, 1000), gone: make(chan struct{}),
	}
	s.mu.Unlock()
	var answering sync.WaitGroup
	answering.Go(v.answer)
	v.say("220 turnstile.test")
	for v.hear() == nil {
	}
	close(v.gone)
	close(v.answers)
	answering.Wait()
	_ = conn.Close()
	s.mu.Lock()
	s.open--
	s.mu.Unlock()
}

// rest waits until everything has been heard that a client left behind in the kernel when it ended.
func (s *turnstile) rest() {
	s.t.Helper()
	until(s.t, 10*time.Second, "the server has heard everything", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.open == 0
	})
}

// answer says what is to be said, in its order.
func (v *turn) answer() {
	for next := range v.answers {
		text := next()
		if text == "" {
			_ = v.conn.Close() // hear ends by it
			continue
		}
		_, _ = io.WriteString(v.conn, strings.ReplaceAll(text, "\n", "\r\n")+"\r\n")
	}
}

func (v *turn) say(text string) { v.answers <- func() string { return text } }

// hear takes one command.
func (v *turn) hear() error {
	line, err := v.reader.ReadString('\n')
	if err != nil {
		return err
	}
	line = strings.TrimSuffix(line, "\r\n")
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "EHLO":
		lines := append([]string{"turnstile.test"}, v.offers...)
		v.say("250-" + strings.Join(lines[:len(lines)-1], "\n250-") + "\n250 " + lines[len(lines)-1])
	case "MAIL":
		v.mu.Lock()
		v.heard++
		v.piece = &piece{visit: v.visit, number: v.heard, command: line, from: bracketed(line), began: time.Now()}
		v.pieces = append(v.pieces, v.piece)
		v.mu.Unlock()
		v.say("250 2.1.0 ok")
	case "RCPT":
		v.mu.Lock()
		v.piece.to = bracketed(line)
		v.mu.Unlock()
		v.say("250 2.1.5 ok")
	case "DATA":
		v.say("354 go on")
		var content strings.Builder
		for {
			line, err := v.reader.ReadString('\n')
			if err != nil {
				return err
			}
			if line == ".\r\n" {
				break
			}
			content.WriteString(strings.TrimPrefix(line, "."))
		}
		v.end(content.String())
	case "BDAT":
		size, err := strconv.Atoi(strings.TrimSuffix(rest, " LAST"))
		if err != nil {
			return err
		}
		content := make([]byte, size)
		if _, err := io.ReadFull(v.reader, content); err != nil {
			return err
		}
		v.end(string(content))
	case "RSET":
		v.say("250 2.0.0 ok")
	case "QUIT":
		v.say("221 2.0.0 bye")
	default:
		v.t.Errorf("the client said %q", line)
		return errors.New("unknown command")
	}
	return nil
}

func bracketed(s string) string {
	_, s, _ = strings.Cut(s, "<")
	s, _, _ = strings.Cut(s, ">")
	return s
}

// end is the end of a message: its answer waits for the toll.
func (v *turn) end(content string) {
	p := v.piece
	v.mu.Lock()
	p.content, p.complete = content, true
	v.mu.Unlock()
	v.answers <- func() string {
		if v.most > 0 && v.taken >= v.most {
			return ""
		}
		v.mu.Lock()
		toll := v.toll
		v.mu.Unlock()
		toll(v.gone)
		select {
		case <-v.gone: // nobody would hear it
			return ""
		default:
		}
		v.mu.Lock()
		p.accepted = true
		v.taken++
		last := v.taken == v.most
		v.mu.Unlock()
		if last { // the answer leaves, and the connection is closed after it
			_, _ = io.WriteString(v.conn, "250 2.0.0 taken\r\n")
			return ""
		}
		return "250 2.0.0 taken"
	}
}

// until polls for a condition that another process brings about.
func until(t *testing.T, within time.Duration, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			t.Fatalf("after %v still not: %s", within, what)
		case <-ticker.C:
		}
	}
}

// process is a depesche that runs beside the test.
type process struct {
	t        *testing.T
	command  *exec.Cmd
	problems bytes.Buffer // what it says; read it after it has ended
	ended    chan struct{}
}

// start starts a command; it is killed at the end of a test that has failed before it ended.
func (n *town) start(t *testing.T, now string, args ...string) *process {
	t.Helper()
	p := &process{t: t, command: n.command(now, args...), ended: make(chan struct{})}
	p.command.Stdout, p.command.Stderr = &p.problems, &p.problems
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.command.Wait() // its status is in ProcessState
		close(p.ended)
	}()
	t.Cleanup(p.kill)
	return p
}

func (p *process) kill() {
	_ = p.command.Process.Kill()
	<-p.ended
}

// terminate asks the process to end, as systemd does, and says how long it took.
func (p *process) terminate(within time.Duration, want int) time.Duration {
	p.t.Helper()
	asked := time.Now()
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	p.wait(within, want)
	return time.Since(asked)
}

// wait waits for the process to end with a status.
func (p *process) wait(within time.Duration, want int) {
	p.t.Helper()
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		p.t.Fatalf("%v has not ended within %v", p.command.Args[1:], within)
	}
	if got := p.command.ProcessState.ExitCode(); got != want {
		p.t.Errorf("%v ended with status %d, want %d: %s", p.command.Args[1:], got, want, &p.problems)
	}
}

// troubled are the troubles of an account by reader; the account must add up.
func (n *town) troubled(a account) map[string]newsletter.Trouble {
	n.t.Helper()
	if !a.AddsUp() {
		n.t.Errorf("the report does not add up: %+v", a.Report)
	}
	troubles := map[string]newsletter.Trouble{}
	for _, trouble := range a.Troubles {
		troubles[leser(int(trouble.Subscriber))] = trouble
	}
	return troubles
}

// exec changes the database behind depesche's back.
func (n *town) exec(statement string, args ...any) {
	n.t.Helper()
	n.database(func(db *sql.DB) error {
		_, err := db.Exec(statement, args...)
		return err
	})
}

func (n *town) database(use func(db *sql.DB) error) {
	n.t.Helper()
	config, err := LoadConfig(filepath.Join(n.folder, "depesche.yaml"), n.environ)
	if err != nil {
		n.t.Fatal(err)
	}
	db, err := migrations.Open(n.t.Context(), string(config.Database))
	if err != nil {
		n.t.Fatal(err)
	}
	if err := errors.Join(use(db.Write), db.Close()); err != nil {
		n.t.Fatal(err)
	}
}

// printed prepares a town with readers and an article, whose mail goes to a turnstile.
func (n *town) printed(s *turnstile, readers int) {
	n.t.Helper()
	n.setRelay(s.address)
	n.depesche(ingestAt, 0, "status")
	n.addReaders(readers)
	n.article("haushalt", "Politik", "2026-02-11T04:00:00+01:00", "")
}
