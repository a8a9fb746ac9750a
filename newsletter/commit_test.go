package newsletter

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"

	"depesche/migrations"
	"depesche/migrations/dbtest"
)

// loss is where a connection to PostgreSQL breaks around a COMMIT. What happened to the transaction differs; what the client
// sees does not.
type loss string

const (
	beforeCommit loss = "before it reaches the server" // it never happens
	duringCommit loss = "while it is on its way"       // nobody knows
	afterCommit  loss = "before its answer comes"      // it has happened
)

// A COMMIT of the recorder's whose answer is lost is read back, never assumed. Where it has happened the dispatch goes on as if
// nothing had been; where it has not, it ends, and the next one finds in the journal what the database does not know. Nobody
// is lost, nobody has two mails, nothing is doubtful: the server has answered everything.
func TestLostCommit(t *testing.T) {
	for _, where := range []loss{beforeCommit, duringCommit, afterCommit} {
		t.Run(string(where), func(t *testing.T) {
			const readers = 250
			cable := newCable(t, dbtest.PostgreSQLLocation(t), where)
			db, err := migrations.Open(context.Background(), cable.location)
			check(t, err)
			t.Cleanup(func() { check(t, db.Close()) })
			check(t, db.Ready(context.Background()))
			h := newHouse(t, db, daily(t))
			h.due(readers)
			taken := 0
			h.relay.setAnswer(func(string, []byte) error {
				if taken++; taken%50 == 0 { // several windows in, and again if it goes on
					cable.damage()
				}
				return nil
			})
			_, err = h.Run(context.Background(), Plan{Options: Options{Now: h.clock()}})
			switch r := h.report("2026-02-11"); {
			case cable.cuts() == 0:
				t.Fatal("no COMMIT of the recorder's was lost")
			case where == afterCommit && (err != nil || r.Sent != readers || r.Doubtful != 0 || cable.cuts() < 2):
				t.Errorf("%d COMMITs lost that had happened: %v, %+v; want all sent", cable.cuts(), err, r)
			case where == beforeCommit && (!errors.Is(err, errUnrecorded) || r.Due == 0):
				t.Errorf("a COMMIT lost that had not happened: %v, %+v; want the end of the run", err, r)
			case err != nil && !errors.Is(err, errUnrecorded):
				t.Errorf("run: %v", err)
			}
			t.Logf("%d lost, %v", cable.cuts(), err)
			cable.repair()
			h.run("2026-02-11T06:05:00+01:00")
			if r := h.report("2026-02-11"); r.Sent != readers || r.State != Done {
				t.Errorf("the next run: %+v, want all sent", r)
			}
			counts := h.relay.perReader()
			for reader, n := range counts {
				if n != 1 {
					t.Errorf("%s got %d mails", reader, n)
				}
			}
			if len(counts) != readers {
				t.Errorf("%d readers got a mail, want %d", len(counts), readers)
			}
		})
	}
}

// cable is the way to a PostgreSQL, which can be cut at a COMMIT of the recorder's. It reads enough of the protocol to know
// one: those of transactions in which the dispatcher's row was signed.
type cable struct {
	location string // of the database, by this way
	target   string
	where    loss

	mu      sync.Mutex
	damaged bool            // the next COMMIT is lost
	lost    int             // how many were
	signing map[string]bool // names of prepared statements that sign
	whole   bool            // none is lost any more
}

func newCable(t *testing.T, location string, where loss) *cable {
	t.Helper()
	address, err := url.Parse(location)
	check(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	c := &cable{target: address.Host, where: where, signing: map[string]bool{}}
	address.Host = listener.Addr().String()
	c.location = address.String()
	var carrying sync.WaitGroup
	carrying.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			carrying.Go(func() { c.carry(client) })
		}
	})
	t.Cleanup(func() { // the database, opened later, is closed by then
		_ = listener.Close()
		carrying.Wait()
	})
	return c
}

// damage has the recorder's next COMMIT lost.
func (c *cable) damage() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.damaged = !c.whole
}

func (c *cable) repair() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.damaged, c.whole = false, true
}

func (c *cable) cuts() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}

// breaks says whether this is the COMMIT to be lost.
func (c *cable) breaks() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.damaged {
		return false
	}
	c.damaged = false
	c.lost++
	return true
}

// signs says whether a message names the statement that signs the dispatcher's row, and remembers its name.
func (c *cable) signs(kind byte, body []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch kind {
	case 'P': // Parse: name, text
		name, text, _ := bytes.Cut(body, []byte{0})
		if bytes.Contains(text, []byte("UPDATE dispatchers SET lease")) {
			c.signing[string(name)] = true
		}
	case 'B': // Bind: portal, name
		_, rest, _ := bytes.Cut(body, []byte{0})
		name, _, _ := bytes.Cut(rest, []byte{0})
		return c.signing[string(name)]
	}
	return false
}

// carry is one connection.
func (c *cable) carry(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", c.target)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	deaf := make(chan struct{}) // closed when what the server says is not passed on any more
	var back sync.WaitGroup
	back.Go(func() {
		passing := &unlessDeaf{client, deaf}
		_, _ = io.Copy(passing, server)
		_ = client.Close()
	})
	defer back.Wait()
	defer func() { _ = server.Close() }()
	head := make([]byte, 4) // the first message has no kind
	if _, err := io.ReadFull(client, head); err != nil {
		return
	}
	rest := make([]byte, binary.BigEndian.Uint32(head)-4)
	if _, err := io.ReadFull(client, rest); err != nil {
		return
	}
	if _, err := server.Write(append(head, rest...)); err != nil {
		return
	}
	signed := false
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(client, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(client, body); err != nil {
			return
		}
		signed = c.signs(head[0], body) || signed
		message := append(head, body...)
		if head[0] == 'Q' && strings.EqualFold(strings.TrimRight(string(body), "\x00;"), "commit") {
			if signed && c.breaks() {
				c.lose(client, server, deaf, message)
				return
			}
			signed = false
		}
		if _, err := server.Write(message); err != nil {
			return
		}
	}
}

// lose loses a COMMIT, or its answer.
func (c *cable) lose(client, server net.Conn, deaf chan struct{}, commit []byte) {
	close(deaf)
	if c.where == beforeCommit {
		return
	}
	if _, err := server.Write(commit); err != nil || c.where == duringCommit {
		return
	}
	// PostgreSQL takes the end of the connection when it has done what was asked before: its own end says that it has.
	_ = server.(*net.TCPConn).CloseWrite()
	_, _ = io.Copy(io.Discard, client)
}

// unlessDeaf passes on what is written until nobody is to hear it; then it goes on to listen, and nobody hears it.
type unlessDeaf struct {
	io.Writer
	deaf chan struct{}
}

func (u *unlessDeaf) Write(p []byte) (int, error) {
	select {
	case <-u.deaf:
		return len(p), nil
	default:
		return u.Writer.Write(p)
	}
}
