package ingest

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// parseDate reads the dates that feeds, pages and editors write: RFC 3339 and its relatives (W3CDTF, ISO 8601 basic), RFC
// 822 with weekdays and months in several languages, "23.11.2026 06:00 Uhr". A date without a zone is one of loc; the
// result is in loc. Dates such as 03/04/2026 are refused: nobody can tell the day from the month.
func parseDate(s string, loc *time.Location) (time.Time, error) {
	d := date{zone: loc, month: 1, day: 1}
	shown := quoted(s)
	s = weekday.ReplaceAllString(strings.ToLower(clean(s)), "$1")
	s = strings.ReplaceAll(s, ",", " ")
	s = isoT.ReplaceAllString(s, "$1 $2")
	understood := true
	for token := range strings.FieldsSeq(s) {
		understood = understood && d.read(token)
	}
	if !understood || !d.hasYear || d.hasDay && !d.hasMonth {
		return time.Time{}, fmt.Errorf("date %s not understood, expected for example 2026-02-10T17:41:00+01:00", shown)
	}
	t := time.Date(d.year, time.Month(d.month), d.day, d.hour, d.minute, d.second, d.nanosecond, d.zone)
	if d.year < 1900 || !d.valid() {
		return time.Time{}, fmt.Errorf("date %s does not exist", shown)
	}
	return t.In(loc), nil
}

// quoted shows foreign text in an error: bounded, and on one line.
func quoted(s string) string {
	const most = 60
	if s = oneLine(s); utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most]) + "…"
	}
	return strconv.Quote(s)
}

// date is what the words of a date have said so far.
type date struct {
	year, month, day, hour, minute, second, nanosecond int
	zone                                               *time.Location
	hasYear, hasMonth, hasDay, hasTime                 bool
}

var (
	weekday    = regexp.MustCompile(`^\s*\p{L}+\.?\s*,\s*(\d)`) // "mar., 10 févr." is a Tuesday in February
	isoT       = regexp.MustCompile(`(\d)t(\d)`)
	dashedDate = regexp.MustCompile(`^(\d{4})-(\d{1,2})(?:-(\d{1,2}))?$`)
	basicDate  = regexp.MustCompile(`^(\d{4})(\d{2})(\d{2})$`)
	dottedDate = regexp.MustCompile(`^(\d{1,2})\.(\d{1,2})\.(\d{4}|\d{2})$`)
	namedDate  = regexp.MustCompile(`^(\d{1,2})-(\p{L}+)-(\d{2,4})$`) // RFC 850: 23-Nov-26
	dayNumber  = regexp.MustCompile(`^(\d{1,2})(?:\.|st|nd|rd|th)?$`)
	clockTime  = regexp.MustCompile(`^(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:[.](\d{1,9})\d*)?)?(am|pm|z|[+-].*)?$`)
	basicTime  = regexp.MustCompile(`^(\d{2})(\d{2})(\d{2})(z|[+-].*)?$`)
	offset     = regexp.MustCompile(`^(?:gmt|utc)?([+-])(\d{1,2}):?(\d{2})?$`)
)

// read takes the next word of a date and reports whether it could be one.
func (d *date) read(token string) bool {
	if m := dashedDate.FindStringSubmatch(token); m != nil {
		return d.setDate(m[1], m[2], m[3])
	}
	if m := basicDate.FindStringSubmatch(token); m != nil && !d.hasYear {
		return d.setDate(m[1], m[2], m[3])
	}
	if m := dottedDate.FindStringSubmatch(token); m != nil {
		return d.setDate(m[3], m[2], m[1])
	}
	if m := namedDate.FindStringSubmatch(token); m != nil {
		return d.setDate(m[3], strconv.Itoa(monthNamed(m[2])), m[1])
	}
	if m := clockTime.FindStringSubmatch(token); m != nil {
		return d.setTime(m[1:])
	}
	if m := basicTime.FindStringSubmatch(token); m != nil && d.hasYear {
		return d.setTime([]string{m[1], m[2], m[3], "", m[4]})
	}
	if m := offset.FindStringSubmatch(token); m != nil {
		return d.hasTime && d.setOffset(m)
	}
	return d.readNumber(token) || d.readWord(strings.TrimSuffix(token, "."))
}

func (d *date) readNumber(token string) bool {
	if m := dayNumber.FindStringSubmatch(token); m != nil && !d.hasDay {
		d.day, d.hasDay = number(m[1]), true
		return true
	}
	if n := number(token); !d.hasYear && (len(token) == 4 && n > 0 || len(token) == 2 && d.hasMonth) {
		d.year, d.hasYear = fullYear(n, len(token)), true
		return true
	}
	return false
}

func (d *date) readWord(word string) bool {
	if m := monthNamed(word); m > 0 && !d.hasMonth {
		d.month, d.hasMonth = m, true
		return true
	}
	if seconds, ok := zones[word]; ok && d.hasTime {
		d.zone = time.FixedZone(strings.ToUpper(word), seconds)
		return true
	}
	switch word {
	case "am", "pm", "a.m", "p.m":
		if d.hasTime {
			return d.half(word[:1])
		}
		return word == "am" // German: am 11. Februar
	case "uhr", "um", "den", "der", "at", "on", "of", "the", "stand:", "le", "à":
		return true
	}
	// Before anything else was said, a word without digits is a weekday in some language.
	return !d.hasDay && !d.hasMonth && !d.hasYear && !d.hasTime && !strings.ContainsAny(word, "0123456789")
}

func (d *date) setDate(year, month, day string) bool {
	if d.hasYear || d.hasMonth {
		return false
	}
	d.year, d.month, d.hasYear, d.hasMonth = fullYear(number(year), len(year)), number(month), true, true
	if day != "" {
		d.day, d.hasDay = number(day), true
	}
	return true
}

// setTime takes hour, minute, second, fraction and what is stuck to them.
func (d *date) setTime(m []string) bool {
	if d.hasTime {
		return false
	}
	d.hour, d.minute, d.second, d.hasTime = number(m[0]), number(m[1]), number(m[2]), true
	d.nanosecond = number((m[3] + "000000000")[:9])
	switch tail := m[4]; tail {
	case "":
		return true
	case "am", "pm":
		return d.half(tail[:1])
	default:
		return d.read(tail)
	}
}

func (d *date) half(letter string) bool {
	if d.hour < 1 || d.hour > 12 {
		return false
	}
	d.hour %= 12
	if letter == "p" {
		d.hour += 12
	}
	return true
}

func (d *date) setOffset(m []string) bool {
	hours, minutes := number(m[2]), number(m[3])
	if hours > 15 || minutes > 59 {
		return false
	}
	seconds := hours*3600 + minutes*60
	if m[1] == "-" {
		seconds = -seconds
	}
	d.zone = time.FixedZone("", seconds)
	return true
}

// valid reports whether day and time exist: time.Date would turn 31 February into 3 March.
func (d *date) valid() bool {
	day := time.Date(d.year, time.Month(d.month), d.day, 12, 0, 0, 0, time.UTC)
	return day.Year() == d.year && int(day.Month()) == d.month && day.Day() == d.day &&
		d.hour < 24 && d.minute < 60 && d.second <= 60
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}

// fullYear completes a year of two digits as RFC 2822 4.3 does.
func fullYear(n, digits int) int {
	switch {
	case digits > 2:
		return n
	case n < 50:
		return 2000 + n
	default:
		return 1900 + n
	}
}

// months are beginnings of month names in German, English, French, Italian, Spanish and Dutch, long enough to tell.
var months = [12]string{
	"jan jän jänner ene gen", "feb fev fév", "mar mär mrz maa", "apr avr abr", "may mai mei mag", "jun jui giu juin",
	"jul juil lug", "aug aoû ago", "sep set", "oct okt ott", "nov", "dec dez déc dic",
}

// monthNamed is the month whose name begins like the word; 0 for none.
func monthNamed(word string) int {
	best, length := 0, 0
	for i, beginnings := range months {
		for b := range strings.FieldsSeq(beginnings) {
			if strings.HasPrefix(word, b) && len(b) > length {
				best, length = i+1, len(b)
			}
		}
	}
	return best
}

// zones are the abbreviations feeds use, as seconds east of Greenwich. MEZ and MESZ are the German names of CET and CEST.
var zones = map[string]int{
	"z": 0, "ut": 0, "utc": 0, "gmt": 0, "wet": 0, "bst": 3600, "west": 3600, "cet": 3600, "mez": 3600,
	"cest": 7200, "mesz": 7200, "eet": 7200, "eest": 10800, "msk": 10800,
	"est": -18000, "edt": -14400, "cst": -21600, "cdt": -18000, "mst": -25200, "mdt": -21600, "pst": -28800, "pdt": -25200,
}
