package subscribers

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"math"
	"strconv"
	"strings"
)

// views are the pages, parsed once, and the words that readers see on them.
type views struct {
	settings Settings
	pages    map[string]*template.Template // by language/name
	sheet    []byte                        // the style sheet
	style    string                        // its address: another one when it changes
	boxes    map[string]Wording            // by newsletter: the sign-up box in the paper's own pages
	forms    map[string]Wording            // by newsletter: our form
}

// view is what a page shows. html/template escapes each value for the place it stands in.
type view struct {
	Language    string
	Publisher   Publisher
	Style       string
	Newsletter  Newsletter
	Others      []Newsletter
	Topics      []box
	Email       string // as it was typed
	Problem     string // code of what is wrong with it
	Stamp       string
	Wording     string
	Masked      string // the reader's address, recognisable for them only
	Saved       bool
	Preferences string
	Leave       string
	Resume      string
	Code        int // HTTP status
}

// box is a topic one can tick.
type box struct {
	Slug, Name string
	Chosen     bool
}

var pageNames = []string{
	"form", "box", "sent", "confirm", "confirmed", "preferences", "unsubscribe", "unsubscribed", "resumed", "error",
}

// parseViews parses every page in both languages and shows each once, so that an error is found when the process starts.
func parseViews(templates fs.FS, s Settings) (*views, error) {
	v := &views{settings: s, pages: map[string]*template.Template{}, boxes: map[string]Wording{}, forms: map[string]Wording{}}
	sheet, err := fs.ReadFile(templates, "web/style.css")
	if err != nil {
		return nil, fmt.Errorf("read style sheet: %w", err)
	}
	v.sheet = append([]byte(brandColours(s.Publisher.Colour)), sheet...)
	sum := sha256.Sum256(v.sheet)
	v.style = "/style.css?" + hex.EncodeToString(sum[:8])
	for _, language := range []string{"de", "en"} {
		for _, name := range pageNames {
			page, err := template.ParseFS(templates, "web/layout.html", "web/"+language+"/footer.html", "web/"+language+"/"+name+".html")
			if err != nil {
				return nil, fmt.Errorf("read page: %w", err)
			}
			v.pages[language+"/"+name] = page.Lookup("layout.html")
			sample := Newsletter{Slug: "x", Title: "x", Language: language, Promise: "x", Topics: []Topic{{"x", "x"}}}
			if _, err := v.page(name, view{Newsletter: sample, Problem: "empty", Code: 404}); err != nil {
				return nil, err
			}
		}
	}
	for _, n := range s.Newsletters {
		if v.boxes[n.Slug], err = v.wording(OnForm, "box", view{Newsletter: n}); err != nil {
			return nil, err
		}
		if v.forms[n.Slug], err = v.wording(OnForm, "form", view{Newsletter: n, Topics: n.boxes("")}); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// page renders a page in the newsletter's language.
func (v *views) page(name string, data view) ([]byte, error) {
	data.Language, data.Publisher, data.Style = v.language(data.Newsletter), v.settings.Publisher, v.style
	var out bytes.Buffer
	if err := v.pages[data.Language+"/"+name].Execute(&out, data); err != nil {
		return nil, fmt.Errorf("show page %s/%s: %w", data.Language, name, err)
	}
	return out.Bytes(), nil
}

func (v *views) language(n Newsletter) string {
	for _, language := range []string{n.Language, v.settings.Language} {
		if language == "de" || language == "en" {
			return language
		}
	}
	return "de"
}

// wording is what can be read on a page.
func (v *views) wording(kind WordingKind, name string, data view) (Wording, error) {
	page, err := v.page(name, data)
	if err != nil {
		return Wording{}, err
	}
	text, err := visibleText(page)
	return newWording(kind, v.language(data.Newsletter), text), err
}

// confirmWording are the words next to the button that confirms these topics.
func (v *views) confirmWording(n Newsletter, topics string) (Wording, error) {
	return v.wording(OnPage, "confirm", view{Newsletter: n, Topics: n.chosen(topics)})
}

func (v *views) preferences(n Newsletter) (Wording, error) {
	return v.wording(OnPage, "preferences", view{Newsletter: n, Topics: n.boxes("")})
}

func (v *views) unsubscribe(n Newsletter) (Wording, error) {
	return v.wording(OnPage, "unsubscribe", view{Newsletter: n})
}

func (v *views) unsubscribed(n Newsletter) (Wording, error) {
	return v.wording(OnPage, "unsubscribed", view{Newsletter: n, Resume: "/resume"})
}

// boxes are all topics of a newsletter, those of the comma-separated list ticked.
func (n Newsletter) boxes(chosen string) []box {
	var boxes []box
	for _, t := range n.Topics {
		boxes = append(boxes, box{t.Slug, t.Name, strings.Contains(","+chosen+",", ","+t.Slug+",")})
	}
	return boxes
}

// chosen are the topics of the comma-separated list, in the newsletter's order.
func (n Newsletter) chosen(topics string) []box {
	var boxes []box
	for _, b := range n.boxes(topics) {
		if b.Chosen {
			boxes = append(boxes, b)
		}
	}
	return boxes
}

// brandColours gives the paper's colour to the style sheet, and black or white for what is written on it, whichever has
// more contrast (WCAG 2.2, 1.4.3).
func brandColours(colour string) string {
	on := "#ffffff"
	if light := luminance(colour); (light+0.05)/0.05 > 1.05/(light+0.05) {
		on = "#000000"
	}
	return fmt.Sprintf(":root { --brand: %s; --on-brand: %s; }\n", colour, on)
}

// luminance is the relative luminance of #rrggbb (WCAG 2.2), 0 to 1; the configuration has checked the form.
func luminance(colour string) float64 {
	value, err := strconv.ParseUint(strings.TrimPrefix(colour, "#"), 16, 32)
	if err != nil {
		return 0
	}
	linear := func(channel uint64) float64 {
		c := float64(channel&0xff) / 255
		if c <= 0.04045 {
			return c / 12.92
		}
		return math.Pow((c+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(value>>16) + 0.7152*linear(value>>8) + 0.0722*linear(value)
}
