package subscribers

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func newKeys(t testing.TB) *Keys {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := CreateKeys(path); err != nil {
		t.Fatal(err)
	}
	return loadKeys(t, path)
}

func loadKeys(t testing.TB, path string) *Keys {
	t.Helper()
	keys, err := LoadKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestCreateKeysNeverOverwrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	if err := CreateKeys(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("mode of the key file = %04o, want 0600", mode)
	}
	if err := CreateKeys(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("CreateKeys on an existing file = %v, want fs.ErrExist", err)
	}
}

func TestLoadKeysRefuses(t *testing.T) {
	secret := strings.Repeat("ab", keyBytes)
	tests := []struct {
		name, text string
		mode       os.FileMode
		want       string // in the error, beside the file's name
	}{
		{"readable by others", "address " + secret + "\ntoken 1 " + secret + "\n", 0o640, "chmod 600"},
		{"no token key", "address " + secret + "\n", 0o600, "at least one 'token' line"},
		{"no address key", "token 1 " + secret + "\n", 0o600, "one 'address' line"},
		{"short key", "address abcd\n", 0o600, ":1: a key is 64 hexadecimal digits"},
		{"not hexadecimal", "# x\naddress " + strings.Repeat("zz", keyBytes) + "\n", 0o600, ":2: a key is 64"},
		{"number too large", "token 256 " + secret + "\n", 0o600, "1 to 255"},
		{"number zero", "token 0 " + secret + "\n", 0o600, "1 to 255"},
		{"twice", "token 1 " + secret + "\ntoken 1 " + secret + "\n", 0o600, ":2: this key stands here twice"},
		{"unknown word", "secret " + secret + "\n", 0o600, ":1: expected"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keys")
			if err := os.WriteFile(path, []byte(test.text), test.mode); err != nil {
				t.Fatal(err)
			}
			_, err := LoadKeys(path)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
				t.Fatalf("LoadKeys = %v, want %q and the file's name", err, test.want)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
	if _, err := LoadKeys(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("LoadKeys without a file = %v, want fs.ErrNotExist", err)
	}
}

func TestRotateKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	if err := CreateKeys(path); err != nil {
		t.Fatal(err)
	}
	old := loadKeys(t, path)
	token := old.Token(ToUnsubscribe, 7, "morgen", 9)
	if err := RotateKeys(path); err != nil {
		t.Fatal(err)
	}
	rotated := loadKeys(t, path)
	if id, nonce, err := rotated.Open(ToUnsubscribe, "morgen", token); id != 7 || nonce != 9 || err != nil {
		t.Errorf("an old token after rotation opens as %d, %d, %v", id, nonce, err)
	}
	fresh := rotated.Token(ToUnsubscribe, 7, "morgen", 9)
	if fresh == token {
		t.Error("the new key makes the same token as the old one")
	}
	if _, _, err := old.Open(ToUnsubscribe, "morgen", fresh); !errors.Is(err, ErrToken) {
		t.Errorf("a key file without the new key opens its token: %v", err)
	}
	if rotated.Person("a@b.example") != old.Person("a@b.example") {
		t.Error("rotation changed the hash of a person: suppressions would be lost")
	}
	if rotated.Sender("morgen", 7) != old.Sender("morgen", 7) {
		t.Error("rotation changed the envelope sender: bounces on their way would be lost")
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("rotation leaves %d files behind, %v", len(entries), err)
	}
}

func TestRotateKeysEndsAt255(t *testing.T) {
	secret := strings.Repeat("ab", keyBytes)
	path := filepath.Join(t.TempDir(), "keys")
	text := "address " + secret + "\ntoken 255 " + secret + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := RotateKeys(path); err == nil {
		t.Error("RotateKeys after key 255 succeeded")
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != text {
		t.Errorf("the file changed: %v", err)
	}
}

func TestTokenOpensItsOwnPurposeOnly(t *testing.T) {
	keys := newKeys(t)
	token := keys.Token(ToConfirm, 1<<62, "morgen", 42)
	if len(token) != TokenLength {
		t.Errorf("len(token) = %d, want %d", len(token), TokenLength)
	}
	if id, nonce, err := keys.Open(ToConfirm, "morgen", token); id != 1<<62 || nonce != 42 || err != nil {
		t.Errorf("Open = %d, %d, %v", id, nonce, err)
	}
	for _, purpose := range []Purpose{ToPrefer, ToUnsubscribe, ToResume, ""} {
		if _, _, err := keys.Open(purpose, "morgen", token); !errors.Is(err, ErrToken) {
			t.Errorf("Open(%q) of a token to confirm = %v, want ErrToken", purpose, err)
		}
	}
	if _, _, err := keys.Open(ToConfirm, "abend", token); !errors.Is(err, ErrToken) {
		t.Errorf("Open for another newsletter = %v, want ErrToken", err)
	}
	if _, _, err := newKeys(t).Open(ToConfirm, "morgen", token); !errors.Is(err, ErrToken) {
		t.Errorf("Open with another house's keys = %v, want ErrToken", err)
	}
}

// TestTokenFlips changes every character of a token into some others: none may open.
func TestTokenFlips(t *testing.T) {
	keys := newKeys(t)
	token := keys.Token(ToUnsubscribe, 12345, "morgen", 678)
	for i := range token {
		for _, c := range "Aa0-_/+=ä\x00" {
			flipped := token[:i] + string(c) + token[i+1:]
			if flipped == token {
				continue
			}
			if _, _, err := keys.Open(ToUnsubscribe, "morgen", flipped); !errors.Is(err, ErrToken) {
				t.Errorf("Open(%q) = %v, want ErrToken", flipped, err)
			}
		}
	}
	for _, other := range []string{"", token[1:], token + "A", token + "=", strings.ToUpper(token)} {
		if _, _, err := keys.Open(ToUnsubscribe, "morgen", other); !errors.Is(err, ErrToken) {
			t.Errorf("Open(%q) = %v, want ErrToken", other, err)
		}
	}
}

func TestMessageID(t *testing.T) {
	keys := newKeys(t)
	id := keys.MessageID(1, 2)
	if !regexp.MustCompile(`^[A-Za-z0-9_-]{22}$`).MatchString(id) {
		t.Errorf("MessageID = %q", id)
	}
	if keys.MessageID(1, 2) != id || keys.MessageID(2, 1) == id || keys.MessageID(1, 2, 0) == id {
		t.Error("MessageID is not a function of its parts alone, or not of all of them")
	}
}

func TestSender(t *testing.T) {
	keys := newKeys(t)
	local := keys.Sender("morgen", 1<<62+5)
	if !regexp.MustCompile(`^b-[a-z2-7]{1,38}$`).MatchString(local) {
		t.Errorf("Sender = %q, want at most 40 characters of one case", local)
	}
	houses := []string{"abend", "morgen"}
	n, id, err := keys.OpenSender(strings.ToUpper(local), houses)
	if n != "morgen" || id != 1<<62+5 || err != nil {
		t.Errorf("OpenSender = %q, %d, %v", n, id, err)
	}
	if _, _, err := keys.OpenSender(local, houses[:1]); !errors.Is(err, ErrToken) {
		t.Errorf("OpenSender for another newsletter = %v, want ErrToken", err)
	}
	for i := range local {
		flipped := local[:i] + "y" + local[i+1:]
		if flipped == local {
			flipped = local[:i] + "z" + local[i+1:]
		}
		if _, _, err := keys.OpenSender(flipped, houses); !errors.Is(err, ErrToken) {
			t.Errorf("OpenSender(%q) = %v, want ErrToken", flipped, err)
		}
	}
}

// What mails already sent hold must not change with the program: bounces, answers and links come back to it.
func TestKeysMakeTheSameForEver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	secret := strings.Repeat("ab", keyBytes)
	if err := os.WriteFile(path, []byte("address "+secret+"\ntoken 1 "+secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keys := loadKeys(t, path)
	before := []byte("kept ")
	for _, c := range []struct{ name, got, appended, want string }{
		{"MessageID", keys.MessageID(1, 2, 3), string(keys.AppendMessageID(before, 1, 2, 3)), "Y8DdQIkkkoqvpDX6TC04uQ"},
		{"Sender", keys.Sender("morgen", 7), string(keys.AppendSender(before, "morgen", 7)), "b-aaaaaaaaaaaapljju5m3couri2fhhnxo"},
		{
			"Token", keys.Token(ToPrefer, 7, "morgen", 9), string(keys.AppendToken(before, ToPrefer, 7, "morgen", 9)),
			"AQAAAAAAAAAHAAAAAAAAAAn3pYQ5mEnbVCfTwjTNeMrn",
		},
	} {
		if c.got != c.want || c.appended != "kept "+c.want {
			t.Errorf("%s = %q, appended %q, want %q", c.name, c.got, c.appended, c.want)
		}
	}
}

func TestFormStamp(t *testing.T) {
	keys := newKeys(t)
	words := newWording(OnForm, "de", "Ja").Hash
	shown := time.Date(2026, 9, 25, 6, 0, 0, 0, time.UTC)
	stamp := keys.formStamp(shown, "morgen", words)
	at, hash, err := keys.openStamp(stamp, "morgen")
	if !at.Equal(shown) || hash != words || err != nil {
		t.Errorf("openStamp = %v, %q, %v", at, hash, err)
	}
	if _, _, err := keys.openStamp(stamp, "abend"); !errors.Is(err, ErrToken) {
		t.Errorf("openStamp for another newsletter = %v, want ErrToken", err)
	}
	for i := range stamp {
		flipped := stamp[:i] + "A" + stamp[i+1:]
		if _, _, err := keys.openStamp(flipped, "morgen"); flipped != stamp && !errors.Is(err, ErrToken) {
			t.Errorf("a stamp changed at %d opens: %v", i, err)
		}
	}
}

func FuzzOpenToken(f *testing.F) {
	keys := newKeys(f)
	f.Add("morgen", keys.Token(ToConfirm, 1, "morgen", 2))
	f.Add("", strings.Repeat("A", TokenLength))
	f.Add("morgen", strings.Repeat("_", TokenLength))
	f.Fuzz(func(t *testing.T, newsletter, token string) {
		id, nonce, err := keys.Open(ToConfirm, newsletter, token)
		if err != nil {
			if !errors.Is(err, ErrToken) || id != 0 || nonce != 0 {
				t.Fatalf("Open(%q, %q) = %d, %d, %v", newsletter, token, id, nonce, err)
			}
			return
		}
		if again := keys.Token(ToConfirm, id, newsletter, nonce); again != token {
			t.Fatalf("Open took %q, but Token makes %q", token, again)
		}
	})
}

func BenchmarkAppendToken(b *testing.B) {
	keys := newKeys(b)
	out := make([]byte, 0, TokenLength)
	b.ReportAllocs()
	for b.Loop() {
		keys.AppendToken(out, ToUnsubscribe, 1<<62, "morgen", 42)
	}
}
