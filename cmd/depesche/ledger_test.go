package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"depesche/migrations"
	"depesche/subscribers"
)

// open opens the town's database beside the processes.
func (n *town) open() *migrations.Database {
	n.t.Helper()
	config, err := LoadConfig(filepath.Join(n.folder, "depesche.yaml"), n.environ)
	if err != nil {
		n.t.Fatal(err)
	}
	db, err := migrations.Open(context.Background(), string(config.Database))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = db.Close() })
	return db
}

func unmarshal[T any](t *testing.T, text string) (value T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return value
}

// The life of a proof: written by a sign-up, sealed, shown, verified, erased, and still a whole chain; what somebody changes or
// cuts off is found and ends with status 1.
func TestLedgerJourney(t *testing.T) {
	eachTown(t, func(t *testing.T, town *town) {
		town.serve(ingestAt)
		town.signUp("anna@reader.test", "sport")
		town.signUp("ben@reader.test")
		town.article("haushalt", "Politik", "2026-02-11T04:00:00+01:00", "")
		out, _ := town.depesche(runAt, 0, "run", "--json")
		head := unmarshal[struct{ Ledger subscribers.Head }](t, out).Ledger
		if head.Number != 6 {
			t.Errorf("the run's report has the head %v, want 6 events", head)
		}
		log, err := os.ReadFile(filepath.Join(town.folder, ledgerLogName(town)))
		if err != nil || !strings.Contains(string(log), " sealed "+head.String()) || !strings.Contains(string(log), " sent morgen/2026-02-11") || strings.Count(string(log), "\n") != 2 {
			t.Errorf("the ledger's log = %q, %v, want the head %v", log, err, head)
		}
		if out, _ := town.depesche(runAt, 0, "subscriber", "verify", "--head", head.String()); !strings.Contains(out, "the ledger holds: 6 events") {
			t.Errorf("verify says %q", out)
		}
		page, _ := town.depesche(runAt, 0, "subscriber", "proof", "anna@reader.test")
		for _, want := range []string{"Nachweis der Einwilligung", "anna@reader.test", "Anmeldung bestätigen", "Message-ID", "Mit der Bestätigung willigen Sie ein"} {
			if !strings.Contains(page, want) {
				t.Errorf("the proof lacks %q", want)
			}
		}
		data, _ := town.depesche(runAt, 0, "subscriber", "data", "ben@reader.test")
		if !strings.Contains(data, "2026-02-11") || !strings.Contains(data, "Auskunft über gespeicherte Daten") {
			t.Errorf("the data lack the digest:\n%s", data)
		}
		personal, _ := town.depesche(runAt, 0, "subscriber", "data", "ben@reader.test", "--json")
		if d := unmarshal[subscribers.PersonalData](t, personal); len(d.Deliveries) != 1 || len(d.Letters) != 1 || len(d.Accesses) != 2 || d.Relay != "127.0.0.1" {
			t.Errorf("the data as JSON = %+v", d)
		}
		town.depesche(runAt, 2, "subscriber", "proof", "niemand@reader.test")
		town.depesche(runAt, 0, "subscriber", "erase", "anna@reader.test")
		if page, _ := town.depesche(runAt, 0, "subscriber", "proof", "anna@reader.test", "--language", "en"); !strings.Contains(page, "were erased on 11 February 2026") {
			t.Errorf("after the erasure the proof says\n%s", page)
		}
		if out, _ := town.depesche(runAt, 0, "subscriber", "verify"); !strings.Contains(out, "of 3 the particulars are erased") {
			t.Errorf("after the erasure verify says %q", out)
		}
		accesses, _ := town.depesche(runAt, 0, "subscriber", "accesses")
		if strings.Count(accesses, "\n") != 6 || !strings.Contains(accesses, "subscriber erase") || strings.Contains(accesses, "@") {
			t.Errorf("accesses:\n%s", accesses)
		}
		db := town.open()
		for _, statement := range []string{`DROP TRIGGER consents_sealed` + on(db, "consents"), `UPDATE consents SET at = at + 1 WHERE number = 5`} {
			if _, err := db.Write.Exec(statement); err != nil {
				t.Fatal(err)
			}
		}
		out, _ = town.depesche(runAt, 1, "subscriber", "verify", "--json")
		if v := unmarshal[subscribers.Verification](t, out); v.Broken != 1 || v.Breaks[0].Number != 5 {
			t.Errorf("verify of a changed ledger = %+v", v)
		}
	})
}

func on(db *migrations.Database, table string) string {
	if db.Kind == migrations.PostgreSQL {
		return " ON " + table
	}
	return ""
}

func ledgerLogName(n *town) string {
	config, err := LoadConfig(filepath.Join(n.folder, "depesche.yaml"), n.environ)
	if err != nil {
		n.t.Fatal(err)
	}
	return filepath.Base(logbookOf(config).path)
}

// A sealer that is killed in the middle, again and again, leaves a chain that is valid, and the next one goes on.
func TestSealerIsKilled(t *testing.T) {
	eachTown(t, func(t *testing.T, town *town) {
		town.depesche(runAt, 0, "subscriber", "list") // makes the schema
		const events = 4000
		town.addReaders(events)
		db := town.open()
		sealed := func() (n int64) {
			var head string
			if err := db.Read.QueryRow(`SELECT value FROM house WHERE key = 'ledger_head'`).Scan(&head); err != nil {
				t.Fatal(err)
			}
			h, err := subscribers.ParseHead(head)
			if err != nil {
				t.Fatal(err)
			}
			return h.Number
		}
		kills := 0
		for before := sealed(); before < events && kills < 4; before = sealed() {
			command := town.command(runAt, "subscriber", "verify")
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_ = command.Wait()
			}()
			for running := true; running && sealed() <= before; { // until it has begun
				select {
				case <-ended:
					running = false
				default:
				}
			}
			_ = command.Process.Kill()
			<-ended
			kills++
		}
		t.Logf("%d events were sealed when the %dth sealer was killed", sealed(), kills)
		out, _ := town.depesche(runAt, 0, "subscriber", "verify", "--json")
		if v := unmarshal[subscribers.Verification](t, out); v.Events != events || v.Head.Number != events {
			t.Errorf("after %d kills verify says %+v", kills, v)
		}
	})
}

// Who is erased while a digest waits gets nothing of it, and the account still adds up.
func TestEraseSkipsWhatIsDue(t *testing.T) {
	eachTown(t, func(t *testing.T, town *town) {
		town.serve(ingestAt)
		for _, reader := range []string{"anna@reader.test", "ben@reader.test", "carla@reader.test"} {
			town.signUp(reader)
		}
		town.article("haushalt", "Politik", "2026-02-11T04:00:00+01:00", "")
		up := town.environ
		town.environ = append(append([]string(nil), up...), "DEPESCHE_SMTP_PORT=1") // nobody listens: all stays due
		town.depesche(runAt, 0, "run")
		town.environ = up
		town.depesche(runAt, 0, "hold", "morgen/2026-02-11")
		db := town.open()
		if _, err := db.Write.Exec(`UPDATE deliveries SET state = 'doubtful', reply = 'unknown to anna@reader.test', due = NULL
			WHERE subscriber = (SELECT id FROM subscribers WHERE address = 'anna@reader.test')`); err != nil {
			t.Fatal(err)
		}
		for _, reader := range []string{"anna@reader.test", "ben@reader.test"} {
			if out, _ := town.depesche(runAt, 0, "subscriber", "erase", reader, "--json"); unmarshal[subscribers.Erasure](t, out).Deliveries != 1 {
				t.Errorf("erase says %s, want one delivery skipped", out)
			}
		}
		town.depesche(runAt, 0, "release", "morgen/2026-02-11")
		town.depesche("2026-02-11T06:30:00+01:00", 0, "run")
		if a, b, c := len(town.mails("anna@reader.test")), len(town.mails("ben@reader.test")), len(town.mails("carla@reader.test")); a != 1 || b != 1 || c != 2 {
			t.Errorf("mails = %d, %d, %d, want the erased to have the letter only", a, b, c)
		}
		out, _ := town.depesche("2026-02-11T06:30:00+01:00", 0, "report", "--json")
		if !strings.Contains(out, `"prepared": 3`) || !strings.Contains(out, `"sent": 1`) || !strings.Contains(out, `"skipped": 2`) {
			t.Errorf("report:\n%s", out)
		}
		var left int
		if err := db.Write.QueryRow(`SELECT COUNT(*) FROM deliveries WHERE reply LIKE '%anna%'`).Scan(&left); err != nil || left != 0 {
			t.Errorf("%d replies still hold the address, %v", left, err)
		}
	})
}

// A backup is whole or not there; without its key file it is incomplete; a database with readers is not overwritten unasked; a
// ledger that became shorter by a restoration is known to have.
func TestBackupAndRestore(t *testing.T) {
	town := newTown(t, "")
	town.serve(ingestAt)
	for _, reader := range []string{"anna@reader.test", "erased@reader.test", "left@reader.test"} {
		town.signUp(reader)
	}
	backup, keys := filepath.Join(t.TempDir(), "backup.db"), filepath.Join(town.folder, "depesche.keys")
	out, _ := town.depesche(runAt, 0, "backup", backup)
	if !strings.Contains(out, "NOT in it") || !strings.Contains(out, keys) {
		t.Errorf("backup says %q, want the key file named", out)
	}
	if info, err := os.Stat(backup); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup has mode %v, %v", info, err)
	}
	secret, err := os.ReadFile(keys)
	if err != nil {
		t.Fatal(err)
	}
	copied, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range strings.Fields(string(secret)) {
		if len(word) == 64 && bytes.Contains(copied, []byte(word)) {
			t.Error("a key is in the backup")
		}
	}
	town.depesche(runAt, 2, "backup", backup)
	town.signUp("ben@reader.test")
	town.depesche(runAt, 0, "run")
	if _, problem := town.depesche(runAt, 2, "restore", backup); !strings.Contains(problem, "--force") {
		t.Errorf("restore over readers says %q", problem)
	}
	moved := keys + ".away"
	if err := os.Rename(keys, moved); err != nil {
		t.Fatal(err)
	}
	if _, problem := town.depesche(runAt, 1, "restore", backup, "--force"); !strings.Contains(problem, "incomplete without its key file") {
		t.Errorf("restore without keys says %q", problem)
	}
	town.makeKeys()
	if _, problem := town.depesche(runAt, 1, "restore", backup, "--force"); !strings.Contains(problem, "made with other keys") {
		t.Errorf("restore with other keys says %q", problem)
	}
	for _, command := range [][]string{{"run"}, {"serve"}, {"subscriber", "import", backup}, {"subscriber", "show", "anna@reader.test"}} {
		if _, problem := town.depesche(runAt, 2, command...); !strings.Contains(problem, "not the one of this database: "+keys) {
			t.Errorf("with other keys %s says %q", command[0], problem)
		}
	}
	if err := os.Rename(moved, keys); err != nil {
		t.Fatal(err)
	}
	torn := filepath.Join(t.TempDir(), "torn.db")
	if err := os.WriteFile(torn, copied[:len(copied)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, problem := town.depesche(runAt, 1, "restore", torn, "--force"); !strings.Contains(problem, "no whole backup") {
		t.Errorf("restore of half a backup says %q", problem)
	}
	town.depesche(runAt, 0, "subscriber", "erase", "erased@reader.test")
	town.depesche(runAt, 0, "subscriber", "unsubscribe", "left@reader.test", "--reason", "letter")
	if list, _ := town.depesche(runAt, 0, "subscriber", "list"); strings.Count(list, "\n") != 3 {
		t.Errorf("refused restorations changed the readers:\n%s", list)
	}
	town.depesche(runAt, 0, "restore", backup, "--force")
	list, _ := town.depesche(runAt, 0, "subscriber", "list")
	if !strings.Contains(list, "anna@reader.test\tmorgen\tactive") || strings.Contains(list, "ben@") {
		t.Errorf("after the restoration:\n%s", list)
	}
	if strings.Contains(list, "erased@") || !strings.Contains(list, "left@reader.test\tmorgen\tended") {
		t.Errorf("the restoration brought back who had gone:\n%s", list)
	}
	if shown, _ := town.depesche(runAt, 0, "subscriber", "show", "left@reader.test"); !strings.Contains(shown, "SUPPRESSED: objection") {
		t.Errorf("the restoration lifted a suppression:\n%s", shown)
	}
	town.depesche(runAt, 0, "subscriber", "verify")
}

// A database that was put back to what it was before the morning's digest mails nobody a second time until somebody says so,
// whether 'restore' put it back or a copied file (standards: H11).
func TestRestoredDatabaseMailsNobodyTwice(t *testing.T) {
	for _, how := range []struct {
		name    string
		signUps bool // of which the ledger's log tells
		restore bool
	}{{"restore", true, true}, {"file, with events since", true, false}, {"file, with nothing but a digest since", false, false}} {
		t.Run(how.name, func(t *testing.T) {
			town := newTown(t, "")
			town.depesche(ingestAt, 0, "status")
			town.addReaders(3)
			town.article("haushalt", "Politik", "2026-02-11T04:00:00+01:00", "")
			backup := filepath.Join(t.TempDir(), "backup.db")
			town.depesche(ingestAt, 0, "backup", backup)
			if how.signUps {
				town.write("list.csv", "Email Address,CONFIRM_TIME,CONFIRM_IP\nneu@reader.test,2025-05-01 10:00:00,192.0.2.7\n")
				town.depesche(ingestAt, 0, "subscriber", "import", filepath.Join(town.folder, "list.csv"), "--yes")
			}
			town.depesche(runAt, 0, "run")
			sent := len(town.mailbox.Messages())
			if how.restore {
				town.depesche(runAt, 0, "restore", backup, "--force")
			} else {
				town.replaceDatabase(backup)
			}
			for _, command := range []string{"run", "run", "dispatch"} {
				if _, problems := town.depesche("2026-02-11T06:30:00+01:00", 6, command); !strings.Contains(problems, "depesche release") {
					t.Errorf("%s says %q, want how it goes on", command, problems)
				}
			}
			if now := len(town.mailbox.Messages()); now != sent {
				t.Errorf("%d mails after the restoration, want the %d of before", now, sent)
			}
			town.depesche("2026-02-11T06:40:00+01:00", 0, "release", "morgen/2026-02-11")
			town.depesche("2026-02-11T06:40:00+01:00", 0, "run")
			if now := len(town.mailbox.Messages()); now == sent {
				t.Error("nothing was sent after the release")
			}
			town.article("wahl", "Politik", "2026-02-12T04:00:00+01:00", "")
			town.depesche("2026-02-12T06:00:00+01:00", 0, "run")
		})
	}
}

// replaceDatabase puts a file in the place of the database, as people do it without asking.
func (n *town) replaceDatabase(file string) {
	n.t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		n.t.Fatal(err)
	}
	path := filepath.Join(n.folder, "depesche.db")
	for _, rest := range []string{"-wal", "-shm"} {
		if err := os.Remove(path + rest); err != nil && !os.IsNotExist(err) {
			n.t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// pg_dump writes the backup of a PostgreSQL database, and how to restore it is said.
func TestBackupOfPostgreSQL(t *testing.T) {
	eachTown(t, func(t *testing.T, town *town) {
		if town.open().Kind == migrations.SQLite {
			return
		}
		town.depesche(runAt, 0, "subscriber", "list") // makes the schema
		town.addReaders(3)
		backup := filepath.Join(t.TempDir(), "backup.dump")
		town.depesche(runAt, 0, "backup", backup)
		if content, err := os.ReadFile(backup); err != nil || !bytes.HasPrefix(content, []byte("PGDMP")) {
			t.Errorf("the backup begins with %.5q, %v", content, err)
		}
		if _, problem := town.depesche(runAt, 2, "restore", backup); !strings.Contains(problem, "pg_restore") {
			t.Errorf("restore says %q", problem)
		}
	})
}

// A reader who reads on keeps what the night's cleanup would take from others.
func TestCleanupCommand(t *testing.T) {
	town := newTown(t, "")
	town.serve(ingestAt)
	town.signUp("anna@reader.test")
	out, _ := town.depesche("2027-02-11T06:00:00+01:00", 0, "cleanup", "--dry-run", "--json")
	c := unmarshal[subscribers.Cleanup](t, out)
	if !c.DryRun || c.IPs != 2 || c.Letters != 1 || c.Former != 0 {
		t.Errorf("the dry run says %+v", c)
	}
	if out, problems := town.depesche("2027-02-11T06:00:00+01:00", 0, "cleanup"); out != "" || problems != "" {
		t.Errorf("a cleanup that went well says %q, %q", out, problems)
	}
	out, _ = town.depesche("2027-02-11T06:00:00+01:00", 0, "cleanup", "--dry-run", "--json")
	if c := unmarshal[subscribers.Cleanup](t, out); c != (subscribers.Cleanup{DryRun: true}) {
		t.Errorf("after the cleanup a dry run says %+v", c)
	}
	if got := town.active(); got != 1 {
		t.Errorf("after the cleanup %d readers are active", got)
	}
}

// The page of a proof in a browser, at telephone width too: nothing runs over the edge, and what is text has contrast.
func TestProofInTheBrowser(t *testing.T) {
	ctx := browser(t)
	town := newTown(t, "")
	town.serve(ingestAt)
	town.signUp("anna@reader.test", "sport")
	town.article("derby", "Sport", "2026-02-11T04:00:00+01:00", "")
	town.depesche(runAt, 0, "run")
	pages := map[string]string{}
	for _, command := range []string{"proof", "data"} {
		pages["/"+command], _ = town.depesche(runAt, 0, "subscriber", command, "anna@reader.test")
	}
	town.depesche(runAt, 0, "subscriber", "erase", "anna@reader.test")
	pages["/erased"], _ = town.depesche(runAt, 0, "subscriber", "proof", "anna@reader.test")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(pages[r.URL.Path]))
	}))
	t.Cleanup(server.Close)
	for path := range pages {
		for _, width := range []int64{320, 1280} {
			do(t, ctx, chromedp.EmulateViewport(width, 900), chromedp.Navigate(server.URL+path), chromedp.WaitReady("body"))
			if over := read(t, ctx, chromedp.Evaluate[int](`document.documentElement.scrollWidth - window.innerWidth`)); over > 0 {
				t.Errorf("%s at %d: %d pixels run over the edge", path, width, over)
			}
			for _, fault := range read(t, ctx, chromedp.Evaluate[[]string](faults)) {
				t.Errorf("%s at %d: %s", path, width, fault)
			}
			if folder := os.Getenv("DEPESCHE_LOOKS"); folder != "" {
				keepLook(t, ctx, filepath.Join(folder, fmt.Sprintf("%s-%d.png", strings.TrimPrefix(path, "/"), width)))
			}
		}
	}
}
