package render

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

func body(t testing.TB, markdown string) Fragment {
	t.Helper()
	return mustParse(t, "de", Digest).body(Markdown(markdown))
}

var looks = regexp.MustCompile(` (style|cellpadding|cellspacing|border|valign)="[^"]*"| width="100%"`)

// bare is HTML without its looks.
func bare(h string) string {
	return strings.ReplaceAll(looks.ReplaceAllString(h, ""), "\n", "")
}

func TestBody(t *testing.T) {
	for _, c := range []struct{ markdown, html, text string }{
		{"Ein *Wort* und **noch** eins.", "<p>Ein <em>Wort</em> und <strong>noch</strong> eins.</p>", "Ein Wort und noch eins."},
		{"eins\nzwei  \ndrei", "<p>eins zwei<br>drei</p>", "eins zwei\ndrei"},
		{"# A\n\n### B\n\n## C", "<h4>A</h4><h5>B</h5><h5>C</h5>", "A\n\nB\n\nC"},
		{"[hier](https://a.example/x_y)", `<p><a href="https://a.example/x_y">hier</a></p>`, "hier\n<https://a.example/x_y>"},
		{
			"Lesen Sie [hier](https://a.example/) mehr.", `<p>Lesen Sie <a href="https://a.example/">hier</a> mehr.</p>`,
			"Lesen Sie hier <https://a.example/> mehr.",
		},
		{"[relativ](/x) [böse](javascript:alert(1))", "<p>relativ böse</p>", "relativ böse"},
		{"[x](java&#115;cript:alert(1)) [y](  data:text/html,z)", "<p>x y</p>", "x y"},
		{"https://a.example/x?y=1", `<p><a href="https://a.example/x?y=1">https://a.example/x?y=1</a></p>`, "<https://a.example/x?y=1>"},
		{"ich@a.example", `<p><a href="mailto:ich@a.example">ich@a.example</a></p>`, "ich@a.example"},
		{"![Ein Bild](https://a.example/b.jpg)", `<p><a href="https://a.example/b.jpg">Bild: Ein Bild</a></p>`, "[Bild: Ein Bild] <https://a.example/b.jpg>"},
		{"![](b.jpg)", "<p>[Bild]</p>", "[Bild]"},
		{"- a\n- b\n  - c", "<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul>", "* a\n* b\n  * c"},
		{"3. a\n4. b", `<ol start="3"><li>a</li><li>b</li></ol>`, "3. a\n4. b"},
		{"- [x] ja\n- [ ] nein", "<ul><li>☑ ja</li><li>☐ nein</li></ul>", "* [x] ja\n* [ ] nein"},
		{
			"> a\n>\n> b", `<blockquote><table role="presentation"><tr><td><p>a</p><p>b</p></td></tr></table></blockquote>`,
			"> a\n>\n> b",
		},
		{"```go\nx := \"<a>\"\n```", "<pre>x := &#34;&lt;a&gt;&#34;</pre>", "    x := \"<a>\""},
		{"ein `<b>` Wort", "<p>ein <code>&lt;b&gt;</code> Wort</p>", "ein <b> Wort"},
		{"~~alt~~ neu", "<p><s>alt</s> neu</p>", "[gestrichen: alt] neu"},
		{"a\n\n---\n\nb", "<p>a</p><hr><p>b</p>", "a\n\n* * *\n\nb"},
		{
			"| A | B |\n|:-:|--:|\n| 1 | 22 |",
			`<table><tr><th scope="col" align="center">A</th><th scope="col" align="right">B</th></tr>` +
				`<tr><td align="center">1</td><td align="right">22</td></tr></table>`, "A   B\n-----\n1  22",
		},
		{"Text[^1].\n\n[^1]: Die Note.", "<p>Text<sup>[1]</sup>.</p><hr><p class=\"m\">[1] Die Note.</p>", "Text[1].\n\n[1] Die Note."},
		{"<script>alert(1)</script>", "", ""},
		{"<div>Ein <b>Wort</b></div>", "<p>Ein Wort</p>", "Ein Wort"},
		{`Im <a href="https://a.example/">Netz</a> da`, `<p>Im <a href="https://a.example/">Netz</a> da</p>`, "Im Netz <https://a.example/> da"},
		{`*x <a href="https://a.example/">y* z</a>`, `<p><em>x <a href="https://a.example/">y</a></em> z</p>`, "x y <https://a.example/> z"},
		{`a<br>b <img src=x onerror=alert(1)> c`, "<p>a<br>b  c</p>", "a\nb c"},
		{"„Zitat“ «x» \"y\" 'z' -- ...", "<p>„Zitat“ «x» &#34;y&#34; &#39;z&#39; -- ...</p>", "„Zitat“ «x» \"y\" 'z' -- ..."},
		{"Donau\u00addampf &amp; &auml; &#x202e;x", "<p>Donau\u00addampf &amp; ä x</p>", "Donaudampf & ä x"},
		{"offen\n\n```\nZaun", "<p>offen</p><pre>Zaun</pre>", "offen\n\n    Zaun"},
		{
			"[![Logo](https://a.example/l.png)](https://a.example/)", `<p><a href="https://a.example/">[Bild: Logo]</a></p>`,
			"[Bild: Logo]\n<https://a.example/>",
		},
	} {
		f := body(t, c.markdown)
		if got := bare(string(f.HTML)); got != c.html {
			t.Errorf("HTML of %q:\n got %s\nwant %s", c.markdown, got, c.html)
		}
		if f.Text != c.text {
			t.Errorf("text of %q:\n got %q\nwant %q", c.markdown, f.Text, c.text)
		}
	}
}

func TestWideTableBecomesRecords(t *testing.T) {
	long := strings.Repeat("sehr ", 13) + "lang"
	got := body(t, "| Name | Wert |\n|---|---|\n| a | "+long+" |\n| b | "+long+" |").Text
	want := "Name: a\nWert: sehr sehr sehr sehr sehr sehr sehr sehr sehr sehr sehr sehr sehr\nlang\n\n" +
		"Name: b\nWert: sehr sehr sehr sehr sehr sehr sehr sehr sehr sehr sehr sehr sehr\nlang"
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// An address is never broken, and whatever can be wrapped ends at column 72.
func TestWrapKeepsAddressesWhole(t *testing.T) {
	address := "https://a.example/" + strings.Repeat("lang/", 30)
	text := body(t, "Wir haben [einen sehr langen Namen für einen Verweis]("+address+") und danach noch einige Wörter mehr.").Text
	if !strings.Contains(text, "\n<"+address+">\n") {
		t.Errorf("address is not on a line of its own:\n%s", text)
	}
	for line := range strings.SplitSeq(text, "\n") {
		if len([]rune(line)) > columns && !strings.Contains(line, address) {
			t.Errorf("line of %d characters: %s", len([]rune(line)), line)
		}
	}
}

// The template's own quotes are set as the language does; an article's are its agency's.
func TestQuotes(t *testing.T) {
	for _, c := range []struct {
		language   Lang
		text, want string
	}{
		{"de", `"Das ist 'einfach' so", geht's -- ...`, "„Das ist ‚einfach‘ so“, geht’s – …"},
		{"de", `'net' und 'tief'`, "‚net‘ und ‚tief‘"},
		{"en", `"It's 'easy'," she said`, "“It’s ‘easy’,” she said"},
	} {
		d := parse(templateParser(wordsOf(c.language)), c.text)
		w := plainWriter{document: d, part: entry}
		if got := w.render(); got != c.want {
			t.Errorf("%s: %q = %q, want %q", c.language, c.text, got, c.want)
		}
	}
}

// Editors' real newsletters: every visible word and every link is in both parts, the outline is monotone, and nothing is
// in the HTML that a mail client trips over.
func TestRealMarkdown(t *testing.T) {
	for _, name := range []string{"md-codefor-de", "md-twir"} {
		files := markdownFiles(t, fixtures(t, name))
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			checkBody(t, filepath.Base(file), withoutFrontMatter(string(content)))
		}
	}
}

func markdownFiles(t *testing.T, folder string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".md" || filepath.Ext(path) == ".markdown" {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("no Markdown in %s: %v", folder, err)
	}
	return files
}

func withoutFrontMatter(s string) string {
	if rest, found := strings.CutPrefix(s, "---\n"); found {
		_, s, _ = strings.Cut(rest, "\n---\n")
	}
	return s
}

var (
	markup = regexp.MustCompile(`<[^>]*>|\]\([^)]*\)|\]\[[^\]]*\]|(?m)^\s*\[[^\]]+\]:.*$|https?://\S+|\S+@\S+|&\w+;`)
	word   = regexp.MustCompile(`\p{L}{3,}`)
	target = regexp.MustCompile(`\]\((https://[^\s()"'<>\\*;\[\]]+)\)`)
)

func checkBody(t *testing.T, name, markdown string) {
	t.Helper()
	f := body(t, markdown)
	root := parsed(t, string(f.HTML))
	shown := textOf(root)
	text := strings.ReplaceAll(f.Text, "\n", " ")
	for _, w := range word.FindAllString(markup.ReplaceAllString(markdown, " "), -1) {
		if !strings.Contains(shown, w) {
			t.Errorf("%s: HTML lacks the word %q", name, w)
		}
		if !strings.Contains(text, w) {
			t.Errorf("%s: text lacks the word %q", name, w)
		}
	}
	links := hrefs(root)
	for _, m := range target.FindAllStringSubmatch(markdown, -1) {
		if want := URL(m[1]).String(); !slices.Contains(links, want) || !strings.Contains(f.Text, "<"+want+">") {
			t.Errorf("%s: link %s is lost", name, m[1])
		}
	}
	checkOutline(t, name, root)
	for _, finding := range Lint(Body{HTML: string(f.HTML)}) {
		if !strings.Contains(finding, "not https") && !strings.Contains(finding, "two links") && !strings.Contains(finding, "bytes") {
			t.Errorf("%s: %s", name, finding)
		}
	}
}

func hrefs(root *html.Node) []string {
	var all []string
	for _, a := range elements(root, atom.A) {
		all = append(all, attr(a, "href"))
	}
	return all
}

func checkOutline(t *testing.T, name string, root *html.Node) {
	t.Helper()
	level := 3
	for n := range root.Descendants() {
		if len(n.Data) == 2 && n.Data[0] == 'h' && n.Data[1] >= '1' && n.Data[1] <= '6' {
			next := int(n.Data[1] - '0')
			if next > level+1 || next < 4 {
				t.Errorf("%s: <h%d> follows <h%d>", name, next, level)
			}
			level = next
		}
	}
}

func FuzzBody(f *testing.F) {
	for _, s := range naughty {
		f.Add(s)
	}
	f.Add("> > > - 1. a\n```\n<a href='https://a.example'>x *y</a>*\n\n| a |\n|-|\n<div><p>x</div>")
	tmpl := mustParse(f, "de", Digest)
	allowed := regexp.MustCompile(`^(html|head|body|p|h[4-6]|ul|ol|li|blockquote|table|tbody|tr|td|th|pre|code|hr|a|em|strong|s|br|sup)$`)
	f.Fuzz(func(t *testing.T, s string) {
		fragment, err := tmpl.Entry(Entry{Title: "x", Body: Markdown(s)})
		if err != nil {
			t.Fatal(err)
		}
		_, inner, _ := strings.Cut(string(fragment.HTML), "</h3>")
		inner = strings.TrimSuffix(inner, "</td></tr>\n")
		for n := range parsedString(inner).Descendants() {
			if n.Type == html.ElementNode && !allowed.MatchString(n.Data) {
				t.Errorf("<%s> from %q", n.Data, s)
			}
			if n.Type == html.CommentNode {
				t.Errorf("comment from %q", s)
			}
			if n.DataAtom == atom.A && URL(attr(n, "href")).String() != attr(n, "href") {
				t.Errorf("link to %q from %q", attr(n, "href"), s)
			}
		}
		if strings.Contains(string(fragment.HTML)+fragment.Text, stem) {
			t.Errorf("placeholder from %q", s)
		}
	})
}
