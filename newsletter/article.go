package newsletter

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"

	"depesche/newsletter/ingest"
)

// Article is an article as the newsroom keeps it.
type Article struct {
	ID string // ten letters and digits made from its first key
	ingest.Article
	Labels    []string // kicker and categories
	FirstSeen time.Time
	Available time.Time // the later of first seen and the end of the embargo
	Withdrawn time.Time
}

// ErrNoArticle means that nothing stored has this id or address.
var ErrNoArticle = errors.New("no such article")

// Added says what became of an article that came in.
type Added string

// What can become of an article that came in.
const (
	Arrived   Added = "new"
	Updated   Added = "updated"
	Unchanged Added = "unchanged"
	Older     Added = "older" // a version older than the stored one, which stays
)

// Add stores an article, or what is new about it. The newest version wins, in whatever order versions arrive (H15). One that
// is killed, or whose embargo is moved into the future, leaves every digest that is still being sent (H14).
func (n *Newsroom) Add(ctx context.Context, now time.Time, a ingest.Article) (id string, added Added, err error) {
	err = n.db.Retry(ctx, func(tx *sql.Tx) error {
		id, added, err = n.add(ctx, tx, now, a)
		return err
	})
	if err != nil {
		return "", "", fmt.Errorf("store article %q: %w", a.Title, err)
	}
	return id, added, nil
}

func (n *Newsroom) add(ctx context.Context, tx *sql.Tx, now time.Time, a ingest.Article) (string, Added, error) {
	keys := a.Keys()
	id, err := articleByKey(ctx, tx, keys)
	if err != nil {
		return "", "", err
	}
	if id == "" {
		id = articleID(keys[0])
		if err := insertArticle(ctx, tx, now, id, a); err != nil {
			return "", "", err
		}
		return id, Arrived, insertKeys(ctx, tx, id, keys)
	}
	if err := insertKeys(ctx, tx, id, keys); err != nil {
		return "", "", err
	}
	added, err := replaceArticle(ctx, tx, id, a)
	if err != nil || added != Updated {
		return id, added, err
	}
	if a.Status != ingest.Usable || a.Embargo.After(now) {
		err = n.retract(ctx, tx, now, id, a.Status == ingest.Canceled)
	}
	return id, added, err
}

// articleByKey finds the article that has one of the keys, preferring the earlier key: a source's own id tells more than
// an address.
func articleByKey(ctx context.Context, tx *sql.Tx, keys []string) (string, error) {
	for _, key := range keys {
		var id string
		err := tx.QueryRowContext(ctx, `SELECT article FROM article_keys WHERE key = $1`, key).Scan(&id)
		if err == nil {
			return id, nil
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return "", fmt.Errorf("look for key: %w", err)
		}
	}
	return "", nil
}

func articleID(key string) string {
	sum := sha256.Sum256([]byte(key))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:10]
}

func insertKeys(ctx context.Context, tx *sql.Tx, id string, keys []string) error {
	for _, key := range keys {
		_, err := tx.ExecContext(ctx, `INSERT INTO article_keys (key, article) VALUES ($1, $2) ON CONFLICT DO NOTHING`, key, id)
		if err != nil {
			return fmt.Errorf("insert key: %w", err)
		}
	}
	return nil
}

func insertArticle(ctx context.Context, tx *sql.Tx, now time.Time, id string, a ingest.Article) error {
	picture := pictureOf(a)
	firstSeen := now.Truncate(time.Second)
	_, err := tx.ExecContext(ctx, `
		INSERT INTO articles (id, source, guid, url, version, title, kicker, teaser, body, language, place, agency, author,
			picture_url, picture_alt, picture_caption, picture_credit, published, updated, embargo, status, urgency,
			hash, first_seen, available)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25)`,
		id, a.Source, a.GUID, a.URL, a.Version, a.Title, a.Kicker, a.Teaser, a.Body, a.Language, a.Place, a.Agency, a.Author,
		picture.URL, picture.Alt, picture.Caption, picture.Credit, stored(a.Published), stored(a.Updated), stored(a.Embargo),
		a.Status.String(), a.Urgency, a.Hash(), firstSeen.UnixMilli(), later(firstSeen, a.Embargo).UnixMilli())
	if err != nil {
		return fmt.Errorf("insert article: %w", err)
	}
	return insertLabels(ctx, tx, id, a)
}

// replaceArticle puts a newer version in the place of the stored one. When it was first seen stays, so that an update does
// not make old news new; a new embargo moves when it is available.
func replaceArticle(ctx context.Context, tx *sql.Tx, id string, a ingest.Article) (Added, error) {
	var version, firstSeen int64
	var updated sql.NullInt64
	var hash string
	err := tx.QueryRowContext(ctx, `SELECT version, updated, first_seen, hash FROM articles WHERE id = $1`, id).
		Scan(&version, &updated, &firstSeen, &hash)
	if err != nil {
		return "", fmt.Errorf("read stored version: %w", err)
	}
	switch {
	case a.Hash() == hash:
		return Unchanged, nil
	case a.Version < version, a.Version == version && !a.Updated.IsZero() && a.Updated.Before(instant(updated)):
		return Older, nil
	}
	picture := pictureOf(a)
	_, err = tx.ExecContext(ctx, `
		UPDATE articles SET url = $1, version = $2, title = $3, kicker = $4, teaser = $5, body = $6, language = $7, place = $8,
			agency = $9, author = $10, picture_url = $11, picture_alt = $12, picture_caption = $13, picture_credit = $14,
			published = $15, updated = $16, embargo = $17, status = $18, urgency = $19, hash = $20, available = $21
		WHERE id = $22`,
		a.URL, a.Version, a.Title, a.Kicker, a.Teaser, a.Body, a.Language, a.Place, a.Agency, a.Author,
		picture.URL, picture.Alt, picture.Caption, picture.Credit, stored(a.Published), stored(a.Updated), stored(a.Embargo),
		a.Status.String(), a.Urgency, a.Hash(), later(time.UnixMilli(firstSeen), a.Embargo).UnixMilli(), id)
	if err != nil {
		return "", fmt.Errorf("update article: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM article_labels WHERE article = $1`, id); err != nil {
		return "", fmt.Errorf("delete labels: %w", err)
	}
	return Updated, insertLabels(ctx, tx, id, a)
}

func insertLabels(ctx context.Context, tx *sql.Tx, id string, a ingest.Article) error {
	labels := a.Categories
	if a.Kicker != "" {
		labels = append([]string{a.Kicker}, labels...)
	}
	for position, label := range labels {
		_, err := tx.ExecContext(ctx, `INSERT INTO article_labels (article, position, label) VALUES ($1, $2, $3)`, id, position, label)
		if err != nil {
			return fmt.Errorf("insert label: %w", err)
		}
	}
	return nil
}

// Withdraw takes an article out of everything that has not left the house: it enters no digest any more, and digests that
// are being sent go on without it (H14). reached counts the readers who already had it.
func (n *Newsroom) Withdraw(ctx context.Context, now time.Time, id string) (reached int, err error) {
	err = n.db.Tx(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `UPDATE articles SET withdrawn = $1 WHERE id = $2 AND withdrawn IS NULL`, now.UnixMilli(), id)
		if err != nil {
			return fmt.Errorf("mark as withdrawn: %w", err)
		}
		if changed, err := result.RowsAffected(); err != nil || changed == 0 {
			return errors.Join(err, alreadyWithdrawn(ctx, tx, id))
		}
		return n.retract(ctx, tx, now, id, false)
	})
	if err != nil {
		return 0, fmt.Errorf("withdraw article %s: %w", id, err)
	}
	return n.reached(ctx, id)
}

// alreadyWithdrawn tells an article that was withdrawn before, which is fine, from one that does not exist.
func alreadyWithdrawn(ctx context.Context, tx *sql.Tx, id string) error {
	var n int
	if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM articles WHERE id = $1`, id).Scan(&n); err != nil {
		return err
	}
	if n == 0 {
		return ErrNoArticle
	}
	return nil
}

// retract makes a new revision of every digest that is still being sent and has the article.
func (n *Newsroom) retract(ctx context.Context, tx *sql.Tx, now time.Time, id string, killed bool) error {
	if killed {
		_, err := tx.ExecContext(ctx, `UPDATE articles SET withdrawn = $1 WHERE id = $2 AND withdrawn IS NULL`, now.UnixMilli(), id)
		if err != nil {
			return fmt.Errorf("mark as withdrawn: %w", err)
		}
	}
	_, err := tx.ExecContext(ctx, `
		UPDATE digests SET revision = revision + 1
		WHERE state = 'ready' AND id IN (SELECT digest FROM entries WHERE article = $1 AND withdrawn IS NULL)`, id)
	if err != nil {
		return fmt.Errorf("revise digests: %w", err)
	}
	_, err = tx.ExecContext(ctx, `
		UPDATE entries SET withdrawn = (SELECT revision FROM digests WHERE digests.id = entries.digest)
		WHERE article = $1 AND withdrawn IS NULL AND digest IN (SELECT id FROM digests WHERE state = 'ready')`, id)
	if err != nil {
		return fmt.Errorf("withdraw entries: %w", err)
	}
	return nil
}

// reached counts the readers who were sent a revision that still had the article.
func (n *Newsroom) reached(ctx context.Context, id string) (int, error) {
	var count int
	err := n.db.Read.QueryRowContext(ctx, `
		SELECT COUNT(DISTINCT d.subscriber)
		FROM entries e
		JOIN variants v ON v.digest = e.digest
		JOIN entry_topics t ON t.digest = e.digest AND t.article = e.article AND t.kind = e.kind
		JOIN deliveries d ON d.digest = e.digest AND d.variant = v.variant
		WHERE e.article = $1 AND d.state IN ('sent', 'doubtful') AND (e.withdrawn IS NULL OR d.revision < e.withdrawn)
			AND ',' || v.topics || ',' LIKE '%,' || t.topic || ',%'`, id).Scan(&count)
	if err != nil {
		return 0, fmt.Errorf("count readers of article %s: %w", id, err)
	}
	return count, nil
}

const articleColumns = `a.id, a.source, a.guid, a.url, a.version, a.title, a.kicker, a.teaser, a.body, a.language, a.place,
	a.agency, a.author, a.picture_url, a.picture_alt, a.picture_caption, a.picture_credit, a.published, a.updated, a.embargo,
	a.status, a.urgency, a.first_seen, a.available, a.withdrawn`

func scanArticle(scan func(...any) error) (Article, error) {
	var a Article
	var p ingest.Picture
	var published, updated, embargo, withdrawn sql.NullInt64
	var firstSeen, available int64
	var status string
	err := scan(&a.ID, &a.Source, &a.GUID, &a.URL, &a.Version, &a.Title, &a.Kicker, &a.Teaser, &a.Body, &a.Language, &a.Place,
		&a.Agency, &a.Author, &p.URL, &p.Alt, &p.Caption, &p.Credit, &published, &updated, &embargo,
		&status, &a.Urgency, &firstSeen, &available, &withdrawn)
	a.Published, a.Updated, a.Embargo, a.Withdrawn = instant(published), instant(updated), instant(embargo), instant(withdrawn)
	a.FirstSeen, a.Available = time.UnixMilli(firstSeen), time.UnixMilli(available)
	a.Status = statusOf(status)
	if p != (ingest.Picture{}) {
		a.Picture = &p
	}
	return a, err
}

// Article finds an article by its id, its source's own id or its address.
func (n *Newsroom) Article(ctx context.Context, name string) (Article, error) {
	keys := ingest.Article{URL: name}.Keys()
	key := ""
	if len(keys) > 0 {
		key = keys[len(keys)-1]
	}
	found, err := all(ctx, n.db.Read, scanArticle, `
		SELECT `+articleColumns+` FROM articles a
		WHERE a.id = $1 OR a.guid = $1 OR a.id = (SELECT article FROM article_keys WHERE key = $2) ORDER BY a.id LIMIT 2`, name, key)
	if err != nil {
		return Article{}, fmt.Errorf("read article %s: %w", name, err)
	}
	if len(found) == 0 {
		return Article{}, fmt.Errorf("%w: %s", ErrNoArticle, name)
	}
	labels, err := n.labels(ctx, found[0].ID, found[0].Available)
	if err != nil {
		return Article{}, err
	}
	found[0].Labels = labels[found[0].ID]
	return found[0], nil
}

// NewestArticle is the one that came in last.
func (n *Newsroom) NewestArticle(ctx context.Context) (Article, error) {
	var id string
	err := n.db.Read.QueryRowContext(ctx, `SELECT id FROM articles ORDER BY first_seen DESC, id LIMIT 1`).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return Article{}, ErrNoArticle
	}
	if err != nil {
		return Article{}, fmt.Errorf("find the newest article: %w", err)
	}
	return n.Article(ctx, id)
}

// Articles lists what became available since then, newest first.
func (n *Newsroom) Articles(ctx context.Context, since time.Time) ([]Article, error) {
	list, err := all(ctx, n.db.Read, scanArticle, `
		SELECT `+articleColumns+` FROM articles a WHERE a.available > $1 ORDER BY a.available DESC, a.id`, since.UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("list articles: %w", err)
	}
	labels, err := n.labels(ctx, "", since)
	if err != nil {
		return nil, err
	}
	for i := range list {
		list[i].Labels = labels[list[i].ID]
	}
	return list, nil
}

// labels gives the labels of one article, or, with an empty id, of all that became available since then.
func (n *Newsroom) labels(ctx context.Context, id string, since time.Time) (map[string][]string, error) {
	type row struct{ article, label string }
	rows, err := all(ctx, n.db.Read, func(scan func(...any) error) (r row, err error) {
		return r, scan(&r.article, &r.label)
	}, `SELECT l.article, l.label FROM article_labels l JOIN articles a ON a.id = l.article
		WHERE l.article = $1 OR ($1 = '' AND a.available > $2) ORDER BY l.article, l.position`, id, since.UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("read labels: %w", err)
	}
	labels := map[string][]string{}
	for _, r := range rows {
		labels[r.article] = append(labels[r.article], r.label)
	}
	return labels, nil
}

// Unmapped lists articles that belong to no topic, with the labels nobody wanted: nothing is dropped silently.
func (n *Newsroom) Unmapped(ctx context.Context, since time.Time) ([]Article, error) {
	list, err := n.Articles(ctx, since)
	if err != nil {
		return nil, err
	}
	var unmapped []Article
	for _, a := range list {
		if len(n.desk.File(a.Labels)) > 0 {
			continue
		}
		a.Labels = n.desk.Unmapped(a.Labels)
		unmapped = append(unmapped, a)
	}
	return unmapped, nil
}

// Topics are the topics an article is filed under.
func (n *Newsroom) TopicsOf(a Article) []string { return n.desk.File(a.Labels) }

// statusOf is the inverse of ingest.Status.String; the schema allows nothing else.
func statusOf(s string) ingest.Status {
	for _, status := range []ingest.Status{ingest.Withheld, ingest.Canceled} {
		if status.String() == s {
			return status
		}
	}
	return ingest.Usable
}

func pictureOf(a ingest.Article) ingest.Picture {
	if a.Picture == nil {
		return ingest.Picture{}
	}
	return *a.Picture
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
