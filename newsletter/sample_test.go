package newsletter

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"

	"depesche/migrations"
	"depesche/migrations/dbtest"
)

// What a topic brings is measured over the days since the first digest, at most four weeks of them.
func TestRates(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, daily(t))
		h.reader("anna", "politik", "sport")
		h.article(at(t, "2026-02-11T05:00:00+01:00"), "haushalt", "Politik", nil)
		h.article(at(t, "2026-02-11T05:01:00+01:00"), "wahl", "Politik", nil)
		h.article(at(t, "2026-02-11T05:02:00+01:00"), "derby", "Sport", nil)
		h.run("2026-02-11T06:00:00+01:00")
		h.article(at(t, "2026-02-12T05:00:00+01:00"), "rat", "Politik", nil)
		h.run("2026-02-12T06:00:00+01:00")
		for when, want := range map[string]map[string]float64{
			"2026-02-13T23:59:00+01:00": {"politik": 1, "sport": 1. / 3, "kultur": 0},
			"2026-03-11T12:00:00+01:00": {"politik": 1. / 28, "sport": 0, "kultur": 0},
			"2026-04-11T12:00:00+02:00": nil,
		} {
			rates, err := h.Rates(context.Background(), at(t, when), "morgen")
			if err != nil || len(rates) != len(want) {
				t.Fatalf("Rates at %s = %v, %v, want %v", when, rates, err, want)
			}
			for topic, rate := range want {
				if math.Abs(rates[topic]-rate) > 1e-9 {
					t.Errorf("at %s %s brings %g a day, want %g", when, topic, rates[topic], rate)
				}
			}
		}
		if rates, err := h.Rates(context.Background(), h.now, "abend"); err != nil || rates != nil {
			t.Errorf("Rates of a newsletter there is none of = %v, %v", rates, err)
		}
	})
}

// The sample is the last digest that was sent, with as much in it as anybody got.
func TestSample(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, daily(t))
		want := func(what, day, topics string) {
			t.Helper()
			path, err := h.Sample(context.Background(), "morgen")
			if err != nil {
				t.Fatal(err)
			}
			if day == "" {
				if path != "" {
					t.Errorf("%s: the sample is %q, want none", what, path)
				}
				return
			}
			number, found := strings.CutPrefix(path, "/digest/morgen/"+day+"/")
			var variant int64
			if _, err := fmt.Sscan(number, &variant); !found || err != nil {
				t.Fatalf("%s: the sample is %q, want one of %s", what, path, day)
			}
			var shown string
			err = db.Read.QueryRow(`SELECT v.topics FROM variants v JOIN digests d ON d.id = v.digest WHERE d.day = $1 AND v.variant = $2`,
				day, variant).Scan(&shown)
			if err != nil || shown != topics {
				t.Errorf("%s: the sample shows %q, %v, want %q", what, shown, err, topics)
			}
		}
		want("nothing was sent", "", "")
		h.reader("anna", "sport")
		h.reader("ben", "politik", "sport")
		h.article(at(t, "2026-02-11T05:00:00+01:00"), "haushalt", "Politik", nil)
		h.article(at(t, "2026-02-11T05:02:00+01:00"), "derby", "Sport", nil)
		h.run("2026-02-11T06:00:00+01:00")
		want("one day", "2026-02-11", "politik,sport")
		h.article(at(t, "2026-02-12T05:00:00+01:00"), "pokal", "Sport", nil)
		h.run("2026-02-12T06:00:00+01:00")
		want("two days", "2026-02-12", "sport")
		d, err := h.Digest(context.Background(), "morgen", "2026-02-12")
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Hold(context.Background(), h.now, d.ID); err != nil {
			t.Fatal(err)
		}
		want("the last one is held", "2026-02-11", "politik,sport")
	})
}
