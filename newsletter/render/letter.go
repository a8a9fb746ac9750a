package render

import (
	htmltemplate "html/template"
	"strings"
	"time"
)

// Letter is a mail outside a digest: a confirmation, a change of address, a link on request. It is plain and advertises
// nothing: no picture, and no links but the one to act on, privacy notice and imprint.
type Letter struct {
	Newsletter Newsletter
	Brand      Brand
	Topics     []Text
	Requested  time.Time // in the newsletter's zone; the letter prints it
	Action     URL       // the token is appended, unless the address ends in ActionMark already
	DeleteDays int       // after how many days an unanswered request is deleted
}

// letterData is what the blocks "subject" and "letter" see.
type letterData struct {
	Newsletter Newsletter
	Brand      Brand
	Topics     []Text
	Requested  moment
	Action     link
	DeleteDays int
}

// Letter renders a letter. The Body holds ActionMark where the reader's token goes.
func (t *Template) Letter(l Letter) (Body, error) {
	data := letterData{
		Newsletter: l.Newsletter.clean(), Brand: l.Brand.clean(), Topics: cleanAll(l.Topics),
		Requested:  moment{l.Requested, t.locale},
		Action:     link{URL(strings.TrimSuffix(string(l.Action), ActionMark)), ActionMark},
		DeleteDays: l.DeleteDays,
	}
	subject, err := t.subject(data)
	if err != nil {
		return Body{}, err
	}
	markdown, err := t.execute("letter", data)
	if err != nil {
		return Body{}, err
	}
	f := t.fragment(markdown, letter, nil)
	html, err := t.framed(frameData{
		Title: plainText(subject), Colour: htmltemplate.CSS(l.Brand.Colour.String()), Opening: f.HTML,
	})
	if err != nil {
		return Body{}, err
	}
	return Body{Subject: subject, HTML: html, Text: f.Text + "\n"}, nil
}
