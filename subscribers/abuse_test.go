package subscribers

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"depesche/migrations"
	"depesche/migrations/dbtest"
	"depesche/templates"
)

// 5,000 sign-ups for one address from 5,000 networks, by every door and for both newsletters, over a fortnight in which
// unconfirmed ones are deleted: three mails.
func TestThreeLettersAFortnight(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, func(s *Settings) {
			s.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		})
		signUps := 5000
		if db.Kind == migrations.PostgreSQL {
			signUps = 1000 // the same code, five round trips each
		}
		form := h.get("/").hidden()
		var mailed []time.Time
		for i := range signUps {
			h.clock.Store(morning.Add(time.Duration(i) * postmarkAge / time.Duration(signUps)).UnixMilli())
			if got := h.bombard(i, form); got.status != 303 {
				t.Fatalf("sign-up %d = %d:\n%s", i, got.status, got.body)
			}
			if i%20 == 0 {
				form = h.get("/").hidden()
				for range h.mail() {
					mailed = append(mailed, h.now())
				}
			}
			if i%100 == 0 {
				if _, err := h.Purge(t.Context(), h.now()); err != nil {
					t.Fatal(err)
				}
			}
		}
		if h.mail(); len(mailed) != maxPostmarks {
			t.Errorf("mails to one address in a fortnight = %d at %v, want %d", len(mailed), mailed, maxPostmarks)
		}
		for i := 1; i < len(mailed); i++ {
			if gap := mailed[i].Sub(mailed[i-1]); gap < day-time.Minute {
				t.Errorf("two mails within %v", gap)
			}
		}
		if n := h.count(`SELECT COUNT(*) FROM consents WHERE kind = 'requested'`); n > maxPostmarks {
			t.Errorf("requests in the ledger = %d: sign-ups without a letter fill it", n)
		}
	})
}

// bombard signs one address up from the network with that number, by one door after the other.
func (h *house) bombard(i int, form url.Values) page {
	from := fmt.Sprintf("X-Forwarded-For: 2001:db8:%x:%x::1", i>>12, i&0xfff)
	address := []string{"lena@wnoz.example", "LENA@wnoz.example", " Lena@WNOZ.example"}[i%3]
	newsletter := []string{"morgen", "world"}[i/2%2]
	switch i % 4 {
	case 0:
		box, contentType := multipartForm(h.t, "email", address)
		return h.ask("POST", "/subscribe", box, "Content-Type: "+contentType, from)
	case 1:
		form.Set("email", address)
		return h.ask("POST", "/subscribe", form.Encode(), formType, from)
	}
	body := url.Values{"email": {address}, "newsletter": {newsletter}}.Encode()
	return h.ask("POST", "/subscribe", body, formType, from, "Origin: https://talbote.example")
}

// A second newsletter on the same day is asked for when the day is over, and not lost.
func TestSecondNewsletterIsAskedForTheNextDay(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		address := "lena@wnoz.example"
		for _, newsletter := range []string{"morgen", "world", "world"} {
			if err := h.SignUp(t.Context(), h.now(), SignUp{Address: address, Newsletter: newsletter}); err != nil {
				t.Fatal(err)
			}
		}
		if l := h.letter(ConfirmLetter); l.Newsletter != "morgen" {
			t.Errorf("the first letter is about %s", l.Newsletter)
		}
		h.later(day - time.Minute)
		if letters := h.mail(); len(letters) != 0 {
			t.Errorf("two letters within a day: %+v", letters)
		}
		h.later(2 * time.Minute)
		l := h.letter(ConfirmLetter)
		if err := h.Confirm(t.Context(), h.now(), "world", l.Token, Visit{}); err != nil || l.Newsletter != "world" {
			t.Errorf("Confirm of %s = %v", l.Newsletter, err)
		}
		h.wantAudience("after the second confirmation", address)
	})
}

// Who unsubscribed and wants back on the same day waits for the letter until tomorrow.
func TestBackOnTheSameDay(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		address := "lena@wnoz.example"
		h.subscribe(address)
		h.later(time.Hour)
		if err := h.Unsubscribe(t.Context(), h.now(), "morgen", h.token(ToUnsubscribe, address), ByOneClick, Visit{}); err != nil {
			t.Fatal(err)
		}
		h.later(time.Hour)
		h.signUp(address)
		if letters := h.mail(); len(letters) != 0 {
			t.Errorf("a second confirmation on one day: %+v", letters)
		}
		h.later(day)
		l := h.letter(ConfirmLetter)
		if err := h.Confirm(t.Context(), h.now(), "morgen", l.Token, Visit{}); err != nil {
			t.Error(err)
		}
	})
}

// What outlives the deletion of an unconfirmed sign-up: limits and objections, but no address.
func TestDeletedSignUpsAreRemembered(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		objector := "omar@wnoz.example"
		if _, err := h.UnsubscribeAddress(t.Context(), h.now(), objector, ByObjection); err != nil {
			t.Fatal(err)
		}
		h.later(time.Hour)
		h.signUp(objector)
		h.letter(ConfirmLetter)
		for range 4 {
			h.later(8 * day)
			if _, err := h.Purge(t.Context(), h.now()); err != nil {
				t.Fatal(err)
			}
			h.signUp(objector)
			if letters := h.mail(); len(letters) != 0 {
				t.Fatalf("a second letter after an objection: %+v", letters)
			}
			if n := h.count(`SELECT COUNT(*) FROM subscribers WHERE address IS NOT NULL`); n != 0 {
				t.Errorf("addresses kept of somebody who is mailed nothing = %d", n)
			}
		}
	})
}

// What was kept before the answer is decided by whoever comes next, if the process died in between.
func TestKeptSignUpsOutliveTheProcess(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, nil)
		page := Visit{Page: "https://talbote.example/", IP: parseIP(t, "203.0.113.77")}
		for i := range 100 {
			s := SignUp{Address: fmt.Sprintf("leser%d@wnoz.example", i), Topics: []string{"sport"}, Visit: page}
			if err := h.SignUp(t.Context(), h.now(), s); err != nil {
				t.Fatal(err)
			}
		}
		h.open(db, templates.FS(""), testSettings())
		h.later(time.Hour)
		if letters := h.mail(); len(letters) != 100 {
			t.Errorf("letters after a restart = %d, want 100", len(letters))
		}
		proof, err := h.Proof(t.Context(), "leser7@wnoz.example")
		if err != nil || len(proof.Events) != 2 {
			t.Fatalf("Proof = %+v, %v", proof, err)
		}
		e := proof.Events[0]
		if p := e.Particulars; p.Page != page.Page || p.IP != "203.0.113.0/24" || !slices.Equal(p.Topics, []string{"sport"}) ||
			p.Address != "leser7@wnoz.example" || e.At.After(morning.Add(time.Minute)) {
			t.Errorf("event = %+v %+v, want all of the form, and its time", e, p)
		}
		if n := h.count(`SELECT COUNT(*) FROM slips`); n != 0 {
			t.Errorf("slips left = %d", n)
		}
	})
}

// Many at once, some of them for the same address, by two processes: nobody is lost, nobody gets two letters.
func TestManySignUpsAtOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, nil)
		other, err := New(db, loadKeys(t, h.keyFile), templates.FS(""), testSettings())
		if err != nil {
			t.Fatal(err)
		}
		together(t, 200, func(i int) error {
			r := []*Registry{h.Registry, other}[i%2]
			if err := r.SignUp(t.Context(), h.now(), SignUp{Address: fmt.Sprintf("leser%d@wnoz.example", i%150)}); err != nil {
				return err
			}
			return r.Admit(t.Context())
		})
		if n := h.count(`SELECT COUNT(*) FROM letters`); n != 150 {
			t.Errorf("letters = %d, want 150", n)
		}
		if n := h.count(`SELECT COUNT(*) FROM consents WHERE kind = 'requested'`); n != 150 {
			t.Errorf("requests = %d, want 150", n)
		}
	})
}

// states brings addresses into every state there is; the last one is unknown.
func (h *house) states() []string {
	h.t.Helper()
	h.subscribe("active@wnoz.example")
	h.subscribe("bounced@wnoz.example")
	h.bounce("bounced@wnoz.example")
	h.subscribe("objected@wnoz.example")
	if _, err := h.UnsubscribeAddress(h.t.Context(), h.now(), "objected@wnoz.example", ByObjection); err != nil {
		h.t.Fatal(err)
	}
	h.signUp("pending@wnoz.example")
	h.mail()
	return []string{"active@wnoz.example", "bounced@wnoz.example", "objected@wnoz.example", "pending@wnoz.example", "unknown@wnoz.example"}
}

// The door looks nothing up: it answers while nobody can read the database, and what it writes is a slip, whatever the state
// of the address. So its answer cannot depend on that, in time or otherwise.
func TestTheDoorLooksNothingUp(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		if h.db.Kind != migrations.SQLite {
			return // reading and writing share one pool
		}
		states := h.states()
		before := h.tables()
		var readers []*sql.Conn
		for range h.db.Read.Stats().MaxOpenConnections {
			c, err := h.db.Read.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			readers = append(readers, c)
		}
		answers := map[string]bool{}
		for _, address := range states {
			answers[h.door(t, "/subscribe", address)] = true
		}
		for _, c := range readers {
			_ = c.Close()
		}
		if len(answers) != 1 {
			t.Errorf("the answers differ: %v", answers)
		}
		after := h.tables()
		for table, rows := range after {
			if table != "slips" && !slices.Equal(rows, before[table]) {
				t.Errorf("the door changed the table %s:\n%v\nwant\n%v", table, rows, before[table])
			}
		}
		if n := len(after["slips"]); n != len(states) {
			t.Errorf("slips = %d, want %d", n, len(states))
		}
	})
}

// door sends the form and gives the whole answer, which must come at once.
func (h *house) door(t *testing.T, path, address string) string {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	body := strings.NewReader(url.Values{"email": {address}, "newsletter": {"morgen"}}.Encode())
	r, err := http.NewRequestWithContext(ctx, "POST", h.server.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatalf("the door looks up %s: %v", address, err)
	}
	defer func() { _ = response.Body.Close() }()
	response.Header.Del("Date")
	var all strings.Builder
	if err := response.Write(&all); err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// tables is dump by table.
func (h *house) tables() map[string][]string {
	h.t.Helper()
	tables := map[string][]string{}
	for _, table := range h.tableNames() {
		tables[table] = h.rows(table)
	}
	return tables
}

// 500 answers for each state of an address at both doors: the same bytes, and medians within 10 ms.
func TestAnswersTellNothing(t *testing.T) {
	for name, path := range map[string]func(h *house) string{
		"sign-up": func(*house) string { return "/subscribe" },
		"change of address": func(h *house) string {
			h.subscribe("lena@wnoz.example")
			return "/address/morgen/" + h.token(ToMove, "lena@wnoz.example")
		},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, h *house) { h.answersTellNothing(t, path(h)) })
		})
	}
}

func (h *house) answersTellNothing(t *testing.T, path string) {
	states := h.states()
	answers := map[string]bool{}
	took := map[string][]time.Duration{}
	for i := range 500 {
		for _, address := range states {
			if address == "unknown@wnoz.example" {
				address = fmt.Sprintf("x%06d@wnoz.example", i) // once asked for, it would be pending
			}
			began := time.Now()
			answers[h.door(t, path, address)] = true
			name := strings.TrimRight(strings.Split(address, "@")[0], "0123456789")
			took[name] = append(took[name], time.Since(began))
		}
		h.later(time.Minute) // the network's limit is none of this
		if i%50 == 0 {
			h.admit()
		}
	}
	if len(answers) != 1 {
		t.Errorf("the answers differ: %v", answers)
	}
	var medians []time.Duration
	for name, all := range took {
		slices.Sort(all)
		medians = append(medians, all[len(all)/2])
		t.Logf("%s: median %v of %d", name, all[len(all)/2], len(all))
	}
	if spread := slices.Max(medians) - slices.Min(medians); spread > 10*time.Millisecond {
		t.Errorf("the medians are %v apart", spread)
	}
}

// Too many sign-ups make letters wait, one person hears of it, and it ends by itself.
func TestFlood(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, func(s *Settings) { s.Flood = 10 })
		h.flood(0, 10)
		if letters := h.mail(); len(letters) != 10 {
			t.Errorf("letters at the limit = %d, want 10", len(letters))
		}
		h.later(time.Minute)
		h.flood(10, 11)
		if letters := h.mail(); len(letters) != 0 {
			t.Errorf("letters in a flood = %d", len(letters))
		}
		h.wantFlood(true, false)
		h.wantFlood(false, false) // nobody else is told
		h.later(calm / 2)
		h.flood(21, 11)
		h.later(calm - time.Minute)
		h.wantFlood(false, false)
		if f, err := h.Flood(t.Context()); err != nil || f == nil || f.Peak != 11 || f.ByEditor {
			t.Errorf("Flood = %+v, %v", f, err)
		}
		h.later(3 * time.Minute)
		h.wantFlood(false, true)
		if letters := h.mail(); len(letters) != 22 {
			t.Errorf("letters after the flood = %d, want 22: none is lost", len(letters))
		}
	})
}

// flood signs up n readers within a minute.
func (h *house) flood(first, n int) {
	h.t.Helper()
	h.clock.Store(time.UnixMilli(h.clock.Load()).Truncate(time.Minute).Add(time.Second).UnixMilli())
	for i := range n {
		h.signUp(fmt.Sprintf("leser%d@wnoz.example", first+i))
	}
}

func (h *house) wantFlood(begun, ended bool) {
	h.t.Helper()
	f, over, err := h.WatchFlood(h.t.Context(), h.now())
	if err != nil || (f != nil) != begun || over != ended {
		h.t.Errorf("WatchFlood = %+v, %v, %v, want begun %v, ended %v", f, over, err, begun, ended)
	}
}

// An editor has the last word on a flood.
func TestEditorAndFlood(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, func(s *Settings) { s.Flood = 3 })
		h.flood(0, 4)
		if released, err := h.ReleaseLetters(t.Context(), h.now()); !released || err != nil {
			t.Errorf("ReleaseLetters = %v, %v", released, err)
		}
		h.later(time.Minute)
		h.flood(4, 4)
		if letters := h.mail(); len(letters) != 8 {
			t.Errorf("letters after an editor's release = %d, want 8", len(letters))
		}
		if held, err := h.HoldLetters(t.Context(), h.now()); !held || err != nil {
			t.Errorf("HoldLetters = %v, %v", held, err)
		}
		h.later(2 * liftedFor)
		h.flood(8, 1)
		h.wantFlood(false, false)
		if letters := h.mail(); len(letters) != 0 {
			t.Errorf("letters that an editor holds = %d", len(letters))
		}
		h.later(day)
		h.wantFlood(false, false)
		if released, err := h.ReleaseLetters(t.Context(), h.now()); !released || err != nil {
			t.Errorf("ReleaseLetters = %v, %v", released, err)
		}
		if released, err := h.ReleaseLetters(t.Context(), h.now()); released || err != nil {
			t.Errorf("ReleaseLetters again = %v, %v", released, err)
		}
		h.letter(ConfirmLetter)
		h.flood(9, 4)
		h.later(liftedFor + time.Minute)
		h.flood(13, 4)
		h.wantFlood(true, false) // the release was long ago
	})
}

func TestDisposable(t *testing.T) {
	own := []string{"# ours", "wegwerf.example", "@Müll.example", "!mailinator.com", "", "kein domain"}
	tests := []struct {
		address string
		thrown  bool
	}{
		{"lena@0-mail.com", true},
		{"lena@GuerrillaMail.com", true},
		{"lena@sub.guerrillamail.com", true},
		{"lena@notguerrillamail.com", false},
		{"lena@wegwerf.example", true},
		{"lena@xn--mll-hoa.example", true},
		{"lena@mailinator.com", false},
		{"lena@gmx.de", false},
		{"lena@web.de", false},
		{"lena@com", false},
	}
	d := newDisposable(own)
	for _, test := range tests {
		if got := d.has(Address{Mailbox: strings.ToLower(test.address)}); got != test.thrown {
			t.Errorf("has(%s) = %v, want %v", test.address, got, test.thrown)
		}
	}
	for _, test := range []struct {
		policy  Policy
		status  int
		flagged bool
	}{{Refuse, 422, false}, {Flag, 303, true}, {Allow, 303, false}} {
		dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
			h := newHouse(t, db, func(s *Settings) { s.Disposable, s.DisposableDomains = test.policy, own })
			for _, fields := range []string{"", "&fax=1"} { // a robot is told nothing else
				got := h.ask("POST", "/subscribe", "email=lena%40wegwerf.example"+fields, formType)
				if got.status != test.status || (got.status == 422) != strings.Contains(got.body, "nur für kurze Zeit") {
					t.Fatalf("%s: %d, want %d:\n%s", test.policy, got.status, test.status, got.body)
				}
			}
			if test.policy == Refuse {
				return
			}
			h.letter(ConfirmLetter)
			reader, err := h.Show(t.Context(), "lena@wegwerf.example")
			if err != nil || reader.Disposable != test.flagged {
				t.Errorf("%s: Show = %+v, %v", test.policy, reader, err)
			}
			err = h.List(t.Context(), Filter{}, func(row Row) error {
				if row.Disposable != test.flagged {
					t.Errorf("%s: List gives %+v", test.policy, row)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// Every domain of the real list is known.
func TestDisposableFixture(t *testing.T) {
	folder := os.Getenv("DEPESCHE_FIXTURES")
	if folder == "" {
		t.Skip("SKIPPED: DEPESCHE_FIXTURES names no folder of real inputs")
	}
	list, err := os.ReadFile(filepath.Join(folder, "disposable-domains", "disposable_email_blocklist.conf"))
	if err != nil {
		t.Fatal(err)
	}
	d, known := newDisposable(nil), 0
	for domain := range strings.FieldsSeq(string(list)) {
		if a, err := ParseAddress("x@" + domain); err != nil || !d.has(a) {
			t.Errorf("%s is not known (%v)", domain, err)
		}
		known++
	}
	if known < 5000 {
		t.Errorf("only %d domains looked at", known)
	}
}

// A flood of scanners on the letter's link while its button is pressed changes nothing: what the button does is the same.
func TestGETFloodDuringConfirmation(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		address := "lena@wnoz.example"
		h.signUp(address)
		l := h.letter(ConfirmLetter)
		path := "/confirm/morgen/" + l.Token
		fields := h.get(path).hidden()
		before := h.dump()
		together(t, 50, func(int) error { return h.scan(path) })
		if h.dump() != before {
			t.Fatal("scanners changed the database")
		}
		together(t, 100, func(i int) error {
			if i == 50 {
				if got := h.press(path, fields); got.status != 200 || !strings.Contains(got.body, "Sie sind angemeldet") {
					return fmt.Errorf("the button = %d", got.status)
				}
				return nil
			}
			return h.scan(path)
		})
		after := h.dump()
		h.wantEvents(address, Requested, Mailed, Confirmed)
		h.wantAudience("after the button", address)
		together(t, 50, func(int) error { return h.scan(path) })
		if h.dump() != after {
			t.Error("scanners changed what was confirmed")
		}
	})
}

func (h *house) scan(path string) error {
	for _, method := range []string{"GET", "HEAD"} {
		if got := h.ask(method, path, "", "User-Agent: Barracuda Sentinel (EE)"); got.status != 200 {
			return fmt.Errorf("%s = %d", method, got.status)
		}
	}
	return nil
}

// Each crawler and scanner there is opens every link of every mail, and nothing changes.
func TestBotsChangeNothing(t *testing.T) {
	agents := userAgents(t)
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, nil)
		h.subscribe("active@wnoz.example")
		h.subscribe("gone@wnoz.example")
		h.later(time.Hour)
		gone := h.token(ToUnsubscribe, "gone@wnoz.example")
		if err := h.Unsubscribe(t.Context(), h.now(), "morgen", gone, ByOneClick, Visit{}); err != nil {
			t.Fatal(err)
		}
		h.signUp("active@wnoz.example")
		h.signUp("pending@wnoz.example")
		paths := []string{"/unsubscribe/morgen/" + gone, "/resume/morgen/" + h.token(ToResume, "gone@wnoz.example")}
		for _, l := range h.mail() { // confirm, and the link to the preferences
			paths = append(paths, strings.TrimPrefix(l.Action, "https://news.talbote.example")+l.Token)
			paths = append(paths, "/unsubscribe/morgen/"+h.token(ToUnsubscribe, l.Address))
		}
		if len(paths) != 6 {
			t.Fatalf("paths = %v", paths)
		}
		if db.Kind == migrations.PostgreSQL {
			agents = agents[:len(agents)/10] // the same handlers
		}
		before := h.dump()
		for _, agent := range agents {
			for _, path := range paths {
				for _, method := range []string{"GET", "HEAD"} {
					if got := h.ask(method, path, "", "User-Agent: "+agent); got.status >= 500 {
						t.Fatalf("%s = %d", method, got.status)
					}
				}
			}
		}
		if h.dump() != before {
			t.Error("bots changed the database")
		}
	})
}

// userAgents are those of the fixtures, or a few of our own where there are none.
func userAgents(t *testing.T) []string {
	folder := os.Getenv("DEPESCHE_FIXTURES")
	if folder == "" {
		return slices.Repeat([]string{"Mozilla/5.0 (compatible; bingbot/2.0)", "BarracudaCentral", "Slackbot-LinkExpanding 1.0", "curl/8"}, 5)
	}
	text, err := os.ReadFile(filepath.Join(folder, "bots-crawler-user-agents", "crawler-user-agents.json"))
	if err != nil {
		t.Fatal(err)
	}
	var crawlers []struct{ Instances []string }
	if err := json.Unmarshal(text, &crawlers); err != nil {
		t.Fatal(err)
	}
	var agents []string
	for _, c := range crawlers {
		agents = append(agents, c.Instances...)
	}
	if len(agents) < 2000 {
		t.Fatalf("only %d user agents", len(agents))
	}
	t.Logf("%d user agents", len(agents))
	return agents
}
