package render

import (
	"fmt"
	"strings"
)

// sheet is a variant before it is joined.
type sheet struct {
	*title
	opening *row
	rows    []*row
	closing *closing
	number  string
}

// row is a fragment, and its lines as they stand in a message.
type row struct {
	html, text           string
	htmlLines, textLines *piece
}

func newRow(f Fragment) (*row, error) {
	r := &row{html: wholeLines(string(f.HTML)), text: f.Text + "\n\n"}
	lines, err := pieces(r.html, r.text)
	if err != nil {
		return nil, fmt.Errorf("encoding a row: %w", err)
	}
	r.htmlLines, r.textLines = lines[0], lines[1]
	return r, nil
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
	field   *piece
	frame   []framePart
}

// framePart is some whole lines of the page, and the placeholder of what follows them.
type framePart struct {
	html  string
	lines *piece
	then  string
}

func newTitle(subject, page string) (*title, error) {
	field, err := subjectField(subject)
	if err != nil {
		return nil, fmt.Errorf("encoding subject: %w", err)
	}
	t := &title{subject: subject, field: field, frame: frameParts(page)}
	var contents []string
	for _, part := range t.frame {
		contents = append(contents, part.html)
	}
	contents[len(contents)-1] += "\n"
	lines, err := pieces(contents...)
	if err != nil {
		return nil, fmt.Errorf("encoding frame: %w", err)
	}
	for i := range t.frame {
		t.frame[i].lines = lines[i]
	}
	return t, nil
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
	html, text           string
	mark                 string
	htmlLines, textLines []numbered
}

// numbered is lines that are ready, or encoded ones in which the number is missing.
type numbered struct {
	lines   *piece
	waiting string
}

func newClosing(f Fragment, mark string) (*closing, error) {
	c := &closing{
		html: wholeLines(string(f.HTML)), text: strings.Repeat("-", columns) + "\n\n" + f.Text + "\n", mark: mark,
	}
	encoded, err := quotedPrintable(c.html, c.text+"\n")
	if err == nil {
		c.htmlLines, err = numberedLines(encoded[0], mark)
	}
	if err == nil {
		c.textLines, err = numberedLines(encoded[1], mark)
	}
	if err != nil {
		return nil, fmt.Errorf("encoding closing: %w", err)
	}
	return c, nil
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

// html is the page. No line of it is joined with another's.
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

// htmlLines are the lines of html and one more, which belongs to the boundary after it (RFC 2046 §5.1.1).
func (s *sheet) htmlLines() (lines []*piece, err error) {
	lines = make([]*piece, 0, len(s.rows)+16)
	for _, part := range s.frame {
		lines = append(lines, part.lines)
		switch part.then {
		case openingMark:
			lines = append(lines, s.opening.htmlLines)
		case rowsMark:
			for _, r := range s.rows {
				lines = append(lines, r.htmlLines)
			}
		case closingMark:
			if lines, err = s.appendNumbered(lines, s.closing.htmlLines); err != nil {
				return nil, err
			}
		}
	}
	return lines, nil
}

var emptyLine = &piece{segments: []segment{{static: []byte("\r\n")}}}

// textLines are the lines of text and one more.
func (s *sheet) textLines() ([]*piece, error) {
	lines := make([]*piece, 0, 2*len(s.rows)+8)
	lines = append(lines, s.opening.textLines)
	for i, r := range s.rows {
		if i > 0 {
			lines = append(lines, emptyLine)
		}
		lines = append(lines, r.textLines)
	}
	return s.appendNumbered(lines, s.closing.textLines)
}

func (s *sheet) appendNumbered(lines []*piece, parts []numbered) ([]*piece, error) {
	for _, part := range parts {
		lines = append(lines, part.lines)
		if part.waiting == "" {
			continue
		}
		b, err := newPiece(strings.ReplaceAll(part.waiting, s.closing.mark, s.number))
		if err != nil {
			return nil, err
		}
		lines = append(lines, b)
	}
	return lines, nil
}
