package subscribers

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"depesche/migrations"
	"depesche/migrations/dbtest"
)

func TestMyData(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		address := "lena@wnoz.example"
		var h *house
		var fetched, erased []string
		h = newHouse(t, db, func(s *Settings) {
			s.Data = func(_ context.Context, _ time.Time, address, language string) ([]byte, []byte, error) {
				fetched = append(fetched, address+" "+language)
				return []byte(`{"address":"` + address + `"}`), []byte("<p>" + address), nil
			}
			s.Erase = func(ctx context.Context, now time.Time, address string) error {
				erased = append(erased, address)
				_, err := h.UnsubscribeAddress(ctx, now, address, ByObjection)
				return err
			}
		})
		h.subscribe(address)
		ask := "/data/morgen/" + h.token(ToAskData, address)
		before := h.dump()
		h.wantPage(h.get(ask), 200, "Link anfordern")
		if h.dump() != before {
			t.Error("an opened page changed the database")
		}
		h.wantPage(h.press(ask, nil), 200, "Postfach")
		h.wantPage(h.press(ask, nil), 200, "Postfach") // once a day
		l := h.letter(DataLetter)
		path := strings.TrimPrefix(l.Action, "https://news.talbote.example") + l.Token
		if l.Address != address || !strings.HasPrefix(path, "/my-data/morgen/") {
			t.Fatalf("letter = %+v", l)
		}
		// The links of a digest, which is forwarded, do not open it.
		for _, p := range []Purpose{ToPrefer, ToAskData, ToUnsubscribe} {
			h.wantPage(h.get("/my-data/morgen/"+h.token(p, address)), 404, "Nicht gefunden")
		}
		before = h.dump()
		shown := h.get(path)
		h.wantPage(shown, 200, "l…@wnoz.example")
		if strings.Contains(shown.body, address) || h.dump() != before {
			t.Error("the page shows the address, or changed something by being opened")
		}
		got := h.press(path, url.Values{"want": {"json"}})
		if got.body != `{"address":"lena@wnoz.example"}` || !strings.Contains(got.header.Get("Content-Disposition"), "attachment") ||
			got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("JSON = %d %q %v", got.status, got.body, got.header)
		}
		h.wantPage(h.press(path, url.Values{"want": {"html"}}), 200, "<p>lena")
		h.wantPage(h.press(path, nil), 400, "<h1>")
		foreign := h.ask("POST", path, "want=erase", formType, "Origin: https://evil.example", "Sec-Fetch-Site: cross-site")
		h.wantPage(foreign, 403, "<h1>")
		if len(erased) > 0 || len(fetched) != 2 || fetched[0] != address+" de" {
			t.Errorf("fetched %v, erased %v", fetched, erased)
		}
		h.wantPage(h.press(path, url.Values{"want": {"erase"}}), 200, "gelöscht")
		h.wantAudience("after the button")
		if len(erased) != 1 {
			t.Errorf("erased %v", erased)
		}
		h.later(day)
		h.wantPage(h.get(path), 410, "abgelaufen")
		h.wantPage(h.press(path, url.Values{"want": {"json"}}), 410, "abgelaufen")
		h.press(ask, nil)
		if n := len(h.mail()); n != 0 {
			t.Errorf("%d letters to somebody who objected", n)
		}
	})
}
