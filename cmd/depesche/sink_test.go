package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What exams and measurements share: the server that takes everything, the wire that is slow, and depesche as it is shipped.

// onlyIn skips a test that takes long unless `make TARGET` asks for it by setting the variable to 1.
func onlyIn(t *testing.T, target, variable string) {
	t.Helper()
	if os.Getenv(variable) != "1" {
		t.Skipf("SKIPPED: make %s runs this (%s=1)", target, variable)
	}
}

// amount is a number that the environment may overrule.
func amount(t testing.TB, variable string, preset int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return preset
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s is %q, want a positive number", variable, text)
	}
	return n
}

// absent skips what needs a thing this machine has not, or fails where nothing may be skipped.
func absent(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("DEPESCHE_NO_SKIP") != "" {
		t.Fatal(what)
	}
	t.Skip("SKIPPED: " + what)
}

// workshop is a folder with the built programs rawsink and delayproxy.
type workshop string

// newWorkshop builds them from the module that DEPESCHE_TOOLS names.
func newWorkshop(t testing.TB) workshop {
	t.Helper()
	source := os.Getenv("DEPESCHE_TOOLS")
	if source == "" {
		absent(t, "DEPESCHE_TOOLS names no folder with the programs rawsink and delayproxy")
	}
	folder := t.TempDir()
	for _, program := range []string{"rawsink", "delayproxy"} {
		build(t, "-C", source, "-o", filepath.Join(folder, program), "./"+program)
	}
	return workshop(folder)
}

// shipped is a depesche without the race detector: the one DEPESCHE_BINARY names, so that broken builds can be examined,
// or one built from here.
func shipped(t testing.TB) string {
	t.Helper()
	if given := os.Getenv("DEPESCHE_BINARY"); given != "" {
		path, err := filepath.Abs(given)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	path := filepath.Join(t.TempDir(), "depesche")
	build(t, "-o", path, ".")
	return path
}

func build(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("go", append([]string{"build"}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// wireMode is what a server offers, and so how depesche sends.
type wireMode struct {
	name   string
	flags  []string // of rawsink
	window int      // how many messages of a connection may be without an answer
}

var wireModes = []wireMode{
	{"chunking", nil, 8},
	{"pipelining", []string{"-chunking=false"}, 1},
	{"sequential", []string{"-chunking=false", "-pipelining=false"}, 1},
}

// sink is a rawsink at work.
type sink struct {
	t       testing.TB
	address string
	log     string // of what it accepted, once it has stopped
	saved   string // folder of what it accepted
	command *exec.Cmd
	lines   *bufio.Scanner
	spent   float64 // seconds of CPU up to the last count
	stopped bool
}

// newSink starts a server; it ends with the test.
func (w workshop) newSink(t testing.TB, flags ...string) *sink {
	t.Helper()
	s := &sink{t: t, address: freeAddress(t)}
	s.command = exec.Command(filepath.Join(string(w), "rawsink"), append([]string{"-addr", s.address}, flags...)...)
	s.command.Stderr = os.Stderr
	out, err := s.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.command.Start(); err != nil {
		t.Fatal(err)
	}
	s.lines = bufio.NewScanner(out)
	t.Cleanup(func() {
		if !s.stopped {
			_ = s.command.Process.Kill()
			_ = s.command.Wait()
		}
	})
	await(t, s.address)
	greeted(t, s.address, slices.Contains(flags, "-tls"))
	s.count()
	return s
}

// greeted returns when a server has greeted: it may listen before it is ready for anything else.
func greeted(t testing.TB, address string, secure bool) {
	t.Helper()
	connection, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	if secure {
		connection = tls.Client(connection, &tls.Config{InsecureSkipVerify: true}) // its certificate is made on the spot
	}
	if _, err := connection.Read(make([]byte, 1)); err != nil {
		t.Fatalf("the server does not greet: %v", err)
	}
}

// newKeepingSink is a server that writes down and keeps what it accepts.
func (w workshop) newKeepingSink(t testing.TB, flags ...string) *sink {
	t.Helper()
	folder := t.TempDir()
	log, saved := filepath.Join(folder, "log"), filepath.Join(folder, "saved")
	if err := os.Mkdir(saved, 0o700); err != nil {
		t.Fatal(err)
	}
	s := w.newSink(t, append([]string{"-log", log, "-save", saved}, flags...)...)
	s.log, s.saved = log, saved
	return s
}

// newProxy puts a wire before a server that delays every byte in each direction, and gives its address.
func (w workshop) newProxy(t testing.TB, target string, delay time.Duration) string {
	t.Helper()
	address := freeAddress(t)
	command := exec.Command(filepath.Join(string(w), "delayproxy"), "-l", address, "-t", target, "-d", delay.String())
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	await(t, address)
	return address
}

// await returns when somebody listens at an address.
func await(t testing.TB, address string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		connection, err := net.Dial("tcp", address)
		if err == nil {
			_ = connection.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatalf("nobody listens: %v", err)
		}
	}
}

// sinkCount is what a sink did since it was counted last.
type sinkCount struct {
	Messages int     `json:"msgs"`
	Bytes    int64   `json:"bytes"`
	Span     float64 `json:"span_s"` // seconds from the first accepted message to the last
	User     float64 `json:"user_s"` // seconds of CPU since it began
	System   float64 `json:"sys_s"`
	CPU      float64 `json:"-"` // seconds of CPU since the last count
}

func (s *sink) count() sinkCount {
	s.t.Helper()
	if err := s.command.Process.Signal(syscall.SIGUSR1); err != nil {
		s.t.Fatal(err)
	}
	var c sinkCount
	if !s.lines.Scan() {
		s.t.Fatalf("the sink does not count: %v", s.lines.Err())
	}
	if err := json.Unmarshal(s.lines.Bytes(), &c); err != nil {
		s.t.Fatal(err)
	}
	c.CPU = c.User + c.System - s.spent
	s.spent += c.CPU
	return c
}

// stop ends the sink once nothing comes any more, which completes its log.
func (s *sink) stop() {
	s.t.Helper()
	for s.count().Messages > 0 {
		time.Sleep(50 * time.Millisecond) // what a killed sender had written may still be on its way
	}
	if err := s.command.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	for s.lines.Scan() {
	}
	s.stopped = true
	if err := s.command.Wait(); err != nil {
		s.t.Fatalf("the sink ended with %v", err)
	}
}

// accepted reads the log of a stopped sink: how many messages each address got.
func (s *sink) accepted() map[string]int {
	s.t.Helper()
	text, err := os.ReadFile(s.log)
	if err != nil {
		s.t.Fatal(err)
	}
	counts := map[string]int{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(line, "\t")
		if len(fields) != 5 {
			s.t.Fatalf("a line of the sink's log has %d fields, want 5", len(fields))
		}
		for address := range strings.SplitSeq(fields[1], ",") {
			counts[address]++
		}
	}
	return counts
}

// certificate writes a sink's throw-away certificate to a file that SSL_CERT_FILE may name.
func (s *sink) certificate(path string) {
	s.t.Helper()
	connection, err := tls.Dial("tcp", s.address, &tls.Config{InsecureSkipVerify: true}) // to see it for the first time
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	block := &pem.Block{Type: "CERTIFICATE", Bytes: connection.ConnectionState().PeerCertificates[0].Raw}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		s.t.Fatal(err)
	}
}
