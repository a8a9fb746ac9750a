package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"path"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/net/html/charset"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// ErrUnknownFormat is why [Read] refuses a document that is neither feed nor article page nor Markdown file.
var ErrUnknownFormat = errors.New("neither a feed nor an article page nor a Markdown file with front matter")

// Read reads a document of any kind this package knows. It looks at the content first, then at the name's extension and at
// contentType, which may be "". The error says that nothing could be read; Result.Problems is about parts.
func Read(name string, data []byte, contentType string, src Source, now time.Time) (Result, error) {
	if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		return Result{}, fmt.Errorf("read %s: compressed with gzip, unpack it first", name)
	}
	text, err := decode(data, contentType)
	if err != nil {
		return Result{}, fmt.Errorf("read %s: %w", name, err)
	}
	switch formatOf(name, text, contentType) {
	case feedFormat:
		return readFeed(name, text, src, now)
	case pageFormat:
		return single(readPage(name, text, src, now))
	case markdownFormat:
		return single(readMarkdown(name, text, src, now))
	}
	return Result{}, fmt.Errorf("read %s: %w%s", name, ErrUnknownFormat, looksLike(text))
}

// looksLike says what a document of no known format seems to be.
func looksLike(text []byte) string {
	head := afterProlog(text)
	switch m := firstTag.FindSubmatch(head); {
	case len(bytes.TrimSpace(text)) == 0:
		return ": it is empty"
	case m != nil:
		return fmt.Sprintf(": its first element is %s", quoted(string(m[0][1:])))
	case bytes.HasPrefix(head, []byte("{")), bytes.HasPrefix(head, []byte("[")):
		return ": it is JSON, but no JSON Feed"
	}
	return ""
}

// afterProlog is a document from its first element on.
func afterProlog(text []byte) []byte {
	for m := prolog.Find(text); len(m) > 0; m = prolog.Find(text) {
		text = text[len(m):]
	}
	return text
}

// single is the result of a document that holds one article.
func single(d *draft, err error) (Result, error) {
	if err != nil {
		return Result{}, err
	}
	return Result{Articles: []Article{d.Article}, Problems: d.problems}, nil
}

type format int

const (
	unknownFormat format = iota
	feedFormat
	pageFormat
	markdownFormat
)

var (
	prolog    = regexp.MustCompile(`^(?:\s+|<\?(?s:.*?)\?>|<!--(?s:.*?)-->|<!DOCTYPE[^>\[]*(?:\[(?s:.*?)\]\s*)?>)`)
	firstTag  = regexp.MustCompile(`^<([A-Za-z][\w.-]*:)?([A-Za-z][\w.-]*)`)
	doctype   = regexp.MustCompile(`(?i)^\s*(?:<\?xml(?s:.*?)\?>)?\s*(?:<!--(?s:.*?)-->\s*)*<!doctype\s+html`)
	htmlStart = wordSet("html head body title meta article main div h1 p script link")
)

func formatOf(name string, text []byte, contentType string) format {
	if doctype.Match(text) {
		return pageFormat
	}
	head := afterProlog(text)
	if m := firstTag.FindSubmatch(head); m != nil {
		switch tag := strings.ToLower(string(m[2])); {
		case tag == "rss" || tag == "rdf" || tag == "feed":
			return feedFormat
		case htmlStart[tag] && !strings.HasPrefix(string(text), "---"):
			return pageFormat
		}
	}
	media, _, _ := mime.ParseMediaType(contentType)
	switch ext := strings.ToLower(path.Ext(name)); {
	case bytes.HasPrefix(head, []byte("{")) && bytes.Contains(head, []byte(`"items"`)):
		return feedFormat
	case bytes.HasPrefix(text, []byte("---")), ext == ".md", ext == ".markdown", media == "text/markdown":
		return markdownFormat
	case media == "text/html", media == "application/xhtml+xml", ext == ".html", ext == ".htm":
		return pageFormat
	}
	return unknownFormat
}

var (
	xmlEncoding = regexp.MustCompile(`^\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._:-]+)["']`)
	htmlCharset = regexp.MustCompile(`(?i)<meta[^>]+charset\s*=\s*["']?\s*([A-Za-z0-9._:-]+)`)
)

// decode returns a document as UTF-8 without byte order mark. The mark decides, then the header's charset, then what the
// document declares (RFC 7303 §3). Against a declared 8-bit charset text that is valid UTF-8 wins: no one writes "Ã¼" on
// purpose. Without a declaration what is not UTF-8 is Windows-1252.
func decode(data []byte, contentType string) ([]byte, error) {
	if len(data) > maxDocument {
		return nil, fmt.Errorf("exceeds %d MiB", maxDocument>>20)
	}
	for mark, label := range map[string]string{"\xEF\xBB\xBF": "utf-8", "\xFE\xFF": "utf-16be", "\xFF\xFE": "utf-16le"} {
		if bytes.HasPrefix(data, []byte(mark)) {
			return decodeAs(data[len(mark):], label)
		}
	}
	label := declared(data, contentType)
	if utf8.Valid(data) && !sevenBit(label) {
		return data, nil
	}
	if label == "" || strings.EqualFold(label, "utf-8") {
		label = "windows-1252"
	}
	return decodeAs(data, label)
}

// declared is the charset that header or document name; "" for none.
func declared(data []byte, contentType string) string {
	if _, params, err := mime.ParseMediaType(contentType); err == nil && params["charset"] != "" {
		return params["charset"]
	}
	head := data[:min(len(data), 4096)]
	switch {
	case bytes.HasPrefix(head, []byte{'<', 0, '?', 0}):
		return "utf-16le"
	case bytes.HasPrefix(head, []byte{0, '<', 0, '?'}):
		return "utf-16be"
	}
	for _, declaration := range []*regexp.Regexp{xmlEncoding, htmlCharset} {
		if m := declaration.FindSubmatch(head); m != nil {
			return string(m[1])
		}
	}
	return ""
}

// sevenBit reports charsets whose bytes are valid UTF-8 and mean something else.
func sevenBit(label string) bool {
	label = strings.ToLower(label)
	return strings.HasPrefix(label, "iso-2022") || strings.HasPrefix(label, "utf-16") || strings.HasPrefix(label, "utf-7") ||
		label == "hz-gb-2312"
}

func decodeAs(data []byte, label string) ([]byte, error) {
	switch strings.ToLower(label) {
	case "utf-16": // without a mark: big endian (RFC 2781 §4.3)
		data, _, err := transform.Bytes(unicode.UTF16(unicode.BigEndian, unicode.UseBOM).NewDecoder(), data)
		return data, err
	case "utf-8":
		return bytes.ToValidUTF8(data, []byte("\uFFFD")), nil
	}
	r, err := charset.NewReaderLabel(label, bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("unknown charset %s", quoted(label))
	}
	text, err := io.ReadAll(io.LimitReader(r, 4*maxDocument))
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", label, err)
	}
	return text, nil
}
