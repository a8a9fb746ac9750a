package newsletter

import (
	"context"
	"testing"

	"depesche/migrations"
	"depesche/migrations/dbtest"
)

// A reader who takes a choice that was planned with news which has been withdrawn since gets what is left of it.
func TestChoiceThatLostItsNews(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, daily(t))
		when := at(t, "2026-02-11T05:00:00+01:00")
		h.article(when, "haushalt", "Politik", nil)
		gone := h.article(when, "derby", "Sport", nil)
		h.reader("anna", "politik")
		h.reader("ben", "politik", "sport")
		h.now = at(t, "2026-02-11T06:00:00+01:00")
		occasion, _ := h.Newsletters[0].Occasion(h.now)
		_, _, err := h.Compose(context.Background(), h.now, h.Newsletters[0], occasion, false)
		check(t, err)
		_, err = h.Withdraw(context.Background(), h.now, gone)
		check(t, err)
		h.exec(`UPDATE subscriptions SET choice = (SELECT choice FROM subscriptions WHERE subscriber = 2) WHERE subscriber = 1`)
		h.run("2026-02-11T06:01:00+01:00")
		if r := h.report("2026-02-11"); r.Sent != 2 {
			t.Errorf("report = %+v, want 2 sent", r)
		}
	})
}
