package newsletter

import (
	"context"
	"database/sql"
	"fmt"
	"net/mail"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"depesche/migrations"
	"depesche/newsletter/ingest"
	"depesche/newsletter/render"
	"depesche/subscribers"
	"depesche/templates"
)

// house is a newsroom on a real database with a real server to send to.
type house struct {
	*Newsroom
	t     testing.TB
	relay *relay
	now   time.Time
}

func newHouse(t testing.TB, db *migrations.Database, l Newsletter) *house {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := subscribers.CreateKeys(path); err != nil {
		t.Fatal(err)
	}
	keys, err := subscribers.LoadKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	texts := templates.FS("")
	names := map[string]string{"politik": "Politik", "sport": "Sport", "kultur": "Kultur"}
	signUp := subscribers.Newsletter{Slug: l.Slug, Title: l.Title, Language: l.Language}
	var topics []Topic
	for _, slug := range l.Topics {
		signUp.Topics = append(signUp.Topics, subscribers.Topic{Slug: slug, Name: names[slug]})
		topics = append(topics, Topic{Slug: slug, Name: names[slug]})
	}
	registry, err := subscribers.New(db, keys, texts, subscribers.Settings{
		BaseURL: "https://news.paper.test", Language: "de", Newsletters: []subscribers.Newsletter{signUp},
		Publisher: subscribers.Publisher{
			Name: "Talbote Verlag", Paper: "Talbote", Address: "Marktplatz 1, 12345 Talstadt", Email: "redaktion@paper.test",
			Responsible: "Rosa Beispiel", PrivacyURL: "https://paper.test/datenschutz", ImprintURL: "https://paper.test/impressum",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, relay: newRelay(t), now: at(t, "2026-02-11T06:00:00+01:00")}
	h.Newsroom, err = New(db, registry, keys, texts, Settings{
		BaseURL: "https://news.paper.test",
		Brand: render.Brand{
			Paper: "Talbote", Publisher: "Talbote Verlag", Address: "Marktplatz 1, 12345 Talstadt", Email: "redaktion@paper.test",
			Responsible: "Rosa Beispiel", Privacy: "https://paper.test/datenschutz", Imprint: "https://paper.test/impressum",
		},
		Newsletters: []Newsletter{l}, Topics: topics, Ignored: []string{"Lage im Überblick"},
		Senders: Senders{
			Newsletter: mail.Address{Name: "Talbote", Address: "morgen@paper.test"}, ReplyTo: mail.Address{Address: "redaktion@paper.test"},
			Letter: mail.Address{Name: "Talbote", Address: "anmeldung@paper.test"}, BounceDomain: "bounce.paper.test", MailDomain: "paper.test",
		},
		Relay: h.relay.config(), Connections: 2, JournalBase: filepath.Join(t.TempDir(), "replies"), DeleteAfter: 7 * 24 * time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// clock ticks from the house's instant on.
func (h *house) clock() func() time.Time {
	start, began := h.now, time.Now()
	return func() time.Time { return start.Add(time.Since(began)) }
}

// article takes an article in at an instant.
func (h *house) article(when time.Time, id, kicker string, change func(*ingest.Article)) string {
	h.t.Helper()
	a := ingest.Article{
		Source: "wire", GUID: id, URL: "https://paper.test/" + id, Title: "Schlagzeile " + id, Kicker: kicker,
		Teaser: "Vorspann " + id + ".", Language: "de", Agency: "dpa", Published: when,
	}
	if change != nil {
		change(&a)
	}
	stored, _, err := h.Add(context.Background(), when, a)
	if err != nil {
		h.t.Fatal(err)
	}
	return stored
}

// reader adds a confirmed reader without the way through form and letter, which has tests of its own.
func (h *house) reader(name string, topics ...string) string {
	h.t.Helper()
	h.readers(1, func(int) (string, []string) { return name + "@reader.test", topics })
	return name + "@reader.test"
}

func (h *house) readers(n int, who func(i int) (address string, topics []string)) {
	h.t.Helper()
	ctx := context.Background()
	err := h.db.Tx(ctx, func(tx *sql.Tx) error {
		var offset int64
		if err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(id), 0) FROM subscribers`).Scan(&offset); err != nil {
			return err
		}
		for i := range n {
			address, topics := who(i)
			id := offset + int64(i) + 1
			choice := choiceID(topics)
			for _, s := range []struct {
				statement string
				args      []any
			}{
				{`INSERT INTO choices (id, newsletter, topics) VALUES ($1, 'morgen', $2) ON CONFLICT DO NOTHING`, []any{choice, strings.Join(topics, ",")}},
				{
					`INSERT INTO subscribers (id, address, person, language, nonce, created) VALUES ($1, $2, $2, 'de', $3, 1)`,
					[]any{id, address, id * 7},
				},
				{
					`INSERT INTO consents (id, subscriber, newsletter, kind, at, person, particulars) VALUES ($1, $1, 'morgen', 'confirmed', 1, $2, '')`,
					[]any{id, address},
				},
				{
					`INSERT INTO subscriptions (subscriber, newsletter, choice, state, requested, signed_up, consent)
					 VALUES ($1, 'morgen', $2, 'active', 1, 1, $1)`, []any{id, choice},
				},
			} {
				if _, err := tx.ExecContext(ctx, s.statement, s.args...); err != nil {
					return fmt.Errorf("%s: %w", s.statement, err)
				}
			}
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// choiceID gives each set of topics of the tests a number: a bit per topic.
func choiceID(topics []string) int64 {
	id := int64(0)
	for i, slug := range []string{"politik", "sport", "kultur"} {
		for _, topic := range topics {
			if topic == slug {
				id |= 1 << i
			}
		}
	}
	return id + 1000
}

// run does what the timer does at an instant.
func (h *house) run(when string) Morning {
	h.t.Helper()
	h.now = at(h.t, when)
	m, err := h.Run(context.Background(), Plan{Options: Options{Now: h.clock()}})
	if err != nil {
		h.t.Fatalf("run at %s: %v", when, err)
	}
	return m
}

// report is the account of a day's digest, which must add up.
func (h *house) report(day Day) Report {
	h.t.Helper()
	d, err := h.Digest(context.Background(), "morgen", day)
	if err != nil {
		h.t.Fatal(err)
	}
	r, err := h.Report(context.Background(), h.now, d)
	if err != nil {
		h.t.Fatal(err)
	}
	if !r.AddsUp() {
		h.t.Errorf("the report of %s does not add up: %+v", day, r)
	}
	return r
}
