package newsletter

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"depesche/migrations"
	"depesche/migrations/dbtest"
	"depesche/newsletter/smtp"
)

// dispatching is a dispatcher that has begun a digest and sends nothing by itself: the test orders windows and hands them in.
func (h *house) dispatching(t *testing.T, d Digest) *run {
	t.Helper()
	ctx := context.Background()
	x, err := h.enlist(ctx, Options{Now: h.clock()})
	check(t, err)
	t.Cleanup(func() { _ = x.journal.close() })
	r := &run{dispatcher: x, spare: make(chan *window, 9), cancel: func() {}}
	d, err = h.begin(ctx, h.now, d)
	check(t, err)
	check(t, r.edit(ctx, d))
	r.recorder, err = newRecorder(ctx, r, x.journal)
	check(t, err)
	return r
}

// ordered is the readers of a window that is ordered and cleared.
func (r *run) ordered(t *testing.T, most int) []int64 {
	t.Helper()
	windows, err := r.recorder.transact(nil, []*order{{most: most}})
	check(t, err)
	return readersOf(windows[0])
}

func readersOf(w *window) (readers []int64) {
	if w == nil {
		return nil
	}
	for _, d := range w.deliveries {
		readers = append(readers, d.subscriber)
	}
	return readers
}

// Whatever changes after a dispatcher has read the digest, the statement that writes the doubts sees it: nothing is cleared for
// sending that may not be sent any more. The dispatcher looks for such changes itself several times a second; that is not
// what this is about.
func TestNothingIsClearedThatMayNotBeSent(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, daily(t))
		d := h.due(2)
		r := h.dispatching(t, d)
		for name, c := range map[string]struct {
			change string
			want   int // how many of the two are cleared
		}{
			"nothing has changed":      {`UPDATE digests SET state = state`, 2},
			"the reader has left":      {`UPDATE subscriptions SET state = 'ended' WHERE subscriber = 1`, 1},
			"the reader is paused":     {`UPDATE subscriptions SET paused = 1 WHERE subscriber = 1`, 1},
			"the digest is held":       {`UPDATE digests SET held = 1`, 0},
			"an article was withdrawn": {`UPDATE digests SET revision = revision + 1`, 0},
			"released anew":            {`UPDATE digests SET began = began + 1`, 0},
			"the digest is done":       {`UPDATE digests SET state = 'done'`, 0},
			"too late":                 {`UPDATE digests SET latest = began`, 0},
			"the retry is not due":     {`UPDATE deliveries SET due = (SELECT latest FROM digests)`, 0},
			"another has it in hand":   {`UPDATE deliveries SET state = 'doubtful', fence = 7 WHERE subscriber = 1`, 1},
			"it was sent":              {`UPDATE deliveries SET state = 'sent' WHERE subscriber = 1`, 1},
		} {
			h.exec(c.change)
			if got := r.ordered(t, 5); len(got) != c.want {
				t.Errorf("%s: readers %d are cleared for sending, want %d of them", name, got, c.want)
			}
			h.exec(`UPDATE subscriptions SET state = 'active', paused = NULL`)
			h.exec(`UPDATE digests SET state = 'ready', held = NULL, revision = $1, began = $2, latest = $3`,
				r.digest.Revision, r.digest.Began.UnixMilli(), r.digest.Latest.UnixMilli())
			h.exec(`UPDATE deliveries SET state = 'due', due = NULL, fence = 0, take = 0`)
			r.recorder.cursor = position{}
		}
	})
}

// Two dispatchers of one digest, as PostgreSQL allows: the readers of one stand between those of the other. Each records its own
// and nothing else, and the one that is declared dead records nothing.
func TestTwoDispatchersSideBySide(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, daily(t))
		d := h.due(5)
		far := h.now.Add(time.Hour).UnixMilli()
		h.exec(`UPDATE deliveries SET due = $1 WHERE subscriber IN (2, 3, 5)`, far)
		outer, inner := h.dispatching(t, d), h.dispatching(t, d)
		mine, err := outer.recorder.transact(nil, []*order{{most: 9}})
		check(t, err)
		h.exec(`UPDATE deliveries SET due = NULL WHERE subscriber IN (2, 3)`)
		theirs, err := inner.recorder.transact(nil, []*order{{most: 9}})
		check(t, err)
		if len(readersOf(mine[0])) != 2 || len(readersOf(theirs[0])) != 2 {
			t.Fatalf("windows of readers %d and %d, want 1 and 4, 2 and 3", readersOf(mine[0]), readersOf(theirs[0]))
		}
		arrive(mine[0])
		if _, err := outer.recorder.transact(mine, nil); err != nil {
			t.Errorf("the outer one: %v", err)
		}
		states := h.states()
		if states[1] != Sent || states[4] != Sent || states[2] != Doubtful || states[3] != Doubtful {
			t.Errorf("states %v, want 1 and 4 sent, 2 and 3 doubtful", states)
		}

		h.exec(`DELETE FROM dispatchers WHERE fence = $1`, inner.fence)
		arrive(theirs[0])
		if _, err := inner.recorder.transact(theirs, nil); !errors.Is(err, errFenced) {
			t.Errorf("the dead one: %v, want that it is fenced off", err)
		}
		if states := h.states(); states[2] != Doubtful || states[3] != Doubtful {
			t.Errorf("after the dead one: states %v, want 2 and 3 still doubtful", states)
		}
		h.exec(`UPDATE deliveries SET due = NULL WHERE subscriber = 5`)
		check(t, db.Tx(context.Background(), func(tx *sql.Tx) error {
			inner.recorder.taken = nil
			inner.recorder.cursor.subscriber, inner.recorder.cursor.around = 0, false // the whole table is before it
			_, err := inner.recorder.doubt(context.Background(), tx, h.now, 9, firstTries)
			if len(inner.recorder.taken) > 0 {
				t.Errorf("%d are cleared for the dead one, who should have failed to sign already", len(inner.recorder.taken))
			}
			return err
		}))
	})
}

// arrive has the server take every message of a window.
func arrive(w *window) {
	for i := range w.deliveries {
		d := &w.deliveries[i]
		d.reply = smtp.Reply{Phase: smtp.PhaseDot, Code: 250}
		d.outcome = smtp.Judge(d.reply)
	}
}

// A reader who takes the choice of another reader after the digest was planned gets what that choice means, not what was planned.
func TestChoiceOfAnotherReader(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, daily(t))
		when := at(t, "2026-02-11T05:00:00+01:00")
		h.article(when, "haushalt", "Politik", nil)
		h.article(when, "derby", "Sport", nil)
		anna := h.reader("anna", "politik")
		ben := h.reader("ben", "sport")
		h.now = at(t, "2026-02-11T06:00:00+01:00")
		occasion, _ := h.Newsletters[0].Occasion(h.now)
		_, _, err := h.Compose(context.Background(), h.now, h.Newsletters[0], occasion, false)
		check(t, err)
		h.exec(`UPDATE subscriptions SET choice = (SELECT choice FROM subscriptions WHERE subscriber = 2) WHERE subscriber = 1`)
		h.run("2026-02-11T06:00:00+01:00")
		for _, reader := range []string{anna, ben} {
			if text := plain(h.relay.mailTo(t, reader).data); strings.Contains(text, "/haushalt") || !strings.Contains(text, "/derby") {
				t.Errorf("the mail to %s does not follow the choice of topics", reader)
			}
		}
	})
}

// A machine that sleeps with doubts written acts on none of them when it wakes: who left meanwhile gets no mail.
func TestDoubtsGrowOld(t *testing.T) {
	h := newHouse(t, dbtest.SQLite(t), daily(t))
	h.Connections = 1
	h.due(1000)
	const awake = 100
	var slept atomic.Int64
	count := 0
	h.relay.setAnswer(func(string, []byte) error {
		if count++; count == awake {
			h.exec(`UPDATE subscriptions SET state = 'ended' WHERE subscriber > $1`, awake)
			slept.Store(int64(2 * freshness))
		}
		return nil
	})
	clock := h.clock()
	_, err := h.Run(context.Background(), Plan{Options: Options{Now: func() time.Time { return clock().Add(time.Duration(slept.Load())) }}})
	check(t, err)
	if r := h.report("2026-02-11"); r.Sent < awake || r.Sent > awake+smtp.DefaultFlight || r.Skipped != 1000-r.Sent {
		t.Errorf("report = %+v, want those sent that were on the wire, and the rest skipped", r)
	}
}
