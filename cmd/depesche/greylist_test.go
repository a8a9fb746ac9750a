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
	"time"
)

// greylist is a policy service for Postfix (its SMTPD_POLICY_README): it sees every recipient before the server answers, and
// where it is wary asks for some minutes of patience with a triple that is new (RFC 6647 §2.3).
type greylist struct {
	address string
	wary    func(recipient string) bool

	mu        sync.Mutex
	set, at   time.Time            // what its clock was set to, and when
	first     map[triple]time.Time // when each came that it is wary of
	passed    map[triple]bool
	impatient int                        // came again too soon
	senders   map[string]map[string]bool // of each recipient, all that have come
	asked     int
	goal      int
	reach     chan struct{}
}

type triple struct{ client, sender, recipient string }

// patience is what a greylist wants to see.
const patience = 5 * time.Minute

func newGreylist(t *testing.T, wary func(recipient string) bool) *greylist {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &greylist{
		address: listener.Addr().String(), wary: wary,
		first: map[triple]time.Time{}, passed: map[triple]bool{}, senders: map[string]map[string]bool{},
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

// setClock lets the greylist live in the time of a run (RFC 3339).
func (g *greylist) setClock(t *testing.T, now string) {
	t.Helper()
	set, err := time.Parse(time.RFC3339, now)
	if err != nil {
		t.Fatal(err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.set, g.at = set, time.Now()
}

func (g *greylist) judge(x triple) (action string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.asked++; g.asked == g.goal {
		close(g.reach)
	}
	if g.senders[x.recipient] == nil {
		g.senders[x.recipient] = map[string]bool{}
	}
	g.senders[x.recipient][x.sender] = true
	if !g.wary(x.recipient) || g.passed[x] {
		return "DUNNO"
	}
	now := g.set.Add(time.Since(g.at))
	first, seen := g.first[x]
	switch {
	case !seen:
		g.first[x] = now
	case now.Sub(first) < patience:
		g.impatient++
	default:
		g.passed[x] = true
		return "DUNNO"
	}
	return "451 4.7.1 Greylisted, please try again later"
}

// arm gives a channel that is closed when so many more recipients have been named.
func (g *greylist) arm(more int) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.goal, g.reach = g.asked+more, make(chan struct{})
	return g.reach
}

// patient says how many triples were asked for patience, who of them has not passed yet, and how many came again too soon.
func (g *greylist) patient() (asked int, waiting []string, impatient int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for x := range g.first {
		if !g.passed[x] {
			waiting = append(waiting, x.recipient)
		}
	}
	return len(g.first), waiting, g.impatient
}

// sendersOf are the envelope senders of which a recipient was to get mail.
func (g *greylist) sendersOf(recipient string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Sorted(maps.Keys(g.senders[recipient]))
}
