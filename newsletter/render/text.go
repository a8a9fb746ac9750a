package render

import (
	"net/netip"
	"net/url"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Text is text from outside: a headline, a name, a topic. Printed by a template it is escaped, so that Markdown shows it
// letter by letter and it can be neither markup nor a link, wherever it stands.
type Text string

// String returns the text with every character that could mean something to Markdown escaped.
func (t Text) String() string {
	plain := Plain(t)
	var b strings.Builder
	b.Grow(len(plain) + len(plain)/8)
	for i := range len(plain) {
		if punctuation(plain[i]) {
			b.WriteByte('\\')
		}
		b.WriteByte(plain[i])
	}
	return b.String()
}

// punctuation is what CommonMark 0.31 §2.4 lets a backslash escape: all of ASCII's.
func punctuation(c byte) bool {
	return c >= '!' && c <= '/' || c >= ':' && c <= '@' || c >= '[' && c <= '`' || c >= '{' && c <= '~'
}

// Plain returns the text as a reader sees it: one line, single spaces, no control characters, nothing that turns the
// direction of what follows, and nothing that could pass for one of our placeholders.
//
// It is a function and not a method so that a template cannot reach it.
func Plain(t Text) string {
	return oneLine(withoutPlaceholders(oneLine(string(t)))) // what is taken out may leave two spaces
}

// oneLine keeps no-break and soft-hyphen characters: they are part of how the text was set.
func oneLine(s string) string {
	if isOneLine(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	space := false
	for _, r := range s {
		switch {
		case breaks(r):
			space = b.Len() > 0
			continue
		case invisible(r):
			continue
		case space:
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}

// isOneLine reports whether oneLine has nothing to change. Most texts pass here more than once.
func isOneLine(s string) bool {
	last := ' '
	for _, r := range s {
		if r == utf8.RuneError || invisible(r) || breaks(r) && (r != ' ' || last == ' ') {
			return false
		}
		last = r
	}
	return strings.TrimSpace(s) == s
}

// breaks reports white space that is collapsed into one space; ranging over a string has made bad UTF-8 U+FFFD already.
func breaks(r rune) bool {
	return r == ' ' || r >= '\t' && r <= '\r' || r == 0x85 || r == 0x2028 || r == 0x2029
}

// invisible reports control characters, the byte order mark and the embeddings, overrides and isolates of
// Unicode's bidirectional algorithm (UAX #9), with which a headline could rewrite its neighbours.
func invisible(r rune) bool {
	return r < ' ' || r >= 0x7F && r < 0xA0 || r == 0xFEFF || r >= 0x202A && r <= 0x202E || r >= 0x2066 && r <= 0x2069
}

// clean is the text without what Plain drops, so that a template's {{with}} sees an empty text as empty.
func (t Text) clean() Text { return Text(Plain(t)) }

func cleanAll(texts []Text) []Text { return cleanFirst(texts, len(texts)) }

// cleanFirst returns the first texts of which something is left, at most so many.
func cleanFirst(texts []Text, most int) []Text {
	var kept []Text
	for _, t := range texts {
		if len(kept) == most {
			break
		}
		if t = t.clean(); t != "" {
			kept = append(kept, t)
		}
	}
	return kept
}

const softHyphen = "\u00AD"

// withoutPlaceholders removes the stem all placeholders share. Soft hyphens go as well then: the text part drops them, and
// could put a stem together again.
func withoutPlaceholders(s string) string {
	if !strings.Contains(strings.ReplaceAll(s, softHyphen, ""), stem) {
		return s
	}
	s = strings.ReplaceAll(s, softHyphen, "")
	for strings.Contains(s, stem) {
		s = strings.ReplaceAll(s, stem, "")
	}
	return s
}

// Markdown is an article's body. It is rendered as a document of its own, with raw HTML off, and put where the template
// prints it: an open code fence or a reference in it cannot reach the lines around it.
type Markdown string

// URL is an absolute address: http, https or mailto.
type URL string

// String returns the address so that it can stand in a Markdown link, in ASCII; anything but an absolute http, https or
// mailto address without credentials prints as nothing.
func (u URL) String() string {
	parsed, err := url.Parse(strayPercents(strings.TrimSpace(string(u))))
	if err != nil || parsed.User != nil || strings.Contains(string(u), stem) {
		return ""
	}
	switch parsed.Scheme {
	case "http", "https":
		return webAddress(parsed)
	case "mailto":
		if !strings.Contains(parsed.Opaque, "@") {
			return ""
		}
		return linkSafe(parsed.String())
	}
	return ""
}

func webAddress(u *url.URL) string {
	name := u.Hostname()
	if name == "" || !utf8.ValidString(name) {
		return ""
	}
	host := u.Host
	if _, err := netip.ParseAddr(name); err != nil {
		ascii, err := idna.Lookup.ToASCII(name)
		if err != nil {
			return ""
		}
		host = strings.Replace(host, name, ascii, 1)
	}
	rest := u.EscapedPath()
	if u.RawQuery != "" {
		rest += "?" + u.RawQuery
	}
	if u.Fragment != "" {
		rest += "#" + u.EscapedFragment()
	}
	return u.Scheme + "://" + host + linkSafe(rest)
}

// Host returns the address's host, for a text that names the site.
func (u URL) Host() Text {
	parsed, err := url.Parse(u.String())
	if err != nil {
		return ""
	}
	return Text(parsed.Hostname())
}

// strayPercents encodes each % that does not begin an escape, which url.Parse would refuse; feeds have them.
func strayPercents(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		b.WriteByte(s[i])
		if s[i] == '%' && !(i+2 < len(s) && hexadecimal(s[i+1]) && hexadecimal(s[i+2])) {
			b.WriteString("25")
		}
	}
	return b.String()
}

func hexadecimal(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// linkSafe percent-encodes (RFC 3986 §2.1) what would end a Markdown link or begin markup. The semicolon is encoded
// because Markdown would read "&copy;" as an entity.
func linkSafe(s string) string {
	const unsafe = " \"'<>()[]{}|\\^`*;"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c > ' ' && c < utf8.RuneSelf && c != 0x7F && strings.IndexByte(unsafe, c) < 0 {
			b.WriteByte(c)
			continue
		}
		const digits = "0123456789ABCDEF"
		b.WriteByte('%')
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	return b.String()
}

// clean is the address as it will be printed, so that a template's {{with}} sees an unusable one as empty.
func (u URL) clean() URL { return URL(u.String()) }
