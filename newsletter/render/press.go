package render

import (
	"errors"
	"fmt"
	htmltemplate "html/template"
	"strconv"
	"strings"
	"sync"
)

// Press prints the variants of one edition. What they have in common is rendered and encoded once: a variant costs its
// opening, and its message refers to the rest. It may be used by several goroutines.
//
// A line's encoding does not depend on the lines around it. So whole lines are encoded apart and joined, and a message is
// what it would be if it had been encoded in one piece.
type Press struct {
	template *Template
	edition  Edition
	common   commonData // its web view lacks the number
	form     func() (*form, error)

	mu       sync.Mutex // guards the maps; what is in them does not change
	rows     map[Fragment]*row
	titles   map[string]*title   // by subject
	closings map[string]*closing // by the placeholder of their number
}

// Press prepares to print an edition.
func (t *Template) Press(e Edition) *Press {
	return &Press{
		template: t, edition: e,
		common: commonData{
			Newsletter: e.Newsletter.clean(), Brand: e.Brand.clean(), Day: day{e.Day, t.locale},
			WebView:     page(e.WebViewBase.String()),
			Unsubscribe: link{e.UnsubscribeBase, UnsubscribeMark},
			Preferences: link{e.PreferencesBase, PreferencesMark},
			Since:       since{t.language},
		},
		form: sync.OnceValues(func() (*form, error) { return newForm(e.Header) }),
		rows: map[Fragment]*row{}, titles: map[string]*title{}, closings: map[string]*closing{},
	}
}

// Body is a whole variant, as its message holds it.
func (p *Press) Body(v Variant) (Body, error) {
	s, err := p.sheet(v)
	if err != nil {
		return Body{}, err
	}
	return Body{Subject: s.subject, HTML: s.html(), Text: s.text()}, nil
}

// Message is a variant of which only the readers' own values are missing. The same edition and variant give the same bytes
// in every process, whatever was printed before.
func (p *Press) Message(v Variant) (*Message, error) {
	f, err := p.form()
	if err != nil {
		return nil, fmt.Errorf("building message: %w", err)
	}
	s, err := p.sheet(v)
	if err != nil {
		return nil, err
	}
	subject, text, html, err := s.lines()
	if err != nil {
		return nil, fmt.Errorf("building message: %w", err)
	}
	return f.message(f.boundary(subject, text, html), subject, text, html), nil
}

func (p *Press) sheet(v Variant) (s sheet, err error) {
	s.number = strconv.FormatInt(v.Number, 10)
	data := p.common.with(v, s.number)
	if s.title, err = p.title(&data); err != nil {
		return s, err
	}
	if s.opening, err = p.opening(&data); err != nil {
		return s, err
	}
	if s.closing, err = p.closing(&data, numberMarkFor(s.number)); err != nil {
		return s, err
	}
	s.rows, err = p.sections(v.Sections)
	return s, err
}

func (p *Press) sections(sections []Section) (rows []*row, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(sections)
	for _, section := range sections {
		n += len(section.Entries)
	}
	rows = make([]*row, 0, n)
	for _, section := range sections {
		if rows, err = p.appendRows(rows, section.Heading); err != nil {
			return nil, err
		}
		if rows, err = p.appendRows(rows, section.Entries...); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

var errPlaceholder = errors.New("an entry holds a placeholder")

// appendRows keeps each heading and entry, so that it is encoded once. The press is locked.
func (p *Press) appendRows(rows []*row, fragments ...Fragment) ([]*row, error) {
	for _, f := range fragments {
		r, known := p.rows[f]
		if !known {
			if strings.Contains(string(f.HTML), stem) || strings.Contains(f.Text, stem) {
				return nil, errPlaceholder
			}
			r = newRow(f)
			p.rows[f] = r
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// opening differs from variant to variant: it names headlines and topics.
func (p *Press) opening(data *digestData) (*row, error) {
	markdown, err := p.template.execute("opening", data)
	if err != nil {
		return nil, err
	}
	return newRow(p.template.fragment(markdown, entry, nil)), nil
}

// maxTitles is how many subjects with their pages are kept. Usually there are fewer: a subject names one headline.
const maxTitles = 100

func (p *Press) title(data *digestData) (*title, error) {
	markdown, err := p.template.execute("subject", data)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if t, known := p.titles[markdown]; known {
		return t, nil
	}
	t, err := p.newTitle(p.template.subjectOf(markdown))
	if err != nil {
		return nil, err
	}
	if len(p.titles) == maxTitles {
		clear(p.titles)
	}
	p.titles[markdown] = t
	return t, nil
}

func (p *Press) newTitle(subject string) (*title, error) {
	page, err := p.template.framed(frameData{
		Title: plainText(subject), Colour: htmltemplate.CSS(p.edition.Brand.Colour.String()),
		Opening: openingMark, Rows: rowsMark, Closing: closingMark,
	})
	if err != nil {
		return nil, err
	}
	return newTitle(p.edition.Prefix+subject, page), nil
}

// closing is kept if it is the same in all variants, but for their number.
func (p *Press) closing(data *digestData, mark string) (*closing, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, known := p.closings[mark]; known {
		return c, nil
	}
	common := p.common.numbered(mark)
	markdown, err := p.template.execute("closing", &common)
	same := err == nil
	if !same {
		if markdown, err = p.template.execute("closing", data); err != nil {
			return nil, err
		}
	}
	c := newClosing(p.template.fragment(markdown, footer, nil), mark)
	if same {
		p.closings[mark] = c
	}
	return c, nil
}
