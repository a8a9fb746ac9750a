package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"depesche/migrations/dbtest"
)

// crowd is people at the form, some at a time, each from a network of their own behind the paper's web server.
type crowd struct {
	t      *testing.T
	pages  string
	form   url.Values // with its stamp
	client *http.Client
	came   atomic.Int64
}

func newCrowd(t *testing.T, pages string, atOnce int) *crowd {
	t.Helper()
	c := &crowd{t: t, pages: pages, client: &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: atOnce},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	t.Cleanup(c.client.CloseIdleConnections)
	form, err := page(c.client.Get(pages + "/"))
	if err != nil {
		t.Fatal(err)
	}
	c.form = hidden(form)
	c.form.Set("topic", "sport")
	return c
}

// comes sends the form n times, atOnce at a time, and gives how long each took. With reads, each also looks at a page.
func (c *crowd) comes(n, atOnce int, reads bool) []time.Duration {
	c.t.Helper()
	took := make([]time.Duration, n)
	var next atomic.Int64
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				began := time.Now()
				if err := c.signUp(); err != nil {
					c.t.Errorf("sign-up %d: %v", i, err)
					return
				}
				took[i] = time.Since(began)
				if reads {
					if _, err := page(c.client.Get(c.pages + "/")); err != nil {
						c.t.Errorf("read %d: %v", i, err)
						return
					}
				}
			}
		})
	}
	all.Wait()
	return took
}

// signUp is one of them; nobody comes twice.
func (c *crowd) signUp() error {
	i := c.came.Add(1)
	body := c.form.Encode() + fmt.Sprintf("&email=leser%d%%40reader.test", i)
	r, err := http.NewRequest(http.MethodPost, c.pages+"/subscribe", strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("X-Forwarded-For", netip.AddrFrom4([4]byte{byte(1 + i>>24), byte(i >> 16), byte(i >> 8), byte(i)}).String())
	response, err := c.client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusSeeOther {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	return nil
}

// letters waits until each has a letter, with its consent event, and none more.
func (c *crowd) letters(town *town) {
	c.t.Helper()
	until(c.t, 2*time.Minute, "every sign-up has its letter", func() bool {
		return town.number(`SELECT COUNT(*) FROM letters`) == c.came.Load()
	})
	if n := town.number(`SELECT COUNT(*) FROM consents WHERE kind = 'requested'`); n != c.came.Load() {
		c.t.Errorf("%d requests are in the ledger of %d sign-ups", n, c.came.Load())
	}
}

// number asks the database of a town that is at work.
func (n *town) number(query string) (number int64) {
	n.t.Helper()
	n.database(func(db *sql.DB) error { return db.QueryRow(query).Scan(&number) })
	return number
}

// TestBenchSignUps measures sign-ups at the shipped depesche: each is on the disk before it is answered, is checked by all
// there is, and has its letter. DEPESCHE_BENCH_SIGNUPS says how many.
func TestBenchSignUps(t *testing.T) {
	onlyIn(t, "bench", "DEPESCHE_BENCH")
	n := amount(t, "DEPESCHE_BENCH_SIGNUPS", 30_000)
	binary := shipped(t)
	for _, run := range []struct{ name, letters string }{
		{"sqlite", "wait"}, {"sqlite", "leave at the same time"}, {"postgres", "wait"},
	} {
		t.Run(run.name+", letters "+run.letters, func(t *testing.T) {
			location := ""
			if run.name == "postgres" {
				location = dbtest.PostgreSQLLocation(t)
			}
			town := newTown(t, location)
			town.environ = append(town.environ, "DEPESCHE_SIGNUPS_FLOOD=100000000")
			if run.letters == "wait" {
				town.depesche("", 0, "migrate")
				town.depesche("", 0, "hold", "--letters")
			}
			command := exec.Command(binary, "serve")
			command.Env, command.Dir = town.environ, town.folder
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = command.Process.Signal(syscall.SIGTERM)
				_ = command.Wait()
			}()
			await(t, strings.TrimPrefix(town.pages, "http://"))
			c := newCrowd(t, town.pages, 16)
			c.comes(n/20, 16, false) // to warm up
			c.letters(town)
			pid := command.Process.Pid
			began, spent := time.Now(), processTime(pid)
			took := c.comes(n, 16, false)
			answered := time.Since(began)
			c.letters(town)
			decided := time.Since(began)
			slices.Sort(took)
			t.Logf("%d sign-ups, 16 at a time: %.0f/s answered, %.0f/s with the letter queued; p50 %v, p99 %v, slowest %v; %v CPU each, %d MB",
				n, float64(n)/answered.Seconds(), float64(n)/decided.Seconds(), took[n/2], took[n*99/100], took[n-1],
				(processTime(pid)-spent)/time.Duration(n), procField(pid, "status", "VmRSS:")/1024)
			if rate := float64(n) / decided.Seconds(); run.name == "sqlite" && (rate < 1000 || took[n*99/100] > 50*time.Millisecond) {
				t.Errorf("%.0f/s and p99 %v are below the floor of 1,000/s and 50 ms", rate, took[n*99/100])
			}
		})
	}
}

// processTime is the CPU a process has used.
func processTime(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(string(text))
	if err != nil || len(fields) < 15 {
		return 0
	}
	var ticks int
	for _, field := range fields[13:15] { // utime and stime, of USER_HZ: 100 a second
		n, _ := strconv.Atoi(field)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// TestExamSignUps: memory and goroutines stay what they were over DEPESCHE_EXAM_SIGNUPS sign-ups and as many reads.
func TestExamSignUps(t *testing.T) {
	onlyIn(t, "exam", "DEPESCHE_EXAM")
	n := amount(t, "DEPESCHE_EXAM_SIGNUPS", 1_000_000)
	town := newTown(t, "")
	town.environ = append(town.environ, "DEPESCHE_SIGNUPS_FLOOD=100000000")
	a := &app{environ: town.environ, stdout: io.Discard, stderr: io.Discard, configPath: town.folder + "/depesche.yaml", now: time.Now}
	ctx, cancel := context.WithCancel(t.Context())
	h, err := a.open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	if _, err := h.registry.HoldLetters(ctx, time.Now()); err != nil { // a mailbox in memory is none of this
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", strings.TrimPrefix(town.pages, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- a.serve(ctx, h, listener) }()
	c := newCrowd(t, town.pages, 16)
	var first state
	for part := range 10 {
		c.comes(n/10, 16, true)
		c.letters(town)
		now := c.state()
		t.Logf("after %d sign-ups and reads: %d KB on the heap, %d goroutines", c.came.Load(), now.heap>>10, now.goroutines)
		if part == 0 {
			first = now
			continue
		}
		if now.heap > first.heap+first.heap/5+1<<20 || now.goroutines > first.goroutines+5 {
			t.Errorf("after %d: %+v, after a tenth it was %+v", c.came.Load(), now, first)
		}
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// state is what must not grow.
type state struct {
	heap       uint64
	goroutines int
}

// state is taken when nobody asks any more.
func (c *crowd) state() state {
	c.client.CloseIdleConnections()
	var now state
	until(c.t, 20*time.Second, "connections are closed", func() bool {
		before := now.goroutines
		now.goroutines = runtime.NumGoroutine()
		return before == now.goroutines
	})
	runtime.GC()
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	now.heap = memory.HeapAlloc
	return now
}
