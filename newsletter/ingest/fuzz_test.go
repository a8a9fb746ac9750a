package ingest

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
)

// seedSamples gives a fuzz target the samples of a format to begin with.
func seedSamples(f *testing.F, names ...string) {
	f.Helper()
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
}

// checkFuzzed holds what is true of every article that is returned, whatever it was made from.
func checkFuzzed(t *testing.T, a Article) {
	t.Helper()
	if a.Title == "" || !isHTTP(a.URL) || strings.ContainsFunc(a.Title, unicode.IsControl) {
		t.Errorf("title %q, address %q", a.Title, a.URL)
	}
	again, err := canonical(a.URL, nil)
	if err != nil || again != a.URL {
		t.Errorf("address %q is not canonical: %q, %v", a.URL, again, err)
	}
	checkArticles(t, Result{Articles: []Article{a}})
}

func FuzzReadFeed(f *testing.F) {
	seedSamples(f, "rss.xml", "rdf.xml", "atom.xml", "feed.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		result, err := ReadFeed("fuzz", bytes.NewReader(data), testSource, testNow)
		if err != nil && len(result.Articles) > 0 {
			t.Errorf("articles beside an error: %v", err)
		}
		for _, a := range result.Articles {
			checkFuzzed(t, a)
		}
	})
}

func FuzzReadPage(f *testing.F) {
	seedSamples(f, "page.html", "wordpress.html", "microdata.html", "plain.html")
	src := testSource
	src.Base = "https://www.talbote.example/stadt/feuerwehr-raeder.html"
	f.Fuzz(func(t *testing.T, data []byte) {
		if a, err := ReadPage("fuzz", bytes.NewReader(data), src, testNow); err == nil {
			checkFuzzed(t, a)
		}
	})
}

func FuzzReadMarkdown(f *testing.F) {
	seedSamples(f, "article.md")
	f.Add([]byte("---\nurl: https://a.example/1\n---\n# Titel\n\nEin <b>Text</b> mit [Link](/x).\n\n<div>\n\nKein\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if a, err := ReadMarkdown("fuzz", bytes.NewReader(data), testSource, testNow); err == nil {
			checkFuzzed(t, a)
		}
	})
}
