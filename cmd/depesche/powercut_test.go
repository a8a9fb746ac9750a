package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Power may fail at any moment: what the kernel has been told and not the disk is gone. So before the last byte of a message
// is handed to the wire, the doubt about it must be in the write-ahead log, and the log on the disk. The kernel's own record of
// what the process asked for (strace) is read, nothing the process says of itself.
func TestExamPowerCut(t *testing.T) {
	onlyIn(t, "exam", "DEPESCHE_EXAM")
	if _, err := exec.LookPath("strace"); err != nil {
		absent(t, "strace is not installed (Debian: apt-get install strace)")
	}
	tools, binary := newWorkshop(t), shipped(t)
	for _, mode := range wireModes {
		t.Run(mode.name, func(t *testing.T) {
			p := newPress(t, binary, "", 300)
			p.compose()
			server := tools.newSink(t, mode.flags...)
			p.setRelay(server.address)
			record := filepath.Join(p.folder, "trace")
			command := p.command("dispatch")
			command.Args = append([]string{
				"strace", "-f", "--seccomp-bpf", "-yy", "-xx", "-s", "10000000", "-o", record, "-e",
				"trace=write,writev,sendto,sendmsg,pwrite64,pwritev,pwritev2,fsync,fdatasync", command.Path,
			}, command.Args[1:]...)
			command.Path, _ = exec.LookPath("strace")
			if out, err := command.CombinedOutput(); err != nil {
				t.Fatalf("strace depesche dispatch: %v\n%s", err, out)
			}
			calls := readTrace(t, record)
			durable := durableDoubts(calls, p.database+"-wal", p.everybody())
			messages := sentMessages(t, calls, server.address, p.everybody())
			covered, bare := 0, []int64{}
			for _, m := range messages {
				if moment, ok := durable[m.reader]; ok && moment < m.left {
					covered++
				} else {
					bare = append(bare, m.reader)
				}
			}
			if len(bare) > 0 {
				t.Errorf("%d messages left before the doubt about them was on the disk, among them those to readers %d", len(bare), few(bare))
			}
			t.Logf("%s: %d messages, %d of them covered (%d calls recorded)", mode.name, len(messages), covered, len(calls))
			if accepted := server.count().Messages; len(messages) != p.readers || accepted != p.readers {
				t.Errorf("%d messages seen, %d accepted by the server, want %d", len(messages), accepted, p.readers)
			}
		})
	}
}

// call is a system call: its place in the record when it was made and when it returned.
type call struct {
	began, returned int
	name            string
	file            string // what the descriptor stands for
	data            []byte // what was written, as far as the kernel took it
}

var (
	traceLine  = regexp.MustCompile(`^(\d+) +(.*)$`)
	traceCall  = regexp.MustCompile(`^(\w+)\(\d+<((?:->|[^>])*)>(.*) = (-?\d+)(?: .*)?$`)
	traceQuote = regexp.MustCompile(`"((?:\\x[0-9a-f]{2})*)"`)
)

// readTrace reads a record of strace in the order the calls were made. A call during which another thread was heard is
// written in two pieces.
func readTrace(t *testing.T, path string) []call {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	type half struct {
		began int
		text  string
	}
	var calls []call
	open := map[string]half{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 64<<20)
	for at := 0; lines.Scan(); at++ {
		match := traceLine.FindStringSubmatch(lines.Text())
		if match == nil {
			t.Fatalf("line %d of the record cannot be read", at+1)
		}
		thread, text, began := match[1], match[2], at
		if before, found := strings.CutSuffix(text, " <unfinished ...>"); found {
			open[thread] = half{at, before}
			continue
		}
		if strings.HasPrefix(text, "<... ") {
			_, after, _ := strings.Cut(text, " resumed>")
			began, text = open[thread].began, open[thread].text+after
		}
		if c, ok := parseCall(text); ok {
			c.began, c.returned = began, at
			calls = append(calls, c)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	slices.SortStableFunc(calls, func(a, b call) int { return a.began - b.began })
	return calls
}

// parseCall reads a call that succeeded; signals, exits and failures are none.
func parseCall(text string) (c call, ok bool) {
	match := traceCall.FindStringSubmatch(text)
	if match == nil {
		return c, false
	}
	result, err := strconv.Atoi(match[4])
	if err != nil || result < 0 {
		return c, false
	}
	c.name, c.file = match[1], string(unescaped(match[2]))
	if c.name == "fsync" || c.name == "fdatasync" {
		return c, true
	}
	for _, quoted := range traceQuote.FindAllStringSubmatch(match[3], -1) { // one, or those of a vector
		c.data = append(c.data, unescaped(quoted[1])...)
	}
	c.data = c.data[:min(result, len(c.data))]
	return c, true
}

// unescaped is what \x41\x42 stands for; what is not written so stays.
func unescaped(text string) []byte {
	if !strings.HasPrefix(text, `\x`) {
		return []byte(text)
	}
	data, err := hex.DecodeString(strings.ReplaceAll(text, `\x`, ""))
	if err != nil {
		return []byte(text)
	}
	return data
}

// durableDoubts says at which step of the record each reader's doubt was safe: the log's page that holds the row was written,
// and a sync of the log that was asked for after that had returned.
func durableDoubts(calls []call, log string, readers map[string]int64) map[int64]int {
	known := map[int64]bool{}
	for _, reader := range readers {
		known[reader] = true
	}
	durable := map[int64]int{}
	written := map[int64]int{} // when the page's write returned
	for _, c := range calls {
		if c.file != log {
			continue
		}
		if c.name != "fsync" && c.name != "fdatasync" {
			for _, reader := range doubtsIn(c.data, known) {
				if _, ok := written[reader]; !ok {
					written[reader] = c.returned
				}
			}
			continue
		}
		for reader, at := range written {
			if _, ok := durable[reader]; !ok && at < c.began {
				durable[reader] = c.returned
			}
		}
	}
	return durable
}

// doubtsIn finds the rows of a page that say doubtful: the reader's id in eight bytes, the most significant first, and then the
// state, with at most a small number (the variant) between them.
func doubtsIn(page []byte, known map[int64]bool) []int64 {
	const state = "doubtful"
	var readers []int64
	for at := 0; ; at += len(state) {
		next := bytes.Index(page[at:], []byte(state))
		if next < 0 {
			return readers
		}
		at += next
		for between := 0; between <= 2 && at-between >= 8; between++ {
			reader := int64(binary.BigEndian.Uint64(page[at-between-8:]))
			if known[reader] {
				readers = append(readers, reader)
				break
			}
		}
	}
}

// sentMessage is a message on the wire: the step at which the write was made that held its last byte.
type sentMessage struct {
	reader int64
	left   int
}

// sentMessages puts the streams to the server together again and finds the messages in them.
func sentMessages(t *testing.T, calls []call, server string, readers map[string]int64) []sentMessage {
	t.Helper()
	streams := map[string][]call{}
	for _, c := range calls {
		if strings.HasPrefix(c.file, "TCP:[") && strings.HasSuffix(c.file, "->"+server+"]") && len(c.data) > 0 {
			streams[c.file] = append(streams[c.file], c)
		}
	}
	var messages []sentMessage
	for _, writes := range streams {
		var stream []byte
		var ends []int // of each write, in the stream
		for _, c := range writes {
			stream = append(stream, c.data...)
			ends = append(ends, len(stream))
		}
		for _, found := range messagesIn(stream) {
			reader, ok := readers[found.recipient]
			if !ok {
				t.Fatal("a message goes to somebody who is no reader")
			}
			write, _ := slices.BinarySearch(ends, found.end)
			messages = append(messages, sentMessage{reader, writes[write].began})
		}
	}
	return messages
}

// transmitted is a message in a stream of a client's bytes: it ends before that offset.
type transmitted struct {
	recipient string
	end       int
}

// messagesIn reads a client's side of SMTP: DATA ends with the dot that is alone on its line, BDAT says its length.
func messagesIn(stream []byte) []transmitted {
	var list []transmitted
	var recipient string
	for at := 0; ; {
		length := bytes.Index(stream[at:], []byte("\r\n"))
		if length < 0 {
			return list
		}
		line := string(stream[at : at+length])
		at += length + 2
		words := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "RCPT TO:<"):
			recipient, _, _ = strings.Cut(strings.TrimPrefix(line, "RCPT TO:<"), ">")
		case line == "DATA":
			end := bytes.Index(stream[at-2:], []byte("\r\n.\r\n"))
			if end < 0 {
				return list
			}
			at += end + 3
			list = append(list, transmitted{recipient, at})
		case len(words) >= 2 && words[0] == "BDAT":
			size, _ := strconv.Atoi(words[1])
			if at += size; at > len(stream) {
				return list
			}
			if len(words) == 3 {
				list = append(list, transmitted{recipient, at})
			}
		}
	}
}

// The reading of records is right about order: what was asked to be synced before it was written is not safe.
func TestTraceOrder(t *testing.T) {
	const reader, log = 0x0102030405060708, "/d.db-wal"
	escaped := func(text string) string {
		var b strings.Builder
		for i := range len(text) {
			fmt.Fprintf(&b, `\x%02x`, text[i])
		}
		return b.String()
	}
	row := `"` + escaped("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x05doubtful") + `"`
	path := `<` + escaped(log) + `>`
	socket := `<TCP:[127.0.0.1:40000->127.0.0.1:25]>`
	for name, test := range map[string]struct {
		lines []string
		want  int // when the doubt is safe, 0: never
	}{
		"written and synced":         {[]string{"7 pwrite64(3" + path + ", " + row + ", 18, 0) = 18", "7 fdatasync(3" + path + ") = 0"}, 1},
		"not synced":                 {[]string{"7 pwrite64(3" + path + ", " + row + ", 18, 0) = 18"}, 0},
		"another file synced":        {[]string{"7 pwrite64(3" + path + ", " + row + ", 18, 0) = 18", "7 fdatasync(4</x>) = 0"}, 0},
		"the sync failed":            {[]string{"7 pwrite64(3" + path + ", " + row + ", 18, 0) = 18", "7 fdatasync(3" + path + ") = -1 EIO (Input/output error)"}, 0},
		"the page was written short": {[]string{"7 pwrite64(3" + path + ", " + row + ", 18, 0) = 12", "7 fdatasync(3" + path + ") = 0"}, 0},
		"synced in two pieces": {[]string{
			"7 pwrite64(3" + path + ", " + row + ", 18, 0) = 18", "7 fdatasync(3" + path + " <unfinished ...>",
			`8 write(5` + socket + `, "\x41", 1) = 1`, "7 <... fdatasync resumed>) = 0",
		}, 3},
		"asked to sync too early": {[]string{
			"8 fdatasync(3" + path + " <unfinished ...>", "7 pwrite64(3" + path + ", " + row + ", 18, 0) = 18",
			"8 <... fdatasync resumed>) = 0", "7 +++ exited with 0 +++",
		}, 0},
	} {
		record := filepath.Join(t.TempDir(), "trace")
		if err := os.WriteFile(record, []byte(strings.Join(test.lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := durableDoubts(readTrace(t, record), log, map[string]int64{"a": reader})[reader]; got != test.want {
			t.Errorf("%s: safe at step %d, want %d", name, got, test.want)
		}
	}
}

func TestMessagesInAStream(t *testing.T) {
	for stream, want := range map[string][]transmitted{
		"EHLO x\r\nMAIL FROM:<s@x>\r\nRCPT TO:<a@x>\r\nDATA\r\nS: 1\r\n\r\n..x\r\n.\r\nMAIL FROM:<s@x>\r\nRCPT TO:<b@x>\r\nDATA\r\nS: 2": {{"a@x", 62}},
		"RCPT TO:<a@x>\r\nDATA\r\n.\r\nRCPT TO:<b@x>\r\nDATA\r\nhalf\r\n.":                                                               {{"a@x", 24}},
		"RCPT TO:<a@x>\r\nBDAT 3 LAST\r\n\r\nxRCPT TO:<b@x>\r\nBDAT 2\r\nxxBDAT 0 LAST\r\nRCPT TO:<c@x>\r\nBDAT 4 LAST\r\nxxx":           {{"a@x", 31}, {"b@x", 69}},
	} {
		if got := messagesIn([]byte(stream)); !slices.Equal(got, want) {
			t.Errorf("messages in %q = %v, want %v", stream, got, want)
		}
	}
}
