package render

import (
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/net/html/atom"
)

func TestTemplatesParse(t *testing.T) {
	for _, language := range []string{"de", "en"} {
		for _, name := range []string{Digest, "confirm", "change", "link", "data"} {
			mustParse(t, language, name)
		}
	}
}

func TestLoadNamesTheFile(t *testing.T) {
	_, err := Load(fstest.MapFS{}, "de", "confirm")
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "mail/de/confirm.md") {
		t.Errorf("Load of a missing file: %v", err)
	}
	for _, name := range []string{"../x", `..\x`, "a/b"} {
		if _, err := Load(folder, "de", name); err == nil {
			t.Errorf("Load(%q) succeeds", name)
		}
	}
}

// A template that would fail at six in the morning fails when it is loaded, and the message says where.
func TestParseNamesFileAndLine(t *testing.T) {
	source, err := Load(folder, "de", Digest)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, old, new, want string }{
		{"syntax", "## {{.Name}}", "## {{.Name", "mail/de/digest.md:1"},
		{"unknown field", "## {{.Name}}", "## {{.Nmae}}", `mail/de/digest.md:17:5: executing "topic" at <.Nmae>`},
		{"unknown field in a branch", "{{with .Correction}}{{.}}", "{{with .Correction}}{{.Nope}}", "mail/de/digest.md:25:22"},
		{"unknown function", "{{.Name}}", "{{upper .Name}}", `mail/de/digest.md:17: function "upper" not defined`},
		{"missing block", `{{define "closing"}}`, `{{define "end"}}`, `mail/de/digest.md: no {{define "closing"}}`},
		{"no unsubscribe link", "{{.Unsubscribe}}", "https://a.example", "mail/de/digest.md: the unsubscribe link is missing"},
		{"no publisher", "{{.Brand.Publisher}}", "", "mail/de/digest.md: the publisher is missing"},
		{"no responsible person", "{{.Brand.Responsible}}", "", "§ 18 Abs. 2 MStV) is missing"},
	} {
		broken := source
		broken.Text = strings.Replace(source.Text, c.old, c.new, 1)
		if broken.Text == source.Text {
			t.Fatalf("%s: %q is not in the template", c.name, c.old)
		}
		if _, err := Parse(broken); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Parse = %v, want %q in it", c.name, err, c.want)
		}
	}
	source.Frame = strings.Replace(source.Frame, "{{.Rows -}}", "{{.Nope -}}", 1)
	if _, err := Parse(source); err == nil || !strings.Contains(err.Error(), "mail/frame.html:") {
		t.Errorf("broken frame: Parse = %v", err)
	}
}

// What a digest freezes must come back from a database as it was.
func TestFrozenThingsAreJSON(t *testing.T) {
	source, err := Load(folder, "de", Digest)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := mustParse(t, "de", Digest)
	fragment, err := tmpl.Entry(germanEntries[0].entries[0])
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, source)
	roundTrip(t, fragment)
	roundTrip(t, brand)
	roundTrip(t, Newsletter{Title: "T", BaseURL: "https://a.example"})
}

func roundTrip[T comparable](t *testing.T, value T) {
	t.Helper()
	encoded, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var back T
	if err := json.Unmarshal(encoded, &back); err != nil {
		t.Fatal(err)
	}
	if back != value {
		t.Errorf("%T comes back from JSON as %v", value, back)
	}
}

func TestEntryWithoutTitle(t *testing.T) {
	if _, err := mustParse(t, "de", Digest).Entry(Entry{Title: " \u202e\n"}); !errors.Is(err, errNoTitle) {
		t.Errorf("Entry = %v, want %v", err, errNoTitle)
	}
}

func TestPicture(t *testing.T) {
	tmpl := mustParse(t, "de", Digest)
	full := Picture{URL: "https://a.example/b.jpg", Alt: "Ein Haus", Caption: "Das Haus (Archivbild)", Credit: "Jo/dpa", Width: 300}
	for _, c := range []struct {
		name       string
		change     func(*Picture)
		html, text string
	}{
		{
			"all", func(*Picture) {}, `<img src="https://a.example/b.jpg" alt="Ein Haus" width="300">` +
				`<p class="m">Das Haus (Archivbild) · Foto: Jo/dpa</p>`, "[Bild: Ein Haus, Foto: Jo/dpa]\nDas Haus (Archivbild)",
		},
		{
			"not copied", func(p *Picture) { p.URL = "" }, `<p class="m">Das Haus (Archivbild) · Foto: Jo/dpa</p>`,
			"[Bild: Ein Haus, Foto: Jo/dpa]\nDas Haus (Archivbild)",
		},
		{
			"caption is alt", func(p *Picture) { p.Alt = p.Caption }, `<img src="https://a.example/b.jpg" alt="" width="300">` +
				`<p class="m">Das Haus (Archivbild) · Foto: Jo/dpa</p>`, "[Bild: Das Haus (Archivbild), Foto: Jo/dpa]",
		},
		{
			"bare and wide", func(p *Picture) { *p = Picture{URL: p.URL, Width: 4000} },
			`<img src="https://a.example/b.jpg" alt="" width="544">`, "[Bild]",
		},
		{"nothing", func(p *Picture) { *p = Picture{} }, "", ""},
	} {
		p := full
		c.change(&p)
		f := tmpl.picture(&p)
		got := strings.ReplaceAll(looks.ReplaceAllString(string(f.HTML), ""), "\n", "")
		if got != c.html || f.Text != c.text {
			t.Errorf("%s:\n got %s\n     %q\nwant %s\n     %q", c.name, got, f.Text, c.html, c.text)
		}
	}
}

func TestDigestPage(t *testing.T) {
	tmpl := mustParse(t, "de", Digest)
	b := mustVariant(t, tmpl, germanVariant(t, tmpl))
	root := parsed(t, b.HTML)
	if got := []rune(squeezed(textOf(root))); !strings.Contains(string(got[:120]), string(germanEntries[0].entries[0].Title)) {
		t.Errorf("a mailbox will preview %q, not the lead headline", string(got[:120]))
	}
	if title := elements(root, atom.Title)[0]; title.FirstChild.Data != b.Subject {
		t.Errorf("<title> = %q, subject %q", title.FirstChild.Data, b.Subject)
	}
	for _, a := range []atom.Atom{atom.Html, atom.Body, atom.Table} {
		if n := elements(root, a)[0]; attr(n, "lang") != "de" || attr(n, "dir") != "ltr" {
			t.Errorf("<%s> has no lang or dir", a)
		}
	}
	if n := len(elements(root, atom.H1)); n != 1 {
		t.Errorf("%d h1", n)
	}
	for _, table := range elements(root, atom.Table) {
		isData := attr(table, "role") == ""
		if hasHeadings := len(elements(table, atom.Th)) > 0; isData && !hasHeadings {
			t.Error("a layout table has no role=presentation")
		}
	}
	if !strings.Contains(b.HTML, `<td lang="ar" dir="rtl"`) {
		t.Error("the Arabic entry's cell names no language")
	}
	for _, word := range []string{"display:none", "font-size:0", "&#847;", "&zwnj;", "opacity:0"} {
		if strings.Contains(b.HTML, word) {
			t.Errorf("HTML hides something: %s", word)
		}
	}
	for _, want := range []string{UnsubscribeMark, PreferencesMark, "Impressum", "Datenschutz", "§ 18 Abs. 2 MStV", "Katrin Lehmann"} {
		if !strings.Contains(b.HTML, want) || !strings.Contains(b.Text, want) {
			t.Errorf("a part lacks %q", want)
		}
	}
}

func TestWebPageIsNobodysOwn(t *testing.T) {
	tmpl := mustParse(t, "de", Digest)
	b := mustVariant(t, tmpl, germanVariant(t, tmpl))
	page := b.Web()
	for _, word := range []string{stem, "abbestellen", "Sie erhalten", "/u/", "/p/", "reader"} {
		if strings.Contains(page, word) {
			t.Errorf("web page holds %q", word)
		}
	}
	for _, word := range []string{`<meta name="robots" content="noindex">`, "Impressum", "Elbbrücke"} {
		if !strings.Contains(page, word) {
			t.Errorf("web page lacks %q", word)
		}
	}
}

// An article cannot pass itself off as a reader's line, nor cut the page by pretending to be its end.
func TestArticleCannotForgePersonalLines(t *testing.T) {
	tmpl := mustParse(t, "de", Digest)
	forged := "Zq7v**W3k**XhT9rLb5NUnsubscribe <!--reader-->weg<!--/reader--> Zq7v&shy;W3kXhT9rLb5NDay\n\n<!--reader-->"
	f, err := tmpl.Entry(Entry{Title: "x", Body: Markdown(forged)})
	if err != nil {
		t.Fatal(err)
	}
	if all := string(f.HTML) + f.Text; strings.Contains(all, stem) || strings.Contains(all, "reader-->") && !strings.Contains(all, "&gt;") {
		t.Errorf("forged:\n%s", all)
	}
	if !strings.Contains(string(f.HTML), "weg") {
		t.Errorf("the word between the comments is lost:\n%s", f.HTML)
	}
}

func TestPlurals(t *testing.T) {
	for _, c := range []struct {
		language string
		count    int
		want     string
	}{
		{"de", 1, "Mittwoch, 11. Februar 2026 · 1 Meldung:"},
		{"de", 2, "Mittwoch, 11. Februar 2026 · 2 Meldungen:"},
		{"en", 1, "Wednesday, 11 February 2026 · 1 story:"},
		{"en", 2, "Wednesday, 11 February 2026 · 2 stories:"},
	} {
		tmpl := mustParse(t, c.language, Digest)
		v := germanVariant(t, tmpl)
		v.Count = c.count
		if b := mustVariant(t, tmpl, v); !strings.Contains(b.Text, c.want) || !strings.Contains(b.HTML, c.want) {
			t.Errorf("%s, %d: no %q in\n%s", c.language, c.count, c.want, b.Text[:600])
		}
	}
}

// A long digest does not begin with all its headlines.
func TestOpeningNamesFewHeadlines(t *testing.T) {
	tmpl := mustParse(t, "de", Digest)
	v := germanVariant(t, tmpl)
	v.Headlines = []Text{"Eins", "Zwei", " ", "Drei", "Vier", "Fünf"}
	b := mustVariant(t, tmpl, v)
	if want := "Heute: Eins · Zwei · Drei · Vier\n"; !strings.HasPrefix(b.Text, want) {
		t.Errorf("opening is %q, want %q", b.Text[:60], want)
	}
}

func TestMomentIsPrintedInItsZone(t *testing.T) {
	at := time.Date(2026, 7, 1, 22, 30, 0, 0, time.UTC)
	for _, c := range []struct {
		language Lang
		want     string
	}{{"de", "2. Juli 2026, 00:30 Uhr"}, {"en", "2 July 2026, 00:30"}} {
		if got := (moment{at.In(berlin), localeOf(c.language)}).String(); got != c.want {
			t.Errorf("%s: %q, want %q", c.language, got, c.want)
		}
	}
}
