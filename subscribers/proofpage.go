package subscribers

import (
	"bytes"
	"context"
	"fmt"
	"html/template"
	"io/fs"
	"time"

	"github.com/gohugoio/locales"
	"github.com/gohugoio/locales/de"
	"github.com/gohugoio/locales/en_GB"
)

// PersonalData is everything that is kept about one person (GDPR Art. 15 and 20). Who is erased has neither reader nor letters.
type PersonalData struct {
	Proof       Proof        `json:"proof"`
	Reader      *Reader      `json:"reader,omitempty"`
	Letters     []PastLetter `json:"letters"`
	Deliveries  []Delivered  `json:"deliveries"`
	Relay       string       `json:"recipient"` // the mail server that delivers
	ProofYears  int          `json:"proof_years"`
	IPDays      int          `json:"ip_days"`
	ConfirmDays int          `json:"confirm_days"`
	Accesses    []Access     `json:"accesses"` // of the house's own people
}

// PastLetter is a letter as the person it went to may know of it.
type PastLetter struct {
	Kind       LetterKind  `json:"kind"`
	Newsletter string      `json:"newsletter"`
	Created    time.Time   `json:"created"`
	State      LetterState `json:"state"`
	Settled    time.Time   `json:"settled,omitzero"`
	Reply      string      `json:"reply,omitempty"`
}

// Delivered is one digest for one reader.
type Delivered struct {
	Newsletter string    `json:"newsletter"`
	Day        string    `json:"day"`
	State      string    `json:"state"`
	Settled    time.Time `json:"settled,omitzero"`
	Code       int       `json:"code,omitempty"`
	Reply      string    `json:"reply,omitempty"`
}

// PersonalData gathers what the registry keeps about the person with that address; the caller adds the deliveries, and who
// delivers. Errors: an AddressError, ErrNotFound.
func (r *Registry) PersonalData(ctx context.Context, now time.Time, address string) (PersonalData, error) {
	keep := r.settings.Retention.withDefaults()
	d := PersonalData{
		Letters: []PastLetter{}, Deliveries: []Delivered{}, ProofYears: keep.Proof, IPDays: int(keep.IP / day),
		ConfirmDays: int(r.settings.ConfirmWithin / day),
	}
	var err error
	if d.Proof, err = r.Proof(ctx, address); err != nil {
		return d, err
	}
	d.Proof.Printed = now.UTC()
	if d.Accesses, err = r.Accesses(ctx, address); err != nil || !d.Proof.Erased.IsZero() {
		return d, err
	}
	reader, err := r.Show(ctx, address)
	if err != nil {
		return d, err
	}
	d.Reader = &reader
	d.Letters, err = r.pastLetters(ctx, reader.ID)
	return d, err
}

func (r *Registry) pastLetters(ctx context.Context, subscriber int64) ([]PastLetter, error) {
	rows, err := r.db.Read.QueryContext(ctx, `
		SELECT kind, newsletter, created, state, COALESCE(settled, 0), reply FROM letters WHERE subscriber = $1 ORDER BY created, id`, subscriber)
	if err != nil {
		return nil, fmt.Errorf("read past letters: %w", err)
	}
	defer func() { _ = rows.Close() }()
	all := []PastLetter{}
	for rows.Next() {
		var l PastLetter
		var created, settled int64
		if err := rows.Scan(&l.Kind, &l.Newsletter, &created, &l.State, &settled, &l.Reply); err != nil {
			return nil, fmt.Errorf("read past letters: %w", err)
		}
		if l.Created = instant(created); settled != 0 {
			l.Settled = instant(settled)
		}
		all = append(all, l)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read past letters: %w", err)
	}
	return all, nil
}

// proofPages are the pages for print, by language: they hold everything they need, and are readable without us.
type proofPages map[string]*template.Template

func parseProofPages(templates fs.FS, s Settings) (proofPages, error) {
	pages := proofPages{}
	for _, language := range []string{"de", "en"} {
		page, err := template.ParseFS(templates, "web/proof.html", "web/"+language+"/proof.html")
		if err != nil {
			return nil, fmt.Errorf("read page: %w", err)
		}
		pages[language] = page.Lookup("proof.html")
		sample := Event{Kind: Requested, Particulars: &Particulars{Topics: []string{"x"}, How: "x", Privacy: "x"}, Wording: &Wording{}}
		data := &PersonalData{Reader: &Reader{Subscriptions: []Subscription{{}}}, Letters: []PastLetter{{}}, Deliveries: []Delivered{{}}}
		view := proofView{settings: s, Language: language, Publisher: s.Publisher, Proof: Proof{Events: []Event{sample}, Notices: []Wording{{}}}, Data: data, zone: time.UTC}
		if _, err := pages.render(view); err != nil {
			return nil, err
		}
	}
	return pages, nil
}

func (p proofPages) render(view proofView) ([]byte, error) {
	var out bytes.Buffer
	if err := p[view.Language].Execute(&out, view); err != nil {
		return nil, fmt.Errorf("show page %s/proof: %w", view.Language, err)
	}
	return out.Bytes(), nil
}

// proofView is what such a page shows.
type proofView struct {
	settings  Settings
	zone      *time.Location
	Language  string
	Publisher Publisher
	Proof     Proof
	Data      *PersonalData // nil on a proof
}

// ProofPage is a proof as one HTML page that needs nothing else, in German or English: "" is the reader's own language.
// Instants are written in the zone, and in UTC.
func (r *Registry) ProofPage(p Proof, language string, zone *time.Location) ([]byte, error) {
	return r.proofs.render(r.proofView(p, language, zone))
}

// DataPage is the same for everything that is kept about a person.
func (r *Registry) DataPage(d PersonalData, language string, zone *time.Location) ([]byte, error) {
	view := r.proofView(d.Proof, language, zone)
	view.Data = &d
	return r.proofs.render(view)
}

func (r *Registry) proofView(p Proof, language string, zone *time.Location) proofView {
	view := proofView{settings: r.settings, zone: zone, Language: language, Publisher: r.settings.Publisher, Proof: p}
	for _, candidate := range []string{p.Language, r.settings.Language, "de"} {
		if r.proofs[view.Language] == nil {
			view.Language = candidate
		}
	}
	return view
}

// Title is a newsletter's title; one that is no longer published has only its slug.
func (v proofView) Title(slug string) string {
	n, _ := v.settings.newsletter(slug)
	return n.Title
}

// Topic is a topic's name as it is today, with the slug that was recorded where there is none any more.
func (v proofView) Topic(newsletter, slug string) string {
	n, _ := v.settings.newsletter(newsletter)
	for _, t := range n.Topics {
		if t.Slug == slug {
			return t.Name
		}
	}
	return slug
}

// Count is a position as people count.
func (proofView) Count(i int) int { return i + 1 }

// When is an instant to the second, as people of that language write it, in the zone of the paper.
func (v proofView) When(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	t = t.In(v.zone)
	var l locales.Translator = en_GB.New()
	clock := t.Format("15:04:05")
	zone, _ := t.Zone()
	if v.Language == "de" {
		l = de.New()
		clock += " Uhr"
		if german := map[string]string{"CET": "MEZ", "CEST": "MESZ"}[zone]; german != "" {
			zone = german
		}
	}
	return l.FmtDateLong(t) + ", " + clock + " (" + zone + ")"
}

// Until is the day of a pause, as people of that language write it, if that is what a reader did.
func (v proofView) Until(how string) string {
	day, err := time.Parse(pausedUntil+time.DateOnly, how)
	switch {
	case err != nil:
		return ""
	case v.Language == "de":
		return de.New().FmtDateLong(day)
	}
	return en_GB.New().FmtDateLong(day)
}

// UTC is the same to the millisecond, for machines and lawyers (RFC 3339).
func (proofView) UTC(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }
