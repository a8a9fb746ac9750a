package newsletter

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"

	"depesche/newsletter/render"
)

// edition is a frozen digest at one revision, ready to be cut into variants. It is made from the digest's own rows alone.
type edition struct {
	digest   Digest
	frozen   frozen
	zone     *time.Location
	template *render.Template
	press    *render.Press
	entries  []entry
	headings map[string]render.Fragment // by topic
}

// entry is an article as this digest prints it, rendered once.
type entry struct {
	article  string
	kind     string
	position int
	title    string
	topics   []string
	fragment render.Fragment
	hash     string
}

// ErrNothingLeft means that a variant has no entry any more: everything in it was withdrawn.
var ErrNothingLeft = errors.New("nothing is left to print")

// open parses the frozen template, renders the headings and prepares to print variants.
func (e *edition) open() (err error) {
	if e.zone, err = time.LoadLocation(e.frozen.Zone); err != nil {
		return fmt.Errorf("open digest: %w", err)
	}
	if e.template, err = render.Parse(e.frozen.Source); err != nil {
		return fmt.Errorf("open digest: %w", err)
	}
	e.headings = map[string]render.Fragment{}
	for slug, name := range e.frozen.Names {
		if e.headings[slug], err = e.template.Topic(render.Text(name)); err != nil {
			return fmt.Errorf("render heading of topic %s: %w", slug, err)
		}
	}
	e.print("")
	return nil
}

// print prepares to print variants; prefix stands before their subjects.
func (e *edition) print(prefix string) {
	s := e.frozen.Senders
	e.press = e.template.Press(render.Edition{
		Newsletter: render.Newsletter{Title: render.Text(e.frozen.Newsletter.Title), BaseURL: render.URL(e.frozen.BaseURL)},
		Brand:      e.frozen.Brand,
		Day:        e.digest.Day.noon(e.zone),
		Header: render.Header{
			From: s.Newsletter, ReplyTo: s.ReplyTo, Date: e.digest.Began.In(e.zone), Domain: s.MailDomain,
			List: render.List{
				Title: render.Text(e.frozen.Newsletter.Title), ID: e.digest.Newsletter + "." + s.MailDomain,
			},
			Language:        render.Lang(e.frozen.Newsletter.Language),
			UnsubscribeBase: render.URL(e.link("unsubscribe")),
		},
		Prefix:          prefix,
		WebViewBase:     render.URL(fmt.Sprintf("%s/digest/%s/%s/", e.frozen.BaseURL, e.digest.Newsletter, e.digest.Day)),
		UnsubscribeBase: render.URL(e.link("unsubscribe")),
		PreferencesBase: render.URL(e.link("preferences")),
	})
}

// enter renders a candidate. An error with an entry is about its picture: the entry goes without.
func (n *Newsroom) enter(ctx context.Context, e *edition, c candidate, copies copier) (entry, error) {
	rights := n.rights(c.Source)
	content := render.Entry{
		Title: render.Text(c.Title), Kicker: render.Text(c.Kicker), Teaser: render.Text(c.Teaser),
		Place: render.Text(c.Place), Agency: render.Text(c.Agency), Author: render.Text(c.Author),
		URL: render.URL(c.URL), Published: inZone(c.Published, e.zone), Language: render.Lang(c.Language),
	}
	if rights.FullText {
		content.Body = render.Markdown(c.Body)
	}
	var problem error
	if rights.Pictures && c.Picture != nil {
		content.Picture, problem = n.illustrate(ctx, c, copies)
	}
	fragment, err := e.template.Entry(content)
	if err != nil {
		return entry{}, fmt.Errorf("render article %s: %w", c.ID, err)
	}
	sum := sha256.Sum256([]byte(string(fragment.HTML) + "\x00" + fragment.Text))
	return entry{
		article: c.ID, kind: "news", title: c.Title, topics: c.topics, fragment: fragment, hash: hex.EncodeToString(sum[:]),
	}, problem
}

// inZone shows an instant in a zone; no instant stays none.
func inZone(t time.Time, zone *time.Location) time.Time {
	if t.IsZero() {
		return t
	}
	return t.In(zone)
}

// illustrate copies an article's picture to where readers' mail programs may fetch it. Without a copy the caption and the
// credit stay.
func (n *Newsroom) illustrate(ctx context.Context, c candidate, copies copier) (*render.Picture, error) {
	picture := &render.Picture{
		Alt: render.Text(c.Picture.Alt), Caption: render.Text(c.Picture.Caption), Credit: render.Text(c.Picture.Credit),
	}
	kept, err := copies(ctx, c.Source, c.Picture.URL)
	if err != nil {
		return picture, fmt.Errorf("article %s goes without its picture: %w", c.ID, err)
	}
	picture.URL = render.URL(n.BaseURL + "/picture/" + kept.Hash + ".jpg")
	picture.Width, picture.Height = kept.Width, kept.Height
	return picture, nil
}

// rights are what the contract with a source allows; nothing but headline and standfirst where the source is unknown.
func (n *Newsroom) rights(source string) Source {
	i := slices.IndexFunc(n.Sources, func(s Source) bool { return s.Name == source })
	if i < 0 {
		return Source{}
	}
	return n.Sources[i]
}

// edition reads a digest back at its present revision.
func (n *Newsroom) edition(ctx context.Context, d Digest) (*edition, error) {
	e := &edition{digest: d}
	var text string
	if err := n.db.Read.QueryRowContext(ctx, `SELECT frozen FROM digests WHERE id = $1`, d.ID).Scan(&text); err != nil {
		return nil, fmt.Errorf("read digest's settings: %w", err)
	}
	if err := json.Unmarshal([]byte(text), &e.frozen); err != nil {
		return nil, fmt.Errorf("read digest's settings: %w", err)
	}
	if err := e.open(); err != nil {
		return nil, err
	}
	var err error
	e.entries, err = all(ctx, n.db.Read, func(scan func(...any) error) (entry, error) {
		var x entry
		var html string
		err := scan(&x.article, &x.kind, &x.position, &x.title, &html, &x.fragment.Text, &x.hash)
		x.fragment.HTML = template.HTML(html) // ours: rendered and escaped when the digest was composed
		return x, err
	}, `SELECT article, kind, position, title, html, plain, hash FROM entries
		WHERE digest = $1 AND (withdrawn IS NULL OR withdrawn > $2) ORDER BY position`, d.ID, d.Revision)
	if err != nil {
		return nil, fmt.Errorf("read entries: %w", err)
	}
	return e, n.readTopics(ctx, e)
}

func (n *Newsroom) readTopics(ctx context.Context, e *edition) error {
	type row struct{ article, kind, topic string }
	rows, err := all(ctx, n.db.Read, func(scan func(...any) error) (r row, err error) {
		return r, scan(&r.article, &r.kind, &r.topic)
	}, `SELECT article, kind, topic FROM entry_topics WHERE digest = $1`, e.digest.ID)
	if err != nil {
		return fmt.Errorf("read entries' topics: %w", err)
	}
	for i := range e.entries {
		var topics []string
		for _, r := range rows {
			if r.article == e.entries[i].article && r.kind == e.entries[i].kind {
				topics = append(topics, r.topic)
			}
		}
		e.entries[i].topics = inOrder(e.frozen.Newsletter.Topics, topics)
	}
	return nil
}

// variant cuts the edition to a set of topics. An article in several of them is printed once, under the first.
func (e *edition) variant(number int64, topics []string) (render.Variant, error) {
	v := render.Variant{
		Number:    number,
		Headlines: make([]render.Text, 0, len(e.entries)),
		Sections:  make([]render.Section, 0, len(topics)),
	}
	printed := make([]bool, len(e.entries))
	for _, topic := range topics {
		section := render.Section{Name: render.Text(e.frozen.Names[topic]), Heading: e.headings[topic]}
		for i := range e.entries {
			x := &e.entries[i]
			if printed[i] || !slices.Contains(x.topics, topic) {
				continue
			}
			printed[i] = true
			section.Entries = append(section.Entries, x.fragment)
			v.Headlines = append(v.Headlines, render.Text(x.title))
		}
		if len(section.Entries) > 0 {
			v.Sections = append(v.Sections, section)
		}
	}
	v.Count = len(v.Headlines)
	if v.Count == 0 {
		return v, ErrNothingLeft
	}
	return v, nil
}

// body is a variant as a whole, to look at.
func (e *edition) body(v render.Variant) (render.Body, error) {
	body, err := e.press.Body(v)
	if err != nil {
		return body, fmt.Errorf("render variant %d of digest %s of %s: %w", v.Number, e.digest.Newsletter, e.digest.Day, err)
	}
	return body, nil
}

// message is a variant as a mail that wants nothing but a reader.
func (e *edition) message(v render.Variant) (*render.Message, error) {
	message, err := e.press.Message(v)
	if err != nil {
		return nil, fmt.Errorf("render variant %d of digest %s of %s: %w", v.Number, e.digest.Newsletter, e.digest.Day, err)
	}
	return message, nil
}

// link is the address of one of this newsletter's pages, to which a reader's token is appended.
func (e *edition) link(page string) string {
	return e.frozen.BaseURL + "/" + page + "/" + e.digest.Newsletter + "/"
}

// WebPage is a digest's variant as a public page: what was sent, without anything personal. It is there from the moment
// the sending began.
func (n *Newsroom) WebPage(ctx context.Context, newsletter string, day Day, variant int64) (string, error) {
	d, err := n.Digest(ctx, newsletter, day)
	if err != nil {
		return "", err
	}
	if d.Began.IsZero() {
		return "", ErrNoDigest
	}
	var topics string
	err = n.db.Read.QueryRowContext(ctx, `SELECT topics FROM variants WHERE digest = $1 AND variant = $2`, d.ID, variant).Scan(&topics)
	if errors.Is(err, sql.ErrNoRows) {
		return "", ErrNoDigest
	}
	if err != nil {
		return "", fmt.Errorf("read variant: %w", err)
	}
	e, err := n.edition(ctx, d)
	if err != nil {
		return "", err
	}
	v, err := e.variant(variant, strings.Split(topics, ","))
	if errors.Is(err, ErrNothingLeft) {
		return "", ErrNoDigest
	}
	if err != nil {
		return "", err
	}
	body, err := e.body(v)
	return body.Web(), err
}

// Preview is what a reader of these topics would get now, or got on that day if the digest is composed; no topics mean
// all of the newsletter's. Nothing is stored, not even a picture.
func (n *Newsroom) Preview(ctx context.Context, now time.Time, l Newsletter, day Day, topics []string) (render.Body, *render.Message, []error, error) {
	e, problems, err := n.reading(ctx, now, l, day)
	if err != nil {
		return render.Body{}, nil, problems, err
	}
	if len(topics) == 0 {
		topics = l.Topics
	}
	v, err := e.variant(0, inOrder(l.Topics, topics))
	if err != nil {
		return render.Body{}, nil, problems, err
	}
	body, err := e.body(v)
	if err != nil {
		return body, nil, problems, err
	}
	message, err := e.message(v)
	return body, message, problems, err
}

// reading is a day's edition to look at: the composed one, or else a draft that is not stored.
func (n *Newsroom) reading(ctx context.Context, now time.Time, l Newsletter, day Day) (*edition, []error, error) {
	d, err := n.Digest(ctx, l.Slug, day)
	if errors.Is(err, ErrNoDigest) {
		return n.draft(ctx, now, l, l.On(day), n.keptPicture)
	}
	if err != nil {
		return nil, nil, err
	}
	if d.Began.IsZero() {
		d.Began = now
	}
	e, err := n.edition(ctx, d)
	return e, nil, err
}
