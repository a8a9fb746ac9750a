package ingest

import (
	"bytes"
	"fmt"
	"io"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/net/html"
)

// ReadPage reads the article of a web page: from schema.org data (JSON-LD), then OpenGraph and other meta elements, then
// the HTML itself. Of the page around the article (newsletter boxes, teasers, navigation, advertisements) nothing comes
// along. A page without title, without an article, or whose address nobody says is an error. Dates read with doubt count
// as unknown; [Read] reports the doubts.
func ReadPage(name string, r io.Reader, src Source, now time.Time) (Article, error) {
	data, err := readAll(name, r)
	if err != nil {
		return Article{}, err
	}
	text, err := decode(data, "")
	if err != nil {
		return Article{}, fmt.Errorf("read %s: %w", name, err)
	}
	d, err := readPage(name, text, src, now)
	if err != nil {
		return Article{}, err
	}
	return d.Article, nil
}

func readPage(name string, text []byte, src Source, now time.Time) (*draft, error) {
	doc, err := html.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("read page %s: %w", name, err)
	}
	p := openPage(doc, src)
	d := newDraft(name, src, now)
	p.readHead(d)
	p.readDesk(d)
	p.readText(d)
	if !p.hasText && !p.claimsArticle() {
		return nil, fmt.Errorf("read page %s: no article found in it", name)
	}
	if d.Title == "" {
		return nil, fmt.Errorf("read page %s: no title", name)
	}
	if d.URL == "" {
		return nil, fmt.Errorf("read page %s: no address, expected <link rel=\"canonical\"> or og:url", name)
	}
	return d, nil
}

// page is an HTML page and what its head says.
type page struct {
	doc      *html.Node
	meta     map[string][]string // by property or name, in lower case
	data     object              // schema.org
	base     *url.URL
	address  string     // canonical; "" where nobody says
	headline *html.Node // nil where there is none
	root     *html.Node // the element that holds the article
	hasText  bool       // paragraphs of an article were found, known after readText
}

func openPage(doc *html.Node, src Source) *page {
	p := &page{doc: doc, meta: metaOf(doc)}
	p.base, _ = parseAddress(src.Base, nil)
	if b := find(doc, named("base")); b != nil {
		if u, err := parseAddress(attribute(b, "href"), p.base); err == nil {
			p.base = u
		}
	}
	p.data = articleData(doc, p.isMain)
	p.address = p.canonical(src)
	if u, err := parseAddress(p.address, nil); err == nil && p.base == nil {
		p.base = u
	}
	p.headline = p.findHeadline()
	p.root = p.findRoot()
	return p
}

func metaOf(doc *html.Node) map[string][]string {
	meta := map[string][]string{}
	for m := range below(doc, "meta") {
		key := strings.ToLower(first(attribute(m, "property"), attribute(m, "name"), attribute(m, "itemprop")))
		if value := strings.TrimSpace(attribute(m, "content")); key != "" && value != "" {
			meta[key] = append(meta[key], value)
		}
	}
	return meta
}

// said is the first value of the first of these meta elements that is there.
func (p *page) said(names ...string) string {
	for _, name := range names {
		if v := p.meta[name]; len(v) > 0 {
			return v[0]
		}
	}
	return ""
}

func (p *page) link(rel string) string {
	l := find(p.doc, func(n *html.Node) bool {
		return is(n, "link") && slices.Contains(strings.Fields(strings.ToLower(attribute(n, "rel"))), rel) && attribute(n, "href") != ""
	})
	if l == nil {
		return ""
	}
	return attribute(l, "href")
}

// isMain reports whether schema.org data is about this page, and not about an article it leads to.
func (p *page) isMain(o object) bool {
	own := addressKey(absolute(first(p.link("canonical"), p.said("og:url")), p.base))
	for _, property := range []string{"mainEntityOfPage", "url", "@id"} {
		if key := addressKey(absolute(o.text(property), p.base)); key != "" && key == own {
			return true
		}
	}
	return sameText(plain(o.text("headline")), plain(p.said("og:title")))
}

// canonical is the article's address as the page says it, else where the page came from. A home page is nobody's address.
func (p *page) canonical(src Source) string {
	for _, link := range []string{p.link("canonical"), p.data.text("mainEntityOfPage"), p.data.text("url"), p.said("og:url"), src.Base} {
		address, err := canonical(link, p.base)
		if err == nil && addressKey(address) != "" {
			return address
		}
	}
	return ""
}

// claimsArticle reports whether the page says of itself that it is an article.
func (p *page) claimsArticle() bool {
	return p.data.values != nil || strings.Contains(p.said("og:type"), "article")
}

func (p *page) readHead(d *draft) {
	d.URL = p.address
	d.Title = p.title()
	d.Language = languageTag(p.data.text("inLanguage"), p.htmlLanguage(), p.said("og:locale"), p.said("language"), d.Language)
	d.Published = d.date("published", first(p.data.text("datePublished"), p.said("article:published_time", "date",
		"dc.date", "dcterms.created", "datepublished"), p.timeElement()))
	d.Updated = d.date("updated", first(p.data.text("dateModified"), p.said("article:modified_time", "og:updated_time", "last-modified",
		"datemodified")))
	if n, err := strconv.ParseInt(p.data.text("version"), 10, 64); err == nil && n > 0 {
		d.Version = n
	}
}

func (p *page) htmlLanguage() string {
	if root := find(p.doc, named("html")); root != nil {
		return attribute(root, "lang")
	}
	return ""
}

// timeElement is the date of the first time element of the article.
func (p *page) timeElement() string {
	if p.root == nil {
		return ""
	}
	t := find(p.root, func(n *html.Node) bool { return is(n, "time") && has(n, "datetime") })
	if t == nil {
		return ""
	}
	return attribute(t, "datetime")
}

// title is the headline without the site's name: of schema.org, OpenGraph, the page's own headline or its title element.
func (p *page) title() string {
	titles := []string{p.data.text("headline"), p.data.text("name"), p.said("og:title", "twitter:title", "headline")}
	if p.headline != nil {
		titles = append(titles, textOf(p.headline, p.kickerIn(p.headline)))
	}
	if t := find(p.doc, named("title")); t != nil {
		titles = append(titles, textOf(t))
	}
	for _, t := range titles {
		if t = p.withoutSite(plain(t)); t != "" {
			return t
		}
	}
	return ""
}

var titleEnd = regexp.MustCompile(`^(.+\S)\s+([|·•»:–—-]|::)\s+([^|]+)$`)

// longestSite is how many characters may follow a bar for it to be a site's name that the page names nowhere else.
const longestSite = 40

// withoutSite cuts "| WNOZ" off a title. After a dash it must be a name the page gives itself: " - " stands in headlines, too.
func (p *page) withoutSite(title string) string {
	for range 2 { // "… | Politik | WNOZ"
		m := titleEnd.FindStringSubmatch(title)
		if m == nil || !p.isSite(m[3]) && (m[2] != "|" || utf8.RuneCountInString(m[3]) > longestSite) {
			break
		}
		title = m[1]
	}
	return title
}

func (p *page) isSite(name string) bool {
	names := []string{p.data.text("publisher"), p.said("og:site_name"), p.said("application-name"), p.said("publisher")}
	if u, err := url.Parse(p.address); err == nil {
		host := strings.TrimPrefix(u.Hostname(), "www.")
		label, _, _ := strings.Cut(host, ".")
		names = append(names, host, label)
	}
	return slices.ContainsFunc(names, func(n string) bool { return sameText(plain(n), name) })
}

var kickerRoles = wordSet("kicker overline dachzeile topline spitzmarke eyebrow roofline")

func (p *page) kickerIn(n *html.Node) *html.Node {
	return find(n, func(n *html.Node) bool { return hasRole(n, kickerRoles) && textOf(n) != "" })
}

// kicker is the element of that name in the article's head: up to the headline, or right behind it.
func (p *page) kicker() string {
	if p.headline == nil {
		return ""
	}
	const longest = 80
	passed := false
	for n := range p.head().Descendants() {
		switch {
		case n == p.headline:
			passed = true
		case passed && is(n, "p", "h2", "figure") && !within(n, p.headline):
			return ""
		case n.Type == html.ElementNode && hasRole(n, kickerRoles) && p.ownArticle(n):
			if text := strings.TrimSuffix(textOf(n), ":"); text != "" && utf8.RuneCountInString(text) <= longest {
				return text
			}
		}
	}
	return ""
}

// head is where headline and kicker stand: the root, or what holds root and a headline above it.
func (p *page) head() *html.Node {
	n := p.root
	for p.headline != nil && !within(p.headline, n) && n.Parent != nil {
		n = n.Parent
	}
	return n
}

// ownArticle reports that no other article stands between n and the root.
func (p *page) ownArticle(n *html.Node) bool {
	for n = n.Parent; n != nil && n != p.root; n = n.Parent {
		if is(n, "article", "aside", "nav") {
			return false
		}
	}
	return true
}

func (p *page) readDesk(d *draft) {
	sections := append(p.data.texts("articleSection"), p.meta["article:section"]...)
	d.Kicker = first(p.kicker(), plain(first(sections...)))
	d.categories(sections)
	d.categories(p.keywords())
	d.Place = plain(first(p.data.text("dateline"), p.data.text("contentLocation"), p.data.text("locationCreated")))
	if place, agency, rest, ok := dateline(d.Place + " x"); ok && rest == "x" { // "Brüssel (dpa) -"
		d.Place, d.Agency = place, agency
	}
	d.takeByline(p.data.texts("author")...)
	d.takeByline(p.data.texts("creator")...)
	if d.Author == "" {
		d.takeByline(p.said("author", "article:author", "dc.creator"))
	}
	if d.Author == "" {
		d.takeByline(p.byline()...)
	}
	if strings.HasPrefix(d.Author, "http") { // a profile's address, not a name
		d.Author = ""
	}
	d.Agency = first(d.Agency, creditOf(plain(p.data.text("creditText"))), creditOf(plain(p.data.text("sourceOrganization"))),
		creditOf(plain(p.data.text("provider"))))
}

// byline are the names that the article's head marks as its authors: by microdata, by a link to them, or with "Von …" in a
// line called so.
func (p *page) byline() []string {
	var names []string
	for n := range p.head().Descendants() {
		if n.Type != html.ElementNode || !p.ownArticle(n) {
			continue
		}
		text := textOf(n)
		switch {
		case attribute(n, "itemprop") == "author" || attribute(n, "rel") == "author":
			if name := find(n, func(n *html.Node) bool { return attribute(n, "itemprop") == "name" }); name != nil {
				text = textOf(name)
			}
			names = append(names, text)
		case bylineRole.MatchString(strings.Join(roles(n), " ")) && bylineText.MatchString(text) && len(names) == 0:
			return []string{text}
		}
	}
	return names
}

var (
	bylineRole = regexp.MustCompile(`byline|author|autor`)
	bylineText = regexp.MustCompile(`^(?i:von|by) \p{Lu}[^.:!?]{2,80}$`)
)

// keywords are the page's tags, as lists or as words between commas.
func (p *page) keywords() []string {
	var words []string
	for _, k := range append(p.data.texts("keywords"), p.meta["article:tag"]...) {
		words = append(words, strings.Split(k, ",")...)
	}
	return words
}

// findHeadline is the h1 that says what the metadata say, else the first within an article, else the first.
func (p *page) findHeadline() *html.Node {
	var best *html.Node
	score := 0
	for h := range below(p.doc, "h1") {
		s := 1
		switch text := textOf(h, p.kickerIn(h)); {
		case text == "":
			continue
		case sameText(text, plain(p.data.text("headline"))), sameText(text, plain(p.said("og:title"))):
			s = 3
		case ancestor(h, "article") != nil:
			s = 2
		}
		if s > score {
			best, score = h, s
		}
	}
	return best
}

func ancestor(n *html.Node, names ...string) *html.Node {
	for n = n.Parent; n != nil; n = n.Parent {
		if is(n, names...) {
			return n
		}
	}
	return nil
}

// shortArticle is how many letters of text make an article element more than a head.
const shortArticle = 200

// findRoot is the element that holds the article: the article element around the headline, else the one with the most
// text, else main, else the box of the headline, else the body.
func (p *page) findRoot() *html.Node {
	body := find(p.doc, named("body"))
	if body == nil {
		return p.doc
	}
	if p.headline != nil {
		if own := ancestor(p.headline, "article"); own != nil && (proseIn(own) >= shortArticle || find(body, isTextBox) == nil) {
			return own
		}
	}
	best, most := body, 0
	for a := range below(body, "article") {
		if n := proseIn(a); n > most {
			best, most = a, n
		}
	}
	if main := find(body, func(n *html.Node) bool { return is(n, "main") || attribute(n, "role") == "main" }); main != nil &&
		2*most < proseIn(main) {
		return main
	}
	if best == body && p.headline != nil {
		return boxOf(p.headline, body)
	}
	return best
}

// boxOf is the smallest element around the headline with most of the page's text: the column of the article, on pages that
// are built of div elements.
func boxOf(headline, body *html.Node) *html.Node {
	all := proseIn(body)
	for n := headline.Parent; n != nil && n != body; n = n.Parent {
		if 2*proseIn(n) > all {
			return n
		}
	}
	return body
}

var (
	bodyRoles = wordSet(`articlebody storybody entrycontent postcontent articletext articlecontent`)
	bodyNames = regexp.MustCompile(`(?i)\b(?:article|story|entry|post|news|artikel)[-_]{0,2}(?:body|content|text|inhalt)\b`)
)

// textRoots are the elements that hold the text and nothing but the text, where the page marks them; else the root.
func (p *page) textRoots() []*html.Node {
	var marked []*html.Node
	all, found := proseIn(p.root), 0
	for n := range p.root.Descendants() {
		if n.Type != html.ElementNode || !isTextBox(n) || !p.ownArticle(n) {
			continue
		}
		if slices.ContainsFunc(marked, func(m *html.Node) bool { return within(n, m) }) {
			continue
		}
		marked = append(marked, n)
		found += proseIn(n)
	}
	if 10*found < 6*all || len(marked) == 0 {
		return []*html.Node{p.root}
	}
	return marked
}

func isTextBox(n *html.Node) bool {
	if !is(n, "div", "section", "article") {
		return false
	}
	return attribute(n, "itemprop") == "articleBody" || hasRole(n, bodyRoles) ||
		bodyNames.MatchString(attribute(n, "class")) || bodyNames.MatchString(attribute(n, "id"))
}

// readText reads picture, teaser and body. It takes the tree apart, so it comes last.
func (p *page) readText(d *draft) {
	d.Picture = p.picture()
	d.Teaser = withoutMore(plain(first(p.data.text("description"), p.said("og:description", "twitter:description", "description"))))
	standfirst := p.standfirst()
	d.Teaser = first(d.Teaser, standfirst)
	if !p.data.free() {
		p.removeBarred()
	}
	r := reading{base: p.base, page: true, skip: []string{d.Title, d.Kicker, d.Teaser, standfirst}}
	if p.headline != nil {
		r.skip = append(r.skip, textOf(p.headline))
	}
	if d.Picture != nil {
		r.skip = append(r.skip, d.Picture.Caption, d.Picture.Alt)
	}
	p.cutHead()
	var parts []string
	for _, root := range p.textRoots() {
		if part := r.bodyOf(root); part != "" {
			parts = append(parts, part)
		}
	}
	d.Body = strings.Join(parts, "\n\n")
	if d.Body == "" && p.data.free() {
		d.Body = r.bodyOf(fragment(p.data.text("articleBody")))
	}
	p.hasText = d.Body != ""
	d.Agency = first(d.Agency, r.credit)
	if d.Teaser == "" {
		d.Teaser, d.Body = lead(d.Body)
	}
	d.takeDateline()
}

var standfirstRoles = wordSet("teaser lead intro standfirst vorspann subheadline subline abstract excerpt lede deck description")

// standfirst is the paragraph in the article's head that is named so; "" where none is.
func (p *page) standfirst() string {
	for n := range p.root.Descendants() {
		if is(n, "p", "div", "h2", "strong") && hasRole(n, standfirstRoles) && p.ownArticle(n) && find(n, named("p", "h3")) == nil {
			return textOf(n)
		}
	}
	return ""
}

// cutHead takes away what stands between the beginning of the article and its headline.
func (p *page) cutHead() {
	if p.headline == nil || !within(p.headline, p.root) {
		return
	}
	for n := p.headline; n != p.root; n = n.Parent {
		for n.PrevSibling != nil && 2*proseOf(n.PrevSibling) < proseIn(p.root) {
			n.Parent.RemoveChild(n.PrevSibling)
		}
	}
}

// removeBarred takes away what the page hides from those who have not paid, and serves nevertheless.
func (p *page) removeBarred() {
	for _, selector := range p.data.barred() {
		var gone []*html.Node
		name, class := strings.CutPrefix(selector, ".")
		id, byID := strings.CutPrefix(selector, "#")
		for n := range p.doc.Descendants() {
			if class && slices.Contains(strings.Fields(attribute(n, "class")), name) || byID && attribute(n, "id") == id {
				gone = append(gone, n)
			}
		}
		remove(gone)
	}
}

// picture is the image of the metadata, with what the figure that shows it adds; else the first figure of the article.
func (p *page) picture() *Picture {
	pic := p.data.picture()
	if pic == nil {
		if address := p.said("og:image:secure_url", "og:image", "og:image:url", "twitter:image"); address != "" {
			pic = &Picture{URL: address, Alt: p.said("og:image:alt", "twitter:image:alt")}
		}
	}
	if pic = pic.tidy(p.base); pic == nil {
		return p.figure(func(*Picture) bool { return true }).tidy(p.base)
	}
	shown := p.figure(func(f *Picture) bool { return path.Base(f.URL) == path.Base(pic.URL) }).tidy(p.base)
	if shown == nil { // under another name, cut to another size
		shown = p.leadFigure().tidy(p.base)
	}
	if shown != nil {
		pic.Alt, pic.Caption = first(pic.Alt, shown.Alt), first(pic.Caption, shown.Caption)
		pic.Credit = first(pic.Credit, shown.Credit)
	}
	return pic
}

// figure is the first picture in a figure of the article that a test accepts.
func (p *page) figure(test func(*Picture) bool) *Picture {
	for img := range below(p.root, "img") {
		if !p.ownArticle(img) || figureOf(img) == nil && ancestor(img, "picture") == nil {
			continue
		}
		if f := pictureAt(img); f != nil && test(f) {
			return f
		}
	}
	return nil
}

// leadFigure is the picture over the text: at most the standfirst stands before it. Another one is not what the metadata
// mean, and must not lend it its credit.
func (p *page) leadFigure() *Picture {
	before := 0
	for n := range p.root.Descendants() {
		switch {
		case isParagraph(n) && ancestor(n, "figure") == nil && !hasRole(n, captionRoles) && p.ownArticle(n):
			before++
		case is(n, "img") && before <= 1 && p.ownArticle(n) && figureOf(n) != nil:
			if f := pictureAt(n); f != nil {
				return f
			}
		}
	}
	return nil
}
