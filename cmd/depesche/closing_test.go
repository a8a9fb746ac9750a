package main

import (
	"database/sql"
	"testing"
	"time"
)

// A server closes every connection without a word after some messages (B20, Yahoo does). Nobody is lost and nobody has two
// mails; doubtful is what was on the wire at that moment, which without CHUNKING is nothing. The number is learned, kept, and
// the next process takes its leave before the server does.
func TestServerThatClosesIsLearned(t *testing.T) {
	t.Parallel()
	for mode, offers := range map[string][]string{"pipelining": {pipelined}, "chunking": {pipelined, chunked}} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			eachTown(t, func(t *testing.T, town *town) {
				t.Parallel()
				const readers, most = 300, 20
				server := newTurnstile(t, slowly(time.Millisecond), offers...)
				server.most = most
				town.printed(server, readers)
				const first, second = "2026-02-11T07:00:00+01:00", "2026-02-12T06:00:00+01:00"
				town.depesche(first, 0, "run")
				server.rest()
				r := town.account(first)
				troubles := town.troubled(r)
				counts := server.perReader(accepted)
				exactlyOnce(t, counts, readers, func(reader string) bool { _, doubtful := troubles[reader]; return doubtful })
				for reader := range troubles {
					if counts[reader] > 0 {
						t.Errorf("%s is doubtful, and the server has said 250", reader)
					}
				}
				// A number counts as learned when it was met twice; each connection may meet it, and some of them together.
				closings := server.closings()
				if closings > 2*4 {
					t.Errorf("the server closed %d connections in use, want the number learned before", closings)
				}
				if onTheWire := map[string]int{"pipelining": 0, "chunking": 8}[mode]; r.Doubtful > closings*onTheWire || r.Sent != readers-r.Doubtful {
					t.Errorf("%d connections were closed: %+v; want at most %d doubtful for each, the others sent", closings, r.Report, onTheWire)
				}
				t.Logf("%d of %d connections were closed in use, %d doubtful", closings, server.connections(), r.Doubtful)
				var learned int
				town.database(func(db *sql.DB) error {
					return db.QueryRow(`SELECT most FROM manners WHERE scope = ''`).Scan(&learned)
				})
				if learned != most {
					t.Errorf("learned that a connection takes %d messages, want %d", learned, most)
				}

				// The server is as before; the next process never runs into it.
				before := server.connections()
				town.article("sitzung", "Politik", "2026-02-12T04:00:00+01:00", "")
				town.depesche(second, 0, "run")
				server.rest()
				if after := server.closings(); after != closings {
					t.Errorf("the next process met the limit %d times", after-closings)
				}
				sent, used := map[string]int{}, map[int]int{}
				for _, p := range server.all() {
					if p.visit > before {
						sent[p.to]++
						used[p.visit]++
					}
				}
				exactlyOnce(t, sent, readers, nobody)
				fullest := 0
				for _, n := range used {
					fullest = max(fullest, n)
				}
				if fullest != most {
					t.Errorf("the next process put %d messages into a connection, want %d, the number that was learned", fullest, most)
				}
			})
		})
	}
}

// connections counts those there have been.
func (s *turnstile) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.visits
}

// closings counts the connections a turnstile has closed in use: their clients had begun one message more than it takes.
func (s *turnstile) closings() int {
	used := map[int]int{}
	for _, p := range s.all() {
		used[p.visit]++
	}
	n := 0
	for _, begun := range used {
		if begun > s.most {
			n++
		}
	}
	return n
}
