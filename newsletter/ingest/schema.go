package ingest

import (
	"encoding/json"
	"regexp"
	"strings"

	"golang.org/x/net/html"
)

// object is an object of a page's JSON-LD. Publishers write each property as a string, an object or a list of either, and
// point from one object to another by @id; the methods read them all.
type object struct {
	values map[string]any
	byID   map[string]map[string]any
}

// articleData returns the schema.org article of a page: the one that says it is the page at canonical, or has the
// headline, else the first. Values is nil where there is none.
func articleData(doc *html.Node, isMain func(object) bool) object {
	byID := map[string]map[string]any{}
	var articles []object
	var walk func(v any, depth int)
	walk = func(v any, depth int) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e, depth+1)
			}
		case map[string]any:
			o := object{v, byID}
			if id, ok := v["@id"].(string); ok && len(v) > len(byID[id]) {
				byID[id] = v
			}
			if o.isArticle() && (o.text("headline") != "" || o.text("name") != "") {
				articles = append(articles, o)
			}
			for _, key := range []string{"@graph", "mainEntity", "mainEntityOfPage", "author", "publisher", "image"} {
				walk(v[key], depth+1)
			}
		}
	}
	for script := range below(doc, "script") {
		if strings.Contains(strings.ToLower(attribute(script, "type")), "ld+json") && script.FirstChild != nil {
			walk(decodeJSON(script.FirstChild.Data), 0)
		}
	}
	for _, a := range articles {
		if isMain(a) {
			return a
		}
	}
	if len(articles) > 0 {
		return articles[0]
	}
	return object{byID: byID}
}

var (
	scriptWrapping = regexp.MustCompile(`^\s*(?:<!--|//<!\[CDATA\[|<!\[CDATA\[|/\*<!\[CDATA\[\*/)|(?:-->|//\]\]>|\]\]>|/\*\]\]>\*/)\s*;?\s*$`)
	trailingComma  = regexp.MustCompile(`,(\s*[}\]])`)
	lineBreaks     = regexp.MustCompile(`[\x00-\x1f]+`)
)

// decodeJSON reads JSON-LD, also with the mistakes that CMS templates make: comment marks around it, line breaks inside
// strings, a comma after the last value. What is broken beyond that is nil.
func decodeJSON(s string) any {
	var v any
	s = scriptWrapping.ReplaceAllString(s, "")
	if json.Unmarshal([]byte(s), &v) == nil {
		return v
	}
	s = trailingComma.ReplaceAllString(lineBreaks.ReplaceAllString(s, " "), "$1")
	if json.Unmarshal([]byte(s), &v) == nil {
		return v
	}
	return nil
}

// isArticle accepts schema.org's Article and its kinds: NewsArticle, ReportageNewsArticle, LiveBlogPosting …
func (o object) isArticle() bool {
	for _, t := range o.texts("@type") {
		if strings.HasSuffix(t, "Article") || strings.HasSuffix(t, "BlogPosting") || t == "Report" {
			return true
		}
	}
	return false
}

// texts are the strings a property holds; of an object in their place its name, value or address.
func (o object) texts(property string) []string {
	return o.textsIn(o.values[property], 0)
}

func (o object) textsIn(v any, depth int) []string {
	switch v := v.(type) {
	case string:
		if s := strings.TrimSpace(v); s != "" {
			return []string{s}
		}
	case json.Number:
		return []string{v.String()}
	case []any:
		var all []string
		for _, e := range v {
			all = append(all, o.textsIn(e, depth+1)...)
		}
		return all
	case map[string]any:
		if depth > 4 {
			return nil
		}
		p := o.follow(v)
		for _, key := range []string{"name", "@value", "value", "alternateName", "url", "@id"} {
			if t := o.textsIn(p[key], depth+1); len(t) > 0 {
				return t[:1]
			}
		}
	}
	return nil
}

func (o object) text(property string) string {
	if all := o.texts(property); len(all) > 0 {
		return all[0]
	}
	return ""
}

// follow goes from a pointer {"@id": …} to the object of that id.
func (o object) follow(v map[string]any) map[string]any {
	if id, ok := v["@id"].(string); ok && len(v) <= 2 && o.byID[id] != nil {
		return o.byID[id]
	}
	return v
}

// objects are the objects a property holds.
func (o object) objects(property string) []object {
	var found []object
	switch v := o.values[property].(type) {
	case map[string]any:
		found = append(found, object{o.follow(v), o.byID})
	case []any:
		for _, e := range v {
			if m, ok := e.(map[string]any); ok {
				found = append(found, object{o.follow(m), o.byID})
			}
		}
	}
	return found
}

// picture is the article's image with what is said about it.
func (o object) picture() *Picture {
	for _, image := range o.objects("image") {
		address := first(image.text("contentUrl"), image.text("url"), image.text("@id"))
		if address == "" {
			continue
		}
		return &Picture{
			URL: address, Alt: image.text("alternateName"), Caption: first(image.text("caption"), image.text("description")),
			Credit: first(image.text("creditText"), image.text("copyrightHolder"), image.text("creator"), image.text("author"),
				image.text("copyrightNotice")),
		}
	}
	if address := o.text("image"); address != "" {
		return &Picture{URL: address}
	}
	return nil
}

// free reports that everybody may read the article. Publishers write the property as a boolean and as a word.
func (o object) free() bool {
	switch v := o.values["isAccessibleForFree"].(type) {
	case bool:
		return v
	case string:
		return !strings.EqualFold(v, "false") && !strings.HasSuffix(strings.ToLower(v), "/false")
	}
	return true
}

// barred are the CSS selectors of what a paywall hides (hasPart, WebPageElement).
func (o object) barred() []string {
	var selectors []string
	for _, part := range o.objects("hasPart") {
		if !part.free() {
			selectors = append(selectors, part.texts("cssSelector")...)
		}
	}
	return selectors
}
