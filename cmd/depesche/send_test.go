package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"depesche/migrations"
)

// An editor's commands: a test that touches nobody, a digest ahead of its time, which then is not sent a second time.
func TestSend(t *testing.T) {
	eachTown(t, func(t *testing.T, town *town) {
		town.serve(ingestAt)
		town.signUp("anna@reader.test", "politik")
		town.article("haushalt", "Politik", "2026-02-11T04:00:00+01:00", "")
		town.depesche(ingestAt, 0, "ingest")
		before := town.rows()
		town.depesche("2026-02-11T05:30:00+01:00", 0, "preview", "--as", "eml")
		town.depesche("2026-02-11T05:30:00+01:00", 0, "send", "--test", "redaktion@paper.test,chef@paper.test")
		if after := town.rows(); after != before {
			t.Errorf("preview and test changed the database:\n%s\n%s", before, after)
		}
		test := town.wait("redaktion@paper.test", 1)
		if !strings.HasPrefix(test.Subject, "[TEST] ") || len(town.mails("chef@paper.test")) != 1 || len(town.mails("anna@reader.test")) != 1 {
			t.Errorf("the test mail is called %q; it must go to the addresses given and to nobody else", test.Subject)
		}
		response, err := http.Post(town.linkTo("unsubscribe", test.Text), "application/x-www-form-urlencoded", strings.NewReader("List-Unsubscribe=One-Click"))
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusNotFound || town.active() != 1 {
			t.Errorf("the test mail's link answers %s, %d readers are active; it must belong to nobody", response.Status, town.active())
		}

		town.depesche("2026-02-11T05:30:00+01:00", 2, "send")
		town.depesche("2026-02-11T05:30:00+01:00", 0, "send", "--yes")
		town.depesche(runAt, 0, "run")
		town.depesche(runAt, 0, "send", "--yes")
		if got := len(town.mails("anna@reader.test")); got != 2 {
			t.Errorf("the reader has %d mails, want letter and one digest", got)
		}
	})
}

// Held in the evening, nothing leaves in the morning and a person is called; released, it goes out once.
func TestHoldCommand(t *testing.T) {
	town := newTown(t, "")
	town.depesche(ingestAt, 0, "status")
	town.addReaders(3)
	town.article("haushalt", "Politik", "2026-02-11T04:00:00+01:00", "")
	town.setRelay(freeAddress(t)) // the relay is away: the digest is composed, and nothing leaves
	town.depesche(runAt, 0, "run")
	town.setRelay(town.mailbox.Addr())
	town.depesche(runAt, 0, "hold", "morgen/2026-02-11")
	_, problems := town.depesche("2026-02-11T06:05:00+01:00", 6, "run")
	if !strings.Contains(problems, "depesche release") {
		t.Errorf("a held digest must say how it goes on: %s", problems)
	}
	if out, _ := town.depesche("2026-02-11T06:05:00+01:00", 6, "status"); !strings.Contains(out, "held") {
		t.Errorf("status: %s", out)
	}
	town.depesche("2026-02-11T06:06:00+01:00", 0, "release", "morgen/2026-02-11")
	town.depesche("2026-02-11T06:10:00+01:00", 0, "dispatch")
	if got := len(town.mailbox.Messages()); got != 3 {
		t.Errorf("%d mails, want 3", got)
	}
}

// A paper with a single cron line: the run waits for the planned time, sends, and ends.
func TestRunFollow(t *testing.T) {
	town := newTown(t, "")
	town.depesche(ingestAt, 0, "status")
	town.addReaders(3)
	town.article("haushalt", "Politik", "2026-02-11T04:00:00+01:00", "")
	town.depesche("2026-02-11T05:59:59+01:00", 0, "run", "--follow")
	if got := len(town.mailbox.Messages()); got != 3 {
		t.Errorf("%d mails, want 3", got)
	}
}

// rows counts the rows of every table that holds something of readers, articles or digests.
func (n *town) rows() string {
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
	var counts []string
	for _, table := range []string{
		"articles", "pictures", "digests", "entries", "variants", "deliveries", "subscribers", "subscriptions", "consents", "letters",
	} {
		var count int
		if err := db.Read.QueryRow(`SELECT COUNT(*) FROM ` + table).Scan(&count); err != nil {
			n.t.Fatal(err)
		}
		counts = append(counts, fmt.Sprint(table, " ", count))
	}
	return strings.Join(counts, ", ")
}
