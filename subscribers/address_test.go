package subscribers

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseAddress(t *testing.T) {
	long := strings.Repeat("a", 64)
	domain := strings.Repeat("d", 60) + "." + strings.Repeat("e", 60) + "." + strings.Repeat("f", 60) + ".example"
	tests := []struct{ in, mailed string }{
		{"lena@wnoz.example", "lena@wnoz.example"},
		{" \tLena.Reuter+News@WNOZ.Example ", "Lena.Reuter+News@wnoz.example"},
		{"o'brien@x.ie", "o'brien@x.ie"},
		{"lena@bücher.example", "lena@xn--bcher-kva.example"},
		{"lena@BÜCHER.example", "lena@xn--bcher-kva.example"},
		{"lena@straße.example", "lena@xn--strae-oqa.example"},
		{"!#$%&'*+-/=?^_`{|}~@x.example", "!#$%&'*+-/=?^_`{|}~@x.example"},
		{long + "@x.example", long + "@x.example"},
	}
	for _, test := range tests {
		a, err := ParseAddress(test.in)
		if err != nil || a.Mailed != test.mailed || a.Mailbox != strings.ToLower(test.mailed) {
			t.Errorf("ParseAddress(%q) = %+v, %v, want %q", test.in, a, err, test.mailed)
		}
	}
	refused := []struct {
		in   string
		want AddressError
	}{
		{"", ErrEmpty},
		{"  ", ErrEmpty},
		{"lena", ErrNoAt},
		{"lena.wnoz.example", ErrNoAt},
		{"a@x.example,b@x.example", ErrSeveral},
		{"a@x.example;b@x.example", ErrSeveral},
		{"a@x.example b@x.example", ErrSeveral},
		{"a@b@x.example", ErrSeveral},
		{"Lena <lena@x.example>", ErrName},
		{`"lena"@x.example`, ErrName},
		{"lena(home)@x.example", ErrName},
		{"lena@x.example\r\nBcc: b@x.example", ErrControl},
		{"lena@x.example\n", ErrControl},
		{"lena\x00@x.example", ErrControl},
		{"lena\u2028@x.example", ErrControl},
		{"@x.example", ErrLocal},
		{".lena@x.example", ErrLocal},
		{"lena.@x.example", ErrLocal},
		{"le..na@x.example", ErrLocal},
		{"le na@x.example", ErrLocal},
		{"le\\na@x.example", ErrLocal},
		{"\xff@x.example", ErrLocal},
		{"jürgen@x.example", ErrNeedsUTF8},
		{"lena@", ErrDomain},
		{"lena@x..example", ErrDomain},
		{"lena@.example", ErrDomain},
		{"lena@-x.example", ErrDomain},
		{"lena@x_y.example", ErrDomain},
		{"lena@x y.example", ErrDomain},
		{"lena@[127.0.0.1]", ErrDomain},
		{"lena@127.0.0.1", ErrDomain},
		{"lena@[::1]", ErrDomain},
		{"lena@x.123", ErrDomain},
		{"lena@localhost", ErrNoDot},
		{long + "a@x.example", ErrTooLong},
		{long + "@" + domain, ErrTooLong},
	}
	for _, test := range refused {
		if a, err := ParseAddress(test.in); err != test.want || a != (Address{}) {
			t.Errorf("ParseAddress(%q) = %+v, %v, want %v", test.in, a, err, test.want)
		}
	}
}

func TestMasked(t *testing.T) {
	for in, want := range map[string]string{
		"lena@wnoz.example":    "l…@wnoz.example",
		"x@bücher.example":     "x…@bücher.example",
		"O'Brien@WNOZ.example": "O…@wnoz.example",
	} {
		a, err := ParseAddress(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Masked(); got != want {
			t.Errorf("Masked(%q) = %q, want %q", in, got, want)
		}
	}
	if got := (Address{}).Masked(); got != "…" {
		t.Errorf("Masked of an erased address = %q", got)
	}
}

// fixtures is the folder of real inputs, or the test is skipped.
func fixtures(t *testing.T, name string) string {
	t.Helper()
	root := os.Getenv("DEPESCHE_FIXTURES")
	if root == "" {
		t.Skip("SKIPPED: DEPESCHE_FIXTURES names no folder of real inputs")
	}
	path := filepath.Join(root, name)
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func readJSON(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The web platform's cases. Where we differ we are stricter on purpose: no mailbox of a reader is there.
func TestAddressesOfWebPlatform(t *testing.T) {
	stricter := map[string]bool{
		"a@a": true, "a@ñ": true, "ñ@ñ": true, "a@123": true, // no dot
		"a@123.123.123.123": true, "a@[::1]": true, // not a domain
	}
	var cases []struct {
		Input string
		Valid bool
	}
	readJSON(t, filepath.Join(fixtures(t, "emailaddr-wpt"), "email-validity.extracted.json"), &cases)
	for _, c := range cases {
		_, err := ParseAddress(c.Input)
		if want := c.Valid && !stricter[c.Input]; (err == nil) != want {
			t.Errorf("ParseAddress(%q) = %v, want valid = %v", c.Input, err, want)
		}
	}
}

// What JSON Schema's suite calls invalid we refuse; what it calls valid we accept, unless it is one of the forms of RFC
// 5321 that no sign-up form takes: quoted local parts, address literals, domains without a dot, SMTPUTF8 and what
// Unicode's control characters would be there.
func TestAddressesOfJSONSchema(t *testing.T) {
	folder := fixtures(t, "emailaddr-jsonschema")
	for _, name := range []string{"email.json", "idn-email.json"} {
		var groups []struct {
			Tests []struct {
				Description string
				Data        any
				Valid       bool
			}
		}
		readJSON(t, filepath.Join(folder, "tests/draft2020-12/optional/format", name), &groups)
		for _, group := range groups {
			for _, test := range group.Tests {
				address, isText := test.Data.(string)
				if !isText {
					continue
				}
				_, err := ParseAddress(address)
				switch {
				case !test.Valid && err == nil:
					t.Errorf("%s: ParseAddress(%q) accepts what is invalid: %s", name, address, test.Description)
				case test.Valid && err != nil && err != ErrNeedsUTF8 && err != ErrNoDot && err != ErrControl && !strings.ContainsAny(address, `"[(`):
					t.Errorf("%s: ParseAddress(%q) = %v, but it is valid: %s", name, address, err, test.Description)
				}
			}
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, seed := range []string{
		"lena@wnoz.example", " x@bücher.example", "a@b@c", "a\r\nb@x.de", "\"a\"@x.de", "a@[1.2.3.4]", "ß@ß.ß", "a@xn--a.de", "a@１.de",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			if _, ours := err.(AddressError); !ours || a != (Address{}) {
				t.Fatalf("ParseAddress(%q) = %+v, %v", s, a, err)
			}
			return
		}
		for i := range len(a.Mailed) {
			if c := a.Mailed[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`",;<>()[]\`, c) >= 0 {
				t.Fatalf("ParseAddress(%q) mails to %q", s, a.Mailed)
			}
		}
		if strings.Count(a.Mailed, "@") != 1 || len(a.Mailed) > maxAddress || a.Mailbox != strings.ToLower(a.Mailed) {
			t.Fatalf("ParseAddress(%q) = %+v", s, a)
		}
		if again, err := ParseAddress(a.Mailed); err != nil || again != a {
			t.Fatalf("ParseAddress(%q) = %+v, but parsed again %+v, %v", s, a, again, err)
		}
		if !utf8.ValidString(a.Masked()) {
			t.Fatalf("Masked of %q = %q", s, a.Masked())
		}
	})
}
