package subscribers

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Reader is a subscriber as the editor sees one.
type Reader struct {
	ID            int64          `json:"id"`
	Address       string         `json:"address"`
	Language      string         `json:"language"`
	Created       time.Time      `json:"created"`
	Suppressed    *Suppression   `json:"suppressed,omitempty"`
	Disposable    bool           `json:"disposable,omitempty"` // the domain is one for throw-away mailboxes
	Subscriptions []Subscription `json:"subscriptions"`
}

// Suppression is why nothing may be mailed to a person, whoever asks.
type Suppression struct {
	Reason SuppressionReason `json:"reason"`
	At     time.Time         `json:"at"`
	Detail string            `json:"detail,omitempty"` // the server's code, never an address
}

// SuppressionReason is one of four.
type SuppressionReason string

// The reasons. A bounce is over when the person confirms again; after the others only a letter requested later counts.
const (
	Bounced    SuppressionReason = "bounce"
	Complained SuppressionReason = "complaint"
	Objected   SuppressionReason = "objection"
	Left       SuppressionReason = "withdrawal" // an imported list says that they had left it
)

// Subscription is one reader's relation to one newsletter.
type Subscription struct {
	Newsletter string    `json:"newsletter"`
	Topics     []string  `json:"topics"`
	State      State     `json:"state"`
	Requested  time.Time `json:"requested"`
	SignedUp   time.Time `json:"signed_up,omitzero"` // the sign-up that was confirmed
	Paused     time.Time `json:"paused,omitzero"`    // until then
	Ended      time.Time `json:"ended,omitzero"`
}

// State is where a subscription stands.
type State string

// The states. Only Active ones are ever mailed a digest. An Unproven one came by import without evidence of consent: nothing is
// ever mailed because of it, and it becomes Active by evidence or by the reader's own sign-up.
const (
	Pending State = "pending" // the letter is out, the button not pressed
	Active  State = "active"
	Ended   State = "ended"

	Unproven State = "unproven"
)

// Find is the id of the subscriber with that address, or ErrNotFound.
func (r *Registry) Find(ctx context.Context, address string) (int64, error) {
	a, err := ParseAddress(address)
	if err != nil {
		return 0, err
	}
	return r.find(ctx, r.db.Read, a)
}

func (r *Registry) find(ctx context.Context, db reader, a Address) (id int64, err error) {
	err = db.QueryRowContext(ctx, `SELECT id FROM subscribers WHERE person = $1 AND erased IS NULL`, r.keys.Person(a.Mailbox)).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, ErrNotFound
	}
	if err != nil {
		return 0, fmt.Errorf("find subscriber: %w", err)
	}
	return id, nil
}

// Show is everything that stands about a subscriber but the proof, or ErrNotFound.
func (r *Registry) Show(ctx context.Context, address string) (Reader, error) {
	id, err := r.Find(ctx, address)
	if err != nil {
		return Reader{}, err
	}
	var reader Reader
	var created int64
	var reason, detail sql.NullString
	var at sql.NullInt64
	err = r.db.Read.QueryRowContext(ctx, `
		SELECT s.id, COALESCE(s.address, ''), s.language, s.created, x.reason, x.at, x.detail
		FROM subscribers s LEFT JOIN suppressions x ON x.person = s.person
		WHERE s.id = $1`, id).
		Scan(&reader.ID, &reader.Address, &reader.Language, &created, &reason, &at, &detail)
	if err != nil {
		return Reader{}, fmt.Errorf("read subscriber: %w", err)
	}
	reader.Created, reader.Disposable = instant(created), r.flagged(reader.Address)
	if reason.Valid {
		reader.Suppressed = &Suppression{SuppressionReason(reason.String), instant(at.Int64), detail.String}
	}
	reader.Subscriptions, err = r.subscriptions(ctx, id)
	return reader, err
}

func (r *Registry) subscriptions(ctx context.Context, id int64) ([]Subscription, error) {
	rows, err := r.db.Read.QueryContext(ctx, `
		SELECT p.newsletter, c.topics, p.state, p.requested, p.signed_up, p.paused, p.ended
		FROM subscriptions p JOIN choices c ON c.id = p.choice
		WHERE p.subscriber = $1 ORDER BY p.newsletter`, id)
	if err != nil {
		return nil, fmt.Errorf("read subscriptions: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var all []Subscription
	for rows.Next() {
		s, err := scanSubscription(rows)
		if err != nil {
			return nil, fmt.Errorf("read subscriptions: %w", err)
		}
		all = append(all, s)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read subscriptions: %w", err)
	}
	return all, nil
}

// scanSubscription reads newsletter, topics, state, requested, signed_up, paused, ended, after columns of the caller's.
func scanSubscription(rows *sql.Rows, before ...any) (Subscription, error) {
	var s Subscription
	var topics string
	var requested int64
	var signedUp, paused, ended sql.NullInt64
	err := rows.Scan(append(before, &s.Newsletter, &topics, &s.State, &requested, &signedUp, &paused, &ended)...)
	s.Topics = strings.Split(topics, ",")
	s.Requested, s.SignedUp = instant(requested), nullInstant(signedUp)
	s.Paused, s.Ended = nullInstant(paused), nullInstant(ended)
	return s, err
}

// Filter says which subscriptions List gives; a zero field does not restrict.
type Filter struct {
	Newsletter string
	State      State
}

// Row is one subscription of a list.
type Row struct {
	ID         int64             `json:"id"`
	Address    string            `json:"address"`
	Suppressed SuppressionReason `json:"suppressed,omitempty"`
	Disposable bool              `json:"disposable,omitempty"` // the domain is one for throw-away mailboxes
	Subscription
}

const listPage = 1000 // rows read at once, so that no read lasts as long as the list

// List gives each subscription to fn, in the order in which readers came, and stops at its first error.
func (r *Registry) List(ctx context.Context, f Filter, fn func(Row) error) error {
	var last Row
	for {
		page, err := r.listAfter(ctx, f, last)
		if err != nil {
			return err
		}
		for _, row := range page {
			if err := fn(row); err != nil {
				return err
			}
		}
		if len(page) < listPage {
			return nil
		}
		last = page[len(page)-1]
	}
}

func (r *Registry) listAfter(ctx context.Context, f Filter, last Row) ([]Row, error) {
	rows, err := r.db.Read.QueryContext(ctx, `
		SELECT s.id, s.address, COALESCE(x.reason, ''), p.newsletter, c.topics, p.state, p.requested, p.signed_up, p.paused, p.ended
		FROM subscriptions p
		JOIN subscribers s ON s.id = p.subscriber
		JOIN choices c ON c.id = p.choice
		LEFT JOIN suppressions x ON x.person = s.person
		WHERE (p.subscriber, p.newsletter) > ($1, $2) AND s.address IS NOT NULL
			AND ($3 = '' OR p.newsletter = $3) AND ($4 = '' OR p.state = $4)
		ORDER BY p.subscriber, p.newsletter LIMIT $5`,
		last.ID, last.Newsletter, f.Newsletter, string(f.State), listPage)
	if err != nil {
		return nil, fmt.Errorf("list subscribers: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var page []Row
	for rows.Next() {
		var row Row
		row.Subscription, err = scanSubscription(rows, &row.ID, &row.Address, &row.Suppressed)
		if err != nil {
			return nil, fmt.Errorf("list subscribers: %w", err)
		}
		row.Disposable = r.flagged(row.Address)
		page = append(page, row)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list subscribers: %w", err)
	}
	return page, nil
}

// newNonce makes what a link is bound to.
func newNonce() int64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return int64(binary.BigEndian.Uint64(b[:]) >> 1)
}

func instant(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

func nullInstant(ms sql.NullInt64) time.Time {
	if !ms.Valid {
		return time.Time{}
	}
	return instant(ms.Int64)
}
