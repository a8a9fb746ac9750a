package render

import (
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// fromHTML turns a block of HTML inside an article into Markdown of its words and links. Nothing else of it is kept, so
// the mail's HTML is ours alone and yet no word is lost.
func fromHTML(block string) string {
	f := foreign{z: html.NewTokenizer(strings.NewReader(block))}
	for f.z.Next() != html.ErrorToken {
		f.token(f.z.Token())
	}
	f.close()
	return f.b.String()
}

type foreign struct {
	z      *html.Tokenizer
	b      strings.Builder
	link   string // target of the open link
	silent atom.Atom
}

func (f *foreign) token(t html.Token) {
	switch {
	case f.silent != 0:
		if t.Type == html.EndTagToken && t.DataAtom == f.silent {
			f.silent = 0
		}
	case t.Type == html.TextToken:
		f.words(t.Data)
	case t.Type == html.StartTagToken || t.Type == html.SelfClosingTagToken:
		f.start(t)
	case t.Type == html.EndTagToken && t.DataAtom == atom.A:
		f.close()
	case t.Type == html.EndTagToken && breaksLine(t.DataAtom):
		f.paragraph()
	}
}

func (f *foreign) start(t html.Token) {
	switch t.DataAtom {
	case atom.Script, atom.Style, atom.Template, atom.Noscript, atom.Iframe, atom.Svg, atom.Head, atom.Textarea:
		if t.Type == html.StartTagToken {
			f.silent = t.DataAtom
		}
	case atom.A:
		f.close()
		_, f.link, _ = rawLink(t.String())
		if f.link != "" {
			f.b.WriteByte('[')
		}
	case atom.Li:
		f.paragraph()
		f.b.WriteString("- ")
	case atom.Br:
		f.b.WriteByte(' ')
	default:
		if breaksLine(t.DataAtom) {
			f.paragraph()
		}
	}
}

// words keeps the white space around a run of text: it separates it from its neighbours.
func (f *foreign) words(s string) {
	escaped := Text(s).String()
	if escaped == "" || strings.TrimLeft(s, " \t\r\n") != s {
		f.b.WriteByte(' ')
	}
	f.b.WriteString(escaped)
	if escaped != "" && strings.TrimRight(s, " \t\r\n") != s {
		f.b.WriteByte(' ')
	}
}

func (f *foreign) close() {
	if f.link != "" {
		f.b.WriteString("](" + f.link + ")")
	}
	f.link = ""
}

func (f *foreign) paragraph() {
	f.close()
	f.b.WriteString("\n\n")
}

func breaksLine(a atom.Atom) bool {
	switch a {
	case atom.P, atom.Div, atom.Section, atom.Article, atom.Aside, atom.Header, atom.Footer, atom.Ul, atom.Ol, atom.Li,
		atom.Table, atom.Tr, atom.Td, atom.Th, atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6, atom.Blockquote,
		atom.Pre, atom.Figure, atom.Figcaption, atom.Dl, atom.Dt, atom.Dd, atom.Hr, atom.Form, atom.Center, atom.Details,
		atom.Summary:
		return true
	}
	return false
}
