package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"depesche/migrations"
)

// press is a paper of large circulation whose depesche is the shipped one. Its clock starts at runAt and ticks.
type press struct {
	*town
	binary   string
	database string // path of the SQLite file, or URL
	readers  int
	began    time.Time     // on the wall
	ahead    time.Duration // how far the paper's clock was put forward
}

const pressDigest = "morgen/2026-02-11"

// newPress prints a paper of 40 articles in 24 topics, gives it readers of a thousand different choices, and composes its
// digest without sending it: all is due.
func newPress(t testing.TB, binary, database string, readers int) *press {
	t.Helper()
	p := &press{town: newTown(t, database), binary: binary, database: database, readers: readers, began: time.Now()}
	if database == "" {
		p.database = filepath.Join(p.folder, "depesche.db")
	}
	p.write("depesche.yaml", pressConfig())
	for i := range 40 {
		p.write(fmt.Sprintf("wire/meldung%02d.md", i), pressArticle(i))
	}
	p.depesche(0, "ingest")
	p.circulate(min(readers, 1000))
	return p
}

var pressTopics = []string{
	"ausland", "auto", "bildung", "bundesliga", "digital", "essen", "fernsehen", "gesundheit", "handel", "inland", "justiz",
	"karriere", "klima", "kultur", "landtag", "medien", "politik", "reise", "sport", "stadtrat", "ukraine", "verkehr", "wetter",
	"wirtschaft",
}

func pressConfig() string {
	head, _, _ := strings.Cut(townConfig, "topics:")
	var b strings.Builder
	b.WriteString(head + "topics:\n")
	for _, slug := range pressTopics {
		fmt.Fprintf(&b, "  - {slug: %s, name: Aus der Welt von %s, aliases: [Ressort %s]}\n", slug, slug, slug)
	}
	fmt.Fprintf(&b, "newsletters:\n  - slug: morgen\n    title: Talbote am Morgen\n    topics: [%s]\n"+
		"    latest: \"22:00\"\n    limits: {entries: 40, per_topic: 40}\n", strings.Join(pressTopics, ", "))
	return b.String()
}

// pressArticle is article i of the paper, always the same one.
func pressArticle(i int) string {
	words := strings.Fields("der Rat beschließt für die Schulen im Tal einen neuen Haushalt und über Brücken Straßen Häuser wird am " +
		"Abend lange verhandelt während Bürgerinnen größere Züge fordern die Verwaltung prüft was möglich wäre ohne Schulden")
	random := rand.New(rand.NewPCG(40, uint64(i)))
	text := func(count int) string {
		chosen := make([]string, count)
		for j := range chosen {
			chosen[j] = words[random.IntN(len(words))]
		}
		return strings.Join(chosen, " ")
	}
	topic := pressTopics[i%len(pressTopics)]
	return fmt.Sprintf("---\nid: meldung%d\nurl: https://www.talbote.test/artikel/%d/%s\ntitle: Meldung %d %s\nkicker: %s\n"+
		"teaser: Vorspann %s.\nplace: Ahornfurt\nagency: tbd\npublished: 2026-02-11T0%d:%02d:00+01:00\n---\n\nText.\n",
		i, i, topic, i, text(6), "Ressort "+topic, text(27), 1+i/20, i)
}

// choicesOf are different sets of topics, sorted, that make mails of 20 KB on the average.
func choicesOf(count int) []string {
	random := rand.New(rand.NewPCG(24, 1000))
	var choices []string
	for known := map[string]bool{}; len(choices) < count; {
		chosen := slices.Clone(pressTopics)
		random.Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
		chosen = chosen[:1+random.IntN(5)]
		slices.Sort(chosen)
		if key := strings.Join(chosen, ","); !known[key] {
			known[key] = true
			choices = append(choices, key)
		}
	}
	return choices
}

// population numbers the readers and spreads their sign-ups over years. Their ids are made as migrations.NewKey makes them,
// of that instant and 22 bits, but the same ones every time; nonces are as large, and no two are equal.
const population = `
	WITH RECURSIVE n (i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < CAST($1 AS BIGINT)),
	reader (i, at) AS (SELECT i, 1600000000000 + i * (170000000000 / CAST($1 AS BIGINT)) FROM n),
	person (i, at, id, address, nonce) AS (
		SELECT i, at, (at - 1577836800000) * 4194304 + (i * 2654435761) % 4194304, 'leser' || i || '@reader.test',
			i * 1099511627791 + (i * i) % 1048573 FROM reader)`

// circulate puts confirmed readers straight into the database, all of them in statements of the database's own.
func (p *press) circulate(choices int) {
	p.t.Helper()
	db, err := migrations.Open(context.Background(), p.database)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	err = db.Tx(context.Background(), func(tx *sql.Tx) error {
		for i, topics := range choicesOf(choices) {
			if _, err := tx.Exec(`INSERT INTO choices (id, newsletter, topics) VALUES ($1, 'morgen', $2)`, i+1, topics); err != nil {
				return err
			}
		}
		for _, statement := range []string{
			`INSERT INTO subscribers (id, address, person, language, nonce, created)` + population +
				` SELECT id, address, address, 'de', nonce, at FROM person`,
			`INSERT INTO consents (id, subscriber, newsletter, kind, at, person, particulars)` + population +
				` SELECT id, id, 'morgen', 'confirmed', at, address, '' FROM person`,
			`INSERT INTO subscriptions (subscriber, newsletter, choice, state, requested, signed_up, consent)` + population +
				` SELECT id, 'morgen', 1 + i % (SELECT COUNT(*) FROM choices), 'active', at, at, id FROM person`,
		} {
			if _, err := tx.Exec(statement, p.readers); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && db.Kind == migrations.PostgreSQL {
		_, err = db.Write.Exec(`VACUUM ANALYZE`) // the readers of a paper were not all born this morning
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// compose makes and plans the digest while the server is away, so that nothing leaves. It gives the figures of that run.
func (p *press) compose() usage {
	p.t.Helper()
	p.setRelay("127.0.0.1:1")
	_, used := p.depesche(0, "run")
	if due := p.number(`SELECT COUNT(*) FROM deliveries WHERE state = 'due'`); due != p.readers {
		p.t.Fatalf("%d deliveries are due, want %d", due, p.readers)
	}
	return used
}

// in is the same paper with another database and other settings.
func (p *press) in(database string, environ ...string) *press {
	other, town := *p, *p.town
	town.environ = append(slices.Clone(p.environ), environ...)
	other.town = &town
	if database != "" {
		other.database = database
		town.environ = append(town.environ, "DEPESCHE_DATABASE="+database)
	}
	return &other
}

// clock is what the paper's clock shows.
func (p *press) clock() string {
	start, err := time.Parse(time.RFC3339, runAt)
	if err != nil {
		p.t.Fatal(err)
	}
	return start.Add(time.Since(p.began) + p.ahead).Format(time.RFC3339Nano)
}

func (p *press) command(args ...string) *exec.Cmd {
	command := p.town.command(p.clock(), args...)
	command.Path, command.Args[0] = p.binary, "depesche"
	return command
}

// usage is what a process cost.
type usage struct {
	wall   time.Duration
	cpu    time.Duration
	memory float64 // MB, at its highest
}

// depesche runs a command that must end with status want.
func (p *press) depesche(want int, args ...string) (stdout string, used usage) {
	p.t.Helper()
	command := p.command(args...)
	var out, problems bytes.Buffer
	command.Stdout, command.Stderr = &out, &problems
	began := time.Now()
	if err := command.Start(); err != nil {
		p.t.Fatal(err)
	}
	used = finish(p.t, command)
	used.wall = time.Since(began)
	if got := command.ProcessState.ExitCode(); got != want {
		p.t.Fatalf("depesche %s: status %d, want %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), got, want, &out, &problems)
	}
	return out.String(), used
}

// finish waits for a process and says what it cost. The kernel's ru_maxrss cannot be used for the memory: it begins with what
// the parent had when it forked. So the high-water mark of the process's own memory is looked at while it lives.
func finish(t testing.TB, command *exec.Cmd) (used usage) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		used.memory = max(used.memory, float64(procField(command.Process.Pid, "status", "VmHWM:"))/1024)
		select {
		case err := <-ended:
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Error(err)
			}
			used.cpu = command.ProcessState.UserTime() + command.ProcessState.SystemTime()
			return used
		case <-ticker.C:
		}
	}
}

// procField is a number the kernel (Linux) tells about a process, 0 where the process is gone.
func procField(pid int, file, field string) int64 {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), file))
	if err != nil {
		return 0
	}
	_, after, _ := bytes.Cut(text, []byte(field))
	fields := bytes.Fields(after)
	if len(fields) == 0 {
		return 0
	}
	n, _ := strconv.ParseInt(string(fields[0]), 10, 64)
	return n
}

// look opens the database for reading only. On SQLite nothing stays of it: no lock, no checkpoint.
func (p *press) look(ask func(db *sql.DB) error) {
	p.t.Helper()
	driver, source := "sqlite3", "file:"+p.database+"?mode=ro&_busy_timeout=20000"
	if p.onPostgres() {
		driver, source = "pgx", p.database
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := ask(db); err != nil {
		p.t.Fatalf("look into the database: %v", err)
	}
}

func (p *press) onPostgres() bool { return strings.HasPrefix(p.database, "postgres") }

func (p *press) number(query string) (n int) {
	p.t.Helper()
	p.look(func(db *sql.DB) error { return db.QueryRow(query).Scan(&n) })
	return n
}

// connections is how many the paper opens to its server.
func (p *press) connections() int {
	p.t.Helper()
	config, err := LoadConfig(filepath.Join(p.folder, "depesche.yaml"), p.command().Environ())
	if err != nil {
		p.t.Fatal(err)
	}
	return config.SMTP.Connections
}

// ledger is a digest's report as users read it.
type ledger struct {
	Prepared, Sent, Failed, Skipped, Expired, Doubtful, Due, Claimed int
	Troubles                                                         []struct {
		Subscriber int64
		State      string
	}
}

// account asks for the report and holds it to adding up.
func (p *press) account() ledger {
	p.t.Helper()
	out, _ := p.depesche(0, "report", pressDigest, "--troubles", strconv.Itoa(p.readers), "--json")
	var list []ledger
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 {
		p.t.Fatalf("report: %v\n%s", err, out)
	}
	a := list[0]
	a.Due, a.Claimed = a.Due+a.Claimed, 0 // claimed counts as due
	if a.Prepared != p.readers || a.Prepared != a.Sent+a.Failed+a.Skipped+a.Expired+a.Doubtful+a.Due {
		p.t.Errorf("the report does not add up to %d: %+v", p.readers, a)
	}
	return a
}

// doubtful are the readers whose delivery the report lists as such.
func (a ledger) doubtful() []int64 {
	var list []int64
	for _, trouble := range a.Troubles {
		if trouble.State == "doubtful" {
			list = append(list, trouble.Subscriber)
		}
	}
	return list
}

// everybody gives each reader's id by address.
func (p *press) everybody() map[string]int64 {
	p.t.Helper()
	ids := map[string]int64{}
	p.look(func(db *sql.DB) error {
		rows, err := db.Query(`SELECT id, address FROM subscribers`)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var id int64
			var address string
			if err := rows.Scan(&id, &address); err != nil {
				return err
			}
			ids[address] = id
		}
		return rows.Err()
	})
	return ids
}

// copied is a paper with a copy of the database as it is now, so that a digest can be dispatched more than once.
func (p *press) copied(t testing.TB) (twin *press, remove func()) {
	t.Helper()
	if p.onPostgres() {
		return p.copiedPostgres(t)
	}
	path := filepath.Join(t.TempDir(), "depesche.db")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.Open(p.database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = source.Close() }()
	if _, err := file.ReadFrom(source); err != nil {
		t.Fatal(err)
	}
	if err := file.Sync(); err != nil { // else the first commit of the copy would wait for all of it
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return p.in(path), func() {
		if err := os.RemoveAll(filepath.Dir(path)); err != nil {
			t.Error(err)
		}
	}
}

func (p *press) copiedPostgres(t testing.TB) (twin *press, remove func()) {
	t.Helper()
	address, err := url.Parse(p.database)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(address.Path, "/")
	admin := func(statements ...string) {
		t.Helper()
		at := *address
		at.Path = "/postgres"
		db, err := migrations.Open(context.Background(), at.String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = db.Close() }()
		for _, statement := range statements {
			if _, err := db.Write.Exec(statement); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
		}
	}
	admin(`CREATE DATABASE `+name+`_copy TEMPLATE `+name, `CHECKPOINT`)
	at := *address
	at.Path = "/" + name + "_copy"
	twin = p.in(at.String())
	// The log knows what another copy of that name has sent.
	if err := os.Remove(filepath.Join(p.folder, ledgerLogName(twin.town))); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return twin, func() { admin(`DROP DATABASE ` + name + `_copy`) }
}
