package subscribers

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"

	"depesche/migrations"
	"depesche/migrations/dbtest"
)

// bring imports a table and gives what was done and which lines were told.
func (h *house) bring(table string, i Import) (Admission, []Problem) {
	h.t.Helper()
	sheet, err := NewSheet(strings.NewReader(table))
	if err != nil {
		h.t.Fatal(err)
	}
	var problems []Problem
	i.Problem = func(p Problem) {
		problems = append(problems, p)
		if strings.Contains(p.Error(), "wnoz") || strings.Contains(p.Error(), "example") {
			h.t.Errorf("a problem quotes its line: %v", p)
		}
	}
	a, err := h.Import(h.t.Context(), h.now, sheet, i)
	if err != nil {
		h.t.Fatalf("Import = %v", err)
	}
	return a, problems
}

// wantBrought imports a table that must be taken whole.
func (h *house) wantBrought(table string, i Import, want Admission) {
	h.t.Helper()
	got, problems := h.bring(table, i)
	if len(problems) > 0 {
		h.t.Errorf("problems: %v", problems)
	}
	h.wantAdmission(got, want)
}

func (h *house) wantAdmission(got, want Admission) {
	h.t.Helper()
	want.File, want.Seen, want.Lines, want.Labels = got.File, got.Seen, got.Lines, got.Labels
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		h.t.Errorf("Import = %+v, want %+v", got, want)
	}
}

// proven are lines with evidence.
func proven(addresses ...string) string {
	var b strings.Builder
	b.WriteString("E-Mail;Bestätigt am;Quelle;Themen\n")
	for _, address := range addresses {
		b.WriteString(address + ";11.02.2024 06:30;https://talbote.example/abo;Sport\n")
	}
	return b.String()
}

func TestImportWithEvidence(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		table := "Email Address,OPTIN_TIME,OPTIN_IP,CONFIRM_TIME,CONFIRM_IP,SOURCE,TAGS\r\n" +
			`lena@wnoz.example,2024-05-03 10:11:12,192.0.2.77,2024-05-03 10:15:00,192.0.2.77,https://talbote.example/abo,"""Sport"",""VIP"""` + "\r\n"
		h.wantBrought(table, Import{}, Admission{Active: 1})
		h.wantAudience("after the import", "lena@wnoz.example")
		reader, err := h.Show(t.Context(), "lena@wnoz.example")
		if err != nil || len(reader.Subscriptions) != 1 {
			t.Fatalf("Show = %+v, %v", reader, err)
		}
		s := reader.Subscriptions[0]
		if want := time.Date(2024, 5, 3, 10, 11, 12, 0, time.UTC); !s.SignedUp.Equal(want) || !slices.Equal(s.Topics, []string{"sport"}) {
			t.Errorf("subscription = %+v, want signed up %s for sport", s, want)
		}
		proof, err := h.Proof(t.Context(), "lena@wnoz.example")
		if err != nil || len(proof.Events) != 1 {
			t.Fatalf("Proof = %+v, %v", proof, err)
		}
		e := proof.Events[0]
		if e.Kind != Imported || e.Status != Intact || e.Particulars.Import == nil {
			t.Fatalf("event = %+v", e)
		}
		p := e.Particulars
		want := Origin{File: p.Import.File, Line: 2, Requested: "2024-05-03 10:11:12", Confirmed: "2024-05-03 10:15:00", ConfirmedIP: "192.0.2.0/24"}
		if *p.Import != want || len(want.File) != 64 || p.IP != "192.0.2.0/24" || p.Page != "https://talbote.example/abo" {
			t.Errorf("particulars = %+v, %+v, want %+v", p, *p.Import, want)
		}
		h.later(181 * day)
		if c, err := h.Cleanup(t.Context(), h.now(), false); err != nil || c.IPs != 1 {
			t.Errorf("Cleanup = %+v, %v, want the network addresses gone", c, err)
		}
		proof, err = h.Proof(t.Context(), "lena@wnoz.example")
		if e := proof.Events[0]; err != nil || e.Status != Intact || e.IPStatus != Deleted || strings.Contains(h.dump(), "192.0.2.") {
			t.Errorf("after their time: %+v, %v", e, err)
		}
	})
}

func TestImportEvidenceForAll(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		evidence := Evidence{Text: "Ja, ich will den Talboten.", Source: "Messestand", At: time.Date(2024, 5, 3, 0, 0, 0, 0, time.UTC)}
		h.wantBrought("email\nlena@wnoz.example\n", Import{Evidence: evidence}, Admission{Active: 1})
		h.wantAudience("with evidence for all", "lena@wnoz.example")
		proof, err := h.Proof(t.Context(), "lena@wnoz.example")
		if err != nil || proof.Events[0].Wording == nil || proof.Events[0].Wording.Text != evidence.Text || proof.Events[0].Wording.Kind != Brought {
			t.Errorf("Proof = %+v, %v, want the words", proof, err)
		}
		if err := h.SignUp(t.Context(), h.now(), SignUp{Address: "x@wnoz.example", Visit: Visit{Wording: proof.Events[0].Wording.Hash}}); !errors.Is(err, ErrWording) {
			t.Errorf("a form claims to have shown imported words: %v", err)
		}
	})
}

// D25: without evidence nobody is mailed, nothing is asked, and Purge leaves them alone; evidence or a sign-up make them readers.
func TestImportWithoutEvidence(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		tables := []string{
			"email,created_at\nlena@wnoz.example,2024-05-03 10:11:12\n",                        // when a row was made
			"email,confirm_time,optin_time\nmax@wnoz.example,2024-05-03 10:11:12,2024-05-03\n", // a date alone
			"email,source\nanna@wnoz.example,https://talbote.example/abo\n",                    // no date
			"email,confirmed,ip\nute@wnoz.example,yes,kaputt\n",
		}
		for _, table := range tables {
			h.wantBrought(table, Import{}, Admission{Unproven: 1})
		}
		h.wantAudience("without evidence")
		if letters := h.mail(); len(letters) != 0 {
			t.Errorf("letters to unproven readers: %+v", letters)
		}
		h.later(100 * day)
		if n, err := h.Purge(t.Context(), h.now()); n != 0 || err != nil {
			t.Errorf("Purge = %d, %v, want unproven readers kept", n, err)
		}
		h.wantAudience("after a hundred days")
		h.wantBrought(proven("lena@wnoz.example"), Import{}, Admission{Proven: 1})
		h.wantAudience("with evidence", "lena@wnoz.example")
		h.wantEvents("lena@wnoz.example", Imported, Imported)
		h.subscribe("max@wnoz.example")
		h.wantAudience("after a sign-up", "lena@wnoz.example", "max@wnoz.example")
	})
}

// Nobody who left, objected, complained, bounced or was erased comes back by a list, whatever evidence it has.
func TestImportRevivesNobody(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.subscribe("left@wnoz.example")
		if err := h.Unsubscribe(ctx, h.now(), "morgen", h.token(ToUnsubscribe, "left@wnoz.example"), ByOneClick, Visit{}); err != nil {
			t.Fatal(err)
		}
		h.subscribe("letter@wnoz.example")
		for _, address := range []string{"letter@wnoz.example", "stranger@wnoz.example"} {
			if _, err := h.UnsubscribeAddress(ctx, h.now(), address, ByLetter); err != nil {
				t.Fatal(err)
			}
		}
		if err := suppress(ctx, h.db.Write, h.now(), h.keys.Person("dead@wnoz.example"), Bounced, ""); err != nil {
			t.Fatal(err)
		}
		h.wantBrought("email\ngone@wnoz.example\n", Import{}, Admission{Unproven: 1})
		if _, err := h.UnsubscribeAddress(ctx, h.now(), "gone@wnoz.example", ByCommand); err != nil {
			t.Fatal(err)
		}
		h.later(100 * day)
		if _, err := h.Purge(ctx, h.now()); err != nil { // forgets the address, not that they left
			t.Fatal(err)
		}
		table := proven("left@wnoz.example", "letter@wnoz.example", "stranger@wnoz.example", "DEAD@wnoz.example", "gone@wnoz.example")
		before := h.dump()
		h.wantBrought(table, Import{}, Admission{KeptOut: 5})
		h.wantAudience("after the import")
		if after := strings.Join(aboutPersons(h.dump()), "\n"); after != strings.Join(aboutPersons(before), "\n") {
			t.Errorf("an import that keeps all out changed what is known of persons:\n%s\nwas\n%s", after, before)
		}
	})
}

// aboutPersons leaves out what an import keeps that is about nobody: the file, sets of topics.
func aboutPersons(dump string) []string {
	var lines []string
	skip := false
	for line := range strings.SplitSeq(dump, "\n") {
		if strings.HasSuffix(line, ":") {
			skip = line == "imports:" || line == "choices:"
		}
		if !skip {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestImportLeavesReadersAlone(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.subscribe("lena@wnoz.example", "politik")
		h.signUp("waits@wnoz.example", "politik")
		h.wantBrought(proven("LENA@wnoz.example", "waits@wnoz.example"), Import{}, Admission{Unchanged: 2})
		h.wantEvents("lena@wnoz.example", Requested, Mailed, Confirmed)
		reader, err := h.Show(t.Context(), "lena@wnoz.example")
		if err != nil || !slices.Equal(reader.Subscriptions[0].Topics, []string{"politik"}) {
			t.Errorf("Show = %+v, %v, want the topics that were chosen", reader, err)
		}
	})
}

func TestImportSuppresses(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.subscribe("later@wnoz.example")
		h.subscribe("former@wnoz.example")
		table := "email,status,unsubscribed_at,quelle,bestätigt am\n" +
			"left@wnoz.example,unsubscribed,2020-01-01,x,2019-01-01\n" +
			"clean@wnoz.example,Cleaned,,x,2019-01-01\n" +
			"bounce@wnoz.example,bounced,,x,2019-01-01\n" +
			"spam@wnoz.example,complained,,x,2019-01-01\n" +
			"never@wnoz.example,blocklisted,,x,2019-01-01\n" +
			"date@wnoz.example,active,2020-01-01,x,2019-01-01\n" +
			"pending@wnoz.example,pending,,x,2019-01-01\n" +
			"later@wnoz.example,unsubscribed,2020-01-01,x,2019-01-01\n" + // pressed our button since then
			"former@wnoz.example,unsubscribed,,x,2019-01-01\n" + // nobody knows when
			"left@wnoz.example,active,,x,2019-01-01\n" // twice in the list
		h.wantBrought(table, Import{}, Admission{Suppressed: 7, Waiting: 1, Unchanged: 1, KeptOut: 1})
		h.wantAudience("after the import", "later@wnoz.example")
		for address, want := range map[string]SuppressionReason{
			"left": Left, "clean": Bounced, "bounce": Bounced, "spam": Complained, "never": Objected, "date": Left, "former": Left,
		} {
			got, err := texts(t.Context(), h.db.Read, `SELECT reason FROM suppressions WHERE person = $1`, h.keys.Person(address+"@wnoz.example"))
			if err != nil || !slices.Equal(got, []string{string(want)}) {
				t.Errorf("suppression of %s = %v, %v, want %s", address, got, err, want)
			}
		}
		if dump := h.dump(); strings.Contains(dump, "spam@") || strings.Contains(dump, "left@") || strings.Contains(dump, "pending@") {
			t.Error("the database holds the address of a person who is only suppressed")
		}
		before := h.dump()
		h.wantBrought(table, Import{}, Admission{Unchanged: 8, Waiting: 1, KeptOut: 1})
		if h.dump() != before {
			t.Error("the same file a second time changes the database")
		}
		h.later(2 * day)
		h.subscribe("former@wnoz.example") // by the button: the one way back
		h.wantBrought(table, Import{}, Admission{Unchanged: 8, Waiting: 1, KeptOut: 1})
		h.wantAudience("after the same file a third time", "former@wnoz.example", "later@wnoz.example")
	})
}

func TestImportTwiceChangesNothing(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		table := proven("lena@wnoz.example", "max@wnoz.example") + "ute@wnoz.example;;;\n"
		h.wantBrought(table, Import{}, Admission{Active: 2, Unproven: 1})
		before := h.dump()
		a, _ := h.bring(table, Import{})
		if !a.Seen || a.Changes() != 0 || a.Unchanged != 3 {
			t.Errorf("the second time = %+v", a)
		}
		if h.dump() != before {
			t.Errorf("the second time changes the database")
		}
	})
}

func TestImportDuplicates(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		table := proven("Lena@wnoz.example", " lena@WNOZ.example ", "lena@wnoz.example", "max@bücher.example", "max@xn--bcher-kva.example", "MAX@BÜCHER.example")
		h.wantBrought(table, Import{}, Admission{Active: 2, Unchanged: 4})
		h.wantAudience("after the import", "Lena@wnoz.example", "max@xn--bcher-kva.example")
		same := slices.Repeat([]string{"one@wnoz.example", "ONE@wnoz.example"}, 40) // more than a part of what is written at once
		h.wantBrought(proven(append(same, "two@wnoz.example", "two@wnoz.example")...), Import{}, Admission{Active: 2, Unchanged: 80})
	})
}

// Two lists with the same readers, at once: each reader comes in once, whichever list was first.
func TestImportTwoListsAtOnce(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		const readers = 4000
		header, rows, _ := strings.Cut(mailchimpList(readers), "\n")
		lines := strings.SplitAfter(rows, "\n")
		slices.Reverse(lines)
		var both sync.WaitGroup
		var counts [2]Admission
		for i, table := range []string{header + "\n" + rows, header + "\n" + strings.Join(lines, "")} {
			both.Go(func() {
				sheet, err := NewSheet(strings.NewReader(table))
				if err == nil {
					counts[i], err = h.Import(t.Context(), h.now, sheet, Import{Problem: func(p Problem) { t.Error(p) }})
				}
				if err != nil {
					t.Errorf("Import of list %d = %v", i, err)
				}
			})
		}
		both.Wait()
		if active, unchanged := counts[0].Active+counts[1].Active, counts[0].Unchanged+counts[1].Unchanged; active != readers || unchanged != readers {
			t.Errorf("%d readers came in and %d were there, want %d and %d", active, unchanged, readers, readers)
		}
		for _, query := range []string{`SELECT COUNT(*) FROM subscribers`, `SELECT COUNT(*) FROM audience`, `SELECT COUNT(*) FROM consents`} {
			if n := h.count(query); n != readers {
				t.Errorf("%s = %d, want %d", query, n, readers)
			}
		}
	})
}

func TestImportTopicsAndNewsletters(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		i := Import{Newsletter: "morgen", Topics: []string{"politik"}, Aliases: map[string][]string{"ukraine": {"Ukraine-Krieg"}}}
		table := "email,Gruppen,Liste\n" +
			"slug@wnoz.example,sport,\n" +
			"name@wnoz.example,krieg in der ukraine,Talbote am Morgen\n" +
			"alias@wnoz.example,\"Ukraine Krieg | SPORT, VIP\",morgen\n" +
			"none@wnoz.example,VIP,\n" +
			"world@wnoz.example,,world\n" +
			"where@wnoz.example,,abend\n"
		a, problems := h.bring(table, i)
		h.wantAdmission(a, Admission{Unproven: 5, Broken: 1})
		if len(problems) != 1 || problems[0].Line != 7 || problems[0].Column != "Liste" || a.Labels["VIP"] != 2 {
			t.Errorf("problems = %v, labels = %v", problems, a.Labels)
		}
		for address, want := range map[string]string{
			"slug": "morgen sport", "name": "morgen ukraine", "alias": "morgen sport,ukraine", "none": "morgen politik",
			"world": "world politics,sport",
		} {
			r, err := h.Show(t.Context(), address+"@wnoz.example")
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Subscriptions[0].Newsletter + " " + strings.Join(r.Subscriptions[0].Topics, ","); got != want {
				t.Errorf("%s has %q, want %q", address, got, want)
			}
		}
	})
}

func TestImportBrokenLines(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		table := "email,name,status,optin_time,source\n" +
			"ok1@wnoz.example,,,,\n" + // 2
			"kaputt,,,,\n" +
			"a@b.example;c@d.example,,,,\n" +
			"shift@wnoz.example,Muster, Max,active,2024-01-01,form\n" + // 5: a comma too many
			"short@wnoz.example,Max\n" +
			"quote@wnoz.example,\"Max,active,2024-01-01,form\n" + // 7: never closed
			"ok2@wnoz.example,\"Zeile 1\nZeile 2\",,,\n" + // 8, 9
			"date@wnoz.example,,,02/03/2024,form\n" + // 10
			"odd@wnoz.example,,4,,\n" +
			",,,,\n" + // 12
			"nul@wnoz.example,\x00,,,\n" +
			"abuse@wnoz.example,,,,\n" + // 14
			strings.Repeat("x", maxLine+10) + "\n" +
			"torn@wnoz.example,\"a\"b,,,\n" + // 16
			"ok3@wnoz.example,Max \"Mäxchen\" M.,,,\n"
		a, problems := h.bring(table, Import{})
		h.wantAdmission(a, Admission{Unproven: 3, Broken: 12})
		var lines []string
		for _, p := range problems {
			lines = append(lines, fmt.Sprintf("%d %s", p.Line, p.Column))
		}
		want := []string{"3 email", "4 email", "5 ", "6 ", "7 ", "10 optin_time", "11 status", "12 email", "13 ", "14 email", "15 ", "16 "}
		if !slices.Equal(lines, want) {
			t.Errorf("problems = %q, want %q\n%v", lines, want, problems)
		}
	})
}

func TestImportEncodings(t *testing.T) {
	wide, err := unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewEncoder().String(proven("max@bücher.example"))
	if err != nil {
		t.Fatal(err)
	}
	big, err := unicode.UTF16(unicode.BigEndian, unicode.UseBOM).NewEncoder().String(proven("max@bücher.example"))
	if err != nil {
		t.Fatal(err)
	}
	windows, err := charmap.Windows1252.NewEncoder().String(proven("max@bücher.example"))
	if err != nil {
		t.Fatal(err)
	}
	plain := proven("max@bücher.example")
	for name, table := range map[string]string{
		"UTF-8": plain, "UTF-8 with a mark": "\ufeff" + plain, "UTF-16": wide, "UTF-16, big end first": big, "Windows-1252": windows,
		"tabs": strings.ReplaceAll(plain, ";", "\t"), "commas": strings.ReplaceAll(plain, ";", ","), "bars": strings.ReplaceAll(plain, ";", "|"),
		"CRLF": strings.ReplaceAll(plain, "\n", "\r\n"), "CR": strings.ReplaceAll(plain, "\n", "\r"), "sep": "sep=;\r\n" + plain,
		"no end of line": strings.TrimSuffix(plain, "\n"), "empty lines": strings.ReplaceAll(plain, "\n", "\n\n"),
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, dbtest.SQLite(t), nil)
			h.wantBrought(table, Import{}, Admission{Active: 1})
			h.wantAudience("after the import", "max@xn--bcher-kva.example")
		})
	}
	h := newHouse(t, dbtest.SQLite(t), nil) // one broken letter does not make another domain of all others
	a, problems := h.bring(proven("max@bücher.example", "ute@b\xfccher.example"), Import{})
	h.wantAdmission(a, Admission{Active: 1, Broken: 1})
	if len(problems) != 1 || problems[0].Line != 3 {
		t.Errorf("problems = %v", problems)
	}
}

// An import that ends in the middle leaves whole batches; again, it ends as one that was not disturbed.
func TestImportInterrupted(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		const readers = 2*importBatch + 500
		table := mailchimpList(readers)
		ctx, stop := context.WithCancel(t.Context())
		sheet, err := NewSheet(strings.NewReader(table))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Import(ctx, h.now, sheet, Import{Progress: func(int64) { stop() }}); !errors.Is(err, context.Canceled) {
			t.Fatalf("Import = %v, want it cancelled", err)
		}
		if n := h.count(`SELECT COUNT(*) FROM subscriptions`); n != firstBatch {
			t.Errorf("%d subscriptions after the first batch, want %d", n, firstBatch)
		}
		h.wantBrought(table, Import{}, Admission{Active: readers - firstBatch, Unchanged: firstBatch})
		for query, want := range map[string]int{
			`SELECT COUNT(*) FROM audience`: readers, `SELECT COUNT(*) FROM consents`: readers, `SELECT COUNT(*) FROM particulars`: readers,
			`SELECT COUNT(*) FROM consents c JOIN particulars p ON p.consent = c.id JOIN subscriptions s ON s.consent = c.id AND s.subscriber = c.subscriber`: readers,
		} {
			if got := h.count(query); got != want {
				t.Errorf("%s = %d, want %d", query, got, want)
			}
		}
	})
}

// Readers who sign up while a list with their address is imported neither stop it nor are lost.
func TestImportBesideSignUps(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		done := make(chan error, 1)
		go func() {
			for n := range 200 {
				err := h.SignUp(t.Context(), h.now(), SignUp{Address: fmt.Sprintf("leser.%x@post%d.example", uint32(n)*2654435761, n), Newsletter: "morgen"})
				if err = errors.Join(err, h.Admit(t.Context())); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
		for range 2 {
			h.bring(mailchimpList(1000), Import{})
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := h.count(`SELECT COUNT(*) FROM subscribers`); n != 1000 {
			t.Errorf("%d subscribers, want 1000", n)
		}
	})
}

func TestImportRefusesWhatItCannotUnderstand(t *testing.T) {
	h := newHouse(t, dbtest.SQLite(t), nil)
	for name, c := range map[string]struct {
		table string
		Import
	}{
		"empty":                 {"", Import{}},
		"no addresses":          {"name,ort\nLena,Ahornfurt\n", Import{}},
		"an unknown field":      {"email\n", Import{Map: []string{"email=mail"}}},
		"an unknown column":     {"email\n", Import{Map: []string{"Datum=requested"}}},
		"no assignment":         {"email\n", Import{Map: []string{"email"}}},
		"an unknown status":     {"email\n", Import{Status: "vielleicht"}},
		"an unknown newsletter": {"email\n", Import{Newsletter: "abend"}},
		"an unknown topic":      {"email\n", Import{Topics: []string{"kochen"}}},
	} {
		sheet, err := NewSheet(strings.NewReader(c.table))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Import(t.Context(), h.now, sheet, c.Import); !errors.Is(err, ErrTable) {
			t.Errorf("%s: %v, want it refused", name, err)
		}
	}
	h.wantBrought("lena@wnoz.example\nmax@wnoz.example\n", Import{}, Admission{Unproven: 2}) // a bare list
}

// What leaves one house comes into another as it was, and a third time out again byte for byte.
func TestExportComesBack(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.subscribe("lena@wnoz.example", "politik", "sport")
		h.subscribe("left@wnoz.example")
		if err := h.Unsubscribe(t.Context(), h.now(), "morgen", h.token(ToUnsubscribe, "left@wnoz.example"), ByOneClick, Visit{}); err != nil {
			t.Fatal(err)
		}
		text := "=cmd|' /C calc'!A0\nÄ \"Zitat\"; \r Ende"
		table := &strings.Builder{}
		w := csv.NewWriter(table)
		for _, record := range [][]string{
			{"email", "newsletter", "status", "confirmed", "ip", "source", "text"},
			{"=1+1@wnoz.example", "morgen", "", "2024-01-01", "192.0.2.9", "@SUM(A1)", text},
			{"'=x@wnoz.example", "morgen", "", "", "", "", ""},
			{"+49@wnoz.example", "world", "", "2024-01-01", "", "\tTab", ""},
			{"lena@wnoz.example", "world", "ended", "2024-01-01", "", "form", ""},
			{"dead@wnoz.example", "morgen", "", "2024-01-01", "", "form", ""},
		} {
			for i := range record {
				record[i] = Disarm(record[i])
			}
			if err := w.Write(record); err != nil {
				t.Fatal(err)
			}
		}
		w.Flush()
		h.wantBrought(table.String(), Import{}, Admission{Active: 3, Unproven: 1, Ended: 1})
		if err := suppress(t.Context(), h.db.Write, h.now(), h.keys.Person("dead@wnoz.example"), Bounced, ""); err != nil {
			t.Fatal(err)
		}
		first := h.roll()
		records, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(first, "\ufeff"))).ReadAll()
		if err != nil || len(records) != 8 {
			t.Fatalf("export has %d records, %v\n%s", len(records), err, first)
		}
		for _, field := range slices.Concat(records...) {
			if field != "" && strings.ContainsAny(field[:1], "=+-@\t\r") {
				t.Errorf("a spreadsheet runs %q", field)
			}
		}
		second := newHouse(t, twin(t, h.db), nil)
		second.wantBrought(first, Import{}, Admission{Active: 3, Unproven: 1, Ended: 2, Suppressed: 1})
		second.wantAudience("in the second house", h.audience()...)
		third := newHouse(t, twin(t, h.db), nil)
		third.bring(second.roll(), Import{})
		if a, b := inAnyOrder(second.roll()), inAnyOrder(third.roll()); a != b {
			t.Errorf("the second house exports\n%s\nthe third\n%s", a, b)
		}
		if !strings.Contains(second.roll(), "\"'=cmd|' /C calc'!A0\nÄ \"\"Zitat\"\"; \r Ende\"") {
			t.Errorf("the words changed on the way:\n%q", second.roll())
		}
	})
}

// inAnyOrder sorts the records of a table: readers who came with one list come in the order of their hashes.
func inAnyOrder(table string) string {
	records := strings.Split(table, "\r\n")
	slices.Sort(records)
	return strings.Join(records, "\r\n")
}

func twin(t *testing.T, db *migrations.Database) *migrations.Database {
	t.Helper()
	if db.Kind == migrations.SQLite {
		return dbtest.SQLite(t)
	}
	return dbtest.PostgreSQL(t)
}

func (h *house) roll() string {
	h.t.Helper()
	var out bytes.Buffer
	roll := NewRoll(&out, true)
	if err := errors.Join(h.Export(h.t.Context(), Filter{}, roll.Write), roll.Close()); err != nil {
		h.t.Fatal(err)
	}
	return out.String()
}

// The members' exports of other programs.
func TestImportOfRealLists(t *testing.T) {
	type list struct {
		name string
		want Admission
	}
	for folder, lists := range map[string][]list{
		"csv-ghost": {
			{"member-csv-export.csv", Admission{Unproven: 1, Suppressed: 1}},
			{"members-duplicate-emails.csv", Admission{Unproven: 1, Unchanged: 1}},
			{"members-formula-like-values.csv", Admission{Unproven: 2}},
			{"members-ragged-row.csv", Admission{Unproven: 2}},
			{"members-with-mappings.csv", Admission{Unproven: 1}},
			{"subscribed-to-emails-cases.csv", Admission{Unproven: 9, Suppressed: 3}},
			{"valid-members-import.csv", Admission{Unproven: 1, Suppressed: 1}},
		},
		"csv-ghost-migrate": {
			{"mg-mailchimp-members/src/test/fixtures/subscribed.csv", Admission{Unproven: 5}},
			{"mg-mailchimp-members/src/test/fixtures/unsubscribed.csv", Admission{Suppressed: 5}},
			{"mg-mailchimp-members/src/test/fixtures/cleaned.csv", Admission{Suppressed: 5}},
			{"mg-beehiiv-members/src/test/fixtures/members.csv", Admission{Unproven: 5, Suppressed: 3, Waiting: 1}},
			{"mg-substack-members-csv/test/fixtures/fixtures_signup_emails.csv", Admission{Unproven: 17, Suppressed: 2, Broken: 2}},
			{"mg-substack-members-csv/test/fixtures/fixtures_subscriber_emails.csv", Admission{Unproven: 13, Suppressed: 2, Broken: 2}},
			{"mg-substack-members-csv/test/fixtures/invalid.csv", Admission{Unproven: 3}},
			{"mg-curated-members-csv/test/fixtures/subscribers.csv", Admission{Unproven: 16, Broken: 4}},
			{"mg-tinynews-members/test/fixtures/subs-v1.csv", Admission{Broken: 3}},
			{"mg-tinynews-members/test/fixtures/subs-v2.csv", Admission{Unproven: 1, Suppressed: 1}},
			{"mg-fs-utils/test/fixtures/malformed.csv", Admission{Broken: 1}},
		},
	} {
		root := fixtures(t, folder)
		for _, l := range lists {
			t.Run(l.name, func(t *testing.T) {
				table, err := os.ReadFile(filepath.Join(root, l.name))
				if err != nil {
					t.Fatal(err)
				}
				for _, evident := range []bool{false, true} {
					h := newHouse(t, dbtest.SQLite(t), nil)
					i := Import{}
					if l.name == "members-with-mappings.csv" {
						i.Map = []string{"correo_electrpnico=email"}
					}
					if evident {
						i.Evidence = Evidence{Text: "Ja", Source: "form", At: morning.Add(-day)}
					}
					a, _ := h.bring(string(table), i)
					if evident {
						a.Unproven, a.Active = a.Active, a.Unproven
					}
					h.wantAdmission(a, l.want)
					h.wantNoneWhoLeft(string(table))
				}
			})
		}
	}
}

// A real table that is none of readers is refused whole, with what is missing.
func TestImportOfARealTableWithoutAddresses(t *testing.T) {
	table, err := os.ReadFile(filepath.Join(fixtures(t, "csv-ghost-migrate"), "mg-fs-utils/test/fixtures/example.csv"))
	if err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, dbtest.SQLite(t), nil)
	before := h.dump()
	sheet, err := NewSheet(bytes.NewReader(table))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = h.Import(t.Context(), h.now, sheet, Import{}); !errors.Is(err, ErrTable) || !strings.Contains(err.Error(), "address") {
		t.Errorf("Import = %v, want an ErrTable that says what is missing", err)
	}
	if h.dump() != before {
		t.Error("the table left something behind")
	}
}

// wantNoneWhoLeft reads the list once more by other means: nobody in the audience stands in a line that says they are gone.
func (h *house) wantNoneWhoLeft(table string) {
	h.t.Helper()
	audience := h.audience()
	for line := range strings.SplitSeq(strings.ToLower(table), "\n") {
		address, _, _ := strings.Cut(line, ",")
		if slices.Contains(audience, address) && (strings.Contains(line, "unsubscribed") || strings.Contains(line, "inactive") || strings.Contains(line, "pending")) {
			h.t.Errorf("in the audience: %s", line)
		}
	}
	if strings.Contains(table, "CLEAN_TIME") || strings.Contains(table, "UNSUB_TIME") {
		h.wantAudience("of a list of those who are gone")
	}
}

// Addresses nobody here wrote: each line is taken or told, and none becomes an address that is not in the list.
func TestImportOfRealAddresses(t *testing.T) {
	var lines []string
	var cases []struct{ Input string }
	readJSON(t, filepath.Join(fixtures(t, "emailaddr-wpt"), "email-validity.extracted.json"), &cases)
	for _, c := range cases {
		lines = append(lines, c.Input)
	}
	for _, name := range []string{"email.json", "idn-email.json"} {
		var groups []struct{ Tests []struct{ Data any } }
		readJSON(t, filepath.Join(fixtures(t, "emailaddr-jsonschema"), "tests/draft2020-12/optional/format", name), &groups)
		for _, group := range groups {
			for _, test := range group.Tests {
				if text, isText := test.Data.(string); isText {
					lines = append(lines, text)
				}
			}
		}
	}
	each(t, func(t *testing.T, h *house) { h.bringAll(lines) })
}

// bringAll imports each text as an address of a line of its own.
func (h *house) bringAll(texts []string) {
	h.t.Helper()
	table := &strings.Builder{}
	w := csv.NewWriter(table)
	_ = w.Write([]string{"email", "n"})
	want, distinct := 0, map[string]bool{}
	for i, text := range texts {
		_ = w.Write([]string{text, fmt.Sprint(i)})
		if a, err := ParseAddress(strings.TrimSpace(Rearm(text))); err == nil && !a.isRole() && !strings.ContainsRune(text, 0) {
			want++
			distinct[a.Mailbox] = true
		}
	}
	w.Flush()
	a, problems := h.bring(table.String(), Import{})
	if a.Lines != len(texts) || len(problems) != len(texts)-want || a.Unproven != len(distinct) {
		h.t.Errorf("Import = %+v, %d problems, want %d lines, %d taken, %d readers", a, len(problems), len(texts), want, len(distinct))
	}
}

// Hostile strings in every column: each line is taken or told, what is taken comes out again as it went in, and no mail says any of it.
func TestImportOfNaughtyStrings(t *testing.T) {
	var naughty []string
	readJSON(t, filepath.Join(fixtures(t, "naughty-strings"), "blns.json"), &naughty)
	each(t, func(t *testing.T, h *house) {
		h.bringAll(naughty)
		table := &bytes.Buffer{}
		w := csv.NewWriter(table)
		_ = w.Write([]string{"email", "name", "tags", "source", "text", "confirmed"})
		for i, text := range naughty {
			_ = w.Write([]string{fmt.Sprintf("n%d@wnoz.example", i), text, text, Disarm(text), Disarm(text), "2024-01-01"})
		}
		w.Flush()
		a, problems := h.bring(table.String(), Import{})
		if a.Active+a.Unproven+a.Broken != len(naughty) || a.Active < len(naughty)-10 || len(problems) != a.Broken {
			t.Errorf("Import = %+v, %v", a, problems)
		}
		second := newHouse(t, twin(t, h.db), nil)
		second.bring(h.roll(), Import{})
		if a, b := h.listing(), second.listing(); a != b {
			t.Errorf("what went out did not come in: %d and %d bytes", len(a), len(b))
		}
	})
}

// listing is what an export says but for the keys of a house.
func (h *house) listing() string {
	h.t.Helper()
	var lines []string
	err := h.Export(h.t.Context(), Filter{State: Active}, func(e Entry) error {
		line, err := json.Marshal([]string{e.Address, e.Source, e.Text, e.Confirmed, strings.Join(e.Topics, ",")})
		lines = append(lines, string(line))
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// Where encoding/csv reads a table without complaint, Sheet reads the same records; where it does not, no line is lost: each
// record or complaint begins after the one before it, and the file is read to its end.
func FuzzSheet(f *testing.F) {
	for _, seed := range []string{
		"email\na@b.de\n", "a,b\n\"x\ny\",z\n", "a;b\n\"x\n", "\ufeffa\r\n\"\"\"\"\r\n", "a,b\n\"x\"y\nq\n", "a\rb", "\xff\xfea\x00\n\x00", "sep=;\na;b", "a\n\"\n\"\n\"", "\x00",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, table string) {
		sheet, err := NewSheet(strings.NewReader(table))
		if err != nil {
			t.Fatal(err)
		}
		var got [][]string
		last, broken := 0, false
		for {
			l, err := sheet.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if l.Number <= last || l.Number > strings.Count(table, "\n")+strings.Count(table, "\r")+1 || (l.Err == nil) == (l.Fields == nil) {
				t.Fatalf("line %+v after %d", l, last)
			}
			last, broken = l.Number, broken || l.Err != nil
			if l.Err == nil {
				got = append(got, l.Fields)
			}
		}
		if sheet.Done() != int64(len(table)) || sheet.Size != int64(len(table)) {
			t.Fatalf("read %d of %d bytes", sheet.Done(), len(table))
		}
		strict := csv.NewReader(strings.NewReader(strings.TrimPrefix(table, "\ufeff")))
		strict.Comma, strict.FieldsPerRecord = rune(sheet.Separator), -1
		want, err := strict.ReadAll()
		if err != nil || broken || sheet.Encoding != "UTF-8" || strings.HasPrefix(strings.TrimPrefix(table, "\ufeff"), "sep=") || strings.Contains(strings.ReplaceAll(table, "\r\n", ""), "\r") {
			return
		}
		want = slices.DeleteFunc(want, func(record []string) bool { return len(record) == 1 && strings.TrimSpace(record[0]) == "" })
		got = slices.DeleteFunc(got, func(record []string) bool { return len(record) == 1 && strings.TrimSpace(record[0]) == "" })
		if sheet.Separator != '\t' && fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Fatalf("%q is read as %q, want %q", table, got, want)
		}
	})
}

func FuzzDisarm(f *testing.F) {
	for _, seed := range []string{"=1", "'=1", "''", "-", "a=", "\t", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, field string) {
		safe := Disarm(field)
		if safe != "" && strings.ContainsAny(safe[:1], "=+-@\t\r") {
			t.Fatalf("Disarm(%q) = %q", field, safe)
		}
		if again := Rearm(safe); again != field {
			t.Fatalf("Rearm(Disarm(%q)) = %q", field, again)
		}
	})
}
