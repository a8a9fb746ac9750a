package render

import (
	"strings"
	"testing"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// parsed is HTML read by a parser that did not write it.
func parsed(t testing.TB, page string) *html.Node {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// parsedString is parsed for functions that have no test at hand; html.Parse fails only where reading fails.
func parsedString(page string) *html.Node {
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		panic(err)
	}
	return root
}

func elements(root *html.Node, a atom.Atom) []*html.Node {
	var found []*html.Node
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && n.DataAtom == a {
			found = append(found, n)
		}
	}
	return found
}

func textOf(root *html.Node) string {
	var b strings.Builder
	for n := range root.Descendants() {
		if n.Type == html.TextNode && n.Parent.DataAtom != atom.Style && n.Parent.DataAtom != atom.Title {
			b.WriteString(n.Data)
		}
	}
	return b.String()
}

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func linksOf(t testing.TB, page string) []string {
	t.Helper()
	var links []string
	for _, a := range elements(parsed(t, page), atom.A) {
		links = append(links, attr(a, "href"))
	}
	return links
}

// squeezed makes texts comparable that differ in line breaks only.
func squeezed(s string) string { return strings.Join(strings.Fields(s), " ") }
