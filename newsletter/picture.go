package newsletter

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"depesche/newsletter/ingest"
)

// Picture is a bounded copy of a picture, delivered from base_url: a reader's mail program asks nobody else (F19).
type Picture struct {
	Hash          string
	Type          string
	Width, Height int
	Bytes         []byte
}

// ErrNoPicture means that no copy with this hash is kept.
var ErrNoPicture = errors.New("no such picture")

// Picture reads a copy by its content hash.
func (n *Newsroom) Picture(ctx context.Context, hash string) (Picture, error) {
	return n.readPicture(ctx, `SELECT hash, type, width, height, bytes FROM pictures WHERE hash = $1 LIMIT 1`, hash)
}

func (n *Newsroom) readPicture(ctx context.Context, query, key string) (p Picture, err error) {
	err = n.db.Read.QueryRowContext(ctx, query, key).Scan(&p.Hash, &p.Type, &p.Width, &p.Height, &p.Bytes)
	if errors.Is(err, sql.ErrNoRows) {
		return p, ErrNoPicture
	}
	if err != nil {
		return p, fmt.Errorf("read picture: %w", err)
	}
	return p, nil
}

// copier gives the copy of a source's picture at an address.
type copier func(ctx context.Context, source, address string) (Picture, error)

// keptPicture gives the copy of a picture if there is one.
func (n *Newsroom) keptPicture(ctx context.Context, _, address string) (Picture, error) {
	return n.readPicture(ctx, `SELECT hash, type, width, height, bytes FROM pictures WHERE url = $1`, address)
}

// copyPicture gives the kept copy of a picture, fetching it if there is none yet.
func (n *Newsroom) copyPicture(ctx context.Context, source, address string) (Picture, error) {
	kept, err := n.keptPicture(ctx, source, address)
	if !errors.Is(err, ErrNoPicture) {
		return kept, err
	}
	fetcher, ok := n.fetchers[source]
	if !ok {
		return Picture{}, fmt.Errorf("copy picture: source %s is no longer configured", source)
	}
	document, err := fetcher.Get(ctx, address, ingest.Validators{})
	if err != nil {
		return Picture{}, fmt.Errorf("copy picture: %w", err)
	}
	small, err := ingest.ShrinkPicture(bytes.NewReader(document.Body))
	if err != nil {
		return Picture{}, fmt.Errorf("copy picture: %w", err)
	}
	_, err = n.db.Write.ExecContext(ctx, `
		INSERT INTO pictures (url, hash, type, width, height, bytes) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`,
		address, small.Hash, small.Type, small.Width, small.Height, small.Bytes)
	if err != nil {
		return Picture{}, fmt.Errorf("keep picture: %w", err)
	}
	return Picture{Hash: small.Hash, Type: small.Type, Width: small.Width, Height: small.Height, Bytes: small.Bytes}, nil
}
