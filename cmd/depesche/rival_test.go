package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gomail "github.com/wneessen/go-mail"
)

// rival is a sender that depesche is measured against, as a process of its own: the test binary with this in its environment.
type rival struct {
	Name        string // "go-mail", or "bare": bytes that are ready, without a database
	Address     string // of the server
	Connections int
	Messages    int
	Samples     string // folder of mails
	Window      int    // bare: messages without an answer on a connection; 0: every command waits for its answer
	TLS         bool   // bare
}

const rivalVariable = "BE_RIVAL"

// run lets the rival send, and gives what sending alone cost it.
func (r rival) run(t testing.TB) usage {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	settings, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(executable, "-test.run=^TestRival$")
	command.Env = append(os.Environ(), rivalVariable+"="+string(settings))
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", r.Name, err, out)
	}
	var microseconds int64
	_, after, _ := strings.Cut(string(out), rivalVariable+" cost ")
	if _, err := fmt.Sscan(after, &microseconds); err != nil {
		t.Fatalf("%s does not say what it cost: %v\n%s", r.Name, err, out)
	}
	return usage{cpu: time.Duration(microseconds) * time.Microsecond}
}

// TestRival is what a rival's process runs.
func TestRival(t *testing.T) {
	settings := os.Getenv(rivalVariable)
	if settings == "" {
		t.Skip("SKIPPED: make bench runs this as a process of its own")
	}
	var r rival
	if err := json.Unmarshal([]byte(settings), &r); err != nil {
		t.Fatal(err)
	}
	send := r.goMail
	if r.Name == "bare" {
		send = r.bare
	}
	mails := readSamples(t, r.Samples)
	spent := cpuTime(t)
	failures := make(chan error, r.Connections)
	var group sync.WaitGroup
	for connection := range r.Connections {
		group.Go(func() {
			count := (r.Messages + connection) / r.Connections
			failures <- send(mails, connection, count)
		})
	}
	group.Wait()
	fmt.Println(rivalVariable, "cost", (cpuTime(t) - spent).Microseconds())
	close(failures)
	for err := range failures {
		if err != nil {
			t.Error(err)
		}
	}
}

// cpuTime is what this process has used.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// goMail sends as one does with go-mail: a message built for each reader, Send for each, default options.
func (r rival) goMail(mails []sampleMail, connection, count int) error {
	host, port, err := net.SplitHostPort(r.Address)
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	client, err := gomail.NewClient(host, gomail.WithPort(number), gomail.WithTLSPolicy(gomail.NoTLS))
	if err != nil {
		return err
	}
	if err := client.DialWithContext(context.Background()); err != nil {
		return err
	}
	for i := range count {
		mail := mails[(i*r.Connections+connection)%len(mails)]
		m := gomail.NewMsg()
		if err := m.FromFormat("Talbote", "morgen@talbote.test"); err != nil {
			return err
		}
		if err := m.To(fmt.Sprintf("leser%d.%d@reader.test", connection, i)); err != nil {
			return err
		}
		m.Subject("Talbote am Morgen")
		m.SetBodyString(gomail.TypeTextPlain, mail.text)
		m.AddAlternativeString(gomail.TypeTextHTML, mail.html)
		if err := client.Send(m); err != nil {
			return err
		}
	}
	return client.Close()
}

// bare writes mails that are ready, as fast as the mode allows.
func (r rival) bare(mails []sampleMail, connection, count int) error {
	var wire net.Conn
	var err error
	if r.TLS {
		// What costs is the encryption; whom the server is, depesche checks.
		wire, err = tls.Dial("tcp", r.Address, &tls.Config{InsecureSkipVerify: true, DynamicRecordSizingDisabled: true})
	} else {
		wire, err = net.Dial("tcp", r.Address)
	}
	if err != nil {
		return err
	}
	defer func() { _ = wire.Close() }()
	b := &bareWriter{wire: wire, answers: bufio.NewReader(wire)}
	if err := b.expect("220"); err != nil {
		return err
	}
	if err := b.say([]byte("EHLO bare.test\r\n"), "250"); err != nil {
		return err
	}
	send := b.pipelined
	switch {
	case r.Window == 0:
		send = b.sequential
	case r.Window > 1:
		send = func(mails []sampleMail, from, step, count int) error {
			return b.chunked(mails, from, step, count, r.Window)
		}
	}
	if err := send(mails, connection, r.Connections, count); err != nil {
		return err
	}
	return b.say([]byte("QUIT\r\n"), "221")
}

// bareWriter is one connection without any thought about what becomes of a message.
type bareWriter struct {
	wire    net.Conn
	answers *bufio.Reader
	out     []byte
}

const (
	bareMail = "MAIL FROM:<b-4wnzi3vk7q2mxe5t6ra@talbote.test>\r\n"
	bareRcpt = "RCPT TO:<leser47110815@reader.test>\r\n"
)

func (b *bareWriter) say(words []byte, codes ...string) error {
	if _, err := b.wire.Write(words); err != nil {
		return err
	}
	return b.expect(codes...)
}

// expect reads one answer for each of the codes.
func (b *bareWriter) expect(codes ...string) error {
	for _, code := range codes {
		for last := false; !last; {
			line, err := b.answers.ReadSlice('\n')
			if err != nil {
				return err
			}
			if !bytes.HasPrefix(line, []byte(code)) {
				return fmt.Errorf("the server says %q, want %s", line, code)
			}
			last = len(line) > 3 && line[3] == ' '
		}
	}
	return nil
}

func (b *bareWriter) sequential(mails []sampleMail, from, step, count int) error {
	for i := range count {
		for _, command := range []struct{ words, code string }{{bareMail, "250"}, {bareRcpt, "250"}, {"DATA\r\n", "354"}} {
			if err := b.say([]byte(command.words), command.code); err != nil {
				return err
			}
		}
		b.out = append(append(b.out[:0], mails[(from+i*step)%len(mails)].raw...), ".\r\n"...)
		if err := b.say(b.out, "250"); err != nil {
			return err
		}
	}
	return nil
}

// pipelined sends the content of one message together with the commands of the next.
func (b *bareWriter) pipelined(mails []sampleMail, from, step, count int) error {
	const commands = bareMail + bareRcpt + "DATA\r\n"
	if err := b.say([]byte(commands), "250", "250", "354"); err != nil {
		return err
	}
	for i := range count {
		b.out = append(append(b.out[:0], mails[(from+i*step)%len(mails)].raw...), ".\r\n"...)
		if i == count-1 {
			return b.say(b.out, "250")
		}
		b.out = append(b.out, commands...)
		if err := b.say(b.out, "250", "250", "250", "354"); err != nil {
			return err
		}
	}
	return nil
}

// chunked keeps as many messages without an answer as the window allows.
func (b *bareWriter) chunked(mails []sampleMail, from, step, count, window int) error {
	for i := range count + window {
		if i >= window {
			if err := b.expect("250", "250", "250"); err != nil {
				return err
			}
		}
		if i >= count {
			continue
		}
		raw := mails[(from+i*step)%len(mails)].raw
		b.out = fmt.Appendf(b.out[:0], "%s%sBDAT %d LAST\r\n", bareMail, bareRcpt, len(raw))
		b.out = append(b.out, raw...)
		if _, err := b.wire.Write(b.out); err != nil {
			return err
		}
	}
	return nil
}

// sampleMail is a digest as a server took it.
type sampleMail struct {
	raw        []byte
	text, html string
}

// readSamples reads a folder of kept mails.
func readSamples(t testing.TB, folder string) []sampleMail {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(folder, "*.eml"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	var mails []sampleMail
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		m, err := gomail.EMLToMsgFromReader(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		mail := sampleMail{raw: raw}
		for _, part := range m.GetParts() {
			content, err := part.GetContent()
			if err != nil {
				t.Fatal(err)
			}
			if part.GetContentType() == gomail.TypeTextPlain {
				mail.text = string(content)
			} else {
				mail.html = string(content)
			}
		}
		if !strings.HasPrefix(strings.TrimSpace(mail.html), "<!doctype") || mail.text == "" {
			t.Fatal("a sample has not both parts")
		}
		mails = append(mails, mail)
	}
	return mails
}
