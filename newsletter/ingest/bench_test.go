package ingest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkReadFeed reads what an agency's feed is like: 50 items with texts of ten paragraphs.
func BenchmarkReadFeed(b *testing.B) {
	var feed strings.Builder
	feed.WriteString(`<?xml version="1.0" encoding="UTF-8"?><rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/">` +
		`<channel><title>Talbote</title><link>https://www.talbote.example/</link>`)
	text := "<p>Talheim (dpa) - " + prose1 + "</p>" + strings.Repeat("<p>"+prose2+" <a href=\"/rat\">Der Rat</a> stimmte zu.</p>", 9)
	for i := range 50 {
		fmt.Fprintf(&feed, `<item><title>Meldung %d &amp;amp; mehr</title><link>https://www.talbote.example/%[1]d</link><guid>%[1]d</guid>`+
			`<pubDate>Tue, 10 Feb 2026 17:41:08 +0100</pubDate><category>Talheim</category><description>%s</description>`+
			`<content:encoded><![CDATA[%s]]></content:encoded></item>`, i, prose1, text)
	}
	feed.WriteString("</channel></rss>")
	data := []byte(feed.String())
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		result, err := ReadFeed("bench.xml", bytes.NewReader(data), testSource, testNow)
		if err != nil || len(result.Articles) != 50 || len(result.Problems) != 0 {
			b.Fatalf("%d articles, %v, %v", len(result.Articles), result.Problems, err)
		}
	}
}

func BenchmarkReadPage(b *testing.B) {
	data, err := os.ReadFile(filepath.Join("testdata", "wordpress.html"))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ReadPage("bench.html", bytes.NewReader(data), testSource, testNow); err != nil {
			b.Fatal(err)
		}
	}
}
