package subscribers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"depesche/migrations"
)

// writer is the database or a transaction of it.
type writer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// reader is the database or a transaction of it.
type reader interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// subscriber is a row of that table. address is empty once erased.
type subscriber struct {
	id       int64
	address  string
	language string
	person   string
	nonce    int64
	fresh    bool // enlisted by this transaction
}

// lock gives and locks a subscriber, or ErrNotFound.
func lock(ctx context.Context, tx *sql.Tx, id int64) (subscriber, error) {
	s := subscriber{id: id}
	err := tx.QueryRowContext(ctx, `
		UPDATE subscribers SET nonce = nonce WHERE id = $1
		RETURNING COALESCE(address, ''), language, person, nonce`, id).
		Scan(&s.address, &s.language, &s.person, &s.nonce)
	if errors.Is(err, sql.ErrNoRows) {
		return s, ErrNotFound
	}
	if err != nil {
		return s, fmt.Errorf("lock subscriber: %w", err)
	}
	return s, nil
}

// look is lock for those who only read.
func look(ctx context.Context, db reader, id int64) (subscriber, error) {
	s := subscriber{id: id}
	err := db.QueryRowContext(ctx, `
		SELECT COALESCE(address, ''), language, person, nonce FROM subscribers WHERE id = $1`, id).
		Scan(&s.address, &s.language, &s.person, &s.nonce)
	if errors.Is(err, sql.ErrNoRows) {
		return s, ErrNotFound
	}
	if err != nil {
		return s, fmt.Errorf("read subscriber: %w", err)
	}
	return s, nil
}

// subscription is a row of that table with its topics and the suppression that stands against its reader; state is ""
// where there is no row.
type subscription struct {
	state      State
	topics     string
	requested  int64
	ended      sql.NullInt64
	consent    sql.NullInt64
	paused     sql.NullInt64
	suppressed SuppressionReason // "" if not
	since      int64             // of the suppression
}

func readSubscription(ctx context.Context, db reader, who subscriber, newsletter string) (subscription, error) {
	var s subscription
	err := db.QueryRowContext(ctx, `
		SELECT COALESCE(x.reason, ''), COALESCE(x.at, 0), COALESCE(p.state, ''), COALESCE(c.topics, ''),
			COALESCE(p.requested, 0), p.ended, p.consent, p.paused
		FROM subscribers s
		LEFT JOIN suppressions x ON x.person = s.person
		LEFT JOIN subscriptions p ON p.subscriber = s.id AND p.newsletter = $1
		LEFT JOIN choices c ON c.id = p.choice
		WHERE s.id = $2`, newsletter, who.id).
		Scan(&s.suppressed, &s.since, &s.state, &s.topics, &s.requested, &s.ended, &s.consent, &s.paused)
	if err != nil {
		return s, fmt.Errorf("read subscription: %w", err)
	}
	return s, nil
}

const maxKnownChoices = 10_000

// choice is the id of a set of topics. Like a wording it is kept before the transaction that refers to it.
func (r *Registry) choice(ctx context.Context, now time.Time, newsletter, topics string) (int64, error) {
	key := "choice " + newsletter + " " + topics
	if id, known := r.known.Load(key); known {
		return id.(int64), nil
	}
	var id int64
	for tries := 0; ; tries++ { // again where it was the new key that was taken, and not the set
		_, err := r.db.Write.ExecContext(ctx, `
			INSERT INTO choices (id, newsletter, topics) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
			migrations.NewKey(now), newsletter, topics)
		if err != nil {
			return 0, fmt.Errorf("keep choice: %w", err)
		}
		err = r.db.Write.QueryRowContext(ctx, `SELECT id FROM choices WHERE newsletter = $1 AND topics = $2`, newsletter, topics).Scan(&id)
		if err == nil {
			break
		}
		if !errors.Is(err, sql.ErrNoRows) || tries == 3 {
			return 0, fmt.Errorf("keep choice: %w", err)
		}
	}
	if r.choices.Add(1) <= maxKnownChoices { // strangers may ask for every set of topics there is
		r.known.Store(key, id)
	}
	return id, nil
}

func suppress(ctx context.Context, db writer, now time.Time, person string, reason SuppressionReason, detail string) error {
	_, err := db.ExecContext(ctx, `
		INSERT INTO suppressions (person, reason, at, detail) VALUES ($1, $2, $3, $4)
		ON CONFLICT (person) DO UPDATE SET reason = excluded.reason, at = excluded.at, detail = excluded.detail
		WHERE excluded.reason <> 'bounce' OR suppressions.reason = 'bounce'`,
		person, string(reason), now.UnixMilli(), detail)
	if err != nil {
		return fmt.Errorf("suppress: %w", err)
	}
	return nil
}
