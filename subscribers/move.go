package subscribers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// ErrSame means a reader asked to be moved to the address they have.
const ErrSame AddressError = "same"

// ByMove is the channel by which the old address of a reader is left when they confirmed a new one.
const ByMove Channel = "moved to another address"

// maxMoves is how many letters a reader's link can have sent to other addresses in the postmarkAge.
const maxMoves = 3

// Move asks the owner of another address whether a reader's newsletter shall come there: a double opt-in like any other, with
// the limits of any other. The old address stays until the button is pressed, is unsubscribed then, and never learns the new
// one; nor does the new one learn the old. Like SignUp it does not tell what is known about an address. Errors: ErrToken, an
// AddressError, ErrExpired for who is no longer a reader.
func (r *Registry) Move(ctx context.Context, now time.Time, newsletter, token, address string, v Visit) error {
	n, found := r.settings.newsletter(newsletter)
	if !found {
		return ErrExpired
	}
	old, err := r.holder(ctx, r.db.Read, ToMove, newsletter, token)
	if err != nil {
		return err
	}
	if old.state != Active {
		return ErrExpired
	}
	a, err := r.parseAddress(address)
	if err != nil {
		return err
	}
	if a.Mailbox == strings.ToLower(old.who.address) {
		return ErrSame
	}
	if a.isRole() {
		return nil
	}
	choice, err := r.choice(ctx, now, newsletter, old.topics)
	if err != nil {
		return err
	}
	words, err := r.keepPage(ctx, now, r.views.address, n)
	if err != nil {
		return err
	}
	return r.receive(ctx, &slip{
		at: now, address: a, newsletter: newsletter, choice: choice, wording: words, moves: old.who.id, particulars: Particulars{
			Topics: strings.Split(old.topics, ","), How: "change of address", Page: v.Page, IP: r.settings.IPs.apply(v.IP),
		},
	})
}

// moveLetter is the letter that a change of address gets where a sign-up would get the one that is given.
func moveLetter(ctx context.Context, tx *sql.Tx, w *writing, s slip, kind LetterKind) (LetterKind, error) {
	if kind != ConfirmLetter {
		return "", nil
	}
	var moves int
	err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM letters WHERE moves = $1 AND created > $2`,
		s.moves, s.at.Add(-postmarkAge).UnixMilli()).Scan(&moves)
	if err != nil {
		return "", fmt.Errorf("count changes of address: %w", err)
	}
	if moves+w.moves[s.moves] >= maxMoves {
		return "", nil
	}
	return ChangeLetter, nil
}

// moved ends the subscription of the address a reader has left, if it still stands. What it rested until, the new one does, too.
func (r *Registry) moved(ctx context.Context, tx *sql.Tx, now time.Time, q request, newsletter string) error {
	old, err := lock(ctx, tx, q.moves)
	if errors.Is(err, ErrNotFound) {
		return nil // erased meanwhile
	}
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `
		UPDATE subscriptions SET paused = (
			SELECT o.paused FROM subscriptions o WHERE o.subscriber = $1 AND o.newsletter = $2 AND o.state = 'active')
		WHERE subscriber = $3 AND newsletter = $2`, old.id, newsletter, q.who.id)
	if err != nil {
		return fmt.Errorf("keep pause: %w", err)
	}
	return r.withdraw(ctx, tx, now, old, newsletter, "", ByMove, Visit{})
}

func (p *pages) addressPage(w http.ResponseWriter, r *http.Request) {
	p.showAddress(w, r, http.StatusOK, view{})
}

func (p *pages) showAddress(w http.ResponseWriter, r *http.Request, status int, data view) {
	h, n, ok := p.activeHolder(w, r, ToMove)
	if !ok {
		return
	}
	data.Newsletter, data.Masked = n, Address{Mailed: h.who.address}.Masked()
	data.Preferences = p.path(ToPrefer, n.Slug, h.who)
	p.show(w, r, status, "address", data)
}

// addressChanged takes the new address. It sends mail to whom the form names, so it has the limits of a sign-up.
func (p *pages) addressChanged(w http.ResponseWriter, r *http.Request) {
	if !p.parse(w, r) {
		return
	}
	now := p.now()
	typed := r.PostForm.Get("email")
	err := p.Move(r.Context(), now, r.PathValue("newsletter"), r.PathValue("token"), typed, p.visit(r))
	var address AddressError
	switch {
	case errors.As(err, &address):
		p.showAddress(w, r, http.StatusUnprocessableEntity, view{Email: shortened(typed), Problem: string(address)})
	case err != nil:
		p.refuse(w, r, err)
	default:
		p.showAddress(w, r, http.StatusOK, view{Saved: true})
	}
}

// shortened is what was typed, to be typed on, unless it is far too long to be an address.
func shortened(typed string) string {
	if len(typed) > 320 {
		return ""
	}
	return typed
}
