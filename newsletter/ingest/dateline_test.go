package ingest

import "testing"

func TestDateline(t *testing.T) {
	for _, c := range []struct{ text, place, agency, rest string }{
		{"Brüssel (dpa) - Geheimdienste", "Brüssel", "dpa", "Geheimdienste"},
		{"Berlin/Paris (dpa/lhe) - Der Text", "Berlin/Paris", "dpa/lhe", "Der Text"},
		{"BERLIN (AFP) – Der Text", "Berlin", "AFP", "Der Text"},
		{"NEW YORK (Reuters) — Text", "New York", "Reuters", "Text"},
		{"WASHINGTON, Jan 5 (Reuters) - Text", "Washington", "Reuters", "Text"},
		{"Berlin, 11. Februar 2026 (AFP) - Text", "Berlin", "AFP", "Text"},
		{"(dpa) - Text", "", "dpa", "Text"},
		{"(AFP/dpa) – „Ja“, sagte er", "", "AFP/dpa", "„Ja“, sagte er"},
		{"Frankfurt a.M. (epd). Text", "Frankfurt a.M.", "epd", "Text"},
		{"Bonn (KNA) Die Bischöfe", "Bonn", "KNA", "Die Bischöfe"},
		{"Frankfurt am Main (dpa) \\- Text", "Frankfurt am Main", "dpa", "Text"},
		{"**Köln (SID) -** Text", "Köln", "SID", "Text"},
		{"**Köln (dpa)** - Text", "Köln", "dpa", "Text"},
		{"*Wien* (APA) - Text", "Wien", "APA", "Text"},
		{"Berlin (dts Nachrichtenagentur) - Text", "Berlin", "dts", "Text"},
		{"BERLIN dpa | Text", "Berlin", "dpa", "Text"},
		{"NEWARK, N.J. (AP) — Text", "Newark, N.J.", "AP", "Text"},

		{"Die Deutsche Presse-Agentur (dpa) - so heißt sie", "", "", ""},
		{"Weinheim. Der Text", "", "", ""},
		{"Weinheim (Bergstraße) - Der Text", "", "", ""},
		{"Der Sprecher (dpa) sagte", "", "", ""},
		{"Berlin (dpa) liegt vorn", "", "", ""},
		{"Nach Angaben aus Berlin (AFP) - Text", "", "", ""},
		{"(1) - Text", "", "", ""},
		{"", "", "", ""},
	} {
		place, agency, rest, ok := dateline(c.text)
		if !ok {
			rest = ""
		}
		if place != c.place || agency != c.agency || rest != c.rest {
			t.Errorf("dateline(%q) = %q, %q, %q, want %q, %q, %q", c.text, place, agency, rest, c.place, c.agency, c.rest)
		}
	}
}

func TestTakeDateline(t *testing.T) {
	a := Article{Teaser: "Weinheim. Die Stadt baut.", Body: "Weinheim - Die Stadt baut neu.", Place: "Weinheim"}
	a.takeDateline()
	if a.Teaser != "Die Stadt baut." || a.Body != "Die Stadt baut neu." {
		t.Errorf("with a known place: %q, %q", a.Teaser, a.Body)
	}
	a = Article{Teaser: "Weinheim. Die Stadt baut.", Body: "Wiesbaden (dpa/lhe) - Text", Agency: "dpa"}
	a.takeDateline()
	if a.Teaser != "Weinheim. Die Stadt baut." || a.Place != "Wiesbaden" || a.Agency != "dpa/lhe" || a.Body != "Text" {
		t.Errorf("with a known agency: %+v", a)
	}
}

func TestByline(t *testing.T) {
	for in, want := range map[string][2]string{
		"dpa":                            {"", "dpa"},
		"dpa/lhe":                        {"", "dpa/lhe"},
		"Deutsche Presse-Agentur":        {"", "dpa"},
		"Von Erika Muster, dpa":          {"Erika Muster", "dpa"},
		"Erika Muster":                   {"Erika Muster", ""},
		"By Max Muster and Erika Muster": {"Max Muster and Erika Muster", ""},
		"redaktion@a.example":            {"", ""},
		"":                               {"", ""},
	} {
		if author, agency := byline(in); author != want[0] || agency != want[1] {
			t.Errorf("byline(%q) = %q, %q, want %q", in, author, agency, want)
		}
	}
}
