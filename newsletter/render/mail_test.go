package render

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-message"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	gomail "github.com/wneessen/go-mail"
	"pgregory.net/rapid"
)

// tree is what a parser finds in a message.
type tree struct {
	Header map[string]string
	Parts  []string // type and decoded content, line ends as \n
}

var headerNames = []string{
	"Date", "From", "Reply-To", "To", "Subject", "Message-Id", "List-Id", "List-Unsubscribe", "List-Unsubscribe-Post",
	"Auto-Submitted", "Content-Language", "Mime-Version",
}

// standardTree reads a message with the standard library.
func standardTree(t interface{ Fatal(...any) }, raw []byte) tree {
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	found := tree{Header: make(map[string]string)}
	for name, values := range m.Header {
		if len(values) != 1 {
			t.Fatal(name, "occurs", len(values), "times")
		}
	}
	for _, name := range headerNames {
		decoded, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get(name))
		if err != nil {
			t.Fatal(err)
		}
		found.Header[name] = decoded
	}
	found.Header["To"] = m.Header.Get("To") // there are no encoded words in an address
	if to, err := m.Header.AddressList("To"); err != nil || len(to) != 1 {
		t.Fatal("To:", to, err)
	}
	_, parameters, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	parts := multipart.NewReader(m.Body, parameters["boundary"])
	for {
		part, err := parts.NextRawPart()
		if err == io.EOF {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(quotedprintable.NewReader(part))
		if err != nil {
			t.Fatal(err)
		}
		found.Parts = append(found.Parts, part.Header.Get("Content-Type")+"\n"+unix(content))
	}
}

// messageTree reads a message with go-message.
func messageTree(t interface{ Fatal(...any) }, raw []byte) tree {
	e, err := message.Read(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	found := tree{Header: make(map[string]string)}
	for _, name := range headerNames {
		if found.Header[name], err = e.Header.Text(name); err != nil {
			t.Fatal(err)
		}
	}
	found.Header["To"] = e.Header.Get("To")
	parts := e.MultipartReader()
	for {
		part, err := parts.NextPart()
		if err == io.EOF {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(part.Body)
		if err != nil {
			t.Fatal(err)
		}
		found.Parts = append(found.Parts, part.Header.Get("Content-Type")+"\n"+unix(content))
	}
}

func unix(content []byte) string { return strings.ReplaceAll(string(content), "\r\n", "\n") }

// wanted is the tree a message must have, put together without Build.
func wanted(h Header, b Body, p Personal) tree {
	values := strings.NewReplacer(UnsubscribeMark, string(p.Unsubscribe), PreferencesMark, string(p.Preferences), ActionMark, string(p.Action),
		dayMark, p.Since.Format("02"), monthMark, p.Since.Format("01"), yearMark, p.Since.Format("2006"))
	header := map[string]string{
		"Date": h.Date.Format(time.RFC1123Z), "From": named(h.From), "Reply-To": named(h.ReplyTo), "To": p.To,
		"Subject": b.Subject, "Message-Id": "<" + string(p.MessageID) + "@" + h.Domain + ">", "Auto-Submitted": "auto-generated",
		"Content-Language": string(h.Language), "Mime-Version": "1.0",
	}
	header["List-Id"], header["List-Unsubscribe"], header["List-Unsubscribe-Post"] = "", "", ""
	if h.List.ID != "" {
		header["List-Id"] = `"` + string(h.List.Title) + `" <` + h.List.ID + ">"
		header["List-Unsubscribe"] = "<" + string(h.UnsubscribeBase) + string(p.Unsubscribe) + ">"
		header["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
	}
	return tree{header, []string{
		"text/plain; charset=UTF-8\n" + values.Replace(b.Text), "text/html; charset=UTF-8\n" + values.Replace(b.HTML),
	}}
}

func named(a mail.Address) string {
	switch {
	case a.Address == "":
		return ""
	case ascii(a.Name):
		return a.String()
	}
	return a.Name + " <" + a.Address + ">"
}

var randomReader = rapid.Custom(func(r *rapid.T) Personal {
	token := rapid.SliceOfN(rapid.Byte(), TokenLength*3/4, TokenLength*3/4)
	draw := func(name string) []byte { return base64.RawURLEncoding.AppendEncode(nil, token.Draw(r, name)) }
	return Personal{
		To:          hostileAddress.Draw(r, "to"),
		MessageID:   []byte(rapid.StringMatching(`[A-Za-z0-9_-]{1,64}`).Draw(r, "message id")),
		Unsubscribe: draw("unsubscribe"), Preferences: draw("preferences"), Action: draw("action"),
		Since: time.Unix(rapid.Int64Range(0, 4e9).Draw(r, "since"), 0).UTC(),
	}
})

// hostileAddress draws what an address may be at its worst: odd, quoted, in another script, as long as it gets.
var hostileAddress = rapid.Custom(func(r *rapid.T) string {
	const atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
	local := rapid.OneOf(
		rapid.StringMatching(atom+`{1,64}(\.`+atom+`{1,30}){0,2}`),
		rapid.StringMatching(`"[A-Za-z0-9 ,:;<>()@.!#$%&'*+/=?^_{|}~-]{1,60}"`),
		rapid.StringMatching(`[a-zäöüßéñœ]{1,20}`), rapid.StringMatching(`[бвгджз]{1,30}|[例新聞読者]{1,20}`),
		rapid.SampledFrom([]string{`"From "`, `".."`, `"a@b.example,c"`, "=?utf-8?q?=0D=0ABcc=3A?=", "-", "=2E", "'"}),
	).Draw(r, "local")
	domain := rapid.StringMatching(`([a-z0-9]{1,40}\.){1,6}(de|example|xn--p1ai)`).Draw(r, "domain")
	return local + "@" + strings.TrimLeft(domain[max(0, len(local)+1+len(domain)-maxAddress):], ".")
})

// hostileText draws headlines, and what somebody would pass off as one.
var hostileText = rapid.OneOf(
	rapid.String(), rapid.StringMatching(`[A-Za-z.äöü„“ =?_-]{1,300}`), rapid.StringMatching(`(From |\.|=\r\n|\n\.\r\n){1,9}`),
	rapid.SampledFrom([]string{
		"=?utf-8?q?=0D=0ABcc=3A?=", "a\r\nBcc: b@c.example", "a\x00b", "</title><script>", "\u2028.\u2028", "--=_boundary--",
		strings.Repeat("=", 80), strings.Repeat("👩\u200d👩\u200d👧 ", 40), strings.Repeat("x", 400), "--", "\u202e", UnsubscribeMark,
		numberMark + "c", rowsMark, partMark, "\u00ad", "> From here", ".", " ",
	}),
)

// randomIssue draws a digest of which every word is hostile, and some of its variants: sets of its topics in its order.
func randomIssue(r *rapid.T, tmpl *Template) (Edition, []Variant) {
	draw := func(name string) Text { return Text(hostileText.Draw(r, name)) }
	h := header
	h.List.Title = "Elbtal"
	e := Edition{
		Newsletter: Newsletter{Title: "N" + draw("title"), BaseURL: "https://news.elbtal-bote.example"}, Brand: brand, Header: h,
		Day: time.Unix(rapid.Int64Range(0, 4e9).Draw(r, "day"), 0).UTC(), WebViewBase: "https://news.elbtal-bote.example/w/",
		UnsubscribeBase: h.UnsubscribeBase, PreferencesBase: "https://news.elbtal-bote.example/p/",
	}
	e.Brand.Paper, e.Brand.Publisher = draw("paper"), draw("publisher")
	var sections []Section
	for range rapid.IntRange(1, 4).Draw(r, "topics") {
		section := Section{Name: draw("topic")}
		section.Heading = must(tmpl.Topic(section.Name))
		for range rapid.IntRange(1, 3).Draw(r, "entries") {
			section.Entries = append(section.Entries, must(tmpl.Entry(Entry{
				Title: "a" + draw("headline"), Teaser: draw("teaser"), Body: Markdown(draw("body")),
			})))
		}
		sections = append(sections, section)
	}
	var variants []Variant
	for range 3 {
		v := Variant{Number: rapid.Int64Range(0, 12_000).Draw(r, "number"), Sections: sections[:1:1]}
		for _, section := range sections[1:] {
			if rapid.Bool().Draw(r, "chosen") {
				v.Sections = append(v.Sections, section)
			}
		}
		for _, section := range v.Sections {
			for range section.Entries {
				v.Headlines = append(v.Headlines, "a"+draw("headline"))
			}
		}
		v.Count = len(v.Headlines)
		variants = append(variants, v)
	}
	return e, variants
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// What is put together from pieces is what a message built the slow way would be, whoever reads it and whatever is in it.
func TestSplicedMessageIsTheWholeMessage(t *testing.T) {
	tmpl := mustParse(t, "de", Digest)
	rapid.Check(t, func(r *rapid.T) {
		edition, variants := randomIssue(r, tmpl)
		press := tmpl.Press(edition)
		readers := []Personal{randomReader.Draw(r, "one"), randomReader.Draw(r, "two")}
		for _, v := range variants {
			message, body := must(press.Message(v)), must(press.Body(v))
			checkDifference(r, message, readers[0], readers[1])
			for _, p := range readers {
				raw := must(message.Splice(nil, &p))
				checkWire(r, bytes.Replace(raw, []byte(p.To), []byte("x"), 1)) // 7-bit but for the address
				if len(raw) != message.Length(&p) || len(raw) > message.Size() {
					r.Errorf("message has %d octets, Length says %d, Size %d", len(raw), message.Length(&p), message.Size())
				}
				checkTrees(r, raw, wanted(edition.Header, body, p))
				checkTrees(r, raw, standardTree(r, slowly(r, edition.Header, must(body.With(p)), p)))
				checkSame(r, must(tmpl.Press(edition).Message(v)), message, p)
				checkSame(r, must(Build(edition.Header, body)), message, p)
			}
		}
	})
}

func checkTrees(t interface {
	Fatal(...any)
	Errorf(string, ...any)
}, raw []byte, want tree,
) {
	if diff := cmp.Diff(want, standardTree(t, raw)); diff != "" {
		t.Errorf("net/mail (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, messageTree(t, raw)); diff != "" {
		t.Errorf("go-message (-want +got):\n%s", diff)
	}
}

// checkSame checks that a message is, byte for byte, what it is if it is built otherwise, but for the boundary.
func checkSame(t interface{ Errorf(string, ...any) }, otherwise, m *Message, p Personal) {
	want, got := string(must(otherwise.Splice(nil, &p))), string(must(m.Splice(nil, &p)))
	want = strings.ReplaceAll(want, boundaryIn(want), boundaryIn(got))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the message depends on how it is built (-want +got):\n%s", diff)
	}
}

func boundaryIn(raw string) string {
	_, after, _ := strings.Cut(raw, "boundary=\"")
	boundary, _, _ := strings.Cut(after, "\"")
	return boundary
}

// slowly lets go-mail build one reader's message, of which nothing is missing.
func slowly(t interface{ Fatal(...any) }, h Header, b Body, p Personal) []byte {
	m := gomail.NewMsg(gomail.WithNoDefaultUserAgent(), gomail.WithBoundary("slowly"))
	from, replyTo := h.From, h.ReplyTo
	m.FromMailAddress(&from)
	m.ReplyToMailAddress(&replyTo)
	m.SetDateWithValue(h.Date)
	m.SetMessageIDWithValue(string(p.MessageID) + "@" + h.Domain)
	for name, value := range map[gomail.Header]string{
		"Subject": "=?utf-8?b?" + base64.StdEncoding.EncodeToString([]byte(headerText(b.Subject))) + "?=", "To": p.To,
		"List-Id": `"` + string(h.List.Title) + `" <` + h.List.ID + ">", "Auto-Submitted": "auto-generated",
		"List-Unsubscribe": "<" + string(h.UnsubscribeBase) + string(p.Unsubscribe) + ">", "Content-Language": string(h.Language),
		"List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
	} {
		m.SetGenHeaderPreformatted(name, value)
	}
	m.SetBodyString(gomail.TypeTextPlain, b.Text)
	m.AddAlternativeString(gomail.TypeTextHTML, b.HTML)
	var raw bytes.Buffer
	if _, err := m.WriteTo(&raw); err != nil {
		t.Fatal(err)
	}
	return raw.Bytes()
}

// checkWire checks what SMTP and every relay on the way ask of a message (standards A2, A11; design §5).
func checkWire(t interface{ Errorf(string, ...any) }, raw []byte) {
	if !bytes.HasSuffix(raw, []byte("\r\n")) {
		t.Errorf("message does not end in CRLF")
	}
	_, body, _ := bytes.Cut(raw, []byte("\r\n\r\n"))
	for i, c := range raw {
		if c >= 0x80 || c == 0 || c == '\n' && (i == 0 || raw[i-1] != '\r') || c == '\r' && (i+1 == len(raw) || raw[i+1] != '\n') {
			t.Errorf("octet %d is %#x after %q", i, c, raw[max(0, i-20):i])
		}
	}
	for line := range bytes.SplitSeq(raw, []byte("\r\n")) {
		if len(line) > 998 || bytes.HasPrefix(line, []byte(".")) || bytes.HasPrefix(line, []byte("From ")) {
			t.Errorf("line %q", line)
		}
	}
	for line := range bytes.SplitSeq(body, []byte("\r\n")) {
		if len(line) > 76 || bytes.HasSuffix(line, []byte(" ")) || bytes.HasSuffix(line, []byte("\t")) {
			t.Errorf("quoted-printable line %q", line)
		}
	}
}

// checkDifference checks that two readers' messages differ in the readers' values only.
func checkDifference(t interface{ Errorf(string, ...any) }, m *Message, one, two Personal) {
	for _, s := range m.segments {
		if strings.Contains(string(s.static), stem) {
			t.Errorf("a placeholder is left in %q", s.static)
		}
	}
	first, err := m.Splice(nil, &one)
	if err != nil {
		t.Errorf("splicing: %v", err)
	}
	swapped, err := m.Splice(nil, &two)
	if err != nil {
		t.Errorf("splicing: %v", err)
	}
	for _, s := range m.segments {
		first, swapped = first[len(s.static):], swapped[len(s.static):]
		a, b := value(one, s.then), value(two, s.then)
		if !bytes.HasPrefix(first, a) || !bytes.HasPrefix(swapped, b) {
			t.Errorf("field %d: messages hold other values", s.then)
		}
		first, swapped = first[len(a):], swapped[len(b):]
		if s.then > listUnsubscribe && len(a) != len(b) {
			t.Errorf("field %d: %d and %d octets in the body", s.then, len(a), len(b))
		}
	}
}

func value(p Personal, f field) []byte {
	since := p.date()
	return p.append(nil, f, &since)
}

func TestLetterIsTheWholeMessage(t *testing.T) {
	body, err := mustParse(t, "de", "confirm").Letter(letters())
	if err != nil {
		t.Fatal(err)
	}
	raw := []byte(spliced(t, letterHeader, body, reader))
	checkWire(t, raw)
	want := wanted(letterHeader, body, reader)
	if diff := cmp.Diff(want, standardTree(t, raw)); diff != "" {
		t.Errorf("net/mail (-want +got):\n%s", diff)
	}
	if strings.Contains(string(raw), "\r\nList-") {
		t.Error("letter has list headers")
	}
}

func TestBuildIsDeterministic(t *testing.T) {
	tmpl := mustParse(t, "de", Digest)
	sums := make(map[[32]byte]bool)
	for range 50 {
		message := mustMessage(t, tmpl, germanVariant(t, tmpl))
		sums[sha256.Sum256([]byte(splicedFor(t, message, reader)))] = true
	}
	if len(sums) != 1 {
		t.Errorf("50 builds gave %d different messages", len(sums))
	}
}

func TestHeaderOrder(t *testing.T) {
	tmpl := mustParse(t, "de", Digest)
	raw := splicedFor(t, mustMessage(t, tmpl, germanVariant(t, tmpl)), reader)
	head, _, _ := strings.Cut(raw, "\r\n\r\n")
	var names []string
	for line := range strings.SplitSeq(head, "\r\n") {
		if len(line) > 78 && !strings.HasPrefix(line, "List-Unsubscribe: ") {
			t.Errorf("header line of %d octets: %s", len(line), line)
		}
		if name, _, found := strings.Cut(line, ":"); found && !strings.HasPrefix(line, " ") {
			names = append(names, name)
		}
	}
	want := []string{
		"Date", "From", "Reply-To", "To", "Subject", "Message-ID", "List-Id", "List-Unsubscribe", "List-Unsubscribe-Post",
		"Auto-Submitted", "Content-Language", "MIME-Version", "Content-Type",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}

func TestSubject(t *testing.T) {
	long := strings.Repeat("Wort ", 60)
	family := strings.Repeat("👨\u200d👩\u200d👧\u200d👦", 40)
	for _, c := range []struct{ in, want string }{
		{"Morgen: Ein Titel", "Morgen: Ein Titel"},
		{"Re: AW: [x]", "[x]"},
		{"Re[2]: Fwd: Titel", "Titel"},
		{"Reise: nach Rom", "Reise: nach Rom"},
		{"a\r\nBcc: b@c.example", "a Bcc: b@c.example"},
		{long, strings.TrimSpace(strings.Repeat("Wort ", 39)) + "…"},
		{family, strings.Repeat("👨\u200d👩\u200d👧\u200d👦", 28) + "…"},
		{"gut\u202egeht", "gutgeht"},
	} {
		if got := subjectLine(c.in); got != c.want {
			t.Errorf("subjectLine(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

func TestSubjectSurvivesTheWire(t *testing.T) {
	for _, s := range []string{
		"Große Enttäuschungen – «Morgen» 👩\u200d👩\u200d👧 " + strings.Repeat("Ärger über Öl ", 10), "plain ASCII", "=?utf-8?q?=0D=0ABcc?=",
		strings.Repeat("ohneleerzeichen", 13), strings.Repeat("viele Wörter ", 15), "a", "",
	} {
		want := headerText(s)
		raw := spliced(t, header, Body{Subject: s, HTML: "<p>x</p>", Text: "x\n"}, reader)
		got := standardTree(t, []byte(raw)).Header["Subject"]
		if got != want {
			t.Errorf("subject of %q = %q", s, got)
		}
		for line := range strings.SplitSeq(raw, "\r\n") {
			if strings.Contains(line, "=?UTF-8?Q?") && len(line) > 76 {
				t.Errorf("line with encoded word has %d octets: %s", len(line), line)
			}
		}
	}
}

func TestSpliceRefuses(t *testing.T) {
	tmpl := mustParse(t, "de", Digest)
	message := mustMessage(t, tmpl, germanVariant(t, tmpl))
	before := []byte("kept")
	for _, c := range []struct {
		name   string
		change func(*Personal)
	}{
		{"CRLF in To", func(p *Personal) { p.To = "a@b.example\r\nBcc: c@d.example" }},
		{"LF in quoted To", func(p *Personal) { p.To = "\"a\nb\"@b.example" }},
		{"two addresses", func(p *Personal) { p.To = "a@b.example,c@d.example" }},
		{"display name", func(p *Personal) { p.To = "A <a@b.example>" }},
		{"empty To", func(p *Personal) { p.To = "" }},
		{"no domain", func(p *Personal) { p.To = "a@" }},
		{"IDN not in ASCII", func(p *Personal) { p.To = "a@müller.example" }},
		{"line separator", func(p *Personal) { p.To = "a\u2028b@b.example" }},
		{"bad UTF-8", func(p *Personal) { p.To = "a\xff@b.example" }},
		{"long To", func(p *Personal) { p.To = strings.Repeat("a", 250) + "@b.example" }},
		{"Message-ID with @", func(p *Personal) { p.MessageID = []byte("a@b") }},
		{"empty Message-ID", func(p *Personal) { p.MessageID = nil }},
		{"short token", func(p *Personal) { p.Unsubscribe = []byte("abc") }},
		{"token with CR", func(p *Personal) { p.Unsubscribe = []byte(unsubscribeToken[:TokenLength-1] + "\r") }},
		{"token with dot", func(p *Personal) { p.Preferences = []byte("." + preferencesToken[1:]) }},
		{"no token", func(p *Personal) { p.Preferences = nil }},
		{"no sign-up date", func(p *Personal) { p.Since = time.Time{} }},
		{"year 10000", func(p *Personal) { p.Since = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }},
	} {
		p := reader
		c.change(&p)
		got, err := message.Splice(before, &p)
		if err == nil || string(got) != "kept" {
			t.Errorf("%s: Splice = %q, %v; want nothing but an error", c.name, got, err)
		}
		if err != nil && (strings.Contains(err.Error(), "example") || strings.Contains(err.Error(), unsubscribeToken[:9])) {
			t.Errorf("%s: error shows a reader's value: %v", c.name, err)
		}
	}
	for _, address := range []string{"a@b.example", "o'neil+x@b.example", `"a b"@b.example`, "jörg@b.example", "a@localhost"} {
		p := reader
		p.To = address
		if _, err := message.Splice(nil, &p); err != nil {
			t.Errorf("Splice to %s: %v", address, err)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Header)
	}{
		{"From with CRLF", func(h *Header) { h.From.Address = "a@b.example\r\nX: y" }},
		{"empty From", func(h *Header) { h.From.Address = "" }},
		{"Reply-To with two", func(h *Header) { h.ReplyTo.Address = "a@b.example, c@d.example" }},
		{"domain with space", func(h *Header) { h.Domain = "a b" }},
		{"List-Id without dot", func(h *Header) { h.List.ID = "morgen" }},
		{"list without unsubscribe", func(h *Header) { h.UnsubscribeBase = "" }},
		{"endless unsubscribe address", func(h *Header) { h.UnsubscribeBase = URL("https://news.example/" + strings.Repeat("u", 950)) }},
		{"unsubscribe without TLS", func(h *Header) { h.UnsubscribeBase = "http://news.example/u/" }},
	} {
		h := header
		c.change(&h)
		if _, err := Build(h, Body{Subject: "x", HTML: "x", Text: "x"}); err == nil {
			t.Errorf("%s: Build accepts it", c.name)
		}
	}
}

// A preview shows what the message holds.
func TestPreviewIsTheMessage(t *testing.T) {
	tmpl := mustParse(t, "de", Digest)
	v := germanVariant(t, tmpl)
	body := mustVariant(t, tmpl, v)
	shown, err := body.With(reader)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"text/plain; charset=UTF-8\n" + shown.Text, "text/html; charset=UTF-8\n" + shown.HTML}
	if diff := cmp.Diff(want, standardTree(t, []byte(splicedFor(t, mustMessage(t, tmpl, v), reader))).Parts); diff != "" {
		t.Errorf("message (-preview +message):\n%s", diff)
	}
	if _, err := body.With(Personal{}); err == nil {
		t.Error("a preview without values is accepted")
	}
}

// Names with specials survive (standards A8).
func TestNamesSurviveTheWire(t *testing.T) {
	h := header
	h.From.Name = "WNOZ, Weinheimer Nachrichten «Morgen»\r\nBcc: x@y.example"
	h.ReplyTo.Name = `Die "Zeitung", Lokales`
	raw := spliced(t, h, Body{Subject: "x", HTML: "x", Text: "x"}, reader)
	m, err := mail.ReadMessage(strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"From": "WNOZ, Weinheimer Nachrichten «Morgen» Bcc: x@y.example", "Reply-To": h.ReplyTo.Name,
	} {
		list, err := m.Header.AddressList(name)
		if err != nil || len(list) != 1 || list[0].Name != want {
			t.Errorf("%s = %v, %v; want one %q", name, list, err, want)
		}
	}
}

// A value that would begin a line is kept off it, whatever a paper's own template says.
func TestValueNeverBeginsALine(t *testing.T) {
	b := Body{
		Subject: "x", HTML: "<p>\n" + dayMark + "</p>\n" + strings.Repeat("x", 74) + "y" + UnsubscribeMark + ".\n",
		Text: dayMark + "." + monthMark + "\n..\n.\nFrom Köln\n" + strings.Repeat(".", 200) + "\n" + strings.Repeat("From ", 40) + "\n",
	}
	message, err := Build(header, b)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range message.segments {
		if s.then != none && bytes.HasSuffix(s.static, []byte("\n")) {
			t.Errorf("segment %d ends a line before field %d", i, s.then)
		}
	}
	raw := []byte(spliced(t, header, b, reader))
	checkWire(t, raw)
	want := " 03.12" + strings.TrimPrefix(b.Text, dayMark+"."+monthMark)
	if got := standardTree(t, raw).Parts[0]; !strings.HasSuffix(got, want) {
		t.Errorf("text part = %q, want it to end in %q", got, want)
	}
}

// Wherever a line is wrapped, no escape and no value is torn.
func TestValueAtEveryColumn(t *testing.T) {
	for column := range 160 {
		for _, before := range []string{"x", "ü", "=", ".", "👩"} {
			line := strings.Repeat("y", column) + before + PreferencesMark + before + dayMark + monthMark + yearMark
			b := Body{Subject: "x", HTML: "<p>x</p>", Text: line + "\n" + line + " z\n"}
			raw := []byte(spliced(t, header, b, reader))
			checkWire(t, raw)
			if diff := cmp.Diff(wanted(header, b, reader).Parts, standardTree(t, raw).Parts); diff != "" {
				t.Errorf("%q at column %d (-want +got):\n%s", before, column, diff)
			}
		}
	}
}

// Python's e-mail package knows nothing of Go's. It reads, in one process, some hundred messages with the oddest content
// and addresses, each preceded by its length, and says what it found.
const pythonReads = `
import email, email.policy, json, sys
while length := sys.stdin.buffer.readline():
	raw = sys.stdin.buffer.read(int(length))
	m = email.message_from_bytes(raw, policy=email.policy.default)
	defects = [repr(d) for p in m.walk() for d in p.defects]
	to = raw.split(b"\r\nTo: ", 1)[1].split(b"\r\n", 1)[0].decode()
	odd = not to.isascii() or "=?" in to # Python 3.11 decodes what looks encoded even in an address
	defects += [repr(d) for name in m.keys() if name != "To" or not odd for d in getattr(m[name], "defects", [])]
	print(json.dumps({
		"Defects": defects, "Types": [p.get_content_type() for p in m.walk()],
		"Subject": str(m["Subject"]), "From": [a.display_name + " <" + a.addr_spec + ">" for a in m["From"].addresses],
		"To": [to] if odd else [a.addr_spec for a in m["To"].addresses], # with no more quotes than it takes
		"Unsubscribe": str(m["List-Unsubscribe"]), "ID": str(m["Message-ID"]),
		"Text": m.get_body(("plain",)).get_content(), "HTML": m.get_body(("html",)).get_content(),
	}))
`

type pythonFound struct {
	Defects, Types, From, To             []string
	Subject, Unsubscribe, ID, Text, HTML string
}

func TestPythonReadsTheMessage(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed: no third opinion on the message")
	}
	tmpl := mustParse(t, "de", Digest)
	var input bytes.Buffer
	var wants []pythonFound
	add := func(e Edition, v Variant, p Personal) {
		press := tmpl.Press(e)
		raw := must(must(press.Message(v)).Splice(nil, &p))
		fmt.Fprintf(&input, "%d\n%s", len(raw), raw)
		shown := must(must(press.Body(v)).With(p))
		wants = append(wants, pythonFound{
			Types: []string{"multipart/alternative", "text/plain", "text/html"}, From: []string{e.Header.From.Name + " <" + e.Header.From.Address + ">"},
			To: []string{p.To}, Subject: headerText(shown.Subject), Unsubscribe: "<" + string(e.Header.UnsubscribeBase) + string(p.Unsubscribe) + ">",
			ID: "<" + string(p.MessageID) + "@" + e.Header.Domain + ">", Text: shown.Text, HTML: shown.HTML,
		})
	}
	german := germanVariant(t, tmpl)
	add(german.Edition, german.Variant, reader)
	random := rapid.Custom(func(r *rapid.T) func() {
		e, variants := randomIssue(r, tmpl)
		p := randomReader.Draw(r, "reader")
		return func() { add(e, variants[0], p) }
	})
	for seed := range 200 {
		random.Example(seed)()
	}
	command := exec.Command(python, "-c", pythonReads)
	command.Stdin = &input
	var problems strings.Builder
	command.Stderr = &problems
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, problems.String())
	}
	found := json.NewDecoder(bytes.NewReader(output))
	for i, want := range wants {
		var got pythonFound
		if err := found.Decode(&got); err != nil {
			t.Fatal(err)
		}
		got.Text, got.HTML = unix([]byte(got.Text)), unix([]byte(got.HTML))
		for _, to := range [][]string{want.To, got.To} {
			to[0] = strings.ReplaceAll(to[0], `"`, "")
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("message %d: Python (-want +got):\n%s", i, diff)
		}
	}
}
