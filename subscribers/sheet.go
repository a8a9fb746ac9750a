package subscribers

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
)

// Sheet reads a table of text (RFC 4180, as widely as programs write it) line by line: UTF-8, UTF-16 or Windows-1252, fields
// separated by comma, semicolon, tab or bar. encoding/csv gives up at the first quotation mark that is never closed and takes
// the rest of the file for one field; here the line is told and the next one read.
type Sheet struct {
	Hash      string // SHA-256 of the file, hexadecimal
	Encoding  string // UTF-8, UTF-16 or Windows-1252
	Separator byte
	Size      int64 // in bytes

	source  io.ReadSeeker
	returns bool // lines end with a carriage return alone, as Macs once wrote them
	text    *bufio.Reader
	read    countingReader
	number  int      // of the line read last
	waiting []string // lines that were looked at and belong to nobody
}

// Line is a record of a sheet, or what is wrong with it.
type Line struct {
	Number int // of the physical line on which it begins, from 1
	Fields []string
	Err    error // ErrQuote, ErrLongLine or ErrNotText
}

// What can be wrong with a line.
var (
	ErrQuote    = errors.New("a quotation mark is not closed, or something follows it")
	ErrLongLine = errors.New("the line is too long")
	ErrNotText  = errors.New("it has bytes that are no text")
)

const (
	maxLine  = 256 << 10 // bytes of a physical line
	maxLines = 64        // of a record: notes may have some
)

// NewSheet looks through the whole file, which must not change until it was read.
func NewSheet(file io.ReadSeeker) (*Sheet, error) {
	s := &Sheet{source: file}
	if err := s.survey(); err != nil {
		return nil, fmt.Errorf("read table: %w", err)
	}
	if err := s.Rewind(); err != nil {
		return nil, err
	}
	first, err := s.line()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read table: %w", err)
	}
	s.Separator = separatorOf(first.Fields[0])
	return s, s.Rewind()
}

// countingReader knows how much of the file was read.
type countingReader struct {
	io.Reader
	n int64
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.n += int64(n)
	return n, err
}

// Done is how many bytes of the file were read.
func (s *Sheet) Done() int64 { return s.read.n }

// Rewind begins again at the first line.
func (s *Sheet) Rewind() error {
	if _, err := s.source.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read table: %w", err)
	}
	s.read = countingReader{Reader: s.source}
	var text io.Reader = &s.read
	switch s.Encoding {
	case "UTF-16":
		text = decoded(text, unicode.UTF16(unicode.LittleEndian, unicode.UseBOM))
	case "Windows-1252":
		text = decoded(text, charmap.Windows1252)
	}
	if s.returns {
		text = carriages{text}
	}
	s.text = bufio.NewReaderSize(text, maxLine)
	s.number, s.waiting = 0, nil
	if mark, err := s.text.Peek(3); err == nil && string(mark) == "\ufeff" {
		_, _ = s.text.Discard(3) // peeked before
	}
	return nil
}

// carriages reads every carriage return as the end of a line.
type carriages struct{ io.Reader }

func (c carriages) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	for i, b := range p[:n] {
		if b == '\r' {
			p[i] = '\n'
		}
	}
	return n, err
}

func decoded(r io.Reader, e encoding.Encoding) io.Reader { return e.NewDecoder().Reader(r) }

// survey takes the hash and finds out the encoding: a file with a mark says it; one that has letters beyond ASCII, none of
// them in UTF-8, is of a Windows. Guessing line by line would turn a domain with a broken letter into another domain.
func (s *Sheet) survey() error {
	if _, err := s.source.Seek(0, io.SeekStart); err != nil {
		return err
	}
	hash := sha256.New()
	lines := bufio.NewReaderSize(io.TeeReader(s.source, hash), 64<<10)
	head, _ := lines.Peek(2)
	wide := string(head) == "\xff\xfe" || string(head) == "\xfe\xff"
	good, bad, feeds, returns := 0, 0, 0, 0
	for {
		part, err := lines.ReadSlice('\n')
		feeds += bytes.Count(part, []byte("\n"))
		returns += bytes.Count(part, []byte("\r"))
		s.Size += int64(len(part))
		if !wide && !ascii(part) {
			if utf8.Valid(part) || errors.Is(err, bufio.ErrBufferFull) {
				good++
			} else {
				bad++
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
	s.returns = feeds == 0 && returns > 0
	s.Hash = hex.EncodeToString(hash.Sum(nil))
	switch {
	case wide:
		s.Encoding = "UTF-16"
	case bad > good:
		s.Encoding = "Windows-1252"
	default:
		s.Encoding = "UTF-8"
	}
	return nil
}

func ascii(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

// separatorOf is what stands most often between the fields of the first line. "sep=;" is Excel's own way to say it.
func separatorOf(first string) byte {
	if rest, ok := strings.CutPrefix(first, "sep="); ok && len(rest) == 1 {
		return rest[0]
	}
	most, separator := 0, byte(',')
	for _, candidate := range []byte{',', ';', '\t', '|'} {
		n, quoted := 0, false
		for i := range len(first) {
			switch {
			case first[i] == '"':
				quoted = !quoted
			case first[i] == candidate && !quoted:
				n++
			}
		}
		if n > most {
			most, separator = n, candidate
		}
	}
	return separator
}

// Next gives the next line that is not empty, also one that is broken, and io.EOF after the last. Any other error is one of
// reading.
func (s *Sheet) Next() (Line, error) {
	for {
		l, err := s.line()
		if err != nil {
			return Line{}, err
		}
		if l.Err != nil {
			return Line{Number: l.Number, Err: l.Err}, nil
		}
		text := l.Fields[0]
		if strings.TrimSpace(text) == "" || l.Number == 1 && strings.HasPrefix(text, "sep=") && len(text) == 5 {
			continue
		}
		return s.record(l.Number, text)
	}
}

// record is the record that begins with this text: a quoted field may go on in the lines after it.
func (s *Sheet) record(number int, text string) (Line, error) {
	fields, state := split(text, s.Separator)
	if state == whole {
		return Line{Number: number, Fields: fields}, nil
	}
	var more []string
	for state == open && len(more) < maxLines && len(text) < maxLine {
		next, err := s.line()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Line{}, err
		}
		if next.Err != nil {
			more = append(more, "\x00") // told when its turn comes
			break
		}
		more = append(more, next.Fields[0])
		text += "\n" + next.Fields[0]
		if strings.Count(next.Fields[0], `"`)%2 == 1 { // else the field still goes on
			fields, state = split(text, s.Separator)
		}
	}
	if state == whole {
		return Line{Number: number, Fields: fields}, nil
	}
	s.waiting = append(more, s.waiting...)
	s.number -= len(more)
	return Line{Number: number, Err: ErrQuote}, nil
}

// line is the next physical line, without its end.
func (s *Sheet) line() (Line, error) {
	s.number++
	l := Line{Number: s.number}
	var text string
	if len(s.waiting) > 0 {
		text, s.waiting = s.waiting[0], s.waiting[1:]
	} else {
		raw, err := s.text.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			l.Err = ErrLongLine
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = s.text.ReadSlice('\n')
			}
		}
		if err != nil && (!errors.Is(err, io.EOF) || len(raw) == 0 && l.Err == nil) {
			s.number--
			return Line{Fields: []string{""}}, err
		}
		if l.Err != nil {
			return l, nil
		}
		raw = bytes.TrimSuffix(bytes.TrimSuffix(raw, []byte("\n")), []byte("\r"))
		text = string(raw)
	}
	if strings.IndexByte(text, 0) >= 0 || !utf8.ValidString(text) {
		l.Err = ErrNotText
	}
	l.Fields = []string{text}
	return l, nil
}

// wholeness is how a record ended.
type wholeness int

const (
	whole wholeness = iota
	open            // in a quoted field
	torn            // a quoted field ended and something followed
)

// split takes a record apart. A quotation mark inside a field that does not begin with one is a character like any other.
func split(text string, separator byte) ([]string, wholeness) {
	fields := make([]string, 0, 16)
	for {
		start := strings.TrimLeft(text, " ")
		if !strings.HasPrefix(start, `"`) {
			end := strings.IndexByte(text, separator)
			if end < 0 {
				return append(fields, text), whole
			}
			fields, text = append(fields, text[:end]), text[end+1:]
			continue
		}
		field, rest, closed := unquote(start[1:])
		rest = strings.TrimLeft(rest, " ")
		switch {
		case !closed:
			return nil, open
		case rest == "":
			return append(fields, field), whole
		case rest[0] != separator:
			return nil, torn
		}
		fields, text = append(fields, field), rest[1:]
	}
}

// unquote reads a field after its opening quotation mark; two in a row stand for one.
func unquote(text string) (field, rest string, closed bool) {
	end := strings.IndexByte(text, '"')
	if end >= 0 && !strings.HasPrefix(text[end+1:], `"`) {
		return text[:end], text[end+1:], true
	}
	var b strings.Builder
	for end >= 0 {
		b.WriteString(text[:end])
		text = text[end+1:]
		if !strings.HasPrefix(text, `"`) {
			return b.String(), text, true
		}
		b.WriteByte('"')
		text = text[1:]
		end = strings.IndexByte(text, '"')
	}
	return "", "", false
}

// Disarm makes a field harmless to a spreadsheet, which runs what begins like a formula (CWE-1236): an apostrophe goes before
// it, and before another apostrophe that would be taken for one of ours. Rearm undoes it exactly.
func Disarm(field string) string {
	if dangerous(field) {
		return "'" + field
	}
	return field
}

// Rearm takes away the apostrophe that Disarm, or another program of the same habit, put before a field.
func Rearm(field string) string {
	if rest, ok := strings.CutPrefix(field, "'"); ok && dangerous(rest) {
		return rest
	}
	return field
}

func dangerous(field string) bool {
	field = strings.TrimLeft(field, "'")
	return field != "" && strings.IndexByte("=+-@\t\r", field[0]) >= 0
}
