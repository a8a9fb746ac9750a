package main

import (
	"encoding/json"
	"testing"
	"time"
)

// figures are what sending cost.
type figures struct {
	messages int
	rate     float64 // messages a second, between the first and the last that the server accepted
	cpu      float64 // µs of the sender's processes for a message
	sinkCPU  float64 // µs of the server's
	memory   float64 // MB, of the sender's largest process
	commits  int     // 0: unknown
}

// figuresOf puts together what the server counted and what the senders used.
func figuresOf(c sinkCount, senders ...usage) figures {
	f := figures{messages: c.Messages, rate: float64(c.Messages) / c.Span, sinkCPU: 1e6 * c.CPU / float64(c.Messages)}
	var cpu time.Duration
	for _, used := range senders {
		cpu += used.cpu
		f.memory = max(f.memory, used.memory)
	}
	f.cpu = float64(cpu.Microseconds()) / float64(c.Messages)
	return f
}

// dispatched sends the whole digest once and holds it to having reached everybody.
func (p *press) dispatched(t testing.TB, server *sink) (figures, usage) {
	t.Helper()
	server.count()
	out, used := p.depesche(0, "dispatch", "--json")
	c := server.count()
	if c.Messages != p.readers {
		t.Fatalf("the server accepted %d messages, want %d", c.Messages, p.readers)
	}
	if a := p.number(`SELECT COUNT(*) FROM deliveries WHERE state = 'sent'`); a != p.readers {
		t.Fatalf("%d deliveries are sent, want %d", a, p.readers)
	}
	f := figuresOf(c, used)
	var morning struct {
		Digests []struct{ Tally struct{ Commits int } }
	}
	if err := json.Unmarshal([]byte(out), &morning); err != nil {
		t.Fatal(err)
	}
	for _, digest := range morning.Digests {
		f.commits += digest.Tally.Commits
	}
	return f, used
}
