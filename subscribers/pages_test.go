package subscribers

import (
	"bytes"
	"io"
	"mime/multipart"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"depesche/migrations"
	"depesche/migrations/dbtest"
	"depesche/templates"
)

// page is what a browser got.
type page struct {
	status int
	header http.Header
	body   string
}

// ask sends a request through a real connection and follows no redirect. Headers are given as "Name: value".
func (h *house) ask(method, path, body string, headers ...string) page {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), method, h.server.URL+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Set(name, value)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return page{response.StatusCode, response.Header, string(text)}
}

const formType = "Content-Type: application/x-www-form-urlencoded"

func (h *house) get(path string) page { return h.ask("GET", path, "") }

// press sends a form of ours as a browser does.
func (h *house) press(path string, form url.Values) page {
	return h.ask("POST", path, form.Encode(), formType, "Sec-Fetch-Site: same-origin", "Origin: null")
}

func (h *house) wantPage(got page, status int, words string) {
	h.t.Helper()
	if got.status != status || !strings.Contains(got.body, words) {
		h.t.Fatalf("status %d, want %d and %q in:\n%s", got.status, status, words, got.body)
	}
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="([a-z]+)" value="([^"]*)">`)

// hidden are the fields of a form that readers do not see.
func (p page) hidden() url.Values {
	form := url.Values{}
	for _, field := range hiddenField.FindAllStringSubmatch(p.body, -1) {
		form.Set(field[1], field[2])
	}
	return form
}

func TestWholeJourney(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		form := h.get("/?newsletter=morgen")
		h.wantPage(form, 200, "Talbote am Morgen")
		if strings.Contains(form.body, " checked") {
			t.Error("a topic is ticked beforehand")
		}
		fields := form.hidden()
		fields.Set("email", "Lena@wnoz.example")
		fields["topic"] = []string{"politik", "sport"}
		sent := h.press("/subscribe", fields)
		if sent.status != 303 || sent.header.Get("Location") != "/check-your-mail?newsletter=morgen" {
			t.Fatalf("POST /subscribe = %d %q", sent.status, sent.header.Get("Location"))
		}
		h.wantPage(h.get(sent.header.Get("Location")), 200, "Postfach")

		l := h.letter(ConfirmLetter)
		path := strings.TrimPrefix(l.Action, "https://news.talbote.example") + l.Token
		confirm := h.get(path)
		h.wantPage(confirm, 200, "Themen: Politik, Sport")
		h.wantAudience("before the button")
		h.wantPage(h.press(path, confirm.hidden()), 200, "Sie sind angemeldet")
		h.wantPage(h.press(path, confirm.hidden()), 200, "Sie sind angemeldet")
		h.wantPage(h.get(path), 200, "Sie sind angemeldet")
		h.wantAudience("after the button", "Lena@wnoz.example")

		path = "/preferences/morgen/" + h.token(ToPrefer, l.Address)
		preferences := h.get(path)
		h.wantPage(preferences, 200, "L…@wnoz.example")
		h.wantPage(preferences, 200, `value="sport" checked`)
		if strings.Contains(strings.ToLower(preferences.body), "lena@") {
			t.Error("the preferences show the address to whoever has the link")
		}
		h.wantPage(h.press(path, url.Values{"topic": {"ukraine"}}), 200, `value="ukraine" checked`)
		h.wantPage(h.press(path, url.Values{"topic": {"ukraine"}}), 200, "Gespeichert")
		h.wantPage(h.press(path, nil), 422, "mindestens ein Thema")
		h.wantPage(h.press(path, url.Values{"topic": {"kochen"}}), 422, "Fehler: ")

		path = "/unsubscribe/morgen/" + h.token(ToUnsubscribe, l.Address)
		h.wantPage(h.get(path), 200, "Talbote am Morgen")
		gone := h.press(path, nil)
		h.wantPage(gone, 200, "Sie sind abgemeldet")
		h.wantAudience("after leaving")
		h.wantPage(h.get("/preferences/morgen/"+h.token(ToPrefer, l.Address)), 410, "abgelaufen")
		resume := regexp.MustCompile(`action="(/resume/[^"]+)"`).FindStringSubmatch(gone.body)
		if resume == nil {
			t.Fatalf("there is no way back in:\n%s", gone.body)
		}
		h.wantPage(h.press(resume[1], nil), 200, "wieder angemeldet")
		h.wantAudience("after the undo", "Lena@wnoz.example")
		h.wantEvents(l.Address, Requested, Mailed, Confirmed, Changed, Withdrawn, Resumed)
		h.wantPages(l.Address)
		h.server.Close() // after that nothing more is logged
		for _, secret := range []string{l.Token, "wnoz", path} {
			if strings.Contains(h.logged.String(), secret) {
				t.Errorf("the log has %q", secret)
			}
		}
	})
}

// wantPages wants each event to name the page where the button was, and no link.
func (h *house) wantPages(address string) {
	h.t.Helper()
	proof, err := h.Proof(h.t.Context(), address)
	if err != nil {
		h.t.Fatal(err)
	}
	var got []string
	for _, e := range proof.Events {
		got = append(got, strings.TrimPrefix(e.Particulars.Page, "https://news.talbote.example"))
	}
	if want := []string{"/", "", "/confirm", "/preferences", "/unsubscribe", "/resume"}; !slices.Equal(got, want) {
		h.t.Errorf("pages of the events = %q, want %q", got, want)
	}
	if e := proof.Events[0]; e.Wording == nil || !strings.Contains(e.Wording.Text, "willigen Sie ein") {
		h.t.Errorf("words of the form = %+v", e.Wording)
	}
}

// Scanners open every link, with every method that is safe. Nothing may come of it.
func TestScannersChangeNothing(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.subscribe("active@wnoz.example")
		h.signUp("pending@wnoz.example")
		l := h.letter(ConfirmLetter)
		var paths []string
		for _, address := range []string{"active@wnoz.example", "pending@wnoz.example"} {
			for _, p := range []Purpose{ToPrefer, ToUnsubscribe, ToResume} {
				paths = append(paths, "/"+string(p)+"/morgen/"+h.token(p, address))
			}
		}
		paths = append(paths, "/confirm/morgen/"+l.Token, "/", "/check-your-mail", "/subscribe?email=x@wnoz.example", "/healthz")
		before := h.dump()
		for range 20 {
			for _, path := range paths {
				for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
					if got := h.ask(method, path, "", "User-Agent: scanner"); got.status >= 500 {
						t.Fatalf("%s %s = %d", method, path, got.status)
					}
				}
			}
		}
		if h.dump() != before {
			t.Error("a request that must be safe changed the database")
		}
	})
}

func TestOneClick(t *testing.T) {
	body, contentType := multipartForm(t, "List-Unsubscribe", "One-Click")
	encodings := map[string][2]string{
		"urlencoded": {"List-Unsubscribe=One-Click", formType},
		"multipart":  {body, "Content-Type: " + contentType},
	}
	for name, encoding := range encodings {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, h *house) {
				address := "lena@wnoz.example"
				h.subscribe(address)
				path := "/unsubscribe/morgen/" + h.token(ToUnsubscribe, address)
				for range 3 {
					got := h.ask("POST", path, encoding[0], encoding[1], "Origin: https://evil.example", "Sec-Fetch-Site: cross-site")
					h.wantPage(got, 200, "Sie sind abgemeldet")
					if origin := got.header.Get("Access-Control-Allow-Origin"); origin != "*" {
						t.Errorf("Access-Control-Allow-Origin = %q", origin)
					}
					if len(got.header.Values("Set-Cookie")) > 0 {
						t.Error("a cookie was set")
					}
				}
				h.wantAudience("after one click")
				h.wantEvents(address, Requested, Mailed, Confirmed, Withdrawn)
				proof, err := h.Proof(t.Context(), address)
				if err != nil || proof.Events[3].Particulars.How != string(ByOneClick) {
					t.Errorf("Proof = %+v, %v, want the channel one-click", proof.Events, err)
				}
				options := h.ask("OPTIONS", path, "", "Origin: https://mail.example")
				if options.status != 204 || options.header.Get("Access-Control-Allow-Methods") != "POST" {
					t.Errorf("OPTIONS = %d %v", options.status, options.header)
				}
			})
		})
	}
}

func multipartForm(t *testing.T, name, value string) (body, contentType string) {
	t.Helper()
	var out bytes.Buffer
	w := multipart.NewWriter(&out)
	if err := w.WriteField(name, value); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String(), w.FormDataContentType()
}

// Links work for newsletters that are no longer published: whoever wants to leave can.
func TestUnsubscribeOutlivesTheNewsletter(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, nil)
		h.subscribe("lena@wnoz.example")
		s := testSettings()
		s.Newsletters = s.Newsletters[1:]
		h.open(db, templates.FS(""), s)
		path := "/unsubscribe/morgen/" + h.token(ToUnsubscribe, "lena@wnoz.example")
		h.wantPage(h.get(path), 200, "morgen")
		h.wantPage(h.press(path, nil), 200, "abgemeldet")
		h.wantAudience("after leaving")
	})
}

func TestForgedLinks(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.subscribe("lena@wnoz.example")
		h.signUp("omar@wnoz.example")
		l := h.letter(ConfirmLetter)
		before := h.dump()
		paths := map[string]string{"/confirm/morgen/": l.Token}
		for _, p := range []Purpose{ToPrefer, ToUnsubscribe, ToResume} {
			paths["/"+string(p)+"/morgen/"] = h.token(p, "lena@wnoz.example")
		}
		for path, token := range paths {
			for i := 0; i < len(token); i += 5 {
				c := "A"
				if token[i] == 'A' {
					c = "B"
				}
				forged := path + token[:i] + c + token[i+1:]
				h.wantPage(h.press(forged, url.Values{"topic": {"sport"}}), 404, "Nicht gefunden")
				if path != "/resume/morgen/" {
					h.wantPage(h.get(forged), 404, "Nicht gefunden")
				}
			}
			other := strings.Replace(path, "morgen", "world", 1) + token
			h.wantPage(h.press(other, url.Values{"topic": {"sport"}}), 404, "Not found")
		}
		if h.dump() != before {
			t.Error("a forged link changed the database")
		}
	})
}

// Buttons of our pages work on our pages only.
func TestOtherSitesCannotPressOurButtons(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.subscribe("lena@wnoz.example")
		h.signUp("omar@wnoz.example")
		l := h.letter(ConfirmLetter)
		before := h.dump()
		for _, path := range []string{
			"/confirm/morgen/" + l.Token,
			"/preferences/morgen/" + h.token(ToPrefer, "lena@wnoz.example"),
			"/resume/morgen/" + h.token(ToResume, "lena@wnoz.example"),
		} {
			got := h.ask("POST", path, "topic=sport", formType, "Origin: https://evil.example", "Sec-Fetch-Site: cross-site")
			h.wantPage(got, 403, "<h1>")
		}
		if h.dump() != before {
			t.Error("another site changed the database")
		}
	})
}

// Nobody can find out by the form who reads.
func TestSameAnswerForEveryAddress(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.subscribe("active@wnoz.example")
		h.subscribe("bounced@wnoz.example")
		h.bounce("bounced@wnoz.example")
		h.subscribe("gone@wnoz.example")
		if _, err := h.UnsubscribeAddress(t.Context(), h.now(), "gone@wnoz.example", ByObjection); err != nil {
			t.Fatal(err)
		}
		h.signUp("pending@wnoz.example")
		var first string
		for _, name := range []string{"unknown", "pending", "active", "bounced", "gone", "abuse"} {
			answer := h.ask("POST", "/subscribe", "email="+name+"@wnoz.example", formType)
			next := h.get(answer.header.Get("Location"))
			answer.header.Del("Date")
			next.header.Del("Date")
			var all strings.Builder
			for _, p := range []page{answer, next} {
				all.WriteString(http.StatusText(p.status) + p.body)
				if err := p.header.Write(&all); err != nil {
					t.Fatal(err)
				}
			}
			if first == "" {
				first = all.String()
			}
			if all.String() != first {
				t.Errorf("the answer for the %s address differs:\n%s\nwant\n%s", name, all.String(), first)
			}
		}
	})
}

func TestFormErrors(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		before := h.dump()
		fields := h.get("/").hidden()
		fields.Set("email", `<b>"lena`)
		fields["topic"] = []string{"sport"}
		got := h.press("/subscribe", fields)
		h.wantPage(got, 422, "<title>Fehler: ")
		for _, want := range []string{
			`value="&lt;b&gt;&#34;lena"`, `aria-invalid="true" aria-describedby="email-error"`, `id="email-error"`,
			`role="alert"`, `value="sport" aria-describedby="topics-hint" checked`,
		} {
			if !strings.Contains(got.body, want) {
				t.Errorf("the form lacks %q:\n%s", want, got.body)
			}
		}
		for body, words := range map[string]string{
			"email=":                          "geben Sie Ihre E-Mail-Adresse ein",
			"email=lena":                      "fehlt das @",
			"email=a@x.example,b@x.example":   "nur eine E-Mail-Adresse",
			"email=lena@x":                    "fehlt die Endung",
			"email=lena@x.example&topic=y":    "Thema gibt es nicht mehr",
			"email=lena@x.example&stamp=AAAA": "lange geöffnet",
			"email=lena&newsletter=world":     "Error: ",
			"email=a%00@x.example":            "prüfen Sie",
			"email=a@x.example%0d%0aBcc:b@c":  "prüfen Sie",
		} {
			h.wantPage(h.ask("POST", "/subscribe", body, formType), 422, words)
		}
		stale := h.ask("POST", "/subscribe", "email=lena@x.example&stamp=AAAA", formType)
		if strings.Contains(stale.body, "aria-invalid") {
			t.Error("the address is said to be wrong where it is not")
		}
		h.wantPage(h.ask("POST", "/subscribe", "email=lena@x.example&newsletter=nacht", formType), 404, "Nicht gefunden")
		h.wantPage(h.ask("POST", "/subscribe", "email=%zz", formType), 400, "<h1>")
		if h.dump() != before {
			t.Error("a wrong form changed the database")
		}
	})
}

// Robots get the answer that people get, and no letter.
func TestRobots(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, func(s *Settings) { s.MinFill = 2 * time.Second })
		fields := h.get("/").hidden()
		fields.Set("email", "lena@wnoz.example")
		if got := h.press("/subscribe", fields); got.status != 303 {
			t.Errorf("a form sent too fast = %d", got.status)
		}
		h.later(3 * time.Second)
		fields.Set("fax", "1")
		if got := h.press("/subscribe", fields); got.status != 303 {
			t.Errorf("a form with the trap filled in = %d", got.status)
		}
		if n := h.count(`SELECT COUNT(*) FROM letters`); n != 0 {
			t.Errorf("letters to robots = %d", n)
		}
		fields.Del("fax")
		if got := h.press("/subscribe", fields); got.status != 303 || h.count(`SELECT COUNT(*) FROM letters`) != 1 {
			t.Errorf("a form filled in by a person = %d", got.status)
		}
		h.later(25 * time.Hour)
		h.wantPage(h.press("/subscribe", fields), 422, "lange geöffnet")
	})
}

func TestThrottledSignUps(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, func(s *Settings) {
			s.PerNetwork = 2
			s.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		})
		from := func(ip string) page {
			return h.ask("POST", "/subscribe", "email=lena@wnoz.example", formType, "X-Forwarded-For: "+ip)
		}
		for _, ip := range []string{"203.0.113.1", "203.0.113.1", "203.0.113.2"} {
			if got := from(ip); got.status != 303 {
				t.Errorf("from %s = %d", ip, got.status)
			}
		}
		got := from("203.0.113.1")
		h.wantPage(got, 429, "Zu viele Anmeldungen")
		if wait := got.header.Get("Retry-After"); !regexp.MustCompile(`^[1-9][0-9]?$`).MatchString(wait) {
			t.Errorf("Retry-After = %q", wait)
		}
		h.later(time.Minute)
		if got := from("203.0.113.1"); got.status != 303 {
			t.Errorf("a minute later = %d", got.status)
		}
		h = newHouse(t, db, func(s *Settings) { s.PerNetwork = 1 })
		from("203.0.113.1")
		if got := from("203.0.113.2"); got.status != 429 {
			t.Errorf("a made-up X-Forwarded-For is believed: %d", got.status)
		}
	})
}

func TestRefusedRequests(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		big := "email=" + strings.Repeat("a", 10<<20)
		for _, test := range []struct {
			method, path, body, contentType string
			status                          int
		}{
			{"POST", "/subscribe", big, formType, 413},
			{"POST", "/subscribe", `{"email":"a@x.example"}`, "Content-Type: application/json", 415},
			{"POST", "/subscribe", "email=a@x.example", "Content-Type: text/plain", 415},
			{"POST", "/subscribe", "x", "Content-Type: multipart/form-data", 400},
			{"GET", "/subscribe", "", formType, 405},
			{"DELETE", "/", "", formType, 405},
			{"PUT", "/unsubscribe/morgen/x", "", formType, 405},
			{"GET", "/resume/morgen/x", "", formType, 405},
			{"GET", "/nothing", "", formType, 404},
			{"GET", "/?newsletter=nacht", "", formType, 404},
			{"POST", "/confirm/morgen/x", "", formType, 404},
		} {
			got := h.ask(test.method, test.path, test.body, test.contentType)
			if got.status != test.status || !strings.Contains(got.body, "<h1>") {
				t.Errorf("%s %s (%s) = %d, want %d and a page", test.method, test.path, test.contentType, got.status, test.status)
			}
			if allow := got.header.Get("Allow"); (allow != "") != (test.status == 405) {
				t.Errorf("%s %s: Allow = %q", test.method, test.path, allow)
			}
		}
	})
}

func TestHeadersOfTokenPages(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.subscribe("lena@wnoz.example")
		h.signUp("omar@wnoz.example")
		l := h.letter(ConfirmLetter)
		for _, path := range []string{
			"/confirm/morgen/" + l.Token,
			"/preferences/morgen/" + h.token(ToPrefer, "lena@wnoz.example"),
			"/unsubscribe/morgen/" + h.token(ToUnsubscribe, "lena@wnoz.example"),
			"/confirm/morgen/forged",
		} {
			got := h.get(path)
			for name, want := range map[string]string{
				"Content-Security-Policy":   "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
				"Referrer-Policy":           "no-referrer",
				"Cache-Control":             "no-store",
				"X-Robots-Tag":              "noindex",
				"X-Content-Type-Options":    "nosniff",
				"Strict-Transport-Security": "max-age=31536000",
				"Content-Type":              "text/html; charset=utf-8",
				"Set-Cookie":                "",
			} {
				if value := got.header.Get(name); value != want {
					t.Errorf("%s of %s = %q, want %q", name, path[:12], value, want)
				}
			}
			if regexp.MustCompile(`<(script|img|iframe)|\s(src|style|on[a-z]+)=`).MatchString(got.body) {
				t.Errorf("%s has a script, a picture or a style of its own:\n%s", path[:12], got.body)
			}
		}
	})
}

func TestStyleSheetIsCached(t *testing.T) {
	h := newHouse(t, dbtest.SQLite(t), nil)
	address := regexp.MustCompile(`href="(/style.css[^"]*)"`).FindStringSubmatch(h.get("/").body)
	if address == nil {
		t.Fatal("the form has no style sheet")
	}
	got := h.get(address[1])
	h.wantPage(got, 200, "--brand: #1f4e79")
	if cache := got.header.Get("Cache-Control"); !strings.Contains(cache, "immutable") {
		t.Errorf("Cache-Control = %q", cache)
	}
	h.wantPage(h.get("/healthz"), 200, "ok")
}

// A link that ran out leads to a new sign-up.
func TestExpiredLetter(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.signUp("lena@wnoz.example")
		l := h.letter(ConfirmLetter)
		h.later(7*day + time.Minute)
		for _, got := range []page{h.get("/confirm/morgen/" + l.Token), h.press("/confirm/morgen/"+l.Token, nil)} {
			h.wantPage(got, 410, `href="/?newsletter=morgen"`)
		}
		h.wantAudience("after an expired link")
	})
}

// Whoever has the page open while its words change sees the new ones before anything is recorded.
func TestConfirmShowsNewWordsFirst(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.signUp("lena@wnoz.example")
		path := "/confirm/morgen/" + h.letter(ConfirmLetter).Token
		old := url.Values{"wording": {strings.Repeat("0", 64)}}
		again := h.press(path, old)
		h.wantPage(again, 200, "Anmeldung bestätigen")
		h.wantAudience("after the old words")
		h.wantPage(h.press(path, again.hidden()), 200, "Sie sind angemeldet")
	})
}

// 20 people press the buttons of the pages at once.
func TestParallelPages(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		post := func(path, body string) error {
			response, err := http.Post(h.server.URL+path, "application/x-www-form-urlencoded", strings.NewReader(body))
			if err == nil {
				err = response.Body.Close()
			}
			if err == nil && response.StatusCode != 200 { // 303 was followed
				t.Errorf("POST = %s", response.Status)
			}
			return err
		}
		together(t, 20, func(int) error { return post("/subscribe", "email=lena@wnoz.example") })
		l := h.letter(ConfirmLetter)
		together(t, 20, func(int) error { return post("/confirm/morgen/"+l.Token, "") })
		h.wantAudience("after 20 confirmations", "lena@wnoz.example")
		h.wantEvents("lena@wnoz.example", Requested, Mailed, Confirmed)
	})
}

// What panics becomes a page, and the log does not learn whose.
func TestPanic(t *testing.T) {
	h := newHouse(t, dbtest.SQLite(t), nil)
	p := &pages{Registry: h.Registry, now: h.now, log: h.log()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /panic/{token}", func(http.ResponseWriter, *http.Request) { panic("boom") })
	h.server.Config.Handler = p.around(mux)
	h.wantPage(h.get("/panic/secret"), 500, "Vorübergehende Störung")
	h.server.Close()
	if logged := h.logged.String(); !strings.Contains(logged, "/panic/{token}") || strings.Contains(logged, "secret") {
		t.Errorf("log = %s", logged)
	}
}
