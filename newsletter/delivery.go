package newsletter

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// State says how far a delivery is. prepared = sent + failed + skipped + expired + doubtful + due, always.
type State string

// The states of a delivery.
const (
	Due      State = "due"
	Doubtful State = "doubtful" // the final dot may have left, no reply is known; written before the dot leaves (RFC 1047)
	Sent     State = "sent"     // the server answered 250
	Failed   State = "failed"   // the server refused it for good
	Skipped  State = "skipped"  // the reader left, or has nothing in it any more
	Expired  State = "expired"  // the latest time came first
)

// plan writes one delivery for everybody in the audience whose choice of topics has news. Doing it twice adds nothing.
func (n *Newsroom) plan(ctx context.Context, tx *sql.Tx, e *edition) error {
	if err := n.cut(ctx, tx, e); err != nil {
		return err
	}
	d := e.digest
	result, err := tx.ExecContext(ctx, `
		INSERT INTO deliveries (digest, subscriber, state, variant)
		SELECT c.digest, a.subscriber, 'due', c.variant
		FROM audience a JOIN digest_choices c ON c.digest = $1 AND c.choice = a.choice
		WHERE a.newsletter = $2
		ORDER BY a.subscriber
		ON CONFLICT DO NOTHING`, d.ID, d.Newsletter)
	if err != nil {
		return fmt.Errorf("plan deliveries: %w", err)
	}
	prepared, err := result.RowsAffected()
	if err != nil {
		return fmt.Errorf("plan deliveries: %w", err)
	}
	_, err = tx.ExecContext(ctx, `
		UPDATE digests SET silent = (SELECT COUNT(*) FROM audience WHERE newsletter = $1) - CAST($2 AS BIGINT) WHERE id = $3`,
		d.Newsletter, prepared, d.ID)
	if err != nil {
		return fmt.Errorf("count readers without news: %w", err)
	}
	return nil
}

// cut makes the variants: one for every set of topics with news that readers have chosen.
func (n *Newsroom) cut(ctx context.Context, tx *sql.Tx, e *edition) error {
	type choice struct {
		id     int64
		topics string
	}
	choices, err := all(ctx, tx, func(scan func(...any) error) (c choice, err error) {
		return c, scan(&c.id, &c.topics)
	}, `SELECT c.id, c.topics FROM choices c
		WHERE c.id IN (SELECT p.choice FROM subscriptions p WHERE p.newsletter = $1 AND p.state = 'active')
		ORDER BY c.topics`, e.digest.Newsletter)
	if err != nil {
		return fmt.Errorf("read choices of topics: %w", err)
	}
	for _, c := range choices {
		if _, err := n.fit(ctx, tx, e, c.id, strings.Split(c.topics, ",")); err != nil {
			return err
		}
	}
	return nil
}

// fit finds the variant for a choice of topics, making it if nobody has chosen so before. 0: the choice has no news. What a
// choice means in a digest is filed once and stays: a withdrawal since then leaves something out of the variant's mail.
func (n *Newsroom) fit(ctx context.Context, tx *sql.Tx, e *edition, choice int64, chosen []string) (variant int64, err error) {
	err = tx.QueryRowContext(ctx, `SELECT variant FROM digest_choices WHERE digest = $1 AND choice = $2`, e.digest.ID, choice).Scan(&variant)
	if err == nil {
		return variant, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("find what a choice of topics means: %w", err)
	}
	topics := e.printable(chosen)
	if len(topics) == 0 {
		return 0, nil
	}
	key := strings.Join(topics, ",")
	err = tx.QueryRowContext(ctx, `SELECT variant FROM variants WHERE digest = $1 AND topics = $2`, e.digest.ID, key).Scan(&variant)
	if errors.Is(err, sql.ErrNoRows) {
		err = tx.QueryRowContext(ctx, `
			INSERT INTO variants (digest, variant, topics)
			SELECT CAST($1 AS BIGINT), COALESCE(MAX(variant), 0) + 1, $2 FROM variants WHERE digest = $1 RETURNING variant`,
			e.digest.ID, key).Scan(&variant)
	}
	if err != nil {
		return 0, fmt.Errorf("find variant: %w", err)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO digest_choices (digest, choice, variant) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
		e.digest.ID, choice, variant)
	if err != nil {
		return 0, fmt.Errorf("file choice of topics: %w", err)
	}
	return variant, nil
}

// printable are those of the chosen topics under which something is printed, in the newsletter's order.
func (e *edition) printable(chosen []string) []string {
	var topics []string
	for _, topic := range inOrder(e.frozen.Newsletter.Topics, chosen) {
		if slices.ContainsFunc(e.entries, func(entry entry) bool { return slices.Contains(entry.topics, topic) }) {
			topics = append(topics, topic)
		}
	}
	return topics
}
