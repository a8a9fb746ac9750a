package subscribers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// holder is who holds a token of a newsletter and how they stand with it.
type holder struct {
	who subscriber
	subscription
}

// holder verifies a token that is bound to the subscriber. A revoked one is ErrToken like a forged one.
func (r *Registry) holder(ctx context.Context, db reader, p Purpose, newsletter, token string) (holder, error) {
	id, nonce, err := r.keys.Open(p, newsletter, token)
	if err != nil {
		return holder{}, err
	}
	who, err := look(ctx, db, id)
	if errors.Is(err, ErrNotFound) || err == nil && who.nonce != nonce {
		return holder{}, ErrToken
	}
	if err != nil {
		return holder{}, err
	}
	s, err := readSubscription(ctx, db, who, newsletter)
	return holder{who, s}, err
}

// change runs fn in a transaction for whoever holds the token, with the subscriber locked.
func (r *Registry) change(
	ctx context.Context, p Purpose, newsletter, token string, fn func(tx *sql.Tx, h holder) error,
) error {
	id, _, err := r.keys.Open(p, newsletter, token)
	if err != nil {
		return err
	}
	return r.tx(ctx, func(tx *sql.Tx) error {
		if _, err := lock(ctx, tx, id); errors.Is(err, ErrNotFound) {
			return ErrToken
		} else if err != nil {
			return err
		}
		h, err := r.holder(ctx, tx, p, newsletter, token)
		if err != nil {
			return err
		}
		return fn(tx, h)
	})
}

// SetTopics changes the topics of an active reader; choosing what is chosen already records nothing. Errors: ErrToken,
// ErrTopics (also for none at all: that is what leaving is for), ErrExpired for who is no longer a reader.
func (r *Registry) SetTopics(ctx context.Context, now time.Time, newsletter, token string, topics []string, v Visit) error {
	n, found := r.settings.newsletter(newsletter)
	if !found {
		return ErrExpired
	}
	if len(topics) == 0 {
		return ErrTopics
	}
	set, err := n.choose(topics)
	if err != nil {
		return err
	}
	if _, err := r.holder(ctx, r.db.Read, ToPrefer, newsletter, token); err != nil {
		return err
	}
	choice, err := r.choice(ctx, now, newsletter, set)
	if err != nil {
		return err
	}
	words, err := r.keepPage(ctx, now, r.views.preferences, n)
	if err != nil {
		return err
	}
	return r.change(ctx, ToPrefer, newsletter, token, func(tx *sql.Tx, h holder) error {
		if h.state != Active {
			return ErrExpired
		}
		if h.topics == set {
			return nil
		}
		_, err := tx.ExecContext(ctx, `UPDATE subscriptions SET choice = $1 WHERE subscriber = $2 AND newsletter = $3`,
			choice, h.who.id, newsletter)
		if err != nil {
			return fmt.Errorf("change topics: %w", err)
		}
		_, err = r.record(ctx, tx, now, h.who, event{Changed, newsletter, words, Particulars{
			Address: h.who.address, Topics: strings.Split(set, ","), Page: v.Page, IP: r.settings.IPs.apply(v.IP),
		}})
		return err
	})
}

// keepPage stores a page's words and gives their hash.
func (r *Registry) keepPage(
	ctx context.Context, now time.Time, wording func(Newsletter) (Wording, error), n Newsletter,
) (string, error) {
	words, err := wording(n)
	if err != nil {
		return "", err
	}
	return words.Hash, r.keep(ctx, now, words)
}

// Unsubscribe ends a subscription at once, whatever is planned or claimed. It never expires, works for newsletters that are no
// longer published, and doing it again does nothing. The only error about its arguments is ErrToken.
func (r *Registry) Unsubscribe(ctx context.Context, now time.Time, newsletter, token string, how Channel, v Visit) error {
	words := ""
	if how == ByPage {
		if _, _, err := r.keys.Open(ToUnsubscribe, newsletter, token); err != nil {
			return err
		}
		n, _ := r.settings.newsletter(newsletter)
		var err error
		if words, err = r.keepPage(ctx, now, r.views.unsubscribe, n); err != nil {
			return err
		}
	}
	return r.change(ctx, ToUnsubscribe, newsletter, token, func(tx *sql.Tx, h holder) error {
		return r.withdraw(ctx, tx, now, h.who, newsletter, words, how, v)
	})
}

func (r *Registry) withdraw(
	ctx context.Context, tx *sql.Tx, now time.Time, who subscriber, newsletter, words string, how Channel, v Visit,
) error {
	result, err := tx.ExecContext(ctx, `
		UPDATE subscriptions SET state = 'ended', ended = $1, paused = NULL
		WHERE subscriber = $2 AND newsletter = $3 AND state <> 'ended'`, now.UnixMilli(), who.id, newsletter)
	if err != nil {
		return fmt.Errorf("end subscription: %w", err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return err
	}
	_, err = r.record(ctx, tx, now, who, event{Withdrawn, newsletter, words, Particulars{
		Address: who.address, How: string(how), Page: v.Page, IP: r.settings.IPs.apply(v.IP),
	}})
	return err
}

// resumeWithin is how long an unsubscription can be undone: who comes later has to sign up like anybody else.
const resumeWithin = day

// Resume undoes an unsubscription. Errors: ErrToken, and ErrExpired if it is too long ago or the reader was never active
// or is suppressed.
func (r *Registry) Resume(ctx context.Context, now time.Time, newsletter, token string, v Visit) error {
	if _, err := r.holder(ctx, r.db.Read, ToResume, newsletter, token); err != nil {
		return err
	}
	n, found := r.settings.newsletter(newsletter)
	if !found {
		return ErrExpired
	}
	words, err := r.keepPage(ctx, now, r.views.unsubscribed, n)
	if err != nil {
		return err
	}
	return r.change(ctx, ToResume, newsletter, token, func(tx *sql.Tx, h holder) error {
		if h.state == Active && h.suppressed == "" {
			return nil
		}
		if !h.canResume(now) {
			return ErrExpired
		}
		_, err := tx.ExecContext(ctx, `
			UPDATE subscriptions SET state = 'active', ended = NULL WHERE subscriber = $1 AND newsletter = $2`,
			h.who.id, newsletter)
		if err != nil {
			return fmt.Errorf("resume subscription: %w", err)
		}
		_, err = r.record(ctx, tx, now, h.who, event{Resumed, newsletter, words, Particulars{
			Address: h.who.address, Topics: strings.Split(h.topics, ","), Page: v.Page, IP: r.settings.IPs.apply(v.IP),
		}})
		return err
	})
}

func (h holder) canResume(now time.Time) bool {
	return h.state == Ended && h.consent.Valid && h.suppressed == "" && h.who.address != "" &&
		h.ended.Valid && now.Sub(instant(h.ended.Int64)) <= resumeWithin
}

// UnsubscribeAddress is what an editor does for a reader who wrote or called: it ends every subscription at once and
// says how many. A letter, an objection or a complaint also suppresses the person, known or not. An address that is
// neither known nor suppressed is ErrNotFound.
func (r *Registry) UnsubscribeAddress(ctx context.Context, now time.Time, address string, how Channel) (ended int, err error) {
	a, err := ParseAddress(address)
	if err != nil {
		return 0, err
	}
	err = r.tx(ctx, func(tx *sql.Tx) error {
		ended, err = r.unsubscribeAll(ctx, tx, now, a, how)
		return err
	})
	return ended, err
}

func (r *Registry) unsubscribeAll(ctx context.Context, tx *sql.Tx, now time.Time, a Address, how Channel) (int, error) {
	reason := how.suppression()
	ended := 0
	id, err := r.find(ctx, tx, a)
	switch {
	case errors.Is(err, ErrNotFound) && reason != "": // nobody yet, and it shall stay so
	case err != nil:
		return 0, err
	default:
		who, err := lock(ctx, tx, id)
		if err != nil {
			return 0, err
		}
		if ended, err = r.withdrawAll(ctx, tx, now, who, how); err != nil {
			return 0, err
		}
	}
	if reason == "" {
		return ended, nil
	}
	return ended, suppress(ctx, tx, now, r.keys.Person(a.Mailbox), reason, "")
}

// withdrawAll ends every subscription of one reader.
func (r *Registry) withdrawAll(ctx context.Context, tx *sql.Tx, now time.Time, who subscriber, how Channel) (int, error) {
	open, err := texts(ctx, tx, `
		SELECT newsletter FROM subscriptions WHERE subscriber = $1 AND state <> 'ended' ORDER BY newsletter`, who.id)
	if err != nil {
		return 0, err
	}
	for _, newsletter := range open {
		if err := r.withdraw(ctx, tx, now, who, newsletter, "", how, Visit{}); err != nil {
			return 0, err
		}
	}
	return len(open), nil
}

// texts reads a column.
func texts(ctx context.Context, db reader, query string, args ...any) ([]string, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var all []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, fmt.Errorf("read: %w", err)
		}
		all = append(all, text)
	}
	return slices.Clip(all), rows.Err()
}

// LiftPauses lets those be mailed again whose pause is over.
func (r *Registry) LiftPauses(ctx context.Context, now time.Time) error {
	_, err := r.db.Write.ExecContext(ctx, `
		UPDATE subscriptions SET paused = NULL WHERE paused IS NOT NULL AND paused <= $1`, now.UnixMilli())
	if err != nil {
		return fmt.Errorf("lift pauses: %w", err)
	}
	return nil
}
