package render

import (
	"errors"
	"fmt"
	"html"
	htmltemplate "html/template"
	"strings"
	"time"
)

// Entry is an article as a digest prints it. Empty fields are left out.
type Entry struct {
	Title, Kicker, Teaser Text
	Place, Agency, Author Text
	Body                  Markdown // only where the source's rights give the full text
	URL                   URL
	Picture               *Picture
	Published             time.Time // in the zone it is to be printed in
	Language              Lang
	Correction            Text // what was wrong; makes the entry a correction
}

// Picture is an article's picture. Without a URL nothing is shown, but caption and credit are still printed: the credit
// is owed where the caption is used.
type Picture struct {
	URL                  URL
	Alt, Caption, Credit Text
	Width, Height        int // pixels; 0 if unknown
}

// Fragment is a piece of a mail in both its forms: table rows for the HTML part, lines for the text part.
type Fragment struct {
	HTML htmltemplate.HTML
	Text string
}

// entryData is what the block "entry" sees.
type entryData struct {
	Title, Kicker, Teaser Text
	Place, Agency, Author Text
	URL                   URL
	Published             *moment
	Correction            Text
	Body, Picture         block
}

// block prints as the placeholder of what is rendered apart; an empty one is nothing.
type block string

func (b block) String() string { return "\n\n" + string(b) + "\n\n" }

var errNoTitle = errors.New("entry has no title")

// Entry renders an article. It is called once per article, however many readers there are.
func (t *Template) Entry(e Entry) (Fragment, error) {
	data := t.entryData(e)
	if data.Title == "" {
		return Fragment{}, fmt.Errorf("rendering %s: %w", t.source.path(), errNoTitle)
	}
	blocks := ready{}
	if strings.TrimSpace(string(e.Body)) != "" {
		data.Body = bodyMark
		blocks[bodyMark] = t.body(e.Body)
	}
	if picture := t.picture(e.Picture); picture.Text != "" {
		data.Picture = pictureMark
		blocks[pictureMark] = picture
	}
	markdown, err := t.execute("entry", data)
	if err != nil {
		return Fragment{}, err
	}
	f := t.fragment(markdown, entry, blocks)
	f.HTML = t.row(entryLook, e.Language, f.HTML)
	return f.unmarked(), nil
}

func (t *Template) entryData(e Entry) entryData {
	d := entryData{
		Title: e.Title.clean(), Kicker: e.Kicker.clean(), Teaser: e.Teaser.clean(), Place: e.Place.clean(),
		Agency: e.Agency.clean(), Author: e.Author.clean(), URL: e.URL.clean(), Correction: e.Correction.clean(),
	}
	if !e.Published.IsZero() {
		d.Published = &moment{e.Published, t.locale}
	}
	return d
}

// topicData is what the block "topic" sees.
type topicData struct{ Name Text }

// Topic renders a topic's heading.
func (t *Template) Topic(name Text) (Fragment, error) {
	markdown, err := t.execute("topic", topicData{name.clean()})
	if err != nil {
		return Fragment{}, err
	}
	f := t.fragment(markdown, entry, nil)
	f.HTML = t.row(topicLook, "", f.HTML)
	return f.unmarked(), nil
}

// unmarked drops whatever in an entry could pass for one of a reader's values: an entry has none, but an article
// might try to put one together.
func (f Fragment) unmarked() Fragment {
	return Fragment{HTML: htmltemplate.HTML(withoutPlaceholders(string(f.HTML))), Text: withoutPlaceholders(f.Text)}
}

const (
	cellLook = sans + ";" + running + ";mso-line-height-rule:exactly;" + colours +
		";word-break:break-word;overflow-wrap:break-word"
	topicLook = "padding:36px 28px 8px;border-bottom:3px solid #1d1d1b;" + cellLook
	entryLook = "padding:24px 28px 10px;border-bottom:1px solid " + rule + ";" + cellLook
)

// row makes a table row of an entry or topic; the language is named where it is not the mail's own.
func (t *Template) row(look string, l Lang, content htmltemplate.HTML) htmltemplate.HTML {
	attributes := style(look)
	if l.String() != "" && l.primary() != t.language.primary() {
		attributes = fmt.Sprintf(` lang="%s" dir="%s"`, l, l.Dir()) + style(look+";text-align:"+l.align())
	}
	if look == topicLook {
		attributes += ` class="topic"`
	}
	return htmltemplate.HTML("<tr><td"+attributes+">\n") + content + "</td></tr>\n"
}

// pictureWidth is the widest a picture is shown, in pixels: the column less its padding.
const pictureWidth = columnWidth - 2*28

// picture renders a picture with its caption and credit.
func (t *Template) picture(p *Picture) Fragment {
	if p == nil {
		return Fragment{}
	}
	alt, caption := Plain(p.Alt), t.caption(*p)
	if alt == Plain(p.Caption) {
		alt = "" // the caption says it; nobody wants to hear it twice
	}
	look := imageLook
	if caption == "" {
		look += ";margin:0 0 16px"
	}
	var b strings.Builder
	if source := p.URL.String(); source != "" {
		fmt.Fprintf(&b, "<img src=\"%s\" alt=\"%s\" width=\"%d\"%s>\n",
			html.EscapeString(source), html.EscapeString(alt), shownWidth(p.Width), style(look))
	}
	if caption != "" {
		b.WriteString("<p" + style(captionLook) + ` class="m">` + html.EscapeString(caption) + "</p>\n")
	}
	if b.Len() == 0 {
		return Fragment{}
	}
	return Fragment{HTML: htmltemplate.HTML(b.String()), Text: t.pictureText(*p)}
}

func shownWidth(width int) int {
	if width <= 0 || width > pictureWidth {
		return pictureWidth
	}
	return width
}

// caption is the line under a picture: „Kaja Kallas (Archivbild) · Foto: Vorname Name/dpa“.
func (t *Template) caption(p Picture) string {
	var parts []string
	if caption := Plain(p.Caption); caption != "" {
		parts = append(parts, caption)
	}
	if credit := Plain(p.Credit); credit != "" {
		parts = append(parts, t.words.photo+": "+credit)
	}
	return strings.Join(parts, " · ")
}

// pictureText describes the picture for the text part: what is seen, then who took it; and the caption if it says more.
func (t *Template) pictureText(p Picture) string {
	alt, caption, credit := Plain(p.Alt), Plain(p.Caption), Plain(p.Credit)
	if alt == "" {
		alt, caption = caption, ""
	}
	label := imageLabel(t.words, alt)
	if credit != "" {
		label += ", " + t.words.photo + ": " + credit
	}
	text := wrap("["+label+"]", columns)
	if caption != "" && caption != alt {
		text += "\n" + wrap(caption, columns)
	}
	return text
}
