// Package newsletter is the corridor from an article to a reader's mailbox: articles are filed by topic, composed into a
// digest, planned as one delivery a reader, and dispatched. Each step finishes its product and never looks back; what is
// left to do is rows, so any process may be killed at any moment and the next one goes on.
package newsletter

import (
	"fmt"
	"slices"
	"time"
)

// Newsletter is a title, a set of topics, a schedule and a template.
type Newsletter struct {
	Slug     string   // names it in links, on the command line and in List-Id; never changes
	Title    string   // what readers see
	Language string   // of its mails: "de" or "en"
	Topics   []string // slugs, in the order they are printed
	Days     []time.Weekday
	Time     Clock          // when the digest is composed and its sending begins
	Latest   Clock          // after it nothing more is sent; not later than Time means on the next day
	Zone     *time.Location // in which days and times are meant
	MaxAge   time.Duration  // older articles are no news
	Template string         // mail/<language>/<template>.md
	Entries  int            // at most so many in a digest, 0: no limit; the others wait for the next
	PerTopic int            // at most so many under one topic, 0: no limit
	Resend   bool           // what to do with a doubtful delivery: send it again (true) or leave it to a person (false)
}

// Clock is a time of day in minutes since midnight.
type Clock int

// ParseClock reads "06:00".
func ParseClock(s string) (Clock, error) {
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, fmt.Errorf("read time of day %q: expected HH:MM, like 06:00", s)
	}
	return Clock(t.Hour()*60 + t.Minute()), nil
}

// String gives "06:00".
func (c Clock) String() string { return fmt.Sprintf("%02d:%02d", c/60, c%60) }

// on is the instant the clock shows this time on a day. Where the clocks are put forward over it, time.Date gives an
// instant an hour off, and where they are put back it chooses one of two: either way exactly one a day.
func (c Clock) on(year int, month time.Month, day int, zone *time.Location) time.Time {
	return time.Date(year, month, day, int(c)/60, int(c)%60, 0, 0, zone)
}

// Day is a calendar date, "2026-02-11", in a newsletter's zone.
type Day string

// DayOf is the calendar date of an instant in a zone.
func DayOf(t time.Time, zone *time.Location) Day { return Day(t.In(zone).Format(time.DateOnly)) }

// ParseDay reads "2026-02-11".
func ParseDay(s string) (Day, error) {
	if _, err := time.Parse(time.DateOnly, s); err != nil {
		return "", fmt.Errorf("read day %q: expected YYYY-MM-DD", s)
	}
	return Day(s), nil
}

// noon is an instant that lies on the day in a zone, whatever the clocks do at night.
func (d Day) noon(zone *time.Location) time.Time {
	t, _ := time.Parse(time.DateOnly, string(d)) // every Day was parsed or formatted before
	return time.Date(t.Year(), t.Month(), t.Day(), 12, 0, 0, 0, zone)
}

// Occasion is one planned digest: its day, when it is due and until when it may be sent.
type Occasion struct {
	Day     Day
	Planned time.Time
	Latest  time.Time
}

// Occasion is the newest digest planned at or before now that is still of interest: today's, or yesterday's while its
// latest time is not over. ok is false where nothing is due.
func (n Newsletter) Occasion(now time.Time) (o Occasion, ok bool) {
	today := n.On(DayOf(now, n.Zone))
	if n.appears(today.Day) && !now.Before(today.Planned) {
		return today, true
	}
	yesterday := n.On(n.shift(now, -1))
	if n.appears(yesterday.Day) && !now.Before(yesterday.Planned) && now.Before(yesterday.Latest) {
		return yesterday, true
	}
	return Occasion{}, false
}

// Next is the first occasion after now.
func (n Newsletter) Next(now time.Time) Occasion {
	for ahead := range 8 {
		o := n.On(n.shift(now, ahead))
		if n.appears(o.Day) && o.Planned.After(now) {
			return o
		}
	}
	return Occasion{}
}

// On is the occasion of a day, whether or not the newsletter appears on it.
func (n Newsletter) On(day Day) Occasion {
	year, month, date := day.noon(n.Zone).Date()
	o := Occasion{Day: day, Planned: n.Time.on(year, month, date, n.Zone)}
	if n.Latest <= n.Time {
		date++
	}
	o.Latest = n.Latest.on(year, month, date, n.Zone)
	return o
}

// shift is the calendar date some days from now: never by adding 24 hours, which miss a day when the clocks change.
func (n Newsletter) shift(now time.Time, days int) Day {
	year, month, day := now.In(n.Zone).Date()
	return DayOf(time.Date(year, month, day+days, 12, 0, 0, 0, n.Zone), n.Zone)
}

func (n Newsletter) appears(day Day) bool {
	return slices.Contains(n.Days, day.noon(n.Zone).Weekday())
}
