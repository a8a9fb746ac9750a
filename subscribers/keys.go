package subscribers

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Keys are the secrets of a house. They live in a file of their own (mode 0600), outside the database: whoever has only
// the database can neither make a link nor find a person in it. Keys do not change once loaded and may be shared.
type Keys struct {
	tokens                           []tokenKey // the newest first: it makes tokens, all of them verify
	person, messageID, sender, stamp *seal
	ledger, name                     *seal
}

type tokenKey struct {
	id byte
	*seal
}

const keyBytes = 32

// The file's comment, which is what somebody sees who wonders whether it may be deleted.
const keysComment = `# The keys of depesche. Without them every link in mails already sent stops working and no suppression is found again.
# They are not in the database nor in its backups: keep a copy in a safe place, readable by nobody else.
# "address" must never change. Old "token" lines must stay; the highest number makes new links.
`

// CreateKeys writes a file of fresh keys with mode 0600. It refuses to overwrite: the error is fs.ErrExist then.
func CreateKeys(path string) error {
	text := keysComment + "address " + newSecret() + "\ntoken 1 " + newSecret() + "\n"
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create keys: %w (keys are never overwritten)", err)
	}
	if err != nil {
		return fmt.Errorf("create keys: %w", err)
	}
	return writeSync(file, text)
}

// LoadKeys reads a key file and refuses one that others can read.
func LoadKeys(path string) (*Keys, error) {
	lines, err := readKeys(path)
	if err != nil {
		return nil, err
	}
	keys := &Keys{}
	for _, line := range lines {
		if line.id == 0 {
			err = keys.derive(line.secret)
		} else {
			keys.tokens = append(keys.tokens, tokenKey{line.id, newSeal(line.secret)})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("derive keys of %s: %w", path, err)
	}
	if keys.person == nil || len(keys.tokens) == 0 {
		return nil, fmt.Errorf("read keys: %s needs one 'address' line and at least one 'token' line", path)
	}
	slices.SortFunc(keys.tokens, func(a, b tokenKey) int { return int(b.id) - int(a.id) })
	return keys, nil
}

// RotateKeys adds a new token key, from then on the one that makes links, and replaces the file in one step. Processes
// that run see it when they are started again; until then they refuse the new links.
func RotateKeys(path string) error {
	lines, err := readKeys(path)
	if err != nil {
		return err
	}
	newest := 0
	for _, line := range lines {
		newest = max(newest, int(line.id))
	}
	if newest >= 255 {
		return fmt.Errorf("rotate keys: %s already holds key 255, the last one", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("rotate keys: %w", err)
	}
	line := fmt.Sprintf("token %d %s\n", newest+1, newSecret())
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("rotate keys: %w", err)
	}
	if err := writeSync(file, strings.TrimRight(string(text), "\n")+"\n"+line); err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return errors.Join(fmt.Errorf("rotate keys: %w", err), os.Remove(file.Name()))
	}
	return nil
}

func newSecret() string {
	var secret [keyBytes]byte
	_, _ = rand.Read(secret[:]) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(secret[:])
}

func writeSync(file *os.File, text string) error {
	_, err := file.WriteString(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("write keys: %w", err)
	}
	return nil
}

// keyLine is one key of the file: id 0 is the address key.
type keyLine struct {
	id     byte
	secret []byte
}

func readKeys(path string) ([]keyLine, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("read keys: %s can be read by others (mode %04o): chmod 600 %s", path, mode, path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	var lines []keyLine
	for i, text := range bytes.Split(text, []byte("\n")) {
		fields := strings.Fields(string(text))
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		line, err := parseKey(fields)
		if err == nil && slices.ContainsFunc(lines, func(l keyLine) bool { return l.id == line.id }) {
			err = errors.New("this key stands here twice")
		}
		if err != nil {
			return nil, fmt.Errorf("read keys: %s:%d: %w", path, i+1, err)
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// parseKey never quotes what it read: it may be a secret.
func parseKey(fields []string) (keyLine, error) {
	var line keyLine
	switch {
	case fields[0] == "address" && len(fields) == 2:
	case fields[0] == "token" && len(fields) == 3:
		id, err := strconv.ParseUint(fields[1], 10, 8)
		if err != nil || id == 0 {
			return line, errors.New("a token key's number is 1 to 255")
		}
		line.id = byte(id)
	default:
		return line, errors.New("expected 'address KEY' or 'token NUMBER KEY'")
	}
	secret, err := hex.DecodeString(fields[len(fields)-1])
	if err != nil || len(secret) != keyBytes {
		return line, fmt.Errorf("a key is %d hexadecimal digits", 2*keyBytes)
	}
	line.secret = secret
	return line, nil
}

// derive makes the keys that never rotate out of the address key, one for each use (RFC 5869).
func (k *Keys) derive(secret []byte) error {
	for info, at := range map[string]**seal{
		"person": &k.person, "message-id": &k.messageID, "sender": &k.sender, "stamp": &k.stamp,
		"ledger": &k.ledger, "name": &k.name,
	} {
		derived, err := hkdf.Key(sha256.New, secret, nil, "depesche "+info, keyBytes)
		if err != nil {
			return err
		}
		*at = newSeal(derived)
	}
	return nil
}

// Person is what stands for a mailbox where the address itself must not: the first half of an HMAC-SHA256 (RFC 2104 §5), hexadecimal.
func (k *Keys) Person(mailbox string) string {
	w := k.person.take()
	defer k.person.release(w)
	w.in = append(w.in, mailbox...)
	return hex.EncodeToString(w.mac()[:sha256.Size/2])
}

// seal computes HMAC-SHA256 under one key, over and over without allocating.
type seal struct{ desks sync.Pool }

// desk is what one computation needs: in is what will be sealed, raw room for what is built from it.
type desk struct {
	hmac hash.Hash
	in   []byte
	sum  [sha256.Size]byte
	raw  [2 * sha256.Size]byte
}

func newSeal(secret []byte) *seal {
	return &seal{desks: sync.Pool{New: func() any {
		return &desk{hmac: hmac.New(sha256.New, secret), in: make([]byte, 0, 128)}
	}}}
}

func (s *seal) take() *desk {
	w := s.desks.Get().(*desk)
	w.in = w.in[:0]
	return w
}

func (s *seal) release(w *desk) { s.desks.Put(w) }

func (w *desk) mac() []byte {
	w.hmac.Reset()
	w.hmac.Write(w.in)
	return w.hmac.Sum(w.sum[:0])
}

func (w *desk) number(n int64) { w.in = binary.BigEndian.AppendUint64(w.in, uint64(n)) }

// text is preceded by its length, so that no two lists of fields give the same bytes.
func (w *desk) text(s string) {
	w.in = binary.BigEndian.AppendUint16(w.in, uint16(len(s)))
	w.in = append(w.in, s...)
}
