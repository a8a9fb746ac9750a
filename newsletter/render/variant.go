package render

import (
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Colour is a colour as #rrggbb; anything else prints as black.
type Colour string

var hexColour = regexp.MustCompile(`^#[0-9A-Fa-f]{6}$`)

// Valid reports whether c is a colour.
func (c Colour) Valid() bool { return hexColour.MatchString(string(c)) }

func (c Colour) String() string {
	if c.Valid() {
		return string(c)
	}
	return "#1d1d1b"
}

// Brand is who publishes: what the imprint needs (§ 5 DDG, § 18 Abs. 2 MStV) and how the paper looks.
type Brand struct {
	Paper                                  Text
	Logo                                   URL // empty: the paper's name in letters
	Colour                                 Colour
	Publisher, Address, Email, Responsible Text
	Privacy, Imprint                       URL
}

func (b Brand) clean() Brand {
	return Brand{
		Paper: b.Paper.clean(), Logo: b.Logo.clean(), Colour: b.Colour, Publisher: b.Publisher.clean(),
		Address: b.Address.clean(), Email: b.Email.clean(), Responsible: b.Responsible.clean(),
		Privacy: b.Privacy.clean(), Imprint: b.Imprint.clean(),
	}
}

// Newsletter is what a mail says about the newsletter it belongs to.
type Newsletter struct {
	Title   Text
	BaseURL URL // where readers signed up
}

func (n Newsletter) clean() Newsletter {
	return Newsletter{Title: n.Title.clean(), BaseURL: n.BaseURL.clean()}
}

// Section is one topic of a variant with its entries.
type Section struct {
	Name    Text // for the overview at the top; may be empty
	Heading Fragment
	Entries []Fragment
}

// Edition is what all variants of a digest have in common.
type Edition struct {
	Newsletter Newsletter
	Brand      Brand
	Day        time.Time // any instant of the day, in the newsletter's zone
	Header     Header    // for messages
	Prefix     string    // before every message's subject

	WebViewBase                      URL // the variant's number is appended; may be empty
	UnsubscribeBase, PreferencesBase URL // the reader's token is appended
}

// Variant is a digest cut to one set of topics.
type Variant struct {
	Number    int64
	Headlines []Text // most important first; the first few stand in subject and first line
	Count     int    // entries in all sections
	Sections  []Section
}

// digestData is what the blocks "subject", "opening" and "closing" see.
type digestData struct {
	Newsletter  Newsletter
	Brand       Brand
	Day         day
	Headlines   []Text
	Topics      []Text
	Count       int
	WebView     page
	Unsubscribe link
	Preferences link
	Since       since // when the reader signed up
}

// commonData is digestData without what differs between the variants of an edition. A block that can be rendered with it is
// the same in all of them.
type commonData struct {
	Newsletter  Newsletter
	Brand       Brand
	Day         day
	WebView     page
	Unsubscribe link
	Preferences link
	Since       since
}

func (d commonData) with(v Variant, number string) digestData {
	d = d.numbered(number)
	names := make([]Text, len(v.Sections))
	for i, s := range v.Sections {
		names[i] = s.Name
	}
	return digestData{
		Newsletter: d.Newsletter, Brand: d.Brand, Day: d.Day,
		Headlines: cleanFirst(v.Headlines, leads), Topics: cleanAll(names), Count: v.Count,
		WebView: d.WebView, Unsubscribe: d.Unsubscribe, Preferences: d.Preferences, Since: d.Since,
	}
}

// numbered ends the web view's address with a variant's number, or with the placeholder for it.
func (d commonData) numbered(number string) commonData {
	if d.WebView != "" {
		d.WebView += page(number)
	}
	return d
}

// leads is how many headlines a digest begins with: what a mailbox shows of a mail before it is opened.
const leads = 4

// page is the address of a web view, or empty.
type page string

func (p page) String() string { return string(p) }

// Host returns the address's host, as URL's does.
func (p page) Host() Text {
	base, _, _ := strings.Cut(string(p), numberMark)
	return URL(base).Host()
}

// link is an address that ends in a reader's token.
type link struct {
	base URL
	mark string
}

func (l link) String() string { return joinMark(l.base, l.mark) }

// Body is a mail without its headers. It holds placeholders where the readers' own values go, and nothing of any reader's.
type Body struct {
	Subject    string
	HTML, Text string
}

// subject renders the block "subject" as one line.
func (t *Template) subject(data any) (string, error) {
	markdown, err := t.execute("subject", data)
	if err != nil {
		return "", err
	}
	return t.subjectOf(markdown), nil
}

func (t *Template) subjectOf(markdown string) string {
	return subjectLine(t.fragment(markdown, entry, nil).Text)
}

// maxSubject is the length of a subject, in characters.
const maxSubject = 200

// replyPrefix is what a mail program puts before an answer; a digest that began so would pretend to be one.
var replyPrefix = regexp.MustCompile(`(?i)^((re|fwd?|aw|wg|sv|antw)\s*(\[\d+\])?\s*:\s*)+`)

// subjectLine makes a subject of a text: one line, truthful, not endless.
func subjectLine(s string) string {
	s = replyPrefix.ReplaceAllString(Plain(Text(s)), "")
	if utf8.RuneCountInString(s) <= maxSubject {
		return s
	}
	cut := string([]rune(s)[:maxSubject-1])
	if i := strings.LastIndexByte(cut, ' '); i > maxSubject/2 {
		cut = cut[:i]
	} else {
		cut = wholeCharacters(cut, s[len(cut):])
	}
	return strings.TrimRightFunc(cut, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsPunct(r) }) + "…"
}

// wholeCharacters drops the end of a cut that belongs to one character with what follows: an emoji's joined parts, a
// letter and its accents.
func wholeCharacters(cut, rest string) string {
	for cut != "" {
		next, _ := utf8.DecodeRuneInString(rest)
		last, size := utf8.DecodeLastRuneInString(cut)
		if !continues(next) && last != zeroWidthJoiner {
			return cut
		}
		rest = cut[len(cut)-size:] + rest
		cut = cut[:len(cut)-size]
	}
	return cut
}

const zeroWidthJoiner = '\u200D'

func continues(r rune) bool {
	return unicode.In(r, unicode.Mn, unicode.Mc, unicode.Me, unicode.Variation_Selector) || r == zeroWidthJoiner ||
		r >= 0x1F3FB && r <= 0x1F3FF
}

// With returns the mail as the reader p sees it, for a preview. To, MessageID and tokens the mail does not hold may be empty.
func (b Body) With(p Personal) (Body, error) {
	since := p.date()
	var pairs []string
	for _, m := range marks {
		if !strings.Contains(b.HTML, m.word) && !strings.Contains(b.Text, m.word) {
			continue
		}
		if err := p.check(m.field); err != nil {
			return Body{}, err
		}
		pairs = append(pairs, m.word, string(p.append(nil, m.field, &since)))
	}
	values := strings.NewReplacer(pairs...)
	return Body{Subject: b.Subject, HTML: values.Replace(b.HTML), Text: values.Replace(b.Text)}, nil
}

// Web returns the HTML as a public page: without what is one reader's own, and not to be indexed. No placeholder is left.
func (b Body) Web() string {
	page := withoutPersonal(b.HTML)
	for _, m := range marks {
		page = strings.ReplaceAll(page, m.word, "")
	}
	return strings.Replace(page, "</head>", `<meta name="robots" content="noindex">`+"\n</head>", 1)
}

func withoutPersonal(page string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(page, personalBegin)
		b.WriteString(before)
		if !found {
			return b.String()
		}
		_, page, _ = strings.Cut(rest, personalEnd)
	}
}
