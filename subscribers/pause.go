package subscribers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gohugoio/locales"
	"github.com/gohugoio/locales/de"
	"github.com/gohugoio/locales/en_GB"
)

// ErrPause means a pause would end today or earlier, or later than longestPause.
var ErrPause = errors.New("the pause must end between tomorrow and half a year from now")

const longestPause = 183 // days: what was consented to longer ago than people remember is not mailed (BGH III ZR 196/17)

// pausedUntil is before the day in the particulars of a pause.
const pausedUntil = "paused until "

// Pause lets a reader's mail rest until the beginning of the day until falls on, in the newsletter's zone; the zero time ends a
// pause now. Digests of the time between are never made up for: their day is over when the reader is back in the audience.
// Errors: ErrToken, ErrPause, ErrExpired for who is no longer a reader.
func (r *Registry) Pause(ctx context.Context, now time.Time, newsletter, token string, until time.Time, v Visit) error {
	n, found := r.settings.newsletter(newsletter)
	if !found {
		return ErrExpired
	}
	how, paused := "pause ended", sql.NullInt64{}
	if !until.IsZero() {
		first, last := n.pauses(now)
		day := n.midnight(until)
		if day.Before(first) || day.After(last) {
			return ErrPause
		}
		how, paused = pausedUntil+day.Format(time.DateOnly), sql.NullInt64{Int64: day.UnixMilli(), Valid: true}
	}
	if _, err := r.holder(ctx, r.db.Read, ToPause, newsletter, token); err != nil {
		return err
	}
	words, err := r.keepPage(ctx, now, r.views.pause, n)
	if err != nil {
		return err
	}
	return r.change(ctx, ToPause, newsletter, token, func(tx *sql.Tx, h holder) error {
		if h.state != Active {
			return ErrExpired
		}
		if h.paused == paused {
			return nil
		}
		_, err := tx.ExecContext(ctx, `UPDATE subscriptions SET paused = $1 WHERE subscriber = $2 AND newsletter = $3`,
			paused, h.who.id, newsletter)
		if err != nil {
			return fmt.Errorf("pause subscription: %w", err)
		}
		_, err = r.record(ctx, tx, now, h.who, event{Changed, newsletter, words, Particulars{
			Address: h.who.address, Topics: strings.Split(h.topics, ","), How: how, Page: v.Page, IP: r.settings.IPs.apply(v.IP),
		}})
		return err
	})
}

// pauses are the first and the last day a pause can end on.
func (n Newsletter) pauses(now time.Time) (first, last time.Time) {
	today := n.midnight(now)
	year, month, day := today.Date()
	return time.Date(year, month, day+1, 0, 0, 0, 0, today.Location()), time.Date(year, month, day+longestPause, 0, 0, 0, 0, today.Location())
}

// midnight is when the day of an instant began in the newsletter's zone.
func (n Newsletter) midnight(t time.Time) time.Time {
	zone := n.Zone
	if zone == nil {
		zone = time.UTC
	}
	year, month, day := t.In(zone).Date()
	return time.Date(year, month, day, 0, 0, 0, 0, zone)
}

// longDate is a day in words: „10. Februar 2026“, "10 February 2026".
func longDate(t time.Time, language string) string {
	var locale locales.Translator = de.New()
	if language == "en" {
		locale = en_GB.New()
	}
	return locale.FmtDateLong(t)
}

// pausedUntil is the day a reader's pause ends, in words, "" for none.
func (v *views) pausedUntil(n Newsletter, paused sql.NullInt64) string {
	if !paused.Valid {
		return ""
	}
	return longDate(n.midnight(instant(paused.Int64)), v.language(n))
}

func (p *pages) pausePage(w http.ResponseWriter, r *http.Request) {
	p.showPause(w, r, http.StatusOK, view{})
}

func (p *pages) showPause(w http.ResponseWriter, r *http.Request, status int, data view) {
	h, n, ok := p.activeHolder(w, r, ToPause)
	if !ok {
		return
	}
	first, last := n.pauses(p.now())
	data.Newsletter, data.Paused = n, p.views.pausedUntil(n, h.paused)
	data.From, data.To = first.Format(time.DateOnly), last.Format(time.DateOnly)
	data.Preferences = p.path(ToPrefer, n.Slug, h.who)
	p.show(w, r, status, "pause", data)
}

// paused takes the form of the page: a day, or a number of weeks, or neither to end a pause.
func (p *pages) paused(w http.ResponseWriter, r *http.Request) {
	if !p.parse(w, r) {
		return
	}
	slug, now := r.PathValue("newsletter"), p.now()
	n, _ := p.settings.newsletter(slug)
	until, err := n.pauseEnd(now, r.PostForm.Get("until"), r.PostForm.Get("weeks"), r.PostForm.Has("end"))
	if err == nil {
		err = p.Pause(r.Context(), now, slug, r.PathValue("token"), until, p.visit(r))
	}
	switch {
	case errors.Is(err, ErrPause):
		p.showPause(w, r, http.StatusUnprocessableEntity, view{Problem: "pause"})
	case err != nil:
		p.refuse(w, r, err)
	default:
		p.showPause(w, r, http.StatusOK, view{Saved: true})
	}
}

func (n Newsletter) pauseEnd(now time.Time, until, weeks string, end bool) (time.Time, error) {
	today := n.midnight(now)
	if end {
		return time.Time{}, nil
	}
	if weeks != "" {
		number, err := strconv.Atoi(weeks)
		if err != nil || number < 1 || number > 52 {
			return time.Time{}, ErrPause
		}
		year, month, day := today.Date()
		return time.Date(year, month, day+7*number, 0, 0, 0, 0, today.Location()), nil
	}
	day, err := time.ParseInLocation(time.DateOnly, until, today.Location())
	if err != nil {
		return time.Time{}, ErrPause
	}
	return day, nil
}

// activeHolder is the reader whose link a page was opened with. Anybody else is answered here.
func (p *pages) activeHolder(w http.ResponseWriter, r *http.Request, purpose Purpose) (holder, Newsletter, bool) {
	slug := r.PathValue("newsletter")
	n, found := p.settings.newsletter(slug)
	h, err := p.holder(r.Context(), p.db.Read, purpose, slug, r.PathValue("token"))
	if err == nil && (h.state != Active || !found) {
		err = ErrExpired
	}
	if err != nil {
		p.refuse(w, r, err)
		return h, n, false
	}
	return h, n, true
}
