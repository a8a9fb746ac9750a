package newsletter

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"depesche/migrations"
	"depesche/migrations/dbtest"
	"depesche/newsletter/ingest"
	"depesche/newsletter/render"
)

func eachDatabase(b *testing.B, bench func(b *testing.B, db *migrations.Database)) {
	b.Run("sqlite", func(b *testing.B) { bench(b, dbtest.SQLite(b)) })
	b.Run("postgres", func(b *testing.B) { bench(b, dbtest.PostgreSQL(b)) })
}

// BenchmarkAdd stores an article that is new.
func BenchmarkAdd(b *testing.B) {
	eachDatabase(b, func(b *testing.B, db *migrations.Database) {
		h := newHouse(b, db, daily(b))
		when := at(b, "2026-02-11T05:00:00+01:00")
		for i := 0; b.Loop(); i++ {
			h.article(when, fmt.Sprint("a", i), "Politik", nil)
		}
	})
}

// BenchmarkCompose drafts a digest of 40 articles: what is eligible, and every entry rendered.
func BenchmarkCompose(b *testing.B) {
	eachDatabase(b, func(b *testing.B, db *migrations.Database) {
		h := newHouse(b, db, daily(b))
		h.articles(40)
		l := h.Newsletters[0]
		for b.Loop() {
			if _, _, err := h.draft(context.Background(), h.now, l, l.On("2026-02-11"), h.keptPicture); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkVariant builds the message of a digest of 40 articles for one choice of topics: all, and a third.
func BenchmarkVariant(b *testing.B) {
	h := newHouse(b, dbtest.SQLite(b), daily(b))
	h.articles(40)
	l := h.Newsletters[0]
	e, _, err := h.draft(context.Background(), h.now, l, l.On("2026-02-11"), h.keptPicture)
	if err != nil {
		b.Fatal(err)
	}
	for _, topics := range [][]string{l.Topics, l.Topics[:1]} {
		b.Run(fmt.Sprint(len(topics), " topics"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				v, err := e.variant(1, topics)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := e.message(v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSplice makes one reader's mail of it.
func BenchmarkSplice(b *testing.B) {
	h := newHouse(b, dbtest.SQLite(b), daily(b))
	h.articles(40)
	l := h.Newsletters[0]
	e, _, err := h.draft(context.Background(), h.now, l, l.On("2026-02-11"), h.keptPicture)
	if err != nil {
		b.Fatal(err)
	}
	v, err := e.variant(1, l.Topics)
	if err != nil {
		b.Fatal(err)
	}
	message, err := e.message(v)
	if err != nil {
		b.Fatal(err)
	}
	r := &run{newsroom: h.Newsroom, edition: e, variants: map[int64]*render.Message{}}
	j := job{subscriber: 4711, nonce: 1, address: "leserin@reader.test", signedUp: h.now}
	buffer := make([]byte, 0, message.Size())
	b.ReportAllocs()
	for b.Loop() {
		if buffer, err = r.splice(buffer[:0], message, j); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(buffer)))
}

// BenchmarkPlan plans 100,000 deliveries for seven choices of topics.
func BenchmarkPlan(b *testing.B) {
	eachDatabase(b, func(b *testing.B, db *migrations.Database) {
		h := newHouse(b, db, daily(b))
		h.articles(40)
		sets := [][]string{
			{"politik"},
			{"sport"},
			{"kultur"},
			{"politik", "sport"},
			{"kultur", "politik"},
			{"kultur", "sport"},
			{"kultur", "politik", "sport"},
		}
		h.readers(100_000, func(i int) (string, []string) { return fmt.Sprintf("leser%d@reader.test", i), sets[i%len(sets)] })
		if db.Kind == migrations.PostgreSQL {
			if _, err := db.Write.Exec(`ANALYZE`); err != nil {
				b.Fatal(err)
			}
		}
		l := h.Newsletters[0]
		e, _, err := h.draft(context.Background(), h.now, l, l.On("2026-02-11"), h.keptPicture)
		if err != nil {
			b.Fatal(err)
		}
		if err := h.freeze(context.Background(), h.now, e); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			b.StopTimer()
			for _, statement := range []string{`DELETE FROM deliveries`, `DELETE FROM digest_choices`, `DELETE FROM variants`} {
				if _, err := db.Write.Exec(statement); err != nil {
					b.Fatal(err)
				}
			}
			b.StartTimer()
			err := db.Tx(context.Background(), func(tx *sql.Tx) error { return h.plan(context.Background(), tx, h.now, e) })
			if err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(100_000/(b.Elapsed().Seconds()/float64(b.N)), "deliveries/s")
	})
}

// articles takes in news of all topics.
func (h *house) articles(n int) {
	h.t.Helper()
	kickers := []string{"Politik", "Sport", "Kultur"}
	for i := range n {
		when := h.now.Add(-time.Duration(i+1) * time.Minute)
		h.article(when, fmt.Sprint("meldung", i), kickers[i%3], func(a *ingest.Article) {
			a.Title = fmt.Sprintf("Der Rat beschließt den %d. Haushalt für die Schulen im Tal", i)
			a.Teaser = "Die Verwaltung hat am Abend vorgerechnet, was die neuen Häuser kosten. Der Rat stimmte nach langer Debatte zu."
			a.Place = "Talstadt"
		})
	}
}
