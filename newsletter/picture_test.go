package newsletter

import (
	"bytes"
	"context"
	"image"
	"image/jpeg"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"depesche/migrations"
	"depesche/migrations/dbtest"
	"depesche/newsletter/ingest"
)

// A picture is shown where the source's contract allows it, with its credit, as a copy from our own address; elsewhere
// neither picture nor caption is.
func TestPictures(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		var picture bytes.Buffer
		if err := jpeg.Encode(&picture, image.NewRGBA(image.Rect(0, 0, 2400, 1200)), nil); err != nil {
			t.Fatal(err)
		}
		site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(picture.Bytes()) }))
		t.Cleanup(site.Close)
		h := newHouse(t, db, daily(t))
		for _, source := range []Source{
			{Name: "agency", Pictures: true, AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, {Name: "wire"},
		} {
			h.Sources = append(h.Sources, source)
			h.fetchers[source.Name] = source.fetcher(h.BaseURL)
		}
		when := at(t, "2026-02-11T05:00:00+01:00")
		for _, source := range []string{"agency", "wire"} {
			h.article(when, "bild-"+source, "Politik", func(a *ingest.Article) {
				a.Source = source
				a.Picture = &ingest.Picture{URL: site.URL + "/" + source + ".jpg", Caption: "Der Rat tagt.", Credit: "Foto-" + source}
			})
		}
		reader := h.reader("anna", "politik")
		h.run("2026-02-11T06:00:00+01:00")
		text := plain(h.relay.mailTo(t, reader).data)
		if got := strings.Count(text, "Foto-agency"); got != 2 {
			t.Errorf("the credit stands %d times, want once in each part:\n%s", got, text)
		}
		if strings.Contains(text, "Foto-wire") || strings.Contains(text, site.URL) {
			t.Error("a picture without rights, or the source's own address of one, is in the mail")
		}
		link := regexp.MustCompile(`https://news\.paper\.test/picture/([0-9a-f]{64})\.jpg`).FindStringSubmatch(text)
		if link == nil {
			t.Fatalf("no picture from our own address in\n%s", text)
		}
		kept, err := h.Picture(context.Background(), link[1])
		if err != nil || kept.Width != 1200 || kept.Height != 600 || kept.Type != "image/jpeg" {
			t.Errorf("the copy is %d × %d %s, %v, want 1200 × 600 image/jpeg", kept.Width, kept.Height, kept.Type, err)
		}
	})
}
