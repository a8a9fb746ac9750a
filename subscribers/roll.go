package subscribers

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Entry is a subscription of a list that leaves the house, with what another house needs as evidence of the consent.
type Entry struct {
	Row
	Language  string `json:"language"`
	Confirmed string `json:"confirmed,omitempty"` // when the button was pressed, RFC 3339, or as the imported list had it
	Source    string `json:"source,omitempty"`    // the page, or this house and its consent event
	IP        string `json:"ip,omitempty"`
	Text      string `json:"text,omitempty"` // the words
}

// Export gives each subscription to fn, as List does, with its evidence. Persons who are suppressed and have no address here are
// not in it: nobody knows their address.
func (r *Registry) Export(ctx context.Context, f Filter, fn func(Entry) error) error {
	var last Row
	for {
		page, err := r.exportAfter(ctx, f, last)
		if err != nil {
			return err
		}
		for _, entry := range page {
			if err := fn(entry); err != nil {
				return err
			}
		}
		if len(page) < listPage {
			return nil
		}
		last = page[len(page)-1].Row
	}
}

func (r *Registry) exportAfter(ctx context.Context, f Filter, last Row) ([]Entry, error) {
	rows, err := r.db.Read.QueryContext(ctx, `
		SELECT s.id, s.address, COALESCE(x.reason, ''), s.language, p.consent, COALESCE(e.kind, ''), COALESCE(e.at, 0),
			COALESCE(d.body, ''), COALESCE(d.ip, ''), COALESCE(w.text, ''), p.newsletter, c.topics, p.state, p.requested, p.signed_up, p.paused, p.ended
		FROM subscriptions p
		JOIN subscribers s ON s.id = p.subscriber
		JOIN choices c ON c.id = p.choice
		LEFT JOIN suppressions x ON x.person = s.person
		LEFT JOIN consents e ON e.id = p.consent
		LEFT JOIN particulars d ON d.consent = p.consent
		LEFT JOIN wordings w ON w.hash = e.wording
		WHERE (p.subscriber, p.newsletter) > ($1, $2) AND s.address IS NOT NULL
			AND ($3 = '' OR p.newsletter = $3) AND ($4 = '' OR p.state = $4)
		ORDER BY p.subscriber, p.newsletter LIMIT $5`,
		last.ID, last.Newsletter, f.Newsletter, string(f.State), listPage)
	if err != nil {
		return nil, fmt.Errorf("export subscribers: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var page []Entry
	for rows.Next() {
		var e Entry
		var consent sql.NullInt64
		var kind EventKind
		var at int64
		var kept keptParticulars
		e.Subscription, err = scanSubscription(rows, &e.ID, &e.Address, &e.Suppressed, &e.Language, &consent, &kind, &at, &kept.body, &kept.ip, &e.Text)
		if err != nil {
			return nil, fmt.Errorf("export subscribers: %w", err)
		}
		r.prove(&e, consent.Int64, kind, at, kept)
		page = append(page, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("export subscribers: %w", err)
	}
	return page, nil
}

// prove adds what the consent says.
func (r *Registry) prove(e *Entry, consent int64, kind EventKind, at int64, kept keptParticulars) {
	if consent == 0 {
		return
	}
	p, err := kept.read()
	if err != nil {
		p = &Particulars{} // verify names it; what is left is the event
	}
	e.Source, e.IP = p.Page, p.IP
	switch {
	case kind == Confirmed:
		e.Confirmed = instant(at).Format(time.RFC3339)
	case p.Import != nil:
		e.Confirmed = p.Import.Confirmed
		if e.Text == "" {
			e.Text = p.Import.Text
		}
		if e.IP == "" {
			e.IP = p.Import.ConfirmedIP
		}
	}
	if e.Source == "" {
		e.Source = fmt.Sprintf("%s, consent %d", r.settings.BaseURL, consent)
	}
}

// Roll writes entries as a table that spreadsheets open (RFC 4180, UTF-8 with the mark Excel wants) and Import reads again. What
// a spreadsheet would run as a formula is disarmed.
type Roll struct {
	w     *bufio.Writer
	texts bool
	err   error
}

// NewRoll begins a table. texts says whether the words each reader agreed to stand in it: they are long.
func NewRoll(w io.Writer, texts bool) *Roll {
	r := &Roll{w: bufio.NewWriterSize(w, 64<<10), texts: texts}
	_, r.err = r.w.WriteString("\ufeff")
	r.record("email", "newsletter", "topics", "state", "suppressed", "language", "requested", "confirmed", "source", "ip", "ended", "text")
	return r
}

// Write adds an entry.
func (r *Roll) Write(e Entry) error {
	r.record(e.Address, e.Newsletter, strings.Join(e.Topics, ","), string(e.State), string(e.Suppressed), e.Language,
		rfc3339(e.SignedUp), e.Confirmed, e.Source, e.IP, rfc3339(e.Ended), e.Text)
	return r.err
}

// Close writes what is left.
func (r *Roll) Close() error { return errors.Join(r.err, r.w.Flush()) }

func rfc3339(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// record ends with the words, which may be left out.
func (r *Roll) record(fields ...string) {
	if !r.texts {
		fields = fields[:len(fields)-1]
	}
	for i, field := range fields {
		if i > 0 {
			r.write(",")
		}
		field = Disarm(field)
		if strings.ContainsAny(field, "\",;\t\r\n ") {
			field = `"` + strings.ReplaceAll(field, `"`, `""`) + `"`
		}
		r.write(field)
	}
	r.write("\r\n")
}

func (r *Roll) write(s string) {
	if r.err == nil {
		_, r.err = r.w.WriteString(s)
	}
}
