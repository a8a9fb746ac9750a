package render

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	gomail "github.com/wneessen/go-mail"
)

// Header is what a message's header needs besides the subject and the reader's own values.
type Header struct {
	From     mail.Address
	ReplyTo  mail.Address // may be zero
	List     List         // zero for a letter
	Domain   string       // right of the @ in Message-IDs
	Date     time.Time    // when the sending began; the zone it carries is printed
	Language Lang

	UnsubscribeBase URL // https, the token is appended; empty for a letter
}

// List names a newsletter in its List-Id (RFC 2919). ID must never change; Title may.
type List struct {
	Title Text
	ID    string // label and domain: morgen.news.example.org
}

// Message is a mail of which only the readers' own values are missing. It is immutable.
type Message struct {
	segments []segment
	fields   []field // each once: what Splice checks
	size     int
}

// segment is bytes that are the same for every reader, and the reader's value that follows them.
type segment struct {
	static []byte
	then   field
}

// Build makes the message of a variant or letter: RFC 5322 headers in a fixed order, multipart/alternative in
// quoted-printable, 7 bits wide throughout. The same input gives the same bytes in every process.
func Build(h Header, b Body) (*Message, error) {
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("building message: %w", err)
	}
	boundary := boundaryOf(h, b)
	raw, err := compose(h, b, boundary)
	if err != nil {
		return nil, fmt.Errorf("building message: %w", err)
	}
	head, body, found := strings.Cut(raw, "\r\n\r\n")
	if !found {
		return nil, errors.New("building message: no end of header")
	}
	var c cutter
	fields := headerFields(head)
	fields["subject"] = subject(headerText(b.Subject), fields["subject"])
	c.header(h, fields, boundary)
	c.body(body, boundary)
	return c.message(), nil
}

func (h Header) check() error {
	switch {
	case !bareAddress(h.From.Address):
		return errors.New("from: not one bare address")
	case h.ReplyTo.Address != "" && !bareAddress(h.ReplyTo.Address):
		return errors.New("reply-to: not one bare address")
	case !hostName(h.Domain):
		return fmt.Errorf("message id domain %q: not a host name", h.Domain)
	case h.List.ID != "" && (!listID(h.List.ID) || len(h.List.ID) > 200):
		return fmt.Errorf("list id %q: not label.domain", h.List.ID)
	case (h.List.ID == "") != (h.UnsubscribeBase == ""):
		return errors.New("a list needs an unsubscribe address, a letter none")
	case h.UnsubscribeBase != "" && !secure(h.UnsubscribeBase.String()):
		return fmt.Errorf("unsubscribe address %q: not https", string(h.UnsubscribeBase)) // RFC 8058 §3.1
	}
	return nil
}

func listID(s string) bool { return hostName(s) && strings.Contains(strings.Trim(s, "."), ".") }

// boundaryOf derives the boundary from the content (RFC 2046 §5.1.1): "=_" cannot occur in quoted-printable, and a hash
// of the content cannot occur in the content.
func boundaryOf(h Header, b Body) string {
	sum := sha256.New()
	for _, s := range []string{h.From.String(), h.List.ID, b.Subject, b.Text, b.HTML} {
		fmt.Fprintf(sum, "%d %s\n", len(s), s)
	}
	return "=_" + hex.EncodeToString(sum.Sum(nil)[:16])
}

// compose lets go-mail encode what needs encoding: addresses, subject, date and both parts.
func compose(h Header, b Body, boundary string) (string, error) {
	m := gomail.NewMsg(gomail.WithCharset(gomail.CharsetUTF8), gomail.WithEncoding(gomail.EncodingQP),
		gomail.WithBoundary(boundary), gomail.WithNoDefaultUserAgent())
	from := mail.Address{Name: headerText(h.From.Name), Address: h.From.Address}
	m.FromMailAddress(&from)
	if h.ReplyTo.Address != "" {
		replyTo := mail.Address{Name: headerText(h.ReplyTo.Name), Address: h.ReplyTo.Address}
		m.ReplyToMailAddress(&replyTo)
	}
	m.Subject(headerText(b.Subject))
	m.SetDateWithValue(h.Date)
	m.SetMessageIDWithValue("unused@localhost") // else go-mail asks for the host's name; the header is written by cutter
	m.SetBodyString(gomail.TypeTextPlain, b.Text)
	m.AddAlternativeString(gomail.TypeTextHTML, b.HTML)
	var raw bytes.Buffer
	if _, err := m.WriteTo(&raw); err != nil {
		return "", err
	}
	return raw.String(), nil
}

// headerText is text for a header: one line, no controls, no soft hyphens, no direction characters, and valid UTF-8.
func headerText(s string) string {
	return strings.ReplaceAll(Plain(Text(s)), softHyphen, "")
}

// headerFields splits a header into its fields, folded as they are, by lower-case name.
func headerFields(head string) map[string]string {
	fields := make(map[string]string)
	name := ""
	for line := range strings.SplitSeq(head, "\r\n") {
		if strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") {
			fields[name] += "\r\n" + line
			continue
		}
		name, _, _ = strings.Cut(strings.ToLower(line), ":")
		fields[name] = line
	}
	return fields
}

// header writes the header in our order, each field once; what go-mail adds beyond it is left out.
func (c *cutter) header(h Header, encoded map[string]string, boundary string) {
	c.line(encoded["date"])
	c.line(encoded["from"])
	if reply, ok := encoded["reply-to"]; ok {
		c.line(reply)
	}
	c.personalLine("To: ", to, "")
	c.line(encoded["subject"])
	c.personalLine("Message-ID: <", messageID, "@"+h.Domain+">")
	if h.List.ID != "" {
		c.line("List-Id: " + listIdentifier(h.List))
		c.personalLine("List-Unsubscribe: <"+h.UnsubscribeBase.String(), listUnsubscribe, ">")
		c.line("List-Unsubscribe-Post: List-Unsubscribe=One-Click") // RFC 8058 §3.1
	}
	c.line("Auto-Submitted: auto-generated") // RFC 3834 §5
	if language := h.Language.String(); language != "" {
		c.line("Content-Language: " + language)
	}
	c.line("MIME-Version: 1.0")
	c.line("Content-Type: multipart/alternative;\r\n boundary=\"" + boundary + "\"")
	c.line("")
}

// maxListTitle keeps a List-Id with its title, encoded, within the 255 octets of RFC 2919 §3.
const maxListTitle = 60

// listIdentifier writes the header's value: the title as a phrase (RFC 5322 §3.2.5), if it is not too long, and the id.
func listIdentifier(l List) string {
	id := "<" + l.ID + ">"
	title := headerText(string(l.Title))
	if ascii(title) {
		title = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(title) + `"`
	} else {
		title = encodedWords(title, len("List-Id: "))
	}
	if title == `""` || len(title) > maxListTitle {
		return id
	}
	return title + "\r\n " + id
}

// encodedWords writes text as encoded words (RFC 2047 §2), folded; the first line has room for what stands before it.
// No word ends within a character.
func encodedWords(text string, before int) string {
	const open, end = "=?UTF-8?Q?", "?="
	var b strings.Builder
	b.WriteString(open)
	column := before + len(open)
	for _, r := range text {
		encoded := encodedRune(r)
		if column+len(encoded)+len(end) > qpLine {
			b.WriteString(end + "\r\n " + open)
			column = 1 + len(open)
		}
		b.WriteString(encoded)
		column += len(encoded)
	}
	return b.String() + end
}

func encodedRune(r rune) string {
	switch {
	case r == ' ':
		return "_"
	case r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r)):
		return string(r)
	}
	var b strings.Builder
	for _, c := range []byte(string(r)) {
		fmt.Fprintf(&b, "=%02X", c)
	}
	return b.String()
}

// subject is the header's field. go-mail would begin a long one with an empty line, which is legal and rarely seen, and
// would leave a headline as it is that only looks encoded.
func subject(text, encoded string) string {
	if ascii(text) && !strings.Contains(text, "=?") {
		return encoded
	}
	return "Subject: " + encodedWords(text, len("Subject: "))
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] > unicode.MaxASCII {
			return false
		}
	}
	return true
}

// Size is the length a message has at most, in octets: with the longest address and Message-ID there may be.
func (m *Message) Size() int { return m.size }

// Splice appends the finished message for one reader: 7-bit unless the address is not, CRLF line ends, no line that begins
// with a dot. Values that are not what they should be are refused, and dst is returned as it was.
// It allocates nothing if dst has room for Size octets.
func (m *Message) Splice(dst []byte, p Personal) ([]byte, error) {
	for _, f := range m.fields {
		if err := p.check(f); err != nil {
			return dst, err
		}
	}
	for _, s := range m.segments {
		dst = append(dst, s.static...)
		dst = p.append(dst, s.then)
	}
	return dst, nil
}
