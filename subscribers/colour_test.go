package subscribers

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"depesche/migrations/dbtest"
	"depesche/templates"
)

// The ratios of WCAG 2.2's own examples and of tools everybody uses.
func TestContrast(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want float64
	}{
		{"#000000", "#ffffff", 21},
		{"#ffffff", "#ffffff", 1},
		{"#767676", "#ffffff", 4.54},
		{"#777777", "#ffffff", 4.48},
		{"#0000ff", "#ffffff", 8.59},
	} {
		if got := contrast(test.a, test.b); math.Abs(got-test.want) > 0.005 {
			t.Errorf("contrast(%s, %s) = %.3f, want %.2f", test.a, test.b, got, test.want)
		}
	}
	for value := range 256 {
		grey := "#" + strings.Repeat(string("0123456789abcdef"[value>>4])+string("0123456789abcdef"[value&15]), 3)
		if got := contrast(grey, readable(grey)); got < textContrast {
			t.Errorf("what is written on %s has %.2f:1", grey, got)
		}
	}
}

func TestColoursThatCannotBeRead(t *testing.T) {
	h := newHouse(t, dbtest.SQLite(t), nil)
	for _, test := range []struct {
		change func(*Publisher)
		want   string
	}{
		{func(p *Publisher) { p.LinkColour = "#7fb2e5" }, "publisher.link_colour: #7fb2e5 on --paper #ffffff (light) has a contrast of 2.23:1, at least 4.5:1 is needed (WCAG 2.2, 1.4.3)"},
		{func(p *Publisher) { p.LinkColourDark = "#174a73" }, "publisher.link_colour_dark: #174a73 on --paper #1e1f22 (dark) has a contrast of 1.7"},
		{func(p *Publisher) { p.Colour, p.ColourText = "#888888", "#ffffff" }, "publisher.colour_text: #ffffff on publisher.colour #888888 (light) has a contrast of 3.54:1"},
	} {
		s := testSettings()
		test.change(&s.Publisher)
		if _, err := New(h.db, h.keys, templates.FS(""), s); err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("New = %v, want %q", err, test.want)
		}
	}
	s := testSettings()
	s.Publisher.Colour = "#ffd400" // yellow: black is written on it
	if _, err := New(h.db, h.keys, templates.FS(""), s); err != nil {
		t.Errorf("New = %v", err)
	}
	folder := t.TempDir()
	sheet := ":root { --text: #999999; --paper: #ffffff; }\n"
	if err := os.MkdirAll(filepath.Join(folder, "web"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "web", "style.css"), []byte(sheet), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(h.db, h.keys, templates.FS(folder), testSettings()); err == nil || !strings.Contains(err.Error(), "web/style.css: --text: #999999") {
		t.Errorf("New with the paper's own sheet = %v", err)
	}
}

func TestLogo(t *testing.T) {
	h := newHouse(t, dbtest.SQLite(t), nil)
	write := func(name, content string) string {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	s := testSettings()
	s.Publisher.LogoFile = write("logo.svg", `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 1"><script>alert(1)</script></svg>`)
	h.open(h.db, templates.FS(""), s)
	form := h.get("/")
	h.wantPage(form, 200, `<img class="logo" src="/logo?`)
	h.wantPage(form, 200, `alt="Talbote"`)
	got := h.get("/logo")
	if got.header.Get("Content-Type") != "image/svg+xml" || !strings.HasPrefix(got.header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("GET /logo = %v", got.header)
	}
	for file, want := range map[string]string{
		write("logo.png", "no picture"):                        "expected a picture",
		filepath.Join(t.TempDir(), "absent.png"):               "publisher.logo_file: open",
		write("large.png", strings.Repeat("\x89PNG", 100_000)): "at most",
	} {
		s.Publisher.LogoFile = file
		if _, err := New(h.db, h.keys, templates.FS(""), s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New with %s = %v, want %q", filepath.Base(file), err, want)
		}
	}
}
