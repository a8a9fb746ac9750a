package newsletter

import (
	"fmt"
	"io/fs"
	"net/mail"
	"slices"
	"time"

	"depesche/migrations"
	"depesche/newsletter/ingest"
	"depesche/newsletter/render"
	"depesche/newsletter/smtp"
	"depesche/subscribers"
)

// Settings is what a paper has decided. It does not change while the process runs.
type Settings struct {
	BaseURL     string // of the readers' pages: https, no slash at the end
	Brand       render.Brand
	Newsletters []Newsletter
	Topics      []Topic
	Ignored     []string // labels that are formats, not subjects
	Sources     []Source
	Senders     Senders
	Relay       smtp.Relay
	Connections int           // to the relay at once
	PerSession  int           // messages before a connection is renewed, 0: no limit
	Manners     Manners       // limits towards the relay and recipients' servers
	JournalBase string        // where journals of replies are kept: a path to which a dispatcher's name is added
	DeleteAfter time.Duration // when an unconfirmed sign-up is deleted: the letter says so
}

// Senders are the addresses mail comes from.
type Senders struct {
	Newsletter   mail.Address // From of digests
	ReplyTo      mail.Address // where readers' answers go; empty: From
	Letter       mail.Address // From of letters: transactional mail has an address of its own (A39)
	BounceDomain string       // domain of the envelope sender
	MailDomain   string       // right side of Message-ID and List-Id
}

// Newsroom makes and sends digests and letters. Its methods may be called from several goroutines and several processes.
type Newsroom struct {
	Settings
	db        *migrations.Database
	registry  *subscribers.Registry
	keys      *subscribers.Keys
	templates fs.FS
	desk      Desk
	fetchers  map[string]*ingest.Fetcher // by source
}

// New puts a newsroom together. A newsletter whose template has an error is refused here, with the template's file and
// line, and not in the morning.
func New(db *migrations.Database, registry *subscribers.Registry, keys *subscribers.Keys, templates fs.FS, s Settings) (*Newsroom, error) {
	n := &Newsroom{
		Settings: s, db: db, registry: registry, keys: keys, templates: templates,
		desk: NewDesk(s.Topics, s.Ignored), fetchers: map[string]*ingest.Fetcher{},
	}
	for _, source := range s.Sources {
		n.fetchers[source.Name] = source.fetcher(s.BaseURL)
	}
	for _, letter := range s.Newsletters {
		if _, err := n.template(letter.Language, letter.Template); err != nil {
			return nil, fmt.Errorf("newsletter %s: %w", letter.Slug, err)
		}
	}
	return n, nil
}

// Newsletter finds a newsletter by its slug.
func (n *Newsroom) Newsletter(slug string) (Newsletter, bool) {
	i := slices.IndexFunc(n.Newsletters, func(l Newsletter) bool { return l.Slug == slug })
	if i < 0 {
		return Newsletter{}, false
	}
	return n.Newsletters[i], true
}

func (n *Newsroom) template(language, name string) (*render.Template, error) {
	source, err := render.Load(n.templates, language, name)
	if err != nil {
		return nil, err
	}
	return render.Parse(source)
}

// InZone shows an instant in the paper's zone: that of its first newsletter.
func (n *Newsroom) InZone(t time.Time) time.Time {
	if len(n.Newsletters) == 0 {
		return t
	}
	return inZone(t, n.Newsletters[0].Zone)
}
