package ingest

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// One small sample of each format, and what is read from it.
func TestSamples(t *testing.T) {
	for _, name := range []string{
		"rss.xml", "rdf.xml", "atom.xml", "feed.json", "page.html", "wordpress.html", "microdata.html",
		"plain.html", "article.md",
	} {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join("testdata", name))
			if err != nil {
				t.Fatal(err)
			}
			src := testSource
			if name == "page.html" {
				src.Base = "https://www.talbote.example/stadt/feuerwehr-raeder.html"
			}
			result, err := Read(name, data, "", src, testNow)
			if err != nil {
				t.Fatal(err)
			}
			checkArticles(t, result)
			got := shown(t, result)
			if strings.Contains(got, "OUTSIDE") { // so the pages' authors marked what is not the article
				t.Errorf("leaked in: %s", got)
			}
			golden(t, filepath.Join("testdata", name+".golden"), got)
		})
	}
}

// shown is a result as JSON, with the words of its problems.
func shown(t *testing.T, r Result) string {
	t.Helper()
	var out strings.Builder
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	problems := make([]string, len(r.Problems))
	for i, p := range r.Problems {
		problems[i] = p.Error()
	}
	if err := encoder.Encode(map[string]any{"articles": r.Articles, "problems": problems}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}
