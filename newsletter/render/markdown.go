package render

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
	"golang.org/x/net/html"
)

// document is parsed Markdown. Raw HTML is never passed on: see fromHTML and rawLink for what is kept of it.
type document struct {
	source []byte
	root   ast.Node
}

func parse(p parser.Parser, markdown string) document {
	source := []byte(markdown)
	return document{source, p.Parse(text.NewReader(source))}
}

// articleParser reads an article's body. Its quotes and dashes are the agency's and stay as they are.
func articleParser() parser.Parser {
	return goldmark.New(goldmark.WithExtensions(
		extension.Table, extension.Strikethrough, extension.Linkify, extension.TaskList, extension.Footnote,
	)).Parser()
}

// templateParser reads a template's own text and sets its quotes and dashes as the language does.
func templateParser(w words) parser.Parser {
	typography := extension.NewTypographer(extension.WithTypographicSubstitutions(
		extension.TypographicSubstitutions{
			extension.LeftDoubleQuote: []byte(w.openDouble), extension.RightDoubleQuote: []byte(w.closeDouble),
			extension.LeftSingleQuote: []byte(w.openSingle), extension.RightSingleQuote: []byte(w.closeSingle),
			extension.EnDash: []byte("–"), extension.EmDash: []byte("—"), extension.Ellipsis: []byte("…"),
			extension.LeftAngleQuote: []byte("«"), extension.RightAngleQuote: []byte("»"),
			extension.Apostrophe: []byte("’"),
		}))
	md := goldmark.New(
		goldmark.WithExtensions(extension.Table, extension.Strikethrough, extension.Linkify, typography),
		// Before the typographer (9999), which takes ‚einfach‘ for an English contraction.
		goldmark.WithParserOptions(parser.WithInlineParsers(util.Prioritized(singleQuotes{w}, 9998))))
	return md.Parser()
}

// singleQuotes sets ' by what stands around it: an opening quote after space, a closing quote where one is open, an
// apostrophe elsewhere.
type singleQuotes struct{ words words }

func (s singleQuotes) Trigger() []byte { return []byte{'\''} }

func (s singleQuotes) Parse(parent ast.Node, block text.Reader, pc parser.Context) ast.Node {
	line, _ := block.PeekLine()
	before, after := block.PrecendingCharacter(), ' '
	if len(line) > 1 {
		after = util.ToRune(line, 1)
	}
	opened, _ := pc.Get(quotesOpen).(int)
	set := "’"
	switch {
	case (util.IsSpaceRune(before) || util.IsPunctRune(before)) && wordRune(after):
		set = s.words.openSingle
		pc.Set(quotesOpen, opened+1)
	case opened > 0 && !wordRune(after):
		set = s.words.closeSingle
		pc.Set(quotesOpen, opened-1)
	}
	block.Advance(1)
	return ast.NewString([]byte(set))
}

// CloseBlock forgets a quote left open: it cannot be closed in the next paragraph.
func (s singleQuotes) CloseBlock(parent ast.Node, block text.Reader, pc parser.Context) {
	pc.Set(quotesOpen, 0)
}

var quotesOpen = parser.NewContextKey()

func wordRune(r rune) bool { return !util.IsSpaceRune(r) && !util.IsPunctRune(r) }

// literal resolves backslash escapes and entities (CommonMark 0.31 §2.4, §2.5) and drops what cannot be seen.
func literal(value []byte) string {
	if !bytes.ContainsAny(value, `\&`) {
		return visible(string(value))
	}
	var b strings.Builder
	b.Grow(len(value))
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '\\' && i+1 < len(value) && punctuation(value[i+1]):
			i++
			b.WriteByte(value[i])
		case c == '&':
			decoded, n := entity(value[i:])
			b.WriteString(decoded)
			i += n - 1
		default:
			b.WriteByte(c)
		}
	}
	return visible(b.String())
}

// entity decodes the entity that s begins with and returns its length; a lone ampersand stands for itself.
func entity(s []byte) (decoded string, length int) {
	end := strings.IndexByte(string(s[:min(len(s), 40)]), ';')
	if end < 2 {
		return "&", 1
	}
	name := string(s[1:end])
	if name[0] == '#' {
		if decoded := html.UnescapeString("&" + name + ";"); decoded[0] != '&' {
			return decoded, end + 1
		}
		return "&", 1
	}
	if known, ok := util.LookUpHTML5EntityByName(name); ok {
		return string(known.Characters), end + 1
	}
	return "&", 1
}

// visible drops control and direction characters and mends bad UTF-8; line ends and tabs of code stay.
func visible(s string) string {
	for _, r := range s {
		if hidden(r) || r == utf8.RuneError {
			return strings.Map(func(r rune) rune {
				if hidden(r) {
					return -1
				}
				return r
			}, s)
		}
	}
	return s
}

func hidden(r rune) bool { return invisible(r) && r != '\n' && r != '\t' }

// address resolves a link's destination. Only a template's own links may end in a placeholder: an article's
// Markdown was freed of them before it was parsed.
func address(destination []byte) string {
	target := literal(destination)
	if i := strings.Index(target, stem); i >= 0 {
		if word, _, _ := markAt(target[i:]); word == target[i:] {
			return joinMark(URL(target[:i]), word)
		}
	}
	return URL(target).String()
}

func joinMark(base URL, word string) string {
	if begin := base.String(); begin != "" {
		return begin + word
	}
	return ""
}

// autoAddress returns the target of a bare address in the text and whether it is an e-mail address.
func autoAddress(n *ast.AutoLink, source []byte) (target string, mail bool) {
	if n.AutoLinkType == ast.AutoLinkEmail {
		return URL("mailto:" + string(n.Label(source))).String(), true
	}
	return URL(n.URL(source)).String(), false
}

// lines returns the text of a block that keeps its lines: code or HTML.
func (d document) lines(n ast.Node) string {
	var b strings.Builder
	for i := range n.Lines().Len() {
		segment := n.Lines().At(i)
		b.Write(segment.Value(d.source))
	}
	return b.String()
}

// only returns the single inline child of a block, or nil.
func only(n ast.Node) ast.Node {
	if n.ChildCount() != 1 {
		return nil
	}
	return n.FirstChild()
}

// mark returns the placeholder a paragraph consists of, or nothing.
func (d document) mark(n ast.Node) string {
	if words, ok := only(n).(*ast.Text); ok {
		if value := string(words.Value(d.source)); value == bodyMark || value == pictureMark {
			return value
		}
	}
	return ""
}

// outline assigns the levels of an article's headings: they begin below the entry's own (h3) and skip none, whatever
// levels the article used (WCAG 2.2, 1.3.1).
type outline []int

func (o *outline) level(written int) int {
	levels := *o
	for len(levels) > 0 && levels[len(levels)-1] >= written {
		levels = levels[:len(levels)-1]
	}
	*o = append(levels, written)
	return min(3+len(*o), 6)
}

// rawLink reads an inline HTML tag. Of raw HTML only links and line breaks are kept, as our own; what was between other
// tags is text already.
func rawLink(tag string) (name, target string, closing bool) {
	z := html.NewTokenizer(strings.NewReader(tag))
	z.Next()
	token := z.Token()
	for _, a := range token.Attr {
		if a.Key == "href" {
			target = URL(a.Val).String()
		}
	}
	return token.Data, target, token.Type == html.EndTagToken
}

func rawTag(n *ast.RawHTML, source []byte) string {
	var b strings.Builder
	for i := range n.Segments.Len() {
		segment := n.Segments.At(i)
		b.Write(segment.Value(source))
	}
	return b.String()
}
