package main

import (
	"bytes"
	"fmt"
	"math"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"depesche/migrations/dbtest"
)

// TestBench measures the sending of a digest that is composed and planned, beside other senders, against the marks that were
// set for it: `make bench`. Rates of a machine change from minute to minute, so every round takes all rows in turn; what is
// compared are the ratios of one round, and each figure is the median of the rounds.
//
// DEPESCHE_BENCH_READERS, DEPESCHE_BENCH_ROUNDS change how much is done; DEPESCHE_BENCH_ONLY, a regular expression, which rows
// (those they are compared with are always there).
func TestBench(t *testing.T) {
	onlyIn(t, "bench", "DEPESCHE_BENCH")
	b := newBench(t)
	rows := b.rows()
	for round := range b.rounds {
		for _, r := range rows {
			r.figures = append(r.figures, r.measure())
			t.Logf("round %d, %s: %.0f/s", round+1, r.name, r.figures[round].rate)
		}
	}
	var below []string
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, b.column("row")+"\tmessages\tper second\t× go-mail\t× smtp-source\t× other\tfloor\tmark\tverdict\tµs CPU\tµs sink\tMB\tcommits\t")
	for _, r := range rows {
		verdict := r.verdict()
		if strings.HasPrefix(verdict, belowFloor) {
			below = append(below, r.name)
		}
		fmt.Fprintf(w, "%s\t%d\t%.0f\t%s\t%s\t%s\t%s\t%s\t%s\t%.1f\t%.1f\t%s\t%s\t\n", b.column(r.name), r.figures[0].messages,
			r.median(func(f figures) float64 { return f.rate }), r.times(r.goMail), r.times(r.source), r.times(r.other),
			r.demanded(func(d demand) float64 { return d.floor }), r.demanded(func(d demand) float64 { return d.mark }), verdict,
			r.median(func(f figures) float64 { return f.cpu }), r.median(func(f figures) float64 { return f.sinkCPU }),
			known(r.median(func(f figures) float64 { return f.memory }), 1), known(r.median(func(f figures) float64 { return float64(f.commits) }), 0))
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d rounds, %d readers with 1,000 choices of topics, mails of %d bytes on the average, %d connections (configuration);\n"+
		"other: over TLS the bare writer, 20 ms away go-mail on one connection, for 4 dispatchers 1\n%s",
		b.rounds, b.readers, b.size, b.connections, &table)
	if len(below) > 0 {
		t.Errorf("below the floor: %s", strings.Join(below, "; "))
	}
}

// column is the first one, to the left.
func (b *bench) column(name string) string { return fmt.Sprintf("%-45s", name) }

// known prints a figure, or a dash for one nobody has.
func known(value float64, digits int) string {
	if value == 0 {
		return "-"
	}
	return strconv.FormatFloat(value, 'f', digits, 64)
}

// bench is what all rows of the table share.
type bench struct {
	t           *testing.T
	tools       workshop
	binary      string
	rounds      int
	readers     int
	connections int
	samples     string // folder of mails as depesche makes them
	size        int    // of these, in bytes, on the average
	only        *regexp.Regexp
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{
		t: t, tools: newWorkshop(t), binary: shipped(t),
		rounds: amount(t, "DEPESCHE_BENCH_ROUNDS", 3), readers: amount(t, "DEPESCHE_BENCH_READERS", 100_000),
	}
	var err error
	if b.only, err = regexp.Compile(os.Getenv("DEPESCHE_BENCH_ONLY")); err != nil {
		t.Fatal(err)
	}
	if os.Getenv("DEPESCHE_TEST_POSTGRES") == "" {
		t.Setenv("DEPESCHE_TEST_POSTGRES", durablePostgres(t))
	}
	b.sample()
	return b
}

// sample keeps a mail of every choice of topics.
func (b *bench) sample() {
	b.t.Helper()
	p := newPress(b.t, b.binary, "", 1000)
	p.compose()
	b.connections = p.connections()
	server := b.tools.newKeepingSink(b.t)
	p.setRelay(server.address)
	p.depesche(0, "dispatch")
	server.stop()
	b.samples = server.saved
	files, err := os.ReadDir(b.samples)
	if err != nil || len(files) != p.readers {
		b.t.Fatalf("%d samples, %v, want %d", len(files), err, p.readers)
	}
	for _, file := range files {
		info, err := file.Info()
		if err != nil {
			b.t.Fatal(err)
		}
		b.size += int(info.Size())
	}
	b.size /= len(files)
}

// row is a row of the table.
type row struct {
	name                  string
	measure               func() figures
	figures               []figures // of each round
	goMail, source, other *row      // what it is compared with
	demands               []demand
}

// demand is what performance has to reach: against a rival at least so many times its rate, or at most so many µs of CPU.
type demand struct {
	rival       *row // nil: CPU
	floor, mark float64
}

// median of a figure over the rounds.
func (r *row) median(of func(figures) float64) float64 {
	var values []float64
	for _, f := range r.figures {
		values = append(values, of(f))
	}
	return median(values)
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	middle := len(values) / 2
	if len(values)%2 == 0 {
		return (values[middle-1] + values[middle]) / 2
	}
	return values[middle]
}

// against is how many times the rival's rate this one's is.
func (r *row) against(rival *row) float64 {
	var ratios []float64
	for i, f := range r.figures {
		ratios = append(ratios, f.rate/rival.figures[i].rate)
	}
	return median(ratios)
}

func (r *row) times(rival *row) string {
	if rival == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f", r.against(rival))
}

func (r *row) demanded(which func(demand) float64) string {
	var texts []string
	for _, d := range r.demands {
		unit := "×"
		if d.rival == nil {
			unit = "µs"
		}
		texts = append(texts, fmt.Sprintf("%g %s", which(d), unit))
	}
	return strings.Join(texts, ", ")
}

const belowFloor = "BELOW FLOOR"

// verdict is the worst of what follows from the demands.
func (r *row) verdict() string {
	grave, verdict := 0, "ok"
	if len(r.demands) == 0 {
		verdict = ""
	}
	for _, d := range r.demands {
		have, floor, mark := -r.median(func(f figures) float64 { return f.cpu }), -d.floor, -d.mark
		what := "CPU"
		if d.rival != nil {
			have, floor, mark, what = r.against(d.rival), d.floor, d.mark, r.label(d.rival)
		}
		switch {
		case have < floor && grave < 2:
			grave, verdict = 2, belowFloor+" ("+what+")"
		case have < mark && grave < 1:
			grave, verdict = 1, "below mark ("+what+")"
		}
	}
	return verdict
}

// benchDatabase is a database with a digest that waits in it.
type benchDatabase struct {
	name  string
	press func() *press
}

// label names the column in which a rival is.
func (r *row) label(rival *row) string {
	switch rival {
	case r.goMail:
		return "× go-mail"
	case r.source:
		return "× smtp-source"
	}
	return "× other"
}

// rows are those of the table that are wanted, and those they are compared with.
func (b *bench) rows() []*row {
	b.t.Helper()
	clear, secure := map[string]*sink{}, map[string]*sink{}
	for _, mode := range wireModes {
		clear[mode.name] = b.tools.newSink(b.t, mode.flags...)
		secure[mode.name] = b.tools.newSink(b.t, append([]string{"-tls"}, mode.flags...)...)
	}
	sqlite, postgres := b.planned("SQLite", b.readers), b.planned("PostgreSQL", b.readers)
	goMail := b.goMail("go-mail Send", clear["chunking"], clear["chunking"].address, 8, 8000)
	source := b.source(clear["sequential"], 40_000)
	rows := []*row{goMail, source}
	for _, database := range []benchDatabase{{"SQLite", sqlite}, {"PostgreSQL", postgres}} {
		for _, mode := range wireModes {
			r := &row{name: database.name + ", " + mode.name, goMail: goMail, source: source}
			r.measure = func() figures { return b.dispatch(database.press(), clear[mode.name]) }
			r.demand(database.name, mode.name)
			rows = append(rows, r)
		}
	}
	for _, mode := range wireModes {
		rows = append(rows, b.secureRows(secure[mode.name], mode, sqlite, postgres)...)
	}
	rows = append(rows, b.farRows(clear)...)
	return b.wanted(append(rows, b.manyRows()...))
}

// wanted leaves out what DEPESCHE_BENCH_ONLY does not name.
func (b *bench) wanted(rows []*row) []*row {
	named := map[*row]bool{}
	for _, r := range rows {
		if b.only.MatchString(r.name) {
			for _, needed := range []*row{r, r.goMail, r.source, r.other} {
				named[needed] = true
			}
		}
	}
	return slices.DeleteFunc(rows, func(r *row) bool { return !named[r] })
}

// demand sets what a row over clear text must reach.
func (r *row) demand(database, mode string) {
	ratio := func(rival *row, floor, mark float64) { r.demands = append(r.demands, demand{rival, floor, mark}) }
	switch database + " " + mode {
	case "SQLite chunking":
		ratio(r.goMail, 12, 24)
		ratio(r.source, 2.5, 5)
	case "SQLite pipelining":
		ratio(r.goMail, 8, 14)
		ratio(r.source, 1.5, 3)
	case "SQLite sequential":
		ratio(r.goMail, 3, 6)
	case "PostgreSQL pipelining":
		ratio(r.goMail, 6, 12)
		ratio(r.source, 1.2, 2)
	}
	switch mode {
	case "chunking":
		ratio(nil, 60, 22)
	case "pipelining":
		ratio(nil, 60, 35)
	}
}

// secureRows are those over TLS, and what bytes that are ready do there.
func (b *bench) secureRows(server *sink, mode wireMode, sqlite, postgres func() *press) []*row {
	b.t.Helper()
	certificate := filepath.Join(b.t.TempDir(), "certificate.pem")
	server.certificate(certificate)
	bare := b.bare(server, mode)
	rows := []*row{bare}
	for _, database := range []benchDatabase{{"SQLite", sqlite}, {"PostgreSQL", postgres}} {
		rows = append(rows, &row{
			name: database.name + ", TLS, " + mode.name, other: bare, demands: []demand{{bare, 0, 0.75}},
			measure: func() figures {
				return b.dispatch(database.press().in("", "DEPESCHE_SMTP_TLS=implicit", "SSL_CERT_FILE="+certificate), server)
			},
		})
	}
	return rows
}

// farRows are those of a server 20 ms away, on one connection.
func (b *bench) farRows(servers map[string]*sink) []*row {
	b.t.Helper()
	far := func(server *sink) string { return b.tools.newProxy(b.t, server.address, 10*time.Millisecond) }
	rival := b.goMail("20 ms, one connection, go-mail Send", servers["chunking"], far(servers["chunking"]), 1, 150)
	rows := []*row{rival}
	for _, distance := range []struct {
		mode        string
		readers     int
		floor, mark float64
	}{{"chunking", 8000, 40, 55}, {"pipelining", 900, 6, 6.5}} {
		server := servers[distance.mode]
		address := far(server)
		paper := b.planned("SQLite", min(distance.readers, b.readers))
		rows = append(rows, &row{
			name: "20 ms, one connection, SQLite, " + distance.mode, other: rival,
			demands: []demand{{rival, distance.floor, distance.mark}},
			measure: func() figures {
				p := paper().in("", "DEPESCHE_SMTP_CONNECTIONS=1")
				p.setRelay(address)
				return b.again(p, server)
			},
		})
	}
	return rows
}

// manyRows are those of several dispatchers that share a digest, before a server that needs 5 ms for a message.
func (b *bench) manyRows() []*row {
	b.t.Helper()
	server := b.tools.newSink(b.t, "-msgwait", "5ms")
	paper := b.planned("PostgreSQL", min(6000*b.connections, b.readers))
	one := &row{name: "PostgreSQL, 5 ms a message, 1 dispatcher", measure: func() figures { return b.dispatch(paper(), server) }}
	return []*row{one, {
		name: "PostgreSQL, 5 ms a message, 4 dispatchers", other: one, demands: []demand{{one, 3, 3.6}},
		measure: func() figures {
			p := paper().in("")
			p.setRelay(server.address)
			return b.together(p, server, 4)
		},
	}}
}

// planned gives a paper whose digest waits to be dispatched, made when it is wanted first.
func (b *bench) planned(database string, readers int) func() *press {
	return sync.OnceValue(func() *press {
		location := ""
		if database == "PostgreSQL" {
			location = dbtest.PostgreSQLLocation(b.t)
		}
		p := newPress(b.t, b.binary, location, readers)
		p.compose()
		return p
	})
}

// dispatch sends a digest to a server.
func (b *bench) dispatch(p *press, server *sink) figures {
	b.t.Helper()
	p = p.in("")
	p.setRelay(server.address)
	return b.again(p, server)
}

// again sends a copy of the digest, so that it is as due the next time.
func (b *bench) again(p *press, server *sink) figures {
	b.t.Helper()
	twin, remove := p.copied(b.t)
	defer remove()
	f, _ := twin.dispatched(b.t, server)
	return f
}

// together lets several dispatchers send a copy of the digest.
func (b *bench) together(p *press, server *sink, count int) figures {
	b.t.Helper()
	twin, remove := p.copied(b.t)
	defer remove()
	server.count()
	used := make([]usage, count)
	var group sync.WaitGroup
	for i := range used {
		command := twin.command("dispatch")
		var problems bytes.Buffer
		command.Stderr = &problems
		if err := command.Start(); err != nil {
			b.t.Fatal(err)
		}
		group.Go(func() {
			used[i] = finish(b.t, command)
			if !command.ProcessState.Success() {
				b.t.Errorf("a dispatcher of several ended with %s\n%s", command.ProcessState, &problems)
			}
		})
	}
	group.Wait()
	c := server.count()
	if sent := twin.number(`SELECT COUNT(*) FROM deliveries WHERE state = 'sent'`); c.Messages != p.readers || sent != p.readers {
		b.t.Errorf("%d dispatchers: %d accepted, %d sent, want %d", count, c.Messages, sent, p.readers)
	}
	return figuresOf(c, used...)
}

// goMail is the row of go-mail.
func (b *bench) goMail(name string, server *sink, address string, connections, messages int) *row {
	r := rival{Name: "go-mail", Address: address, Connections: connections, Messages: messages, Samples: b.samples}
	return &row{name: name, measure: func() figures { return b.compete(r, server) }}
}

// bare is the row of bytes that are ready, over TLS.
func (b *bench) bare(server *sink, mode wireMode) *row {
	r := rival{
		Name: "bare", Address: server.address, Connections: b.connections, Messages: b.readers, Samples: b.samples,
		Window: mode.window, TLS: true,
	}
	if mode.name == "sequential" {
		r.Window = 0
	}
	return &row{name: "bare writer, TLS, " + mode.name, measure: func() figures { return b.compete(r, server) }}
}

func (b *bench) compete(r rival, server *sink) figures {
	b.t.Helper()
	server.count()
	used := r.run(b.t)
	c := server.count()
	if c.Messages != r.Messages {
		b.t.Fatalf("%s: %d messages accepted, want %d", r.Name, c.Messages, r.Messages)
	}
	return figuresOf(c, used)
}

// source is the row of Postfix's load generator, which makes nothing and sends the same bytes to the same reader.
func (b *bench) source(server *sink, messages int) *row {
	b.t.Helper()
	const program = "/usr/sbin/smtp-source"
	if _, err := os.Stat(program); err != nil {
		absent(b.t, program+" is not installed (Debian: apt-get install postfix)")
	}
	return &row{name: "smtp-source", measure: func() figures {
		server.count()
		command := exec.Command(program, "-s", "8", "-d", "-l", strconv.Itoa(b.size), "-m", strconv.Itoa(messages),
			"-f", "a@b.test", "-t", "c@d.test", "inet:"+server.address)
		out, err := command.CombinedOutput()
		if err != nil {
			b.t.Fatalf("smtp-source: %v\n%s", err, out)
		}
		c := server.count()
		if math.Abs(float64(c.Messages-messages)) > 8 {
			b.t.Fatalf("smtp-source: %d messages accepted, want %d", c.Messages, messages)
		}
		return figuresOf(c, usage{cpu: command.ProcessState.UserTime() + command.ProcessState.SystemTime()})
	}}
}

// durablePostgres starts a PostgreSQL with its own settings, and gives its URL. The one of the other tests does without fsync,
// which would make its figures worthless.
func durablePostgres(t *testing.T) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(found) == 0 {
		absent(t, "PostgreSQL is not installed (Debian: apt-get install postgresql)")
	}
	programs := found[len(found)-1]
	folder, err := os.MkdirTemp("", "depesche-bench-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	account := &syscall.SysProcAttr{}
	if os.Getuid() == 0 { // whom PostgreSQL refuses
		postgres, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(postgres.Uid)
		gid, _ := strconv.Atoi(postgres.Gid)
		account.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(folder, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	program := func(name string, args ...string) *exec.Cmd {
		command := exec.Command(filepath.Join(programs, name), args...)
		command.SysProcAttr, command.Dir = account, folder
		return command
	}
	data := filepath.Join(folder, "data")
	if out, err := program("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	address := freeAddress(t)
	_, port, _ := strings.Cut(address, ":")
	server := program("postgres", "-D", data, "-c", "listen_addresses=127.0.0.1", "-c", "port="+port, "-c", "unix_socket_directories="+folder)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGINT) // a fast shutdown
		_ = server.Wait()
	})
	for end := time.Now().Add(30 * time.Second); program("pg_isready", "-q", "-h", "127.0.0.1", "-p", port).Run() != nil; {
		if time.Now().After(end) {
			t.Fatal("PostgreSQL does not get ready")
		}
		time.Sleep(50 * time.Millisecond)
	}
	at := url.URL{Scheme: "postgres", User: url.User("postgres"), Host: address, Path: "/postgres", RawQuery: "sslmode=disable"}
	return at.String()
}
