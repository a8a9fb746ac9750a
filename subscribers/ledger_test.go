package subscribers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"depesche/migrations"
	"depesche/migrations/dbtest"
	"depesche/templates"
)

// seal seals and verifies; what is wrong must be as wanted, "" for nothing.
func (h *house) wantVerified(want string, heads ...Head) Verification {
	h.t.Helper()
	v, err := h.Verify(h.t.Context(), heads...)
	if err != nil {
		h.t.Fatalf("Verify = %v", err)
	}
	got := ""
	if len(v.Breaks) > 0 {
		got = fmt.Sprintf("%d %s", v.Breaks[0].Number, v.Breaks[0].What)
	}
	if got != want || v.Valid() != (want == "") {
		h.t.Errorf("Verify names %q first (%d broken: %+v), want %q", got, v.Broken, v.Breaks, want)
	}
	return v
}

func (h *house) seal() Head {
	h.t.Helper()
	head, err := h.Seal(h.t.Context())
	if err != nil {
		h.t.Fatalf("Seal = %v", err)
	}
	return head
}

// force changes what triggers guard, as somebody does who has the database's file.
func (h *house) force(statements ...string) {
	h.t.Helper()
	triggers := []string{"consents_sealed ON consents", "wordings_unchanged ON wordings"}
	if h.db.Kind == migrations.SQLite {
		triggers = []string{"consents_sealed", "consents_unsealed", "consents_kept", "wordings_unchanged", "wordings_kept"}
	}
	for _, trigger := range triggers {
		if _, err := h.db.Write.Exec(`DROP TRIGGER IF EXISTS ` + trigger); err != nil {
			h.t.Fatal(err)
		}
	}
	for _, statement := range statements {
		if _, err := h.db.Write.Exec(statement); err != nil {
			h.t.Fatalf("%s: %v", statement, err)
		}
	}
}

func TestSealAndVerify(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.wantVerified("")
		h.subscribe("lena@wnoz.example", "sport")
		first := h.seal()
		if first.Number != 3 || h.count(`SELECT COUNT(*) FROM consents WHERE number IS NULL`) != 0 {
			t.Errorf("Seal = %v, want 3 events sealed and none left", first)
		}
		h.subscribe("omar@wnoz.example")
		if second := h.seal(); second.Number != 6 || second.Chain == first.Chain {
			t.Errorf("a second Seal = %v after %v", second, first)
		}
		if again := h.seal(); again.Number != 6 {
			t.Errorf("Seal with nothing to do = %v", again)
		}
		if v := h.wantVerified("", first); v.Events != 6 || v.Erased != 0 || v.Head.Number != 6 {
			t.Errorf("Verify = %+v, want 6 events", v)
		}
		if _, err := ParseHead(first.String()); err != nil {
			t.Error(err)
		}
	})
}

// Whatever is changed in the ledger is found, and the first link that does not hold is named with what is wrong with it.
func TestVerifyNamesTheFirstBrokenLink(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.subscribe("lena@wnoz.example", "sport")
		early := h.seal()
		h.subscribe("omar@wnoz.example")
		h.signUp("hatice@wnoz.example")
		h.seal()
		h.force()
		changes := []struct{ change, back, want string }{
			{`UPDATE consents SET at = at + 1 WHERE number = 2`, `UPDATE consents SET at = at - 1 WHERE number = 2`, "2 one of its fields was changed"},
			{`UPDATE consents SET kind = 'withdrawn' WHERE number = 3`, `UPDATE consents SET kind = 'confirmed' WHERE number = 3`, "3 one of its fields was changed"},
			{`UPDATE consents SET person = 'x' || SUBSTR(person, 2) WHERE number = 1`, ``, "1 one of its fields was changed"},
			{`UPDATE consents SET wording = NULL WHERE number = 4`, ``, "4 one of its fields was changed"},
			{`UPDATE consents SET newsletter = 'world' WHERE number = 7`, `UPDATE consents SET newsletter = 'morgen' WHERE number = 7`, "7 one of its fields was changed"},
			{`UPDATE consents SET chain = 'f' || SUBSTR(chain, 1, 63) WHERE number = 5`, ``, "5 its link was changed"},
			{`UPDATE consents SET chain = 'f' || SUBSTR(chain, 1, 63) WHERE number = 7`, ``, "7 its link was changed"},
			{`UPDATE particulars SET body = '{}' WHERE consent = (SELECT id FROM consents WHERE number = 6)`, ``, "6 its particulars were changed"},
			{
				`UPDATE wordings SET text = text || '.' WHERE hash = (SELECT wording FROM consents WHERE number = 2)`, ``,
				"2 the words it refers to were changed",
			},
			{`UPDATE house SET value = '` + early.String() + `' WHERE key = 'ledger_head'`, ``, "4 the event was not sealed by us"},
			{`UPDATE consents SET number = number + 100 WHERE number = 5`, `UPDATE consents SET number = 5 WHERE number = 105`, "5 the event is missing"},
			{`UPDATE consents SET number = number + 100 WHERE number = 7`, ``, "7 the event is missing: the ledger was cut off"},
		}
		kept := h.keepLedger()
		for _, c := range changes {
			if h.force(c.change); h.count(`SELECT COUNT(*) FROM consents`) != 7 {
				t.Fatal("the test itself lost events")
			}
			h.wantVerified(c.want)
			if h.restoreLedger(kept); t.Failed() {
				t.Fatalf("after %s", c.change)
			}
			h.wantVerified("")
		}
	})
}

// keepLedger and restoreLedger take back what a test changed.
func (h *house) keepLedger() []string {
	h.t.Helper()
	var tables []string
	for _, table := range []string{"consents", "particulars", "wordings", "house"} {
		h.force(`CREATE TABLE kept_` + table + ` AS SELECT * FROM ` + table)
		tables = append(tables, table)
	}
	return tables
}

func (h *house) restoreLedger([]string) {
	h.t.Helper()
	h.force(
		`UPDATE consents SET (at, kind, person, wording, newsletter, number, chain) =
			(SELECT at, kind, person, wording, newsletter, CAST(NULL AS BIGINT), chain FROM kept_consents k WHERE k.id = consents.id)`,
		`UPDATE consents SET number = (SELECT number FROM kept_consents k WHERE k.id = consents.id)`,
		`UPDATE particulars SET body = (SELECT body FROM kept_particulars k WHERE k.consent = particulars.consent)`,
		`UPDATE wordings SET text = (SELECT text FROM kept_wordings k WHERE k.hash = wordings.hash)`,
		`UPDATE house SET value = (SELECT value FROM kept_house k WHERE k.key = house.key)`,
	)
}

// Who cuts the end off and puts an old head back, which is genuine, is given away by a head that was written down elsewhere.
func TestVerifyFindsACutOffLedger(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.subscribe("lena@wnoz.example")
		early := h.seal()
		h.signUp("omar@wnoz.example")
		late := h.seal()
		h.force(`DELETE FROM particulars WHERE consent IN (SELECT id FROM consents WHERE number > 3)`,
			`DELETE FROM consents WHERE number > 3`, `UPDATE house SET value = '`+early.String()+`' WHERE key = 'ledger_head'`)
		h.wantVerified("") // nothing inside the database can tell
		h.wantVerified("4 the event is missing: the ledger once ended at 4", early, late)
	})
}

// A byte that flips on the disk is found, wherever in the ledger it flips.
func TestVerifyFindsAFlippedByte(t *testing.T) {
	location := dbtest.SQLiteLocation(t)
	h := newHouse(t, openAt(t, location), nil)
	h.subscribe("lena@wnoz.example", "sport")
	h.subscribe("omar@wnoz.example", "politik")
	h.seal()
	var person, chain, particulars, wording string
	err := h.db.Read.QueryRow(`SELECT person, chain, particulars, wording FROM consents WHERE number = 4`).Scan(&person, &chain, &particulars, &wording)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.db.Write.Exec(`PRAGMA wal_checkpoint(TRUNCATE)`); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(location)
	if err != nil {
		t.Fatal(err)
	}
	for name, bytes := range map[string]string{
		"chain": chain, "particulars' hash": particulars, "what a reader saw": "Mit Ihrer Registrierung", "what was pressed": "Themen: Politik",
		"particulars": `"topics":["politik"]`,
	} {
		at := strings.Index(string(whole), bytes)
		if at < 0 {
			t.Fatalf("%s are not in the file", name)
		}
		flipped := []byte(string(whole))
		flipped[at+2] ^= 1
		other := dbtest.SQLiteLocation(t)
		if err := os.WriteFile(other, flipped, 0o600); err != nil {
			t.Fatal(err)
		}
		registry, err := New(openAt(t, other), loadKeys(t, h.keyFile), templates.FS(""), testSettings())
		if err != nil {
			t.Fatal(err)
		}
		v, err := registry.Verify(t.Context())
		if err == nil && v.Valid() {
			t.Errorf("%s: a flipped byte is not found", name)
		}
		if err == nil && (len(v.Breaks) == 0 || v.Breaks[0].Number == 0) {
			t.Errorf("%s: the broken link is not named: %+v", name, v.Breaks)
		}
	}
}

func openAt(t *testing.T, location string) *migrations.Database {
	t.Helper()
	db, err := migrations.Open(t.Context(), location)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := db.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}

// Many sealers at once, beside sign-ups, number every event once.
func TestParallelSealers(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		together(t, 12, func(i int) error {
			ctx := context.WithoutCancel(t.Context())
			if i%2 == 0 {
				_, err := h.Seal(ctx)
				return err
			}
			err := h.SignUp(ctx, h.now(), SignUp{Address: fmt.Sprintf("leser%d@wnoz.example", i), Newsletter: "morgen"})
			return errors.Join(err, h.Admit(ctx))
		})
		h.admit() // what another had in hand
		if head := h.seal(); head.Number != 6 {
			t.Errorf("Seal = %v, want 6 events", head)
		}
		h.wantVerified("")
	})
}

func TestOtherKeysAreNamed(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, nil)
		h.signUp("lena@wnoz.example")
		h.seal()
		if err := RotateKeys(h.keyFile); err != nil {
			t.Fatal(err)
		}
		h.open(db, templates.FS(""), testSettings())
		h.wantVerified("") // token keys have nothing to do with it
		other := newHouse(t, db, nil)
		if _, err := other.Verify(t.Context()); !errors.Is(err, ErrKeys) {
			t.Errorf("Verify with other keys = %v, want ErrKeys", err)
		}
		other.signUp("omar@wnoz.example")
		if _, err := other.Seal(t.Context()); !errors.Is(err, ErrKeys) {
			t.Errorf("Seal with other keys = %v, want ErrKeys", err)
		}
	})
}

func TestHeads(t *testing.T) {
	for _, bad := range []string{"", "1", "1:", "0:ab", "x:" + strings.Repeat("a", 64), "-1:" + strings.Repeat("a", 64), "1:" + strings.Repeat("g", 64)} {
		if h, err := ParseHead(bad); err == nil {
			t.Errorf("ParseHead(%q) = %v, want an error", bad, h)
		}
	}
}

// A million events: rates, and memory that does not grow with them. DEPESCHE_EXAM says that there is time for it,
// DEPESCHE_EXAM_EVENTS how many.
func TestExamLedger(t *testing.T) {
	if os.Getenv("DEPESCHE_EXAM") == "" {
		t.Skip("SKIPPED: an exam of a million events, wanted by DEPESCHE_EXAM")
	}
	each(t, func(t *testing.T, h *house) {
		h.subscribe("lena@wnoz.example")
		events := 1_000_000
		if less, err := strconv.Atoi(os.Getenv("DEPESCHE_EXAM_EVENTS")); err == nil {
			events = less
		}
		numbers := `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ` + fmt.Sprint(events) + `) `
		h.force(
			`INSERT INTO consents (id, subscriber, newsletter, kind, at, wording, person, particulars) `+numbers+`
				SELECT n.i, c.subscriber, c.newsletter, c.kind, c.at, c.wording, c.person, c.particulars
				FROM n, (SELECT * FROM consents WHERE kind = 'confirmed') c`,
			`INSERT INTO particulars (consent, salt, body, ip_salt, ip)
				SELECT c.id, p.salt, p.body, p.ip_salt, p.ip
				FROM consents c, (SELECT * FROM particulars WHERE consent = (SELECT MAX(id) FROM consents)) p WHERE c.id <= `+fmt.Sprint(events))
		began := time.Now()
		head := h.seal()
		sealed := time.Since(began)
		began = time.Now()
		stop, peak := make(chan struct{}), make(chan uint64)
		go func() {
			var most uint64
			var m runtime.MemStats
			for tick := time.NewTicker(20 * time.Millisecond); ; {
				select {
				case <-stop:
					peak <- most
					return
				case <-tick.C:
					runtime.ReadMemStats(&m)
					most = max(most, m.HeapInuse)
				}
			}
		}()
		v := h.wantVerified("")
		close(stop)
		most := <-peak
		t.Logf("%d events sealed in %v (%.0f/s), verified in %v, heap at most %d MB", head.Number, sealed,
			float64(head.Number)/sealed.Seconds(), time.Since(began), most>>20)
		if v.Events != int64(events)+3 || most > 64<<20 {
			t.Errorf("Verify looked at %d events with %d MB", v.Events, most>>20)
		}
	})
}
