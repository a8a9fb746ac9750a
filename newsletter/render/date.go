package render

import (
	"time"

	"github.com/gohugoio/locales"
	"github.com/gohugoio/locales/de"
	"github.com/gohugoio/locales/en_GB"
)

// day prints as a date in words: „Mittwoch, 11. Februar 2026“, "Wednesday, 11 February 2026".
type day struct {
	time   time.Time
	locale locales.Translator
}

func (d day) String() string { return d.locale.FmtDateFull(d.time) }

// moment prints as a date and a time of day in the zone it carries: „10. Februar 2026, 17:41 Uhr“,
// "10 February 2026, 17:41".
type moment struct {
	time   time.Time
	locale locales.Translator
}

func (m moment) String() string {
	s := m.locale.FmtDateLong(m.time) + ", " + m.locale.FmtTimeShort(m.time)
	if m.locale.Locale() == "de" {
		s += " Uhr"
	}
	return s
}

// since prints as the placeholders of a reader's sign-up date, in the order the language writes them: 10.02.2026,
// 2026-02-10.
type since struct{ language Lang }

func (s since) String() string {
	if s.language.german() {
		return dayMark + "." + monthMark + "." + yearMark
	}
	return yearMark + "-" + monthMark + "-" + dayMark
}

func localeOf(l Lang) locales.Translator {
	if l.german() {
		return de.New()
	}
	return en_GB.New()
}
