package subscribers

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"time"
)

// "My data" shows and deletes what is kept about a person (GDPR Art. 15, 17, 20). Links from a digest do not open it, for digests
// are forwarded: they have a link mailed to the address itself, which is good for a day.

// DataLetter is the letter with that link.
const DataLetter LetterKind = "data"

// The purposes of its links: to ask for it, and to look.
const (
	ToAskData Purpose = "data"
	ToData    Purpose = "my-data"
)

// AskData has the link to a reader's own data mailed to them, once a day, and within the limits of all letters. It works also for who
// has left. The only error about its arguments is ErrToken.
func (r *Registry) AskData(ctx context.Context, now time.Time, newsletter, token string) error {
	queued := false
	err := r.change(ctx, ToAskData, newsletter, token, func(tx *sql.Tx, h holder) error {
		queued = false
		if h.who.address == "" || h.suppressed != "" || h.state == "" {
			return nil
		}
		known, err := r.readRepute(ctx, tx, now, h.who.person)
		if err != nil {
			return err
		}
		mark, allowed := allow(known[h.who.person].marks, now, h.who.person, DataLetter)
		if !allowed || mark.due.After(now) { // a link is of no use tomorrow
			return nil
		}
		choice, err := choiceOf(ctx, tx, h.who.id, newsletter)
		if err != nil {
			return err
		}
		queued = true
		w := newWriting()
		w.queue(now, h.who, mark, message{newsletter: newsletter, choice: choice, expires: now.Add(day)})
		return w.flush(ctx, tx, r.db.Kind)
	})
	if err == nil && queued {
		r.signal()
	}
	return err
}

func choiceOf(ctx context.Context, tx *sql.Tx, subscriber int64, newsletter string) (choice int64, err error) {
	err = tx.QueryRowContext(ctx, `SELECT choice FROM subscriptions WHERE subscriber = $1 AND newsletter = $2`, subscriber, newsletter).Scan(&choice)
	return choice, err
}

// owner is who holds the link of a DataLetter. A link that is ours but over, or whose reader was erased, has expired.
func (r *Registry) owner(ctx context.Context, now time.Time, newsletter, token string) (subscriber, error) {
	id, nonce, err := r.keys.Open(ToData, newsletter, token)
	if err != nil {
		return subscriber{}, err
	}
	var expires int64
	err = r.db.Read.QueryRowContext(ctx, `
		SELECT expires FROM letters WHERE subscriber = $1 AND newsletter = $2 AND kind = 'data' AND nonce = $3`, id, newsletter, nonce).
		Scan(&expires)
	if errors.Is(err, sql.ErrNoRows) || err == nil && now.UnixMilli() >= expires {
		return subscriber{}, ErrExpired
	}
	if err != nil {
		return subscriber{}, err
	}
	who, err := look(ctx, r.db.Read, id)
	if errors.Is(err, ErrNotFound) || err == nil && who.address == "" {
		return who, ErrExpired
	}
	return who, err
}

// askDataPage says what can be asked for, and how it comes.
func (p *pages) askDataPage(w http.ResponseWriter, r *http.Request) {
	p.showAskData(w, r, false)
}

func (p *pages) showAskData(w http.ResponseWriter, r *http.Request, asked bool) {
	slug := r.PathValue("newsletter")
	h, err := p.holder(r.Context(), p.db.Read, ToAskData, slug, r.PathValue("token"))
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	n, _ := p.settings.newsletter(slug)
	data := view{Newsletter: n, Saved: asked}
	if h.state == Active {
		data.Preferences = p.path(ToPrefer, slug, h.who)
	}
	p.show(w, r, http.StatusOK, "data", data)
}

func (p *pages) dataAsked(w http.ResponseWriter, r *http.Request) {
	if !p.parse(w, r) {
		return
	}
	if err := p.AskData(r.Context(), p.now(), r.PathValue("newsletter"), r.PathValue("token")); err != nil {
		p.refuse(w, r, err)
		return
	}
	p.showAskData(w, r, true)
}

// dataPage has the buttons to fetch and to erase. It shows nothing of the data itself, for a page stays in a browser's history.
func (p *pages) dataPage(w http.ResponseWriter, r *http.Request) {
	slug := r.PathValue("newsletter")
	who, err := p.owner(r.Context(), p.now(), slug, r.PathValue("token"))
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	n, _ := p.settings.newsletter(slug)
	p.show(w, r, http.StatusOK, "my-data", view{
		Newsletter: n, Masked: Address{Mailed: who.address}.Masked(), CanFetch: p.settings.Data != nil, CanErase: p.settings.Erase != nil,
	})
}

// dataWanted does what a button says: fetch as a file, fetch to read, or erase.
func (p *pages) dataWanted(w http.ResponseWriter, r *http.Request) {
	if !p.parse(w, r) {
		return
	}
	slug, now := r.PathValue("newsletter"), p.now()
	who, err := p.owner(r.Context(), now, slug, r.PathValue("token"))
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	n, _ := p.settings.newsletter(slug)
	switch wanted := r.PostForm.Get("want"); {
	case wanted == "erase" && p.settings.Erase != nil:
		if err := p.settings.Erase(r.Context(), now, who.address); err != nil {
			p.refuse(w, r, err)
			return
		}
		p.show(w, r, http.StatusOK, "erased", view{Newsletter: n})
	case (wanted == "json" || wanted == "html") && p.settings.Data != nil:
		p.fetched(w, r, now, who, wanted)
	default:
		p.fail(w, r, http.StatusBadRequest)
	}
}

func (p *pages) fetched(w http.ResponseWriter, r *http.Request, now time.Time, who subscriber, as string) {
	asJSON, asPage, err := p.settings.Data(r.Context(), now, who.address, who.language)
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	kind, file, body := "application/json", "meine-daten.json", asJSON
	if as == "html" {
		kind, file, body = "text/html; charset=utf-8", "meine-daten.html", asPage
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Disposition", `attachment; filename="`+file+`"`)
	_, _ = w.Write(body)
}
