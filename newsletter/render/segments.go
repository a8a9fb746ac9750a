package render

import (
	"crypto/sha256"
	"strings"
)

// qpLine is the longest line quoted-printable may have, without its CRLF (RFC 2045 §6.7, rule 5).
const qpLine = 76

// cutter writes lines and cuts them where a reader's value goes.
type cutter struct {
	static []byte // without the values
	cuts   []cut
	column int // of the current quoted-printable line, with the values in it
}

type cut struct {
	at   int // in static
	then field
}

func (c *cutter) line(s string) {
	c.static = append(c.static, s...)
	c.static = append(c.static, "\r\n"...)
}

func (c *cutter) personalLine(before string, f field, after string) {
	c.static = append(c.static, before...)
	c.cut(f)
	c.line(after)
}

func (c *cutter) cut(f field) { c.cuts = append(c.cuts, cut{len(c.static), f}) }

// piece is what was written, if it may go over the wire.
func (c *cutter) piece() (*piece, error) {
	p := &piece{segments: make([]segment, 0, len(c.cuts)+1)}
	begin := 0
	for _, x := range append(c.cuts, cut{len(c.static), none}) {
		p.segments = append(p.segments, segment{c.static[begin:x.at:x.at], x.then})
		begin = x.at
	}
	if err := fitForWire(p.segments); err != nil {
		return nil, err
	}
	sum := sha256.New()
	for _, s := range p.segments {
		sum.Write(s.static)
		sum.Write([]byte{0, byte(s.then)}) // no static holds a NUL
	}
	sum.Sum(p.sum[:0])
	return p, nil
}

// newPiece wraps text in quoted-printable that has no soft line breaks. The result is the same wherever the text stands:
// no line's encoding depends on the lines around it.
func newPiece(encoded string) (*piece, error) {
	c := cutter{static: make([]byte, 0, len(encoded)+len(encoded)/16)}
	for encoded != "" {
		var line string
		line, encoded, _ = strings.Cut(encoded, "\r\n")
		c.wrapped(line)
	}
	return c.piece()
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
	c.static = append(c.static, "\r\n"...)
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
		c.static = append(c.static, s[:n]...)
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
	c.static = append(c.static, escape...)
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
		c.static = append(c.static, s[0])
		s = s[1:]
	}
}

func (c *cutter) softBreak() {
	c.static = append(c.static, "=\r\n"...)
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
