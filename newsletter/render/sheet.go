package render

import (
	"fmt"
	"strings"
	"sync"
)

// sheet is a variant before it is joined.
type sheet struct {
	*title
	opening *row
	rows    []*row
	closing *closing
	number  string
}

// row is a fragment, and its lines as they stand in a message. Only a message needs them: they are made when one asks.
type row struct {
	html, text string
	lines      func() (rowLines, error)
}

type rowLines struct{ html, text *piece }

func newRow(f Fragment) *row {
	r := &row{html: wholeLines(string(f.HTML)), text: f.Text + "\n\n"}
	r.lines = sync.OnceValues(func() (rowLines, error) {
		both, err := pieces(r.html, r.text)
		if err != nil {
			return rowLines{}, fmt.Errorf("encoding a row: %w", err)
		}
		return rowLines{both[0], both[1]}, nil
	})
	return r
}

func wholeLines(s string) string {
	if s == "" || strings.HasSuffix(s, "\n") {
		return s
	}
	return s + "\n"
}

// title is a subject and the page under it.
type title struct {
	subject string
	frame   []framePart
	lines   func() (titleLines, error)
}

// framePart is some whole lines of the page, and the placeholder of what follows them.
type framePart struct{ html, then string }

type titleLines struct {
	field *piece
	frame []*piece // of each part
}

func newTitle(subject, page string) *title {
	t := &title{subject: subject, frame: frameParts(page)}
	t.lines = sync.OnceValues(func() (l titleLines, err error) {
		if l.field, err = subjectField(subject); err != nil {
			return l, fmt.Errorf("encoding subject: %w", err)
		}
		contents := make([]string, len(t.frame))
		for i, part := range t.frame {
			contents[i] = part.html
		}
		contents[len(contents)-1] += "\n"
		if l.frame, err = pieces(contents...); err != nil {
			return l, fmt.Errorf("encoding frame: %w", err)
		}
		return l, nil
	})
	return t
}

// frameParts splits a page at the placeholders.
func frameParts(page string) (parts []framePart) {
	for {
		before, hole := page, ""
		for _, mark := range []string{openingMark, rowsMark, closingMark} {
			if i := strings.Index(before, mark); i >= 0 {
				before, hole = before[:i], mark
			}
		}
		if hole == "" {
			return append(parts, framePart{html: page})
		}
		parts = append(parts, framePart{html: wholeLines(before), then: hole})
		page = page[len(before)+len(hole):]
	}
}

// closing is the end of a mail. It has a placeholder for the variant's number.
type closing struct {
	html, text string
	mark       string
	lines      func() (closingLines, error)
}

type closingLines struct{ html, text []numbered }

// numbered is lines that are ready, and after them encoded ones in which the number is missing.
type numbered struct {
	ready   *piece
	waiting string
}

func newClosing(f Fragment, mark string) *closing {
	c := &closing{
		html: wholeLines(string(f.HTML)), text: strings.Repeat("-", columns) + "\n\n" + f.Text + "\n", mark: mark,
	}
	c.lines = sync.OnceValues(func() (l closingLines, err error) {
		encoded, err := quotedPrintable(c.html, c.text+"\n")
		if err == nil {
			l.html, err = numberedLines(encoded[0], mark)
		}
		if err == nil {
			l.text, err = numberedLines(encoded[1], mark)
		}
		if err != nil {
			return l, fmt.Errorf("encoding closing: %w", err)
		}
		return l, nil
	})
	return c
}

// numberedLines sets the lines with a placeholder apart from those without.
func numberedLines(encoded, mark string) (parts []numbered, err error) {
	for encoded != "" {
		begin, end := len(encoded), len(encoded)
		if i := strings.Index(encoded, mark); i >= 0 {
			begin = strings.LastIndex(encoded[:i], "\n") + 1
			end = i + strings.Index(encoded[i:], "\n") + 1
		}
		ready, err := newPiece(encoded[:begin])
		if err != nil {
			return nil, err
		}
		parts = append(parts, numbered{ready, encoded[begin:end]})
		encoded = encoded[end:]
	}
	return parts, nil
}

// html is the page.
func (s *sheet) html() string {
	var b strings.Builder
	for _, part := range s.frame {
		b.WriteString(part.html)
		switch part.then {
		case openingMark:
			b.WriteString(s.opening.html)
		case rowsMark:
			for _, r := range s.rows {
				b.WriteString(r.html)
			}
		case closingMark:
			b.WriteString(strings.ReplaceAll(s.closing.html, s.closing.mark, s.number))
		}
	}
	return b.String()
}

func (s *sheet) text() string {
	var b strings.Builder
	b.WriteString(s.opening.text)
	for i, r := range s.rows {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(r.text)
	}
	b.WriteString(strings.ReplaceAll(s.closing.text, s.closing.mark, s.number))
	return b.String()
}

// lines are the lines of subject, text and html. The parts have one more, which belongs to the boundary after it
// (RFC 2046 §5.1.1).
func (s *sheet) lines() (field *piece, text, html []*piece, err error) {
	title, err := s.title.lines()
	if err != nil {
		return nil, nil, nil, err
	}
	opening, err := s.opening.lines()
	if err != nil {
		return nil, nil, nil, err
	}
	closing, err := s.closing.lines()
	if err != nil {
		return nil, nil, nil, err
	}
	textRows, htmlRows, err := s.rowLines()
	if err != nil {
		return nil, nil, nil, err
	}
	text = append(append(text, opening.text), textRows...)
	if text, err = s.appendNumbered(text, closing.text); err != nil {
		return nil, nil, nil, err
	}
	for i, part := range s.frame {
		html = append(html, title.frame[i])
		switch part.then {
		case openingMark:
			html = append(html, opening.html)
		case rowsMark:
			html = append(html, htmlRows...)
		case closingMark:
			if html, err = s.appendNumbered(html, closing.html); err != nil {
				return nil, nil, nil, err
			}
		}
	}
	return title.field, text, html, nil
}

var emptyLine = &piece{segments: []segment{{static: []byte("\r\n")}}}

func (s *sheet) rowLines() (text, html []*piece, err error) {
	text, html = make([]*piece, 0, 2*len(s.rows)), make([]*piece, 0, len(s.rows))
	for i, r := range s.rows {
		l, err := r.lines()
		if err != nil {
			return nil, nil, err
		}
		if i > 0 {
			text = append(text, emptyLine)
		}
		text, html = append(text, l.text), append(html, l.html)
	}
	return text, html, nil
}

func (s *sheet) appendNumbered(lines []*piece, parts []numbered) ([]*piece, error) {
	for _, part := range parts {
		lines = append(lines, part.ready)
		if part.waiting == "" {
			continue
		}
		whole, err := newPiece(strings.ReplaceAll(part.waiting, s.closing.mark, s.number))
		if err != nil {
			return nil, err
		}
		lines = append(lines, whole)
	}
	return lines, nil
}
