package ingest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"
)

// frontMatter is what an editor may write at the head of a Markdown file, between two lines of three dashes.
type frontMatter struct {
	ID        string   `yaml:"id"`        // identity; without it the url is
	URL       string   `yaml:"url"`       // required; http or https
	Title     string   `yaml:"title"`     // required, unless the text begins with a "# headline"
	Kicker    string   `yaml:"kicker"`    // Dachzeile
	Teaser    string   `yaml:"teaser"`    // standfirst
	Topics    []string `yaml:"topics"`    // names or aliases of topics
	Language  string   `yaml:"language"`  // BCP 47
	Place     string   `yaml:"place"`     // of the dateline
	Agency    string   `yaml:"agency"`    // dpa, AFP …
	Author    string   `yaml:"author"`    //
	Picture   *picture `yaml:"picture"`   //
	Published string   `yaml:"published"` // RFC 3339, or 2006-01-02 15:04 in the source's zone
	Updated   string   `yaml:"updated"`   // likewise
	Embargo   string   `yaml:"embargo"`   // likewise; what cannot be read withholds the article
	Urgency   int      `yaml:"urgency"`   // 1 (most urgent) … 8
	Version   int64    `yaml:"version"`   // a higher one replaces a lower one
	Status    string   `yaml:"status"`    // usable, withheld or canceled
}

type picture struct {
	URL     string `yaml:"url"`
	Alt     string `yaml:"alt"`
	Caption string `yaml:"caption"`
	Credit  string `yaml:"credit"`
}

// ReadMarkdown reads an article from a Markdown file with front matter. Unknown keys, wrong types and dates that cannot be
// read are errors that name file, line and key; an embargo that cannot be read withholds the article. A publication date
// in the future is taken for an embargo: an editor who writes one means it. Raw HTML in the text is dropped, and headings
// begin at level 2.
func ReadMarkdown(name string, r io.Reader, src Source, now time.Time) (Article, error) {
	data, err := readAll(name, r)
	if err != nil {
		return Article{}, err
	}
	source, err := decode(data, "")
	if err != nil {
		return Article{}, fmt.Errorf("read %s: %w", name, err)
	}
	d, err := readMarkdown(name, source, src, now)
	if err != nil {
		return Article{}, err
	}
	return d.Article, nil
}

func readMarkdown(name string, source []byte, src Source, now time.Time) (*draft, error) {
	head, body, err := splitFrontMatter(source)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	f := file{name: name, head: head, draft: newDraft(name, src, now)}
	if err := yaml.UnmarshalWithOptions(head, &f.front, yaml.Strict()); err != nil {
		return nil, f.yamlError(err)
	}
	if err := f.fill(); err != nil {
		return nil, err
	}
	title, text := cleanMarkdown(body, f.Title)
	f.Title, f.Body = first(f.Title, oneLine(title)), text
	if f.Title == "" {
		return nil, fmt.Errorf("%s: no title, expected the key title or a first line \"# Headline\"", name)
	}
	f.takeDateline()
	return f.draft, nil
}

var frontMatterEnd = regexp.MustCompile(`(?m)^(?:---|\.\.\.)[ \t]*(?:\n|\z)`)

// splitFrontMatter returns the lines between the dashes, and what follows them.
func splitFrontMatter(source []byte) (head, body []byte, err error) {
	source = bytes.ReplaceAll(source, []byte("\r\n"), []byte("\n"))
	rest, ok := bytes.CutPrefix(source, []byte("---\n"))
	if !ok {
		return nil, source, errors.New("line 1: no front matter, expected a line of three dashes")
	}
	end := frontMatterEnd.FindIndex(rest)
	if end == nil {
		return nil, nil, errors.New("line 1: front matter does not end, expected a second line of three dashes")
	}
	return rest[:end[0]], rest[end[1]:], nil
}

// file is a Markdown file on its way to an article.
type file struct {
	*draft
	name  string
	head  []byte
	front frontMatter
}

// yamlError names file, line and what is wrong, in one line; the library's own text draws the source.
func (f *file) yamlError(err error) error {
	var detailed interface {
		GetToken() *token.Token
		GetMessage() string
	}
	if !errors.As(err, &detailed) || detailed.GetToken() == nil || detailed.GetToken().Position == nil {
		return fmt.Errorf("%s: front matter: %w", f.name, err)
	}
	at := detailed.GetToken().Position
	message := oneLine(detailed.GetMessage())
	if strings.HasPrefix(message, "unknown field") {
		message = fmt.Sprintf("unknown key %s, expected one of %s", quoted(detailed.GetToken().Value), f.keys(at.Column > 1))
	}
	if key := f.keyAt(at.Line); key != "" && !strings.HasPrefix(message, "unknown key") {
		message = key + ": " + typeWords.Replace(message)
	}
	return fmt.Errorf("%s:%d:%d: %s", f.name, at.Line+1, at.Column, message)
}

// typeWords turn the library's words, which are Go's, into an editor's.
var typeWords = strings.NewReplacer("cannot unmarshal ", "", "[]string", "list", "[]interface {}", "list", "ingest.picture", "map",
	"map[string]interface {}", "map", " into Go value of type ", " found, expected ", " into Go struct field frontMatter.", " found for ",
	" of type ", ", expected ", "int64", "number", "uint64", "number", "int", "number")

func (f *file) keys(inPicture bool) string {
	if inPicture {
		return "url, alt, caption, credit"
	}
	return "id, url, title, kicker, teaser, topics, language, place, agency, author, picture, published, updated, embargo, " +
		"urgency, version, status"
}

var keyLine = regexp.MustCompile(`^[ \t]*([A-Za-z_]+)[ \t]*:`)

// keyAt is the key on a line of the front matter, or on the next one above that has one.
func (f *file) keyAt(line int) string {
	lines := bytes.Split(f.head, []byte("\n"))
	for i := min(line, len(lines)) - 1; i >= 0; i-- {
		if m := keyLine.FindSubmatch(lines[i]); m != nil {
			return string(m[1])
		}
	}
	return ""
}

// wrong is an error about the value of a key, with its line.
func (f *file) wrong(key, format string, args ...any) error {
	line := 1
	if tree, err := parser.ParseBytes(f.head, 0); err == nil {
		if at, err := yaml.PathString("$." + key); err == nil {
			if node, err := at.FilterFile(tree); err == nil && node != nil {
				line = node.GetToken().Position.Line + 1
			}
		}
	}
	return fmt.Errorf("%s:%d: %s: %w", f.name, line, key, fmt.Errorf(format, args...))
}

// fill takes the front matter over into the article. Editors write plain text, so a "<" in it is one.
func (f *file) fill() error {
	m := f.front
	link, err := canonical(m.URL, nil)
	if err != nil && m.URL == "" {
		return fmt.Errorf("%s: no url, expected the article's address, beginning with https://", f.name)
	} else if err != nil {
		return f.wrong("url", "%w, expected an address beginning with https://", err)
	}
	f.URL, f.GUID, f.Version = link, oneLine(m.ID), m.Version
	f.Title, f.Kicker, f.Teaser = oneLine(m.Title), oneLine(m.Kicker), oneLine(m.Teaser)
	f.Place, f.Agency, f.Author = oneLine(m.Place), oneLine(m.Agency), oneLine(m.Author)
	for _, t := range m.Topics {
		if t = oneLine(t); t != "" && t != f.Kicker && !slices.Contains(f.Categories, t) {
			f.Categories = append(f.Categories, t)
		}
	}
	if m.Language != "" {
		if f.Language = languageTag(m.Language); f.Language == "" {
			return f.wrong("language", "%s, expected a language tag such as de", quoted(m.Language))
		}
	}
	if m.Urgency < 0 || m.Urgency > 8 {
		return f.wrong("urgency", "%d, expected 1 to 8", m.Urgency)
	}
	if m.Version < 0 {
		return f.wrong("version", "%d, expected a number from 1", m.Version)
	}
	f.Urgency = m.Urgency
	status, ok := statusOf(m.Status)
	if f.Status = status; !ok {
		return f.wrong("status", "%s, expected usable, withheld or canceled", quoted(m.Status))
	}
	if err := f.fillPicture(); err != nil {
		return err
	}
	return f.fillDates()
}

func (f *file) fillPicture() error {
	p := f.front.Picture
	if p == nil {
		return nil
	}
	base, _ := parseAddress(f.URL, nil)
	address := absolute(p.URL, base)
	if p.URL == "" || address == "" {
		return f.wrong("picture", "url %s, expected an address beginning with https://", quoted(p.URL))
	}
	f.Picture = &Picture{
		URL: address, Alt: oneLine(p.Alt), Caption: oneLine(p.Caption), Credit: creditText(oneLine(p.Credit)),
	}
	return nil
}

func (f *file) fillDates() error {
	m := f.front
	for _, d := range []struct {
		key, value string
		to         *time.Time
	}{{"published", m.Published, &f.Published}, {"updated", m.Updated, &f.Updated}} {
		if strings.TrimSpace(d.value) == "" {
			continue
		}
		t, err := parseDate(d.value, f.loc)
		if err != nil {
			return f.wrong(d.key, "%w", err)
		}
		*d.to = t
	}
	f.embargo(m.Embargo)
	if f.Embargo.IsZero() && f.Published.After(f.now) {
		f.Embargo = f.Published
		f.doubt("published %s lies in the future; taken for an embargo", f.Published.Format(time.RFC3339))
	}
	return nil
}

// markdownParser reads what bodies are written in: CommonMark with tables and strikethrough.
var markdownParser = goldmark.New(goldmark.WithExtensions(extension.Table, extension.Strikethrough)).Parser()

// edit replaces a piece of a source.
type edit struct {
	from, to int
	with     string
}

// cleanMarkdown returns an editor's text without raw HTML and with headings from level 2, as it was written otherwise. A
// first heading of level 1 is the title, and returned beside it; one that says what title says is dropped.
func cleanMarkdown(source []byte, title string) (headline, body string) {
	source = []byte(clean(string(source)))
	for range 5 { // what is cut out may leave a new tag: <<b>script>
		edits := rawHTML(source)
		if len(edits) == 0 {
			break
		}
		source = gap.ReplaceAll(apply(source, edits), []byte("\n\n"))
	}
	doc := markdownParser.Parse(text.NewReader(source))
	var edits []edit
	if h, ok := doc.FirstChild().(*ast.Heading); ok {
		says := inlineText(h, source)
		if from, to, ok := headingLines(h, source); ok && (sameText(says, title) || title == "" && h.Level == 1) {
			headline = says
			edits = append(edits, edit{from, to, ""})
		}
	}
	edits = append(edits, demotions(doc, source, len(edits) > 0)...)
	return headline, strings.TrimSpace(string(apply(source, edits)))
}

var gap = regexp.MustCompile(`\n(?:[ \t]*\n){2,}`)

// apply makes the edits, which do not overlap.
func apply(source []byte, edits []edit) []byte {
	slices.SortFunc(edits, func(a, b edit) int { return cmp.Compare(a.from, b.from) })
	var out []byte
	done := 0
	for _, e := range edits {
		if e.from < done {
			continue
		}
		out = append(append(out, source[done:e.from]...), e.with...)
		done = e.to
	}
	return append(out, source[done:]...)
}

// rawHTML finds the HTML in Markdown. Comments and blocks go whole; of <b>bold</b> the tags go and the word stays.
func rawHTML(source []byte) []edit {
	var edits []edit
	cut := func(s text.Segment) { edits = append(edits, edit{s.Start, s.Stop, ""}) }
	_ = ast.Walk(markdownParser.Parse(text.NewReader(source)), func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		switch n := n.(type) {
		case *ast.HTMLBlock:
			if entering {
				for i := range n.Lines().Len() {
					cut(n.Lines().At(i))
				}
				if n.HasClosure() {
					cut(n.ClosureLine)
				}
			}
		case *ast.RawHTML:
			if entering {
				for i := range n.Segments.Len() {
					cut(n.Segments.At(i))
				}
			}
		}
		return ast.WalkContinue, nil
	})
	return edits
}

// demotions move every heading one level down, if one of them is of level 1.
func demotions(doc ast.Node, source []byte, withoutFirst bool) []edit {
	var headings []*ast.Heading
	_ = ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if h, ok := n.(*ast.Heading); ok && entering {
			headings = append(headings, h)
		}
		return ast.WalkContinue, nil
	})
	if withoutFirst {
		headings = headings[1:]
	}
	if !slices.ContainsFunc(headings, func(h *ast.Heading) bool { return h.Level == 1 }) {
		return nil
	}
	var edits []edit
	for _, h := range headings {
		from, to, ok := headingLines(h, source)
		if !ok {
			continue
		}
		marks := strings.Repeat("#", min(h.Level+1, 6))
		edits = append(edits, edit{from, to, marks + " " + string(headingSource(h, source)) + "\n"})
	}
	return edits
}

// headingSource is what a heading says, in Markdown, on one line.
func headingSource(h *ast.Heading, source []byte) []byte {
	var words [][]byte
	for i := range h.Lines().Len() {
		line := h.Lines().At(i)
		words = append(words, bytes.TrimSpace(line.Value(source)))
	}
	return bytes.Join(words, []byte(" "))
}

var underline = regexp.MustCompile(`^[ \t>]*(?:=+|-+)[ \t]*(?:\n|\z)`)

// headingLines are the bounds of a heading in its source, from its first mark to the end of its last line, be it written
// with # or underlined. An empty heading has none.
func headingLines(h *ast.Heading, source []byte) (from, to int, ok bool) {
	if h.Lines().Len() == 0 {
		return 0, 0, false
	}
	from, to = h.Lines().At(0).Start, h.Lines().At(h.Lines().Len()-1).Stop
	start := bytes.LastIndexByte(source[:from], '\n') + 1
	if mark := bytes.IndexByte(source[start:from], '#'); mark >= 0 {
		return start + mark, endOfLine(source, to), true
	}
	to = endOfLine(source, to)
	if m := underline.FindIndex(source[to:]); m != nil {
		to += m[1]
	}
	return from, to, true
}

// endOfLine is where the line ends that i is in, or that ended right before i.
func endOfLine(source []byte, i int) int {
	if i > 0 && source[i-1] == '\n' {
		return i
	}
	if n := bytes.IndexByte(source[i:], '\n'); n >= 0 {
		return i + n + 1
	}
	return len(source)
}

// inlineText is what a reader sees of a node, on one line.
func inlineText(n ast.Node, source []byte) string {
	var b strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		switch n := n.(type) {
		case *ast.Text:
			if entering {
				b.Write(unescape(n, source))
				if n.SoftLineBreak() || n.HardLineBreak() {
					b.WriteByte(' ')
				}
			}
		case *ast.AutoLink:
			if entering {
				b.Write(n.Label(source))
			}
		}
		return ast.WalkContinue, nil
	})
	return plain(b.String())
}

var escaped = regexp.MustCompile("\\\\([!-/:-@\\[-`{-~])")

// unescape is a text without Markdown's backslashes; in code they stay.
func unescape(n *ast.Text, source []byte) []byte {
	if _, code := n.Parent().(*ast.CodeSpan); code {
		return n.Value(source)
	}
	return escaped.ReplaceAll(n.Value(source), []byte("$1"))
}

// markdownText is Markdown as plain text on one line.
func markdownText(source string) string {
	return inlineText(markdownParser.Parse(text.NewReader([]byte(source))), []byte(source))
}
