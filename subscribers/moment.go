package subscribers

import (
	"errors"
	"strings"
	"time"
)

// moments are the ways in which lists write an instant. Those without a zone are of the list's.
var moments = []string{
	"2006-01-02 15:04:05", "2006-01-02T15:04:05.999999999Z07:00", "2006-01-02", "2006-01-02 15:04:05 MST", "2006-01-02 15:04:05 -0700",
	"2006-01-02 15:04", "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02T15:04",
	"2.1.2006", "2.1.2006 15:04", "2.1.2006 15:04:05", "2.1.2006, 15:04", "2.1.2006, 15:04:05", "2.1.2006 15:04 Uhr", "2006/01/02",
	"2006/01/02 15:04:05", "January 2, 2006", "Jan 2, 2006", "January 2, 2006 15:04",
}

var errMoment = errors.New("not a date that can be read one way only: expected 2026-02-11 06:00:00 or 11.02.2026 06:00")

// parseMoment reads an instant of a list. What is before 1990 or later than tomorrow was not read right by somebody.
// "02/11/2026" is refused: it is another day on either side of the Atlantic.
func parseMoment(text string, zone *time.Location, now time.Time) (time.Time, error) {
	for _, layout := range moments {
		if len(text) > 2*len(layout) {
			continue
		}
		if layout == "2006-01-02 15:04:05 MST" && !strings.HasSuffix(text, " UTC") && !strings.HasSuffix(text, " GMT") {
			continue // other names of zones mean nothing by themselves
		}
		at, err := time.ParseInLocation(layout, text, zone)
		if err != nil {
			continue
		}
		if at.Year() < 1990 || at.After(now.Add(day)) {
			return time.Time{}, errMoment
		}
		return at, nil
	}
	return time.Time{}, errMoment
}

// yes reads a yes or no as people and programs write it.
func yes(text string) (value, known bool) {
	switch strings.ToLower(text) {
	case "true", "yes", "y", "ja", "j", "1", "x", "wahr", "on", "t":
		return true, true
	case "false", "no", "n", "nein", "0", "falsch", "off", "f":
		return false, true
	}
	return false, false
}
