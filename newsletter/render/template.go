// Package render turns articles into mail: an entry is rendered and encoded once per article, a message is put together once
// per set of topics (a variant) from what all variants share, and a reader's own message is then only a copy with a few
// values put in.
//
//	Entry ─► Fragment ─┐
//	Topic ─► Fragment ─┴► Variant ─► Press ─► Message ─► Splice, once per reader
//	                                   └────► Body, to look at
//	Letter ─► Body ─► Build ─► Message
//
// Templates are Markdown executed by text/template; whatever comes from outside is escaped by its type (Text, URL,
// Markdown), so a template holds no bare strings. The HTML part and the text part are rendered from the same tree.
// Nothing here knows a database, a clock or a network, and the same input gives the same bytes in every process.
package render

import (
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io/fs"
	"path"
	"strings"
	"text/template"

	"github.com/gohugoio/locales"
	"github.com/yuin/goldmark/parser"
)

// Digest is the name of the template of digests; every other name is a letter's.
const Digest = "digest"

// Source is a template's text as it was when a digest was frozen; with it a digest renders the same for ever.
type Source struct {
	Language string // de, en
	Name     string // digest, confirm, change, link
	Text     string // Markdown with the template's blocks
	Frame    string // the HTML around it
}

func (s Source) path() string { return path.Join("mail", s.Language, s.Name+".md") }

func (s Source) framePath() string {
	if s.Name == Digest {
		return "mail/frame.html"
	}
	return "mail/letter.html"
}

// Load reads mail/<language>/<name>.md and the frame it stands in: mail/frame.html for the digest, mail/letter.html for
// letters.
func Load(fsys fs.FS, language, name string) (Source, error) {
	s := Source{Language: language, Name: name}
	if Lang(language).String() == "" || strings.ContainsAny(name, `/\`) {
		return Source{}, fmt.Errorf("loading template %q in language %q: no such name", name, language)
	}
	text, err := fs.ReadFile(fsys, s.path())
	if err != nil {
		return Source{}, fmt.Errorf("loading template: %w", err)
	}
	frame, err := fs.ReadFile(fsys, s.framePath())
	if err != nil {
		return Source{}, fmt.Errorf("loading template: %w", err)
	}
	s.Text, s.Frame = string(text), string(frame)
	return s, nil
}

// Template renders entries, digests and letters. It may be used by several goroutines.
type Template struct {
	source   Source
	language Lang
	words    words
	locale   locales.Translator
	blocks   *template.Template
	frame    *htmltemplate.Template
	own      parser.Parser // the template's text
	article  parser.Parser // an article's body
}

// Parse prepares a template and executes every block with sample data, so that a template that would fail fails here. Its
// errors name file and line.
func Parse(s Source) (*Template, error) {
	language := Lang(s.Language)
	t := &Template{
		source: s, language: language, words: wordsOf(language), locale: localeOf(language),
		own: templateParser(wordsOf(language)), article: articleParser(),
	}
	var err error
	if t.blocks, err = template.New(s.path()).Parse(s.Text); err != nil {
		return nil, fmt.Errorf("parsing %w", err)
	}
	if t.frame, err = htmltemplate.New(s.framePath()).Parse(s.Frame); err != nil {
		return nil, fmt.Errorf("parsing %w", err)
	}
	for _, name := range s.blockNames() {
		if t.blocks.Lookup(name) == nil {
			return nil, fmt.Errorf("parsing %s: no {{define %q}}", s.path(), name)
		}
	}
	if err := t.try(); err != nil {
		return nil, err
	}
	return t, nil
}

func (s Source) blockNames() []string {
	if s.Name == Digest {
		return []string{"subject", "opening", "topic", "entry", "closing"}
	}
	return []string{"subject", "letter"}
}

// try renders the fullest and the barest mail there can be.
func (t *Template) try() error {
	for _, s := range []sample{fullSample(), bareSample()} {
		render := t.trySampleDigest
		if t.source.Name != Digest {
			render = t.trySampleLetter
		}
		if err := render(s); err != nil {
			return err
		}
	}
	if t.source.Name == Digest {
		return t.mustPrint()
	}
	return nil
}

func (t *Template) trySampleDigest(s sample) error {
	heading, err := t.Topic("Stadt & Land")
	if err != nil {
		return err
	}
	entry, err := t.Entry(s.entry)
	if err != nil {
		return err
	}
	s.variant.Sections[0].Heading = heading
	s.variant.Sections[0].Entries = []Fragment{entry}
	body, err := t.Press(s.edition).Body(s.variant)
	if err != nil {
		return err
	}
	return t.mustHold(body, map[string]string{
		"the unsubscribe link": UnsubscribeMark,
		"the publisher":        "Sample Press",
		"the person responsible for the content (§ 18 Abs. 2 MStV)": "Erika Sample",
	})
}

// mustPrint refuses a frame that does anything with opening, rows and closing but print them as they are: a press leaves
// room for them and fills it later.
func (t *Template) mustPrint() error {
	printed := frameData{Opening: "<p>\"1\"</p>", Rows: "<tr>\"2\"</tr>", Closing: "<p>\"3\"</p>"}
	page, err := t.framed(printed)
	if err != nil {
		return err
	}
	room, err := t.framed(frameData{Opening: openingMark, Rows: rowsMark, Closing: closingMark})
	if err != nil {
		return err
	}
	fill := strings.NewReplacer(openingMark, string(printed.Opening), rowsMark, string(printed.Rows), closingMark, string(printed.Closing))
	if fill.Replace(room) != page {
		return fmt.Errorf("parsing %s: opening, rows and closing must stand in the page's text", t.source.framePath())
	}
	return nil
}

func (t *Template) trySampleLetter(s sample) error {
	body, err := t.Letter(s.letter)
	if err != nil {
		return err
	}
	return t.mustHold(body, map[string]string{"the link to act": ActionMark, "the publisher": "Sample Press"})
}

// mustHold refuses a template without what the law and mail providers ask of every mail, in both parts.
func (t *Template) mustHold(b Body, wanted map[string]string) error {
	var missing []error
	for what, text := range wanted {
		if !strings.Contains(b.HTML, text) || !strings.Contains(b.Text, text) {
			missing = append(missing, fmt.Errorf("parsing %s: %s is missing", t.source.path(), what))
		}
	}
	return errors.Join(missing...)
}

// execute runs one block of the template and returns Markdown.
func (t *Template) execute(block string, data any) (string, error) {
	var b strings.Builder
	if err := t.blocks.ExecuteTemplate(&b, block, data); err != nil {
		return "", fmt.Errorf("rendering %w", err)
	}
	return b.String(), nil
}

// ready are the parts of an entry that are rendered apart, by the placeholder they replace.
type ready map[string]Fragment

// fragment renders Markdown of the template's own into both parts of a mail.
func (t *Template) fragment(markdown string, p part, blocks ready) Fragment {
	html, text := make(map[string]string), make(map[string]string)
	for mark, f := range blocks {
		html[mark], text[mark] = string(f.HTML), f.Text
	}
	d := parse(t.own, markdown)
	h := htmlWriter{document: d, part: p, parser: t.own, words: t.words, blocks: html}
	w := plainWriter{document: d, part: p, parser: t.own, words: t.words, blocks: text}
	return Fragment{HTML: htmltemplate.HTML(h.render()), Text: w.render()}
}

// body renders an article's Markdown as a document of its own.
func (t *Template) body(m Markdown) Fragment {
	d := parse(t.article, withoutPlaceholders(string(m)))
	h := htmlWriter{document: d, part: article, parser: t.article, words: t.words}
	w := plainWriter{document: d, part: article, parser: t.article, words: t.words}
	return Fragment{HTML: htmltemplate.HTML(h.render()), Text: w.render()}.unmarked()
}

// frameData is what a frame shows. Its strings are html/template's to escape.
type frameData struct {
	Language, Dir Lang
	Align         plainText // left or right
	Title         plainText
	Colour        htmltemplate.CSS
	Opening       htmltemplate.HTML // rendered Markdown
	Rows          htmltemplate.HTML // table rows: topics and entries
	Closing       htmltemplate.HTML // rendered Markdown
	OutlookBegin  htmltemplate.HTML // html/template drops conditional comments
	OutlookEnd    htmltemplate.HTML
}

// plainText is text that html/template escapes by the place it stands in.
type plainText string

// columnWidth is the width of the one column, in pixels.
const columnWidth = 600

// Outlook for Windows knows no max-width: it gets a table of fixed width around the column.
const (
	outlookBegin = `<!--[if mso]><table role="presentation" width="600" align="center" cellpadding="0" cellspacing="0"` +
		` border="0"><tr><td><![endif]-->`
	outlookEnd = `<!--[if mso]></td></tr></table><![endif]-->`
)

func (t *Template) framed(d frameData) (string, error) {
	d.Language, d.Dir, d.Align = t.language, t.language.Dir(), plainText(t.language.align())
	d.OutlookBegin, d.OutlookEnd = outlookBegin, outlookEnd
	var b strings.Builder
	if err := t.frame.Execute(&b, d); err != nil {
		return "", fmt.Errorf("rendering %w", err)
	}
	return b.String(), nil
}
