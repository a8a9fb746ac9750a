package ingest

import (
	"strings"
	"testing"
	"time"
)

// Errors in front matter name file, line and key, and what was expected.
func TestMarkdownErrors(t *testing.T) {
	const ok = "url: https://a.example/1\ntitle: Titel\n"
	for head, want := range map[string]string{
		"title: Titel\n":               "text.md: no url",
		"url: https://a.example/1\n":   "text.md: no title",
		"url: a.example/1\ntitle: T\n": "text.md:2: url: ",
		ok + "titel: T\n":              `text.md:4:1: unknown key "titel", expected one of id, url`,
		ok + "topics: Sport\n":         "text.md:4:9: topics: ",
		ok + "urgency: hoch\n":         "text.md:4:10: urgency: ",
		ok + "urgency: 9\n":            "text.md:4: urgency: 9, expected 1 to 8",
		ok + "published: gestern\n":    `text.md:4: published: date "gestern" not understood`,
		ok + "updated: 2026-13-01\n":   "text.md:4: updated: ",
		ok + "status: fertig\n":        `text.md:4: status: "fertig", expected usable, withheld or canceled`,
		ok + "language: \"!\"\n":       "text.md:4: language: ",
		ok + "picture:\n  alt: Bild\n": "text.md:5: picture: ",
		ok + "picture:\n  bild: x\n":   `text.md:5:3: unknown key "bild", expected one of url, alt`,
		ok + "version: -1\n":           "text.md:4: version: ",
		ok + "kicker: [offen\n":        "text.md:",
		ok + "title: doppelt\n":        "text.md:4",
	} {
		_, err := ReadMarkdown("text.md", strings.NewReader("---\n"+head+"---\nText.\n"), testSource, testNow)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: error %v, want %q", head, err, want)
		}
	}
	for _, source := range []string{"", "Text", "---\n" + ok, "\n---\n" + ok + "---\n"} {
		_, err := ReadMarkdown("text.md", strings.NewReader(source), testSource, testNow)
		if err == nil || !strings.Contains(err.Error(), "text.md: line 1: ") {
			t.Errorf("%q: error %v", source, err)
		}
	}
}

func readTestMarkdown(t *testing.T, head, body string) Result {
	t.Helper()
	result, err := Read("text.md", []byte("---\nurl: https://a.example/1\n"+head+"---\n"+body), "", testSource, testNow)
	if err != nil {
		t.Fatalf("%q: %v", head+body, err)
	}
	checkArticles(t, result)
	return result
}

func TestMarkdownBody(t *testing.T) {
	for _, c := range []struct{ body, wantTitle, want string }{
		{"# Kopf\n\nText.\n\n## Zwei\n", "Kopf", "Text.\n\n## Zwei"},
		{"# Kopf\n\n# Eins\n\n## Zwei\n", "Kopf", "## Eins\n\n### Zwei"},
		{"Kopf\n====\n\nText.\n", "Kopf", "Text."},
		{"# *Kopf* & `mehr`\n\n- a\n- b\n", "Kopf & mehr", "- a\n- b"},
		{"# Kopf\n\n<div>weg</div>\n\nEin <b>Wort</b>. <!-- Notiz -->\n", "Kopf", "Ein Wort."},
		{"# Kopf\n\n```\n# kein Kopf <b>\n```\n", "Kopf", "```\n# kein Kopf <b>\n```"},
	} {
		a := readTestMarkdown(t, "", c.body).Articles[0]
		if a.Title != c.wantTitle || a.Body != c.want {
			t.Errorf("%q: title %q, body %q, want %q, %q", c.body, a.Title, a.Body, c.wantTitle, c.want)
		}
	}
	a := readTestMarkdown(t, "title: Anders\n", "# Kopf\n\nText.\n").Articles[0]
	if a.Title != "Anders" || a.Body != "## Kopf\n\nText." {
		t.Errorf("title %q, body %q", a.Title, a.Body)
	}
}

// An embargo that cannot be read withholds; a publication in the future is one.
func TestMarkdownEmbargo(t *testing.T) {
	result := readTestMarkdown(t, "title: T\nembargo: abends\n", "")
	if result.Articles[0].Status != Withheld || len(result.Problems) != 1 {
		t.Errorf("status %v, problems %v", result.Articles[0].Status, result.Problems)
	}
	for head, want := range map[string]time.Time{
		"embargo: 2026-02-12 06:00\n":            time.Date(2026, 2, 12, 5, 0, 0, 0, time.UTC),
		"embargo: 2026-02-12T06:00:00Z\n":        time.Date(2026, 2, 12, 6, 0, 0, 0, time.UTC),
		"published: \"2026-03-01 08:00\"\n":      time.Date(2026, 3, 1, 7, 0, 0, 0, time.UTC),
		"published: 2026-02-01T08:00:00+01:00\n": {},
	} {
		a := readTestMarkdown(t, "title: T\n"+head, "").Articles[0]
		if !a.Embargo.Equal(want) || a.Status != Usable {
			t.Errorf("%s: embargo %v, status %v, want %v", head, a.Embargo, a.Status, want)
		}
	}
}
