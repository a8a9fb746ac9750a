package render

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
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
		To:          rapid.StringMatching(`[a-z.+'0-9_-]{1,60}@[a-z0-9]{1,40}\.(de|example|xn--p1ai)`).Draw(r, "to"),
		MessageID:   []byte(rapid.StringMatching(`[A-Za-z0-9_-]{1,64}`).Draw(r, "message id")),
		Unsubscribe: draw("unsubscribe"), Preferences: draw("preferences"), Action: draw("action"),
		Since: time.Unix(rapid.Int64Range(0, 4e9).Draw(r, "since"), 0).UTC(),
	}
})

// What is spliced together is what a message built the slow way would be, whoever reads it and whatever is in it.
func TestSplicedMessageIsTheWholeMessage(t *testing.T) {
	tmpl := mustParse(t, "de", Digest)
	rapid.Check(t, func(r *rapid.T) {
		headline := rapid.OneOf(rapid.String(), rapid.StringMatching(`[A-Za-z.äöü„“ =?_-]{1,300}`))
		v := germanVariant(t, tmpl)
		v.Headlines = []Text{"a" + Text(headline.Draw(r, "headline"))}
		v.Newsletter.Title = Text(rapid.StringMatching(`[A-Z][a-zäß. ]{0,40}`).Draw(r, "title"))
		fragment, err := tmpl.Entry(Entry{Title: v.Headlines[0], Teaser: Text(headline.Draw(r, "teaser"))})
		if err != nil {
			r.Fatal(err)
		}
		v.Sections[0].Entries = append(v.Sections[0].Entries, fragment)
		body := mustVariant(t, tmpl, v)
		message, err := Build(header, body)
		if err != nil {
			r.Fatal(err)
		}
		one, two := randomReader.Draw(r, "one"), randomReader.Draw(r, "two")
		for _, p := range []Personal{one, two} {
			raw, err := message.Splice(nil, &p)
			if err != nil {
				r.Fatal(err)
			}
			checkWire(r, raw)
			if len(raw) > message.Size() {
				r.Errorf("message has %d octets, Size says %d", len(raw), message.Size())
			}
			want := wanted(header, body, p)
			if diff := cmp.Diff(want, standardTree(r, raw)); diff != "" {
				r.Errorf("net/mail (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want, messageTree(r, raw)); diff != "" {
				r.Errorf("go-message (-want +got):\n%s", diff)
			}
		}
		checkDifference(r, message, one, two)
	})
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
		body := mustVariant(t, tmpl, germanVariant(t, tmpl))
		sums[sha256.Sum256([]byte(spliced(t, header, body, reader)))] = true
	}
	if len(sums) != 1 {
		t.Errorf("50 builds gave %d different messages", len(sums))
	}
}

func TestHeaderOrder(t *testing.T) {
	tmpl := mustParse(t, "de", Digest)
	raw := spliced(t, header, mustVariant(t, tmpl, germanVariant(t, tmpl)), reader)
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
	body := mustVariant(t, tmpl, germanVariant(t, tmpl))
	shown, err := body.With(reader)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"text/plain; charset=UTF-8\n" + shown.Text, "text/html; charset=UTF-8\n" + shown.HTML}
	if diff := cmp.Diff(want, standardTree(t, []byte(spliced(t, header, body, reader))).Parts); diff != "" {
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

// Python's e-mail package knows nothing of Go's.
func TestPythonReadsTheMessage(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed: no third opinion on the message")
	}
	tmpl := mustParse(t, "de", Digest)
	body := mustVariant(t, tmpl, germanVariant(t, tmpl))
	command := exec.Command(python, "-c", `
import email, email.policy, sys
m = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
assert not m.defects and not any(p.defects for p in m.walk()), m.defects
assert not any(h.defects for h in m.values() if hasattr(h, "defects")), [h.defects for h in m.values()]
assert [p.get_content_type() for p in m.walk()] == ["multipart/alternative", "text/plain", "text/html"]
assert len(m["From"].addresses) == 1 and len(m["To"].addresses) == 1
sys.stdout.buffer.write("\0".join([m["Subject"], m["From"].addresses[0].display_name,
	m.get_body(("plain",)).get_content(), m.get_body(("html",)).get_content()]).encode())
`)
	command.Stdin = strings.NewReader(spliced(t, header, body, reader))
	var problems strings.Builder
	command.Stderr = &problems
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, problems.String())
	}
	parts := wanted(header, body, reader).Parts
	want := []string{body.Subject, header.From.Name}
	for _, part := range parts {
		_, content, _ := strings.Cut(part, "\n")
		want = append(want, content)
	}
	if diff := cmp.Diff(want, strings.Split(unix(output), "\x00")); diff != "" {
		t.Errorf("Python (-want +got):\n%s", diff)
	}
}
