package render

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// changed is the German digest's template with some of it replaced.
func changed(t testing.TB, text, frame *strings.Replacer) (*Template, error) {
	t.Helper()
	source, err := Load(folder, "de", Digest)
	if err != nil {
		t.Fatal(err)
	}
	source.Text, source.Frame = text.Replace(source.Text), frame.Replace(source.Frame)
	return Parse(source)
}

// A press serves all of a run's goroutines, whatever they print and in which order.
func TestPressIsShared(t *testing.T) {
	tmpl := mustParse(t, "de", Digest)
	v := germanVariant(t, tmpl)
	var variants []Variant
	var want []string
	for n := range 30 {
		cut := v.Variant
		cut.Number = int64(n * n * n)
		cut.Sections = v.Sections[n%2:]
		cut.Headlines = append([]Text{Text(fmt.Sprint("Nummer ", n%7))}, v.Headlines...)
		variants = append(variants, cut)
		want = append(want, splicedFor(t, mustMessage(t, tmpl, issue{v.Edition, cut}), reader))
	}
	press := tmpl.Press(v.Edition)
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for i := range variants {
				i = (i*7 + worker) % len(variants)
				message, err := press.Message(variants[i])
				if err != nil {
					t.Error(err)
					return
				}
				if splicedFor(t, message, reader) != want[i] {
					t.Errorf("variant %d is another if a press prints others, too", i)
				}
			}
		})
	}
	group.Wait()
}

// A press remembers only so many subjects, whatever a template makes of them.
func TestPressForgetsSubjects(t *testing.T) {
	tmpl := mustParse(t, "de", Digest)
	v := germanVariant(t, tmpl)
	press := tmpl.Press(v.Edition)
	for n := range 2*maxTitles + 1 {
		v.Headlines = []Text{Text(fmt.Sprint("Nummer ", n))}
		body, err := press.Body(v.Variant)
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprint(v.Newsletter.Title, ": Nummer ", n); body.Subject != want {
			t.Fatalf("subject %q, want %q", body.Subject, want)
		}
	}
	if n := len(press.titles); n > maxTitles {
		t.Errorf("press remembers %d subjects", n)
	}
}

// A paper's own template may show anything anywhere: what differs between variants in the closing, the web view in the
// opening.
func TestPressPrintsWhatATemplateAsksFor(t *testing.T) {
	tmpl, err := changed(t, strings.NewReplacer(
		`{{define "closing"}}`, `{{define "closing"}}Ende nach {{.Count}} zu {{range .Topics}}{{.}}, {{end}} {{.WebView}} bei {{.WebView.Host}}.`+"\n",
		`{{define "opening"}}`, `{{define "opening"}}Im Browser: {{.WebView}}`+"\n",
	), strings.NewReplacer())
	if err != nil {
		t.Fatal(err)
	}
	v := germanVariant(t, tmpl)
	press := tmpl.Press(v.Edition)
	for _, number := range []int64{0, 9, 10, 12345, 10} {
		v.Number, v.Count = number, int(number)+3
		body, err := press.Body(v.Variant)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			fmt.Sprintf("Im Browser: <https://news.elbtal-bote.example/w/2026-02-%d>", number),
			fmt.Sprintf("Ende nach %d zu %s,", v.Count, v.Sections[0].Name), "bei news.elbtal-bote.example.",
		} {
			if !strings.Contains(squeezed(body.Text), want) {
				t.Errorf("number %d: no %q in\n%s", number, want, body.Text)
			}
		}
		message, err := press.Message(v.Variant)
		if err != nil {
			t.Fatal(err)
		}
		checkTrees(t, []byte(splicedFor(t, message, reader)), wanted(header, body, reader))
		if page := body.Web(); strings.Contains(page, stem) || !strings.Contains(page, fmt.Sprintf("2026-02-%d", number)) {
			t.Errorf("number %d: the web page lacks its address, or holds a placeholder", number)
		}
	}
}

// Nothing but the number tells the closings of two variants apart, and lines are as wide as without a placeholder.
func TestNumberIsPrintedAsIfItHadBeenKnown(t *testing.T) {
	tmpl, err := changed(t, strings.NewReplacer(
		`{{define "closing"}}`, `{{define "closing"}}Diese Ausgabe steht auch hier: {{.WebView}} und noch einige Wörter, die dahinter stehen.`+"\n",
	), strings.NewReplacer())
	if err != nil {
		t.Fatal(err)
	}
	v := germanVariant(t, tmpl)
	for _, number := range []int64{0, 7, 42, 1234567, 1<<63 - 1} {
		v.Number = number
		known := v
		known.WebViewBase += URL(fmt.Sprint(number / 10))
		known.Number = number % 10
		if number < 10 {
			known.WebViewBase = v.WebViewBase
		}
		if diff := cmp.Diff(mustVariant(t, tmpl, known), mustVariant(t, tmpl, v)); diff != "" {
			t.Errorf("number %d (-known +later):\n%s", number, diff)
		}
	}
}

func TestFrameMayPutRowsAnywhereInTheText(t *testing.T) {
	tmpl, err := changed(t, strings.NewReplacer(), strings.NewReplacer(
		"{{.Opening -}}\n", "<div>{{.Opening}}</div>", "{{.Rows -}}\n", "<!-- here --> {{.Rows}} ", "{{.Closing -}}\n</td></tr>\n", "{{.Closing}}"))
	if err != nil {
		t.Fatal(err)
	}
	v := germanVariant(t, tmpl)
	body := mustVariant(t, tmpl, v)
	want := mustVariant(t, mustParse(t, "de", Digest), v)
	if got := squeezed(textOf(parsed(t, body.HTML))); got != squeezed(textOf(parsed(t, want.HTML))) || body.Text != want.Text {
		t.Errorf("another frame shows other words:\n%s", got)
	}
	checkTrees(t, []byte(splicedFor(t, mustMessage(t, tmpl, v), reader)), wanted(header, body, reader))
}

// A frame that treats rows as an attribute would get them there without being escaped for it.
func TestFrameMustPrintRowsAsTheyAre(t *testing.T) {
	for _, frame := range []*strings.Replacer{
		strings.NewReplacer("{{.Rows -}}", `<tr title="{{.Rows}}"></tr>`),
		strings.NewReplacer("{{.Opening -}}", `{{len .Opening}}`),
		strings.NewReplacer("{{.Closing -}}", `<textarea>{{.Closing}}</textarea>`),
	} {
		if _, err := changed(t, strings.NewReplacer(), frame); err == nil || !strings.Contains(err.Error(), "mail/frame.html: opening, rows and closing") {
			t.Errorf("Parse = %v", err)
		}
	}
}

// What an entry holds is sent as it is: it has no reader's value, and must not pretend to.
func TestPressRefusesPlaceholdersInEntries(t *testing.T) {
	tmpl := mustParse(t, "de", Digest)
	for _, f := range []Fragment{
		{HTML: "<tr><td>" + UnsubscribeMark + "</td></tr>\n", Text: "x"}, {HTML: "<tr></tr>\n", Text: stem}, {HTML: rowsMark + "\n"},
	} {
		v := germanVariant(t, tmpl)
		v.Sections[0].Entries = append(v.Sections[0].Entries, f)
		if _, err := tmpl.Press(v.Edition).Message(v.Variant); !errors.Is(err, errPlaceholder) {
			t.Errorf("Message = %v, want %v", err, errPlaceholder)
		}
	}
}

func TestPrefixStandsBeforeTheSubject(t *testing.T) {
	tmpl := mustParse(t, "de", Digest)
	v := germanVariant(t, tmpl)
	plain := mustVariant(t, tmpl, v)
	v.Prefix = "[TEST] "
	marked := mustVariant(t, tmpl, v)
	if marked.Subject != "[TEST] "+plain.Subject || marked.HTML != plain.HTML {
		t.Errorf("subject %q, want %q with a prefix, and the same page", marked.Subject, plain.Subject)
	}
	raw := splicedFor(t, mustMessage(t, tmpl, v), reader)
	if got := standardTree(t, []byte(raw)).Header["Subject"]; got != marked.Subject {
		t.Errorf("subject of the message %q, want %q", got, marked.Subject)
	}
}

func TestFitForWire(t *testing.T) {
	static := func(s string) segment { return segment{static: []byte(s)} }
	value := func(s string, f field) segment { return segment{[]byte(s), f} }
	full := strings.Repeat("x", longestLine)
	for _, c := range []struct {
		name     string
		segments []segment
		fit      bool
	}{
		{"nothing", nil, true},
		{"lines", []segment{static("a\r\n\r\nb.\r\n")}, true},
		{"values", []segment{value("a", sinceDay), value(".", sinceMonth), static("\r\n")}, true},
		{"a value that ends a line", []segment{value("To: ", to), static("\r\nx\r\n")}, true},
		{"the longest line", []segment{static(full + "\r\n")}, true},
		{"one octet more", []segment{static(full + "x\r\n")}, false},
		{"one octet more over segments", []segment{static(full), static("x\r\n")}, false},
		{"too long with the longest address", []segment{value(full[maxAddress-1:], to), static("\r\n")}, false},
		{"the longest with the longest address", []segment{value(full[maxAddress:], to), static("\r\n")}, true},
		{"no end", []segment{static("a\r\nb")}, false},
		{"a value at the end", []segment{value("a", to)}, false},
		{"a value at the beginning", []segment{value("", to), static("\r\n")}, false},
		{"a value after a line", []segment{value("a\r\n", to), static("\r\n")}, false},
		{"dot", []segment{static(".\r\n")}, false},
		{"dot on the second line", []segment{static("a\r\n.b\r\n")}, false},
		{"dot in the next segment", []segment{static("a\r\n"), static(".b\r\n")}, false},
		{"lone LF", []segment{static("a\nb\r\n")}, false},
		{"smuggled", []segment{static("a\n.\r\nMAIL FROM:<>\r\n")}, false},
		{"LF first", []segment{static("\na\r\n")}, false},
		{"lone CR", []segment{static("a\rb\r\n")}, false},
		{"CR at the end", []segment{static("a\r\n\r")}, false},
		{"CR before a value", []segment{value("a\r", to), static("\n")}, false},
		{"two CR", []segment{static("a\r\r\n")}, false},
		{"NUL", []segment{static("a\x00b\r\n")}, false},
	} {
		if err := fitForWire(c.segments); (err == nil) != c.fit {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// What holds for the values at hand holds for the longest and the shortest.
func TestLongestAndShortestReader(t *testing.T) {
	longestReader, shortestReader := reader, reader
	longestReader.To = strings.Repeat("a", maxAddress-len("@b.example")) + "@b.example"
	longestReader.MessageID = []byte(strings.Repeat("m", maxMessageID))
	longestReader.Since = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
	shortestReader.To, shortestReader.MessageID = ".@b", []byte("-")
	shortestReader.Since = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	tmpl := mustParse(t, "de", Digest)
	body, err := mustParse(t, "de", "confirm").Letter(letters())
	if err != nil {
		t.Fatal(err)
	}
	letter, err := Build(letterHeader, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*Message{mustMessage(t, tmpl, germanVariant(t, tmpl)), letter} {
		for _, p := range []Personal{longestReader, shortestReader} {
			raw := []byte(splicedFor(t, m, p))
			checkWire(t, raw)
			if len(raw) != m.Length(&p) {
				t.Errorf("message has %d octets, Length says %d", len(raw), m.Length(&p))
			}
		}
		if n := m.Length(&longestReader); n != m.Size() {
			t.Errorf("longest message has %d octets, Size says %d", n, m.Size())
		}
	}
}

func TestSpliceAllocatesNothing(t *testing.T) {
	tmpl := mustParse(t, "de", Digest)
	message := mustMessage(t, tmpl, germanVariant(t, tmpl))
	p := reader
	p.To = `"jörg b"@xn--mller-kva.example`
	dst := make([]byte, 0, message.Length(&p))
	if n := testing.AllocsPerRun(100, func() { dst, _ = message.Splice(dst[:0], &p) }); n > 0 {
		t.Errorf("Splice allocates %v times", n)
	}
}

// Messages of one edition share what they have in common.
func TestMessagesShareRows(t *testing.T) {
	tmpl := mustParse(t, "de", Digest)
	v := germanVariant(t, tmpl)
	press := tmpl.Press(v.Edition)
	owned := func(m *Message, seen map[*byte]bool) (octets int) {
		for _, s := range m.segments {
			if len(s.static) > 0 && !seen[&s.static[0]] {
				seen[&s.static[0]] = true
				octets += len(s.static)
			}
		}
		return octets
	}
	seen := map[*byte]bool{}
	first, err := press.Message(v.Variant)
	if err != nil {
		t.Fatal(err)
	}
	all := owned(first, seen)
	v.Number = 12
	second, err := press.Message(v.Variant)
	if err != nil {
		t.Fatal(err)
	}
	if own := owned(second, seen); own > all/4 {
		t.Errorf("of a second message of %d octets, %d are its own", all, own)
	}
}
