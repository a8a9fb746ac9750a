package newsletter

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"depesche/migrations"
	"depesche/newsletter/render"
)

// Digest is one newsletter on one local day, composed once and frozen.
type Digest struct {
	ID         int64
	Newsletter string
	Day        Day
	Planned    time.Time
	Composed   time.Time // also the cut-off
	Latest     time.Time
	State      DigestState
	Revision   int64     // grows when an article is withdrawn while the digest is being sent
	Began      time.Time // when its sending began: the Date of its mails
	Held       time.Time
	Silent     int // readers none of whose topics had news
}

// DigestState says how far a digest is.
type DigestState string

// The states of a digest.
const (
	Empty DigestState = "empty" // there was no news; nothing is sent
	Ready DigestState = "ready" // composed and planned
	Done  DigestState = "done"  // nothing is left to send
)

// ErrTooLate means that a digest was due so long ago that it needs a person's word to be sent (H10).
var ErrTooLate = errors.New("too late")

// ErrNoDigest means that no digest of this day has been composed.
var ErrNoDigest = errors.New("no such digest")

// frozen is what a digest keeps of configuration and templates, so that a later change changes no mail of it.
type frozen struct {
	Newsletter Newsletter
	Zone       string
	Source     render.Source
	Brand      render.Brand
	BaseURL    string
	Senders    Senders
	Names      map[string]string // of topics
}

// Compose makes the digest of an occasion, or finds the one made before: (newsletter, day) is unique, so of many processes
// that compose at once one succeeds and the others find its digest. problems are what readers will miss, a picture that
// could not be copied for instance; the digest is complete but for them.
func (n *Newsroom) Compose(ctx context.Context, now time.Time, l Newsletter, o Occasion, force bool) (d Digest, problems []error, err error) {
	d, err = n.Digest(ctx, l.Slug, o.Day)
	if !errors.Is(err, ErrNoDigest) {
		return d, nil, err
	}
	if !now.Before(o.Latest) && !force {
		return d, nil, fmt.Errorf("%w: the digest %s of %s was planned for %s and may be sent until %s", ErrTooLate,
			l.Slug, o.Day, o.Planned.In(l.Zone).Format("15:04"), o.Latest.In(l.Zone).Format("2006-01-02 15:04"))
	}
	draft, problems, err := n.draft(ctx, now, l, o, n.copyPicture)
	if err != nil {
		return d, problems, fmt.Errorf("compose digest %s of %s: %w", l.Slug, o.Day, err)
	}
	if force && !now.Before(o.Latest) {
		draft.digest.Latest = now.Add(o.Latest.Sub(o.Planned)) // an overridden one gets the time a punctual one has
	}
	if err := n.freeze(ctx, now, draft); err != nil && !migrations.IsConflict(err) {
		return d, problems, fmt.Errorf("compose digest %s of %s: %w", l.Slug, o.Day, err)
	}
	d, err = n.Digest(ctx, l.Slug, o.Day)
	return d, problems, err
}

// draft is a digest that is not stored: its edition and the topics that have news.
func (n *Newsroom) draft(ctx context.Context, now time.Time, l Newsletter, o Occasion, copies copier) (*edition, []error, error) {
	source, err := render.Load(n.templates, l.Language, l.Template)
	if err != nil {
		return nil, nil, err
	}
	e := &edition{
		digest: Digest{
			ID: migrations.NewKey(now), Newsletter: l.Slug, Day: o.Day, Planned: o.Planned, Composed: now, Latest: o.Latest,
			State: Ready, Revision: 1, Began: now,
		},
		frozen: frozen{
			Newsletter: l, Zone: l.Zone.String(), Source: source, Brand: n.Brand, BaseURL: n.BaseURL, Senders: n.Senders,
			Names: map[string]string{},
		},
	}
	for _, slug := range l.Topics {
		e.frozen.Names[slug] = n.desk.Name(slug)
	}
	if err := e.open(); err != nil {
		return nil, nil, err
	}
	candidates, err := n.candidates(ctx, now, l)
	if err != nil {
		return nil, nil, err
	}
	var problems []error
	for position, c := range candidates {
		entry, err := n.enter(ctx, e, c, copies)
		if err != nil {
			if entry.article == "" {
				return nil, problems, err
			}
			problems = append(problems, err)
		}
		entry.position = position
		e.entries = append(e.entries, entry)
	}
	if len(e.entries) == 0 {
		e.digest.State = Empty
	}
	return e, problems, nil
}

// candidate is an article that is eligible for a digest, with the digest's topics it belongs to.
type candidate struct {
	Article
	topics []string
}

// candidates are the articles a newsletter may print now: available, within the age cap, filed under one of its topics, not
// withdrawn, and not an entry before. So one that came late, was embargoed or found its topic later is in the next digest,
// once. What limits cut off stays eligible.
func (n *Newsroom) candidates(ctx context.Context, now time.Time, l Newsletter) ([]candidate, error) {
	oldest := now.Add(-l.MaxAge)
	articles, err := all(ctx, n.db.Read, scanArticle, `
		SELECT `+articleColumns+` FROM articles a
		WHERE a.available > $1 AND a.available <= $2 AND a.status = 'usable' AND a.withdrawn IS NULL
			AND NOT EXISTS (SELECT 1 FROM entries e WHERE e.newsletter = $3 AND e.article = a.id AND e.kind = 'news')
		ORDER BY a.id`, oldest.UnixMilli(), now.UnixMilli(), l.Slug)
	if err != nil {
		return nil, fmt.Errorf("find eligible articles: %w", err)
	}
	labels, err := n.labels(ctx, "", oldest)
	if err != nil {
		return nil, err
	}
	var list []candidate
	for _, a := range articles {
		topics := inOrder(l.Topics, n.desk.File(labels[a.ID]))
		if len(topics) > 0 && a.newsTime().After(oldest) {
			list = append(list, candidate{a, topics})
		}
	}
	slices.SortStableFunc(list, byImportance)
	return limit(list, l), nil
}

// newsTime is when an article became news: its publication, or the end of its embargo. A date in the future is not believed.
func (a Article) newsTime() time.Time {
	if a.Published.IsZero() {
		return a.Available
	}
	t := later(a.Published, a.Embargo)
	if t.After(a.Available) {
		return a.Available
	}
	return t
}

// byImportance is the order of articles under a topic: IPTC urgency, then the newest, then the id, so that the same
// articles always give the same bytes (H20).
func byImportance(a, b candidate) int {
	urgency := func(c candidate) int {
		if c.Urgency == 0 {
			return 5 // IPTC: 5 is normal
		}
		return c.Urgency
	}
	if d := urgency(a) - urgency(b); d != 0 {
		return d
	}
	if d := b.newsTime().Compare(a.newsTime()); d != 0 {
		return d
	}
	return strings.Compare(a.ID, b.ID)
}

func limit(list []candidate, l Newsletter) []candidate {
	perTopic := map[string]int{}
	var kept []candidate
	for _, c := range list {
		if l.Entries > 0 && len(kept) == l.Entries {
			break
		}
		first := c.topics[0]
		if l.PerTopic > 0 && perTopic[first] == l.PerTopic {
			continue
		}
		perTopic[first]++
		kept = append(kept, c)
	}
	return kept
}

// inOrder gives those of order that are among chosen.
func inOrder(order, chosen []string) []string {
	var list []string
	for _, slug := range order {
		if slices.Contains(chosen, slug) {
			list = append(list, slug)
		}
	}
	return list
}

// freeze stores a digest, its entries, its variants, and one delivery for every reader who has news in it. All or nothing.
func (n *Newsroom) freeze(ctx context.Context, now time.Time, e *edition) error {
	frozen, err := json.Marshal(e.frozen)
	if err != nil {
		return fmt.Errorf("freeze settings: %w", err)
	}
	return n.db.Tx(ctx, func(tx *sql.Tx) error {
		d := e.digest
		result, err := tx.ExecContext(ctx, `
			INSERT INTO digests (id, newsletter, day, planned, composed, latest, state, frozen)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (newsletter, day) DO NOTHING`,
			d.ID, d.Newsletter, string(d.Day), d.Planned.UnixMilli(), d.Composed.UnixMilli(), d.Latest.UnixMilli(),
			string(d.State), string(frozen))
		if err != nil {
			return fmt.Errorf("insert digest: %w", err)
		}
		if inserted, err := result.RowsAffected(); err != nil || inserted == 0 {
			return err // another process has composed it
		}
		for _, entry := range e.entries {
			if err := insertEntry(ctx, tx, d, entry); err != nil {
				return err
			}
		}
		if err := n.plan(ctx, tx, e); err != nil {
			return err
		}
		return holdFirst(ctx, tx, d)
	})
}

func insertEntry(ctx context.Context, tx *sql.Tx, d Digest, e entry) error {
	result, err := tx.ExecContext(ctx, `
		INSERT INTO entries (digest, newsletter, article, kind, position, title, html, plain, hash)
		SELECT CAST($1 AS BIGINT), $2, id, $3, CAST($4 AS BIGINT), $5, $6, $7, $8 FROM articles
		WHERE id = $9 AND withdrawn IS NULL AND status = 'usable' AND available <= $10`,
		d.ID, d.Newsletter, e.kind, e.position, e.title, string(e.fragment.HTML), e.fragment.Text, e.hash,
		e.article, d.Composed.UnixMilli())
	if err != nil {
		return fmt.Errorf("insert entry: %w", err)
	}
	if inserted, err := result.RowsAffected(); err != nil || inserted == 0 {
		return errors.Join(err, fmt.Errorf("article %s was withdrawn while the digest was composed; the next run composes it anew", e.article))
	}
	for _, topic := range e.topics {
		_, err := tx.ExecContext(ctx, `INSERT INTO entry_topics (digest, article, kind, topic) VALUES ($1, $2, $3, $4)`,
			d.ID, e.article, e.kind, topic)
		if err != nil {
			return fmt.Errorf("insert entry's topic: %w", err)
		}
	}
	return nil
}

const digestColumns = `id, newsletter, day, planned, composed, latest, state, revision, began, held, silent`

func scanDigest(scan func(...any) error) (d Digest, err error) {
	var planned, composed, latest int64
	var began, held sql.NullInt64
	err = scan(&d.ID, &d.Newsletter, &d.Day, &planned, &composed, &latest, &d.State, &d.Revision, &began, &held, &d.Silent)
	d.Planned, d.Composed, d.Latest = time.UnixMilli(planned), time.UnixMilli(composed), time.UnixMilli(latest)
	d.Began, d.Held = instant(began), instant(held)
	return d, err
}

// Digest finds the digest of a newsletter and day.
func (n *Newsroom) Digest(ctx context.Context, newsletter string, day Day) (Digest, error) {
	d, err := scanDigest(n.db.Write.QueryRowContext(ctx, `SELECT `+digestColumns+` FROM digests WHERE newsletter = $1 AND day = $2`,
		newsletter, string(day)).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return d, fmt.Errorf("%w: %s of %s", ErrNoDigest, newsletter, day)
	}
	if err != nil {
		return d, fmt.Errorf("read digest %s of %s: %w", newsletter, day, err)
	}
	return d, nil
}

// Digests lists the newest digests of all newsletters.
func (n *Newsroom) Digests(ctx context.Context, limit int) ([]Digest, error) {
	list, err := all(ctx, n.db.Read, scanDigest, `SELECT `+digestColumns+` FROM digests ORDER BY planned DESC, newsletter LIMIT $1`, limit)
	if err != nil {
		return nil, fmt.Errorf("list digests: %w", err)
	}
	return list, nil
}

// Hold stops a digest: what is on the wire arrives, the rest waits for Release.
func (n *Newsroom) Hold(ctx context.Context, now time.Time, id int64) error {
	_, err := n.db.Write.ExecContext(ctx, `UPDATE digests SET held = $1 WHERE id = $2 AND held IS NULL`, now.UnixMilli(), id)
	if err != nil {
		return fmt.Errorf("hold digest: %w", err)
	}
	return nil
}

// Release lets a held digest go on. Its sending begins anew: the mails that are left carry the date of now.
func (n *Newsroom) Release(ctx context.Context, id int64) error {
	_, err := n.db.Write.ExecContext(ctx, `UPDATE digests SET held = NULL, began = NULL WHERE id = $1 AND held IS NOT NULL`, id)
	if err != nil {
		return fmt.Errorf("release digest: %w", err)
	}
	return nil
}
