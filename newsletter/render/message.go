package render

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
)

// Message is a mail of which only the readers' own values are missing. It is immutable; what it has in common with others
// it shares with them.
type Message struct {
	segments []segment
	static   int         // octets that are the same for every reader
	values   [fields]int // how often each value stands in it
}

// segment is bytes that are the same for every reader, and the reader's value that follows them.
type segment struct {
	static []byte
	then   field
}

// piece is some whole lines of a message, fit for the wire wherever they stand in it.
type piece struct {
	segments []segment // the last one is followed by no value
	sum      [sha256.Size]byte
}

func segmentsOf(pieces []*piece) (n int) {
	for _, p := range pieces {
		n += len(p.segments)
	}
	return n
}

func (m *Message) add(p *piece) {
	m.segments = append(m.segments, p.segments...)
	for _, s := range p.segments {
		m.static += len(s.static)
		if s.then != none {
			m.values[s.then]++
		}
	}
}

func (m *Message) addStatic(lines string) {
	m.segments = append(m.segments, segment{static: []byte(lines)})
	m.static += len(lines)
}

// Size is the length a message has at most, in octets: with the longest address and Message-ID there may be.
func (m *Message) Size() int {
	size := m.static
	for f, n := range m.values {
		size += n * longest(field(f))
	}
	return size
}

// Length is how many octets Splice appends for a reader.
func (m *Message) Length(p *Personal) int {
	length := m.static
	for f, n := range m.values {
		if n > 0 {
			length += n * p.length(field(f))
		}
	}
	return length
}

// Splice appends the finished message for one reader: 7-bit unless the address is not, CRLF line ends, no line that begins
// with a dot. Values that are not what they should be are refused, and dst is returned as it was.
// It allocates nothing if dst has room for Length octets.
func (m *Message) Splice(dst []byte, p *Personal) ([]byte, error) {
	if err := m.Check(p); err != nil {
		return dst, err
	}
	return m.Append(dst, p), nil
}

// Check tells whether a reader's values are what they should be, and if not, why.
func (m *Message) Check(p *Personal) error {
	var checked [fields]bool
	for f, n := range m.values {
		source := field(f).source()
		if n == 0 || checked[source] {
			continue
		}
		if err := p.check(source); err != nil {
			return err
		}
		checked[source] = true
	}
	return nil
}

// Append is Splice for values that Check has passed.
func (m *Message) Append(dst []byte, p *Personal) []byte {
	dst = slices.Grow(dst, m.Length(p))
	since := p.date()
	for i := range m.segments {
		s := &m.segments[i]
		dst = append(dst, s.static...)
		if s.then != none {
			dst = p.append(dst, s.then, &since)
		}
	}
	return dst
}

// longestLine is the most octets a line may have, without its CRLF (RFC 5322 §2.1.1, RFC 5321 §4.5.3.1.6).
const longestLine = 998

// fitForWire reports what must not go over the wire: lines with a wrong end, too long a line, one that begins with a dot. A
// lone line feed with a dot after it is how messages are smuggled into others (RFC 5321 §2.3.8, §4.5.2).
//
// Readers' values are of known lengths and hold no controls: if the lines hold with the longest, and none of them begins
// with a value, they hold with every value.
func fitForWire(segments []segment) (err error) {
	column := 0
	for _, s := range segments {
		if column, err = checkLines(column, s.static); err != nil {
			return fmt.Errorf("not fit for the wire: %w", err)
		}
		if s.then != none && column == 0 {
			return errors.New("not fit for the wire: a reader's value begins a line")
		}
		column += longest(s.then)
	}
	if column > 0 {
		return errors.New("not fit for the wire: the last line has no end")
	}
	return nil
}

// checkLines checks lines of which the first begins, and the last ends, at a column.
func checkLines(column int, s []byte) (int, error) {
	if bytes.IndexByte(s, 0) >= 0 {
		return 0, errors.New("a NUL")
	}
	for len(s) > 0 {
		if column == 0 && s[0] == '.' {
			return 0, errors.New("a line begins with a dot")
		}
		line, rest, ended := bytes.Cut(s, []byte{'\n'})
		text, whole := bytes.CutSuffix(line, []byte{'\r'})
		if ended != whole || bytes.IndexByte(text, '\r') >= 0 {
			return 0, errors.New("a carriage return or line feed without the other")
		}
		if column += len(text); column > longestLine {
			return 0, fmt.Errorf("a line of more than %d octets", longestLine)
		}
		if ended {
			column = 0
		}
		s = rest
	}
	return column, nil
}
