package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"depesche/migrations"
	"depesche/subscribers"
)

// reader is one of town.addReaders with what is theirs alone in a digest.
type reader struct {
	number                   int
	address, sender          string
	unsubscribe, preferences string    // tokens
	since                    time.Time // the sign-up, whose day is printed
}

// firstSignUp is that of reader 1; town.spreadSignUps gives each reader the day after the last one's.
var firstSignUp = time.Date(1970, time.June, 1, 12, 0, 0, 0, time.UTC)

func newReader(keys *subscribers.Keys, number int) reader {
	id := int64(number)
	return reader{
		number: number, address: fmt.Sprintf("leser%d@reader.test", number), sender: keys.Sender("morgen", id) + "@talbote.test",
		unsubscribe: keys.Token(subscribers.ToUnsubscribe, id, "morgen", 1), preferences: keys.Token(subscribers.ToPrefer, id, "morgen", 1),
		since: firstSignUp.AddDate(0, 0, number-1),
	}
}

// readerNumber is whose address it is, 0 for anybody else's.
func readerNumber(address string) (number int) {
	_, _ = fmt.Sscanf(address, "leser%d@reader.test", &number)
	return number
}

func (n *town) keys() *subscribers.Keys {
	n.t.Helper()
	keys, err := subscribers.LoadKeys(filepath.Join(n.folder, "depesche.keys"))
	if err != nil {
		n.t.Fatal(err)
	}
	return keys
}

// spreadSignUps gives each reader a day of their own on which they signed up.
func (n *town) spreadSignUps() {
	n.t.Helper()
	config, err := LoadConfig(filepath.Join(n.folder, "depesche.yaml"), n.environ)
	if err != nil {
		n.t.Fatal(err)
	}
	db, err := migrations.Open(context.Background(), string(config.Database))
	if err != nil {
		n.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	const day = 24 * time.Hour
	_, err = db.Write.Exec(`UPDATE subscriptions SET signed_up = $1 + (subscriber - 1) * $2`, firstSignUp.UnixMilli(), day.Milliseconds())
	if err != nil {
		n.t.Fatal(err)
	}
}

// delivery is a mail as it lies in a mailbox: what the servers wrote on top, and what depesche wrote.
type delivery struct {
	trace, message string
	queueID        string // under which Postfix took it: a copy of Postfix's own making has the same
}

// delivered are the mails in a reader's mailbox. Postfix delivers at least once: where it is stopped between handing a mail
// over and noting so, it does it again. Such copies are not ours, and left out.
func (c *chain) delivered(t *testing.T, r reader) []delivery {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(c.Folder, "mail", r.address, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var list []delivery
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		d := takeApart(data)
		same := func(other delivery) bool { return other.queueID == d.queueID }
		if i := slices.IndexFunc(list, same); i < 0 {
			list = append(list, d)
		} else if list[i].message != d.message {
			t.Errorf("two copies of one mail to reader %d differ", r.number)
		}
	}
	return list
}

var (
	traceFields = regexp.MustCompile(`(?i)\A(?:(?:Return-Path|Delivered-To|Received):.*\n(?:[ \t].*\n)*)+`)
	submitted   = regexp.MustCompile(`by relay\.test \(Postfix\) with ESMTPSA id (\w+)`) // S: by TLS, A: by AUTH (RFC 3848)
)

func takeApart(data []byte) (d delivery) {
	d.trace = string(traceFields.Find(data))
	d.message = string(data[len(d.trace):])
	if id := submitted.FindStringSubmatch(d.trace); id != nil {
		d.queueID = id[1]
	}
	return d
}

// pattern is a digest with a mark where each value belongs that is a reader's alone, and the Date.
type pattern string

// newPattern takes the reader's values out of a mail to them. It is an error if one of them is not where it belongs.
func newPattern(message string, r reader) (pattern, error) {
	for _, value := range []struct {
		mark, text string
		times      int
	}{
		{"to", r.address, 1},
		{"id", messageID.FindString(message), 1},
		{"date", dateLine.FindString(message), 1},
		{"unsubscribe", r.unsubscribe, 3}, // the header's, the text's, the page's
		{"preferences", r.preferences, 2},
	} {
		if value.text == "" || strings.Count(message, value.text) != value.times {
			return "", fmt.Errorf("%s is in it %d times, want %d", value.mark, strings.Count(message, value.text), value.times)
		}
		message = strings.ReplaceAll(message, value.text, mark(value.mark))
	}
	days := 0
	message = printedDay.ReplaceAllStringFunc(message, func(text string) string {
		part := printedDay.FindStringSubmatch(text)
		if part[1]+"."+part[3]+"."+part[5] != r.since.Format("02.01.2006") {
			return text
		}
		days++
		return mark("day") + part[2] + mark("month") + part[4] + mark("year")
	})
	if days != 2 {
		return "", fmt.Errorf("the day of the sign-up is in it %d times, want 2", days)
	}
	return pattern(message), nil
}

func mark(name string) string { return "\x00" + name + "\x00" }

// fill is the mail the reader must have; what no reader knows beforehand is taken from the one they have.
func (p pattern) fill(r reader, message string) string {
	return strings.NewReplacer(
		mark("to"), r.address, mark("id"), messageID.FindString(message), mark("date"), dateLine.FindString(message),
		mark("unsubscribe"), r.unsubscribe, mark("preferences"), r.preferences,
		mark("day"), r.since.Format("02"), mark("month"), r.since.Format("01"), mark("year"), r.since.Format("2006"),
	).Replace(string(p))
}

var (
	messageID = regexp.MustCompile(`\nMessage-ID: <[\w-]{22}@talbote\.test>\n`)
	dateLine  = regexp.MustCompile(`(?m)^Date: .*$`)
	// A line may end beside a dot, which then is not printed as itself (RFC 2045 §6.7, rules 1 and 5).
	printedDay = regexp.MustCompile(`(\d\d)((?:=\n)?(?:\.|=2E)(?:=\n)?)(\d\d)((?:=\n)?(?:\.|=2E)(?:=\n)?)(\d{4})`)
)

// check wants the mail to have come by STARTTLS and AUTH, from the sender that is the reader's alone, and to be to the byte
// what depesche hands to a server that changes nothing, with no values in it but the reader's own.
func (r reader) check(t *testing.T, d delivery, expected pattern) {
	t.Helper()
	if d.queueID == "" {
		t.Errorf("the mail to reader %d did not come by submission with TLS and AUTH:\n%s", r.number, d.trace)
	}
	for _, line := range []string{"Return-Path: <" + r.sender + ">\n", "Delivered-To: " + r.address + "\n"} {
		if !strings.Contains(d.trace, line) {
			t.Errorf("the mail to reader %d lacks %q:\n%s", r.number, line, d.trace)
		}
	}
	if want := expected.fill(r, d.message); d.message != want {
		t.Errorf("the mail to reader %d is not what it should be: %s", r.number, firstDifference(d.message, want))
	}
}

// firstDifference shows where two texts begin to differ.
func firstDifference(a, b string) string {
	at := 0
	for at < min(len(a), len(b)) && a[at] == b[at] {
		at++
	}
	show := func(s string) string { return s[max(0, at-60):min(len(s), at+60)] }
	return fmt.Sprintf("at byte %d: %q, %q", at, show(a), show(b))
}
