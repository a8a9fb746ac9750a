package subscribers

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"depesche/migrations"
	"depesche/migrations/dbtest"
	"depesche/templates"
)

// A reader is mailed between the confirmation and the first word against it, and never else.
func TestAudience(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx, address := t.Context(), "lena@wnoz.example"
		h.signUp(address)
		h.wantAudience("after the form")
		l := h.letter(ConfirmLetter)
		h.wantAudience("after the letter")
		if err := h.Confirm(ctx, h.now(), "morgen", l.Token, Visit{}); err != nil {
			t.Fatal(err)
		}
		h.wantAudience("after the confirmation", address)
		h.later(time.Hour)
		if err := h.Unsubscribe(ctx, h.now(), "morgen", h.token(ToUnsubscribe, address), ByOneClick, Visit{}); err != nil {
			t.Fatal(err)
		}
		h.wantAudience("after the unsubscription")
		if err := h.Confirm(ctx, h.now(), "morgen", l.Token, Visit{}); !errors.Is(err, ErrExpired) {
			t.Errorf("Confirm with the old letter after the end = %v, want ErrExpired", err)
		}
		if err := h.Resume(ctx, h.now(), "morgen", h.token(ToResume, address), Visit{}); err != nil {
			t.Fatal(err)
		}
		h.wantAudience("after the undo", address)
		h.wantEvents(address, Requested, Mailed, Confirmed, Withdrawn, Resumed)
	})
}

func TestSuppressionsAndTheWayBack(t *testing.T) {
	tests := []struct {
		name     string
		suppress func(h *house, address string)
		wait     time.Duration // until a new letter is sent
		events   []EventKind
	}{
		{"bounce", (*house).bounce, 15 * day, nil},
		{"complaint", (*house).complain, 2 * day, []EventKind{Withdrawn}},
		{"objection", func(h *house, address string) {
			if n, err := h.UnsubscribeAddress(h.t.Context(), h.now(), address, ByLetter); n != 1 || err != nil {
				h.t.Errorf("UnsubscribeAddress = %d, %v", n, err)
			}
		}, 2 * day, []EventKind{Withdrawn}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			each(t, func(t *testing.T, h *house) {
				ctx, address := t.Context(), "lena@wnoz.example"
				h.subscribe(address)
				h.later(time.Hour)
				test.suppress(h, address)
				h.wantAudience("after the " + test.name)
				if err := h.Resume(ctx, h.now(), "morgen", h.token(ToResume, address), Visit{}); !errors.Is(err, ErrExpired) && test.name != "bounce" {
					t.Errorf("Resume of a suppressed reader = %v, want ErrExpired", err)
				}
				h.wantAudience("after an attempt to undo it")
				h.later(test.wait)
				h.signUp(address)
				h.wantAudience("after a new form")
				l := h.letter(ConfirmLetter)
				if err := h.Confirm(ctx, h.now(), "morgen", l.Token, Visit{}); err != nil {
					t.Fatal(err)
				}
				h.wantAudience("after a new confirmation", address)
				events := append([]EventKind{Requested, Mailed, Confirmed}, test.events...)
				h.wantEvents(address, append(events, Requested, Mailed, Confirmed)...)
			})
		})
	}
}

func (h *house) bounce(address string)   { h.report(MailboxDead, address) }
func (h *house) complain(address string) { h.report(SpamComplaint, address) }

func (h *house) report(kind ReportKind, address string) {
	h.t.Helper()
	id, err := h.Find(h.t.Context(), address)
	if err != nil {
		h.t.Fatal(err)
	}
	tx, err := h.db.Write.BeginTx(h.t.Context(), nil)
	if err != nil {
		h.t.Fatal(err)
	}
	err = h.Report(h.t.Context(), tx, h.now(), Report{Kind: kind, Subscriber: id, Reply: "550 5.1.1 no " + address})
	if err = errors.Join(err, tx.Commit()); err != nil {
		h.t.Fatal(err)
	}
}

// An address that objected gets the one letter it asks for, and no second one.
func TestObjectorsGetOneLetter(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		address := "lena@wnoz.example"
		if _, err := h.UnsubscribeAddress(t.Context(), h.now(), address, ByObjection); err != nil {
			t.Fatal(err)
		}
		h.later(time.Hour)
		h.signUp(address)
		h.letter(ConfirmLetter)
		for range 5 {
			h.later(7 * day)
			h.signUp(address)
			if letters := h.mail(); len(letters) != 0 {
				t.Fatalf("a second letter after an objection: %+v", letters)
			}
		}
		h.wantAudience("without a confirmation")
	})
}

func TestBounceIsNoLetterFor14Days(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		address := "lena@wnoz.example"
		h.subscribe(address)
		h.bounce(address)
		h.later(13 * day)
		h.signUp(address)
		if letters := h.mail(); len(letters) != 0 {
			t.Errorf("letters within 14 days of a bounce: %+v", letters)
		}
		reader, err := h.Show(t.Context(), address)
		if err != nil || reader.Suppressed == nil {
			t.Fatalf("Show = %+v, %v, want a suppression", reader, err)
		}
		if s := reader.Suppressed; s.Reason != Bounced || s.Detail != "550 5.1.1" {
			t.Errorf("suppression = %+v: of the reply only the codes may be kept", s)
		}
	})
}

// One letter a day and three in 14 days to one address, whatever newsletter.
func TestLettersToOneAddressAreFew(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		var sent int
		for i := range 13 * 4 { // four times a day
			s := SignUp{Address: "lena@wnoz.example", Newsletter: []string{"morgen", "world"}[i%2]}
			if err := h.SignUp(ctx, h.now(), s); err != nil {
				t.Fatal(err)
			}
			sent += len(h.mail())
			h.later(6 * time.Hour)
		}
		if sent != maxPostmarks {
			t.Errorf("letters in 13 days = %d, want %d", sent, maxPostmarks)
		}
		if n := h.count(`SELECT COUNT(*) FROM subscribers`); n != 1 {
			t.Errorf("subscribers = %d, want 1", n)
		}
	})
}

func TestActiveReadersGetOneLinkADay(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		address := "lena@wnoz.example"
		h.subscribe(address, "sport")
		h.later(time.Hour)
		h.signUp("LENA@wnoz.example", "politik")
		l := h.letter(LinkLetter)
		if err := h.SetTopics(t.Context(), h.now(), "morgen", l.Token, []string{"ukraine"}, Visit{}); err != nil {
			t.Errorf("SetTopics with the link of the letter = %v", err)
		}
		h.signUp(address)
		if letters := h.mail(); len(letters) != 0 {
			t.Errorf("a second link on the same day: %+v", letters)
		}
		h.wantAudience("after signing up again", address)
		reader, err := h.Show(t.Context(), address)
		if err != nil || !slices.Equal(reader.Subscriptions[0].Topics, []string{"ukraine"}) {
			t.Errorf("Show = %+v, %v, want the topics of the link and not of the form", reader, err)
		}
	})
}

func TestRoleAddressesAreTraps(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.signUp("abuse@wnoz.example")
		if n := h.count(`SELECT COUNT(*) FROM subscribers`); n != 0 {
			t.Errorf("subscribers = %d, want none", n)
		}
	})
}

func TestSignUpRefuses(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		before := h.dump()
		tests := []struct {
			s    SignUp
			want error
		}{
			{SignUp{Address: "lena"}, ErrNoAt},
			{SignUp{Address: "a@x.example, b@x.example"}, ErrSeveral},
			{SignUp{Address: "a@x.example", Newsletter: "nacht"}, ErrNewsletter},
			{SignUp{Address: "a@x.example", Topics: []string{"kochen"}}, ErrTopics},
			{SignUp{Address: "a@x.example", Visit: Visit{Wording: strings.Repeat("0", 64)}}, ErrWording},
			{SignUp{Address: "a@x.example", Visit: Visit{Wording: h.views.forms["world"].Hash}}, ErrWording},
		}
		for _, test := range tests {
			if err := h.SignUp(t.Context(), h.now(), test.s); !errors.Is(err, test.want) {
				t.Errorf("SignUp(%+v) = %v, want %v", test.s, err, test.want)
			}
		}
		if h.dump() != before {
			t.Error("a refused form changed the database")
		}
	})
}

// 20 people press the same button at once, on the form and in the letter.
func TestParallel(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx, address := t.Context(), "lena@wnoz.example"
		together(t, 20, func(int) error {
			return h.SignUp(ctx, h.now(), SignUp{Address: address, Newsletter: "morgen"})
		})
		if n := h.count(`SELECT COUNT(*) FROM subscribers`); n != 1 {
			t.Errorf("subscribers = %d, want 1", n)
		}
		l := h.letter(ConfirmLetter)
		together(t, 20, func(int) error { return h.Confirm(ctx, h.now(), "morgen", l.Token, Visit{}) })
		h.wantEvents(address, Requested, Mailed, Confirmed)
		h.later(time.Minute)
		token := h.token(ToUnsubscribe, address)
		together(t, 20, func(int) error { return h.Unsubscribe(ctx, h.now(), "morgen", token, ByOneClick, Visit{}) })
		h.wantEvents(address, Requested, Mailed, Confirmed, Withdrawn)
	})
}

// together runs fn n times at once.
func together(t *testing.T, n int, fn func(i int) error) {
	t.Helper()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if err := fn(i); err != nil {
				t.Errorf("call %d of %d at once = %v", i, n, err)
			}
		})
	}
	all.Wait()
}

func TestRotatedKeysOpenOldLinks(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, nil)
		address := "lena@wnoz.example"
		h.signUp(address)
		confirm := h.letter(ConfirmLetter).Token
		unsubscribe := h.token(ToUnsubscribe, address)
		if err := RotateKeys(h.keyFile); err != nil {
			t.Fatal(err)
		}
		h.open(db, templates.FS(""), testSettings())
		if h.token(ToUnsubscribe, address) == unsubscribe {
			t.Error("the new key is not in use")
		}
		if err := h.Confirm(t.Context(), h.now(), "morgen", confirm, Visit{}); err != nil {
			t.Errorf("Confirm with a link made before rotation = %v", err)
		}
		h.later(time.Minute)
		if err := h.Unsubscribe(t.Context(), h.now(), "morgen", unsubscribe, ByOneClick, Visit{}); err != nil {
			t.Errorf("Unsubscribe with a link made before rotation = %v", err)
		}
		h.wantEvents(address, Requested, Mailed, Confirmed, Withdrawn)
	})
}

// The proof shows the words as they were, whatever the templates say today.
func TestProofKeepsOldWords(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, nil)
		first, second := "lena@wnoz.example", "omar@wnoz.example"
		h.signUp(first)
		confirmed := h.letter(ConfirmLetter)
		if err := h.Confirm(t.Context(), h.now(), "morgen", confirmed.Token, Visit{}); err != nil {
			t.Fatal(err)
		}
		folder := t.TempDir()
		write(t, filepath.Join(folder, "web/de/box.html"),
			`{{define "box"}}<p>Neue Worte der Box</p>{{end}}{{define "answer"}}{{.Code}}{{end}}`)
		write(t, filepath.Join(folder, "web/de/confirm.html"),
			`{{define "title"}}x{{end}}{{define "main"}}<h1>Neue Worte der Seite</h1>{{end}}`)
		h.open(db, templates.FS(folder), testSettings())
		h.signUp(second)
		confirmed = h.letter(ConfirmLetter)
		if err := h.Confirm(t.Context(), h.now(), "morgen", confirmed.Token, Visit{}); err != nil {
			t.Fatal(err)
		}
		for address, want := range map[string][]string{
			first:  {"Mit Ihrer Registrierung", "Please press: TOKEN, …", "Themen: Krieg in der Ukraine, Politik, Sport"},
			second: {"Neue Worte der Box", "Please press: TOKEN, …", "Neue Worte der Seite"},
		} {
			proof, err := h.Proof(t.Context(), address)
			if err != nil || len(proof.Events) != len(want) {
				t.Fatalf("Proof(%q) = %+v, %v", address, proof, err)
			}
			for i, words := range want {
				e := proof.Events[i]
				if e.Wording == nil || !strings.Contains(e.Wording.Text, words) || e.Status != Intact {
					t.Errorf("event %s of %q = %+v, want the words %q", e.Kind, address, e, words)
				}
			}
			if m := proof.Events[1].Particulars; m.MessageID != "x@talbote.example" || !strings.Contains(m.Reply, "2.0.0 OK") {
				t.Errorf("the letter's event = %+v, want Message-ID and reply", m)
			}
		}
	})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestNewNamesTheBadTemplate(t *testing.T) {
	folder := t.TempDir()
	write(t, filepath.Join(folder, "web/de/form.html"), "{{define \"title\"}}x{{end}}\n{{define \"main\"}}{{.Nonsense}}{{end}}")
	_, err := New(nil, newKeys(t), templates.FS(folder), testSettings())
	if err == nil || !strings.Contains(err.Error(), "form.html:2") {
		t.Errorf("New with a bad template = %v, want its file and line", err)
	}
}

func TestNewChecksSettings(t *testing.T) {
	for name, change := range map[string]func(*Settings){
		"no base URL":   func(s *Settings) { s.BaseURL = "news.example" },
		"a path":        func(s *Settings) { s.BaseURL = "https://news.example/x" },
		"no newsletter": func(s *Settings) { s.Newsletters = nil },
		"no topics":     func(s *Settings) { s.Newsletters[0].Topics = nil },
	} {
		s := testSettings()
		change(&s)
		if _, err := New(nil, newKeys(t), templates.FS(""), s); err == nil {
			t.Errorf("New with %s succeeded", name)
		}
	}
}

// After seven days without a confirmation nothing is left that names the person.
func TestPurge(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx, gone, stays := t.Context(), "gone@wnoz.example", "stays@wnoz.example"
		h.subscribe(stays)
		h.signUp(gone)
		l := h.letter(ConfirmLetter)
		if n, err := h.Purge(ctx, h.now().Add(6*day)); n != 0 || err != nil {
			t.Fatalf("Purge after six days = %d, %v", n, err)
		}
		h.later(7*day + time.Minute)
		if n, err := h.Purge(ctx, h.now()); n != 1 || err != nil {
			t.Fatalf("Purge = %d, %v, want 1", n, err)
		}
		if strings.Contains(h.dump(), "gone@") {
			t.Error("the address is still in the database")
		}
		h.wantAudience("after the purge", stays)
		h.wantEvents(gone, Requested, Mailed, Erased)
		if err := h.Confirm(ctx, h.now(), "morgen", l.Token, Visit{}); !errors.Is(err, ErrExpired) {
			t.Errorf("Confirm after the purge = %v, want ErrExpired", err)
		}
		if n, err := h.Purge(ctx, h.now()); n != 0 || err != nil {
			t.Errorf("a second Purge = %d, %v", n, err)
		}
		h.signUp(gone)
		again := h.letter(ConfirmLetter)
		if err := h.Confirm(ctx, h.now(), "morgen", again.Token, Visit{}); err != nil {
			t.Errorf("Confirm of a new sign-up = %v", err)
		}
		h.wantAudience("after a new sign-up", gone, stays)
	})
}

// Who was a reader once and signs up again without confirming keeps the first proof and loses the second attempt.
func TestPurgeKeepsFormerReaders(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx, address := t.Context(), "lena@wnoz.example"
		h.subscribe(address)
		h.later(day)
		if err := h.Unsubscribe(ctx, h.now(), "morgen", h.token(ToUnsubscribe, address), ByPage, Visit{}); err != nil {
			t.Fatal(err)
		}
		h.later(30 * day)
		h.signUp(address)
		h.letter(ConfirmLetter)
		h.later(8 * day)
		if n, err := h.Purge(ctx, h.now()); n != 1 || err != nil {
			t.Fatalf("Purge = %d, %v, want 1", n, err)
		}
		proof, err := h.Proof(ctx, address)
		if err != nil {
			t.Fatal(err)
		}
		var statuses []Status
		for _, e := range proof.Events {
			statuses = append(statuses, e.Status)
		}
		if want := []Status{Intact, Intact, Intact, Intact, Deleted, Deleted}; !slices.Equal(statuses, want) {
			t.Errorf("particulars after the purge = %v, want %v", statuses, want)
		}
		reader, err := h.Show(ctx, address)
		if err != nil || reader.Subscriptions[0].State != Ended {
			t.Errorf("Show = %+v, %v, want an ended subscription", reader, err)
		}
	})
}

func TestLiftPauses(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.subscribe("lena@wnoz.example")
		until := h.now().Add(day).UnixMilli()
		if _, err := h.db.Write.Exec(`UPDATE subscriptions SET paused = $1`, until); err != nil {
			t.Fatal(err)
		}
		for _, wait := range []time.Duration{0, day} {
			h.later(wait)
			if err := h.LiftPauses(t.Context(), h.now()); err != nil {
				t.Fatal(err)
			}
			if got, want := len(h.audience()), int(wait/day); got != want {
				t.Errorf("audience %v after the pause began = %d, want %d", wait, got, want)
			}
		}
	})
}

func TestListAndShow(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.subscribe("a@wnoz.example", "sport", "politik")
		h.later(time.Second)
		h.signUp("b@wnoz.example")
		for filter, want := range map[Filter]string{
			{}:                    "a@wnoz.example active politik,sport; b@wnoz.example pending politik,sport,ukraine; ",
			{State: Active}:       "a@wnoz.example active politik,sport; ",
			{Newsletter: "world"}: "",
		} {
			var got strings.Builder
			err := h.List(t.Context(), filter, func(r Row) error {
				got.WriteString(r.Address + " " + string(r.State) + " " + strings.Join(r.Topics, ",") + "; ")
				return nil
			})
			if err != nil || got.String() != want {
				t.Errorf("List(%+v) = %q, %v, want %q", filter, got.String(), err, want)
			}
		}
		stop := errors.New("stop")
		if err := h.List(t.Context(), Filter{}, func(Row) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("List = %v, want the error of fn", err)
		}
		if _, err := h.Show(t.Context(), "c@wnoz.example"); !errors.Is(err, ErrNotFound) {
			t.Errorf("Show of a stranger = %v, want ErrNotFound", err)
		}
		if _, err := h.UnsubscribeAddress(t.Context(), h.now(), "c@wnoz.example", ByCommand); !errors.Is(err, ErrNotFound) {
			t.Errorf("UnsubscribeAddress of a stranger = %v, want ErrNotFound", err)
		}
	})
}

func TestIPPolicy(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, nil)
		for _, test := range []struct {
			policy   IPPolicy
			ip, want string
		}{
			{IPTruncated, "203.0.113.77", "203.0.113.0/24"},
			{IPTruncated, "2001:db8:1:2:3::4", "2001:db8:1::/48"},
			{IPFull, "203.0.113.77", "203.0.113.77"},
			{IPNone, "203.0.113.77", ""},
		} {
			if got := test.policy.apply(parseIP(t, test.ip)); got != test.want {
				t.Errorf("%s of %s = %q, want %q", test.policy, test.ip, got, test.want)
			}
		}
		v := Visit{Page: "https://talbote.example/", IP: parseIP(t, "203.0.113.77")}
		err := h.SignUp(t.Context(), h.now(), SignUp{Address: "lena@wnoz.example", Visit: v})
		if err != nil {
			t.Fatal(err)
		}
		proof, err := h.Proof(t.Context(), "lena@wnoz.example")
		if err != nil || proof.Events[0].Particulars.IP != "203.0.113.0/24" || proof.Events[0].Particulars.Page != v.Page {
			t.Errorf("Proof = %+v, %v, want page and network", proof.Events, err)
		}
	})
}

// A changed particular is told apart from a deleted one.
func TestProofFindsAlteredParticulars(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.signUp("lena@wnoz.example")
		if _, err := h.db.Write.Exec(`UPDATE particulars SET body = '{"address":"x@wnoz.example"}'`); err != nil {
			t.Fatal(err)
		}
		proof, err := h.Proof(t.Context(), "lena@wnoz.example")
		if err != nil || proof.Events[0].Status != Altered {
			t.Errorf("Proof = %+v, %v, want altered particulars", proof.Events, err)
		}
	})
}
