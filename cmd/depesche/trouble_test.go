package main

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// A server that offers no TLS gets nothing, not even a greeting in clear: status 4, an alert, and everybody still due.
func TestServerWithoutTLS(t *testing.T) {
	town := newTown(t, "")
	town.environ = append(town.environ, "DEPESCHE_SMTP_TLS=required", "DEPESCHE_SMTP_USER=leser", "DEPESCHE_SMTP_PASSWORD=geheim")
	town.depesche(ingestAt, 0, "status")
	town.addReaders(3)
	town.article("haushalt", "Politik", "2026-02-11T04:00:00+01:00", "")
	_, problems := town.depesche(runAt, 4, "run")
	if !strings.Contains(problems, "STARTTLS") && !strings.Contains(problems, "starttls") {
		t.Errorf("the alert must name what is missing: %s", problems)
	}
	if strings.Contains(problems, "geheim") {
		t.Errorf("the password is in the alert: %s", problems)
	}
	out, _ := town.depesche(runAt, 0, "report", "--json")
	if !strings.Contains(out, `"due": 3`) {
		t.Errorf("report: %s, want all due", out)
	}
}

// A relay that is away is no failure of anybody's: the rows wait for the next run, and that run sends them.
func TestRelayIsAway(t *testing.T) {
	town := newTown(t, "")
	town.depesche(ingestAt, 0, "status")
	town.addReaders(3)
	town.article("haushalt", "Politik", "2026-02-11T04:00:00+01:00", "")
	town.setRelay(freeAddress(t))
	_, problems := town.depesche(runAt, 0, "run")
	if !strings.Contains(problems, "relay is away") {
		t.Errorf("a relay that is away must be told of: %q", problems)
	}
	town.setRelay(town.mailbox.Addr())
	town.depesche("2026-02-11T06:05:00+01:00", 0, "run")
	if got := len(town.mailbox.Messages()); got != 3 {
		t.Errorf("%d mails, want 3", got)
	}
}

// A disk that is full: one line, status 1, and what was stored before is there.
func TestFullDisk(t *testing.T) {
	town := newTown(t, "")
	town.article("haushalt", "Politik", "2026-02-11T04:00:00+01:00", "")
	town.depesche(ingestAt, 0, "ingest")
	for i := range 300 {
		town.article(fmt.Sprint("lang", i), "Politik", "2026-02-11T04:00:00+01:00", "author: "+strings.Repeat("Sehr langer Name ", 100)+"\n")
	}
	depesche := town.command(ingestAt, "ingest")
	// A limit on the size of files is a full disk that needs no disk.
	limited := exec.Command("sh", "-c", `ulimit -f 1000 && exec "$0" ingest`, depesche.Path)
	limited.Env, limited.Dir = depesche.Env, depesche.Dir
	var problems bytes.Buffer
	limited.Stderr = &problems
	if err := limited.Run(); err == nil || limited.ProcessState.ExitCode() != 1 {
		t.Fatalf("on a full disk: %v, want status 1", err)
	}
	if !strings.Contains(problems.String(), "full") && !strings.Contains(problems.String(), "disk") {
		t.Errorf("the error must name the disk: %.300s", &problems)
	}
	out, _ := town.depesche(ingestAt, 0, "article", "list")
	if !strings.Contains(out, "Schlagzeile haushalt") {
		t.Error("what was stored before is gone")
	}
	town.depesche(ingestAt, 0, "ingest")
	if out, _ = town.depesche(ingestAt, 0, "article", "list"); strings.Count(out, "\n") != 301 {
		t.Errorf("with room again %d articles are stored, want 301", strings.Count(out, "\n"))
	}
}
