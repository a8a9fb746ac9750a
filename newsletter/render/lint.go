package render

import (
	"fmt"
	"io"
	"mime/quotedprintable"
	"net"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// maxHTML is the size from which Gmail clips a mail, with some room, in octets.
const maxHTML = 100_000

// Lint returns what is wrong with a mail's HTML in the eyes of mail clients, one line each; nothing if it finds nothing. It
// knows the traps that lose text, links or layout in the large webmails and Outlook, not every property there is.
func Lint(b Body) []string {
	l := linter{texts: make(map[string]string)}
	l.size(b.HTML)
	l.hidden(b.HTML)
	z := html.NewTokenizer(strings.NewReader(b.HTML))
	for z.Next() != html.ErrorToken {
		l.token(z.Token())
	}
	return l.found
}

type linter struct {
	found []string
	href  string // of the open link
	label strings.Builder
	texts map[string]string // link target by link text
}

// report keeps each finding once.
func (l *linter) report(format string, args ...any) {
	if s := fmt.Sprintf(format, args...); !slices.Contains(l.found, s) {
		l.found = append(l.found, s)
	}
}

func (l *linter) size(page string) {
	if len(page) > maxHTML {
		l.report("HTML has %d bytes, more than %d: Gmail will clip it", len(page), maxHTML)
	}
	var n counter
	w := quotedprintable.NewWriter(&n)
	_, _ = io.WriteString(w, page) // a counter cannot fail
	_ = w.Close()
	if int(n) > maxHTML {
		l.report("HTML has %d bytes in quoted-printable, more than %d: Gmail will clip it", int(n), maxHTML)
	}
}

type counter int

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// hidden finds zero-width padding, which mail providers take for deceit.
func (l *linter) hidden(page string) {
	for _, s := range []string{"&#847;", "&zwnj;", "\u034F", "\u200B"} {
		if strings.Contains(page, s) {
			l.report("zero-width padding (%+q)", s)
		}
	}
}

func (l *linter) token(t html.Token) {
	switch t.Type {
	case html.StartTagToken, html.SelfClosingTagToken:
		l.element(t)
	case html.TextToken:
		if l.href != "" {
			l.label.WriteString(t.Data)
		}
	case html.EndTagToken:
		if t.DataAtom == atom.A {
			l.endLink()
		}
	}
}

func (l *linter) element(t html.Token) {
	switch t.DataAtom {
	case atom.Script, atom.Iframe, atom.Object, atom.Embed, atom.Form, atom.Input, atom.Button, atom.Select, atom.Textarea,
		atom.Video, atom.Audio, atom.Svg, atom.Base, atom.Link:
		l.report("<%s> does not work in mail", t.Data)
	case atom.Img:
		l.image(t)
	case atom.A:
		l.href = attribute(t, "href")
		l.label.Reset()
		l.address("link", l.href)
	}
	for _, a := range t.Attr {
		if strings.HasPrefix(a.Key, "on") {
			l.report("<%s %s> is a script", t.Data, a.Key)
		}
	}
	l.style(t.Data, attribute(t, "style"))
}

func attribute(t html.Token, key string) string {
	value, _ := lookup(t, key)
	return value
}

func lookup(t html.Token, key string) (string, bool) {
	for _, a := range t.Attr {
		if a.Key == key {
			return a.Val, true
		}
	}
	return "", false
}

func (l *linter) image(t html.Token) {
	source := attribute(t, "src")
	l.address("picture", source)
	if _, ok := lookup(t, "alt"); !ok {
		l.report("picture %s has no alt", source)
	}
	if _, ok := lookup(t, "width"); !ok {
		l.report("picture %s has no width", source)
	}
	target, _, _ := strings.Cut(source, "?")
	if extension := strings.ToLower(path.Ext(target)); extension == ".svg" || extension == ".webp" {
		l.report("picture %s: Outlook does not show %s", source, extension)
	}
}

func (l *linter) address(what, s string) {
	switch {
	case strings.HasPrefix(s, "mailto:") && what == "link", secure(s):
	case strings.HasPrefix(s, "http://"):
		l.report("%s is not https: %s", what, s)
	default:
		l.report("%s is not absolute: %q", what, s)
	}
}

// secure reports an https address; on the loopback, where a newcomer tries things out, http will do.
func secure(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	loopback := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	return u.Scheme == "https" || u.Scheme == "http" && loopback
}

// endLink finds links that read the same and lead elsewhere (WCAG 2.2, 2.4.4).
func (l *linter) endLink() {
	label := strings.Join(strings.Fields(l.label.String()), " ")
	if other, seen := l.texts[label]; seen && other != l.href && label != "" {
		l.report("two links read %q and lead to different places", label)
	}
	l.texts[label] = l.href
	l.href = ""
}

// avoided reports declarations that hide text or that mail clients do not know.
func avoided(property, value string) bool {
	switch property {
	case "display":
		return slices.Contains([]string{"none", "flex", "grid", "inline-flex", "inline-grid"}, value)
	case "font-size":
		return value == "0" || value == "0px"
	case "opacity":
		return value == "0"
	case "visibility":
		return value == "hidden"
	case "position", "float":
		return true
	}
	return strings.Contains(value, "var(") || remUnit.MatchString(value)
}

var remUnit = regexp.MustCompile(`[0-9]rem\b`)

func (l *linter) style(tag, css string) {
	text, background := false, false
	for declaration := range strings.SplitSeq(strings.ToLower(css), ";") {
		property, value, _ := strings.Cut(declaration, ":")
		property, value = strings.TrimSpace(property), strings.TrimSpace(value)
		text = text || property == "color"
		background = background || strings.HasPrefix(property, "background")
		if avoided(property, value) {
			l.report("<%s> has %s: %s", tag, property, value)
		}
	}
	if text && !background {
		l.report("<%s> has a text colour without a background colour", tag)
	}
}
