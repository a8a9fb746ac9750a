package newsletter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"depesche/migrations"
	"depesche/migrations/dbtest"
	"depesche/newsletter/ingest"
	"depesche/subscribers"
)

func TestEachReaderGetsTheirTopicsOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, daily(t))
		when := at(t, "2026-02-11T05:00:00+01:00")
		h.article(when, "haushalt", "Politik", nil)
		h.article(when, "derby", "Sport", nil)
		h.article(when, "foerderung", "Politik", func(a *ingest.Article) { a.Categories = []string{"Kultur"} })
		anna := h.reader("anna", "politik", "kultur")
		ben := h.reader("ben", "sport")
		carla := h.reader("carla", "kultur")
		h.run("2026-02-11T06:00:00+01:00")

		for reader, want := range map[string][]string{
			anna: {"haushalt", "foerderung"}, ben: {"derby"}, carla: {"foerderung"},
		} {
			text := string(h.relay.mailTo(t, reader).data)
			for _, id := range []string{"haushalt", "derby", "foerderung"} {
				// The link stands once in each part; quoted-printable may break a longer one.
				got := strings.Count(strings.ReplaceAll(text, "=\r\n", ""), "https://paper.test/"+id)
				wanted := 0
				if slices.Contains(want, id) {
					wanted = 2
				}
				if got != wanted {
					t.Errorf("%s's mail links %s %d times, want %d", reader, id, got, wanted)
				}
			}
		}
		if r := h.report("2026-02-11"); r.Sent != 3 || r.Prepared != 3 || r.State != Done {
			t.Errorf("report = %+v, want 3 of 3 sent, done", r)
		}
	})
}

func TestRunTwiceAndTwentyAtOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, daily(t))
		h.article(at(t, "2026-02-11T05:00:00+01:00"), "haushalt", "Politik", nil)
		h.readers(200, func(i int) (string, []string) { return fmt.Sprintf("leser%d@reader.test", i), []string{"politik"} })
		h.now = at(t, "2026-02-11T06:00:00+01:00")
		clock := h.clock()
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() {
				if _, err := h.Run(context.Background(), Plan{Options: Options{Now: clock}}); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		h.run("2026-02-11T06:05:00+01:00")

		counts := h.relay.perReader()
		if len(counts) != 200 {
			t.Errorf("%d readers were mailed, want 200", len(counts))
		}
		for reader, n := range counts {
			if n != 1 {
				t.Errorf("%s got %d mails, want 1", reader, n)
			}
		}
		if r := h.report("2026-02-11"); r.Sent != 200 {
			t.Errorf("report = %+v, want 200 sent", r)
		}
	})
}

func TestEmbargoAndLateMapping(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, daily(t))
		reader := h.reader("anna", "politik", "sport")
		evening := at(t, "2026-02-10T22:00:00+01:00")
		h.article(evening, "haushalt", "Politik", nil)
		h.article(evening, "gesperrt", "Politik", func(a *ingest.Article) { a.Embargo = at(t, "2026-02-11T07:00:00+01:00") })
		h.article(evening, "spaet", "Handball", nil)
		h.run("2026-02-11T06:00:00+01:00")
		h.run("2026-02-11T08:00:00+01:00")
		if got := h.relay.perReader()[reader]; got != 1 {
			t.Fatalf("after the first morning the reader has %d mails, want 1", got)
		}
		if text := plain(h.relay.taken()[0].data); strings.Contains(text, "/gesperrt") || strings.Contains(text, "/spaet") {
			t.Error("the embargoed or the unmapped article is in the first digest")
		}
		h.run("2026-02-12T06:00:00+01:00")
		if text := plain(h.relay.taken()[1].data); !strings.Contains(text, "/gesperrt") || strings.Contains(text, "/haushalt") {
			t.Error("the second digest must have the article whose embargo ended, and not yesterday's")
		}
		// Two days after it came, somebody makes its kicker an alias.
		h.desk = NewDesk([]Topic{{Slug: "politik", Name: "Politik"}, {Slug: "sport", Name: "Sport", Aliases: []string{"Handball"}}}, nil)
		h.run("2026-02-13T06:00:00+01:00")
		if text := plain(h.relay.taken()[2].data); !strings.Contains(text, "/spaet") || strings.Contains(text, "/gesperrt") {
			t.Error("the third digest must have the article mapped meanwhile, and nothing else")
		}
		h.run("2026-02-14T06:00:00+01:00")
		if got := h.relay.perReader()[reader]; got != 3 {
			t.Errorf("a morning without news: %d mails, want still 3", got)
		}
		if d, err := h.Digest(context.Background(), "morgen", "2026-02-14"); err != nil || d.State != Empty {
			t.Errorf("the digest without news = %+v, %v, want empty", d, err)
		}
	})
}

// plain undoes the soft line breaks of quoted-printable.
func plain(data []byte) string {
	return strings.ReplaceAll(string(data), "=\r\n", "")
}

func TestUnsubscribedWhileItRuns(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, daily(t))
		h.Connections = 1
		h.article(at(t, "2026-02-11T05:00:00+01:00"), "haushalt", "Politik", nil)
		h.readers(10, func(i int) (string, []string) { return fmt.Sprintf("leser%d@reader.test", i), []string{"politik"} })
		var once sync.Once
		h.relay.setAnswer(func(string, []byte) error {
			once.Do(func() { // while the first mail is on the wire, the last reader leaves
				if _, err := db.Write.Exec(`UPDATE subscriptions SET state = 'ended' WHERE subscriber = 10`); err != nil {
					t.Error(err)
				}
			})
			return nil
		})
		h.run("2026-02-11T06:00:00+01:00")
		if n := h.relay.perReader()["leser9@reader.test"]; n != 0 {
			t.Errorf("the reader who left got %d mails", n)
		}
		if r := h.report("2026-02-11"); r.Sent != 9 || r.Skipped != 1 {
			t.Errorf("report = %+v, want 9 sent, 1 skipped", r)
		}
	})
}

func TestTopicsChangedAfterPlanning(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, daily(t))
		when := at(t, "2026-02-11T05:00:00+01:00")
		h.article(when, "haushalt", "Politik", nil)
		h.article(when, "derby", "Sport", nil)
		reader := h.reader("anna", "politik")
		h.reader("ben", "sport")
		h.reader("carla", "kultur")
		ctx := context.Background()
		h.now = at(t, "2026-02-11T06:00:00+01:00")
		occasion, _ := h.Newsletters[0].Occasion(h.now)
		if _, _, err := h.Compose(ctx, h.now, h.Newsletters[0], occasion, false); err != nil {
			t.Fatal(err)
		}
		if r := h.report("2026-02-11"); r.Prepared != 2 || r.Silent != 1 {
			t.Errorf("planned: %+v, want 2 prepared and 1 without news", r)
		}
		for _, statement := range []string{
			`INSERT INTO choices (id, newsletter, topics) VALUES (7, 'morgen', 'kultur,sport')`,
			`UPDATE subscriptions SET choice = 7 WHERE subscriber = 1`,
			`UPDATE subscriptions SET choice = (SELECT id FROM choices WHERE topics = 'kultur') WHERE subscriber = 2`,
		} {
			if _, err := db.Write.Exec(statement); err != nil {
				t.Fatal(err)
			}
		}
		h.run("2026-02-11T06:00:00+01:00")
		h.run("2026-02-11T06:05:00+01:00")
		if text := plain(h.relay.mailTo(t, reader).data); strings.Contains(text, "/haushalt") || !strings.Contains(text, "/derby") {
			t.Error("the mail follows the old choice of topics")
		}
		if r := h.report("2026-02-11"); r.Sent != 1 || r.Skipped != 1 {
			t.Errorf("report = %+v, want 1 sent, 1 skipped (her topics have no news)", r)
		}
	})
}

// A withdrawal while the digest is being sent: those whose doubt was written before get the old revision, and it is known
// who; nobody whose doubt was written after.
func TestWithdrawnWhileItRuns(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, daily(t))
		h.Connections = 1
		when := at(t, "2026-02-11T05:00:00+01:00")
		h.article(when, "haushalt", "Politik", nil)
		wrong := h.article(when, "falsch", "Politik", nil)
		h.readers(1000, func(i int) (string, []string) { return fmt.Sprintf("leser%02d@reader.test", i), []string{"politik"} })
		count, had := 0, 0
		h.relay.setAnswer(func(_ string, data []byte) error {
			if strings.Contains(plain(data), "/falsch") {
				had++
			}
			if count++; count == 5 {
				if _, err := h.Withdraw(context.Background(), h.now, wrong); err != nil {
					t.Error(err)
				}
			}
			return nil
		})
		h.run("2026-02-11T06:00:00+01:00")
		r := h.report("2026-02-11")
		if r.Sent != 1000 || r.Revision != 2 {
			t.Errorf("report = %+v, want 1000 sent in revision 2", r)
		}
		if had < 5 || had > 5+4*firstDoubt<<3 {
			t.Errorf("%d had the article, want the 5 before and the windows whose doubts were written", had)
		}
		if reached, err := h.reached(context.Background(), wrong); err != nil || reached != had {
			t.Errorf("%d readers are said to have had the article, %v, want %d", reached, err, had)
		}
		for reader, n := range h.relay.perReader() {
			if n != 1 {
				t.Errorf("%s got %d mails", reader, n)
			}
		}
	})
}

// A hold stops a digest that is being sent: what has its doubt goes on for a moment, nothing gets one any more.
func TestHoldAndRelease(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, daily(t))
		h.Connections = 1
		h.article(at(t, "2026-02-11T05:00:00+01:00"), "haushalt", "Politik", nil)
		h.readers(1000, func(i int) (string, []string) { return fmt.Sprintf("leser%d@reader.test", i), []string{"politik"} })
		ctx := context.Background()
		count := 0
		h.relay.setAnswer(func(string, []byte) error {
			if count++; count == 3 {
				d, err := h.Digest(ctx, "morgen", "2026-02-11")
				if err == nil {
					err = h.Hold(ctx, h.now, d.ID)
				}
				if err != nil {
					t.Error(err)
				}
			}
			return nil
		})
		h.run("2026-02-11T06:00:00+01:00")
		r := h.report("2026-02-11")
		if r.Sent < 3 || r.Sent > 3+4*firstDoubt<<3 || r.Due != 1000-r.Sent || !r.Held {
			t.Errorf("held: %+v, want the windows whose doubts were written sent, and the rest due", r)
		}
		d, err := h.Digest(ctx, "morgen", "2026-02-11")
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Release(ctx, d.ID); err != nil {
			t.Fatal(err)
		}
		h.run("2026-02-11T06:10:00+01:00")
		if r := h.report("2026-02-11"); r.Sent != 1000 {
			t.Errorf("released: %+v, want 1000 sent", r)
		}
	})
}

func TestRetriesAreByteEqual(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, daily(t))
		h.article(at(t, "2026-02-11T05:00:00+01:00"), "haushalt", "Politik", nil)
		reader := h.reader("anna", "politik")
		var first []byte
		h.relay.setAnswer(func(_ string, data []byte) error {
			if first == nil {
				first = bytes.Clone(data)
				return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "not now"}
			}
			return nil
		})
		h.run("2026-02-11T06:00:00+01:00")
		if r := h.report("2026-02-11"); r.Due != 1 {
			t.Fatalf("after a 451: %+v, want 1 due", r)
		}
		h.run("2026-02-11T06:10:00+01:00")
		if r := h.report("2026-02-11"); r.Due != 1 {
			t.Errorf("ten minutes later: %+v, want still 1 due (B12)", r)
		}
		// Meanwhile the paper changes everything it can.
		h.Settings.Brand.Publisher = "Anderer Verlag"
		h.Settings.Newsletters[0].Title = "Anders"
		h.run("2026-02-11T06:31:00+01:00")
		if got := h.relay.mailTo(t, reader).data; !bytes.Equal(got, first) {
			t.Errorf("the retry differs from the first try:\n%s\n---\n%s", first, got)
		}
	})
}

func TestRefusedReaders(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, daily(t))
		h.article(at(t, "2026-02-11T05:00:00+01:00"), "haushalt", "Politik", nil)
		h.reader("anna", "politik")
		h.reader("unknown", "politik")
		h.run("2026-02-11T06:00:00+01:00")
		if r := h.report("2026-02-11"); r.Sent != 1 || r.Failed != 1 {
			t.Errorf("report = %+v, want 1 sent, 1 failed", r)
		}
		if n, err := h.Readers(context.Background(), "morgen"); err != nil || n != 1 {
			t.Errorf("%d may be mailed, %v, want 1: the dead mailbox is suppressed", n, err)
		}
	})
}

func TestTheServerFaultsUs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, daily(t))
		h.article(at(t, "2026-02-11T05:00:00+01:00"), "haushalt", "Politik", nil)
		h.readers(300, func(i int) (string, []string) { return fmt.Sprintf("leser%d@reader.test", i), []string{"politik"} })
		tries := 0
		h.relay.setAnswer(func(string, []byte) error {
			tries++
			return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 7, 26}, Message: "unauthenticated mail"}
		})
		m := h.run("2026-02-11T06:00:00+01:00")
		if len(m.Alerts()) == 0 {
			t.Error("no alert")
		}
		if r := h.report("2026-02-11"); r.Due != 300 {
			t.Errorf("report = %+v, want all due: it is our fault, not the readers'", r)
		}
		if n, err := h.Readers(context.Background(), "morgen"); err != nil || n != 300 {
			t.Errorf("%d may be mailed, %v, want 300", n, err)
		}
		if tries > 300 {
			t.Errorf("%d tries in one run", tries)
		}
	})
}

func TestTooLateAndExpired(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, daily(t))
		h.article(at(t, "2026-02-11T05:00:00+01:00"), "haushalt", "Politik", nil)
		reader := h.reader("anna", "politik")
		m := h.run("2026-02-11T19:00:00+01:00")
		if len(m.Digests) != 1 || !m.Digests[0].TooLate || h.relay.perReader()[reader] != 0 {
			t.Errorf("thirteen hours late: %+v, want too late and no mail", m.Digests)
		}
		h.now = at(t, "2026-02-11T19:01:00+01:00")
		if _, err := h.Run(context.Background(), Plan{Options: Options{Now: h.clock()}, Force: true}); err != nil {
			t.Fatal(err)
		}
		if got := h.relay.perReader()[reader]; got != 1 {
			t.Errorf("with force: %d mails, want 1", got)
		}
		h.article(at(t, "2026-02-12T05:00:00+01:00"), "neu", "Politik", nil)
		h.relay.setAnswer(func(string, []byte) error { return &smtp.SMTPError{Code: 451, Message: "not now"} })
		h.run("2026-02-12T06:00:00+01:00")
		m = h.run("2026-02-12T10:00:00+01:00")
		if r := h.report("2026-02-12"); r.Expired != 1 || r.State != Done {
			t.Errorf("after the latest time: %+v, want 1 expired", r)
		}
		if len(m.Digests) != 1 || !m.Digests[0].Overdue {
			t.Errorf("the run that gave up says %+v, want overdue", m.Digests)
		}
	})
}

func TestRelayAway(t *testing.T) {
	h := newHouse(t, dbtest.SQLite(t), daily(t))
	h.article(at(t, "2026-02-11T05:00:00+01:00"), "haushalt", "Politik", nil)
	h.reader("anna", "politik")
	h.Relay.Port = 1 // nobody listens
	h.now = at(t, "2026-02-11T06:00:00+01:00")
	m, err := h.Run(context.Background(), Plan{Options: Options{Now: h.clock()}})
	var away *awayError
	if err != nil || len(m.Problems) != 1 || !errors.As(m.Problems[0], &away) {
		t.Errorf("run: %v, problems %v, want that the relay is away", err, m.Problems)
	}
	if r := h.report("2026-02-11"); r.Due != 1 {
		t.Errorf("report = %+v, want 1 due", r)
	}
}

func TestVersions(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, daily(t))
		ctx := context.Background()
		when := at(t, "2026-02-11T05:00:00+01:00")
		add := func(version int64, title string) Added {
			t.Helper()
			_, added, err := h.Add(ctx, when, ingest.Article{
				Source: "wire", GUID: "urn:1", URL: "https://paper.test/a?utm_source=x", Version: version, Title: title, Published: when,
			})
			if err != nil {
				t.Fatal(err)
			}
			return added
		}
		for _, step := range []struct {
			version int64
			title   string
			want    Added
		}{{2, "zwei", Arrived}, {2, "zwei", Unchanged}, {1, "eins", Older}, {3, "drei", Updated}, {2, "zwei", Older}} {
			if got := add(step.version, step.title); got != step.want {
				t.Errorf("version %d: %s, want %s", step.version, got, step.want)
			}
		}
		a, err := h.Article(ctx, "urn:1")
		if err != nil || a.Title != "drei" {
			t.Errorf("stored: %q, %v, want the newest version", a.Title, err)
		}
	})
}

func TestKilledArticleLeavesARunningDigest(t *testing.T) {
	h := newHouse(t, dbtest.SQLite(t), daily(t))
	when := at(t, "2026-02-11T05:00:00+01:00")
	h.article(when, "haushalt", "Politik", nil)
	h.article(when, "kill", "Politik", nil)
	reader := h.reader("anna", "politik")
	ctx := context.Background()
	h.now = at(t, "2026-02-11T06:00:00+01:00")
	occasion, _ := h.Newsletters[0].Occasion(h.now)
	if _, _, err := h.Compose(ctx, h.now, h.Newsletters[0], occasion, false); err != nil {
		t.Fatal(err)
	}
	h.article(h.now, "kill", "Politik", func(a *ingest.Article) { a.Status, a.Version = ingest.Canceled, 2 })
	h.run("2026-02-11T06:01:00+01:00")
	if text := plain(h.relay.mailTo(t, reader).data); strings.Contains(text, "/kill") || !strings.Contains(text, "/haushalt") {
		t.Error("the killed article is in the mail, or the other is not")
	}
}

func TestRunEveryFiveMinutesThroughClockChange(t *testing.T) {
	for _, night := range []string{"2026-03-28T22:00:00+01:00", "2026-10-24T22:00:00+02:00"} {
		l := daily(t)
		l.Time, l.Latest = 2*60+30, 9*60
		h := newHouse(t, dbtest.SQLite(t), l)
		reader := h.reader("anna", "politik")
		days := map[Day]bool{}
		start := at(t, night)
		for now := start; now.Before(start.Add(34 * time.Hour)); now = now.Add(5 * time.Minute) {
			if now.Minute() == 0 {
				h.article(now, fmt.Sprint("a", now.Unix()), "Politik", nil)
			}
			for _, result := range h.run(now.UTC().Format(time.RFC3339)).Digests {
				if !result.TooLate {
					days[result.Day] = true
				}
			}
		}
		if got := h.relay.perReader()[reader]; got != 2 {
			t.Errorf("from %s on, two nights: %d mails, want 2 (digests of %v)", night, got, days)
		}
	}
}

// Nothing of one reader's stands in another's message: envelope, To, Message-ID and every personal link belong together.
func TestLinksBelongToTheReader(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, daily(t))
		h.article(at(t, "2026-02-11T05:00:00+01:00"), "haushalt", "Politik", nil)
		h.article(at(t, "2026-02-11T05:00:00+01:00"), "derby", "Sport", nil)
		h.readers(60, func(i int) (string, []string) {
			return fmt.Sprintf("leser%d@reader.test", i+1), [][]string{{"politik"}, {"sport"}, {"politik", "sport"}}[i%3]
		})
		h.run("2026-02-11T06:00:00+01:00")
		link := regexp.MustCompile(`https://news\.paper\.test/(unsubscribe|preferences)/morgen/([A-Za-z0-9_-]+)`)
		ids := map[string]bool{}
		for _, mail := range h.relay.taken() {
			text := plain(mail.data)
			if to := regexp.MustCompile(`(?m)^To: <?([^>\r\n]+)>?\r?$`).FindStringSubmatch(text); to == nil || to[1] != mail.to {
				t.Errorf("the mail to %s says To: %v", mail.to, to)
			}
			links := link.FindAllStringSubmatch(text, -1)
			if len(links) != 5 { // header, and both in each part
				t.Errorf("the mail to %s has %d personal links, want 5", mail.to, len(links))
			}
			for _, match := range links {
				reader, _, err := h.keys.Open(subscribers.Purpose(match[1]), "morgen", match[2])
				if err != nil || fmt.Sprintf("leser%d@reader.test", reader) != mail.to {
					t.Errorf("the mail to %s has a link of reader %d, %v", mail.to, reader, err)
				}
			}
			local, _, _ := strings.Cut(mail.from, "@")
			if _, reader, err := h.keys.OpenSender(local, []string{"morgen"}); err != nil || fmt.Sprintf("leser%d@reader.test", reader) != mail.to {
				t.Errorf("the mail to %s comes from the sender of reader %d, %v", mail.to, reader, err)
			}
			id := regexp.MustCompile(`(?m)^Message-ID: (\S+)`).FindString(text)
			if id == "" || ids[id] {
				t.Errorf("the Message-ID %q is missing or stands in two mails", id)
			}
			ids[id] = true
		}
		if len(ids) != 60 {
			t.Errorf("%d mails, want 60", len(ids))
		}
	})
}

// An article by hand takes the rights of the source from whose host it comes.
func TestSourceByHost(t *testing.T) {
	n := &Newsroom{Settings: Settings{Sources: []Source{{Name: "bote", URL: "https://www.bote.test/feed"}, {Name: "wire", Path: "wire"}}}}
	for address, want := range map[string]string{
		"https://bote.test/a": "bote", "https://WWW.bote.test/a": "bote", "https://other.test/a": "hand", "https://boter.test/": "hand", "": "hand",
	} {
		if got := n.sourceOf(address, "hand"); got != want {
			t.Errorf("sourceOf(%q) = %q, want %q", address, got, want)
		}
	}
}

// A doubtful delivery is left to a person, or sent again where the newsletter says so.
func TestDoubt(t *testing.T) {
	for _, resend := range []bool{false, true} {
		l := daily(t)
		l.Resend = resend
		h := newHouse(t, dbtest.SQLite(t), l)
		h.article(at(t, "2026-02-11T05:00:00+01:00"), "haushalt", "Politik", nil)
		reader := h.reader("anna", "politik")
		h.reader("ben", "politik")
		h.now = at(t, "2026-02-11T06:00:00+01:00")
		occasion, _ := l.Occasion(h.now)
		if _, _, err := h.Compose(context.Background(), h.now, l, occasion, false); err != nil {
			t.Fatal(err)
		}
		if _, err := h.db.Write.Exec(`UPDATE deliveries SET state = 'doubtful', fence = 7 WHERE subscriber = 1`); err != nil {
			t.Fatal(err)
		}
		h.run("2026-02-11T06:05:00+01:00")
		want := 0
		if resend {
			want = 1
		}
		if got := h.relay.perReader()[reader]; got != want {
			t.Errorf("resend %v: the doubtful reader got %d mails, want %d", resend, got, want)
		}
		if r := h.report("2026-02-11"); r.Doubtful != 1-want {
			t.Errorf("resend %v: report = %+v", resend, r)
		}
	}
}

// What cannot be written down is not sent: with a database that takes no more, the run ends with an error and no dot leaves.
func TestNothingIsSentThatCannotBeRecorded(t *testing.T) {
	h := newHouse(t, dbtest.SQLite(t), daily(t))
	h.article(at(t, "2026-02-11T05:00:00+01:00"), "haushalt", "Politik", nil)
	h.readers(20, func(i int) (string, []string) { return fmt.Sprintf("leser%d@reader.test", i), []string{"politik"} })
	h.Connections = 1
	_, err := h.db.Write.Exec(`CREATE TRIGGER full BEFORE UPDATE ON deliveries WHEN NEW.state = 'doubtful' AND NEW.subscriber > 5
		BEGIN SELECT RAISE(ABORT, 'the disk is full'); END`)
	if err != nil {
		t.Fatal(err)
	}
	h.now = at(t, "2026-02-11T06:00:00+01:00")
	if _, err := h.Run(context.Background(), Plan{Options: Options{Now: h.clock()}}); err == nil || !strings.Contains(err.Error(), "disk is full") {
		t.Errorf("run = %v, want that the disk is full", err)
	}
	if r := h.report("2026-02-11"); r.Sent+r.Doubtful > 5 || r.Due < 15 || len(h.relay.taken()) > r.Sent+r.Doubtful {
		t.Errorf("report = %+v, %d mails taken, want no mail without its doubt", r, len(h.relay.taken()))
	}
	if _, err := h.db.Write.Exec(`DROP TRIGGER full`); err != nil {
		t.Fatal(err)
	}
	h.run("2026-02-11T06:05:00+01:00")
	if r := h.report("2026-02-11"); r.Sent != 20 {
		t.Errorf("with room again: %+v, want 20 sent: what was answered is in the journal", r)
	}
	for reader, n := range h.relay.perReader() {
		if n != 1 {
			t.Errorf("%s got %d mails", reader, n)
		}
	}
}
