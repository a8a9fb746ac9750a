package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"depesche/subscribers"
)

const (
	digestOfTheDay = "morgen/2026-02-11"
	pipelined      = "PIPELINING"
	chunked        = "CHUNKING"
	wide           = 8 * 8 // connections and flight window by default: what can be on the wire
)

// leser is the address of one of those town.addReaders adds.
func leser(n int) string { return fmt.Sprintf("leser%d@reader.test", n) }

// exactlyOnce checks that every reader has one mail, or none and is doubtful.
func exactlyOnce(t *testing.T, counts map[string]int, readers int, doubtful func(reader string) bool) {
	t.Helper()
	for i := range readers {
		reader := leser(i + 1)
		if n := counts[reader]; n > 1 || n == 0 && !doubtful(reader) {
			t.Errorf("%s got %d mails, doubtful: %v", reader, n, doubtful(reader))
		}
	}
}

func nobody(string) bool { return false }

// An editor's hold comes from another process while a slow server is being sent to: nothing is begun later than a second
// after it, what is on the wire arrives, and released the rest goes out, once. The same under `run` and `dispatch --follow`.
func TestHeldByAnotherProcess(t *testing.T) {
	t.Parallel()
	eachTown(t, func(t *testing.T, town *town) {
		t.Parallel()
		const readers = 4000
		server := newTurnstile(t, slowly(10*time.Millisecond), pipelined, chunked)
		town.printed(server, readers)
		for _, c := range []struct {
			command []string
			more    int // mails before the hold: at first many, so that the windows in hand are as large as they get
		}{{[]string{"run"}, 500}, {[]string{"dispatch", "--follow"}, 100}} {
			command, before := c.command, server.count(anyPiece)
			process := town.start(t, runAt, command...)
			until(t, 20*time.Second, "so many more mails have begun", func() bool { return server.count(anyPiece) > before+c.more })
			town.depesche(runAt, 0, "hold", digestOfTheDay)
			held := time.Now()
			process.wait(5*time.Second, 6)
			last := held
			for _, p := range server.all() {
				if p.began.After(last) {
					last = p.began
				}
			}
			t.Logf("%v: the last mail was begun %v after the hold", command, last.Sub(held))
			if last.Sub(held) > time.Second {
				t.Errorf("%v: a mail was begun %v after the hold, want at most a second", command, last.Sub(held))
			}
			r := town.account(runAt)
			if taken := server.count(accepted); !r.Held || r.Doubtful != 0 || r.Sent != taken || r.Due != readers-taken || r.Due == 0 {
				t.Errorf("%v: held with %d mails taken: %+v; want those sent, the others due, nothing doubtful", command, taken, r.Report)
			}
			town.depesche(runAt, 0, "release", digestOfTheDay)
		}
		server.set(atOnce)
		town.depesche(runAt, 0, "dispatch", "--follow")
		if r := town.account(runAt); r.Sent != readers {
			t.Errorf("released: %+v, want all sent", r.Report)
		}
		exactlyOnce(t, server.perReader(complete), readers, nobody)
	})
}

// SIGTERM: with a server that answers, what is on the wire is waited for and nothing is doubtful; with one that has gone
// silent the process ends all the same, within systemd's patience, and doubtful is what was on the wire.
func TestTerminated(t *testing.T) {
	t.Parallel()
	eachTown(t, func(t *testing.T, town *town) {
		t.Parallel()
		const readers = 1200
		server := newTurnstile(t, slowly(10*time.Millisecond), pipelined, chunked)
		town.printed(server, readers)
		process := town.start(t, runAt, "run")
		until(t, 20*time.Second, "a hundred mails have begun", func() bool { return server.count(anyPiece) > 100 })
		took := process.terminate(5*time.Second, 0)
		r := town.account(runAt)
		if taken := server.count(accepted); r.Doubtful != 0 || r.Sent != taken || r.Due != readers-taken || r.Due == 0 {
			t.Errorf("an answering server took %d: %+v; want those sent, the others due, nothing doubtful", taken, r.Report)
		}
		t.Logf("with an answering server it took %v", took)

		before := server.count(anyPiece)
		process = town.start(t, runAt, "run")
		until(t, 20*time.Second, "a hundred more mails have begun", func() bool { return server.count(anyPiece) > before+100 })
		new(silence).falls(server, 2)
		took = process.terminate(10*time.Second, 0)
		t.Logf("with a silent server it took %v", took)
		server.rest()
		r = town.account(runAt)
		troubles := town.troubled(r)
		if waiting := server.count(unanswered); r.Doubtful < waiting || waiting == 0 || r.Doubtful > wide || r.OnWire != 0 {
			t.Errorf("a silent server left %d without an answer: %+v; want them doubtful, and at most %d", waiting, r.Report, wide)
		}

		server.set(atOnce)
		town.depesche("2026-02-11T06:05:00+01:00", 0, "run")
		if after := town.account(runAt); after.Doubtful != r.Doubtful || after.Sent != readers-r.Doubtful {
			t.Errorf("the next run: %+v, want the rest sent and the doubtful left to a person", after)
		}
		exactlyOnce(t, server.perReader(complete), readers, func(reader string) bool { _, doubtful := troubles[reader]; return doubtful })
	})
}

// A sign-up comes while a digest is being sent slowly: its letter does not wait for the end of the digest.
func TestLetterAheadOfTheDigest(t *testing.T) {
	t.Parallel()
	eachTown(t, func(t *testing.T, town *town) {
		t.Parallel()
		const readers, newcomer = 2000, "neu@reader.test"
		server := newTurnstile(t, slowly(10*time.Millisecond), pipelined, chunked)
		town.printed(server, readers)
		a := &app{environ: town.environ, stdout: io.Discard, stderr: io.Discard, configPath: town.folder + "/depesche.yaml", now: time.Now}
		h, err := a.open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer h.close()
		process := town.start(t, runAt, "run")
		until(t, 20*time.Second, "a hundred mails have begun", func() bool { return server.count(anyPiece) > 100 })
		now, err := time.Parse(time.RFC3339, runAt)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.registry.SignUp(context.Background(), now, subscribers.SignUp{Address: newcomer}); err != nil {
			t.Fatal(err)
		}
		signedUp := time.Now()
		until(t, 10*time.Second, "the letter has come", func() bool { return server.perReader(complete)[newcomer] == 1 })
		took, digest := time.Since(signedUp), server.count(complete)-1
		t.Logf("the letter came after %v, when the digest was at %d", took, digest)
		if took > 2500*time.Millisecond || digest >= readers {
			t.Errorf("the letter came %v after the sign-up, when %d mails of %d had come; want two seconds, and before the end", took, digest, readers)
		}
		server.set(atOnce)
		process.wait(20*time.Second, 0)
		counts := server.perReader(complete)
		exactlyOnce(t, counts, readers, nobody)
		if counts[newcomer] != 1 {
			t.Errorf("%d letters came, want one", counts[newcomer])
		}
	})
}

// Killed with mails on the wire: `doubt: resend` sends those again, byte for byte what they were; `hold` leaves them alone.
func TestDoubtAfterAKill(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"resend", "hold"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			eachTown(t, func(t *testing.T, town *town) {
				t.Parallel()
				const readers = 300
				server := newTurnstile(t, slowly(time.Millisecond), pipelined, chunked)
				title := "title: Talbote am Morgen,"
				town.write("depesche.yaml", strings.Replace(townConfig, title, title+" doubt: "+policy+",", 1))
				town.printed(server, readers)
				process := town.start(t, runAt, "run")
				until(t, 20*time.Second, "fifty mails have been taken", func() bool { return server.count(accepted) > 50 })
				new(silence).falls(server, 2)
				process.kill()
				server.rest()
				first := map[string]piece{}
				for _, p := range server.all() {
					if unanswered(p) {
						first[p.to] = p
					}
				}

				server.set(atOnce)
				const next = "2026-02-11T06:05:00+01:00"
				town.depesche(next, 0, "run")
				r := town.account(next)
				troubles := town.troubled(r)
				counts := server.perReader(complete)
				if policy == "hold" {
					if r.Doubtful < len(first) || len(first) == 0 || r.Doubtful > wide || r.Sent != readers-r.Doubtful {
						t.Errorf("%d had no answer: %+v; want them doubtful, at most %d, the others sent", len(first), r.Report, wide)
					}
					exactlyOnce(t, counts, readers, func(reader string) bool { _, doubtful := troubles[reader]; return doubtful })
					return
				}
				if r.Sent != readers {
					t.Errorf("%+v, want all sent", r.Report)
				}
				// An answer may have been on its way when the process died: to the server it was given, to depesche it was not.
				twice := 0
				for i := range readers {
					reader := leser(i + 1)
					_, again := first[reader]
					if got := counts[reader]; got < 1 || got > 2 || again && got != 2 {
						t.Errorf("%s got %d mails; without an answer at first: %v", reader, got, again)
					}
					if counts[reader] == 2 {
						twice++
					}
				}
				if twice > wide {
					t.Errorf("%d got their mail twice, want at most the %d that were on the wire", twice, wide)
				}
				seen := map[string]piece{}
				for _, p := range server.all() {
					if !complete(p) {
						continue
					}
					if before, twice := seen[p.to]; twice && (p.content != before.content || p.command != before.command) {
						t.Fatalf("%s got two mails that differ:\n%s\n%.600s\n---\n%s\n%.600s", p.to, before.command, before.content, p.command, p.content)
					}
					seen[p.to] = p
				}
				for reader, p := range first {
					if !strings.Contains(p.content, "\r\nMessage-ID: <") {
						t.Errorf("the mail to %s has no Message-ID", reader)
					}
				}
			})
		})
	}
}
