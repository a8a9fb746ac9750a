// Package ingest turns foreign documents into articles: feeds (RSS, RDF, Atom, JSON Feed), article pages (schema.org,
// OpenGraph, HTML) and Markdown files with front matter. It fetches them, too, without reaching into private networks.
//
// Everything that comes out is clean: fields are plain text on one line, the body is Markdown without raw HTML, addresses
// are absolute http(s). What had to be refused or guessed is reported beside the articles, by name; nothing is dropped
// silently. The package knows no database: what is new and what is a repetition is decided from [Article.Keys],
// [Article.Version] and [Article.Hash].
package ingest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Article is one state of one article as its source gave it. Text fields are plain text on one line: entities decoded,
// tags removed, NFC, without control, bidi or zero-width characters (those inside emoji and joining scripts are kept).
type Article struct {
	Source  string // name of the source in the configuration
	GUID    string // identity the source gave: RSS guid, Atom id, JSON Feed id, front matter id; "" where none
	URL     string // canonical absolute http(s) address, without tracking parameters and fragment
	Version int64  // the source's version number, 0 where it gives none

	Title      string
	Kicker     string
	Teaser     string   // the standfirst; never repeated in Body
	Body       string   // Markdown: paragraphs, headings (## and below), lists, links, quotes, tables; "" where the source gives none
	Categories []string // as given, order kept, no duplicates, without the kicker

	Language string // BCP 47; the source's default where the document says none
	Place    string // of the dateline: "Brüssel"
	Agency   string // as credited: "dpa", "dpa/lhe", "AFP"
	Author   string
	Picture  *Picture // nil where none

	Published time.Time // in the source's zone; zero where unknown
	Updated   time.Time // zero where unknown
	Embargo   time.Time // not to be shown before; zero where none

	Status  Status
	Urgency int // IPTC urgency, 1 (most urgent) … 8; 0 unknown
}

// Picture is an article's picture. It may be shown only where the source's rights say so, and then with its Credit.
type Picture struct{ URL, Alt, Caption, Credit string }

// Status says whether an article may be published (IPTC pubStatus).
type Status int

// The states of IPTC's pubStatus vocabulary. Withheld is also what an embargo that cannot be read leads to.
const (
	Usable Status = iota
	Withheld
	Canceled
)

// String returns the word of the IPTC vocabulary.
func (s Status) String() string {
	switch s {
	case Withheld:
		return "withheld"
	case Canceled:
		return "canceled"
	default:
		return "usable"
	}
}

// statusOf reads a word of the IPTC vocabulary. "" is usable; ok is false for an unknown word.
func statusOf(word string) (s Status, ok bool) {
	word = strings.ToLower(word)
	switch word[strings.LastIndexByte(word, ':')+1:] { // stat:withheld
	case "", "usable":
		return Usable, true
	case "withheld":
		return Withheld, true
	case "canceled", "cancelled":
		return Canceled, true
	}
	return Withheld, false
}

// Keys are what makes an article the same one again: the identity its source gave it, and its address without scheme and
// trailing slash, so that two feeds naming one page agree. Articles that share a key are states of one article.
// There is no address key for a home page: some feeds link every item there.
func (a Article) Keys() []string {
	var keys []string
	if a.GUID != "" {
		keys = append(keys, "guid:"+a.Source+"\x1f"+a.GUID)
	}
	if key := addressKey(a.URL); key != "" {
		keys = append(keys, "url:"+key)
	}
	return keys
}

// Hash is a SHA-256 in hex over everything a reader or the desk sees. It tells a new state from a repeated one.
func (a Article) Hash() string {
	h := sha256.New()
	field := func(s string) { fmt.Fprintf(h, "%d:%s", len(s), s) }
	for _, s := range []string{
		a.URL, a.Title, a.Kicker, a.Teaser, a.Body, a.Language, a.Place, a.Agency, a.Author, a.Status.String(),
		strconv.FormatInt(a.Version, 10), strconv.Itoa(a.Urgency), strconv.Itoa(len(a.Categories)),
	} {
		field(s)
	}
	for _, c := range a.Categories {
		field(c)
	}
	if a.Picture != nil {
		for _, s := range []string{a.Picture.URL, a.Picture.Alt, a.Picture.Caption, a.Picture.Credit} {
			field(s)
		}
	}
	for _, t := range []time.Time{a.Published, a.Updated, a.Embargo} {
		if t.IsZero() {
			field("")
		} else {
			field(strconv.FormatInt(t.UnixMilli(), 10))
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Source is what the configuration knows about where a document comes from.
type Source struct {
	Name     string
	Language string         // of documents that do not say
	Location *time.Location // of dates without a zone; nil means Europe/Berlin
	Base     string         // address the document came from, "" for a file
}

// location is where dates without a zone belong: a zone by configuration, else where the agencies of this house sit.
func (s Source) location() *time.Location {
	if s.Location != nil {
		return s.Location
	}
	if berlin, err := time.LoadLocation("Europe/Berlin"); err == nil {
		return berlin
	}
	return time.UTC
}

// Result is what a document gave. Problems names what was refused or read with doubt: each names the document and the
// item, line or field.
type Result struct {
	Articles []Article
	Problems []error
}

// draft is an article on its way in, with the doubts that came up.
type draft struct {
	Article
	where    string // names document and item in problems
	now      time.Time
	loc      *time.Location
	problems []error
}

func newDraft(where string, src Source, now time.Time) *draft {
	d := &draft{where: where, now: now, loc: src.location()}
	d.Source, d.Language = src.Name, src.Language
	return d
}

// doubt reports something that was read with a guess, or left out.
func (d *draft) doubt(format string, args ...any) {
	d.problems = append(d.problems, fmt.Errorf("%s: %w", d.where, fmt.Errorf(format, args...)))
}

// tooFarAhead is how far in the future a publication may lie before it is taken for a mistake (H23).
const tooFarAhead = 24 * time.Hour

// date reads a date of publication or change. An unreadable one, or one far in the future, is a doubt and counts as unknown.
func (d *draft) date(field, value string) time.Time {
	if strings.TrimSpace(value) == "" {
		return time.Time{}
	}
	t, err := parseDate(value, d.loc)
	switch {
	case err != nil:
		d.doubt("%s: %w; treated as unknown", field, err)
		return time.Time{}
	case t.After(d.now.Add(tooFarAhead)):
		d.doubt("%s %s lies in the future; treated as unknown", field, t.Format(time.RFC3339))
		return time.Time{}
	}
	return t
}

// embargo reads an embargo. What cannot be read withholds the article: it must never be published too early (H13).
func (d *draft) embargo(value string) {
	if strings.TrimSpace(value) == "" {
		return
	}
	t, err := parseDate(value, d.loc)
	if err != nil {
		d.Status = max(d.Status, Withheld)
		d.doubt("embargo: %w; the article is withheld", err)
		return
	}
	d.Embargo = t
}

// categories keeps what is not empty, not the kicker and not there already.
func (d *draft) categories(given []string) {
	for _, c := range given {
		c = plain(c)
		if c != "" && c != d.Kicker && !slices.Contains(d.Categories, c) {
			d.Categories = append(d.Categories, c)
		}
	}
}

// missing says what an article cannot be without.
func (d *draft) missing() error {
	switch {
	case d.Title == "":
		return fmt.Errorf("%s: no title", d.where)
	case d.URL == "":
		return fmt.Errorf("%s: no http or https address", d.where)
	}
	return nil
}

// maxDocument bounds what is read of one document, in bytes. A Fetcher's bound is its own, and lower by default.
const maxDocument = 32 << 20

func readAll(name string, r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(data) > maxDocument {
		return nil, fmt.Errorf("read %s: exceeds %d MiB", name, maxDocument>>20)
	}
	return data, nil
}
