package newsletter

import (
	"context"
	"fmt"
	"testing"
	"time"

	"depesche/migrations"
	"depesche/migrations/dbtest"
)

// Where another dispatcher is at work this one begins in the middle, and goes around.
func TestBeginsWhereNobodyElseIs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, daily(t))
		h.article(at(t, "2026-02-11T05:00:00+01:00"), "haushalt", "Politik", nil)
		h.readers(40, func(i int) (string, []string) { return fmt.Sprintf("leser%d@reader.test", i+1), []string{"politik"} })
		_, err := db.Write.Exec(`INSERT INTO dispatchers (fence, host, process, digest, began, lease) VALUES (1, 'x', 1, 0, 0, $1)`,
			h.now.Add(time.Hour).UnixMilli())
		if err != nil {
			t.Fatal(err)
		}
		x, err := h.enlist(context.Background(), Options{Now: h.clock()})
		if err != nil {
			t.Fatal(err)
		}
		d, _, err := h.Compose(context.Background(), h.now, h.Newsletters[0], h.Newsletters[0].On("2026-02-11"), false)
		if err != nil {
			t.Fatal(err)
		}
		r := &run{dispatcher: x, spare: make(chan *window, 8)}
		if _, err := r.round(context.Background(), d); err != nil {
			t.Fatal(err)
		}
		taken := h.relay.taken()
		if len(taken) != 40 {
			t.Fatalf("%d were mailed in one round, want 40", len(taken))
		}
		if first := taken[0].to; first != "leser21@reader.test" {
			t.Errorf("the first mail went to %s, want the reader in the middle", first)
		}
		if err := x.close(context.Background(), true); err != nil {
			t.Error(err)
		}
	})
}

func TestHalves(t *testing.T) {
	for n, want := range []float64{0, 0.5, 0.25, 0.75, 0.125, 0.625} {
		if got := halves(int64(n)); got != want {
			t.Errorf("halves(%d) = %g, want %g", n, got, want)
		}
	}
}
