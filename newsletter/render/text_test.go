package render

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html/atom"
	"pgregory.net/rapid"
)

func TestPlain(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"Ein Titel", "Ein Titel"},
		{"  zwei \t\r\n Zeilen ", "zwei Zeilen"},
		{"Foo\r\nBcc: a@b.example", "Foo Bcc: a@b.example"},
		{"a\x00b\x1b[31mc\u0085d\u2028e", "ab[31mc d e"},
		{"10\u00a0000\u00a0Euro", "10\u00a0000\u00a0Euro"},
		{"gut\u202eneknurteb", "gutneknurteb"},
		{"\ufeffBOM", "BOM"},
		{"👨\u200d👩\u200d👧", "👨\u200d👩\u200d👧"},
		{"kaputt\xff", "kaputt\ufffd"},
		{UnsubscribeMark + "!", "Unsubscribe!"},
		{"Zq7v\u00adW3kXhT9rLb5NDay", "Day"},
		{"Zq7vW3kZq7vW3kXhT9rLb5NXhT9rLb5NDay", "Day"},
		{"Zq7vW3kXhT9rLb5N 0 Zq7vW3kXhT9rLb5N 1", "0 1"},
	} {
		if got := Plain(Text(c.in)); got != c.want {
			t.Errorf("Plain(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

func TestURL(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"https://example.org/a?b=c&d=e#f", "https://example.org/a?b=c&d=e#f"},
		{"http://example.org", "http://example.org"},
		{"HTTPS://Example.org/A", "https://example.org/A"},
		{"https://müller.example/straße?x=ä", "https://xn--mller-kva.example/stra%C3%9Fe?x=%C3%A4"},
		{"https://example.org/a b(c)[d]*e*", "https://example.org/a%20b%28c%29%5Bd%5D%2Ae%2A"},
		{"https://example.org/100%-neu?q=5%", "https://example.org/100%25-neu?q=5%25"},
		{"https://example.org/?a=1&copy;=2", "https://example.org/?a=1&copy%3B=2"},
		{"https://example.org//doppelt", "https://example.org//doppelt"},
		{"https://[2001:db8::1]:8080/x", "https://[2001:db8::1]:8080/x"},
		{"http://127.0.0.1:8080/x", "http://127.0.0.1:8080/x"},
		{"mailto:redaktion@example.org?subject=Hallo%20du", "mailto:redaktion@example.org?subject=Hallo%20du"},
		{"", ""},
		{"/relativ", ""},
		{"//example.org/x", ""},
		{"javascript:alert(1)", ""},
		{"java\tscript:alert(1)", ""},
		{"data:text/html,x", ""},
		{"https:example.org", ""},
		{"https://bank.example@evil.example/", ""},
		{"https://exa mple.org/", ""},
		{"mailto:", ""},
		{"https://example.org/\r\nBcc: x", ""},
		{"https://example.org/" + UnsubscribeMark, ""},
	} {
		if got := URL(c.in).String(); got != c.want {
			t.Errorf("URL(%q) = %q, want %q", c.in, got, c.want)
		}
		if again := URL(URL(c.in).String()).String(); again != c.want {
			t.Errorf("URL(%q) twice = %q, want %q", c.in, again, c.want)
		}
	}
}

// Every string a template can reach must have a type that escapes it.
func TestTemplateDataHasNoBareStrings(t *testing.T) {
	for _, data := range []any{entryData{}, topicData{}, digestData{}, letterData{}} {
		noBareStrings(t, reflect.TypeOf(data), reflect.TypeOf(data).Name())
	}
}

func noBareStrings(t *testing.T, typ reflect.Type, path string) {
	t.Helper()
	stringer := reflect.TypeFor[interface{ String() string }]()
	switch {
	case typ.Implements(stringer):
		noStringMethods(t, typ, path)
	case typ.Kind() == reflect.String:
		t.Errorf("%s is a %s, which no type escapes", path, typ)
	case typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice:
		noBareStrings(t, typ.Elem(), path)
	case typ.Kind() == reflect.Struct:
		for i := range typ.NumField() {
			if field := typ.Field(i); field.IsExported() {
				noBareStrings(t, field.Type, path+"."+field.Name)
			}
		}
	case typ.Kind() == reflect.Interface || typ.Kind() == reflect.Map:
		t.Errorf("%s is a %s: anything may be in it", path, typ)
	}
}

// noStringMethods refuses methods by which a template could get at the text unescaped.
func noStringMethods(t *testing.T, typ reflect.Type, path string) {
	t.Helper()
	for i := range typ.NumMethod() {
		m := typ.Method(i)
		if m.Name != "String" && m.Type.NumOut() > 0 && m.Type.Out(0) == reflect.TypeFor[string]() {
			t.Errorf("%s.%s returns a bare string", path, m.Name)
		}
	}
}

// An entry whose every text is s must show s, letter by letter, and hold no element or link that it does not hold anyway.
func checkEscaped(t interface {
	Fatal(...any)
	Errorf(string, ...any)
}, tmpl *Template, s string,
) {
	text := Text(s)
	if text.clean() == "" {
		return
	}
	e := Entry{
		Title: text, Kicker: text, Teaser: text, Place: text, Agency: text, Author: text,
		URL: "https://example.org/x", Published: time.Date(2026, 2, 10, 17, 41, 0, 0, time.UTC),
		Picture: &Picture{URL: "https://example.org/a.jpg", Alt: text, Caption: "c " + text, Credit: text},
	}
	f, err := tmpl.Entry(e)
	if err != nil {
		t.Fatal(err)
	}
	harmless := e
	harmless.Title, harmless.Kicker, harmless.Teaser, harmless.Place, harmless.Agency = "x", "x", "x", "x", "x"
	harmless.Author, harmless.Picture = "x", &Picture{URL: "https://example.org/a.jpg", Alt: "x", Caption: "c x", Credit: "x"}
	g, err := tmpl.Entry(harmless)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := shape(string(f.HTML)), shape(string(g.HTML)); got != want {
		t.Errorf("%q changes the elements:\n got %s\nwant %s", s, got, want)
	}
	root := parsedString("<table>" + string(f.HTML) + "</table>")
	want := Plain(text)
	for _, a := range []atom.Atom{atom.P, atom.H3} {
		if got := textOf(elements(root, a)[0]); got != want {
			t.Errorf("<%s> holds %q, want %q", a, got, want)
		}
	}
	if got := attr(elements(root, atom.Img)[0], "alt"); got != want {
		t.Errorf("alt = %q, want %q", got, want)
	}
	inText := squeezed(strings.ReplaceAll(want, softHyphen, ""))
	if got := squeezed(f.Text); strings.Count(got, inText) < 5 && inText != "" {
		t.Errorf("text part lacks %q:\n%s", inText, f.Text)
	}
}

// shape lists a page's elements and link targets, without its words.
func shape(fragment string) string {
	var b strings.Builder
	for n := range parsedString("<table>" + fragment + "</table>").Descendants() {
		if n.DataAtom != 0 {
			b.WriteString(n.Data + attr(n, "href") + attr(n, "src") + " ")
		}
	}
	return b.String()
}

var naughty = []string{
	"[x](http://evil.example)", "# laut", "1. eins", "- strich", "+ plus", "> zitat", "```", "`code`", "***", "---", "===", "a | b",
	"<b>fett</b>", "<script>alert(1)</script>", "&lt;b&gt; &amp;copy; &#35;", "http://evil.example", "www.evil.example",
	"ich@evil.example", "{{.Secret}}", "{% x %}", `\`, `\*`, `"Zitat" und 'einfach'`, "«Guillemets» ‹x›", "a -- b --- c ... d", "~~x~~",
	"[^1]", "[ ] offen", "[x] zu", "![Bild](x)", "*", "**", "_", "__x__", "=?utf-8?q?=0D=0ABcc?=", "Grüße", "Donau\u00addampf", "a\u00a0b",
	"<!--[if mso]>x<![endif]-->", "<!--reader-->", "]]>", "\u202egespiegelt", ":", "#", "###### x ######", "x\n===", "    eingerückt",
	bodyMark, pictureMark, UnsubscribeMark, "&nbsp;", "&zwnj;", "a\\\nb", "<https://evil.example>", "$x$", "^", "!", "'", "\"", "''", "(c)",
	"\u200b", "\u0301", "א ב ג", "مرحبا", "👩‍👩‍👧‍👦",
}

func TestTextIsEscaped(t *testing.T) {
	tmpl := mustParse(t, "de", Digest)
	for _, s := range naughty {
		checkEscaped(t, tmpl, s)
	}
}

func TestNaughtyStringsAreEscaped(t *testing.T) {
	folder := fixtures(t, "naughty-strings")
	content, err := os.ReadFile(filepath.Join(folder, "blns.txt"))
	if err != nil {
		t.Fatal(err)
	}
	tmpl := mustParse(t, "de", Digest)
	lines := strings.Split(string(content), "\n")
	for _, line := range lines {
		checkEscaped(t, tmpl, line)
	}
	t.Logf("%d strings", len(lines))
}

func TestRandomTextIsEscaped(t *testing.T) {
	tmpl := mustParse(t, "de", Digest)
	active := rapid.StringOfN(rapid.RuneFrom([]rune("ab1 \t\n\\`*_{}[]()<>#+-.!|~:&;@'\"/=^$äß«»\u00a0\u00ad\u200d")), 1, 40, -1)
	rapid.Check(t, func(r *rapid.T) {
		checkEscaped(r, tmpl, rapid.OneOf(active, rapid.String()).Draw(r, "text"))
	})
}

func FuzzText(f *testing.F) {
	for _, s := range naughty {
		f.Add(s)
	}
	tmpl := mustParse(f, "de", Digest)
	f.Fuzz(func(t *testing.T, s string) { checkEscaped(t, tmpl, s) })
}
