package subscribers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// SignUp is what a form says.
type SignUp struct {
	Address    string
	Newsletter string   // "" is the first one
	Topics     []string // none: all there are today
	Visit
}

// SignUp queues the one letter that asks for confirmation. It says the same, nothing, whether the mailbox is new, waits
// for confirmation, is active or suppressed, and keeps to limits nobody can see from outside (see history.next): who
// reads already is sent a link to the preferences at most. Errors are about what was entered: an AddressError,
// ErrNewsletter, ErrTopics or ErrWording.
func (r *Registry) SignUp(ctx context.Context, now time.Time, s SignUp) error {
	address, err := ParseAddress(s.Address)
	if err != nil {
		return err
	}
	n, err := r.settings.wanted(s.Newsletter)
	if err != nil {
		return err
	}
	topics, err := n.choose(s.Topics)
	if err != nil {
		return err
	}
	if s.Wording == "" && s.Unknown == "" {
		s.Wording = r.views.boxes[n.Slug].Hash
	}
	if err := r.keepForm(ctx, now, n, s.Wording); err != nil {
		return err
	}
	if address.isRole() {
		return nil
	}
	choice, err := r.choice(ctx, now, n.Slug, topics)
	if err != nil {
		return err
	}
	var queued LetterKind
	err = r.tx(ctx, func(tx *sql.Tx) error {
		queued, err = r.signUp(ctx, tx, now, address, n, choice, s.event(r, n, topics))
		return err
	})
	if err == nil && queued != "" {
		r.signal()
	}
	return err
}

// keepForm sees to it that the form's words are stored: the current ones, or older ones that somebody used before.
func (r *Registry) keepForm(ctx context.Context, now time.Time, n Newsletter, hash string) error {
	if hash == "" {
		return nil // nobody knows them
	}
	for _, w := range []Wording{r.views.forms[n.Slug], r.views.boxes[n.Slug], r.views.boxes[""]} {
		if w.Hash == hash {
			return r.keep(ctx, now, w)
		}
	}
	var found int
	err := r.db.Read.QueryRowContext(ctx, `SELECT COUNT(*) FROM wordings WHERE hash = $1 AND kind IN ('form', 'box')`, hash).Scan(&found)
	if err != nil {
		return fmt.Errorf("look for wording: %w", err)
	}
	if found == 0 {
		return ErrWording
	}
	return nil
}

func (s SignUp) event(r *Registry, n Newsletter, topics string) event {
	return event{Requested, n.Slug, s.Wording, Particulars{
		Topics: strings.Split(topics, ","), Page: s.Page, IP: r.settings.IPs.apply(s.IP), Unknown: s.Unknown,
	}}
}

func (r *Registry) signUp(
	ctx context.Context, tx *sql.Tx, now time.Time, a Address, n Newsletter, choice int64, e event,
) (LetterKind, error) {
	who, err := r.enlist(ctx, tx, now, a, n.Language)
	if err != nil {
		return "", err
	}
	h, err := readHistory(ctx, tx, now, who, n.Slug)
	if err != nil {
		return "", err
	}
	kind := h.next(now)
	switch kind {
	case ConfirmLetter:
		e.Address = who.address
		if _, err := r.record(ctx, tx, now, who, e); err != nil {
			return "", err
		}
		if h.state != Active {
			if err := await(ctx, tx, now, who, n.Slug, choice); err != nil {
				return "", err
			}
		}
		return kind, queue(ctx, tx, now, who, n.Slug, kind, choice, now.Add(r.settings.ConfirmWithin))
	case LinkLetter:
		return kind, queue(ctx, tx, now, who, n.Slug, kind, choice, now.Add(day))
	}
	return "", nil
}

// await makes the subscription pending. What it was before, if it ended, stays readable in ended.
func await(ctx context.Context, tx *sql.Tx, now time.Time, who subscriber, newsletter string, choice int64) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO subscriptions (subscriber, newsletter, choice, state, requested) VALUES ($1, $2, $3, 'pending', $4)
		ON CONFLICT (subscriber, newsletter) DO UPDATE
		SET choice = excluded.choice, state = 'pending', requested = excluded.requested`,
		who.id, newsletter, choice, now.UnixMilli())
	if err != nil {
		return fmt.Errorf("await confirmation: %w", err)
	}
	return nil
}

const (
	day            = 24 * time.Hour
	letterWindow   = 14 * day // over which letters are counted
	maxLetters     = 3        // to one address in that window, whatever newsletter
	bounceHoldTime = 14 * day // in which an address that bounced gets none
)

// history is what decides whether a sign-up is answered by a letter.
type history struct {
	subscription
	newsletter string
	letters    []pastLetter
}

type pastLetter struct {
	kind       LetterKind
	newsletter string
	state      LetterState
	created    int64
}

func readHistory(ctx context.Context, tx *sql.Tx, now time.Time, who subscriber, newsletter string) (history, error) {
	h := history{newsletter: newsletter}
	var err error
	if h.subscription, err = readSubscription(ctx, tx, who, newsletter); err != nil {
		return h, err
	}
	since := now.Add(-letterWindow).UnixMilli()
	if h.suppressed != "" {
		since = min(since, h.since)
	}
	rows, err := tx.QueryContext(ctx, `
		SELECT kind, newsletter, state, created FROM letters WHERE subscriber = $1 AND created >= $2`, who.id, since)
	if err != nil {
		return h, fmt.Errorf("read past letters: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var l pastLetter
		if err := rows.Scan(&l.kind, &l.newsletter, &l.state, &l.created); err != nil {
			return h, fmt.Errorf("read past letters: %w", err)
		}
		h.letters = append(h.letters, l)
	}
	if err := rows.Err(); err != nil {
		return h, fmt.Errorf("read past letters: %w", err)
	}
	return h, nil
}

// next is the letter that a sign-up gets now, "" for none:
//   - three letters of all kinds in 14 days, and no more;
//   - an address that bounced waits 14 days, one that complained or objected gets one letter and no second;
//   - who reads already gets one link a day;
//   - who has not confirmed yet gets one letter a day for each newsletter.
func (h history) next(now time.Time) LetterKind {
	if h.count(now.Add(-letterWindow), func(pastLetter) bool { return true }) >= maxLetters {
		return ""
	}
	yesterday := now.Add(-day)
	switch {
	case h.suppressed == Bounced && now.Sub(instant(h.since)) < bounceHoldTime:
		return ""
	case h.suppressed == Complained || h.suppressed == Objected:
		if h.count(instant(h.since), func(l pastLetter) bool { return l.kind == ConfirmLetter }) > 0 {
			return ""
		}
		return ConfirmLetter
	case h.state == Active && h.suppressed == "":
		if h.count(yesterday, func(l pastLetter) bool { return l.kind == LinkLetter }) > 0 {
			return ""
		}
		return LinkLetter
	case h.count(yesterday, h.awaits) > 0:
		return ""
	}
	return ConfirmLetter
}

// awaits says whether this letter may still bring about what the reader asks for again.
func (h history) awaits(l pastLetter) bool {
	if l.kind != ConfirmLetter && l.kind != ChangeLetter || l.newsletter != h.newsletter || h.ended.Valid && l.created <= h.ended.Int64 {
		return false
	}
	return l.state != LetterFailed && l.state != LetterSkipped && l.state != LetterExpired
}

func (h history) count(since time.Time, counts func(pastLetter) bool) int {
	n := 0
	for _, l := range h.letters {
		if l.created > since.UnixMilli() && counts(l) {
			n++
		}
	}
	return n
}

// Confirm makes the sign-up valid that the token's letter asked about, and lifts a suppression that is older than it: this
// is the one way back. Doing it again does nothing and is no error. Errors: ErrToken, ErrExpired, and ErrWording if the
// visitor was shown other words than are in use now.
func (r *Registry) Confirm(ctx context.Context, now time.Time, newsletter, token string, v Visit) error {
	q, err := r.request(ctx, r.db.Read, newsletter, token)
	if err != nil {
		return err
	}
	n, _ := r.settings.newsletter(newsletter)
	words, err := r.views.confirmWording(n, q.topics, q.moves != 0)
	if err != nil {
		return err
	}
	if v.Wording != "" && v.Wording != words.Hash {
		return ErrWording
	}
	if err := r.keep(ctx, now, words); err != nil {
		return err
	}
	return r.tx(ctx, func(tx *sql.Tx) error {
		if q.who, err = lock(ctx, tx, q.who.id); err != nil {
			return err
		}
		s, err := readSubscription(ctx, tx, q.who, newsletter)
		if err != nil {
			return err
		}
		switch err := q.standing(now, s); {
		case errors.Is(err, errConfirmed):
			return nil
		case err != nil:
			return err
		}
		return r.confirm(ctx, tx, now, q, event{Confirmed, newsletter, words.Hash, Particulars{
			Address: q.who.address, Topics: strings.Split(q.topics, ","), Page: v.Page, IP: r.settings.IPs.apply(v.IP),
		}})
	})
}

func (r *Registry) confirm(ctx context.Context, tx *sql.Tx, now time.Time, q request, e event) error {
	consent, err := r.record(ctx, tx, now, q.who, e)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `
		UPDATE subscriptions SET state = 'active', choice = $1, signed_up = $2, consent = $3, paused = NULL, ended = NULL
		WHERE subscriber = $4 AND newsletter = $5`, q.choice, q.created, consent, q.who.id, e.newsletter)
	if err != nil {
		return fmt.Errorf("confirm sign-up: %w", err)
	}
	if _, err = tx.ExecContext(ctx, `DELETE FROM suppressions WHERE person = $1`, q.who.person); err != nil {
		return fmt.Errorf("lift suppression: %w", err)
	}
	if q.moves != 0 {
		return r.moved(ctx, tx, now, q, e.newsletter)
	}
	return nil
}

// request is the sign-up that a confirmation link stands for.
type request struct {
	who              subscriber
	choice           int64
	topics           string
	created, expires int64
	moves            int64 // the subscriber whose place this one takes, 0 for nobody
}

// errConfirmed says that a sign-up needs no confirmation any more.
var errConfirmed = errors.New("the sign-up is confirmed")

// request finds what a link is about. A link that is ours but whose sign-up was deleted has expired.
func (r *Registry) request(ctx context.Context, db reader, newsletter, token string) (request, error) {
	var q request
	id, nonce, err := r.keys.Open(ToConfirm, newsletter, token)
	if err != nil {
		return q, err
	}
	q.who, err = look(ctx, db, id)
	if errors.Is(err, ErrNotFound) {
		return q, ErrExpired
	}
	if err != nil {
		return q, err
	}
	err = db.QueryRowContext(ctx, `
		SELECT l.choice, c.topics, l.created, l.expires, COALESCE(l.moves, 0) FROM letters l JOIN choices c ON c.id = l.choice
		WHERE l.subscriber = $1 AND l.newsletter = $2 AND l.kind IN ('confirm', 'change') AND l.nonce = $3`, id, newsletter, nonce).
		Scan(&q.choice, &q.topics, &q.created, &q.expires, &q.moves)
	if errors.Is(err, sql.ErrNoRows) {
		return q, ErrExpired
	}
	if err != nil {
		return q, fmt.Errorf("read sign-up: %w", err)
	}
	return q, nil
}

// standing is nil if the sign-up can be confirmed now, errConfirmed if that was done, or ErrExpired. One letter confirms
// one sign-up: not again after the reader left, and not what somebody objected to after it was requested. A bounce is
// different, for whoever presses the button has the letter.
func (q request) standing(now time.Time, s subscription) error {
	switch {
	case s.state == Active && s.suppressed == "":
		return errConfirmed
	case q.who.address == "" || now.UnixMilli() >= q.expires:
		return ErrExpired
	case s.state != Pending && s.state != Active:
		return ErrExpired
	case s.ended.Valid && q.created < s.ended.Int64:
		return ErrExpired
	case s.suppressed != "" && s.suppressed != Bounced && q.created <= s.since:
		return ErrExpired
	}
	return nil
}
