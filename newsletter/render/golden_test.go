package render

import (
	"net/mail"
	"strings"
	"testing"
	"time"
)

const (
	unsubscribeToken = "ku7Qm-0aZ_xK3vN5pR8tB1cD4eF6gH9jL2mS7wY0zAaB"
	preferencesToken = "k-pC4eG6iK8mO0qS2uW4yA6cE8gI0kM2oQ4sU6wY8aC_"
	actionToken      = "kaD5fH7jL9nP1rT3vX5zB7dF9hJ1lN3pR5tV7xZ9bD_-"
)

var header = Header{
	From:    mail.Address{Name: "Elbtal-Bote, Meißen", Address: "morgen@elbtal-bote.example"},
	ReplyTo: mail.Address{Name: "Redaktion", Address: "redaktion@elbtal-bote.example"},
	List:    List{Title: "Elbtal am Morgen", ID: "morgen.news.elbtal-bote.example"},
	Domain:  "news.elbtal-bote.example", Date: time.Date(2026, 2, 11, 6, 0, 0, 0, berlin), Language: "de",
	UnsubscribeBase: "https://news.elbtal-bote.example/u/",
}

var letterHeader = Header{
	From:   mail.Address{Name: "Elbtal-Bote", Address: "anmeldung@elbtal-bote.example"},
	Domain: "news.elbtal-bote.example", Date: time.Date(2026, 2, 11, 6, 0, 0, 0, berlin), Language: "de",
}

var reader = Personal{
	To: "leser@xn--mller-kva.example", MessageID: []byte("d1-7f3a_r42"), Unsubscribe: []byte(unsubscribeToken),
	Preferences: []byte(preferencesToken), Action: []byte(actionToken), Since: time.Date(2025, 12, 3, 0, 0, 0, 0, berlin),
}

func spliced(t testing.TB, h Header, b Body, p Personal) string {
	t.Helper()
	message, err := Build(h, b)
	if err != nil {
		t.Fatal(err)
	}
	return splicedFor(t, message, p)
}

func splicedFor(t testing.TB, m *Message, p Personal) string {
	t.Helper()
	raw, err := m.Splice(nil, &p)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestGoldenDigest(t *testing.T) {
	for _, c := range []struct {
		language string
		title    Text
		topics   []struct {
			topic   Text
			entries []Entry
		}
	}{
		{"de", "Elbtal am Morgen", germanEntries},
		{"en", "Elbe Valley Morning", englishEntries},
	} {
		tmpl := mustParse(t, c.language, Digest)
		v := variantOf(t, tmpl, c.title, c.topics)
		body := mustVariant(t, tmpl, v)
		golden(t, c.language+".digest.html", body.HTML)
		golden(t, c.language+".digest.txt", body.Text)
		golden(t, c.language+".digest.web.html", body.Web())
		golden(t, c.language+".digest.eml", splicedFor(t, mustMessage(t, tmpl, v), reader))
		for _, finding := range Lint(body) {
			t.Errorf("%s digest: %s", c.language, finding)
		}
	}
}

func letters() Letter {
	return Letter{
		Newsletter: Newsletter{Title: "Elbtal am Morgen", BaseURL: "https://news.elbtal-bote.example"}, Brand: brand,
		Topics: []Text{"Politik", "Kultur & Leben"}, Requested: time.Date(2026, 2, 10, 17, 41, 8, 0, berlin),
		Action: "https://news.elbtal-bote.example/c/", DeleteDays: 7,
	}
}

func TestGoldenLetters(t *testing.T) {
	for _, language := range []string{"de", "en"} {
		for _, name := range []string{"confirm", "change", "link", "data"} {
			body, err := mustParse(t, language, name).Letter(letters())
			if err != nil {
				t.Fatal(err)
			}
			golden(t, language+"."+name+".html", body.HTML)
			golden(t, language+"."+name+".txt", body.Text)
			golden(t, language+"."+name+".eml", spliced(t, letterHeader, body, reader))
			for _, finding := range Lint(body) {
				t.Errorf("%s %s: %s", language, name, finding)
			}
		}
	}
}

// A confirmation that advertised would be advertising without consent (standards D11 to D13).
func TestConfirmationIsPlain(t *testing.T) {
	for _, language := range []string{"de", "en"} {
		body, err := mustParse(t, language, "confirm").Letter(letters())
		if err != nil {
			t.Fatal(err)
		}
		links := linksOf(t, body.HTML)
		want := []string{
			"https://news.elbtal-bote.example/c/" + ActionMark, string(brand.Privacy), string(brand.Imprint),
		}
		if strings.Join(links, " ") != strings.Join(want, " ") {
			t.Errorf("%s: links = %v, want %v", language, links, want)
		}
		for _, word := range []string{"<img", "Willkommen", "Welcome", "Fragen?", "elbtal-bote.example/w"} {
			if strings.Contains(body.HTML+body.Text, word) {
				t.Errorf("%s: confirmation holds %q", language, word)
			}
		}
		for _, word := range []string{"ewsletter", "Elbtal am Morgen", "Politik, Kultur & Leben", "17:41", "7 "} {
			if !strings.Contains(squeezed(body.Text), word) {
				t.Errorf("%s: confirmation lacks %q:\n%s", language, word, body.Text)
			}
		}
	}
}
