package render

import (
	"errors"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
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

	openingMark = stem + "Opening" // where a digest's own words and its rows go in the frame
	rowsMark    = stem + "Rows"
	closingMark = stem + "Closing"

	numberMark = stem + "Number" // and a letter: the number of a variant, of one digit for a, of two for b
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
	fields // how many there are
)

// source is the field that holds the same value of Personal: what is checked if it is.
func (f field) source() field {
	switch f {
	case listUnsubscribe:
		return unsubscribe
	case sinceDay, sinceMonth:
		return sinceYear
	}
	return f
}

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
	if i := len(numberMark); strings.HasPrefix(s, numberMark) && i < len(s) && s[i] >= 'a' && s[i] <= 'z' {
		return s[:i+1], none, int(s[i]-'a') + 1
	}
	return "", none, 0
}

// numberMarkFor stands for a number until it is known: a page is the same for all numbers that are as long.
func numberMarkFor(number string) string { return numberMark + string(rune('a'+len(number)-1)) }

// personal reports whether s has a place for a reader's own value.
func personal(s string) bool {
	for i := strings.Index(s, stem); i >= 0; i = strings.Index(s, stem) {
		if s = s[i:]; !strings.HasPrefix(s, numberMark) {
			return true
		}
		s = s[len(numberMark):]
	}
	return false
}

// longest is the most octets the value of f may have.
func longest(f field) int {
	switch f {
	case to:
		return maxAddress
	case messageID:
		return maxMessageID
	case listUnsubscribe:
		return TokenLength
	}
	for _, m := range marks {
		if m.field == f {
			return m.length
		}
	}
	return 0
}

// Personal is what differs between two readers of one variant. Splice refuses values that could be anything else than
// what they are meant to be; fields a message does not use may be empty.
type Personal struct {
	To          string    // the address: bare, its domain in ASCII
	MessageID   []byte    // left of the @: letters, digits, - and _, at most 64
	Unsubscribe []byte    // token
	Preferences []byte    // token
	Action      []byte    // token, letters only
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
	switch f.source() {
	case to:
		return failing(bareAddress(p.To), errTo)
	case messageID:
		return failing(len(p.MessageID) <= maxMessageID && base64url(p.MessageID), errMessageID)
	case unsubscribe:
		return failing(token(p.Unsubscribe), errToken)
	case preferences:
		return failing(token(p.Preferences), errToken)
	case action:
		return failing(token(p.Action), errToken)
	case sinceYear:
		year := p.Since.Year()
		return failing(year >= 1970 && year <= 9999, errSince)
	}
	return nil
}

func failing(ok bool, err error) error {
	if ok {
		return nil
	}
	return err
}

// append appends the value of f, which check has passed; since is what date returns.
func (p *Personal) append(dst []byte, f field, since *[8]byte) []byte {
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
	case sinceYear:
		return append(dst, since[:4]...)
	case sinceMonth:
		return append(dst, since[4:6]...)
	case sinceDay:
		return append(dst, since[6:]...)
	}
	return dst
}

// date is the day of the sign-up as YYYYMMDD.
func (p *Personal) date() (digits [8]byte) {
	year, month, day := p.Since.Date()
	n := year*10_000 + int(month)*100 + day
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = byte('0' + n%10)
		n /= 10
	}
	return digits
}

// length is how many octets append appends.
func (p *Personal) length(f field) int {
	switch f {
	case to:
		return len(p.To)
	case messageID:
		return len(p.MessageID)
	case unsubscribe, listUnsubscribe:
		return len(p.Unsubscribe)
	case preferences:
		return len(p.Preferences)
	case action:
		return len(p.Action)
	}
	return longest(f) // a date's parts have one length each
}

func token(s []byte) bool { return len(s) == TokenLength && base64url(s) }

func base64url(s []byte) bool {
	for _, c := range s {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && !(c >= '0' && c <= '9') && c != '-' && c != '_' {
			return false
		}
	}
	return len(s) > 0
}

// bareAddress reports whether s is one address and nothing else, by the parts of RFC 5321 §4.1.2 that keep it from being
// several, a display name or a second header. Whether it exists or is well chosen was decided at sign-up.
func bareAddress(s string) bool {
	at := strings.LastIndexByte(s, '@')
	return at > 0 && len(s) <= maxAddress && localPart(s[:at]) && hostName(s[at+1:])
}

func localPart(s string) bool {
	quoted := len(s) > 2 && s[0] == '"' && s[len(s)-1] == '"'
	if quoted {
		s = s[1 : len(s)-1]
	}
	for _, r := range s {
		switch r {
		case '"', '\\':
			return false
		case ' ', '(', ')', '<', '>', '[', ']', ':', ';', '@', ',':
			if !quoted {
				return false
			}
		default:
			if !printable(r) {
				return false
			}
		}
	}
	return true
}

// printable refuses U+FFFD, which ranging over a string gives for bad UTF-8.
func printable(r rune) bool {
	if r < utf8.RuneSelf {
		return r > ' ' && r < 0x7F
	}
	return unicode.IsPrint(r) && r != unicode.ReplacementChar
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
