package render

import (
	"errors"
	"strings"
	"time"
	"unicode"
)

// The words that stand for one reader's values in a Body until Message.Splice puts the values there. They share a stem
// that no text from outside can spell (Plain drops it) and are plain letters and digits, so that neither URL nor
// quoted-printable encoding changes them.
const (
	stem = "Zq7vW3kXhT9rLb5N"

	UnsubscribeMark = stem + "Unsubscribe" // the unsubscribe token
	PreferencesMark = stem + "Preferences" // the preferences token
	ActionMark      = stem + "Action"      // the token of a letter's one link

	dayMark   = stem + "Day"
	monthMark = stem + "Month"
	yearMark  = stem + "Year"

	bodyMark    = stem + "Body"    // where an entry's Markdown body goes
	pictureMark = stem + "Picture" // where an entry's picture goes
)

// TokenLength is the length of every token, in octets: 33 octets in base64url without padding (RFC 4648 §5).
const TokenLength = 44

const (
	maxAddress   = 254 // octets, RFC 5321 §4.5.3.1.3 less the angle brackets
	maxMessageID = 64  // octets left of the @
)

// field names a value that differs from reader to reader.
type field uint8

const (
	none field = iota
	to
	messageID
	listUnsubscribe // the header's token; the body's is unsubscribe
	unsubscribe
	preferences
	action
	sinceDay
	sinceMonth
	sinceYear
)

// marks lists the body's fields by the word that stands for each.
var marks = [...]struct {
	word   string
	field  field
	length int
}{
	{UnsubscribeMark, unsubscribe, TokenLength},
	{PreferencesMark, preferences, TokenLength},
	{ActionMark, action, TokenLength},
	{dayMark, sinceDay, 2},
	{monthMark, sinceMonth, 2},
	{yearMark, sinceYear, 4},
}

// markAt returns the placeholder that s begins with.
func markAt(s string) (word string, f field, length int) {
	if !strings.HasPrefix(s, stem) {
		return "", none, 0
	}
	for _, m := range marks {
		if strings.HasPrefix(s, m.word) {
			return m.word, m.field, m.length
		}
	}
	return "", none, 0
}

// Personal is what differs between two readers of one variant. Splice refuses values that could be anything else than
// what they are meant to be; fields a message does not use may be empty.
type Personal struct {
	To          string    // the address: bare, its domain in ASCII
	MessageID   string    // left of the @: letters, digits, - and _, at most 64
	Unsubscribe string    // token
	Preferences string    // token
	Action      string    // token, letters only
	Since       time.Time // the sign-up, in the newsletter's zone: its day is printed
}

// What Splice refuses. The texts hold no value: it may be an address or a token.
var (
	errTo        = errors.New("to: not one bare address")
	errMessageID = errors.New("message id: not 1 to 64 letters, digits, - or _")
	errToken     = errors.New("token: not 44 letters, digits, - or _")
	errSince     = errors.New("sign-up date: year out of range")
)

// check reports whether the value of f can be spliced.
func (p *Personal) check(f field) error {
	switch f {
	case to:
		return failing(bareAddress(p.To), errTo)
	case messageID:
		return failing(len(p.MessageID) <= maxMessageID && base64url(p.MessageID), errMessageID)
	case unsubscribe, listUnsubscribe:
		return failing(token(p.Unsubscribe), errToken)
	case preferences:
		return failing(token(p.Preferences), errToken)
	case action:
		return failing(token(p.Action), errToken)
	case sinceYear:
		return failing(p.Since.Year() >= 1970 && p.Since.Year() <= 9999, errSince)
	}
	return nil
}

func failing(ok bool, err error) error {
	if ok {
		return nil
	}
	return err
}

// append appends the value of f, which check has passed.
func (p *Personal) append(dst []byte, f field) []byte {
	switch f {
	case to:
		return append(dst, p.To...)
	case messageID:
		return append(dst, p.MessageID...)
	case unsubscribe, listUnsubscribe:
		return append(dst, p.Unsubscribe...)
	case preferences:
		return append(dst, p.Preferences...)
	case action:
		return append(dst, p.Action...)
	case sinceDay:
		return appendTwo(dst, p.Since.Day())
	case sinceMonth:
		return appendTwo(dst, int(p.Since.Month()))
	case sinceYear:
		return appendTwo(appendTwo(dst, p.Since.Year()/100), p.Since.Year()%100)
	}
	return dst
}

func appendTwo(dst []byte, n int) []byte {
	return append(dst, byte('0'+n/10), byte('0'+n%10))
}

func token(s string) bool { return len(s) == TokenLength && base64url(s) }

func base64url(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && !(c >= '0' && c <= '9') && c != '-' && c != '_' {
			return false
		}
	}
	return s != ""
}

// bareAddress reports whether s is one address and nothing else, by the parts of RFC 5321 §4.1.2 that keep it from being
// several, a display name or a second header. Whether it exists or is well chosen was decided at sign-up.
func bareAddress(s string) bool {
	at := strings.LastIndexByte(s, '@')
	return at > 0 && len(s) <= maxAddress && localPart(s[:at]) && hostName(s[at+1:])
}

func localPart(s string) bool {
	if len(s) > 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return !strings.ContainsAny(s[1:len(s)-1], "\"\\\r\n") && printable(s[1:len(s)-1])
	}
	return !strings.ContainsAny(s, " \"\\()<>[]:;@,") && printable(s)
}

func printable(s string) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return false
		}
	}
	return true
}

func hostName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && !(c >= '0' && c <= '9') && c != '-' && c != '.' {
			return false
		}
	}
	return s != ""
}
