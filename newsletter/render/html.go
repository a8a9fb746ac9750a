package render

import (
	"fmt"
	"html"
	"strconv"
	"strings"

	"github.com/yuin/goldmark/ast"
	extension "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/parser"
)

// All looks are inline: GMX and WEB.DE drop <style>. Colours come in pairs of text and background, so that a client that
// darkens one darkens both. Contrast on white: text 16.9, muted 6.9, links 8.5.
const (
	colours         = "color:#1d1d1b;background-color:#ffffff"
	muted           = "color:#5c5a56;background-color:#ffffff"
	serif           = "font-family:Georgia,'Times New Roman',serif"
	sans            = "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
	rule            = "#e2ddd3"
	running         = "font-size:16px;line-height:1.5"
	mono            = "font-family:Menlo,Consolas,'Courier New',monospace;font-size:14px"
	linkLook        = "color:#0a4f8f;background-color:#ffffff;text-decoration:underline"
	titleLook       = colours + ";text-decoration:underline;text-decoration-color:#b9b2a6;text-underline-offset:3px"
	buttonLook      = "color:#0a4f8f;background-color:#ffffff;font-weight:bold;text-decoration:underline"
	imageLook       = "display:block;max-width:100%;height:auto;border:0"
	captionLook     = "margin:8px 0 16px;font-size:14px;line-height:1.4;" + muted
	labelLook       = "margin:0 0 4px;font-size:14px;line-height:1.4;font-weight:bold;" + muted
	letterTitleLook = "margin:0 0 18px;" + serif + ";font-size:24px;line-height:1.3;font-weight:bold"
	smallLook       = "margin:0 0 14px;font-size:14px;line-height:1.5;" + muted
)

// headingLooks are the styles of h1 to h6.
var headingLooks = [...]string{
	"margin:0 0 6px;" + serif + ";font-size:32px;line-height:1.2;font-weight:bold",
	"margin:0;" + serif + ";font-size:24px;line-height:1.3;font-weight:bold",
	"margin:0 0 10px;" + serif + ";font-size:21px;line-height:1.3;font-weight:bold",
	"margin:22px 0 8px;" + serif + ";font-size:18px;line-height:1.35;font-weight:bold",
	"margin:20px 0 8px;" + serif + ";font-size:16px;line-height:1.4;font-weight:bold",
	"margin:20px 0 8px;" + serif + ";font-size:16px;line-height:1.4;font-weight:bold;font-style:italic",
}

// part says which part of the mail a document is: it decides how paragraphs look and what may be in it.
type part uint8

const (
	article part = iota // a body: its headings are demoted, its images become links
	entry               // a template's own text
	footer              // a template's own small print
	letter              // a template's own plain letter
)

// htmlWriter renders a document for mail clients: every element with its style, nothing they do not know.
type htmlWriter struct {
	document
	b       strings.Builder
	part    part
	parser  parser.Parser     // for what was HTML
	words   words             // in the article's language
	blocks  map[string]string // ready HTML by the placeholder it replaces
	outline outline
	open    []bool // links opened by raw HTML, innermost last
	links   int    // links open around the current node
}

func (w *htmlWriter) render() string {
	for n := w.root.FirstChild(); n != nil; n = n.NextSibling() {
		w.topBlock(n)
	}
	return w.b.String()
}

// Personal lines are marked by comments, so that the web view can leave them out.
const (
	personalBegin = "<!--reader-->"
	personalEnd   = "<!--/reader-->"
)

func (w *htmlWriter) topBlock(n ast.Node) {
	begin := w.b.Len()
	w.block(n)
	if block := w.b.String()[begin:]; w.part != article && personal(block) {
		before := w.b.String()[:begin]
		w.b.Reset()
		w.b.WriteString(before + personalBegin + strings.TrimSuffix(block, "\n") + personalEnd + "\n")
	}
}

func (w *htmlWriter) element(tag, attributes string, n ast.Node) {
	w.b.WriteByte('<')
	w.b.WriteString(tag)
	w.b.WriteString(attributes)
	w.b.WriteByte('>')
	w.children(n)
	w.b.WriteString("</")
	w.b.WriteString(tag)
	w.b.WriteByte('>')
}

func style(css string) string { return ` style="` + css + `"` }

func (w *htmlWriter) block(n ast.Node) {
	switch n := n.(type) {
	case *ast.Paragraph:
		w.paragraph(n)
	case *ast.Heading:
		w.heading(n)
	case *ast.List:
		w.list(n)
	case *ast.Blockquote:
		w.quote(n)
	case *ast.CodeBlock, *ast.FencedCodeBlock:
		w.code(w.lines(n))
	case *ast.HTMLBlock:
		w.foreign(w.lines(n))
	case *ast.ThematicBreak:
		fmt.Fprintf(&w.b, "<hr style=\"margin:24px 0;border:0;border-top:1px solid %s\">\n", rule)
	case *extension.Table:
		w.table(n)
	case *extension.FootnoteList:
		w.footnotes(n)
	case *ast.LinkReferenceDefinition:
	default:
		w.children(n)
	}
}

func (w *htmlWriter) paragraph(n *ast.Paragraph) {
	if mark := w.mark(n); mark != "" {
		w.b.WriteString(w.blocks[mark])
		return
	}
	look, content := w.paragraphLook(n)
	w.element("p", look, content)
	w.b.WriteByte('\n')
}

// paragraphLook reads a template's conventions: a paragraph all in **bold** is a label, one all in *italics* small print.
// The look says so then, and the emphasis itself is left out.
func (w *htmlWriter) paragraphLook(n ast.Node) (look string, content ast.Node) {
	emphasis, ok := only(n).(*ast.Emphasis)
	switch {
	case ok && w.part != article && emphasis.Level == 2:
		return style(labelLook) + ` class="m"`, emphasis
	case ok && w.part != article:
		return style(smallLook) + ` class="m"`, emphasis
	case w.part == footer:
		return style(smallLook) + ` class="m"`, n
	}
	return style("margin:0 0 16px;" + running), n
}

func (w *htmlWriter) heading(n *ast.Heading) {
	level := n.Level
	if w.part == article {
		level = w.outline.level(n.Level)
	}
	look := headingLooks[level-1]
	if w.part == letter && level == 1 {
		look = letterTitleLook
	}
	w.element("h"+strconv.Itoa(level), style(look), n)
	w.b.WriteByte('\n')
}

func (w *htmlWriter) list(n *ast.List) {
	size, class := running, ""
	if w.part == footer {
		size, class = "font-size:14px;line-height:1.5;"+muted, ` class="m"`
	}
	tag, attributes := "ul", style("margin:0 0 16px 24px;padding:0;"+size)+class
	if n.IsOrdered() {
		tag = "ol"
		if n.Start != 1 {
			attributes += ` start="` + strconv.Itoa(n.Start) + `"`
		}
	}
	w.b.WriteString("<" + tag + attributes + ">\n")
	for item := n.FirstChild(); item != nil; item = item.NextSibling() {
		w.element("li", style("margin:0 0 6px"), item)
		w.b.WriteByte('\n')
	}
	w.b.WriteString("</" + tag + ">\n")
}

// quote sets its rule and indent with a table: Outlook knows padding on cells only.
func (w *htmlWriter) quote(n ast.Node) {
	w.b.WriteString(`<blockquote style="margin:0 0 16px">` +
		`<table role="presentation" width="100%" cellpadding="0" cellspacing="0" border="0"><tr>` +
		`<td style="padding:2px 16px 0;border-left:3px solid #b9b2a6;` + sans + ";" + running + ";" + colours + "\">\n")
	w.children(n)
	w.b.WriteString("</td></tr></table></blockquote>\n")
}

func (w *htmlWriter) code(lines string) {
	fmt.Fprintf(&w.b, "<pre style=\"margin:0 0 16px;%s;line-height:1.45;white-space:pre-wrap;word-break:break-word\">",
		mono)
	w.b.WriteString(html.EscapeString(visible(strings.TrimRight(lines, "\n"))))
	w.b.WriteString("</pre>\n")
}

func (w *htmlWriter) foreign(block string) {
	inner := *w
	inner.b = strings.Builder{}
	inner.document = parse(w.parser, fromHTML(block))
	w.b.WriteString(inner.render())
}

func (w *htmlWriter) table(n *extension.Table) {
	w.b.WriteString(`<table width="100%" cellpadding="0" cellspacing="0" border="0"` +
		` style="margin:0 0 16px;border-collapse:collapse;` + running + "\">\n")
	for row := n.FirstChild(); row != nil; row = row.NextSibling() {
		tag, weight := "td", ""
		if _, head := row.(*extension.TableHeader); head {
			tag, weight = `th scope="col"`, "font-weight:bold;"
		}
		w.b.WriteString("<tr>")
		for cell := row.FirstChild(); cell != nil; cell = cell.NextSibling() {
			w.cell(tag, weight, cell)
		}
		w.b.WriteString("</tr>\n")
	}
	w.b.WriteString("</table>\n")
}

func (w *htmlWriter) cell(tag, weight string, n ast.Node) {
	align := "left"
	if c, ok := n.(*extension.TableCell); ok && c.Alignment != extension.AlignNone {
		align = c.Alignment.String()
	}
	fmt.Fprintf(&w.b, `<%s align="%s" valign="top" style="padding:6px 12px 6px 0;border-bottom:1px solid %s;%s%s;%s">`,
		tag, align, rule, weight, running, colours)
	w.children(n)
	w.b.WriteString("</" + tag[:2] + ">")
}

// footnotes carry their numbers as text: jumps inside a mail do not work in most clients.
func (w *htmlWriter) footnotes(n ast.Node) {
	w.b.WriteString(`<hr style="margin:24px 0 12px;border:0;border-top:1px solid ` + rule + "\">\n")
	for note := n.FirstChild(); note != nil; note = note.NextSibling() {
		number := note.(*extension.Footnote).Index
		for block := note.FirstChild(); block != nil; block = block.NextSibling() {
			w.b.WriteString("<p" + style(smallLook) + ` class="m">`)
			if block == note.FirstChild() {
				fmt.Fprintf(&w.b, "[%d] ", number)
			}
			w.children(block)
			w.b.WriteString("</p>\n")
		}
	}
}

// children renders what is inside n. Links that raw HTML opened in n end with it.
func (w *htmlWriter) children(n ast.Node) {
	outer := len(w.open)
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		if c.Type() == ast.TypeBlock {
			w.block(c)
		} else {
			w.inline(c, outer)
		}
	}
	for len(w.open) > outer {
		w.closeRaw()
	}
}

func (w *htmlWriter) inline(n ast.Node, outer int) {
	switch n := n.(type) {
	case *ast.Text:
		w.text(n)
	case *ast.String:
		w.b.WriteString(html.EscapeString(string(n.Value)))
	case *ast.Emphasis:
		w.element([]string{"em", "strong"}[n.Level-1], "", n)
	case *extension.Strikethrough:
		w.element("s", "", n)
	case *ast.CodeSpan:
		w.element("code", style(mono), n)
	case *ast.Link:
		w.link(n)
	case *ast.AutoLink:
		w.autoLink(n)
	case *ast.Image:
		w.image(n)
	case *ast.RawHTML:
		w.raw(rawTag(n, w.source), outer)
	case *extension.TaskCheckBox:
		w.checkBox(n.IsChecked)
	case *extension.FootnoteLink:
		fmt.Fprintf(&w.b, `<sup style="font-size:12px;line-height:1">[%d]</sup>`, n.Index)
	case *extension.FootnoteBacklink:
	default:
		w.children(n)
	}
}

func (w *htmlWriter) checkBox(checked bool) {
	if checked {
		w.b.WriteString("☑ ")
	} else {
		w.b.WriteString("☐ ")
	}
}

func (w *htmlWriter) text(n *ast.Text) {
	value := n.Value(w.source)
	if n.IsRaw() {
		w.b.WriteString(html.EscapeString(visible(string(value))))
	} else {
		w.b.WriteString(html.EscapeString(literal(value)))
	}
	switch {
	case n.HardLineBreak():
		w.b.WriteString("<br>")
	case n.SoftLineBreak():
		w.b.WriteByte(' ')
	}
}

func (w *htmlWriter) link(n *ast.Link) {
	target := address(n.Destination)
	if target == "" || w.links > 0 {
		w.children(n)
		return
	}
	w.anchor(target, w.linkLook(n))
	w.children(n)
	w.closeAnchor()
}

// linkLook lets a linked headline look like a headline, and a letter's one link stand out.
func (w *htmlWriter) linkLook(n ast.Node) string {
	if _, ok := n.Parent().(*ast.Heading); ok {
		return titleLook
	}
	if w.part == letter && only(n.Parent()) == n {
		return buttonLook
	}
	return linkLook
}

func (w *htmlWriter) anchor(target, look string) {
	w.links++
	class := ""
	if look == titleLook {
		class = ` class="t"`
	}
	w.b.WriteString(`<a href="` + html.EscapeString(target) + `"` + style(look) + class + ">")
}

func (w *htmlWriter) closeAnchor() {
	w.links--
	w.b.WriteString("</a>")
}

func (w *htmlWriter) autoLink(n *ast.AutoLink) {
	label := html.EscapeString(visible(string(n.Label(w.source))))
	target, _ := autoAddress(n, w.source)
	if target == "" || w.links > 0 {
		w.b.WriteString(label)
		return
	}
	w.anchor(target, linkLook)
	w.b.WriteString(label)
	w.closeAnchor()
}

// logoWidth is the width of a template's own images, in pixels; an article's picture has its own.
const logoWidth = 180

// image shows a template's own image. An article's Markdown brings none into the mail: loading it would tell a stranger
// who reads, so it becomes a link.
func (w *htmlWriter) image(n *ast.Image) {
	target := address(n.Destination)
	alt := w.plain(n)
	if w.part != article {
		if target != "" {
			fmt.Fprintf(&w.b, `<img src="%s" alt="%s" width="%d" style="%s">`,
				html.EscapeString(target), html.EscapeString(alt), logoWidth, imageLook)
		}
		return
	}
	label := html.EscapeString(imageLabel(w.words, alt))
	if target == "" || w.links > 0 {
		w.b.WriteString("[" + label + "]")
		return
	}
	w.anchor(target, linkLook)
	w.b.WriteString(label)
	w.closeAnchor()
}

func imageLabel(w words, alt string) string {
	if alt == "" {
		return w.picture
	}
	return w.picture + ": " + alt
}

// raw keeps links and line breaks of inline HTML; outer is how many raw links were open around this run.
func (w *htmlWriter) raw(tag string, outer int) {
	name, target, closing := rawLink(tag)
	switch {
	case name == "br":
		w.b.WriteString("<br>")
	case name == "a" && closing && len(w.open) > outer:
		w.closeRaw()
	case name == "a" && !closing:
		shown := target != "" && w.links == 0
		w.open = append(w.open, shown)
		if shown {
			w.anchor(target, linkLook)
		}
	}
}

func (w *htmlWriter) closeRaw() {
	last := len(w.open) - 1
	if w.open[last] {
		w.closeAnchor()
	}
	w.open = w.open[:last]
}

// plain returns the words inside n, for an attribute.
func (d document) plain(n ast.Node) string {
	var b strings.Builder
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		switch c := c.(type) {
		case *ast.Text:
			b.WriteString(literal(c.Value(d.source)))
			if c.SoftLineBreak() {
				b.WriteByte(' ')
			}
		case *ast.String:
			b.Write(c.Value)
		default:
			b.WriteString(d.plain(c))
		}
	}
	return b.String()
}
