package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"depesche/subscribers"
)

// Half a line that a power cut left stops no morning, and the next line stands on its own. A whole line that is none is named.
func TestLogbookWithATornEnd(t *testing.T) {
	now, head := time.Date(2026, 2, 11, 5, 0, 0, 0, time.UTC), subscribers.Head{Number: 7, Chain: strings.Repeat("ab", 32)}
	book := logbook{filepath.Join(t.TempDir(), "x-ledger.log")}
	if err := book.seal(now, head); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(book.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(book.path, append(whole, "2026-02-11T05:00:00Z sea"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := book.read(); err != nil || l.last() != head {
		t.Errorf("read = %+v, %v, want the whole line", l, err)
	}
	head.Number = 8
	if err := book.seal(now, head); err != nil {
		t.Fatal(err)
	}
	if l, err := book.read(); err != nil || len(l.heads) != 2 || l.last() != head {
		t.Errorf("read = %+v, %v, want both lines", l, err)
	}
	if err := os.WriteFile(book.path, append(whole, "nonsense\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := book.read(); err == nil || !strings.Contains(err.Error(), "x-ledger.log:2") {
		t.Errorf("read = %v, want file and line", err)
	}
}
