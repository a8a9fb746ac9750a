package demo

import (
	"bytes"
	"image/jpeg"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"depesche/newsletter/ingest"
)

var morning = time.Date(2026, 2, 11, 5, 0, 0, 0, time.FixedZone("CET", 3600))

const site = "http://127.0.0.1:8090"

func printed(t *testing.T) map[string][]byte {
	t.Helper()
	files, err := Paper(morning, site)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// articles are all of the paper's, read by the reader that the product uses.
func articles(t *testing.T) []ingest.Article {
	t.Helper()
	var all []ingest.Article
	for name, content := range printed(t) {
		kind := contentType(name)
		if kind == "image/jpeg" || kind == "" && path.Ext(name) != ".md" {
			continue
		}
		source := ingest.Source{Name: "demo", Language: "de", Location: morning.Location(), Base: site + "/" + name}
		result, err := ingest.Read(name, content, kind, source, morning)
		if err != nil || len(result.Problems) > 0 {
			t.Errorf("Read(%s) = %v, problems %v", name, err, result.Problems)
		}
		all = append(all, result.Articles...)
	}
	return all
}

func TestPaperIsReadWithoutComplaint(t *testing.T) {
	all := articles(t)
	if len(all) < 18 {
		t.Errorf("the paper has %d articles, want at least 18", len(all))
	}
	var embargoed, english int
	addresses := map[string]bool{}
	for _, a := range all {
		if addresses[a.URL] {
			t.Errorf("two articles have the address %s", a.URL)
		}
		addresses[a.URL] = true
		if a.Teaser == "" || a.Kicker == "" && len(a.Categories) == 0 || !strings.HasPrefix(a.URL, site+"/") {
			t.Errorf("%q: teaser %q, kicker %q, categories %q, address %q", a.Title, a.Teaser, a.Kicker, a.Categories, a.URL)
		}
		if a.Published.IsZero() || a.Published.After(morning) || morning.Sub(a.Published) > 24*time.Hour {
			t.Errorf("%q was published %v, want within the last day", a.Title, a.Published)
		}
		if a.Embargo.After(morning) {
			embargoed++
		}
		if strings.HasPrefix(a.Language, "en") {
			english++
		}
		if a.Picture != nil && (a.Picture.Credit == "" || !strings.HasPrefix(a.Picture.URL, site+"/bilder/")) {
			t.Errorf("%q: picture %+v, want ours and a credit", a.Title, a.Picture)
		}
	}
	if embargoed != 1 || english != 4 {
		t.Errorf("%d under embargo, %d in English, want 1 and 4", embargoed, english)
	}
}

// What the demo shows depends on which kickers lead where.
func TestPaperHasOneArticleOfEverySpecialKind(t *testing.T) {
	var config struct {
		Topics []struct {
			Slug, Name string
			Aliases    []string
		}
		Ignore []string
	}
	if err := yaml.Unmarshal(printed(t)["depesche.yaml"], &config); err != nil {
		t.Fatal(err)
	}
	perTopic := map[string]int{}
	var unmapped, ignored, several int
	for _, a := range articles(t) {
		marks := append([]string{a.Kicker}, a.Categories...)
		mapped := 0
		for _, topic := range config.Topics {
			names := append(topic.Aliases, topic.Name)
			if slices.ContainsFunc(marks, func(mark string) bool { return slices.Contains(names, mark) }) {
				perTopic[topic.Slug]++
				mapped++
			}
		}
		switch {
		case slices.ContainsFunc(marks, func(mark string) bool { return slices.Contains(config.Ignore, mark) }):
			ignored++
		case mapped == 0:
			unmapped++
		case mapped > 1:
			several++
		}
	}
	if unmapped != 1 || ignored != 1 || several < 1 {
		t.Errorf("%d unmapped, %d ignored, %d in several topics, want 1, 1 and some", unmapped, ignored, several)
	}
	for _, topic := range config.Topics {
		if perTopic[topic.Slug] < 2 {
			t.Errorf("topic %s has %d articles, want at least 2", topic.Slug, perTopic[topic.Slug])
		}
	}
}

func TestPicturesAreJPEG(t *testing.T) {
	files := printed(t)
	for _, name := range []string{"bilder/bruecke.jpg", "bilder/tal.jpg"} {
		picture, err := jpeg.Decode(bytes.NewReader(files[name]))
		if err != nil {
			t.Fatalf("decode %s: %v", name, err)
		}
		if got := picture.Bounds().Size(); got.X != pictureWidth || got.Y != pictureHeight || len(files[name]) > 200_000 {
			t.Errorf("%s is %v, %d bytes", name, got, len(files[name]))
		}
	}
}

func TestSite(t *testing.T) {
	server := httptest.NewServer(Site(printed(t)))
	defer server.Close()
	for _, test := range []struct{ path, kind, holds, lacks string }{
		{"/talbote.rss", "application/rss+xml", "<rss", "{{"},
		{"/newcomers.atom", "application/atom+xml", "<feed", "{{"},
		{"/verein.json", "application/feed+json", "jsonfeed.org", "{{"},
		{"/bilder/tal.jpg", "image/jpeg", "\xff\xd8\xff", "html"},
		{"/artikel/nachtbus", "text/html; charset=utf-8", "„nachtbus“", "{{"},
		{"/<script>alert(1)<", "text/html; charset=utf-8", "&lt;script&gt;alert(1)&lt;", "<script>"},
		{"/depesche.yaml", "text/html; charset=utf-8", "erfunden", "smtp"},
		{"/", "text/html; charset=utf-8", "erfunden", "{{"},
	} {
		response, err := http.Get(server.URL + test.path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil || response.Body.Close() != nil {
			t.Fatal(err)
		}
		if got := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || got != test.kind {
			t.Errorf("GET %s = %d, %s, want 200, %s", test.path, response.StatusCode, got, test.kind)
		}
		if text := string(body); !strings.Contains(text, test.holds) || strings.Contains(text, test.lacks) {
			t.Errorf("GET %s lacks %q or holds %q", test.path, test.holds, test.lacks)
		}
	}
}
