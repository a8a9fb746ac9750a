package render

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
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

// Build makes the message of a body: RFC 5322 headers in a fixed order, multipart/alternative in quoted-printable, 7 bits
// wide throughout. The same input gives the same bytes in every process.
func Build(h Header, b Body) (*Message, error) {
	f, err := newForm(h)
	if err != nil {
		return nil, fmt.Errorf("building message: %w", err)
	}
	field, err := subjectField(b.Subject)
	if err != nil {
		return nil, fmt.Errorf("building message: %w", err)
	}
	parts, err := pieces(b.Text+"\n", b.HTML+"\n")
	if err != nil {
		return nil, fmt.Errorf("building message: %w", err)
	}
	return f.message(boundaryOf(h, b), field, parts[:1], parts[1:]), nil
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
	return boundaryFrom(sum)
}

func boundaryFrom(sum hash.Hash) string { return "=_" + hex.EncodeToString(sum.Sum(nil)[:16]) }

// form is a message without subject and content.
type form struct {
	before, after *piece    // the header's lines around the subject
	seams         [3]string // what stands before the text, between it and the HTML, and after that; with boundaryMark
}

const (
	boundaryMark = "=_boundary"
	partMark     = stem + "Part" // a line of its own
)

// newForm lets go-mail make a message of two empty parts, and puts its header in our order.
func newForm(h Header) (*form, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	m := newMail()
	m.SetBoundary(boundaryMark)
	from := mail.Address{Name: headerText(h.From.Name), Address: h.From.Address}
	m.FromMailAddress(&from)
	if h.ReplyTo.Address != "" {
		replyTo := mail.Address{Name: headerText(h.ReplyTo.Name), Address: h.ReplyTo.Address}
		m.ReplyToMailAddress(&replyTo)
	}
	m.SetDateWithValue(h.Date)
	m.SetBodyString(gomail.TypeTextPlain, partMark)
	m.AddAlternativeString(gomail.TypeTextHTML, partMark)
	head, body, err := written(m)
	if err != nil {
		return nil, err
	}
	seams := strings.Split(body, partMark+"\r\n")
	if len(seams) != 3 {
		return nil, fmt.Errorf("message has %d parts", len(seams)-1)
	}
	var f form
	f.seams[0] = "Content-Type: multipart/alternative;\r\n boundary=\"" + boundaryMark + "\"\r\n\r\n" + seams[0]
	f.seams[1], f.seams[2] = seams[1], seams[2]
	for _, seam := range f.seams {
		if err := fitForWire([]segment{{static: []byte(seam)}}); err != nil {
			return nil, err
		}
	}
	f.before, f.after, err = h.lines(headerFields(head))
	return &f, err
}

// newMail is an empty message. Its Message-ID and date are never used; without, go-mail would ask for host name and time.
func newMail() *gomail.Msg {
	m := gomail.NewMsg(gomail.WithCharset(gomail.CharsetUTF8), gomail.WithEncoding(gomail.EncodingQP),
		gomail.WithNoDefaultUserAgent())
	m.SetGenHeader(gomail.HeaderMessageID, "unused")
	m.SetGenHeader(gomail.HeaderDate, "unused")
	return m
}

// written is the message as go-mail writes it.
func written(m *gomail.Msg) (head, body string, err error) {
	var raw strings.Builder
	raw.Grow(512) // the header; the body comes in one piece
	if _, err := m.WriteTo(&raw); err != nil {
		return "", "", err
	}
	head, body, found := strings.Cut(raw.String(), "\r\n\r\n")
	if !found {
		return "", "", errors.New("no end of header")
	}
	return head, body, nil
}

// quotedPrintable lets go-mail encode contents, each of whole lines. What it returns has no soft line breaks: it is wrapped
// anew, because go-mail wraps around our placeholders and not around the values, and may tear a placeholder apart.
func quotedPrintable(contents ...string) ([]string, error) {
	m := newMail()
	m.SetBodyString(gomail.TypeTextPlain, strings.Join(contents, partMark+"\n"))
	_, body, err := written(m)
	if err != nil {
		return nil, err
	}
	encoded := strings.Split(unwrapped(body), partMark+"\r\n")
	if len(encoded) != len(contents) {
		return nil, errors.New("content holds a placeholder for parts")
	}
	return encoded, nil
}

// unwrapped removes soft line breaks.
func unwrapped(encoded string) string {
	var b strings.Builder
	b.Grow(len(encoded))
	for encoded != "" {
		line, rest, ended := strings.Cut(encoded, "\n")
		if whole, soft := strings.CutSuffix(line, "=\r"); soft && ended {
			b.WriteString(whole)
		} else {
			b.WriteString(encoded[:len(encoded)-len(rest)])
		}
		encoded = rest
	}
	return b.String()
}

// pieces encodes contents, each of whole lines, and makes a piece of each.
func pieces(contents ...string) ([]*piece, error) {
	encoded, err := quotedPrintable(contents...)
	if err != nil {
		return nil, err
	}
	made := make([]*piece, len(encoded))
	for i, lines := range encoded {
		if made[i], err = newPiece(lines); err != nil {
			return nil, err
		}
	}
	return made, nil
}

// boundary is derived from the content, too, of which the hashes are known.
func (f *form) boundary(subject *piece, text, html []*piece) string {
	sum := sha256.New()
	for _, part := range [...][]*piece{{f.before, subject, f.after}, text, html} {
		for _, p := range part {
			sum.Write(p.sum[:])
		}
	}
	return boundaryFrom(sum)
}

// headSegments is how many segments header and seams have at most.
const headSegments = 2 + 1 + 3 + 3

// message fills the form in.
func (f *form) message(boundary string, subject *piece, text, html []*piece) *Message {
	m := &Message{segments: make([]segment, 0, headSegments+segmentsOf(text)+segmentsOf(html))}
	m.add(f.before)
	m.add(subject)
	m.add(f.after)
	for i, content := range [...][]*piece{text, html, nil} {
		m.addStatic(strings.ReplaceAll(f.seams[i], boundaryMark, boundary))
		for _, p := range content {
			m.add(p)
		}
	}
	return m
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

// lines writes the header in our order, each field once; what go-mail adds beyond it is left out.
func (h Header) lines(encoded map[string]string) (beforeSubject, afterSubject *piece, err error) {
	var before, after cutter
	before.line(encoded["date"])
	before.line(encoded["from"])
	if reply, ok := encoded["reply-to"]; ok {
		before.line(reply)
	}
	before.personalLine("To: ", to, "")
	after.personalLine("Message-ID: <", messageID, "@"+h.Domain+">")
	if h.List.ID != "" {
		after.line("List-Id: " + listIdentifier(h.List))
		after.personalLine("List-Unsubscribe: <"+h.UnsubscribeBase.String(), listUnsubscribe, ">")
		after.line("List-Unsubscribe-Post: List-Unsubscribe=One-Click") // RFC 8058 §3.1
	}
	after.line("Auto-Submitted: auto-generated") // RFC 3834 §5
	if language := h.Language.String(); language != "" {
		after.line("Content-Language: " + language)
	}
	after.line("MIME-Version: 1.0")
	if beforeSubject, err = before.piece(); err != nil {
		return nil, nil, err
	}
	afterSubject, err = after.piece()
	return beforeSubject, afterSubject, err
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

// subjectField is the header's field. go-mail begins a field with an empty line if it would have to break its first word or
// encode a long one, which is legal and rarely seen, and leaves a headline as it is that only looks encoded.
func subjectField(subject string) (*piece, error) {
	text := headerText(subject)
	m := newMail()
	m.Subject(text)
	m.SetBodyString(gomail.TypeTextPlain, "")
	head, _, err := written(m)
	if err != nil {
		return nil, err
	}
	field := headerFields(head)["subject"]
	if !ascii(text) || strings.Contains(text, "=?") || strings.HasPrefix(field, "Subject:\r\n") {
		field = "Subject: " + encodedWords(text, len("Subject: "))
	}
	var c cutter
	c.line(field)
	return c.piece()
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] > unicode.MaxASCII {
			return false
		}
	}
	return true
}
