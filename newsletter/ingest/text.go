package ingest

import (
	"html"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	nethtml "golang.org/x/net/html"
	"golang.org/x/text/language"
	"golang.org/x/text/unicode/norm"
)

// oneLine makes foreign text plain text on one line.
func oneLine(s string) string {
	return strings.Join(strings.Fields(clean(s)), " ")
}

// clean makes foreign text harmless and keeps its line breaks: valid UTF-8, NFC, no control, bidi, zero-width or tag
// characters. Those can hide text or turn it round (Trojan Source; Unicode UTS #39). Soft hyphens go, too: a CMS leaves
// them in headlines, where they break searching and subjects.
func clean(s string) string {
	if plainASCII(s) {
		return s
	}
	runes := []rune(strings.ToValidUTF8(s, "\uFFFD"))
	out := make([]rune, 0, len(runes))
	for i, r := range runes {
		switch {
		case r == '\n':
			out = append(out, r)
		case r == '\u2028' || r == '\u2029':
			out = append(out, '\n')
		case unicode.IsSpace(r) || looksEmpty(r):
			out = append(out, ' ')
		case r == '\u200D' || r == '\u200C':
			if len(out) > 0 && i+1 < len(runes) && joins(out[len(out)-1], runes[i+1]) {
				out = append(out, r)
			}
		case unicode.In(r, unicode.Cc, unicode.Cf) || r&0xFFFE == 0xFFFE:
		default:
			out = append(out, r)
		}
	}
	return norm.NFC.String(string(out))
}

func plainASCII(s string) bool {
	for i := range len(s) {
		if c := s[i]; c >= utf8.RuneSelf || c < ' ' && c != '\n' || c == 0x7F {
			return false
		}
	}
	return true
}

// looksEmpty reports letters that show nothing: a headline made of them would be invisible.
func looksEmpty(r rune) bool {
	switch r {
	case '\u115F', '\u1160', '\u3164', '\uFFA0', '\u2800':
		return true
	}
	return false
}

// joins reports whether a zero-width (non-)joiner between two characters has a meaning: inside an emoji sequence, or
// inside a word of a script whose letters join.
func joins(before, after rune) bool {
	emoji := func(r rune) bool { return r >= 0x2190 && unicode.In(r, unicode.So, unicode.Sk, unicode.Mn, unicode.Sm) }
	word := func(r rune) bool {
		return unicode.In(r, unicode.Arabic, unicode.Syriac, unicode.Devanagari, unicode.Bengali, unicode.Gurmukhi,
			unicode.Gujarati, unicode.Oriya, unicode.Tamil, unicode.Telugu, unicode.Kannada, unicode.Malayalam, unicode.Sinhala)
	}
	return emoji(before) && emoji(after) || word(before) && word(after)
}

// markup are the elements that titles and teasers of feeds are decorated with. A tag of another name ("<Titel>") is text.
// The value tells how a tag reads: as nothing, as a space, or as content nobody is meant to see.
var markup = elements(map[tagKind]string{
	inlineTag: `a abbr acronym b bdi bdo big cite code del dfn em font i ins kbd label mark q s samp small span strike
		strong sub sup time tt u var wbr`,
	blockTag: `address article aside blockquote br center dd div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6
		header hr img input li main nav ol p picture pre section source table tbody td tfoot th thead tr ul video audio`,
	hiddenTag: `script style iframe noscript object embed svg template textarea select button`,
})

type tagKind int

const (
	literalTag tagKind = iota
	inlineTag
	blockTag
	hiddenTag
)

func elements(names map[tagKind]string) map[string]tagKind {
	kinds := map[string]tagKind{}
	for kind, list := range names {
		for name := range strings.FieldsSeq(list) {
			kinds[name] = kind
		}
	}
	return kinds
}

// plain makes HTML, or text with entities, plain text on one line. Feeds do not say which of the two a title is, so only
// what is certainly markup goes: "1 < 2", "the <blink> tag" and "a <b> without end" stay as they are.
func plain(s string) string {
	if !strings.ContainsAny(s, "<&") {
		return oneLine(s)
	}
	var text strings.Builder
	z := nethtml.NewTokenizer(strings.NewReader(s))
	hidden, read := "", 0
	for {
		kind := z.Next()
		raw := string(z.Raw())
		if kind == nethtml.ErrorToken {
			if hidden == "" {
				text.WriteString(html.UnescapeString(s[read:])) // a "<" that never became a tag
			}
			return oneLine(unescapeAgain(text.String()))
		}
		read += len(raw)
		switch kind {
		case nethtml.TextToken:
			if hidden == "" {
				text.WriteString(html.UnescapeString(raw))
			}
		case nethtml.StartTagToken, nethtml.SelfClosingTagToken, nethtml.EndTagToken:
			name, _ := z.TagName()
			hidden = writeTag(&text, kind, string(name), raw, hidden, s[read:])
		case nethtml.CommentToken:
			if !strings.HasPrefix(raw, "<!--") && hidden == "" {
				text.WriteString(raw)
			}
		}
	}
}

// writeTag writes what a tag reads like and returns the element whose content is now hidden, "" for none.
func writeTag(text *strings.Builder, kind nethtml.TokenType, name, raw, hidden, rest string) string {
	if hidden != "" {
		if kind == nethtml.EndTagToken && name == hidden {
			return ""
		}
		return hidden
	}
	switch what := markup[name]; {
	case what == blockTag:
		text.WriteByte(' ')
	case what == hiddenTag && kind == nethtml.StartTagToken:
		return name
	case what == literalTag, what == inlineTag && kind == nethtml.StartTagToken && name != "wbr" && !closes(rest, name):
		text.WriteString(html.UnescapeString(raw))
	}
	return ""
}

func closes(rest, name string) bool {
	return strings.Contains(strings.ToLower(rest), "</"+name)
}

// escapedTwice finds what is left of "&amp;amp;": many feeds escape once too often. The signs of markup are not in it.
var escapedTwice = regexp.MustCompile(`&(?:amp|quot|apos|nbsp|[aouAOU]uml|szlig|euro|shy|[nm]dash|[lr][ds]quo|[bs]bquo|[lr]aquo|hellip|#\d{2,6}|#[xX][0-9a-fA-F]{2,5});`)

func unescapeAgain(s string) string {
	return escapedTwice.ReplaceAllStringFunc(s, html.UnescapeString)
}

// sameText compares two texts by their letters and digits, so that quotes, dashes and spaces make no difference.
func sameText(a, b string) bool { return letters(a) == letters(b) && letters(a) != "" }

func letters(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, s)
}

// languageTag returns the first value that is a BCP 47 language tag, in its usual spelling; "de_DE" becomes "de-DE".
func languageTag(values ...string) string {
	for _, v := range values {
		v = strings.ReplaceAll(strings.TrimSpace(v), "_", "-")
		if tag, err := language.Parse(v); v != "" && err == nil && tag != language.Und {
			return tag.String()
		}
	}
	return ""
}
