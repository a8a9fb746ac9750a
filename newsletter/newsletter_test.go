package newsletter

import (
	"slices"
	"testing"
	"time"
	_ "time/tzdata"
)

func berlin(t testing.TB) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func daily(t testing.TB) Newsletter {
	t.Helper()
	clock := func(s string) Clock {
		c, err := ParseClock(s)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	return Newsletter{
		Slug: "morgen", Title: "Der Morgen", Language: "de", Topics: []string{"politik", "sport", "kultur"},
		Days: []time.Weekday{0, 1, 2, 3, 4, 5, 6}, Time: clock("06:00"), Latest: clock("10:00"), Zone: berlin(t),
		MaxAge: 72 * time.Hour, Template: "digest",
	}
}

func at(t testing.TB, s string) time.Time {
	t.Helper()
	instant, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return instant
}

func TestOccasion(t *testing.T) {
	morning := daily(t)
	night := daily(t)
	night.Time, night.Latest = 23*60, 2*60
	sundays := daily(t)
	sundays.Days = []time.Weekday{time.Sunday}
	for _, test := range []struct {
		name    string
		letter  Newsletter
		now     string
		day     Day
		planned string
	}{
		{"a minute early", morning, "2026-02-11T05:59:00+01:00", "", ""},
		{"on time", morning, "2026-02-11T06:00:00+01:00", "2026-02-11", "2026-02-11T06:00:00+01:00"},
		{"on time, clock in UTC", morning, "2026-02-11T05:00:00Z", "2026-02-11", "2026-02-11T06:00:00+01:00"},
		{"late, still today's", morning, "2026-02-11T19:00:00+01:00", "2026-02-11", "2026-02-11T06:00:00+01:00"},
		{"before midnight", night, "2026-02-11T23:30:00+01:00", "2026-02-11", "2026-02-11T23:00:00+01:00"},
		{"after midnight, yesterday's", night, "2026-02-12T01:30:00+01:00", "2026-02-11", "2026-02-11T23:00:00+01:00"},
		{"yesterday's is over", night, "2026-02-12T02:00:00+01:00", "", ""},
		{"not on a Wednesday", sundays, "2026-02-11T07:00:00+01:00", "", ""},
		{"on a Sunday", sundays, "2026-02-15T07:00:00+01:00", "2026-02-15", "2026-02-15T06:00:00+01:00"},
	} {
		o, ok := test.letter.Occasion(at(t, test.now))
		if ok != (test.day != "") || o.Day != test.day {
			t.Errorf("%s: Occasion(%s) = %q, %v, want %q", test.name, test.now, o.Day, ok, test.day)
			continue
		}
		if ok && !o.Planned.Equal(at(t, test.planned)) {
			t.Errorf("%s: planned %s, want %s", test.name, o.Planned, test.planned)
		}
	}
}

// On the night the clocks go forward 02:30 does not exist, on the night they go back it comes twice. Asked every five
// minutes, there is exactly one occasion a local day, with one planned instant.
func TestOccasionWhenClocksChange(t *testing.T) {
	l := daily(t)
	l.Time, l.Latest = 2*60+30, 9*60
	for _, day := range []string{"2026-03-28T12:00:00+01:00", "2026-10-24T12:00:00+02:00"} {
		planned := map[Day]map[int64]bool{}
		for now, end := at(t, day), at(t, day).Add(72*time.Hour); now.Before(end); now = now.Add(5 * time.Minute) {
			o, ok := l.Occasion(now.UTC())
			if !ok {
				continue
			}
			if planned[o.Day] == nil {
				planned[o.Day] = map[int64]bool{}
			}
			planned[o.Day][o.Planned.Unix()] = true
		}
		if len(planned) != 4 { // the first afternoon still shows that day's, then three nights
			t.Errorf("from %s on: %d days had a digest, want 4", day, len(planned))
		}
		for d, instants := range planned {
			if len(instants) != 1 {
				t.Errorf("%s was planned for %d instants", d, len(instants))
			}
		}
	}
}

func TestNext(t *testing.T) {
	weekly := daily(t)
	weekly.Days = []time.Weekday{time.Sunday}
	got := weekly.Next(at(t, "2026-02-15T06:00:00+01:00"))
	if want := Day("2026-02-22"); got.Day != want {
		t.Errorf("Next after Sunday's digest = %s, want %s", got.Day, want)
	}
}

func TestDesk(t *testing.T) {
	desk := NewDesk([]Topic{
		{Slug: "ukraine", Name: "Krieg in der Ukraine", Aliases: []string{"Ukraine-Krieg", "Geheimdienste"}},
		{Slug: "sport", Name: "Sport"},
	}, []string{"Lage im Überblick"})
	for _, test := range []struct {
		labels   []string
		topics   []string
		unmapped []string
	}{
		{[]string{"Ukraine-Krieg"}, []string{"ukraine"}, nil},
		{[]string{"Krieg in der Ukraine", "UKRAINE KRIEG", "sport"}, []string{"ukraine", "sport"}, nil},
		{[]string{"Lage im Überblick"}, nil, nil},
		{[]string{"lage im überblick", "Geheimdienste"}, []string{"ukraine"}, nil},
		{[]string{"Wetter", "Sport"}, []string{"sport"}, []string{"Wetter"}},
	} {
		if got := desk.File(test.labels); !slices.Equal(got, test.topics) {
			t.Errorf("File(%q) = %q, want %q", test.labels, got, test.topics)
		}
		if got := desk.Unmapped(test.labels); !slices.Equal(got, test.unmapped) {
			t.Errorf("Unmapped(%q) = %q, want %q", test.labels, got, test.unmapped)
		}
	}
}
