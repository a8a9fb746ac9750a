package ingest

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
)

// fixtures is a folder of real inputs that nobody here wrote. A test that needs it is skipped where their place is not
// named, and fails where it is named and the folder is missing.
func fixtures(t testing.TB, folder string) string {
	t.Helper()
	root := os.Getenv("DEPESCHE_FIXTURES")
	if root == "" {
		t.Skip("SKIPPED: DEPESCHE_FIXTURES names no folder of real inputs")
	}
	path := filepath.Join(root, folder)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("fixtures: %v", err)
	}
	return path
}

// documents calls do with every document of a fixture folder.
func documents(t *testing.T, folder string, do func(t *testing.T, name string, data []byte)) {
	t.Helper()
	root := fixtures(t, folder)
	count := 0
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasPrefix(entry.Name(), "_") || strings.Contains(path, "_LICENCE") {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		count++
		t.Run(name, func(t *testing.T) { do(t, name, data) })
		return nil
	})
	if err != nil || count == 0 {
		t.Fatalf("%d documents in %s, %v", count, folder, err)
	}
}

var (
	testNow    = time.Date(2026, 2, 11, 5, 0, 0, 0, time.UTC)
	testSource = Source{Name: "test", Language: "de"}
)

// The page the product was ordered for: every key of expected.json, and nothing of what stands around the article.
func TestSeed(t *testing.T) {
	folder := fixtures(t, "seed")
	page, err := os.Open(filepath.Join(folder, "article.html"))
	if err != nil {
		t.Fatal(err)
	}
	defer page.Close()
	a, err := ReadPage("article.html", page, testSource, testNow)
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Title, Kicker, Teaser, Language, URL, Place, Agency string
		Published                                           time.Time
		Image                                               struct {
			Caption string `json:"caption_contains"`
			Credit  string
		}
		MustNotContain []string `json:"must_not_contain"`
		Paragraphs     int      `json:"body_paragraphs"`
		Headings       []string `json:"body_headings"`
	}
	data, err := os.ReadFile(filepath.Join(folder, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct{ name, got, want string }{
		{"title", a.Title, want.Title},
		{"kicker", a.Kicker, want.Kicker},
		{"teaser", a.Teaser, want.Teaser},
		{"language", a.Language, want.Language},
		{"url", a.URL, want.URL},
		{"place", a.Place, want.Place},
		{"agency", a.Agency, want.Agency},
		{"published", a.Published.Format(time.RFC3339), want.Published.Format(time.RFC3339)},
		{"credit", a.Picture.Credit, want.Image.Credit},
	} {
		if f.got != f.want {
			t.Errorf("%s = %q, want %q", f.name, f.got, f.want)
		}
	}
	if !strings.Contains(a.Picture.Caption, want.Image.Caption) || strings.Contains(a.Picture.Caption, "Foto:") {
		t.Errorf("caption = %q", a.Picture.Caption)
	}
	var headings []string
	paragraphs := 0
	for block := range strings.SplitSeq(a.Body, "\n\n") {
		if h, ok := strings.CutPrefix(block, "## "); ok {
			headings = append(headings, h)
		} else {
			paragraphs++
		}
	}
	if paragraphs != want.Paragraphs || strings.Join(headings, "|") != strings.Join(want.Headings, "|") {
		t.Errorf("%d paragraphs, headings %q, want %d, %q", paragraphs, headings, want.Paragraphs, want.Headings)
	}
	everything := fmt.Sprintf("%+v %+v", a, *a.Picture)
	for _, s := range want.MustNotContain {
		if strings.Contains(everything, s) {
			t.Errorf("%q leaked in", s)
		}
	}
}

// What feedparser expects and this package on purpose, or gofeed by its nature, does otherwise.
var feedparserDeviations = map[string]string{
	"wellformed/cdf/": "CDF is a format of 1997 that no agency and no CMS writes",
	"wellformed/atom10/entry_category_term.xml":              "a category's label is what people call it, its term what machines do",
	"wellformed/atom10/entry_category_term_non_ascii.xml":    "likewise",
	"wellformed/atom10/entry_id_no_normalization_4.xml":      "gofeed writes the scheme of an id in lower case; it does so every time",
	"wellformed/atom10/entry_link_no_href_link_priority.xml": "a link without href is no Atom link (RFC 4287 §4.2.7.1); the item is a problem",
	"wellformed/namespace/unknown-namespace.xml":             "item is no element of Atom",
	"wellformed/rdf/rdf_item_rdf_about.xml":                  "gofeed does not tell rdf:about; link, which RSS 1.0 requires, identifies the item",
	"wellformed/rss/entity_in_doctype.xml":                   "entities of a document's own are never resolved (G5)",
	"wellformed/rss/item_madeup_tags_element.xml":            "an element that nobody defined",
}

var (
	expectLine = regexp.MustCompile(`(?m)Expect:\s*(.+)$`)
	expectItem = regexp.MustCompile(`entries\[(\d+)\](?:\.(\w+)|\['(\w+)'\])(?:\['(value)'\]|\[(\d+)\]\['(term)'\])?\s*==\s*` +
		`(u?'(?:[^'\\]|\\.)*'|u?"(?:[^"\\]|\\.)*"|\([\d, ]+\))`)
)

// The feeds of feedparser's test suite, by the expectations in their comments: title, link, id, dates and categories.
func TestFeedparser(t *testing.T) {
	checked := 0
	documents(t, "feeds-feedparser", func(t *testing.T, name string, data []byte) {
		for path, reason := range feedparserDeviations {
			if strings.HasPrefix(name, path) {
				t.Log(reason)
				return
			}
		}
		m := expectLine.FindSubmatch(data)
		text, err := decode(data, "")
		if m == nil || err != nil {
			t.Fatalf("no expectation, or %v", err)
		}
		f, err := parseFeed(text)
		if err != nil {
			t.Fatalf("parseFeed: %v", err)
		}
		drafts := f.drafts(name, Source{Name: "test", Location: time.UTC}, testNow)
		for _, e := range expectItem.FindAllStringSubmatch(string(m[1]), -1) {
			i, _ := strconv.Atoi(e[1])
			if i >= len(drafts) {
				t.Fatalf("item %d of %d", i, len(drafts))
			}
			if checkItem(t, drafts[i], e[2]+e[3], e[5], pythonString(e[7])) {
				checked++
			}
		}
	})
	if checked < 50 {
		t.Errorf("only %d expectations were understood", checked)
	}
}

// checkItem compares a field with what feedparser expects there, and reports whether there is such a field.
func checkItem(t *testing.T, d *draft, field, index, want string) bool {
	t.Helper()
	var got string
	switch field {
	case "title", "title_detail":
		got, want = d.Title, plain(want)
	case "link":
		got = d.URL
		want, _ = canonical(want, nil)
	case "id", "guid":
		got = d.GUID
	case "published_parsed":
		got = tuple(d.Published)
	case "updated_parsed":
		got = tuple(first2(d.Updated, d.Published))
	case "tags":
		if n := number(index); n < len(d.Categories) {
			got = d.Categories[n]
		} else if n == 0 {
			got = d.Kicker
		}
	default:
		return false
	}
	if got != want {
		t.Errorf("%s = %q, want %q", field, got, want)
	}
	return true
}

func first2(a, b time.Time) time.Time {
	if a.IsZero() {
		return b
	}
	return a
}

// tuple is a time as Python's struct_time begins.
func tuple(t time.Time) string {
	return fmt.Sprintf("(%d, %d, %d, %d, %d, %d, %d, %d, 0)", t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(),
		(int(t.Weekday())+6)%7, t.YearDay())
}

// pythonString is what a Python literal says; a tuple stays as it is.
func pythonString(s string) string {
	if strings.HasPrefix(s, "(") {
		return s
	}
	s = strings.TrimPrefix(s, "u")
	s = s[1 : len(s)-1]
	s = strings.ReplaceAll(strings.ReplaceAll(s, `"`, `\"`), `\'`, `'`)
	s = regexp.MustCompile(`\\x([0-9a-f]{2})`).ReplaceAllString(s, `\u00$1`)
	unquoted, err := strconv.Unquote(`"` + s + `"`)
	if err != nil {
		return s
	}
	return unquoted
}

// Feeds with named defects: nothing crashes, and every item is either an article or a problem that names it.
func TestDefectiveFeeds(t *testing.T) {
	for _, folder := range []string{"feeds-node-feedparser", "feeds-jsonfeed-rsparser"} {
		documents(t, folder, func(t *testing.T, name string, data []byte) {
			result, err := Read(name, data, "", testSource, testNow)
			if err != nil {
				if !strings.Contains(err.Error(), name) {
					t.Errorf("error does not name the document: %v", err)
				}
				return
			}
			if len(result.Articles)+len(result.Problems) == 0 {
				t.Error("neither an article nor a problem")
			}
			checkArticles(t, result)
		})
	}
}

// checkArticles holds what is true of every article whatever it was read from.
func checkArticles(t *testing.T, result Result) {
	t.Helper()
	for _, a := range result.Articles {
		if a.Title == "" || !isHTTP(a.URL) || len(a.Keys()) == 0 && addressKey(a.URL) != "" {
			t.Errorf("article without title, address or key: %q %q", a.Title, a.URL)
		}
		for _, line := range append([]string{a.Title, a.Kicker, a.Teaser, a.Place, a.Agency, a.Author, a.GUID}, a.Categories...) {
			for _, r := range line {
				if unicode.IsControl(r) || r == '\u2028' || r >= 0x202A && r <= 0x202E || r == '\u200B' || r == '\uFEFF' {
					t.Errorf("%U in %q", r, line)
				}
			}
		}
		if strings.HasPrefix(a.Body, "# ") || strings.Contains(a.Body, "\n# ") && !strings.Contains(a.Body, "```") {
			t.Errorf("heading of level 1 in %q", a.URL)
		}
	}
}

func TestXMLBombs(t *testing.T) {
	documents(t, "xml-bombs", func(t *testing.T, name string, data []byte) {
		checkBomb(t, name, data)
		// The same declarations in a feed: the entities stay what they are, and no file is read.
		feed := `<rss version="2.0"><channel><item><title>Bombe &a; &ee;</title><link>https://a.example/1</link></item></channel></rss>`
		if i := strings.Index(string(data), "]>"); i >= 0 {
			result := checkBomb(t, name, append(data[:i+2:i+2], feed...))
			if len(result.Articles) != 1 || len(result.Articles[0].Title) > 40 {
				t.Errorf("articles = %.200v", result.Articles)
			}
		}
	})
}

func checkBomb(t *testing.T, name string, data []byte) Result {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	result, _ := Read(name, data, "", testSource, testNow)
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	if runtime.ReadMemStats(&after); after.TotalAlloc-before.TotalAlloc > 200<<20 {
		t.Errorf("allocated %d MB", (after.TotalAlloc-before.TotalAlloc)>>20)
	}
	return result
}

// Hostile strings as a feed's title: what comes out is one clean line, and nothing of it is lost but what cannot be seen.
func TestNaughtyStrings(t *testing.T) {
	var strs []string
	data, err := os.ReadFile(filepath.Join(fixtures(t, "naughty-strings"), "blns.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &strs); err != nil {
		t.Fatal(err)
	}
	for _, s := range strs {
		item, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		feed := fmt.Sprintf(`{"version": "https://jsonfeed.org/version/1.1", "title": "t", "items": [
			{"id": "1", "url": "https://a.example/1", "title": %s, "content_html": %[1]s, "summary": %[1]s}]}`, item)
		result, err := Read("feed.json", []byte(feed), "", testSource, testNow)
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		checkArticles(t, result)
		if len(result.Articles) == 0 && len(result.Problems) == 0 {
			t.Errorf("%q: dropped silently", s)
		}
		if len(result.Articles) == 1 && !strings.ContainsAny(s, "<&") && letters(clean(s)) != letters(result.Articles[0].Title) {
			t.Errorf("title %q, want %q", result.Articles[0].Title, s)
		}
	}
}

// Editors' newsletters: other front matter than ours is refused by name, ours on top of the same text is read.
func TestEditorsMarkdown(t *testing.T) {
	for _, folder := range []string{"md-codefor-de", "md-twir"} {
		documents(t, folder, func(t *testing.T, name string, data []byte) {
			if _, err := ReadMarkdown(name, strings.NewReader(string(data)), testSource, testNow); err != nil &&
				!strings.Contains(err.Error(), name) {
				t.Errorf("error does not name the file: %v", err)
			}
			_, body, err := splitFrontMatter(data)
			if err != nil {
				body = data
			}
			own := "---\nurl: https://a.example/1\ntitle: Titel\n---\n" + string(body)
			result, err := Read(name, []byte(own), "", testSource, testNow)
			if err != nil {
				t.Fatal(err)
			}
			checkArticles(t, result)
			if len(result.Articles[0].Body) < len(body)/2 {
				t.Errorf("body has %d of %d bytes", len(result.Articles[0].Body), len(body))
			}
		})
	}
}
