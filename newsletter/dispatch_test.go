package newsletter

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"depesche/migrations"
	"depesche/migrations/dbtest"
	"depesche/newsletter/smtp"
)

// due composes a digest of one article for some readers; nothing of it is sent.
func (h *house) due(readers int) Digest {
	h.t.Helper()
	h.article(at(h.t, "2026-02-11T05:00:00+01:00"), "haushalt", "Politik", nil)
	h.readers(readers, func(i int) (string, []string) { return fmt.Sprintf("leser%d@reader.test", i+1), []string{"politik"} })
	h.now = at(h.t, "2026-02-11T06:00:00+01:00")
	occasion, _ := h.Newsletters[0].Occasion(h.now)
	d, _, err := h.Compose(context.Background(), h.now, h.Newsletters[0], occasion, false)
	if err != nil {
		h.t.Fatal(err)
	}
	return d
}

// states are the deliveries by subscriber.
func (h *house) states() map[int64]State {
	h.t.Helper()
	type row struct {
		id    int64
		state State
	}
	rows, err := all(context.Background(), h.db.Write, func(scan func(...any) error) (r row, err error) {
		return r, scan(&r.id, &r.state)
	}, `SELECT subscriber, state FROM deliveries`)
	if err != nil {
		h.t.Fatal(err)
	}
	states := map[int64]State{}
	for _, r := range rows {
		states[r.id] = r.state
	}
	return states
}

func (h *house) exec(statement string, args ...any) {
	h.t.Helper()
	if _, err := h.db.Write.Exec(statement, args...); err != nil {
		h.t.Fatal(err)
	}
}

// What a dispatcher has in hand is its own: the late reply of another one changes nothing, and one that was declared dead
// writes nothing at all.
func TestFence(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, daily(t))
		d := h.due(3)
		ctx := context.Background()
		h.exec(`UPDATE deliveries SET state = 'doubtful', fence = 7, take = 1`)
		late := &delivery{digest: d.ID, subscriber: 1, reply: smtp.Reply{Phase: smtp.PhaseRcpt, Code: 451}}
		late.outcome = smtp.Judge(late.reply)
		err := db.Tx(ctx, func(tx *sql.Tx) error { return h.settle(ctx, tx, h.now, late, 6, h.now) })
		if err != nil || h.states()[1] != Doubtful {
			t.Errorf("a stranger's reply: %v, the delivery is %s, want still doubtful", err, h.states()[1])
		}
		err = db.Tx(ctx, func(tx *sql.Tx) error { return h.settle(ctx, tx, h.now, late, 7, h.now) })
		if err != nil || h.states()[1] != Due {
			t.Errorf("its own reply: %v, the delivery is %s, want due", err, h.states()[1])
		}

		h.exec(`UPDATE deliveries SET state = 'due'`)
		h.exec(`UPDATE digests SET began = 1`)
		x, err := h.enlist(ctx, Options{Now: h.clock()})
		if err != nil {
			t.Fatal(err)
		}
		h.exec(`DELETE FROM dispatchers`) // somebody has declared it dead
		r := &run{dispatcher: x, spare: make(chan *window, 9), cancel: func() {}}
		if r.digest, err = h.Digest(ctx, d.Newsletter, d.Day); err != nil {
			t.Fatal(err)
		}
		if r.recorder, err = newRecorder(ctx, r, x.journal); err != nil {
			t.Fatal(err)
		}
		if _, err := r.recorder.transact(nil, []*order{{most: 3}}); !errors.Is(err, errFenced) || h.states()[2] != Due {
			t.Errorf("the dead dispatcher: %v, the delivery is %s, want refused and due", err, h.states()[2])
		}
		if err := x.journal.remove(); err != nil {
			t.Error(err)
		}
	})
}

// A window of which one message arrived, one is doubtful, one was refused and one arrived: each is recorded as what it is.
func TestWindowOfAllSorts(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, daily(t))
		d := h.due(4)
		ctx := context.Background()
		h.exec(`UPDATE digests SET began = 1`)
		x, err := h.enlist(ctx, Options{Now: h.clock()})
		check(t, err)
		r := &run{dispatcher: x, spare: make(chan *window, 9), cancel: func() {}}
		r.digest, err = h.Digest(ctx, d.Newsletter, d.Day)
		check(t, err)
		r.recorder, err = newRecorder(ctx, r, x.journal)
		check(t, err)
		windows, err := r.recorder.transact(nil, []*order{{most: 4}})
		check(t, err)
		w := windows[0]
		for i, reply := range []smtp.Reply{
			{Phase: smtp.PhaseDot, Code: 250},
			{Phase: smtp.PhaseDot, Err: errors.New("lost")},
			{Phase: smtp.PhaseRcpt, Code: 550, Enhanced: "5.2.0"},
			{Phase: smtp.PhaseDot, Code: 250},
		} {
			w.deliveries[i].reply, w.deliveries[i].outcome = reply, smtp.Judge(reply)
		}
		_, err = r.recorder.transact([]*window{w}, nil)
		check(t, err)
		r.recorder.retire(w)
		states := h.states()
		if got, want := [4]State{states[1], states[2], states[3], states[4]}, [4]State{Sent, Doubtful, Failed, Sent}; got != want {
			t.Errorf("states %v, want %v", got, want)
		}
		check(t, x.close(ctx, true))
	})
}

// The journal of a dead dispatcher: what had not begun is due, what was answered is recorded, what was on the wire stays
// doubtful; and in another boot, or under another fence, nothing of it is believed.
func TestJournalOfTheDead(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, path string)
		fence int64
		want  [4]State
	}{
		"believed":      {func(*testing.T, string) {}, 7, [4]State{Due, Doubtful, Sent, Failed}},
		"another boot":  {otherBoot, 7, [4]State{Doubtful, Doubtful, Doubtful, Doubtful}},
		"another fence": {func(*testing.T, string) {}, 8, [4]State{Doubtful, Doubtful, Doubtful, Doubtful}},
		"half written":  {func(t *testing.T, path string) { check(t, os.Truncate(path, 5000)) }, 7, [4]State{Doubtful, Doubtful, Doubtful, Doubtful}},
	} {
		t.Run(name, func(t *testing.T) {
			dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
				h := newHouse(t, db, daily(t))
				d := h.due(4)
				h.exec(`UPDATE deliveries SET state = 'doubtful', fence = $1, take = 1`, c.fence)
				j, err := createJournal(h.JournalBase, 7, 8)
				check(t, err)
				for id := int64(1); id <= 4; id++ {
					s := j.take(&delivery{digest: d.ID, subscriber: id})
					if id > 1 {
						s.launch()
					}
					if id == 3 {
						s.answer(smtp.Reply{Phase: smtp.PhaseDot, Code: 250, Enhanced: "2.0.0", Text: "ok"})
					}
					if id == 4 {
						s.answer(smtp.Reply{Phase: smtp.PhaseRcpt, Code: 550, Enhanced: "5.1.1", Text: "no such mailbox"})
					}
				}
				check(t, h.bury(context.Background(), h.now, true)) // its owner lives: nothing happens
				if states := h.states(); states[1] != Doubtful {
					t.Errorf("while its owner lives: %v", states)
				}
				check(t, j.close())
				path := fmt.Sprintf("%s-%d", h.JournalBase, 7)
				c.spoil(t, path)
				for range 2 { // the second time there is nothing more to do
					check(t, h.bury(context.Background(), h.now, true))
				}
				states := h.states()
				if got := [4]State{states[1], states[2], states[3], states[4]}; got != c.want {
					t.Errorf("states %v, want %v", got, c.want)
				}
				if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("the journal is still there: %v", err)
				}
				var reply string
				check(t, db.Read.QueryRow(`SELECT reply FROM deliveries WHERE subscriber = 4`).Scan(&reply))
				if c.want[3] == Failed && reply != "5.1.1 no such mailbox" {
					t.Errorf("the server's words are %q", reply)
				}
			})
		})
	}
}

func otherBoot(t *testing.T, path string) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	check(t, err)
	_, err = file.WriteAt([]byte("00000000"), int64(len(journalMagic)))
	check(t, errors.Join(err, file.Close()))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A journal of another database in the same folder is left alone.
func TestForeignJournal(t *testing.T) {
	h := newHouse(t, dbtest.SQLite(t), daily(t))
	j, err := createJournal(h.JournalBase, 9, 4)
	check(t, err)
	j.take(&delivery{digest: 4711, subscriber: 1}).launch()
	check(t, j.close())
	check(t, h.bury(context.Background(), h.now, true))
	if paths, _ := filepath.Glob(h.JournalBase + "*"); len(paths) != 1 {
		t.Errorf("journals left: %v", paths)
	}
}

// A doubtful delivery is settled by a person, who is named; what a dispatcher at work has in hand is not touched.
func TestResolve(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, daily(t))
		d := h.due(4)
		ctx := context.Background()
		h.exec(`UPDATE deliveries SET state = 'doubtful', fence = 7, settled = 1`)
		x, err := h.enlist(ctx, Options{Now: h.clock()})
		check(t, err)
		if db.Kind == migrations.PostgreSQL { // on SQLite whoever asks holds the lock: nobody is at work
			h.exec(`UPDATE deliveries SET fence = $1 WHERE subscriber = 4`, x.fence)
			if n, err := h.Resolve(ctx, h.now, d, 4, WasSent, "erika"); !errors.Is(err, ErrNotDoubtful) {
				t.Errorf("in hand: %d, %v", n, err)
			}
		}
		check(t, x.close(ctx, true))
		if n, err := h.Resolve(ctx, h.now, d, 1<<62, SendAgain, "erika"); !errors.Is(err, ErrNotDoubtful) {
			t.Errorf("nobody's: %d, %v", n, err)
		}
		if n, err := h.Resolve(ctx, h.now, d, 1, SendAgain, "erika"); n != 1 || err != nil {
			t.Errorf("one again: %d, %v", n, err)
		}
		if n, err := h.Resolve(ctx, h.now, d, 0, WasSent, "hans"); n != 3 || err != nil {
			t.Errorf("the others sent: %d, %v", n, err)
		}
		if _, err := h.Resolve(ctx, h.now, d, 0, WasSent, "hans"); !errors.Is(err, ErrNotDoubtful) {
			t.Errorf("once more: %v, want nothing to settle", err)
		}
		h.run("2026-02-11T06:05:00+01:00")
		r := h.report("2026-02-11")
		if r.Sent != 4 || len(h.relay.taken()) != 1 || len(r.Decisions) != 2 || r.Decisions[0].Person != "erika" {
			t.Errorf("report %+v, %d mails, want 4 sent, one of them now, and who decided", r, len(h.relay.taken()))
		}
	})
}

// Limits: a domain that wants mail slowly gets it slowly, and the others do not wait for it (B26).
func TestDomainLimit(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, daily(t))
		h.Manners.PerMinute = map[string]float64{"slow.test": 2}
		h.due(50)
		h.exec(`UPDATE subscribers SET address = 'leser' || CAST(id AS TEXT) || '@Slow.test' WHERE id <= 10`)
		h.run("2026-02-11T06:00:00+01:00")
		slow := func() (n int) {
			for reader := range h.relay.perReader() {
				if strings.HasSuffix(reader, "@Slow.test") {
					n++
				}
			}
			return n
		}
		if r := h.report("2026-02-11"); r.Sent != 41 || r.Due != 9 || slow() != 1 {
			t.Errorf("at once: %+v, %d to the slow domain, want 40 and 1", r, slow())
		}
		h.run("2026-02-11T06:00:31+01:00") // the limit outlives the process
		h.run("2026-02-11T06:00:32+01:00")
		if slow() != 2 {
			t.Errorf("after half a minute %d, want 2", slow())
		}
		for minute := 1; minute <= 10; minute++ {
			h.run(fmt.Sprintf("2026-02-11T06:%02d:05+01:00", minute))
			h.run(fmt.Sprintf("2026-02-11T06:%02d:40+01:00", minute))
		}
		if r := h.report("2026-02-11"); r.Sent != 50 {
			t.Errorf("ten minutes later: %+v, want 50 sent", r)
		}
	})
}

// A rate holds for all connections and processes together and outlives them.
func TestRate(t *testing.T) {
	h := newHouse(t, dbtest.SQLite(t), daily(t))
	h.Connections, h.Manners.PerSecond = 4, 100
	h.due(60)
	began := time.Now()
	h.run("2026-02-11T06:00:00+01:00")
	if took := time.Since(began); h.report("2026-02-11").Sent != 60 || took < 500*time.Millisecond {
		t.Errorf("60 mails at 100 a second took %v", took)
	}
	begin, err := h.turn(context.Background(), h.now.Add(-time.Minute), 1)
	if err != nil || begin.Before(h.now.Add(-time.Minute)) {
		t.Errorf("the next process may begin at %v, %v", begin, err)
	}
}

// One domain finds fault with us: it is left alone and a person is called, nobody is suppressed, the others get their mail.
func TestFaultOfOneDomain(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, daily(t))
		h.due(200)
		h.exec(`UPDATE subscribers SET address = 'leser' || CAST(id AS TEXT) || '@strict.test' WHERE id > 100`)
		tries := 0
		var mu sync.Mutex
		h.relay.setAnswer(func(to string, _ []byte) error {
			mu.Lock()
			defer mu.Unlock()
			if !strings.HasSuffix(to, "@strict.test") {
				return nil
			}
			tries++
			return &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 7, 26}, Message: "unauthenticated mail"}
		})
		m := h.run("2026-02-11T06:00:00+01:00")
		r := h.report("2026-02-11")
		if r.Sent != 100 || r.Due != 100 || r.Failed != 0 {
			t.Errorf("report = %+v, want 100 sent and 100 due", r)
		}
		if len(m.Alerts()) != 1 || !strings.Contains(m.Alerts()[0], "strict.test") {
			t.Errorf("alerts %q, want one, naming the domain", m.Alerts())
		}
		before := tries
		h.run("2026-02-11T06:10:00+01:00") // another process: the pause has outlived the first
		if tries != before {
			t.Errorf("%d more tries during the pause", tries-before)
		}
		if n, err := h.Readers(context.Background(), "morgen"); err != nil || n != 200 {
			t.Errorf("%d may be mailed, %v, want 200", n, err)
		}
		h.relay.setAnswer(func(string, []byte) error { return nil })
		h.run("2026-02-11T06:31:00+01:00")
		if r := h.report("2026-02-11"); r.Sent != 200 {
			t.Errorf("after the pause: %+v, want all sent", r)
		}
	})
}

// Told to stop, the dispatcher finishes what is on the wire: an answering server leaves nothing doubtful.
func TestStopped(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, daily(t))
		h.due(2000)
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		count := 0
		var mu sync.Mutex
		h.relay.setAnswer(func(string, []byte) error {
			mu.Lock()
			defer mu.Unlock()
			if count++; count == 100 {
				stop()
			}
			return nil
		})
		if _, err := h.Run(ctx, Plan{Options: Options{Now: h.clock()}}); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		h.relay.setAnswer(func(string, []byte) error { return nil })
		r := h.report("2026-02-11")
		if r.Doubtful != 0 || r.Sent != len(h.relay.taken()) || r.Sent > 1000 {
			t.Errorf("stopped: %+v, %d mails taken", r, len(h.relay.taken()))
		}
		h.run("2026-02-11T06:05:00+01:00")
		for reader, n := range h.relay.perReader() {
			if n != 1 {
				t.Errorf("%s got %d mails", reader, n)
			}
		}
		if r := h.report("2026-02-11"); r.Sent != 2000 {
			t.Errorf("afterwards: %+v", r)
		}
	})
}

// The statements that run for every window find their rows by the tables' keys, on both databases.
func TestPlans(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, daily(t))
		d := h.due(1)
		h.circulate(100_000)
		explain := "EXPLAIN "
		if db.Kind == migrations.SQLite {
			explain = "EXPLAIN QUERY PLAN "
		} else {
			h.exec("ANALYZE")
		}
		far := int64(1) << 62
		args := []any{"morgen", d.ID, int64(0), far, int64(0), far, int64(7), int64(1), int64(1), int64(1), 100}
		doubting := db.Kind == migrations.PostgreSQL
		if doubting {
			args = append(args, int64(1))
		}
		for name, statement := range map[string]struct {
			text string
			args []any
		}{
			"first tries": {firstTries.look(doubting), args},
			"later tries": {laterTries.look(doubting), args},
			"stretch":     {doubtStretch, []any{int64(7), int64(1), int64(1), int64(1), d.ID, int64(1), int64(100), int64(0), far, true}},
			"sent":        {recordSent, []any{int64(1), d.ID, int64(1), int64(100), int64(7), int64(1)}},
		} {
			plan := h.explained(t, explain+statement.text, statement.args...)
			for _, bad := range []string{"SCAN deliveries", "SCAN s ", "SCAN p ", "SCAN c", "Seq Scan on deliveries", "Seq Scan on subscri", "TEMP B-TREE"} {
				if strings.Contains(plan+" ", bad) && !(bad == "TEMP B-TREE" && name == "later tries") {
					t.Errorf("%s: the plan has %q:\n%s", name, bad, plan)
				}
			}
		}
	})
}

// circulate adds very many readers with deliveries that are due, in statements of the database's own.
func (h *house) circulate(n int) {
	h.t.Helper()
	const number = `WITH RECURSIVE n (i) AS (SELECT CAST(100 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < 100 + CAST($1 AS BIGINT)) `
	for _, statement := range []string{
		`INSERT INTO subscribers (id, address, person, language, nonce, created) ` + number + `
			SELECT i, 'leser' || i || '@reader.test', 'leser' || i, 'de', 1, 1 FROM n`,
		`INSERT INTO consents (id, subscriber, newsletter, kind, at, person, particulars) ` + number + `
			SELECT i, i, 'morgen', 'confirmed', 1, 'x', '' FROM n`,
		`INSERT INTO subscriptions (subscriber, newsletter, choice, state, requested, signed_up, consent) ` + number + `
			SELECT i, 'morgen', (SELECT MAX(id) FROM choices), 'active', 1, 1, i FROM n`,
		`INSERT INTO deliveries (digest, subscriber, state, variant) ` + number + `
			SELECT (SELECT MAX(id) FROM digests), i, 'due', 1 FROM n`,
	} {
		h.exec(statement, n)
	}
}

func (h *house) explained(t *testing.T, statement string, args ...any) string {
	t.Helper()
	rows, err := h.db.Read.Query(statement, args...)
	check(t, err)
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	check(t, err)
	var plan strings.Builder
	for rows.Next() {
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(any)
		}
		check(t, rows.Scan(values...))
		fmt.Fprintln(&plan, *values[len(values)-1].(*any))
	}
	check(t, rows.Err())
	return plan.String()
}
