package render

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// folder is where the templates are; tests read them as files, so that they need no other package.
var folder = os.DirFS("../../templates")

func mustParse(t testing.TB, language, name string) *Template {
	t.Helper()
	source, err := Load(folder, language, name)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := Parse(source)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got); -update rewrites it:\n%s", name, diff)
	}
}

// fixtures returns a folder of real input, or skips the test where there is none.
func fixtures(t *testing.T, name string) string {
	t.Helper()
	root := os.Getenv("DEPESCHE_FIXTURES")
	if root == "" {
		t.Skip("DEPESCHE_FIXTURES is not set: real input is not tested")
	}
	folder := filepath.Join(root, name)
	if _, err := os.Stat(folder); err != nil {
		t.Fatal(err)
	}
	return folder
}

var berlin = func() *time.Location {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		panic(err)
	}
	return zone
}()

var brand = Brand{
	Paper: "Elbtal-Bote", Colour: "#7a1f2b", Publisher: "Elbtal-Bote Verlags-GmbH",
	Address: "Marktplatz 3, 01662 Meißen", Email: "redaktion@elbtal-bote.example", Responsible: "Katrin Lehmann, Marktplatz 3, 01662 Meißen",
	Privacy: "https://www.elbtal-bote.example/datenschutz", Imprint: "https://www.elbtal-bote.example/impressum",
}

var germanEntries = []struct {
	topic   Text
	entries []Entry
}{
	{"Politik", []Entry{
		{
			Title: "Stadtrat streitet über die neue Elbbrücke", Kicker: "Verkehr",
			Teaser: "Acht Jahre wurde geplant, nun steht die „große Lösung“ vor dem Aus: Der Freistaat will weniger zahlen als zugesagt.",
			Place:  "Meißen", Agency: "dpa", Published: time.Date(2026, 2, 10, 17, 41, 8, 0, berlin),
			URL: "https://www.elbtal-bote.example/politik/elbbruecke?id=7&ref=start",
			Picture: &Picture{
				URL: "https://news.elbtal-bote.example/bilder/bruecke.jpg", Alt: "Die alte Elbbrücke im Morgennebel",
				Caption: "Seit 2018 nur noch einspurig: die alte Elbbrücke (Archivbild)", Credit: "Jörg Ünal/dpa", Width: 1200, Height: 800,
			},
		},
		{
			Title: "Wahlhelfer gesucht: 1.200 Freiwillige fehlen noch", Kicker: "Landtagswahl",
			Teaser: "Wer am Sonntag hilft, bekommt 60 Euro – und einen freien Tag.", Author: "Miriam Çelik",
			URL: "https://www.elbtal-bote.example/politik/wahlhelfer",
			Body: "Am **Sonntag** öffnen 48 Wahllokale.\n\n# Was zu tun ist\n\n* Stimmzettel ausgeben\n* Stimmen *auszählen*\n\n" +
				"| Wahllokal | Plätze |\n|---|--:|\n| Rathaus | 12 |\n| Schule am Ufer | 8 |\n\n" +
				"> „Ohne Helfer keine Wahl“, sagt der Wahlleiter.\n\nAnmeldung: [Wahlamt](https://www.meissen.example/wahlamt).",
		},
	}},
	{"Kultur & Leben", []Entry{
		{
			Title: "Das Theater spielt wieder: «Der Zauberberg» zum Auftakt", Teaser: "Nach dem Umbau öffnet das Haus am Freitag.",
			Agency: "epd", URL: "https://www.elbtal-bote.example/kultur/theater",
			Picture: &Picture{Caption: "Probe auf der neuen Bühne", Credit: "Anna Roth"},
		},
		{
			Title: "مدرسة جديدة في المدينة", Teaser: "افتتحت المدرسة أبوابها يوم الاثنين.", Language: "ar",
			URL: "https://www.elbtal-bote.example/ar/schule",
		},
		{
			Title: "Museumsnacht erst am 21. Februar", Teaser: "Das neue Datum gilt für alle Häuser.", Correction: "Gestern nannten wir an dieser Stelle den 14. Februar.",
			URL: "https://www.elbtal-bote.example/kultur/museumsnacht",
		},
	}},
}

var englishEntries = []struct {
	topic   Text
	entries []Entry
}{
	{"City", []Entry{
		{
			Title: "Council splits over the new bridge", Kicker: "Traffic", Place: "Meissen", Agency: "Reuters", Author: "Ann O'Hara",
			Teaser: "Eight years of planning, and now the state wants to pay less.", Published: time.Date(2026, 2, 10, 17, 41, 8, 0, berlin),
			URL: "https://www.elbtal-bote.example/en/bridge",
		},
	}},
}

// issue is an edition and one variant of it.
type issue struct {
	Edition
	Variant
}

// germanVariant is the digest most tests look at.
func germanVariant(t testing.TB, tmpl *Template) issue {
	return variantOf(t, tmpl, "Elbtal am Morgen", germanEntries)
}

func variantOf(t testing.TB, tmpl *Template, title Text, topics []struct {
	topic   Text
	entries []Entry
},
) issue {
	t.Helper()
	v := issue{Edition{
		Newsletter: Newsletter{Title: title, BaseURL: "https://news.elbtal-bote.example"}, Brand: brand, Header: header,
		Day: time.Date(2026, 2, 11, 0, 0, 0, 0, berlin), WebViewBase: "https://news.elbtal-bote.example/w/2026-02-",
		UnsubscribeBase: "https://news.elbtal-bote.example/u/", PreferencesBase: "https://news.elbtal-bote.example/p/",
	}, Variant{Number: 11}}
	for _, topic := range topics {
		heading, err := tmpl.Topic(topic.topic)
		if err != nil {
			t.Fatal(err)
		}
		section := Section{Name: topic.topic, Heading: heading}
		for _, e := range topic.entries {
			fragment, err := tmpl.Entry(e)
			if err != nil {
				t.Fatal(err)
			}
			section.Entries = append(section.Entries, fragment)
			v.Headlines = append(v.Headlines, e.Title)
			v.Count++
		}
		v.Sections = append(v.Sections, section)
	}
	v.Headlines = v.Headlines[:min(3, len(v.Headlines))]
	return v
}

func mustVariant(t testing.TB, tmpl *Template, v issue) Body {
	t.Helper()
	body, err := tmpl.Press(v.Edition).Body(v.Variant)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func mustMessage(t testing.TB, tmpl *Template, v issue) *Message {
	t.Helper()
	message, err := tmpl.Press(v.Edition).Message(v.Variant)
	if err != nil {
		t.Fatal(err)
	}
	return message
}
