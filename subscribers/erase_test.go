package subscribers

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"depesche/migrations"
	"depesche/templates"
)

// nothing stands for the newsroom, which has no deliveries here.
func nothing(context.Context, *sql.Tx, time.Time, int64) (int64, error) { return 0, nil }

func (h *house) erase(address string) Erasure {
	h.t.Helper()
	gone, err := h.Erase(h.t.Context(), h.now(), address, nothing)
	if err != nil {
		h.t.Fatalf("Erase = %v", err)
	}
	return gone
}

// found says in which files of a SQLite database the text stands: the database, its log, and a backup taken now.
func (h *house) found(text string) []string {
	h.t.Helper()
	if h.db.Kind != migrations.SQLite {
		return nil
	}
	backup := filepath.Join(h.t.TempDir(), "backup.db")
	if err := h.db.Backup(h.t.Context(), backup, false); err != nil {
		h.t.Fatal(err)
	}
	files, err := filepath.Glob(h.db.Path() + "*")
	if err != nil || len(files) < 3 {
		h.t.Fatalf("files of the database = %v, %v", files, err)
	}
	var holders []string
	for _, file := range append(files, backup) {
		content, err := os.ReadFile(file)
		if err != nil {
			h.t.Fatal(err)
		}
		if bytes.Contains(bytes.ToLower(content), []byte(text)) {
			holders = append(holders, filepath.Base(file))
		}
	}
	return holders
}

// After an erasure nothing names the person, in no file of the database; the ledger holds, and says that it was erased.
func TestErase(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		gone, stays := "lena.weg@wnoz.example", "omar@wnoz.example"
		h.subscribe(gone, "sport")
		h.subscribe(stays)
		again := SignUp{Address: "Lena.Weg@WNOZ.example", Newsletter: "morgen", Topics: []string{"politik"}}
		if err := h.SignUp(t.Context(), h.now(), again); err != nil { // asks for the link, and nobody has decided about it yet
			t.Fatal(err)
		}
		if h.db.Kind == migrations.SQLite && len(h.found("lena.weg")) == 0 {
			t.Fatal("the search itself is blind")
		}
		h.seal()
		erasure := h.erase("LENA.WEG@wnoz.example")
		if erasure.Subscriptions != 1 || erasure.Letters != 2 || erasure.Particulars != 3 || erasure.Traces {
			t.Errorf("Erase = %+v", erasure)
		}
		if strings.Contains(strings.ToLower(h.dump()), "lena.weg") {
			t.Error("the address is still in a table")
		}
		if holders := h.found("lena.weg"); len(holders) > 0 {
			t.Errorf("the address is still in %v", holders)
		}
		h.wantAudience("after the erasure", stays)
		h.wantEvents(gone, Requested, Mailed, Confirmed, Erased)
		proof, err := h.Proof(t.Context(), gone)
		if err != nil || proof.Erased.IsZero() || proof.Events[0].Status != Deleted || proof.Events[0].Wording == nil {
			t.Errorf("Proof after the erasure = %+v, %v", proof, err)
		}
		h.seal()
		if v := h.wantVerified(""); v.Erased != 3 {
			t.Errorf("Verify counts %d erased, want 3", v.Erased)
		}
		if again := h.erase(gone); again != (Erasure{}) {
			t.Errorf("a second Erase = %+v, want nothing", again)
		}
		h.wantEvents(gone, Requested, Mailed, Confirmed, Erased)
		if n := h.count(`SELECT COUNT(*) FROM suppressions`); n != 1 {
			t.Errorf("suppressions = %d, want that of the erased", n)
		}
		if _, err := h.Erase(t.Context(), h.now(), "niemand@wnoz.example", nothing); !errors.Is(err, ErrNotFound) {
			t.Errorf("Erase of a stranger = %v, want ErrNotFound", err)
		}
		h.later(25 * time.Hour) // letters to the address are still counted
		h.subscribe(gone)       // of their own will they may come back
		h.wantAudience("after a new sign-up", gone, stays)
	})
}

// A reader who keeps the log from being emptied is waited for by cleanup.
func TestErasureIsFinishedByCleanup(t *testing.T) {
	h := newHouse(t, openAt(t, filepath.Join(t.TempDir(), "test.db")), nil)
	h.subscribe("lena.weg@wnoz.example")
	if _, err := h.db.Write.Exec(`PRAGMA busy_timeout = 50`); err != nil {
		t.Fatal(err)
	}
	reading, err := h.db.Read.Begin()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := reading.QueryRow(`SELECT COUNT(*) FROM subscribers`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	if gone := h.erase("lena.weg@wnoz.example"); !gone.Traces {
		t.Errorf("Erase while somebody reads = %+v, want traces", gone)
	}
	if len(h.found("lena.weg")) == 0 {
		t.Error("there are no traces to find: the test proves nothing")
	}
	if c, err := h.Cleanup(t.Context(), h.now(), true); err != nil || !c.Traces {
		t.Errorf("a dry Cleanup = %+v, %v, want traces", c, err)
	}
	if err := reading.Rollback(); err != nil {
		t.Fatal(err)
	}
	if c, err := h.Cleanup(t.Context(), h.now(), false); err != nil || c.Traces {
		t.Errorf("Cleanup = %+v, %v, want no traces left", c, err)
	}
	if holders := h.found("lena.weg"); len(holders) > 0 {
		t.Errorf("after cleanup the address is still in %v", holders)
	}
}

// secure_delete knows nothing of copies that splitting a page leaves in its gaps: the file is searched, and written anew.
func TestEraseFindsCopiesInGaps(t *testing.T) {
	h := newHouse(t, openAt(t, filepath.Join(t.TempDir(), "test.db")), nil)
	h.subscribe("lena@wnoz.example")
	unused := h.unusedPage()
	copied := []byte("lena.kopie@wnoz.example")
	file, err := os.OpenFile(h.db.Path(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt(copied, unused); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	h.subscribe("lena.kopie@wnoz.example")
	if gone := h.erase("lena.kopie@wnoz.example"); gone.Traces {
		t.Errorf("Erase = %+v, want no traces", gone)
	}
	if holders := h.found("lena.kopie"); len(holders) > 0 {
		t.Errorf("the copy is still in %v", holders)
	}
}

// unusedPage empties the log and gives a place in the gap of the table pictures' page, which nothing uses.
func (h *house) unusedPage() int64 {
	h.t.Helper()
	if _, err := h.db.Write.Exec(`PRAGMA wal_checkpoint(TRUNCATE)`); err != nil {
		h.t.Fatal(err)
	}
	return int64(h.count(`SELECT rootpage FROM sqlite_master WHERE name = 'pictures'`)-1)*int64(h.count(`SELECT page_size FROM pragma_page_size`)) + 100
}

// What is over goes, what is not stays, and a dry run says the same and changes nothing.
func TestCleanup(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		v := Visit{IP: parseIP(t, "203.0.113.77")}
		left, reads, never := "left@wnoz.example", "reads@wnoz.example", "never@wnoz.example"
		for _, address := range []string{left, reads} {
			if err := h.SignUp(ctx, h.now(), SignUp{Address: address, Newsletter: "morgen", Visit: v}); err != nil {
				t.Fatal(err)
			}
			if err := h.Confirm(ctx, h.now(), "morgen", h.letter(ConfirmLetter).Token, v); err != nil {
				t.Fatal(err)
			}
		}
		h.later(time.Minute)
		if err := h.Unsubscribe(ctx, h.now(), "morgen", h.token(ToUnsubscribe, left), ByOneClick, Visit{}); err != nil {
			t.Fatal(err)
		}
		if err := h.RecordAccess(ctx, h.now(), "jana", "subscriber show", left); err != nil {
			t.Fatal(err)
		}
		h.signUp(never)
		h.mail()
		h.seal()
		berlin := time.Date(2029, 12, 31, 23, 30, 0, 0, time.UTC) // left in 2026: to the end of 2029
		for _, step := range []struct {
			at   time.Time
			want Cleanup
		}{
			{morning.Add(2 * day), Cleanup{}},
			{morning.Add(8 * day), Cleanup{Unconfirmed: 1}},
			{morning.Add(100 * day), Cleanup{Letters: 2}},
			{morning.Add(200 * day), Cleanup{IPs: 4}},
			{morning.Add(370 * day), Cleanup{Accesses: 1}},
			{berlin, Cleanup{}},
			{berlin.Add(time.Hour), Cleanup{Former: 1}},
			{berlin.Add(400 * day), Cleanup{}},
		} {
			before := h.dump()
			dry, err := h.Cleanup(ctx, step.at, true)
			if err != nil {
				t.Fatal(err)
			}
			if h.dump() != before {
				t.Errorf("at %v the dry run changed the database", step.at)
			}
			done, err := h.Cleanup(ctx, step.at, false)
			if err != nil || done != step.want {
				t.Errorf("at %v Cleanup = %+v, %v, want %+v", step.at, done, err, step.want)
			}
			dry.DryRun, dry.Traces = false, false
			if dry != done {
				t.Errorf("at %v the dry run said %+v, then went %+v", step.at, dry, done)
			}
			h.seal()
			h.wantVerified("")
		}
		for _, address := range []string{"left@", "never@", "203.0.113"} {
			if strings.Contains(h.dump(), address) {
				t.Errorf("%s is still in a table", address)
			}
			if holders := h.found(address); len(holders) > 0 {
				t.Errorf("%s is still in %v", address, holders)
			}
		}
		h.wantAudience("after all", reads)
		proof, err := h.Proof(ctx, reads)
		if err != nil || proof.Events[0].Status != Intact || proof.Events[0].IPStatus != Deleted || proof.Events[0].Particulars.Address != reads {
			t.Errorf("Proof = %+v, %v, want all intact but the network address", proof.Events, err)
		}
	})
}

func TestAccesses(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		for _, x := range []struct{ command, address string }{
			{"subscriber list", ""}, {"subscriber show", "lena@wnoz.example"}, {"subscriber proof", "Lena@WNOZ.example"}, {"subscriber show", "omar@wnoz.example"},
		} {
			if err := h.RecordAccess(t.Context(), h.now(), "jana", x.command, x.address); err != nil {
				t.Fatal(err)
			}
		}
		if strings.Contains(strings.ToLower(h.dump()), "@wnoz") {
			t.Error("an address is in the record of accesses")
		}
		all, err := h.Accesses(t.Context(), "lena@wnoz.example")
		var commands []string
		for _, x := range all {
			commands = append(commands, x.Command)
		}
		if want := []string{"subscriber list", "subscriber show", "subscriber proof"}; err != nil || !slices.Equal(commands, want) {
			t.Errorf("Accesses = %v, %v, want %v", commands, err, want)
		}
		if all, err := h.Accesses(t.Context(), ""); err != nil || len(all) != 4 {
			t.Errorf("all Accesses = %v, %v, want 4", all, err)
		}
	})
}

// The page for print has everything in it, in either language, and nothing of the words that are no longer in use.
func TestProofPage(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.subscribe("lena@wnoz.example", "sport")
		h.seal()
		proof, err := h.Proof(t.Context(), "lena@wnoz.example")
		if err != nil {
			t.Fatal(err)
		}
		berlin, err := time.LoadLocation("Europe/Berlin")
		if err != nil {
			t.Fatal(err)
		}
		for language, words := range map[string][]string{
			"": {`<html lang="de">`, "Nachweis der Einwilligung", "25. September 2026, 08:00:00 Uhr (MESZ)", "Anmeldung bestätigt", "Das stand in der Mail"},
			"en": {
				`<html lang="en">`, "Proof of consent", "25 September 2026, 08:00:00 (CEST)", "Sign-up confirmed", "What the mail said",
			},
		} {
			page, err := h.ProofPage(proof, language, berlin)
			if err != nil {
				t.Fatal(err)
			}
			words = append(words, "lena@wnoz.example", "Mit Ihrer Registrierung", "Please press: TOKEN, …", "2.0.0 OK", "x@talbote.example", proof.Events[2].Chain)
			for _, want := range words {
				if !strings.Contains(string(page), want) {
					t.Errorf("the page in %q lacks %q", language, want)
				}
			}
			for _, foreign := range []string{"<link", "<script", "<img", "src=", "url(", "@import"} {
				if strings.Contains(string(page), foreign) {
					t.Errorf("the page in %q is not self-contained: %s", language, foreign)
				}
			}
		}
		h.erase("lena@wnoz.example")
		if proof, err = h.Proof(t.Context(), "lena@wnoz.example"); err != nil {
			t.Fatal(err)
		}
		page, err := h.ProofPage(proof, "", berlin)
		if err != nil || !strings.Contains(string(page), "wurden am 25. September 2026") || strings.Count(string(page), "<strong>gelöscht</strong>") != 3 {
			t.Errorf("the page after an erasure does not say so: %v\n%s", err, page)
		}
		data, err := h.PersonalData(t.Context(), h.now(), "lena@wnoz.example")
		if err != nil || data.Reader != nil {
			t.Errorf("PersonalData of the erased = %+v, %v", data, err)
		}
	})
}

// A link of the first key still unsubscribes when two more came after it.
func TestKeysRotatedTwice(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.subscribe("lena@wnoz.example")
		token := h.token(ToUnsubscribe, "lena@wnoz.example")
		for range 2 {
			if err := RotateKeys(h.keyFile); err != nil {
				t.Fatal(err)
			}
		}
		h.open(h.db, templates.FS(""), testSettings())
		if err := h.Unsubscribe(t.Context(), h.now().Add(time.Hour), "morgen", token, ByOneClick, Visit{}); err != nil {
			t.Errorf("Unsubscribe with a link of the first key = %v", err)
		}
		h.wantAudience("after leaving with the first key's link")
	})
}
