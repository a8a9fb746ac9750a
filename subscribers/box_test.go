package subscribers

import (
	"encoding/json"
	"html"
	"io/fs"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"depesche/migrations"
	"depesche/migrations/dbtest"
	"depesche/templates"
)

const paper = "https://www.talbote.example"

// boxFields are the hidden fields of the snippet that /embed shows to be copied.
func (h *house) boxFields(path string) url.Values {
	h.t.Helper()
	shown := regexp.MustCompile(`(?s)<pre><code>(.*?)</code></pre>`).FindStringSubmatch(h.get(path).body)
	if shown == nil {
		h.t.Fatal("the page shows no snippet")
	}
	return page{body: html.UnescapeString(shown[1])}.hidden()
}

// fromPaper sends a form as a browser does that stands on the paper's page.
func (h *house) fromPaper(form url.Values, more ...string) page {
	h.t.Helper()
	return h.ask("POST", "/subscribe", form.Encode(), append([]string{
		formType, "Sec-Fetch-Site: cross-site", "Origin: " + paper, "Referer: " + paper + "/",
	}, more...)...)
}

func (h *house) requested(address string) Event {
	h.t.Helper()
	proof, err := h.Proof(h.t.Context(), address)
	if err != nil {
		h.t.Fatal(err)
	}
	if e := proof.Events[0]; e.Kind == Requested && e.Particulars != nil {
		return e
	}
	h.t.Fatalf("the first event is %+v, want the request", proof.Events[0])
	return Event{}
}

// What is recorded of a box are the words it showed, however old the copy in the paper's pages is.
func TestBoxRecordsTheWordsShown(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, nil)
		if err := h.KeepBoxes(t.Context(), h.now()); err != nil {
			t.Fatal(err)
		}
		copied := h.boxFields("/embed?newsletter=morgen")
		h.open(db, otherBox(t, "Melden Sie sich an!"), testSettings())
		fresh := h.boxFields("/embed?newsletter=morgen")
		if copied.Get("wording") == fresh.Get("wording") {
			t.Fatal("another text has the same hash")
		}
		copied.Set("email", "lena@wnoz.example")
		copied.Set("page", paper+"/ukraine/eu.html?session=1#x")
		if got := h.fromPaper(copied); got.status != http.StatusSeeOther {
			t.Fatalf("POST = %d\n%s", got.status, got.body)
		}
		e := h.requested("lena@wnoz.example")
		if e.Wording == nil || e.Wording.Kind != OnBox || !strings.Contains(e.Wording.Text, "willigen Sie ein") || e.Particulars.Unknown != "" {
			t.Errorf("words of an old box = %+v, %q", e.Wording, e.Particulars.Unknown)
		}
		if e.Particulars.Page != paper+"/ukraine/eu.html" {
			t.Errorf("page = %q", e.Particulars.Page)
		}
		fresh.Set("email", "omar@wnoz.example")
		h.fromPaper(fresh)
		if e := h.requested("omar@wnoz.example"); e.Wording == nil || !strings.Contains(e.Wording.Text, "Melden Sie sich an!") {
			t.Errorf("words of the new box = %+v", e.Wording)
		}
		if l := h.mail(); len(l) != 2 || strings.Join(l[0].Topics, ",") != "politik,sport,ukraine" {
			t.Errorf("letters = %+v, want two about all topics", l)
		}
	})
}

// otherBox is the templates with another box.
func otherBox(t *testing.T, words string) fs.FS {
	t.Helper()
	all := fstest.MapFS{}
	err := fs.WalkDir(templates.FS(""), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(templates.FS(""), path)
		all[path] = &fstest.MapFile{Data: data}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	box := all["web/de/box.html"]
	box.Data = []byte(strings.Replace(string(box.Data), "Mit der Anmeldung", words+" Mit der Anmeldung", 1))
	return all
}

// A box whose words nobody knows is recorded as that, and never with words it did not show.
func TestBoxOfUnknownWords(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		if err := h.KeepBoxes(t.Context(), h.now()); err != nil {
			t.Fatal(err)
		}
		for address, claimed := range map[string]string{
			"none@wnoz.example":  "",
			"odd@wnoz.example":   "<b>",
			"new@wnoz.example":   strings.Repeat("0", 64),
			"form@wnoz.example":  h.views.forms["morgen"].Hash, // words of our form, which was not shown
			"world@wnoz.example": h.views.boxes["world"].Hash,  // another newsletter's
		} {
			got := h.fromPaper(url.Values{"email": {address}, "newsletter": {"morgen"}, "wording": {claimed}})
			if got.status != http.StatusSeeOther {
				t.Fatalf("POST with the wording %q = %d", claimed, got.status)
			}
			want := claimed
			if len(claimed) != 64 {
				want = "none given"
			}
			if e := h.requested(address); e.Wording != nil || e.Particulars.Unknown != want {
				t.Errorf("%s: wording %+v, unknown %q, want none and %q", address, e.Wording, e.Particulars.Unknown, want)
			}
		}
	})
}

// A box for several newsletters signs up for the one that was chosen, and for none if none was.
func TestBoxToChooseFrom(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		fields := h.boxFields("/embed")
		fields.Set("email", "lena@wnoz.example")
		h.wantPage(h.fromPaper(fields), 422, "wählen Sie einen Newsletter")
		fields.Set("newsletter", "world")
		if got := h.fromPaper(fields); got.status != http.StatusSeeOther {
			t.Fatalf("POST = %d", got.status)
		}
		if l := h.letter(ConfirmLetter); l.Newsletter != "world" {
			t.Errorf("the letter is about %q, want world", l.Newsletter)
		}
		if e := h.requested("lena@wnoz.example"); e.Wording == nil || !strings.Contains(e.Wording.Text, "Talbote World") {
			t.Errorf("words = %+v", e.Wording)
		}
	})
}

// No box ticks anything beforehand, and each page says what it is for.
func TestEmbedPage(t *testing.T) {
	h := newHouse(t, dbtest.SQLite(t), func(s *Settings) { s.Origins = []string{paper} })
	for path, words := range map[string]string{
		"/embed": "Talbote World", "/embed?newsletter=morgen": "Krieg in der Ukraine", "/embed?newsletter=world": "Put the sign-up into your pages",
	} {
		got := h.get(path)
		h.wantPage(got, 200, words)
		if strings.Contains(got.body, "checked") || !strings.Contains(got.body, paper) {
			t.Errorf("%s ticks something, or does not name the paper's origin:\n%s", path, got.body)
		}
		if policy := got.header.Get("Content-Security-Policy"); !strings.Contains(policy, "script-src 'self'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: policy %q", path, policy)
		}
	}
	h.wantPage(h.get("/embed?newsletter=nacht"), 404, "Nicht gefunden")
	script := h.get("/embed.js")
	if len(script.body) >= 3<<10 || script.header.Get("Cross-Origin-Resource-Policy") != "cross-origin" ||
		!strings.HasPrefix(script.header.Get("Content-Type"), "text/javascript") {
		t.Errorf("the script has %d bytes, want less than 3 KiB: %v", len(script.body), script.header)
	}
	if regexp.MustCompile(`innerHTML|eval|document\.write|cookie|localStorage|https?:`).MatchString(script.body) {
		t.Error("the script does what a strict policy forbids, or asks somebody else")
	}
	h.wantPage(h.get("/embed.css"), 200, "--depesche-accent")
}

// The script gets the words in place: only on the configured origins may a page read them.
func TestBoxInPlace(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, func(s *Settings) { s.Origins = []string{paper} })
		fields := h.boxFields("/embed?newsletter=morgen")
		for address, want := range map[string]struct {
			status int
			words  string
		}{
			"lena@wnoz.example": {200, "sehen Sie in Ihr Postfach"},
			"lena":              {422, "fehlt das @"},
			"":                  {422, "geben Sie Ihre E-Mail-Adresse ein"},
		} {
			fields.Set("email", address)
			got := h.fromPaper(fields, "Accept: application/json")
			var said struct{ Text string }
			if err := json.Unmarshal([]byte(got.body), &said); err != nil {
				t.Fatalf("%q: %v in %q", address, err, got.body)
			}
			if got.status != want.status || !strings.Contains(said.Text, want.words) || strings.ContainsAny(said.Text, "<>&") {
				t.Errorf("%q = %d %q, want %d and %q", address, got.status, said.Text, want.status, want.words)
			}
			if got.header.Get("Access-Control-Allow-Origin") != paper || got.header.Get("Vary") != "Origin" ||
				got.header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("%q: headers %v", address, got.header)
			}
		}
		h.letter(ConfirmLetter)
	})
}

func TestForeignOrigins(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		s := testSettings()
		s.Origins = []string{paper}
		h.open(h.db, templates.FS(""), s)
		before := h.dump()
		const body = "email=lena@wnoz.example&newsletter=morgen"
		for _, origin := range []string{"https://evil.example", paper + ".evil.example", "http://www.talbote.example", "null"} {
			for _, accept := range []string{"text/html", "application/json"} {
				got := h.ask("POST", "/subscribe", body, formType, "Origin: "+origin, "Sec-Fetch-Site: cross-site", "Accept: "+accept)
				if got.status != http.StatusForbidden || got.header.Get("Access-Control-Allow-Origin") != "" {
					t.Errorf("a form from %s = %d %v", origin, got.status, got.header)
				}
			}
			options := h.ask("OPTIONS", "/subscribe", "", "Origin: "+origin, "Access-Control-Request-Method: POST")
			for name := range options.header {
				if options.status != 204 || strings.HasPrefix(name, "Access-Control") {
					t.Errorf("OPTIONS from %s = %d %v", origin, options.status, options.header)
				}
			}
		}
		if h.dump() != before {
			t.Error("a foreign page changed the database")
		}
		ours := h.ask("OPTIONS", "/subscribe", "", "Origin: "+paper, "Access-Control-Request-Method: POST")
		if ours.status != 204 || ours.header.Get("Access-Control-Allow-Origin") != paper ||
			ours.header.Get("Access-Control-Allow-Methods") != "POST" || ours.header.Get("Vary") != "Origin" {
			t.Errorf("OPTIONS from the paper = %d %v", ours.status, ours.header)
		}
		// Mail programs, old browsers and our own page.
		for _, headers := range [][]string{{formType}, {formType, "Origin: null"}, {formType, "Origin: null", "Sec-Fetch-Site: same-origin"}} {
			if got := h.ask("POST", "/subscribe", body, headers...); got.status != http.StatusSeeOther {
				t.Errorf("a form with %v = %d, want it taken", headers, got.status)
			}
		}
	})
}

// Without configured origins a box works from everywhere, and no script may read the answer.
func TestBoxWithoutOrigins(t *testing.T) {
	h := newHouse(t, dbtest.SQLite(t), nil)
	got := h.fromPaper(url.Values{"email": {"lena@wnoz.example"}})
	if got.status != http.StatusSeeOther || got.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("POST = %d %v", got.status, got.header)
	}
}

// A page cannot say it was another site's.
func TestBoxPage(t *testing.T) {
	h := newHouse(t, dbtest.SQLite(t), nil)
	for _, test := range []struct{ referer, origin, said, want string }{
		{paper + "/a?b#c", paper, "", paper + "/a"},
		{paper + "/", paper, paper + "/a?b", paper + "/a"},
		{"", paper, paper + "/a", paper + "/a"},
		{paper + "/", paper, "https://other.example/a", paper + "/"},
		{"", "", "https://other.example/a", ""},
		{"", "null", "javascript:alert(1)", ""},
	} {
		r, err := http.NewRequest("POST", "/subscribe", strings.NewReader(url.Values{"page": {test.said}}.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{
			"Content-Type": "application/x-www-form-urlencoded", "Referer": test.referer, "Origin": test.origin,
		} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		if err := r.ParseForm(); err != nil {
			t.Fatal(err)
		}
		p := &pages{Registry: h.Registry}
		if got := p.boxPage(r); got != test.want {
			t.Errorf("%+v: page %q", test, got)
		}
	}
}
