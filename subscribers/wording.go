package subscribers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// Wording is a text as it was shown or mailed, known by its content. It holds nothing personal.
type Wording struct {
	Hash     string      `json:"hash"` // SHA-256 of kind, language and text
	Kind     WordingKind `json:"kind"`
	Language string      `json:"language"`
	Text     string      `json:"text"`
}

// WordingKind is where a text was read.
type WordingKind string

// The kinds.
const (
	OnForm   WordingKind = "form"
	InLetter WordingKind = "letter"
	OnPage   WordingKind = "page"
	Brought  WordingKind = "evidence" // with an import, shown by somebody else
)

func newWording(kind WordingKind, language, text string) Wording {
	sum := sha256.Sum256([]byte(string(kind) + "\n" + language + "\n" + text))
	return Wording{Hash: hex.EncodeToString(sum[:]), Kind: kind, Language: language, Text: text}
}

// keep stores a wording before the transaction that refers to it: wordings are shared by all readers, and nobody shall
// wait for another reader's commit because both saw the same form.
func (r *Registry) keep(ctx context.Context, now time.Time, w Wording) error {
	if _, known := r.known.Load(w.Hash); known {
		return nil
	}
	if err := insertWording(ctx, r.db.Write, now, w); err != nil {
		return err
	}
	r.known.Store(w.Hash, true)
	return nil
}

func insertWording(ctx context.Context, db writer, now time.Time, w Wording) error {
	_, err := db.ExecContext(ctx, `
		INSERT INTO wordings (hash, kind, language, text, since) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (hash) DO NOTHING`, w.Hash, string(w.Kind), w.Language, w.Text, now.UnixMilli())
	if err != nil {
		return fmt.Errorf("keep wording: %w", err)
	}
	return nil
}

// visibleText is what a reader of a page saw inside its <main>, a line for each block, links with their address, boxes and
// buttons in brackets. What is hidden is left out.
func visibleText(page []byte) (string, error) { return visibleIn(page, atom.Main) }

// visibleIn is the same for the first element of these names, of the earliest name that is there.
func visibleIn(page []byte, names ...atom.Atom) (string, error) {
	document, err := html.Parse(strings.NewReader(string(page)))
	if err != nil {
		return "", fmt.Errorf("read page for its wording: %w", err)
	}
	for _, name := range names {
		for node := range document.Descendants() {
			if node.DataAtom == name {
				var t transcript
				t.node(node)
				return t.String(), nil
			}
		}
	}
	return "", fmt.Errorf("read page for its wording: it has no <%s>", names[0])
}

type transcript struct {
	lines []string
	line  strings.Builder
}

func (t *transcript) node(n *html.Node) {
	if n.Type == html.TextNode {
		t.line.WriteString(n.Data)
		return
	}
	if n.Type != html.ElementNode || hidden(n) {
		return
	}
	if changes(n) {
		t.line.WriteString(" … ")
		return
	}
	block := isBlock(n.DataAtom)
	if block {
		t.wrap()
	}
	switch n.DataAtom {
	case atom.Input:
		t.input(n)
	case atom.Button:
		t.line.WriteString(" [")
		t.children(n)
		t.line.WriteString("] ")
	case atom.A:
		t.children(n)
		if href := attribute(n, "href"); strings.Contains(href, ":") {
			t.line.WriteString(" <" + href + ">")
		}
	default:
		t.children(n)
	}
	if block {
		t.wrap()
	}
}

func (t *transcript) children(n *html.Node) {
	for child := range n.ChildNodes() {
		t.node(child)
	}
}

func (t *transcript) input(n *html.Node) {
	switch attribute(n, "type") {
	case "hidden":
	case "checkbox":
		t.line.WriteString("[ ] ")
	case "radio":
		t.line.WriteString("( ) ")
	default:
		t.line.WriteString(" [          ] ")
	}
}

// wrap ends a line and drops it if there is nothing on it.
func (t *transcript) wrap() {
	line := strings.Join(strings.Fields(t.line.String()), " ")
	t.line.Reset()
	if line != "" {
		t.lines = append(t.lines, line)
	}
}

func (t *transcript) String() string { return strings.Join(t.lines, "\n") + "\n" }

func hidden(n *html.Node) bool {
	switch n.DataAtom {
	case atom.Script, atom.Style, atom.Template:
		return true
	}
	for _, a := range n.Attr {
		if a.Key == "hidden" || a.Key == "aria-hidden" && a.Val == "true" {
			return true
		}
	}
	return false
}

// changes says whether an element shows what is another thing every day, such as a figure that was measured: it is none of
// the words that people agree to.
func changes(n *html.Node) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == "data-changing" })
}

func isBlock(a atom.Atom) bool {
	switch a {
	case atom.Main, atom.Body, atom.Article, atom.Header, atom.Footer, atom.Nav, atom.Aside, atom.Table, atom.Tr, atom.Pre,
		atom.Div, atom.P, atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6, atom.Ul, atom.Ol, atom.Li, atom.Form, atom.Fieldset,
		atom.Legend, atom.Label, atom.Section, atom.Dl, atom.Dt, atom.Dd, atom.Br, atom.Blockquote, atom.Button, atom.Details, atom.Summary:
		return true
	}
	return false
}

func attribute(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}
