package newsletter

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"depesche/newsletter/ingest"
)

// Source is where articles come from: a feed's address or a folder of files, and what its contract allows.
type Source struct {
	Name         string
	URL          string // of a feed or page; empty for a folder
	Path         string // of a file or folder; empty for an address
	Language     string // where a document does not say
	Zone         *time.Location
	FullText     bool // the contract allows the whole article, not only headline and standfirst (D36)
	Pictures     bool // the contract allows its pictures
	Every        time.Duration
	AllowPrivate []netip.Prefix // intranet addresses it may be fetched from
	MaxBytes     int64
	Guess        bool // by hand: an article from the host of a configured source counts as that source's
}

func (s Source) fetcher(baseURL string) *ingest.Fetcher {
	agent := fmt.Sprintf("depesche (+%s)", baseURL)
	return &ingest.Fetcher{UserAgent: agent, AllowPrivate: s.AllowPrivate, MaxBytes: s.MaxBytes}
}

func (s Source) reading(base string) ingest.Source {
	return ingest.Source{Name: s.Name, Language: s.Language, Location: s.Zone, Base: base}
}

// Harvest counts what a source gave.
type Harvest struct {
	Source    string  `json:"source"`
	New       int     `json:"new"`
	Updated   int     `json:"updated"`
	Unchanged int     `json:"unchanged"`
	Older     int     `json:"older"`
	Problems  []error `json:"-"` // documents and items that could not be read; the others were
}

func (h *Harvest) count(added Added) {
	switch added {
	case Arrived:
		h.New++
	case Updated:
		h.Updated++
	case Unchanged:
		h.Unchanged++
	case Older:
		h.Older++
	}
}

// Poll asks every source that is due, one after the other. What is wrong with one stands in its harvest and does not keep
// the others from being read (G7). force asks those that are not due yet, too.
func (n *Newsroom) Poll(ctx context.Context, now time.Time, force bool) ([]Harvest, error) {
	var harvests []Harvest
	for _, source := range n.Sources {
		last, err := n.lastPoll(ctx, source.Name)
		if err != nil {
			return harvests, err
		}
		if !force && !last.polled.IsZero() && now.Sub(last.polled) < source.Every && !now.Before(last.polled) {
			continue
		}
		harvest := Harvest{Source: source.Name}
		validators, problem := n.pollOne(ctx, now, source, last.validators, &harvest)
		if problem != nil {
			harvest.Problems = append(harvest.Problems, fmt.Errorf("source %s: %w", source.Name, problem))
		}
		if err := ctx.Err(); err != nil {
			return harvests, err
		}
		harvests = append(harvests, harvest)
		if err := n.recordPoll(ctx, now, source.Name, validators, problem); err != nil {
			return harvests, err
		}
	}
	return harvests, nil
}

func (n *Newsroom) pollOne(ctx context.Context, now time.Time, s Source, v ingest.Validators, h *Harvest) (ingest.Validators, error) {
	if s.URL == "" {
		return v, n.readPath(ctx, now, s, s.Path, h)
	}
	document, err := n.fetchers[s.Name].Get(ctx, s.URL, v)
	if err != nil || document.NotModified {
		return v, err
	}
	if err := n.readDocument(ctx, now, s, document.URL, document.Body, document.ContentType, document.URL, h); err != nil {
		return v, err // the old validators: what could not be read is fetched again
	}
	return document.Validators, nil
}

// IngestFile reads a file, or every file below a folder, as if it came from a source; an unnamed source allows only
// headline and standfirst.
func (n *Newsroom) IngestFile(ctx context.Context, now time.Time, s Source, path string) (Harvest, error) {
	h := Harvest{Source: s.Name}
	return h, n.readPath(ctx, now, s, path, &h)
}

// IngestBytes reads a document that is already here, from standard input for instance.
func (n *Newsroom) IngestBytes(ctx context.Context, now time.Time, s Source, name string, data []byte) (Harvest, error) {
	h := Harvest{Source: s.Name}
	return h, n.readDocument(ctx, now, s, name, data, "", "", &h)
}

// IngestURL fetches and reads one address.
func (n *Newsroom) IngestURL(ctx context.Context, now time.Time, s Source, address string) (Harvest, error) {
	h := Harvest{Source: s.Name}
	document, err := s.fetcher(n.BaseURL).Get(ctx, address, ingest.Validators{})
	if err != nil {
		return h, err
	}
	return h, n.readDocument(ctx, now, s, document.URL, document.Body, document.ContentType, document.URL, &h)
}

func (n *Newsroom) readPath(ctx context.Context, now time.Time, s Source, path string, h *Harvest) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("read source: %w", err)
	}
	if !info.IsDir() {
		return n.readFile(ctx, now, s, path, h)
	}
	return filepath.WalkDir(path, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("read folder: %w", err)
		}
		if !entry.Type().IsRegular() || !slices.Contains(readable, filepath.Ext(file)) {
			return nil
		}
		if err := n.readFile(ctx, now, s, file, h); err != nil {
			if ctx.Err() != nil {
				return err
			}
			h.Problems = append(h.Problems, err) // a broken file does not keep the others of its folder away
		}
		return nil
	})
}

// readable are the endings of files in a folder that may be articles.
var readable = []string{".md", ".markdown", ".xml", ".rss", ".atom", ".json", ".html", ".htm"}

func (n *Newsroom) readFile(ctx context.Context, now time.Time, s Source, path string, h *Harvest) error {
	limit := s.MaxBytes
	if limit == 0 {
		limit = 10 << 20
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("read file: %w", err)
	}
	if info.Size() > limit {
		return fmt.Errorf("read %s: it has %d bytes, which exceeds the limit of %d", path, info.Size(), limit)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read file: %w", err)
	}
	return n.readDocument(ctx, now, s, path, data, "", "", h)
}

func (n *Newsroom) readDocument(ctx context.Context, now time.Time, s Source, name string, data []byte, contentType, base string, h *Harvest) error {
	result, err := ingest.Read(name, data, contentType, s.reading(base), now)
	if err != nil {
		return err
	}
	h.Problems = append(h.Problems, result.Problems...)
	var outcomes []Added
	err = n.db.Retry(ctx, func(tx *sql.Tx) error {
		outcomes = outcomes[:0]
		for _, article := range result.Articles {
			if s.Guess {
				article.Source = n.sourceOf(article.URL, s.Name)
			}
			_, added, err := n.add(ctx, tx, now, article)
			if err != nil {
				return fmt.Errorf("store article %q: %w", article.Title, err)
			}
			outcomes = append(outcomes, added)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, added := range outcomes {
		h.count(added)
	}
	return nil
}

// sourceOf is the configured source whose host an address has, or else the given one.
func (n *Newsroom) sourceOf(address, otherwise string) string {
	host := hostOf(address)
	for _, source := range n.Sources {
		if host != "" && hostOf(source.URL) == host {
			return source.Name
		}
	}
	return otherwise
}

func hostOf(address string) string {
	parsed, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return strings.TrimPrefix(strings.ToLower(parsed.Hostname()), "www.")
}

type lastPoll struct {
	polled     time.Time
	validators ingest.Validators
}

func (n *Newsroom) lastPoll(ctx context.Context, source string) (last lastPoll, err error) {
	var polled sql.NullInt64
	err = n.db.Read.QueryRowContext(ctx, `SELECT polled, etag, last_modified FROM sources WHERE name = $1`, source).
		Scan(&polled, &last.validators.ETag, &last.validators.LastModified)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return last, fmt.Errorf("read state of source %s: %w", source, err)
	}
	last.polled = instant(polled)
	return last, nil
}

func (n *Newsroom) recordPoll(ctx context.Context, now time.Time, source string, v ingest.Validators, problem error) error {
	succeeded, text := stored(now), ""
	if problem != nil {
		succeeded, text = sql.NullInt64{}, problem.Error()
	}
	_, err := n.db.Write.ExecContext(ctx, `
		INSERT INTO sources (name, etag, last_modified, polled, succeeded, problem) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (name) DO UPDATE SET etag = excluded.etag, last_modified = excluded.last_modified, polled = excluded.polled,
			succeeded = COALESCE(excluded.succeeded, sources.succeeded), problem = excluded.problem`,
		source, v.ETag, v.LastModified, now.UnixMilli(), succeeded, text)
	if err != nil {
		return fmt.Errorf("record state of source %s: %w", source, err)
	}
	return nil
}
