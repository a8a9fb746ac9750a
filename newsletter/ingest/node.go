package ingest

import (
	"iter"
	"strings"
	"unicode"

	"golang.org/x/net/html"
)

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func has(n *html.Node, name string) bool {
	for _, a := range n.Attr {
		if a.Key == name {
			return true
		}
	}
	return false
}

func is(n *html.Node, names ...string) bool {
	if n == nil || n.Type != html.ElementNode {
		return false
	}
	for _, name := range names {
		if n.Data == name {
			return true
		}
	}
	return false
}

// find returns the first element below n, in document order, that a test accepts; nil where there is none.
func find(n *html.Node, test func(*html.Node) bool) *html.Node {
	for d := range n.Descendants() {
		if d.Type == html.ElementNode && test(d) {
			return d
		}
	}
	return nil
}

func named(names ...string) func(*html.Node) bool {
	return func(n *html.Node) bool { return is(n, names...) }
}

// below yields the elements under n. It may be broken off; the tree must not be changed meanwhile.
func below(n *html.Node, names ...string) iter.Seq[*html.Node] {
	return func(yield func(*html.Node) bool) {
		for d := range n.Descendants() {
			if is(d, names...) && !yield(d) {
				return
			}
		}
	}
}

func within(n, ancestor *html.Node) bool {
	for ; n != nil; n = n.Parent {
		if n == ancestor {
			return true
		}
	}
	return false
}

// textOf is what a reader sees of n, on one line; what is hidden counts as nothing.
func textOf(n *html.Node, without ...*html.Node) string {
	var b strings.Builder
	writeText(&b, n, without)
	return oneLine(b.String())
}

func writeText(b *strings.Builder, n *html.Node, without []*html.Node) {
	for _, w := range without {
		if n == w {
			return
		}
	}
	if n.Type == html.TextNode {
		b.WriteString(n.Data)
		return
	}
	kind := literalTag
	if n.Type == html.ElementNode {
		kind = markup[n.Data]
	}
	if kind == hiddenTag {
		return
	}
	if kind == blockTag {
		b.WriteByte(' ')
		defer b.WriteByte(' ')
	}
	for c := range n.ChildNodes() {
		writeText(b, c, without)
	}
}

// roles are the words of class and id of an element: "article__body--wide" says article, body and wide; "adSlot" says ad
// and slot. A name that only speaks of what it has or lacks, such as "with-sidebar" and "ad-free", says nothing; nor does an
// id that is a whole phrase, made from a headline's words.
func roles(n *html.Node) []string {
	var all []string
	for class := range strings.FieldsSeq(attribute(n, "class")) {
		if words := wordsOf(class); !hasAny(words, qualifiers) {
			all = append(all, words...)
		}
	}
	if words := wordsOf(attribute(n, "id")); len(words) <= 3 && !is(n, "h2", "h3", "h4", "h5", "h6") {
		all = append(all, words...)
	}
	return all
}

var qualifiers = wordSet("with has no free without non not has hide")

// wordsOf splits an identifier at what is no letter, and at humps.
func wordsOf(name string) []string {
	var words []string
	var word []rune
	var last rune
	end := func() {
		if len(word) > 0 {
			words = append(words, strings.ToLower(string(word)))
		}
		word = nil
	}
	for _, r := range name {
		if !unicode.IsLetter(r) || unicode.IsUpper(r) && unicode.IsLower(last) {
			end()
		}
		if unicode.IsLetter(r) {
			word = append(word, r)
		}
		last = r
	}
	end()
	return words
}

func hasAny(words []string, set map[string]bool) bool {
	for _, w := range words {
		if set[w] {
			return true
		}
	}
	return false
}

func hasRole(n *html.Node, set map[string]bool) bool { return hasAny(roles(n), set) }

// remove takes the nodes out of their trees.
func remove(nodes []*html.Node) {
	for _, n := range nodes {
		if n.Parent != nil {
			n.Parent.RemoveChild(n)
		}
	}
}
