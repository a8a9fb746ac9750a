package subscribers

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"depesche/migrations"
	"depesche/migrations/dbtest"
	"depesche/templates"
)

var morning = time.Date(2026, 9, 25, 6, 0, 0, 0, time.UTC)

// house is a registry with its database, keys, clock and pages behind a real listener.
type house struct {
	*Registry
	t       *testing.T
	keyFile string
	clock   atomic.Int64
	server  *httptest.Server
	logged  *strings.Builder
}

func testSettings() Settings {
	return Settings{
		BaseURL: "https://news.talbote.example", Language: "de", PerNetwork: 1000,
		Publisher: Publisher{
			Name: "Talbote Verlag", Paper: "Talbote", Address: "Am Markt 3, 99999 Ahornfurt", Email: "redaktion@talbote.example",
			PrivacyURL: "https://talbote.example/datenschutz", ImprintURL: "https://talbote.example/impressum",
		},
		Newsletters: []Newsletter{
			{Slug: "morgen", Title: "Talbote am Morgen", Promise: "Jeden Morgen um sechs.", Topics: []Topic{
				{"ukraine", "Krieg in der Ukraine"}, {"politik", "Politik"}, {"sport", "Sport"},
			}},
			{Slug: "world", Title: "Talbote World", Language: "en", Topics: []Topic{{"politics", "Politics"}, {"sport", "Sport"}}},
		},
	}
}

// newHouse opens a house; change alters its settings and may be nil.
func newHouse(t *testing.T, db *migrations.Database, change func(*Settings)) *house {
	t.Helper()
	keyFile := filepath.Join(t.TempDir(), "keys")
	if err := CreateKeys(keyFile); err != nil {
		t.Fatal(err)
	}
	s := testSettings()
	if change != nil {
		change(&s)
	}
	h := &house{t: t, keyFile: keyFile, logged: &strings.Builder{}}
	h.clock.Store(morning.UnixMilli())
	h.open(db, templates.FS(""), s)
	return h
}

// open starts the registry and its pages, as a new process would.
func (h *house) open(db *migrations.Database, templates fs.FS, s Settings) {
	h.t.Helper()
	registry, err := New(db, loadKeys(h.t, h.keyFile), templates, s)
	if err != nil {
		h.t.Fatal(err)
	}
	h.Registry = registry
	h.server = httptest.NewServer(registry.Pages(h.now, h.log()))
	h.t.Cleanup(h.server.Close)
}

func (h *house) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(h.logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// each runs a test with a house on either database.
func each(t *testing.T, test func(t *testing.T, h *house)) {
	t.Helper()
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) { test(t, newHouse(t, db, nil)) })
}

// now is a millisecond later at each look, so that events have an order.
func (h *house) now() time.Time { return time.UnixMilli(h.clock.Add(1)).UTC() }

func (h *house) later(d time.Duration) { h.clock.Add(d.Milliseconds()) }

func (h *house) signUp(address string, topics ...string) {
	h.t.Helper()
	if err := h.SignUp(h.t.Context(), h.now(), SignUp{Address: address, Newsletter: "morgen", Topics: topics}); err != nil {
		h.t.Fatalf("SignUp(%q) = %v", address, err)
	}
	h.admit()
}

// admit decides about what was signed up, as serve does.
func (h *house) admit() {
	h.t.Helper()
	if err := h.Admit(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

// mail sends every letter that is due, as the dispatcher does, to a server that takes each.
func (h *house) mail() []Letter {
	h.t.Helper()
	ctx, now := h.t.Context(), h.now()
	letters, err := h.ClaimLetters(ctx, now, 1, time.Minute, 100)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, l := range letters {
		if err := h.KeepMessage(ctx, now, l, "To: "+l.Address+"\r\n\r\nTOKEN", "Please press: TOKEN, "+l.Address); err != nil {
			h.t.Fatal(err)
		}
		if ok, err := h.DoubtLetter(ctx, now, l.ID, l.Fence); !ok || err != nil {
			h.t.Fatalf("DoubtLetter = %v, %v", ok, err)
		}
		settled := Settled{State: LetterSent, Code: 250, Reply: "2.0.0 OK for " + l.Address, Counted: true, MessageID: "x@talbote.example"}
		if err := h.SettleLetter(ctx, now, l.ID, l.Fence, settled); err != nil {
			h.t.Fatal(err)
		}
	}
	return letters
}

// letter sends what is due and wants it to be one letter.
func (h *house) letter(kind LetterKind) Letter {
	h.t.Helper()
	letters := h.mail()
	if len(letters) != 1 || letters[0].Kind != kind {
		h.t.Fatalf("letters = %+v, want one to %s", letters, kind)
	}
	return letters[0]
}

// subscribe brings a reader in the whole way and gives the confirmation's token.
func (h *house) subscribe(address string, topics ...string) Letter {
	h.t.Helper()
	h.signUp(address, topics...)
	l := h.letter(ConfirmLetter)
	if err := h.Confirm(h.t.Context(), h.now(), "morgen", l.Token, Visit{}); err != nil {
		h.t.Fatal(err)
	}
	return l
}

// token makes a reader's token as the dispatcher of digests does.
func (h *house) token(p Purpose, address string) string {
	h.t.Helper()
	var id, nonce int64
	a, err := ParseAddress(address)
	if err != nil {
		h.t.Fatal(err)
	}
	err = h.db.Read.QueryRow(`SELECT id, nonce FROM subscribers WHERE LOWER(address) = $1`, a.Mailbox).Scan(&id, &nonce)
	if err != nil {
		h.t.Fatal(err)
	}
	return h.keys.Token(p, id, "morgen", nonce)
}

// audience is who would be mailed a digest now.
func (h *house) audience() []string {
	h.t.Helper()
	all, err := texts(h.t.Context(), h.db.Read, `SELECT address FROM audience ORDER BY address`)
	if err != nil {
		h.t.Fatal(err)
	}
	return all
}

func (h *house) wantAudience(when string, want ...string) {
	h.t.Helper()
	if got := h.audience(); !slices.Equal(got, want) {
		h.t.Errorf("audience %s = %v, want %v", when, got, want)
	}
}

// count asks the database when every sign-up is decided.
func (h *house) count(query string, args ...any) int {
	h.t.Helper()
	h.admit()
	var n int
	if err := h.db.Read.QueryRow(query, args...).Scan(&n); err != nil {
		h.t.Fatal(err)
	}
	return n
}

// events are the kinds of a person's consent events, oldest first.
func (h *house) events(address string) []EventKind {
	h.t.Helper()
	proof, err := h.Proof(h.t.Context(), address)
	if err != nil {
		h.t.Fatal(err)
	}
	var kinds []EventKind
	for _, e := range proof.Events {
		if e.Status == Altered {
			h.t.Errorf("event %s of %q has particulars that do not fit its hash", e.Kind, address)
		}
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

func (h *house) wantEvents(address string, want ...EventKind) {
	h.t.Helper()
	if got := h.events(address); !slices.Equal(got, want) {
		h.t.Errorf("events of %q = %v, want %v", address, got, want)
	}
}

// dump is every row of every table.
func (h *house) dump() string {
	h.t.Helper()
	var out strings.Builder
	for _, table := range h.tableNames() {
		fmt.Fprintf(&out, "%s:\n%s\n", table, strings.Join(h.rows(table), "\n"))
	}
	return out.String()
}

func (h *house) tableNames() []string {
	h.t.Helper()
	query := `SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name`
	if h.db.Kind != migrations.SQLite {
		query = `SELECT table_name FROM information_schema.tables
			WHERE table_schema = 'public' AND table_type = 'BASE TABLE' ORDER BY table_name`
	}
	tables, err := texts(h.t.Context(), h.db.Read, query)
	if err != nil || len(tables) < 10 {
		h.t.Fatalf("tables = %v, %v", tables, err)
	}
	return tables
}

func (h *house) rows(table string) []string {
	h.t.Helper()
	rows, err := h.db.Read.QueryContext(context.Background(), `SELECT * FROM `+table)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		h.t.Fatal(err)
	}
	var all []string
	for rows.Next() {
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(any)
		}
		if err := rows.Scan(values...); err != nil {
			h.t.Fatal(err)
		}
		var line strings.Builder
		for _, value := range values {
			fmt.Fprintf(&line, "%s|", fmt.Sprint(*value.(*any)))
		}
		all = append(all, line.String())
	}
	if err := rows.Err(); err != nil {
		h.t.Fatal(err)
	}
	slices.Sort(all)
	return all
}
