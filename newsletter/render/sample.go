package render

import "time"

// sample is made-up content to try a template with.
type sample struct {
	entry   Entry
	edition Edition
	variant Variant
	letter  Letter
}

// fullSample fills every field, so that every branch of a template that shows something runs.
func fullSample() sample {
	at := time.Date(2026, 2, 10, 17, 41, 0, 0, time.UTC)
	s := bareSample()
	s.entry = Entry{
		Title: "A headline", Kicker: "A kicker", Teaser: "A standfirst.", Place: "Berlin", Agency: "dpa",
		Author: "An Author", Body: "A paragraph.", URL: "https://example.org/article", Published: at, Language: "en",
		Correction: "What was wrong.",
		Picture: &Picture{
			URL: "https://example.org/a.jpg", Alt: "What is seen", Caption: "A caption", Credit: "A Photographer",
			Width: 1200, Height: 800,
		},
	}
	s.edition.Brand.Logo = "https://example.org/logo.png"
	s.variant.Headlines = []Text{"A headline", "Another"}
	s.variant.Count = 2
	s.variant.Sections[0].Name = "A topic"
	s.edition.WebViewBase = "https://example.org/web/"
	s.letter.Topics = []Text{"A topic", "Another topic"}
	return s
}

// bareSample has only what a mail never lacks.
func bareSample() sample {
	at := time.Date(2026, 2, 11, 0, 0, 0, 0, time.UTC)
	brand := Brand{
		Paper: "Sample Paper", Colour: "#0a4f8f",
		Publisher: "Sample Press", Address: "1 Sample Street", Email: "press@example.org", Responsible: "Erika Sample",
		Privacy: "https://example.org/privacy", Imprint: "https://example.org/imprint",
	}
	newsletter := Newsletter{Title: "Sample Morning", BaseURL: "https://news.example.org"}
	return sample{
		entry: Entry{Title: "A headline"},
		edition: Edition{
			Newsletter: newsletter, Brand: brand, Day: at,
			UnsubscribeBase: "https://news.example.org/u/", PreferencesBase: "https://news.example.org/p/",
		},
		variant: Variant{Headlines: []Text{"A headline"}, Count: 1, Sections: []Section{{}}},
		letter: Letter{
			Newsletter: newsletter, Brand: brand, Requested: at, Action: "https://news.example.org/c/", DeleteDays: 7,
		},
	}
}
