package main

import (
	"bufio"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
)

// greylist is a policy service for Postfix (its SMTPD_POLICY_README): it sees every recipient before the server answers, and
// asks for patience where a triple is new.
type greylist struct {
	address string
	wary    func(recipient string) bool

	mu      sync.Mutex
	triples map[triple]int             // how often each has come
	senders map[string]map[string]bool // of each recipient, all that have come
	asked   int
	at      int
	reach   chan struct{}
}

type triple struct{ client, sender, recipient string }

func newGreylist(t *testing.T, wary func(recipient string) bool) *greylist {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &greylist{
		address: listener.Addr().String(), wary: wary, triples: map[triple]int{}, senders: map[string]map[string]bool{},
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go g.answer(conn)
		}
	}()
	return g
}

// answer serves one connection: attributes a line each, an empty line, an action and an empty line, over and over.
func (g *greylist) answer(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	attributes := map[string]string{}
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if name, value, found := strings.Cut(lines.Text(), "="); found {
			attributes[name] = value
			continue
		}
		action := g.judge(triple{attributes["client_address"], attributes["sender"], attributes["recipient"]})
		if _, err := fmt.Fprintf(conn, "action=%s\n\n", action); err != nil {
			return
		}
		clear(attributes)
	}
}

func (g *greylist) judge(x triple) (action string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.asked++; g.asked == g.at {
		close(g.reach)
	}
	if g.senders[x.recipient] == nil {
		g.senders[x.recipient] = map[string]bool{}
	}
	g.senders[x.recipient][x.sender] = true
	if g.triples[x]++; g.triples[x] == 1 && g.wary(x.recipient) {
		return "451 4.7.1 Greylisted, please try again later"
	}
	return "DUNNO"
}

// arm gives a channel that is closed when so many more recipients have been named.
func (g *greylist) arm(more int) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at, g.reach = g.asked+more, make(chan struct{})
	return g.reach
}

// deferred counts the triples that were asked for patience; waiting are the recipients of those that have not come again.
func (g *greylist) deferred() (count int, waiting []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for x, times := range g.triples {
		if !g.wary(x.recipient) {
			continue
		}
		count++
		if times == 1 {
			waiting = append(waiting, x.recipient)
		}
	}
	return count, waiting
}

// sendersOf are the envelope senders of which a recipient was to get mail.
func (g *greylist) sendersOf(recipient string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Sorted(maps.Keys(g.senders[recipient]))
}
