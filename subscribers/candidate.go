package subscribers

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Import says how a list of readers is to be understood. It brings in nobody who left, complained or bounced, here or there,
// and makes nobody mailable without evidence of consent (GDPR Art. 7(1), UWG § 7(2) Nr. 2).
type Import struct {
	Newsletter string   // of rows that name none; "" is the first one
	Topics     []string // slugs, for rows that name none; none: all there are today
	Map        []string // "column=field", see Fields
	Status     string   // of rows that have no status, in a word of the list's: "unsubscribed"; "" is subscribed
	Evidence   Evidence // of all rows, in addition to what their columns say
	Zone       *time.Location
	Aliases    map[string][]string // names of topics by slug, beside slug and name

	Problem  func(Problem)    // is told of every line that is not taken
	Progress func(read int64) // is told how many bytes of the file were read
}

// Evidence is what proves a consent that was not given here.
type Evidence struct {
	Text   string    // the words that were agreed to
	Source string    // where: the page, the form
	At     time.Time // when, where a row does not say it itself
}

// Problem is a line that was not taken. It never quotes the line.
type Problem struct {
	Line   int
	Column string // "" where it is the whole line
	Err    error
}

func (p Problem) Error() string {
	if p.Column != "" {
		return fmt.Sprintf("line %d, column %s: %v", p.Line, p.Column, p.Err)
	}
	return fmt.Sprintf("line %d: %v", p.Line, p.Err)
}

// Origin is where an imported reader comes from, and what the list says of their consent in its own words.
type Origin struct {
	File        string `json:"file"` // SHA-256
	Line        int    `json:"line"`
	Requested   string `json:"requested,omitempty"`
	Confirmed   string `json:"confirmed,omitempty"`
	ConfirmedIP string `json:"confirmed_ip,omitempty"`
	Text        string `json:"text,omitempty"` // where it names the reader; else it is a wording
}

// standing is how a row stands with the list it is of.
type standing string

const (
	subscribed standing = "subscribed"
	unproven   standing = "unproven"   // subscribed, whatever evidence there seems to be
	waiting    standing = "waiting"    // never confirmed there, and nothing to us
	ended      standing = "ended"      // left one newsletter
	left       standing = "withdrawal" // these are reasons of suppression
	bounced    standing = "bounce"
	complained standing = "complaint"
	objected   standing = "objection"
)

// grave orders standings: where a row says several things, the gravest holds.
var grave = []standing{subscribed, unproven, waiting, ended, bounced, left, complained, objected}

func (s standing) suppression() SuppressionReason {
	switch s {
	case left, bounced, complained, objected:
		return SuppressionReason(s)
	}
	return ""
}

// words are those of the lists, as plain gives them. A word that is not here is a line that is not taken.
var words = map[standing][]string{
	subscribed: {"subscribed", "active", "aktiv", "confirmed", "bestaetigt", "enabled", "angemeldet", "abonniert", "abonnent", "member", "free", "paid", "comped", "comp", "gift"},
	unproven:   {"unproven", "unbelegt"},
	waiting: {
		"pending", "unconfirmed", "unbestaetigt", "ausstehend", "validating", "invalid", "nonsubscribed", "transactional", "archived",
		"disabled", "deaktiviert", "needsattention",
	},
	ended:      {"ended", "beendet"},
	left:       {"unsubscribed", "abgemeldet", "withdrawn", "withdrawal", "inactive", "inaktiv", "optedout", "optout", "deleted", "geloescht"},
	bounced:    {"cleaned", "bereinigt", "bounced", "bounce", "hardbounce", "hardbounced", "undeliverable", "unzustellbar"},
	complained: {"complained", "complaint", "complaints", "spam", "markedasspam", "spamcomplaint", "abuse", "beschwerde"},
	objected:   {"objection", "widerspruch", "blocklisted", "blacklisted", "blocked", "suppressed", "gesperrt"},
}

var standingOf = func() map[string]standing {
	all := map[string]standing{}
	for s, names := range words {
		for _, name := range names {
			all[name] = s
		}
	}
	return all
}()

// candidate is a row that was understood, before it meets those who are there already.
type candidate struct {
	line       int
	address    Address
	person     string
	newsletter string
	topics     string
	language   string
	standing   standing
	since      int64 // when they left or bounced; 0: unknown
	proven     bool
	signedUp   int64  // by the evidence
	wording    string // hash
	sealed
}

// What is wrong with a row, beside an AddressError and what is wrong with a line.
var (
	errColumns = errors.New("it has other columns than the header")
	errOffice  = errors.New("address: the mailbox of an office that subscribes to nothing")
	errStatus  = errors.New("a status that is not known")
)

// perusal understands the rows of one list.
type perusal struct {
	Import
	columns
	r        *Registry
	now      time.Time
	hash     string
	target   Newsletter
	standing standing
	labels   map[string]map[string]string // newsletter → label → topic
	chosen   map[string]string            // newsletter and labels as they stand in the list → topics
	texts    map[string]Wording           // wordings by text
	fresh    []Wording                    // those not yet kept
	unknown  map[string]int               // labels that are no topic
}

const (
	maxWordings = 1000 // of one list: if there are more, they are particulars of each reader
	maxChosen   = 10_000
	maxSource   = 500
	maxText     = 20_000
)

func (r *Registry) newPerusal(now time.Time, i Import, c columns, hash string) (*perusal, error) {
	target, err := r.settings.wanted(i.Newsletter)
	if err != nil {
		return nil, fmt.Errorf("newsletter %q: %w", i.Newsletter, err)
	}
	if i.Zone == nil {
		i.Zone = time.UTC
	}
	in := &perusal{
		Import: i, columns: c, r: r, now: now, hash: hash, target: target, standing: subscribed,
		labels: map[string]map[string]string{}, chosen: map[string]string{}, texts: map[string]Wording{}, unknown: map[string]int{},
	}
	for _, n := range r.settings.Newsletters {
		in.labels[n.Slug] = i.topicsOf(n)
	}
	if _, err := target.choose(i.Topics); err != nil {
		return nil, fmt.Errorf("topics %s: %w", strings.Join(i.Topics, ","), err)
	}
	switch {
	case c.state[FieldBounced]:
		in.standing = bounced
	case c.state[FieldLeft]:
		in.standing = left
	}
	if i.Status != "" {
		s, known := standingOf[plain(i.Status)]
		if !known {
			return nil, fmt.Errorf("status %q: %w", i.Status, errStatus)
		}
		in.standing = s
	}
	return in, nil
}

func (i Import) topicsOf(n Newsletter) map[string]string {
	all := map[string]string{}
	for _, topic := range n.Topics {
		for _, alias := range i.Aliases[topic.Slug] {
			all[plain(alias)] = topic.Slug
		}
	}
	for _, topic := range n.Topics {
		all[plain(topic.Name)] = topic.Slug
	}
	for _, topic := range n.Topics {
		all[plain(topic.Slug)] = topic.Slug
	}
	return all
}

// understand reads a row, or says what is wrong with it.
func (in *perusal) understand(l Line) (candidate, *Problem) {
	c := candidate{line: l.Number}
	problem := func(header string, err error) (candidate, *Problem) { return c, &Problem{l.Number, header, err} }
	if l.Err != nil {
		return problem("", l.Err)
	}
	if !in.fits(l.Fields) {
		return problem("", errColumns)
	}
	text, header := in.get(l.Fields, FieldAddress)
	if text == "" {
		header = in.all[in.at[FieldAddress][0]].Header
	}
	var err error
	if c.address, err = ParseAddress(text); err != nil {
		return problem(header, err)
	}
	if c.address.isRole() {
		return problem(header, errOffice)
	}
	c.person = in.r.keys.Person(c.address.Mailbox)
	if header, err = in.standingFor(&c, l.Fields); err != nil {
		return problem(header, err)
	}
	if c.standing.suppression() != "" || c.standing == waiting {
		return c, nil
	}
	if header, err = in.wishes(&c, l.Fields); err != nil {
		return problem(header, err)
	}
	if header, err = in.prove(&c, l.Fields); err != nil {
		return problem(header, err)
	}
	return c, nil
}

// standingFor is the gravest of what the row says.
func (in *perusal) standingFor(c *candidate, record []string) (header string, err error) {
	c.standing = in.standing
	worsen := func(s standing) {
		if slices.Index(grave, s) > slices.Index(grave, c.standing) {
			c.standing = s
		}
	}
	if text, header := in.get(record, FieldStatus); text != "" {
		s, known := standingOf[plain(text)]
		if !known {
			return header, errStatus
		}
		c.standing = s
	}
	if text, header := in.get(record, FieldSuppressed); text != "" {
		s, known := standingOf[plain(text)]
		if value, isYes := yes(text); isYes {
			s, known = subscribed, true
			if value {
				s = objected
			}
		}
		if !known {
			return header, errStatus
		}
		worsen(s)
	}
	for _, field := range []Field{FieldSubscribed, FieldDisabled} {
		meaning := field == FieldDisabled // the answer that means they left
		text, header := in.get(record, field)
		if text == "" || strings.EqualFold(text, "null") {
			continue
		}
		value, known := yes(text)
		if !known { // the day on which it happened is a yes
			at, err := parseMoment(text, in.Zone, in.now)
			if err != nil {
				return header, errStatus
			}
			value = true
			if meaning {
				c.since = at.UnixMilli()
			}
		}
		if value == meaning {
			worsen(left)
		}
	}
	return in.departure(c, record, worsen)
}

// departure reads when they left or bounced. A date that cannot be read means that it happened, some day.
func (in *perusal) departure(c *candidate, record []string, worsen func(standing)) (header string, err error) {
	for _, field := range []Field{FieldLeft, FieldBounced} {
		text, _ := in.get(record, field)
		if value, known := yes(text); text == "" || strings.EqualFold(text, "null") || known && !value {
			continue
		}
		switch {
		case field == FieldBounced:
			worsen(bounced)
		case c.standing != ended:
			worsen(left)
		}
		if at, err := parseMoment(text, in.Zone, in.now); err == nil {
			c.since = max(c.since, at.UnixMilli())
		}
	}
	return "", nil
}

// wishes are newsletter, topics and language.
func (in *perusal) wishes(c *candidate, record []string) (header string, err error) {
	n := in.target
	if text, header := in.get(record, FieldNewsletter); text != "" {
		found := false
		for _, one := range in.r.settings.Newsletters {
			if plain(one.Slug) == plain(text) || plain(one.Title) == plain(text) {
				n, found = one, true
			}
		}
		if !found {
			return header, ErrNewsletter
		}
	}
	c.newsletter, c.language = n.Slug, n.Language
	if text, _ := in.get(record, FieldLanguage); strings.HasPrefix(strings.ToLower(text), "de") || strings.HasPrefix(strings.ToLower(text), "en") {
		c.language = strings.ToLower(text[:2])
	}
	var labels string
	for _, i := range in.at[FieldTopics] {
		if i < len(record) {
			labels += record[i] + ","
		}
	}
	c.topics, err = in.topics(n, labels)
	return "", err
}

// topics turns the labels of a row into topics; one that is none of them is counted and left out.
func (in *perusal) topics(n Newsletter, labels string) (string, error) {
	key := n.Slug + "\x00" + labels
	if topics, known := in.chosen[key]; known {
		return topics, nil
	}
	var chosen []string
	for _, label := range strings.FieldsFunc(labels, func(r rune) bool { return strings.ContainsRune(",;|\"[]\n", r) }) {
		label = strings.TrimSpace(Rearm(strings.TrimSpace(label)))
		if topic, known := in.labels[n.Slug][plain(label)]; known {
			chosen = append(chosen, topic)
		} else if plain(label) != "" && len(in.unknown) < 1000 {
			in.unknown[label]++
		}
	}
	if len(chosen) == 0 && n.Slug == in.target.Slug {
		chosen = in.Topics
	}
	topics, err := n.choose(chosen)
	if err == nil && len(in.chosen) < maxChosen {
		in.chosen[key] = topics
	}
	return topics, err
}

// prove takes the evidence together. A date alone proves nothing: every program dates its rows, also those that somebody
// typed in. Beside it must stand where, to which words or from which network (standards: BGH I ZR 164/09).
func (in *perusal) prove(c *candidate, record []string) (header string, err error) {
	origin := Origin{File: in.hash, Line: c.line}
	p := Particulars{Address: c.address.Mailed, Topics: strings.Split(c.topics, ","), Import: &origin}
	at := in.Evidence.At
	for _, field := range []Field{FieldConfirmed, FieldRequested} { // the sign-up is what mails name, if there is one
		text, header := in.get(record, field)
		if _, isYes := yes(text); text == "" || isYes || strings.EqualFold(text, "null") {
			continue
		}
		if at, err = parseMoment(text, in.Zone, in.now); err != nil {
			return header, err
		}
		if field == FieldConfirmed {
			origin.Confirmed = text
		} else {
			origin.Requested = text
		}
	}
	source, _ := in.get(record, FieldSource)
	if source == "" {
		source = in.Evidence.Source
	}
	p.Page = clip(source, maxSource)
	for _, field := range []Field{FieldConfirmedIP, FieldIP} {
		text, _ := in.get(record, field)
		ip := in.r.settings.IPs.foreign(text)
		if field == FieldIP {
			p.IP = ip
		} else {
			origin.ConfirmedIP = ip
		}
	}
	text, _ := in.get(record, FieldText)
	if text == "" {
		text = in.Evidence.Text
	}
	c.wording, origin.Text = in.word(c, clip(text, maxText))
	c.proven = c.standing != unproven && !at.IsZero() && (p.Page != "" || p.IP != "" || origin.ConfirmedIP != "" || text != "")
	if !at.IsZero() {
		c.signedUp = at.UnixMilli()
	}
	if !c.proven {
		p.How = "no evidence"
	}
	c.sealed, err = p.keep()
	return "", err
}

// word is the hash of the text as a wording, or the text itself: one that names the reader belongs to the particulars, which
// can be deleted, and so do those of a list in which everybody has a text of their own.
func (in *perusal) word(c *candidate, text string) (hash, personal string) {
	if text == "" {
		return "", ""
	}
	if w, known := in.texts[text]; known {
		return w.Hash, ""
	}
	if len(in.texts) >= maxWordings || strings.Contains(text, "@") {
		return "", text
	}
	w := newWording(Brought, c.language, text)
	in.texts[strings.Clone(text)] = w
	in.fresh = append(in.fresh, w)
	return w.Hash, ""
}

// foreign applies the policy to an address that somebody else kept, which may be cut already.
func (p IPPolicy) foreign(text string) string {
	if ip, err := netip.ParseAddr(text); err == nil {
		return p.apply(ip.Unmap())
	}
	if prefix, err := netip.ParsePrefix(text); err == nil && p != IPNone {
		return prefix.Masked().String()
	}
	return ""
}

// clip shortens a text to n bytes, at a character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
