// Package subscribers is who reads, and the proof: the registry of readers and of what they declared, the links that act
// for them, the queue of letters, and the pages.
//
// A reader signs up on the form (SignUp), gets one letter, presses one button (Confirm), may choose topics (SetTopics) and
// leave (Unsubscribe, Resume). Each of these writes its consent event in the transaction that does it. Everything about
// one reader happens one after the other: it begins by locking the reader's row. Who may be mailed is decided by two
// views and nowhere else: audience for digests, correspondence for letters.
//
// Addresses live in the tables subscribers, particulars and letters only, from which they can be deleted. Everywhere else a
// person is a keyed hash.
package subscribers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"depesche/migrations"
)

// Settings are what the registry must know of the paper.
type Settings struct {
	BaseURL     string // of the readers' pages: https://news.example, without a path
	Language    string // of pages that belong to no newsletter: "de" or "en"
	Publisher   Publisher
	Newsletters []Newsletter // the first one is meant where a form names none

	ConfirmWithin time.Duration  // a sign-up not confirmed by then is deleted; 7 days if zero
	MinFill       time.Duration  // who fills in our form faster is a robot; zero: not looked at
	PerNetwork    int            // sign-ups a minute from one IPv4 address or IPv6 /64; 10 if zero
	PerMinute     int            // sign-ups a minute altogether, before the rest is refused; 6,000 or twice Flood if zero
	Flood         int            // sign-ups a minute altogether, above which letters wait; 300 if zero
	Proxies       []netip.Prefix // whose X-Forwarded-For is believed
	IPs           IPPolicy       // what a consent event remembers of the network address; truncated if empty
	Retention     Retention

	Disposable        Policy   // what becomes of addresses with throw-away domains; flagged if empty
	DisposableDomains []string // besides the built-in ones; "!domain" is none
	Origins           []string // of the paper's pages (https://www.paper.example), whose boxes may be answered in place

	// Rates are how many articles a day each topic of a newsletter brought lately; nil if nobody measures.
	Rates func(ctx context.Context, now time.Time, newsletter string) (map[string]float64, error)
	// Data is everything that is kept about the person with that address, as JSON and as a page that needs nothing else; nil if the
	// page "my data" cannot give it.
	Data func(ctx context.Context, now time.Time, address, language string) (asJSON, asPage []byte, err error)
	// Erase deletes everything that names the person with that address; nil if the page cannot.
	Erase func(ctx context.Context, now time.Time, address string) error
	// Sample is the path of the newsletter's last digest on the web, "" if there is none; nil if there never is.
	Sample func(ctx context.Context, newsletter string) (string, error)
}

// Publisher is who is responsible, as law wants it named (DDG § 5, MStV § 18).
type Publisher struct {
	Name        string // of the company
	Paper       string // of the paper
	Address     string
	Email       string
	Responsible string // for the content: name and address
	PrivacyURL  string
	PrivacyFile string // the same words as a file, to be kept with each sign-up; "" for none
	ImprintURL  string
	LogoFile    string // a picture for the head of every page, "" for none

	Colour         string // #rrggbb
	ColourText     string // what is written on it; black or white if empty
	LinkColour     string // by day; the style sheet's if empty
	LinkColourDark string // by night; the style sheet's if empty
}

// Newsletter is what readers can sign up for.
type Newsletter struct {
	Slug     string
	Title    string
	Promise  string // one line: what it brings and when
	Language string
	Topics   []Topic           // in the order in which readers see them
	Promises map[string]string // by topic: one line on what it brings
	Zone     *time.Location    // in which a pause ends; UTC if nil
}

// Topic is one choice of a newsletter.
type Topic struct{ Slug, Name string }

// IPPolicy is how much of a network address a consent event keeps.
type IPPolicy string

// The policies. Truncated keeps the network: /24 of IPv4, /48 of IPv6.
const (
	IPTruncated IPPolicy = "truncated"
	IPFull      IPPolicy = "full"
	IPNone      IPPolicy = "none"
)

func (p IPPolicy) apply(ip netip.Addr) string {
	if !ip.IsValid() || p == IPNone {
		return ""
	}
	if p == IPFull {
		return ip.String()
	}
	bits := 48
	if ip.Is4() {
		bits = 24
	}
	prefix, err := ip.WithZone("").Prefix(bits)
	if err != nil {
		return ""
	}
	return prefix.String()
}

// What a caller can be told. ErrExpired also stands for links that were used and are over.
var (
	ErrNotFound   = errors.New("there is no such subscriber")
	ErrExpired    = errors.New("the link has expired")
	ErrNewsletter = errors.New("there is no such newsletter")
	ErrTopics     = errors.New("the topics are not those of the newsletter")
	ErrWording    = errors.New("the words shown are no longer the ones in use")
)

// Registry is the readers and what they declared.
type Registry struct {
	db       *migrations.Database
	keys     *Keys
	settings Settings
	views    *views
	letters  chan struct{}
	proofs   proofPages
	known    sync.Map     // hashes of wordings and choices that are in the database for certain
	choices  atomic.Int64 // among them
	intake   intake
	arrivals chan struct{}
	thrown   disposable
}

// New checks the settings and parses and tries every page, so that a template with an error is found now: the error names
// its file and line.
func New(db *migrations.Database, keys *Keys, templates fs.FS, s Settings) (*Registry, error) {
	s = s.withDefaults()
	if err := s.check(); err != nil {
		return nil, err
	}
	views, err := parseViews(templates, s)
	if err != nil {
		return nil, err
	}
	proofs, err := parseProofPages(templates, s)
	if err != nil {
		return nil, err
	}
	return &Registry{
		db: db, keys: keys, settings: s, views: views, proofs: proofs, letters: make(chan struct{}, 1), arrivals: make(chan struct{}, 1),
		thrown: newDisposable(s.DisposableDomains),
	}, nil
}

func (s Settings) withDefaults() Settings {
	if s.ConfirmWithin == 0 {
		s.ConfirmWithin = 7 * 24 * time.Hour
	}
	if s.PerNetwork == 0 {
		s.PerNetwork = 10
	}
	if s.Flood == 0 {
		s.Flood = 300
	}
	if s.PerMinute == 0 {
		s.PerMinute = max(6000, 2*s.Flood)
	}
	if s.Disposable == "" {
		s.Disposable = Flag
	}
	if s.IPs == "" {
		s.IPs = IPTruncated
	}
	if s.Publisher.Colour == "" {
		s.Publisher.Colour = "#1f4e79"
	}
	s.BaseURL = strings.TrimSuffix(s.BaseURL, "/")
	s.Newsletters = slices.Clone(s.Newsletters)
	for i := range s.Newsletters {
		if s.Newsletters[i].Language == "" {
			s.Newsletters[i].Language = s.Language
		}
	}
	return s
}

func (s Settings) check() error {
	base, err := url.Parse(s.BaseURL)
	switch {
	case err != nil || base.Scheme != "https" && base.Scheme != "http" || base.Host == "" || base.Path != "":
		return fmt.Errorf("settings: base URL %q: expected https://host", s.BaseURL)
	case len(s.Newsletters) == 0:
		return errors.New("settings: there is no newsletter")
	}
	for _, n := range s.Newsletters {
		if len(n.Topics) == 0 {
			return fmt.Errorf("settings: newsletter %q has no topics", n.Slug)
		}
	}
	return nil
}

// newsletter finds a newsletter by its slug. One that is no longer published still has readers with old links: they get
// its slug for a title.
func (s Settings) newsletter(slug string) (Newsletter, bool) {
	for _, n := range s.Newsletters {
		if n.Slug == slug {
			return n, true
		}
	}
	return Newsletter{Slug: slug, Title: slug, Language: s.Language}, false
}

// wanted is the newsletter a form means: the first one if it names none.
func (s Settings) wanted(slug string) (Newsletter, error) {
	if slug == "" {
		return s.Newsletters[0], nil
	}
	n, found := s.newsletter(slug)
	if !found {
		return n, ErrNewsletter
	}
	return n, nil
}

// choose sorts topics as the table choices keeps them. No topic means all there are today: who is signed up gets no
// topic that is invented later. "newsletter/topic" names a topic of one newsletter where a form shows several.
func (n Newsletter) choose(topics []string) (string, error) {
	var chosen []string
	for _, topic := range topics {
		if of, slug, found := strings.Cut(topic, "/"); found {
			if of != n.Slug {
				continue
			}
			topic = slug
		}
		if !slices.ContainsFunc(n.Topics, func(t Topic) bool { return t.Slug == topic }) {
			return "", ErrTopics
		}
		chosen = append(chosen, topic)
	}
	if len(chosen) == 0 && len(topics) > 0 {
		return "", ErrTopics
	}
	if len(chosen) == 0 {
		for _, t := range n.Topics {
			chosen = append(chosen, t.Slug)
		}
	}
	slices.Sort(chosen)
	return strings.Join(slices.Compact(chosen), ","), nil
}

// Letters is signalled when a letter was queued.
func (r *Registry) Letters() <-chan struct{} { return r.letters }

func (r *Registry) signal() {
	select {
	case r.letters <- struct{}{}:
	default: // somebody will look anyway
	}
}

// Link is the address of a page that wants a token, up to the token, which follows directly.
func (r *Registry) Link(p Purpose, newsletter string) string {
	return r.settings.BaseURL + "/" + string(p) + "/" + url.PathEscape(newsletter) + "/"
}

// tx runs fn in a transaction, and again with new keys in the one case of two million that a key made in Go was taken.
func (r *Registry) tx(ctx context.Context, fn func(tx *sql.Tx) error) error {
	err := r.db.Tx(ctx, fn)
	for range 3 {
		if !migrations.IsConflict(err) {
			break
		}
		err = r.db.Tx(ctx, fn)
	}
	return err
}
