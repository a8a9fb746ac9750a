package newsletter

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"depesche/migrations"
	"depesche/migrations/dbtest"
)

// However a dispatch ends, nothing of it goes on behind the back of whoever called it: no connection, no watch over the digest,
// no letters, no wait for a grace nobody needs.
func TestNothingIsLeftRunning(t *testing.T) {
	for name, end := range map[string]struct {
		arrange func(h *house, d Digest, stop func()) // what becomes of it, said at the third mail
		before  func(t *testing.T, h *house)
		check   func(r Report, m Morning) bool
	}{
		"success": {check: func(r Report, _ Morning) bool { return r.Sent == 200 }},
		"hold": {
			arrange: func(h *house, d Digest, _ func()) { check(h.t.(*testing.T), h.Hold(context.Background(), h.now, d.ID)) },
			check:   func(r Report, _ Morning) bool { return r.Held && r.Due > 0 },
		},
		"cancellation": {
			arrange: func(_ *house, _ Digest, stop func()) { stop() },
			check:   func(r Report, _ Morning) bool { return r.Sent >= 3 && r.Due > 0 && r.Doubtful == 0 },
		},
		"away": {
			before: func(_ *testing.T, h *house) { h.Relay.Port = 1 }, // nobody listens
			check:  func(r Report, m Morning) bool { return r.Due == 200 && len(m.Problems) == 1 && isAway(m.Problems[0]) },
		},
		"away without a greeting": {
			before: func(t *testing.T, h *house) { h.Relay.Port = mute(t) },
			check:  func(r Report, m Morning) bool { return r.Due == 200 && len(m.Problems) == 1 && isAway(m.Problems[0]) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
				h := newHouse(t, db, daily(t))
				d := h.due(200)
				ctx, stop := context.WithCancel(context.Background())
				defer stop()
				if end.before != nil {
					end.before(t, h)
				}
				var once sync.Once
				count := 0
				h.relay.setAnswer(func(string, []byte) error {
					if count++; count == 3 && end.arrange != nil {
						once.Do(func() { end.arrange(h, d, stop) })
					}
					return nil
				})
				goroutines := goleak.IgnoreCurrent()
				m, err := h.Run(ctx, Plan{Options: Options{Now: h.clock()}})
				if err != nil && !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
				// The relay's own end when it has read QUIT, which may take it a moment: the check waits for that.
				if err := goleak.Find(goroutines); err != nil {
					t.Error(err)
				}
				if r := h.report("2026-02-11"); !end.check(r, m) {
					t.Errorf("report %+v, problems %v", r, m.Problems)
				}
			})
		})
	}
}

// mute is the port of a server that accepts connections and closes them without a word.
func mute(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		accepting.Wait()
	})
	return listener.Addr().(*net.TCPAddr).Port
}
