package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"depesche/newsletter"
	"depesche/subscribers"
)

// logbook is the ledger's log, outside the database: a line for each head of the chain that a run left, and for each digest it sent.
// Who cuts off the ledger's end and puts an older head into the database would have to cut this, too, wherever it was copied; and a
// database that was put back to an older state, by whatever means, does not know what stands here.
//
//	2026-02-11T06:00:04Z sealed 1234:9f86d0…
//	2026-02-11T06:00:04Z sent morgen/2026-02-11
//	2026-02-12T10:12:00Z restored 1200:60303a…   from then on heads above 1200, and digests sent before, count no more
type logbook struct{ path string }

// logbookOf is where it is: beside the journals of replies.
func logbookOf(c *Config) logbook {
	return logbook{strings.TrimSuffix(journalBase(c), "-replies") + "-ledger.log"}
}

// logged is what still counts of a logbook.
type logged struct {
	heads []subscribers.Head
	sent  []string // newsletter/day
}

// last is the head that was written last.
func (l logged) last() subscribers.Head {
	if len(l.heads) == 0 {
		return subscribers.Head{}
	}
	return l.heads[len(l.heads)-1]
}

func (b logbook) read() (l logged, err error) {
	text, _, err := b.lines()
	if err != nil {
		return l, fmt.Errorf("read the ledger's log: %w", err)
	}
	number := 0
	for line := range strings.Lines(text) {
		number++
		if err := l.add(strings.Fields(line)); err != nil {
			return l, fmt.Errorf("read the ledger's log: %s:%d: %w", b.path, number, err)
		}
	}
	return l, nil
}

// lines are the whole ones: a power cut may have left half of one at the end, which was never relied on.
func (b logbook) lines() (text string, torn bool, err error) {
	content, err := os.ReadFile(b.path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	whole := bytes.LastIndexByte(content, '\n') + 1
	return string(content[:whole]), whole < len(content), err
}

func (l *logged) add(fields []string) error {
	if len(fields) != 3 {
		return errors.New("expected TIME sealed NUMBER:CHAIN")
	}
	if fields[1] == "sent" {
		l.sent = append(l.sent, fields[2])
		return nil
	}
	head, err := subscribers.ParseHead(fields[2])
	if err != nil {
		return err
	}
	if fields[1] == "restored" {
		kept := l.heads[:0]
		for _, h := range l.heads {
			if h.Number <= head.Number {
				kept = append(kept, h)
			}
		}
		l.heads, l.sent = kept, nil
	}
	l.heads = append(l.heads, head)
	return nil
}

// write adds a line, and has it on the disk before it returns. Half a line that stands at the end goes.
func (b logbook) write(now time.Time, what, which string) (err error) {
	text, torn, err := b.lines()
	if err == nil && torn { // only then: another process may be writing
		err = os.Truncate(b.path, int64(len(text)))
	}
	if err != nil {
		return fmt.Errorf("mend the ledger's log: %w", err)
	}
	file, err := os.OpenFile(b.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the ledger's log: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := fmt.Fprintf(file, "%s %s %s\n", now.UTC().Format(time.RFC3339), what, which); err != nil {
		return fmt.Errorf("write the ledger's log: %w", err)
	}
	return file.Sync()
}

// seal notes a head, unless it is the last that stands there.
func (b logbook) seal(now time.Time, head subscribers.Head) error {
	if head.Number == 0 {
		return nil
	}
	l, err := b.read()
	if err != nil || l.last() == head {
		return err
	}
	return b.write(now, "sealed", head.String())
}

// restored notes the head of a database that was put back.
func (b logbook) restored(now time.Time, head subscribers.Head) error {
	return b.write(now, "restored", head.String())
}

// digests notes those of a morning of which something was sent, each once.
func (b logbook) digests(now time.Time, m newsletter.Morning) error {
	l, err := b.read()
	if err != nil {
		return err
	}
	for _, d := range m.Digests {
		name := d.Newsletter + "/" + string(d.Day)
		if d.Tally.Sent+d.Tally.Doubtful == 0 || slices.Contains(l.sent, name) {
			continue
		}
		if err := b.write(now, "sent", name); err != nil {
			return err
		}
	}
	return nil
}

// remembered is how long a digest in the logbook must be one of the database's: later, retention may have deleted it.
const remembered = 7 * 24 * time.Hour

// older says what the logbook knows and the database does not: "" nothing.
func (h *house) older(ctx context.Context, l logged, now time.Time) (what string, err error) {
	head, err := h.registry.Head(ctx)
	if err != nil {
		return "", err
	}
	for _, logged := range l.heads {
		if logged.Number > head.Number {
			return fmt.Sprintf("consent event %d", logged.Number), nil
		}
	}
	for _, name := range l.sent {
		slug, text, _ := strings.Cut(name, "/")
		day, err := newsletter.ParseDay(text)
		if err != nil || string(day) < now.Add(-remembered).Format(time.DateOnly) {
			continue
		}
		known, err := h.newsroom.Sent(ctx, slug, day)
		if err != nil {
			return "", err
		}
		if !known {
			return "that the digest " + name + " was sent", nil
		}
	}
	return "", nil
}

// noticeOld notices that the database was put back to an older state by other means than 'restore': then what has been sent since is
// not known, and a person must decide.
func (a *app) noticeOld(ctx context.Context, h *house) error {
	book, now := logbookOf(h.config), a.now()
	l, err := book.read()
	if err != nil {
		return err
	}
	what, err := h.older(ctx, l, now)
	if err != nil || what == "" {
		return err
	}
	if _, err := h.newsroom.Restored(ctx, now); err != nil {
		return err
	}
	a.alert(ctx, h, fmt.Sprintf("the database was put back to an older state: it does not know %s, which stands in %s. What was sent since is "+
		"unknown, so unfinished digests and the next one of each newsletter are held: see 'depesche report' and 'depesche release'", what, book.path))
	head, err := h.registry.Head(ctx)
	if err != nil {
		return err
	}
	return book.restored(now, head)
}
