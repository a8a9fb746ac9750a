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

// SignUp is what a form says.
type SignUp struct {
	Address    string
	Newsletter string   // "" is the first one
	Topics     []string // none: all there are today
	Visit
}

// SignUp keeps what a form says, durably, and does the same in the same time whether the mailbox is new, waits for
// confirmation, is active or suppressed: Admit decides about it later, with limits nobody can see from outside (see
// history.next). Errors are about what was entered: an AddressError, ErrNewsletter, ErrTopics or ErrWording.
func (r *Registry) SignUp(ctx context.Context, now time.Time, s SignUp) error {
	address, err := r.parseAddress(s.Address)
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
	if notice := r.views.notice; notice.Hash != "" {
		if err := r.keep(ctx, now, notice); err != nil {
			return err
		}
	}
	if address.isRole() {
		return nil
	}
	choice, err := r.choice(ctx, now, n.Slug, topics)
	if err != nil {
		return err
	}
	return r.receive(ctx, &slip{
		at: now, address: address, newsletter: n.Slug, choice: choice, wording: s.Wording, particulars: Particulars{
			Topics: strings.Split(topics, ","), Page: s.Page, IP: r.settings.IPs.apply(s.IP), Privacy: r.views.notice.Hash, Unknown: s.Unknown,
		},
	})
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

// repute is what is known of a person before it is decided about a sign-up.
type repute struct {
	reason SuppressionReason // "" if none
	since  int64
	marks  []postmark
}

// signUp decides about a slip: which letter, if any, its address is mailed.
func (r *Registry) signUp(ctx context.Context, tx *sql.Tx, w *writing, s slip, who subscriber, known repute) (LetterKind, error) {
	n, _ := r.settings.newsletter(s.newsletter)
	h, err := readHistory(ctx, tx, s.at, who, known, n.Slug)
	if err != nil {
		return "", err
	}
	kind := h.next(s.at)
	if s.moves != 0 {
		if kind, err = moveLetter(ctx, tx, w, s, kind); err != nil {
			return "", err
		}
	}
	mark, allowed := postmark{}, false
	if kind != "" {
		mark, allowed = allow(known.marks, s.at, who.person, kind)
	}
	switch {
	case !allowed, kind == LinkLetter && mark.due.After(s.at): // a link is of no use tomorrow, to who reads already
		return "", dismiss(ctx, tx, who)
	case kind == LinkLetter:
		w.queue(s.at, who, mark, message{newsletter: n.Slug, choice: s.choice, expires: s.at.Add(day)})
		return kind, nil
	}
	return kind, r.ask(w, s, who, h, mark)
}

// ask records that somebody wants to read, and queues the letter that asks whether it was they who said so.
func (r *Registry) ask(w *writing, s slip, who subscriber, h history, mark postmark) error {
	e := event{Requested, s.newsletter, s.wording, s.particulars}
	e.Address = who.address
	if _, err := w.record(s.at, who, e); err != nil {
		return err
	}
	if h.state != Active {
		w.await(s.at, who, s.newsletter, s.choice)
	}
	w.queue(s.at, who, mark, message{
		newsletter: s.newsletter, choice: s.choice, expires: mark.due.Add(r.settings.ConfirmWithin), moves: s.moves,
	})
	return nil
}

// dismiss forgets an address that only this sign-up brought and that is mailed nothing.
func dismiss(ctx context.Context, tx *sql.Tx, who subscriber) error {
	if !who.fresh {
		return nil
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM subscribers WHERE id = $1`, who.id); err != nil {
		return fmt.Errorf("dismiss sign-up: %w", err)
	}
	return nil
}

const bounceHoldTime = 14 * day // in which an address that bounced gets no letter

// history is what decides whether a sign-up is answered by a letter.
type history struct {
	subscription
	asked   bool    // since the complaint or objection that stands against the reader
	letters []int64 // when those were queued that still may bring about what the reader asks for again
	open    bool    // one of them has not left yet
}

func readHistory(ctx context.Context, tx *sql.Tx, now time.Time, who subscriber, known repute, newsletter string) (history, error) {
	var h history
	var err error
	if who.fresh { // nearly all are, and then this is all there can be
		h.suppressed, h.since = known.reason, known.since
	} else {
		h.subscription, err = readSubscription(ctx, tx, who, newsletter)
	}
	if err != nil {
		return h, err
	}
	if h.suppressed == Complained || h.suppressed == Objected {
		h.asked, err = askedSince(ctx, tx, who, h.since)
		return h, err
	}
	if h.state != "" {
		err = h.readLetters(ctx, tx, now, who, newsletter)
	}
	return h, err
}

// askedSince looks at the events, for they outlive a sign-up that was deleted unconfirmed.
func askedSince(ctx context.Context, tx *sql.Tx, who subscriber, since int64) (bool, error) {
	var n int
	err := tx.QueryRowContext(ctx, `
		SELECT COUNT(*) FROM subscribers s JOIN consents c ON c.subscriber = s.id
		WHERE s.person = $1 AND c.kind = 'requested' AND c.at > $2`, who.person, since).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("read requests since an objection: %w", err)
	}
	return n > 0, nil
}

func (h *history) readLetters(ctx context.Context, tx *sql.Tx, now time.Time, who subscriber, newsletter string) error {
	rows, err := tx.QueryContext(ctx, `
		SELECT created, CASE WHEN state = 'sent' THEN 0 ELSE 1 END FROM letters
		WHERE subscriber = $1 AND newsletter = $2 AND kind IN ('confirm', 'change') AND expires > $3
			AND state NOT IN ('failed', 'skipped', 'expired')`, who.id, newsletter, now.UnixMilli())
	if err != nil {
		return fmt.Errorf("read past letters: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var created int64
		var open bool
		if err := rows.Scan(&created, &open); err != nil {
			return fmt.Errorf("read past letters: %w", err)
		}
		if h.ended.Valid && created <= h.ended.Int64 {
			continue
		}
		h.letters = append(h.letters, created)
		h.open = h.open || open
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read past letters: %w", err)
	}
	return nil
}

// next is the letter that a sign-up gets, "" for none; when it may leave, and whether, is for allow to say:
//   - an address that bounced waits 14 days, one that complained or objected gets one letter and no second;
//   - who reads already gets a link;
//   - who has not confirmed yet gets a letter, unless one is still to leave or was queued within the day.
func (h history) next(now time.Time) LetterKind {
	yesterday := now.Add(-day).UnixMilli()
	switch {
	case h.suppressed == Bounced && now.Sub(instant(h.since)) < bounceHoldTime, h.asked:
		return ""
	case h.state == Active && h.suppressed == "":
		return LinkLetter
	case h.open || slices.ContainsFunc(h.letters, func(created int64) bool { return created > yesterday }):
		return ""
	}
	return ConfirmLetter
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
