package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Who comes back from a pause gets that day's digest, and nothing of the days between: neither their digests nor their articles.
func TestNoFloodAfterAPause(t *testing.T) {
	town := newTown(t, "")
	town.depesche(ingestAt, 0, "status")
	town.addReaders(2)
	back := time.Date(2026, 2, 13, 23, 0, 0, 0, time.UTC) // midnight in the newsletter's zone
	town.exec(`UPDATE subscriptions SET paused = $1 WHERE subscriber = 1`, back.UnixMilli())
	for day := 11; day <= 15; day++ {
		town.article(fmt.Sprintf("vom-%d", day), "Politik", fmt.Sprintf("2026-02-%dT04:00:00+01:00", day), "")
		town.depesche(fmt.Sprintf("2026-02-%dT06:00:00+01:00", day), 0, "run")
	}
	for address, days := range map[string][]int{"leser1@reader.test": {14, 15}, "leser2@reader.test": {11, 12, 13, 14, 15}} {
		mails := town.mails(address)
		if len(mails) != len(days) {
			t.Fatalf("%s has %d mails, want %d", address, len(mails), len(days))
		}
		for i, day := range days {
			for other := 11; other <= 15; other++ {
				if has := strings.Contains(mails[i].Text, fmt.Sprintf("vom-%d", other)); has != (other == day) {
					t.Errorf("%s: the mail of 2026-02-%d has the article of 2026-02-%d: %v", address, day, other, has)
				}
			}
		}
	}
}
