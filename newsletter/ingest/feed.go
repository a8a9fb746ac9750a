package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mmcdole/gofeed"
	"github.com/mmcdole/gofeed/atom"
	ext "github.com/mmcdole/gofeed/extensions"
	"github.com/mmcdole/gofeed/json"
	"github.com/mmcdole/gofeed/rss"
)

// ReadFeed reads RSS 0.9 to 2.0, RDF, Atom and JSON Feed. An item without title or address is a problem, and the others go
// on; a document that is no well-formed feed is an error.
func ReadFeed(name string, r io.Reader, src Source, now time.Time) (Result, error) {
	data, err := readAll(name, r)
	if err != nil {
		return Result{}, err
	}
	text, err := decode(data, "")
	if err != nil {
		return Result{}, fmt.Errorf("read %s: %w", name, err)
	}
	return readFeed(name, text, src, now)
}

// maxItems bounds what is read of one feed. Feeds hold tens of items; archives of everything are not news.
const maxItems = 2000

func readFeed(name string, text []byte, src Source, now time.Time) (Result, error) {
	f, err := parseFeed(text)
	if err != nil {
		return Result{}, fmt.Errorf("read feed %s: %w", name, err)
	}
	var result Result
	for _, d := range f.drafts(name, src, now) {
		result.Problems = append(result.Problems, d.problems...)
		if err := d.missing(); err != nil {
			result.Problems = append(result.Problems, err)
			continue
		}
		result.Articles = append(result.Articles, d.Article)
	}
	if n := len(f.items); n > maxItems {
		result.Problems = append(result.Problems, fmt.Errorf("%s: %d items, only the first %d were read", name, n, maxItems))
	}
	return result, nil
}

// feed is a feed of any format, in gofeed's common form, with what that form leaves out of each item.
type feed struct {
	*gofeed.Feed
	items []feedItem
}

type feedItem struct {
	*gofeed.Item
	link string // the item's page, as the rules of its format choose it
}

// parseFeed leaves well-formedness, namespaces and the formats' variants to gofeed. The parsers are called one by one,
// because gofeed looks for the format in the first 4 KiB only, and its common form drops what tells a page from a picture.
func parseFeed(text []byte) (*feed, error) {
	text = xmlEncoding.ReplaceAll(text, []byte("<?xml version='1.0'")) // it is UTF-8 by now
	kind := gofeed.DetectFeedType(bytes.NewReader(text))
	if kind == gofeed.FeedTypeAtom || kind == gofeed.FeedTypeRSS {
		if err := checkNesting(text); err != nil {
			return nil, err
		}
		if bytes.LastIndexByte(text, '<') > bytes.LastIndexByte(text, '>') {
			text = append(text[:len(text):len(text)], '>') // the last tag is not closed
		}
	}
	switch kind {
	case gofeed.FeedTypeAtom:
		return parseAtom(text)
	case gofeed.FeedTypeRSS:
		return parseRSS(text)
	case gofeed.FeedTypeJSON:
		return parseJSON(text)
	}
	return nil, errors.New("not a feed: expected RSS, RDF, Atom or JSON Feed")
}

func parseRSS(text []byte) (*feed, error) {
	native, err := (&rss.Parser{}).Parse(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	common, err := (&gofeed.DefaultRSSTranslator{DisableContentImageScan: true}).Translate(native)
	if err != nil {
		return nil, err
	}
	f := &feed{Feed: common}
	for i, item := range common.Items {
		f.items = append(f.items, feedItem{Item: item, link: rssLink(native.Items[i], item)})
	}
	return f, nil
}

// rssLink is where an RSS item leads: FeedBurner's original address, link, an Atom link, or a guid that is a permalink.
func rssLink(native *rss.Item, item *gofeed.Item) string {
	link := first(said(item, "origlink"), item.Link)
	for _, l := range item.Extensions["atom"]["link"] {
		if rel := l.Attrs["rel"]; rel == "" || rel == "alternate" {
			link = first(link, l.Attrs["href"])
		}
	}
	guid := native.GUID
	if link == "" && guid != nil && !strings.EqualFold(guid.IsPermalink, "false") && isHTTP(guid.Value) {
		link = guid.Value
	}
	return link
}

func isHTTP(s string) bool {
	_, err := parseAddress(s, nil)
	return err == nil
}

func parseAtom(text []byte) (*feed, error) {
	native, err := (&atom.Parser{}).Parse(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	common, err := (&gofeed.DefaultAtomTranslator{}).Translate(native)
	if err != nil {
		return nil, err
	}
	f := &feed{Feed: common}
	for i, item := range common.Items {
		for _, s := range []*string{&item.Title, &item.Description, &item.Content} {
			*s = xhtmlPrefix.ReplaceAllString(*s, "$1$2")
		}
		f.items = append(f.items, feedItem{Item: item, link: atomLink(native.Entries[i], item)})
	}
	return f, nil
}

// xhtmlPrefix is what XHTML elements are called in a feed that binds their namespace to a prefix: <h:p>.
var xhtmlPrefix = regexp.MustCompile(`(</?)[A-Za-z][A-Za-z0-9]*:([A-Za-z])`)

// atomLink is the alternate that is a page (RFC 4287 §4.2.7), else the id where that is an address.
func atomLink(entry *atom.Entry, item *gofeed.Item) string {
	link := said(item, "origlink")
	other := ""
	for _, l := range entry.Links {
		switch {
		case !strings.EqualFold(l.Rel, "alternate"):
		case l.Type == "" || strings.Contains(strings.ToLower(l.Type), "html"):
			link = first(link, l.Href)
		default:
			other = first(other, l.Href)
		}
	}
	if link = first(link, other); link == "" && isHTTP(entry.ID) {
		link = entry.ID
	}
	return link
}

func parseJSON(text []byte) (*feed, error) {
	native, err := (&json.Parser{}).Parse(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	if !strings.Contains(native.Version, "jsonfeed.org/version") && len(native.Items) == 0 {
		return nil, errors.New("JSON, but not a JSON Feed: no version and no items")
	}
	native.Items = slices.DeleteFunc(native.Items, func(i *json.Item) bool { return i == nil })
	common, err := (&gofeed.DefaultJSONTranslator{}).Translate(native)
	if err != nil {
		return nil, err
	}
	f := &feed{Feed: common}
	for i, item := range common.Items {
		link := first(native.Items[i].URL, native.Items[i].ExternalURL)
		if link == "" && isHTTP(item.GUID) {
			link = item.GUID
		}
		f.items = append(f.items, feedItem{Item: item, link: link})
	}
	return f, nil
}

// Bounds on XML, far beyond any feed: gofeed calls itself for every level, and copies the namespaces in scope for every
// element that declares one.
const (
	maxDepth        = 200
	maxDeclarations = 8000
)

// checkNesting refuses XML that is built to exhaust a parser. It counts tags and understands no more of XML than where
// tags are not: in comments, CDATA, declarations and processing instructions.
func checkNesting(text []byte) error {
	if bytes.Count(text, []byte("xmlns")) > maxDeclarations {
		return fmt.Errorf("more than %d namespace declarations", maxDeclarations)
	}
	depth := 0
	for {
		i := bytes.IndexByte(text, '<')
		if i < 0 {
			return nil
		}
		text = text[i:]
		end := tagEnd(text)
		if end < 0 {
			return nil // the parser says so better
		}
		switch tag := text[:end]; {
		case tag[1] == '/':
			depth--
		case tag[1] != '!' && tag[1] != '?' && tag[len(tag)-2] != '/':
			depth++
		}
		if depth > maxDepth {
			return fmt.Errorf("elements nested deeper than %d", maxDepth)
		}
		text = text[end:]
	}
}

// tagEnd is the length of the markup that text begins with, or -1.
func tagEnd(text []byte) int {
	end, from := ">", 0
	switch {
	case bytes.HasPrefix(text, []byte("<!--")):
		end, from = "-->", 4
	case bytes.HasPrefix(text, []byte("<![CDATA[")):
		end = "]]>"
	case bytes.HasPrefix(text, []byte("<?")):
		end = "?>"
	}
	i := bytes.Index(text[from:], []byte(end))
	if i < 0 || from+i+len(end) < 3 {
		return -1
	}
	return from + i + len(end)
}

// drafts reads the items, whether or not they hold what an article needs.
func (f *feed) drafts(name string, src Source, now time.Time) []*draft {
	base := f.base(src)
	lang := languageTag(f.Language, src.Language)
	var drafts []*draft
	for i, item := range f.items {
		if i == maxItems {
			break
		}
		where := fmt.Sprintf("%s: item %d", name, i+1)
		if title := first(item.Title, item.GUID); title != "" {
			where += " " + quoted(plain(title))
		}
		d := newDraft(where, src, now)
		d.Language = lang
		item.read(d, base)
		drafts = append(drafts, d)
	}
	return drafts
}

// base is what relative links are relative to, where no xml:base says otherwise: the feed's page, as RSS has it.
func (f *feed) base(src Source) *url.URL {
	base, _ := parseAddress(src.Base, nil)
	for _, link := range []string{f.Link, f.FeedLink} {
		if u, err := parseAddress(link, base); err == nil {
			return u
		}
	}
	return base
}

func (item feedItem) read(d *draft, base *url.URL) {
	d.GUID = oneLine(item.GUID)
	d.Title = plain(item.Title)
	if link, err := canonical(item.link, base); err == nil {
		d.URL = link
	} else if item.link != "" {
		d.doubt("link: %w", err)
	}
	updated := first(item.Updated, said(item.Item, "modified"))
	d.Published = d.date("published", first(item.Published, said(item.Item, "issued"), updated))
	d.Updated = d.date("updated", updated)
	item.readDesk(d)
	for _, person := range item.Authors {
		if person != nil {
			d.takeByline(person.Name)
		}
	}
	d.Agency = first(d.Agency, creditOf(said(item.Item, "agency", "creditline", "credit")))

	// An item's HTML is a piece of its page, so its links are relative to that page.
	if page, err := parseAddress(item.link, base); err == nil {
		base = page
	}
	d.Picture = item.picture(base)
	item.readText(d, base)
	d.takeDateline()
}

// readDesk reads what is meant for the desk. Feeds have no standard for it; these are the names in use.
func (item feedItem) readDesk(d *draft) {
	d.Kicker = plain(said(item.Item, "kicker", "dachzeile", "overline", "topline", "spitzmarke"))
	if dc := item.DublinCoreExt; d.Kicker == "" && dc != nil && len(dc.Subject) == 1 {
		d.Kicker = plain(dc.Subject[0])
	}
	d.categories(item.Categories)
	d.Place = plain(said(item.Item, "place", "location", "ort"))
	if dc := item.DublinCoreExt; dc != nil && len(dc.Language) > 0 {
		d.Language = first(languageTag(dc.Language[0]), d.Language)
	}
	if n, err := strconv.Atoi(said(item.Item, "urgency", "priority")); err == nil && n >= 1 && n <= 8 {
		d.Urgency = n
	}
	if n, err := strconv.ParseInt(said(item.Item, "version"), 10, 64); err == nil && n > 0 {
		d.Version = n
	}
	status, ok := statusOf(said(item.Item, "pubstatus"))
	if d.Status = status; !ok {
		d.doubt("pubstatus not understood; the article is withheld")
	}
	d.embargo(said(item.Item, "embargo", "embargoed", "embargodate"))
}

// said is the text of the first element of one of these names, in whatever namespace; "" for none. Names are compared
// without regard to case, and asked for in lower case.
func said(item *gofeed.Item, names ...string) string {
	for _, name := range names {
		if e := extensions(item, name); len(e) > 0 {
			return strings.TrimSpace(e[0].Value)
		}
		for key, value := range item.Custom {
			if strings.EqualFold(key, name) {
				return strings.TrimSpace(value)
			}
		}
	}
	return ""
}

// extensions are the elements of a name, the namespaces' prefixes in the order of the alphabet.
func extensions(item *gofeed.Item, name string) []ext.Extension {
	prefixes := make([]string, 0, len(item.Extensions))
	for prefix := range item.Extensions {
		prefixes = append(prefixes, prefix)
	}
	slices.Sort(prefixes)
	var found []ext.Extension
	for _, prefix := range prefixes {
		for key, elements := range item.Extensions[prefix] {
			if strings.EqualFold(key, name) {
				found = append(found, elements...)
			}
		}
	}
	return found
}

// readText tells teaser and body apart: a short text is a teaser, whichever element it stands in; a long one is a body,
// and its first paragraph the teaser where there is no other.
func (item feedItem) readText(d *draft, base *url.URL) {
	teaser, content := item.Description, item.Content
	if content == "" || strings.TrimSpace(content) == strings.TrimSpace(teaser) {
		teaser, content = "", first(content, teaser)
	}
	d.Teaser = withoutMore(plain(teaser))
	r := reading{base: base, skip: []string{d.Title, d.Teaser}}
	if d.Picture != nil {
		r.skip = append(r.skip, d.Picture.Caption)
	}
	d.Body = r.bodyOf(fragment(content))
	d.Agency = first(d.Agency, r.credit)
	if d.Teaser == "" {
		d.Teaser, d.Body = lead(d.Body)
		d.Teaser = withoutMore(d.Teaser)
	}
}

// longestLead bounds, in characters, the paragraph that may stand for a teaser.
const longestLead = 800

// lead splits the first paragraph of a body off as plain text, if it is one: not a heading, a list or a quote, and without
// links, which a teaser cannot hold.
func lead(body string) (teaser, rest string) {
	paragraph, rest, _ := strings.Cut(body, "\n\n")
	if utf8.RuneCountInString(paragraph) > longestLead || notParagraph.MatchString(paragraph) {
		return "", body
	}
	return markdownText(paragraph), strings.TrimSpace(rest)
}

var notParagraph = regexp.MustCompile("^(?:#|>|[-*+] |\\d+[.)] |\\||```|~~~)|\\]\\(|\\n[-|]|<(?:https?|mailto):")

// more is what teasers end with that were cut off by a CMS.
var more = regexp.MustCompile(`(?i)\s*(?:\(?(?:weiterlesen|zum artikel|mehr lesen|mehr dazu|read (?:more|on)|continue reading|full story)\)?(?: ?[→»…>]+| ?\.{3})?|\[link\])$`)

func withoutMore(teaser string) string {
	teaser = more.ReplaceAllString(teaser, "")
	for _, cut := range []string{"[…]", "[...]", "(…)", "[&hellip;]"} {
		if t, ok := strings.CutSuffix(teaser, cut); ok {
			return strings.TrimRight(t, " .…") + " …"
		}
	}
	return teaser
}

// picture is the widest picture the item names (Media RSS, JSON Feed, iTunes), an enclosure, or the first in its text.
func (item feedItem) picture(base *url.URL) *Picture {
	p := item.mediaPicture()
	if p == nil && item.Image != nil && item.Image.URL != "" {
		p = &Picture{URL: item.Image.URL, Alt: item.Image.Title}
	}
	for _, e := range item.Enclosures {
		if p == nil && strings.HasPrefix(strings.ToLower(e.Type), "image/") {
			p = &Picture{URL: e.URL}
		}
	}
	if p == nil {
		p = firstPicture(fragment(first(item.Content, item.Description)))
	}
	return p.tidy(base)
}

// mediaPicture reads Media RSS: media:content, alone or in a media:group, else media:thumbnail. Description and credit may
// stand in it or beside it.
func (item feedItem) mediaPicture() *Picture {
	media := item.Extensions["media"]
	contents := media["content"]
	for _, group := range media["group"] {
		contents = append(contents, group.Children["content"]...)
	}
	var best *ext.Extension
	for i, c := range contents {
		if !isPicture(c) {
			continue
		}
		if best == nil || number(c.Attrs["width"]) > number(best.Attrs["width"]) {
			best = &contents[i]
		}
	}
	if best == nil && len(media["thumbnail"]) > 0 {
		best = &media["thumbnail"][0]
	}
	if best == nil {
		return nil
	}
	about := func(name string) string {
		for _, from := range []map[string][]ext.Extension{best.Children, media} {
			if e := from[name]; len(e) > 0 && e[0].Value != "" {
				return e[0].Value
			}
		}
		return ""
	}
	return &Picture{
		URL: best.Attrs["url"], Alt: about("title"), Caption: about("description"),
		Credit: first(about("credit"), about("copyright")),
	}
}

var pictureName = regexp.MustCompile(`(?i)\.(?:jpe?g|png|gif|webp)(?:\?|$)`)

func isPicture(media ext.Extension) bool {
	kind := strings.ToLower(first(media.Attrs["medium"], media.Attrs["type"]))
	return media.Attrs["url"] != "" && (strings.HasPrefix(kind, "image") || kind == "" && pictureName.MatchString(media.Attrs["url"]))
}
