package render

import (
	"regexp"
	"strings"
)

// Lang is a language tag (RFC 5646): de, en-GB, ar. Anything else prints as nothing.
type Lang string

var languageTag = regexp.MustCompile(`^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$`)

// String returns the tag, or nothing if it is not one.
func (l Lang) String() string {
	if languageTag.MatchString(string(l)) {
		return string(l)
	}
	return ""
}

// Dir returns the direction the language is written in, for HTML's dir attribute.
func (l Lang) Dir() Lang {
	switch l.primary() {
	case "ar", "ckb", "dv", "fa", "he", "ps", "sd", "ug", "ur", "yi":
		return "rtl"
	}
	return "ltr"
}

// align is the side text of the language begins at.
func (l Lang) align() string {
	if l.Dir() == "rtl" {
		return "right"
	}
	return "left"
}

func (l Lang) primary() string {
	tag, _, _ := strings.Cut(strings.ToLower(l.String()), "-")
	return tag
}

func (l Lang) german() bool { return l.primary() == "de" }

// words are the few words the renderer itself writes; all others are in the templates.
type words struct {
	picture, photo           string
	openDouble, closeDouble  string
	openSingle, closeSingle  string
	struckOpen, struckClosed string
}

func wordsOf(l Lang) words {
	if l.german() {
		return words{"Bild", "Foto", "„", "“", "‚", "‘", "[gestrichen: ", "]"}
	}
	return words{"Picture", "Photo", "“", "”", "‘", "’", "[deleted: ", "]"}
}
