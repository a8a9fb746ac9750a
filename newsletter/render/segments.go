package render

import (
	"bytes"
	"slices"
	"strings"
)

// qpLine is the longest line quoted-printable may have, without its CRLF (RFC 2045 §6.7, rule 5).
const qpLine = 76

// cutter writes a message and cuts it where a reader's value goes.
type cutter struct {
	segments []segment
	static   bytes.Buffer
	size     int
	column   int // of the current quoted-printable line, with the values in it
}

func (c *cutter) line(s string) { c.static.WriteString(s + "\r\n") }

func (c *cutter) personalLine(before string, f field, after string) {
	c.static.WriteString(before)
	c.cut(f)
	c.line(after)
}

func (c *cutter) cut(f field) {
	c.size += c.static.Len() + longest(f)
	c.segments = append(c.segments, segment{bytes.Clone(c.static.Bytes()), f})
	c.static.Reset()
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

func (c *cutter) message() *Message {
	c.cut(none)
	var fields []field
	for _, s := range c.segments {
		if s.then != none && !slices.Contains(fields, s.then) {
			fields = append(fields, s.then)
		}
	}
	return &Message{segments: c.segments, fields: fields, size: c.size}
}

// body copies the multipart body. The lines of its parts are wrapped anew, because go-mail wrapped them around our
// placeholders and not around the values, and may have torn a placeholder apart.
func (c *cutter) body(body, boundary string) {
	inPart := false
	var logical strings.Builder
	for line := range strings.SplitSeq(strings.TrimSuffix(body, "\r\n"), "\r\n") {
		switch {
		case strings.HasPrefix(line, "--"+boundary):
			inPart = false
			c.line(line)
		case !inPart:
			inPart = line == "" // the part's own header ends here
			c.line(line)
		case strings.HasSuffix(line, "="):
			logical.WriteString(strings.TrimSuffix(line, "="))
		default:
			logical.WriteString(line)
			c.wrapped(logical.String())
			logical.Reset()
		}
	}
}

// wrapped writes one line of text, given in quoted-printable without soft breaks, as lines of at most 76 octets.
// A reader's value and the character before it stay together: so no value begins a line.
func (c *cutter) wrapped(line string) {
	c.column = 0
	for line != "" {
		run, unit, rest := nextValue(line)
		c.run(run, unit == "")
		if unit != "" {
			c.unit(unit, rest == "")
		}
		line = rest
	}
	c.static.WriteString("\r\n")
}

// nextValue splits a line before the character that precedes its first value and after the values that follow each other
// there. A value that begins the line gets a space before it.
func nextValue(line string) (run, unit, rest string) {
	begin, word := firstMark(line)
	if word == "" {
		return line, "", ""
	}
	end := begin
	for ; word != ""; word, _, _ = markAt(line[end:]) {
		end += len(word)
	}
	if begin == 0 {
		return "", "=20" + line[:end], line[end:]
	}
	before := begin - 1
	if before >= 2 && line[before-2] == '=' {
		before -= 2
	}
	return line[:before], line[before:end], line[end:]
}

func firstMark(line string) (begin int, word string) {
	for offset := 0; ; offset += begin + len(stem) {
		begin = strings.Index(line[offset:], stem)
		if begin < 0 {
			return 0, ""
		}
		if word, _, _ = markAt(line[offset+begin:]); word != "" {
			return offset + begin, word
		}
	}
}

// run writes text without values; last says that the line ends with it, so that no soft break needs room.
func (c *cutter) run(s string, last bool) {
	for s != "" {
		if c.column == 0 {
			s = c.guarded(s)
		}
		n := min(qpLine-1-c.column, len(s))
		if last && len(s) <= qpLine-c.column {
			n = len(s)
		}
		n = wholeEscapes(s, n)
		c.static.WriteString(s[:n])
		c.column += n
		if s = s[n:]; s != "" {
			c.softBreak()
		}
	}
}

// wholeEscapes returns the longest length up to n at which s may be cut without cutting "=XX".
func wholeEscapes(s string, n int) int {
	switch {
	case n == len(s):
		return n
	case n >= 1 && s[n-1] == '=':
		return n - 1
	case n >= 2 && s[n-2] == '=':
		return n - 2
	}
	return n
}

// guarded encodes what must not begin a line and returns what is left to write: a dot, which SMTP doubles (RFC 5321
// §4.5.2), so that the same bytes are signed and sent; and "From ", before which mailboxes put ">".
func (c *cutter) guarded(s string) string {
	escape := ""
	switch {
	case s[0] == '.':
		escape = "=2E"
	case strings.HasPrefix(s, "From "):
		escape = "=46"
	default:
		return s
	}
	c.static.WriteString(escape)
	c.column = len(escape)
	return s[1:]
}

// unit writes values with the character before them, unbroken, and cuts at each value.
func (c *cutter) unit(s string, last bool) {
	room := qpLine - 1
	if last {
		room = qpLine
	}
	if c.column > 0 && c.column+unitSize(s) > room {
		c.softBreak()
	}
	if c.column == 0 {
		s = c.guarded(s)
	}
	c.column += unitSize(s)
	for s != "" {
		if word, f, _ := markAt(s); word != "" {
			c.cut(f)
			s = s[len(word):]
			continue
		}
		c.static.WriteByte(s[0])
		s = s[1:]
	}
}

func (c *cutter) softBreak() {
	c.static.WriteString("=\r\n")
	c.column = 0
}

// unitSize is the length of a unit with the values in it.
func unitSize(unit string) int {
	size := 0
	for unit != "" {
		if word, _, length := markAt(unit); word != "" {
			size += length
			unit = unit[len(word):]
			continue
		}
		size++
		unit = unit[1:]
	}
	return size
}
