package main

import (
	"bytes"
	"database/sql"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"depesche/migrations/dbtest"
)

// Exams of the shipped depesche, through its door and the tables, that take too long for every day: `make exam`.

// eachDatabase runs an exam on SQLite and on PostgreSQL.
func eachDatabase(t *testing.T, exam func(t *testing.T, database string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { exam(t, "") })
	t.Run("postgres", func(t *testing.T) { exam(t, dbtest.PostgreSQLLocation(t)) })
}

// kill -9 at any moment, any number of times: nobody lost, nobody doubled, no more doubtful than were on the wire, and when a
// person has settled those, every reader has exactly one mail, his own.
func TestExamKills(t *testing.T) {
	onlyIn(t, "exam", "DEPESCHE_EXAM")
	tools, binary := newWorkshop(t), shipped(t)
	readers, kills := amount(t, "DEPESCHE_EXAM_READERS", 50_000), amount(t, "DEPESCHE_EXAM_KILLS", 200)
	// A server that takes some milliseconds for a message lets few readers last for many kills.
	wait := []string{"-msgwait", fmt.Sprint(amount(t, "DEPESCHE_EXAM_WAIT", 0), "ms")}
	for _, mode := range wireModes {
		t.Run(mode.name, func(t *testing.T) {
			eachDatabase(t, func(t *testing.T, database string) {
				p := newPress(t, binary, database, readers)
				p.compose()
				server := tools.newKeepingSink(t, append(wait, mode.flags...)...)
				p.setRelay(server.address)
				k := newKilling(t, p, p.connections()*mode.window)
				k.killAll(kills)
				k.finish()
				server.stop()
				k.check(server.accepted())
				p.judge(t, server)
				k.settle(tools, mode, server.accepted())
			})
		})
	}
}

// killing is a digest whose dispatcher is killed again and again.
type killing struct {
	*press
	t      *testing.T
	random *rand.Rand
	most   int // doubtful deliveries a kill may leave

	due      int     // deliveries that had not left at the last look
	written  float64 // bytes the dispatchers wrote, to the database and the server
	sent     float64 // messages they sent with it
	unlooked int     // kills since the last look
	looks    []lookAfter
	seen     map[int64]sighting
}

// lookAfter is a look into the database after one kill or several.
type lookAfter struct {
	kills, doubtful int
	idle            bool // nothing had left since the look before
}

// sighting is a delivery that was doubtful at every look since that one.
type sighting struct {
	fence int64
	since int
}

func newKilling(t *testing.T, p *press, most int) *killing {
	seed := uint64(amount(t, "DEPESCHE_EXAM_SEED", 1+rand.IntN(1<<31)))
	t.Logf("DEPESCHE_EXAM_SEED=%d repeats the moments, as far as a machine does", seed)
	return &killing{
		press: p, t: t, random: rand.New(rand.NewPCG(seed, seed)), most: most, due: p.readers,
		written: 100 * 22e3, sent: 100, seen: map[int64]sighting{},
	}
}

// killAll spreads the kills over the whole digest: each life is given a random share, on the average what is left divided by
// the lives that are left.
func (k *killing) killAll(kills int) {
	for left := kills; left > 0; left-- {
		share := 2 * k.random.Float64() * float64(k.due) / float64(left+2)
		killed := k.life(share * k.written / k.sent)
		k.unlooked++
		// Mostly the rows are counted before the next life begins; sometimes it begins at once, while PostgreSQL may still be
		// at the last statement of the dead.
		if !killed || left == 1 || k.random.IntN(4) > 0 {
			k.observe()
		} else {
			k.due = max(k.due-int(share), 1)
			k.sent += share // else what this life wrote would seem to be a few messages' work, and the next would get far too much
		}
		if !killed && k.due == 0 {
			if left > 1+kills/20 {
				k.t.Errorf("the digest was finished %d of %d kills too early", left, kills)
			}
			return
		}
		if !killed { // what the dead hold is free when their lease is over
			k.ahead += time.Minute
		}
	}
}

// longLife is when a dispatcher is killed that does not get as far as it was meant to.
const longLife = time.Minute

// life starts a dispatcher and kills it when it has written so many bytes; every eighth is killed at some moment of its
// beginning instead. It says whether the dispatcher lived to be killed.
func (k *killing) life(budget float64) (killed bool) {
	k.t.Helper()
	command := k.command("dispatch")
	var problems bytes.Buffer
	command.Stderr = &problems
	if err := command.Start(); err != nil {
		k.t.Fatal(err)
	}
	began, patience := time.Now(), longLife
	if k.random.IntN(8) == 0 {
		budget, patience = math.Inf(1), time.Duration(k.random.Int64N(int64(40*time.Millisecond)))
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	var wrote float64
	for wrote <= budget && time.Since(began) < patience {
		select {
		case err := <-ended:
			if err != nil {
				k.t.Fatalf("a dispatcher ended by itself: %v\n%s", err, &problems)
			}
			k.written += wrote
			return false
		case <-time.After(100 * time.Microsecond): // a random moment is what is wanted, to the message
		}
		wrote = max(wrote, float64(procField(command.Process.Pid, "io", "wchar:")))
	}
	if time.Since(began) >= longLife {
		k.t.Logf("a dispatcher wrote only %.0f bytes of the %.0f it was allowed, and was killed for that", wrote, budget)
	}
	_ = command.Process.Kill()
	<-ended
	k.written += wrote
	return true
}

// observe looks which deliveries are doubtful now. A row may be doubtful only because its dispatcher had written so ahead of
// sending and died: the next one knows better. So only at the end is it known which kill left a doubt: the one after which it
// was first seen and stayed.
func (k *killing) observe() {
	k.t.Helper()
	now := map[int64]sighting{}
	var due int
	k.look(func(db *sql.DB) error {
		if err := k.outlive(db); err != nil {
			return err
		}
		if err := db.QueryRow(`SELECT COUNT(*) FROM deliveries WHERE state IN ('due', 'claimed')`).Scan(&due); err != nil {
			return err
		}
		rows, err := db.Query(`SELECT subscriber, COALESCE(fence, 0) FROM deliveries WHERE state = 'doubtful'`)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var reader int64
			s := sighting{since: len(k.looks)}
			if err := rows.Scan(&reader, &s.fence); err != nil {
				return err
			}
			if before, ok := k.seen[reader]; ok && before.fence == s.fence {
				s = before
			}
			now[reader] = s
		}
		return rows.Err()
	})
	before := k.readers
	if len(k.looks) > 0 {
		before = k.due
	}
	k.looks = append(k.looks, lookAfter{kills: k.unlooked, idle: due >= before})
	k.seen, k.unlooked = now, 0
	if k.due = due; due < k.readers {
		k.sent = 100 + float64(k.readers-due)
	}
}

// outlive waits until PostgreSQL has noticed that its client is dead.
func (k *killing) outlive(db *sql.DB) error {
	if !k.onPostgres() {
		return nil
	}
	for alive := 1; alive > 0; time.Sleep(time.Millisecond) {
		err := db.QueryRow(`SELECT COUNT(*) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'`).Scan(&alive)
		if err != nil {
			return err
		}
	}
	return nil
}

// finish lets a dispatcher live until nothing is due, and one more that comes when every lease of the dead is over.
func (k *killing) finish() {
	k.t.Helper()
	k.depesche(0, "dispatch")
	for range 5 {
		k.ahead += 10 * time.Minute
		k.depesche(0, "dispatch")
		if k.account().Due == 0 {
			break
		}
	}
	k.observe()
	k.countDoubts()
}

// countDoubts says how many doubtful deliveries each kill has left.
func (k *killing) countDoubts() {
	k.t.Helper()
	kills := 0
	for i := range k.looks {
		kills += k.looks[i].kills
	}
	for _, s := range k.seen {
		k.looks[min(s.since, len(k.looks)-2)].doubtful++ // the last look is not after a kill
	}
	var single []int
	idle := 0
	for i, look := range k.looks[:len(k.looks)-1] {
		if look.doubtful > k.most*look.kills {
			k.t.Errorf("look %d: %d kills left %d doubtful, want at most %d each", i, look.kills, look.doubtful, k.most)
		}
		if look.kills == 1 {
			single = append(single, look.doubtful)
			if look.idle {
				idle++
			}
		}
	}
	slices.Sort(single)
	if len(single) > 0 {
		k.t.Logf("%d kills, %d of them before a message was recorded; doubtful after one: min %d, median %d, max %d (allowed: %d); %d in all",
			kills, idle, single[0], single[len(single)/2], single[len(single)-1], k.most, len(k.seen))
	}
}

// check compares what the server accepted with what depesche says.
func (k *killing) check(accepted map[string]int) {
	k.t.Helper()
	a := k.account()
	doubtful := map[int64]bool{}
	for _, reader := range a.doubtful() {
		doubtful[reader] = true
	}
	if len(doubtful) != a.Doubtful || a.Sent+a.Doubtful != k.readers {
		k.t.Errorf("report = %+v without its list, %d listed, want all sent or doubtful, and all of these listed", a.counts(), len(doubtful))
	}
	var lost, doubled []int64
	undecided := 0
	for address, reader := range k.everybody() {
		switch n := accepted[address]; {
		case n == 0 && !doubtful[reader]:
			lost = append(lost, reader)
		case n == 0:
			undecided++
		case n > 1:
			doubled = append(doubled, reader)
		}
	}
	k.t.Logf("%d readers: %d lost, %d doubled, %d doubtful of whom %d have their mail",
		k.readers, len(lost), len(doubled), len(doubtful), len(doubtful)-undecided)
	if len(lost)+len(doubled) > 0 {
		k.t.Errorf("lost, that is without a mail and not listed as doubtful: readers %d; with more than one mail: readers %d", few(lost), few(doubled))
	}
}

// few are the first of a list, enough to look into.
func few(readers []int64) []int64 { return readers[:min(len(readers), 10)] }

// counts is a ledger without its list.
func (a ledger) counts() ledger {
	a.Troubles = nil
	return a
}

// settle does what a person does: who is in the server's log was sent, the others get the mail once more.
func (k *killing) settle(tools workshop, mode wireMode, accepted map[string]int) {
	k.t.Helper()
	everybody := k.everybody()
	addresses := make(map[int64]string, len(everybody))
	for address, reader := range everybody {
		addresses[reader] = address
	}
	verdicts := map[string][]int64{}
	for _, reader := range k.account().doubtful() {
		verdict := "--sent"
		if accepted[addresses[reader]] == 0 {
			verdict = "--again"
		}
		verdicts[verdict] = append(verdicts[verdict], reader)
	}
	rare, rest := "--again", "--sent"
	if len(verdicts[rare]) > len(verdicts[rest]) {
		rare, rest = rest, rare
	}
	for _, reader := range verdicts[rare] { // as a person would: one by one the few, then all that are left
		k.depesche(0, "resolve", pressDigest, rare, "--reader", strconv.FormatInt(reader, 10))
	}
	if len(verdicts[rest]) > 0 {
		k.depesche(0, "resolve", pressDigest, rest, "--all")
	}
	server := tools.newKeepingSink(k.t, mode.flags...)
	k.setRelay(server.address)
	k.ahead += 10 * time.Minute
	k.depesche(0, "dispatch")
	server.stop()
	for address, n := range server.accepted() {
		accepted[address] += n
	}
	var wrong []int64
	for address, reader := range everybody {
		if accepted[address] != 1 {
			wrong = append(wrong, reader)
		}
	}
	if len(wrong) > 0 {
		k.t.Errorf("%d readers have not exactly one mail after all was settled, among them %d", len(wrong), few(wrong))
	}
	if a := k.account(); a.Sent != k.readers {
		k.t.Errorf("report = %+v after all was settled, want all %d sent", a.counts(), k.readers)
	}
	if len(verdicts["--again"]) > 0 {
		k.judge(k.t, server)
	}
}

// A million readers: everybody served, memory as for a hundred thousand, time in proportion.
func TestExamMillion(t *testing.T) {
	onlyIn(t, "exam", "DEPESCHE_EXAM")
	tools, binary := newWorkshop(t), shipped(t)
	most := amount(t, "DEPESCHE_EXAM_MILLION", 1_000_000)
	eachDatabase(t, func(t *testing.T, database string) {
		mode := wireModes[0] // chunking
		if database != "" {
			mode = wireModes[1] // pipelining
		}
		server := tools.newSink(t, mode.flags...)
		presses, planned := map[int]*press{}, map[int]usage{}
		sizes := []int{most / 100, most / 10, most}
		for i, size := range sizes {
			if i > 0 && database != "" {
				database = dbtest.PostgreSQLLocation(t)
			}
			presses[size] = newPress(t, binary, database, size)
			planned[size] = presses[size].compose()
			presses[size].setRelay(server.address)
		}
		// The small ones before and after the large one: the machine does not stay the same.
		seconds, memory := map[int]float64{}, map[int]float64{}
		for _, size := range []int{most / 100, most / 10, most, most / 10, most / 100} {
			copied, remove := presses[size].copied(t)
			figures, used := copied.dispatched(t, server)
			remove()
			memory[size] = max(memory[size], used.memory, planned[size].memory)
			t.Logf("%9d readers, %s: dispatch %.1f s (%.0f/s), %.0f MB; planned with %.0f MB", size, mode.name, used.wall.Seconds(), figures.rate,
				used.memory, planned[size].memory)
			took := float64(size) / figures.rate // without the start of the process, which would flatter small numbers
			if size != most {
				took /= 2
			}
			seconds[size] += took
		}
		exponent := math.Log(seconds[most]/seconds[most/100]) / math.Log(100)
		ratio := memory[most] / memory[most/10]
		t.Logf("time grows as n^%.3f (floor 1.1, mark 1.03), memory %.0f MB (floor 128, mark 48), %.2f of that for a tenth (mark 0.8 to 1.2)",
			exponent, memory[most], ratio)
		if exponent > 1.1 || memory[most] > 128 {
			t.Error("below the floor")
		}
	})
}
