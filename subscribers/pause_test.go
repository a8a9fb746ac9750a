package subscribers

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"depesche/migrations"
	"depesche/migrations/dbtest"
)

func TestPause(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		berlin, err := time.LoadLocation("Europe/Berlin")
		if err != nil {
			t.Fatal(err)
		}
		h := newHouse(t, db, func(s *Settings) { s.Newsletters[0].Zone = berlin })
		address := "lena@wnoz.example"
		h.subscribe(address)
		path := "/pause/morgen/" + h.token(ToPause, address)
		before := h.dump()
		for _, wrong := range []string{"", "2026-09-25", "2025-10-01", "2027-09-25", "morgen"} { // today is 2026-09-25
			h.wantPage(h.press(path, url.Values{"until": {wrong}}), 422, `aria-invalid="true"`)
		}
		h.wantPage(h.press(path, url.Values{"weeks": {"99"}}), 422, "Fehler: ")
		h.wantPage(h.get(path), 200, `min="2026-09-26"`)
		if h.dump() != before {
			t.Error("a wrong form or an opened page changed the database")
		}
		h.wantPage(h.press(path, url.Values{"until": {"2026-10-26"}}), 200, "Am 26. Oktober 2026 geht es weiter")
		h.wantAudience("during a pause")
		h.wantPage(h.get("/preferences/morgen/"+h.token(ToPrefer, address)), 200, "26. Oktober 2026")
		h.wantPage(h.press(path, url.Values{"until": {"2026-10-26"}}), 200, "geht es weiter")
		h.wantEvents(address, Requested, Mailed, Confirmed, Changed)

		// The clocks went back on the 25th: the day begins at 23:00 UTC.
		for _, moment := range []struct {
			at   time.Time
			want []string
		}{
			{time.Date(2026, 10, 25, 22, 59, 0, 0, time.UTC), nil},
			{time.Date(2026, 10, 25, 23, 0, 0, 0, time.UTC), []string{address}},
		} {
			h.clock.Store(moment.at.UnixMilli())
			if err := h.LiftPauses(t.Context(), moment.at); err != nil {
				t.Fatal(err)
			}
			h.wantAudience(moment.at.String(), moment.want...)
		}

		h.wantPage(h.press(path, url.Values{"weeks": {"2"}}), 200, "geht es weiter")
		h.wantPage(h.press(path, url.Values{"end": {"1"}}), 200, "Die Pause ist zu Ende")
		h.wantAudience("after the end", address)
		proof, err := h.Proof(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		var how []string
		for _, e := range proof.Events[3:] {
			how = append(how, e.Particulars.How)
		}
		if got := strings.Join(how, ", "); got != "paused until 2026-10-26, paused until 2026-11-09, pause ended" {
			t.Errorf("events say %q", got)
		}
		for language, words := range map[string][]string{
			"de": {"Pause bis zum 26. Oktober 2026", "Pause bis zum 9. November 2026", "Pause beendet"},
			"en": {"paused until 26 October 2026", "paused until 9 November 2026", "pause ended"},
		} {
			page, err := h.ProofPage(proof, language, time.UTC)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range words {
				if !strings.Contains(string(page), want) {
					t.Errorf("the proof in %q does not say %q", language, want)
				}
			}
		}
		h.press("/unsubscribe/morgen/"+h.token(ToUnsubscribe, address), nil)
		h.wantPage(h.press(path, url.Values{"weeks": {"2"}}), 410, "abgelaufen")
		if err := h.Pause(t.Context(), h.now(), "morgen", "forged", h.now().Add(48*time.Hour), Visit{}); !errors.Is(err, ErrToken) {
			t.Errorf("Pause with a forged link = %v", err)
		}
	})
}

func TestOften(t *testing.T) {
	for _, test := range []struct {
		perDay float64
		want   frequency
	}{
		{4.2, frequency{4, "day"}},
		{1.6, frequency{2, "day"}},
		{1, frequency{1, "day"}},
		{0.9, frequency{6, "week"}},
		{1.0 / 7, frequency{1, "week"}},
		{1.0 / 28, frequency{0, "rare"}},
		{0, frequency{0, "rare"}},
	} {
		if got := often(test.perDay); got != test.want {
			t.Errorf("often(%v) = %+v, want %+v", test.perDay, got, test.want)
		}
	}
}
