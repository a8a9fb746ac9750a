package render

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/yuin/goldmark/ast"
	extension "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/parser"
)

// columns is where lines of the text part end; only what has no space may reach beyond, such as an address.
const columns = 72

// narrowest is the least width a deeply nested block is wrapped to.
const narrowest = 24

// plainWriter renders a document as text: what the HTML shows, in the same order, with every link's target.
type plainWriter struct {
	document
	part   part
	parser parser.Parser // for what was HTML
	words  words         // in the article's language
	blocks map[string]string
	open   []string // targets of the links opened by raw HTML, innermost last
	nested bool     // inside a link
}

func (w *plainWriter) render() string { return w.blocksOf(w.root, columns, "\n\n") }

// blocksOf renders the blocks inside n and joins those that are not empty.
func (w *plainWriter) blocksOf(n ast.Node, width int, separator string) string {
	var parts []string
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		if s := w.block(c, width); s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, separator)
}

func (w *plainWriter) block(n ast.Node, width int) string {
	switch n := n.(type) {
	case *ast.Paragraph:
		return w.paragraph(n, width)
	case *ast.TextBlock:
		return w.wrapped(n, width)
	case *ast.Heading:
		return w.heading(n, width)
	case *ast.List:
		return w.list(n, width)
	case *ast.Blockquote:
		return prefixed(w.blocksOf(n, max(width-2, narrowest), "\n\n"), "> ", "> ")
	case *ast.CodeBlock, *ast.FencedCodeBlock:
		return prefixed(visible(strings.TrimRight(w.lines(n), "\n")), "    ", "    ")
	case *ast.HTMLBlock:
		return w.foreign(w.lines(n), width)
	case *ast.ThematicBreak:
		return "* * *"
	case *extension.Table:
		return w.table(n, width)
	case *extension.FootnoteList:
		return w.blocksOf(n, width, "\n\n")
	case *extension.Footnote:
		label := fmt.Sprintf("[%d] ", n.Index)
		return prefixed(w.blocksOf(n, width-len(label), "\n\n"), label, strings.Repeat(" ", len(label)))
	case *ast.LinkReferenceDefinition:
		return ""
	}
	return w.blocksOf(n, width, "\n\n")
}

func (w *plainWriter) paragraph(n *ast.Paragraph, width int) string {
	if mark := w.mark(n); mark != "" {
		return w.blocks[mark]
	}
	return w.wrapped(n, width)
}

// wrapped renders the inline content of n. The target of a link that is all there is gets a line of its own.
func (w *plainWriter) wrapped(n ast.Node, width int) string {
	if link, ok := only(n).(*ast.Link); ok {
		if target := address(link.Destination); target != "" {
			return wrap(w.inside(link), width) + "\n<" + target + ">"
		}
	}
	return wrap(w.inlines(n), width)
}

// heading underlines the digest's title and topics; a headline stands out by its own line.
func (w *plainWriter) heading(n *ast.Heading, width int) string {
	title := w.wrapped(n, width)
	if w.part == article || n.Level > 2 || title == "" {
		return title
	}
	longest := 0
	for line := range strings.SplitSeq(title, "\n") {
		if !strings.HasPrefix(line, "<") {
			longest = max(longest, utf8.RuneCountInString(line))
		}
	}
	return title + "\n" + strings.Repeat([]string{"=", "-"}[n.Level-1], longest)
}

func (w *plainWriter) list(n *ast.List, width int) string {
	separator := "\n\n"
	if n.IsTight {
		separator = "\n"
	}
	var items []string
	number := n.Start
	for item := n.FirstChild(); item != nil; item = item.NextSibling() {
		label := "* "
		if n.IsOrdered() {
			label = strconv.Itoa(number) + ". "
			number++
		}
		body := w.blocksOf(item, max(width-len(label), narrowest), separator)
		items = append(items, prefixed(body, label, strings.Repeat(" ", len(label))))
	}
	return strings.Join(items, separator)
}

func (w *plainWriter) foreign(block string, width int) string {
	inner := *w
	inner.open = nil
	inner.document = parse(w.parser, fromHTML(block))
	return inner.blocksOf(inner.root, width, "\n\n")
}

// table sets columns side by side where they fit, else each row as a list of "heading: value".
func (w *plainWriter) table(n *extension.Table, width int) string {
	var rows [][]string
	for row := n.FirstChild(); row != nil; row = row.NextSibling() {
		var cells []string
		for cell := row.FirstChild(); cell != nil; cell = cell.NextSibling() {
			cells = append(cells, strings.ReplaceAll(w.inlines(cell), "\n", " "))
		}
		rows = append(rows, cells)
	}
	if widths := columnWidths(rows); sum(widths)+2*(len(widths)-1) <= width {
		return grid(rows, widths, n.Alignments)
	}
	return records(rows, width)
}

func columnWidths(rows [][]string) []int {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	return widths
}

func sum(widths []int) int {
	total := 0
	for _, w := range widths {
		total += w
	}
	return total
}

func grid(rows [][]string, widths []int, alignments []extension.Alignment) string {
	var lines []string
	for i, row := range rows {
		var cells []string
		for j, cell := range row {
			padding := strings.Repeat(" ", widths[j]-utf8.RuneCountInString(cell))
			if j < len(alignments) && alignments[j] == extension.AlignRight {
				cells = append(cells, padding+cell)
			} else {
				cells = append(cells, cell+padding)
			}
		}
		lines = append(lines, strings.TrimRight(strings.Join(cells, "  "), " "))
		if i == 0 {
			lines = append(lines, strings.Repeat("-", sum(widths)+2*(len(widths)-1)))
		}
	}
	return strings.Join(lines, "\n")
}

func records(rows [][]string, width int) string {
	if len(rows) == 1 {
		return wrap(strings.Join(rows[0], ", "), width)
	}
	var parts []string
	for _, row := range rows[1:] {
		var lines []string
		for i, cell := range row {
			lines = append(lines, wrap(rows[0][i]+": "+cell, width))
		}
		parts = append(parts, strings.Join(lines, "\n"))
	}
	return strings.Join(parts, "\n\n")
}

// inlines renders what is inside n as text whose only breaks are those the author meant.
func (w *plainWriter) inlines(n ast.Node) string {
	var b strings.Builder
	outer := len(w.open)
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		b.WriteString(w.inline(c, outer))
	}
	for len(w.open) > outer {
		b.WriteString(w.closeRaw())
	}
	return b.String()
}

func (w *plainWriter) inline(n ast.Node, outer int) string {
	switch n := n.(type) {
	case *ast.Text:
		return w.text(n)
	case *ast.String:
		return string(n.Value)
	case *extension.Strikethrough:
		return w.words.struckOpen + w.inlines(n) + w.words.struckClosed
	case *ast.Link:
		return w.link(n)
	case *ast.AutoLink:
		return w.autoLink(n)
	case *ast.Image:
		return w.image(n)
	case *ast.RawHTML:
		return w.raw(rawTag(n, w.source), outer)
	case *extension.TaskCheckBox:
		if n.IsChecked {
			return "[x] "
		}
		return "[ ] "
	case *extension.FootnoteLink:
		return fmt.Sprintf("[%d]", n.Index)
	case *extension.FootnoteBacklink:
		return ""
	}
	return w.inlines(n)
}

func (w *plainWriter) text(n *ast.Text) string {
	value := n.Value(w.source)
	var s string
	if n.IsRaw() {
		s = visible(string(value))
	} else {
		s = literal(value)
	}
	switch {
	case n.HardLineBreak():
		s += "\n"
	case n.SoftLineBreak():
		s += " "
	}
	return s
}

func (w *plainWriter) link(n *ast.Link) string {
	target := address(n.Destination)
	if target == "" || w.nested {
		return w.inlines(n)
	}
	label := w.inside(n)
	if strings.TrimSpace(label) == "" {
		return "<" + target + ">"
	}
	return label + " <" + target + ">"
}

// inside renders a link's text, in which no other link's target is printed.
func (w *plainWriter) inside(n ast.Node) string {
	outer := w.nested
	w.nested = true
	s := w.inlines(n)
	w.nested = outer
	return s
}

func (w *plainWriter) autoLink(n *ast.AutoLink) string {
	label := visible(string(n.Label(w.source)))
	target, mail := autoAddress(n, w.source)
	switch {
	case target == "" || mail || w.nested:
		return label
	case target == label || target == label+"/":
		return "<" + target + ">"
	}
	return label + " <" + target + ">"
}

func (w *plainWriter) image(n *ast.Image) string {
	alt := w.plain(n)
	if w.part != article {
		return alt
	}
	label := "[" + imageLabel(w.words, alt) + "]"
	if target := address(n.Destination); target != "" && !w.nested {
		label += " <" + target + ">"
	}
	return label
}

func (w *plainWriter) raw(tag string, outer int) string {
	name, target, closing := rawLink(tag)
	switch {
	case name == "br":
		return "\n"
	case name == "a" && closing && len(w.open) > outer:
		return w.closeRaw()
	case name == "a" && !closing:
		if w.nested {
			target = ""
		}
		w.open = append(w.open, target)
	}
	return ""
}

func (w *plainWriter) closeRaw() string {
	last := len(w.open) - 1
	target := w.open[last]
	w.open = w.open[:last]
	if target == "" {
		return ""
	}
	return " <" + target + ">"
}

// prefixed puts first before the first line and rest before the others; empty lines get no spaces at their end.
func prefixed(s, first, rest string) string {
	var b strings.Builder
	prefix := first
	for line := range strings.SplitSeq(s, "\n") {
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(strings.TrimRight(prefix+line, " "))
		prefix = rest
	}
	return b.String()
}

// wrap breaks s at spaces so that no line is wider than width, and drops soft hyphens, which a text mail would show.
// Words without spaces, addresses above all, stay whole.
func wrap(s string, width int) string {
	s = strings.ReplaceAll(strings.ReplaceAll(s, softHyphen, ""), "\t", " ")
	var b strings.Builder
	b.Grow(len(s))
	for line := range strings.SplitSeq(s, "\n") {
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		wrapLine(&b, line, width)
	}
	return strings.TrimSpace(b.String())
}

func wrapLine(b *strings.Builder, line string, width int) {
	column := 0
	for line = strings.TrimLeft(line, " "); line != ""; {
		var words string
		words, line = unit(line)
		size := printed(words)
		switch {
		case column == 0:
		case column+1+size > width:
			b.WriteByte('\n')
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(words)
		column += size
	}
}

// unit splits a line after what must not be broken: a word, and a reader's values with the word before them, because such a
// value never begins a line.
func unit(line string) (words, rest string) {
	words, rest = firstWord(line)
	for strings.HasPrefix(rest, stem) {
		var value string
		value, rest = firstWord(rest)
		words += " " + value
	}
	return words, rest
}

func firstWord(line string) (word, rest string) {
	word, rest, _ = strings.Cut(line, " ")
	return word, strings.TrimLeft(rest, " ")
}

// printed is the width of a word once the readers' values are in it.
func printed(word string) int {
	width := utf8.RuneCountInString(word)
	for i := strings.Index(word, stem); i >= 0; i = strings.Index(word, stem) {
		mark, _, length := markAt(word[i:])
		width += length - len(mark)
		word = word[i+max(len(mark), 1):]
	}
	return width
}
