package ingest

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/JohannesKaufmann/html-to-markdown/v2/converter"
	"github.com/JohannesKaufmann/html-to-markdown/v2/plugin/base"
	"github.com/JohannesKaufmann/html-to-markdown/v2/plugin/commonmark"
	"github.com/JohannesKaufmann/html-to-markdown/v2/plugin/table"
	"github.com/microcosm-cc/bluemonday"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// allowed is the HTML a body may hold before it becomes Markdown. Nothing that is not on the list gets through.
var allowed = func() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("p", "br", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code", "strong", "b",
		"em", "i", "table", "thead", "tbody", "tr", "th", "td", "caption")
	p.AllowAttrs("href").OnElements("a")
	p.AllowAttrs("start").Matching(regexp.MustCompile(`^\d{1,4}$`)).OnElements("ol")
	p.AllowURLSchemes("http", "https", "mailto")
	p.RequireParseableURLs(true)
	return p
}()

// toMarkdown turns clean HTML into Markdown. It is safe for concurrent use.
var toMarkdown = converter.NewConverter(converter.WithPlugins(
	base.NewBasePlugin(), commonmark.NewCommonmarkPlugin(), table.NewTablePlugin(table.WithHeaderPromotion(true)),
))

// reading says how the body of a document is told from what stands around it.
type reading struct {
	base *url.URL // for relative links
	page bool     // a whole page: short loose words are labels and buttons, not text
	skip []string // headline, standfirst, captions: what is kept elsewhere

	credit string // out: the agency that a line at the end named
}

// bodyOf reads the article in the tree below root, which it takes apart, as Markdown.
func (r *reading) bodyOf(root *html.Node) string {
	r.prune(root)
	body := &html.Node{Type: html.ElementNode, Data: "div", DataAtom: atom.Div}
	r.collect(root, body)
	r.dropWhatIsNoText(body)
	dropEmptyHeadings(body)
	r.tidy(body)
	var source strings.Builder
	if err := html.Render(&source, body); err != nil { // a strings.Builder does not fail
		return ""
	}
	markdown, err := toMarkdown.ConvertString(allowed.Sanitize(source.String()))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(trailingSpaces.ReplaceAllString(clean(markdown), "$1"))
}

// trailingSpaces are spaces at the end of a paragraph; before a single line break they mean a hard break.
var trailingSpaces = regexp.MustCompile(`[ \t]+(\n\n|\z)`)

// fragment parses a piece of HTML, or text that has none, under a root of its own.
func fragment(source string) *html.Node {
	root := &html.Node{Type: html.ElementNode, Data: "div", DataAtom: atom.Div}
	if !looksLikeHTML(source) {
		source = paragraphs(source)
	}
	nodes, err := html.ParseFragment(strings.NewReader(source), root)
	if err != nil { // nested too deeply: then as text
		nodes = []*html.Node{{Type: html.TextNode, Data: plain(source)}}
	}
	for _, n := range nodes {
		root.AppendChild(n)
	}
	return root
}

var anyTag = regexp.MustCompile(`(?i)<(?:/?(?:p|br|div|span|a|b|i|em|strong|ul|ol|li|h[1-6]|img|blockquote|figure|table|pre|code|hr|section|article|font|center|sup|sub|u|cite|q|small|dl|style|script)\b[^<]*)>`)

func looksLikeHTML(s string) bool { return anyTag.MatchString(s) }

var blankLines = regexp.MustCompile(`\n[ \t]*(?:\n[ \t]*)+`)

// paragraphs makes HTML of plain text, whose paragraphs are set off by blank lines.
func paragraphs(text string) string {
	var b strings.Builder
	text = strings.ReplaceAll(html.UnescapeString(text), "\r\n", "\n")
	for _, p := range blankLines.Split(strings.TrimSpace(text), -1) {
		b.WriteString("<p>" + html.EscapeString(p) + "</p>\n")
	}
	return b.String()
}

var (
	// Elements that never belong to an article's text. On a page neither do those that set other articles and the head apart.
	neverText = wordSet(`script style noscript template aside nav form footer iframe object embed svg canvas video audio
		button input select textarea label dialog menu figure picture img map progress meter address hr`)
	neverOnPage  = wordSet("article header h1")
	notTextRoles = wordSet(`complementary navigation search form banner contentinfo dialog alertdialog toolbar menu tablist`)
	aroundStem   = regexp.MustCompile(`newsletter|kommentar|comment|recommend|empfehl|related|teaser|autor|advert|werbung|paywall|` +
		`cookie|sponsor|sharing|feedback|subscri|bildunterschrift`)
	// Words in class or id of what publishers put around and into an article.
	around = wordSet(`newsletter newsletters related relatedcontent teaser teasers teaserlist recommend recommended
		recommendation recommendations share sharing sharebar social socials socialmedia comment comments ad ads adslot adbox
		advert advertisement advertising advertorial anzeige anzeigen werbung paywall feedback promo promotion promobox
		sponsor sponsored outbrain taboola breadcrumb breadcrumbs byline author authors authorbox autor autoren tags taglist
		keywords toolbar sidebar popup modal overlay cookie consent subscribe subscription abo abobox signup register
		registration readmore weiterlesen more mehr navigation nav menu footer pagination pager poll voting rating print
		caption bildtext bildzeile bildinfo credit credits copyright gallery slideshow carousel widget player video audio follow donate donation spenden
		similar trending popular meistgelesen disqus feedflare dateline publishdate pubdate timestamp meta metadata readtime
		kicker overline dachzeile topline spitzmarke skip visually sr breaking ticker marginal marginalia interstitial`)
)

// prune takes away, in place, what structure or name tell to be no text of the article below root.
func (r *reading) prune(root *html.Node) {
	all := proseIn(root)
	var gone []*html.Node
	for n := range root.Descendants() {
		switch {
		case n.Type == html.CommentNode:
			gone = append(gone, n)
		case n.Type != html.ElementNode:
		case neverText[n.Data] || r.page && neverOnPage[n.Data] || isHidden(n) || notTextRoles[strings.ToLower(attribute(n, "role"))]:
			gone = append(gone, boxAround(n, root, all))
		case n.Data == "h1": // a level of its own belongs to the headline
			n.Data, n.DataAtom = "h2", atom.H2
		}
	}
	remove(gone)
	remove(namedAround(root, all))
}

func isHidden(n *html.Node) bool {
	style := strings.ReplaceAll(strings.ToLower(attribute(n, "style")), " ", "")
	return has(n, "hidden") || attribute(n, "aria-hidden") == "true" || strings.Contains(style, "display:none") ||
		strings.Contains(style, "visibility:hidden")
}

// boxAround is the box that a form stands in, with its heading and small print; anything else is its own box. A box is
// never half of the article.
func boxAround(n, root *html.Node, all int) *html.Node {
	if !is(n, "form", "input") {
		return n
	}
	box := n
	for p := n.Parent; p != nil && p != root && !isTextBox(p); p = p.Parent {
		if prose := proseIn(p); prose > longestBox || 2*prose >= all {
			break
		}
		if is(p, "div", "section", "aside", "ul", "p") {
			box = p
		}
	}
	return box
}

// longestBox is how many letters of text a box with a form may have; what has more is the article.
const longestBox = 500

// proseIn counts the letters of the paragraphs under n, without those in forms, asides and the like.
func proseIn(n *html.Node) int {
	count := 0
	for c := range n.ChildNodes() {
		switch {
		case isParagraph(c):
			count += len(textOf(c))
		case c.Type == html.ElementNode && !neverText[c.Data]:
			count += proseIn(c)
		}
	}
	return count
}

// isParagraph accepts p and li, and what stands for them on pages built of div elements: a box with text of its own that
// is longer than a label.
func isParagraph(n *html.Node) bool {
	if is(n, "p", "li") {
		return true
	}
	if !is(n, "div", "section", "td") || holdsBlocks(n) {
		return false
	}
	own := 0
	for c := range n.ChildNodes() {
		if c.Type == html.TextNode {
			own += len(strings.TrimSpace(c.Data))
		}
	}
	return own >= shortest
}

// standsAround reports a name of the table above, or one that is made with such a word: "nachrichtenteaser".
func standsAround(n *html.Node) bool {
	return slices.ContainsFunc(roles(n), func(word string) bool { return around[word] || aroundStem.MatchString(word) })
}

// namedAround goes by class and id. These are chosen by people, so an element that holds half of the text stays whatever
// it is called: a paywall's wrapper around the article is not the paywall's box.
func namedAround(n *html.Node, all int) []*html.Node {
	var found []*html.Node
	for c := range n.ChildNodes() {
		switch {
		case c.Type != html.ElementNode:
		case standsAround(c) && !isInline(c) && (all == 0 || 2*proseOf(c) < all):
			found = append(found, c)
		default:
			found = append(found, namedAround(c, all)...)
		}
	}
	return found
}

// proseOf is proseIn, for a paragraph too.
func proseOf(n *html.Node) int {
	if isParagraph(n) {
		return len(textOf(n))
	}
	return proseIn(n)
}

// isInline reports an element inside a paragraph: a class there says how words look, not what they are.
func isInline(n *html.Node) bool {
	if !is(n, "span", "a", "strong", "em", "b", "i", "time", "small", "u", "mark", "abbr") {
		return false
	}
	for p := n.Parent; p != nil; p = p.Parent {
		if is(p, "p", "li", "td", "blockquote", "h2", "h3", "h4") {
			return true
		}
	}
	return false
}

// collect moves the blocks of text under n to body. Text that stands loose in a box becomes paragraphs, which end at
// blocks and at two line breaks.
func (r *reading) collect(n, body *html.Node) {
	var loose *html.Node
	for c := n.FirstChild; c != nil; {
		next := c.NextSibling
		switch {
		case is(c, "br") && (loose == nil || is(solid(next), "br")):
			loose = nil
		case is(c, "p", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "blockquote", "pre", "table"):
			loose = nil
			n.RemoveChild(c)
			body.AppendChild(c)
		case c.Type == html.ElementNode && (markup[c.Data] != inlineTag && c.Data != "br" || holdsBlocks(c)):
			loose = nil
			r.collect(c, body)
		case c.Type == html.TextNode || c.Type == html.ElementNode:
			if loose == nil {
				loose = &html.Node{Type: html.ElementNode, Data: "p", DataAtom: atom.P, Attr: []html.Attribute{{Key: looseMark}}}
				body.AppendChild(loose)
			}
			n.RemoveChild(c)
			loose.AppendChild(c)
		}
		c = next
	}
}

// solid is n, or the first sibling after it that is more than white space.
func solid(n *html.Node) *html.Node {
	for n != nil && n.Type == html.TextNode && strings.TrimSpace(n.Data) == "" {
		n = n.NextSibling
	}
	return n
}

const looseMark = "loose" // a paragraph that collect made; gone after sanitising

// holdsBlocks reports an inline element that holds blocks, such as <a><p>…</p></a>.
func holdsBlocks(n *html.Node) bool {
	return find(n, named("p", "h1", "h2", "h3", "h4", "ul", "ol", "blockquote", "pre", "table", "div", "section")) != nil
}

var (
	leadsElsewhere = regexp.MustCompile(`(?i)^\W*(?:lesen sie (?:auch|hier|dazu|mehr)|auch interessant|mehr (?:zum thema|dazu|aus)|lesetipp|` +
		`zum thema|siehe auch|das könnte sie (?:auch )?interessieren|weitere (?:artikel|meldungen|nachrichten)|` +
		`read (?:also|more|next)|see also|also read|related|more on this|continue reading|don't miss|zur startseite|` +
		`the post .* (?:first )?appeared first on|the post .* first appeared on|der beitrag .* erschien zuerst auf)`)
	aboutThePage = regexp.MustCompile(`(?i)^\W*(?:© ?\d{0,4} ?\pL|dpa-infocom|quelle: [\pL/ -]{2,30}$|stand: [\d., :uhr]+$|` +
		`(?:haben sie|ist ihnen|sind ihnen|hat der artikel|hat ihnen)\b.{0,160}\b(?:fehler|gefallen|versprochen|schreiben sie)\b|` +
		`schreiben sie uns\b|alle rechte vorbehalten|all rights reserved|fehler (?:gefunden|entdeckt|melden)\b|(?:found|spotted) (?:an error|a mistake)\b|artikel (?:teilen|drucken|merken)$|` +
		`(?:werbung|anzeige|advertisement)$|newsletter$)`)
	boxHeading = regexp.MustCompile(`(?i)^\W*(?:(?:unser |der |kostenloser? |\S+-)?newsletter|mehr zum thema|zum thema|lesen sie auch|` +
		`auch interessant|das könnte sie (?:auch )?interessieren|weitere (?:artikel|meldungen|nachrichten|themen)|meistgelesen|` +
		`kommentare?|related(?: articles| stories| content)?|read (?:more|also|next)|more on this(?: story)?|comments|most read)\W*$`)
	boxProse = regexp.MustCompile(`(?i)newsletter|abonnieren|registrierung|datenschutz|privacy policy|subscribe|sign up`)
)

// dropWhatIsNoText drops blocks that lead elsewhere, talk about the page, or repeat what other fields hold.
func (r *reading) dropWhatIsNoText(body *html.Node) {
	var gone []*html.Node
	inBox := false // after a box's heading that nothing else sets apart
	for n := range body.ChildNodes() {
		text := textOf(n)
		heading := is(n, "h2", "h3", "h4", "h5", "h6")
		switch {
		case heading:
			inBox = boxHeading.MatchString(text)
		case inBox:
			inBox = boxProse.MatchString(text)
		}
		if text == "" || inBox || r.isNoText(n, text) {
			gone = append(gone, n)
		}
	}
	remove(gone)
}

// shortest is how many characters loose text of a page must have to be a paragraph and not a label, unless it is a sentence.
const shortest = 60

var sentence = regexp.MustCompile(`^[\p{Lu}\d"„“»«‚‘(].{15,}[\pL\d)][.!?…]["“”»«’)]*$`)

func (r *reading) isNoText(n *html.Node, text string) bool {
	if is(n, "pre", "table") {
		return false
	}
	for _, s := range r.skip {
		if sameText(text, s) {
			return true
		}
	}
	if letters(text) == "" || r.page && has(n, looseMark) && utf8.RuneCountInString(text) < shortest && !sentence.MatchString(text) {
		return true
	}
	linked := linkedShare(n)
	if linked == 1 && (r.page || is(n, "p") && more.MatchString(" "+text)) {
		return true
	}
	if utf8.RuneCountInString(text) > 300 {
		return false
	}
	if credit := closingCredit(text); credit != "" {
		r.credit = first(r.credit, credit)
		return true
	}
	return leadsElsewhere.MatchString(text) && (linked > 0.4 || boxHeading.MatchString(text)) || aboutThePage.MatchString(text)
}

// closingCredit is the agency that a line names and says nothing else: "(dpa)", "Quelle: dpa", and "© dpa-infocom,
// dpa:260210-930-…/1", which dpa's service for websites closes with.
func closingCredit(line string) string {
	line = strings.TrimSpace(strings.TrimLeft(line, "© "))
	if strings.HasPrefix(line, "dpa-infocom") {
		return "dpa"
	}
	return creditOf(strings.TrimPrefix(line, "Quelle: "))
}

// linkedShare is the share of a block's letters that are links, 0…1.
func linkedShare(n *html.Node) float64 {
	var links []*html.Node
	for a := range below(n, "a") {
		links = append(links, a)
	}
	all, rest := len(letters(textOf(n))), len(letters(textOf(n, links...)))
	if len(links) == 0 || all == 0 {
		return 0
	}
	return float64(all-rest) / float64(all)
}

// dropEmptyHeadings drops headings that nothing follows: what they stood over is gone.
func dropEmptyHeadings(body *html.Node) {
	var gone []*html.Node
	next := "h1" // what follows, seen from behind; the end closes every heading
	for n := body.LastChild; n != nil; n = n.PrevSibling {
		if is(n, "h2", "h3", "h4", "h5", "h6") && isHeading(next) && n.Data >= next {
			gone = append(gone, n)
			continue
		}
		next = n.Data
	}
	remove(gone)
}

func isHeading(name string) bool {
	return len(name) == 2 && name[0] == 'h' && name[1] >= '1' && name[1] <= '6'
}

// tidy makes links absolute, or plain where they lead nowhere, and breaks text that stands in them no further.
func (r *reading) tidy(body *html.Node) {
	for a := range below(body, "a") {
		href := attribute(a, "href")
		to := ""
		if strings.HasPrefix(strings.ToLower(href), "mailto:") {
			to = href
		} else if u, err := parseAddress(href, r.base); err == nil && !strings.HasPrefix(href, "#") {
			u.RawQuery = withoutTracking(u.RawQuery)
			to = u.String()
		}
		a.Attr = nil
		if to != "" {
			a.Attr = []html.Attribute{{Key: "href", Val: to}}
		}
	}
}
