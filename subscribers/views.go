package subscribers

import (
	"bytes"
	"fmt"
	"html/template"
	"io/fs"
	"strings"
)

// views are the pages, parsed once, and the words that readers see on them.
type views struct {
	settings Settings
	pages    map[string]*template.Template // by language/name
	sheet    []byte                        // the style sheet
	style    string                        // its address: another one when it changes
	boxes    map[string]Wording            // by newsletter, "" for all: the sign-up box in the paper's own pages
	forms    map[string]Wording            // by newsletter: our form
	script   []byte                        // of the box
	boxSheet []byte                        // of the box
	logo     logo
	notice   Wording // the privacy notice; without a hash there is none
}

// view is what a page shows. html/template escapes each value for the place it stands in.
type view struct {
	Language    string
	Publisher   Publisher
	BaseURL     string
	Style       string
	Logo        string // its address, "" for none
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
	Pause       string // where the reader can pause, move to another address, see what is stored
	Move        string
	Data        string
	Moved       bool          // the confirmation is of a change of address
	Paused      string        // until that day
	From, To    string        // the days a pause can end on, YYYY-MM-DD
	Sample      string        // where the last digest can be read
	Snippet     string        // the box, to be copied
	Box         template.HTML // the box itself: made by our own template
	Origins     []string
	CanFetch    bool
	CanErase    bool
	Code        int // HTTP status
}

// box is a topic one can tick.
type box struct {
	Slug, Name string
	Chosen     bool
	Promise    string
	Often      frequency
}

var pageNames = []string{
	"form", "embed", "sent", "confirm", "confirmed", "preferences", "pause", "address", "data", "my-data", "erased", "unsubscribe", "unsubscribed", "resumed", "error",
}

// parseViews parses every page in both languages and shows each once, so that an error is found when the process starts.
func parseViews(templates fs.FS, s Settings) (*views, error) {
	v := &views{settings: s, pages: map[string]*template.Template{}, boxes: map[string]Wording{}, forms: map[string]Wording{}}
	if err := v.readLooks(templates); err != nil {
		return nil, err
	}
	for _, language := range []string{"de", "en"} {
		for _, name := range pageNames {
			page, err := template.ParseFS(templates, "web/layout.html", "web/"+language+"/footer.html",
				"web/"+language+"/problem.html", "web/"+language+"/"+name+".html")
			if err != nil {
				return nil, fmt.Errorf("read page: %w", err)
			}
			v.pages[language+"/"+name] = page.Lookup("layout.html")
			sample := Newsletter{Slug: "x", Title: "x", Language: language, Promise: "x", Topics: []Topic{{"x", "x"}}}
			if _, err := v.page(name, view{Newsletter: sample, Problem: "empty", Code: 404}); err != nil {
				return nil, err
			}
		}
		if err := v.parseBox(templates, language); err != nil {
			return nil, err
		}
	}
	if err := v.boxWordings(); err != nil {
		return nil, err
	}
	for _, n := range s.Newsletters {
		var err error
		if v.forms[n.Slug], err = v.wording(OnForm, "form", view{Newsletter: n, Topics: n.boxes("")}); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// page renders a page in the newsletter's language.
func (v *views) page(name string, data view) ([]byte, error) {
	data = v.dressed(data)
	var out bytes.Buffer
	if err := v.pages[data.Language+"/"+name].Execute(&out, data); err != nil {
		return nil, fmt.Errorf("show page %s/%s: %w", data.Language, name, err)
	}
	return out.Bytes(), nil
}

// dressed adds what every page shows.
func (v *views) dressed(data view) view {
	data.Language, data.Publisher, data.BaseURL = v.language(data.Newsletter), v.settings.Publisher, v.settings.BaseURL
	data.Style, data.Logo = v.style, v.logo.path
	return data
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

// confirmWording are the words next to the button that confirms these topics, or that they shall come to this address.
func (v *views) confirmWording(n Newsletter, topics string, moved bool) (Wording, error) {
	return v.wording(OnPage, "confirm", view{Newsletter: n, Topics: n.chosen(topics), Moved: moved})
}

func (v *views) preferences(n Newsletter) (Wording, error) {
	return v.wording(OnPage, "preferences", view{
		Newsletter: n, Topics: n.boxes(""), Pause: "/pause", Move: "/address", Data: "/data", Leave: "/unsubscribe",
	})
}

func (v *views) pause(n Newsletter) (Wording, error) {
	return v.wording(OnPage, "pause", view{Newsletter: n, Preferences: "/preferences"})
}

func (v *views) address(n Newsletter) (Wording, error) {
	return v.wording(OnPage, "address", view{Newsletter: n, Masked: "…", Preferences: "/preferences"})
}

func (v *views) unsubscribe(n Newsletter) (Wording, error) {
	return v.wording(OnPage, "unsubscribe", view{Newsletter: n, Preferences: "/preferences"})
}

func (v *views) unsubscribed(n Newsletter) (Wording, error) {
	return v.wording(OnPage, "unsubscribed", view{Newsletter: n, Resume: "/resume", Data: "/data"})
}

// boxes are all topics of a newsletter, those of the comma-separated list ticked.
func (n Newsletter) boxes(chosen string) []box {
	var boxes []box
	for _, t := range n.Topics {
		ticked := strings.Contains(","+chosen+",", ","+t.Slug+",")
		boxes = append(boxes, box{Slug: t.Slug, Name: t.Name, Chosen: ticked, Promise: n.Promises[t.Slug]})
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
