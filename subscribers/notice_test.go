package subscribers

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"depesche/migrations"
	"depesche/migrations/dbtest"
	"depesche/templates"
)

// The privacy notice of a sign-up is shown as it was then, whatever the paper's page says today.
func TestProofKeepsOldNotices(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, nil)
		file := filepath.Join(t.TempDir(), "datenschutz.html")
		settings := testSettings()
		settings.Publisher.PrivacyFile = file
		page := func(words string) {
			t.Helper()
			write(t, file, "<!doctype html><title>x</title><body><nav>Start</nav><main><h1>Datenschutz</h1><p>"+words+"</p><script>x()</script></main>")
			h.open(db, templates.FS(""), settings)
		}
		h.signUp("nobody.said@wnoz.example")
		page("Wir speichern Ihre Adresse.")
		h.signUp("lena@wnoz.example")
		page("Wir speichern Ihre Adresse und Ihre Themen.")
		h.signUp("omar@wnoz.example")
		for address, want := range map[string][]string{
			"nobody.said@wnoz.example": {},
			"lena@wnoz.example":        {"Datenschutz\nWir speichern Ihre Adresse.\n"},
			"omar@wnoz.example":        {"Datenschutz\nWir speichern Ihre Adresse und Ihre Themen.\n"},
		} {
			proof, err := h.Proof(t.Context(), address)
			if err != nil || len(proof.Notices) != len(want) {
				t.Fatalf("Proof(%q) has %d notices, %v, want %d", address, len(proof.Notices), err, len(want))
			}
			printed, err := h.ProofPage(proof, "de", time.UTC)
			if err != nil {
				t.Fatal(err)
			}
			for i, words := range want {
				n := proof.Notices[i]
				if n.Text != words || n.Kind != Notice || n.Language != "de" || proof.Events[i].Particulars.Privacy != n.Hash {
					t.Errorf("notice %d of %q = %+v, want %q under the hash its event names", i+1, address, n, words)
				}
				if !strings.Contains(string(printed), strings.TrimSpace(words)) {
					t.Errorf("the page of %q does not show notice %d", address, i+1)
				}
			}
		}
	})
}

func TestNoticeThatCannotBeRead(t *testing.T) {
	folder := t.TempDir()
	for name, content := range map[string]string{
		"missing.txt": "", "empty.txt": "\ufeff \r\n", "latin1.txt": "Datenschutzerkl\xe4rung", "empty.html": "<html><body><script>x</script>",
		"large.txt": strings.Repeat("x", maxNotice+1),
	} {
		file := filepath.Join(folder, name)
		if name != "missing.txt" {
			write(t, file, content)
		}
		_, err := readNotice(file, "de")
		if err == nil || !strings.Contains(err.Error(), "publisher.privacy_file") || !strings.Contains(err.Error(), name) {
			t.Errorf("readNotice(%s) = %v, want an error that names setting and file", name, err)
		}
	}
}
