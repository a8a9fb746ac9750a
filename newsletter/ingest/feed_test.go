package ingest

import (
	"strings"
	"testing"
	"time"
)

// readItem reads an RSS feed of one item.
func readItem(t *testing.T, item string) Result {
	t.Helper()
	feed := `<rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/" xmlns:media="http://search.yahoo.com/mrss/"
		xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:desk="https://a.example/desk"><channel><link>https://a.example/</link><item>` +
		item + `</item></channel></rss>`
	result, err := Read("feed.xml", []byte(feed), "", testSource, testNow)
	if err != nil {
		t.Fatalf("%s: %v", item, err)
	}
	checkArticles(t, result)
	return result
}

const itemHead = `<title>Titel</title><link>/1</link>`

// An item that cannot be an article is a problem that names it, and the others go on.
func TestFeedProblems(t *testing.T) {
	for item, want := range map[string]string{
		`<title>Nur ein Titel</title>`:                                     `feed.xml: item 1 "Nur ein Titel": no http or https address`,
		`<link>https://a.example/1</link>`:                                 `feed.xml: item 1: no title`,
		`<title>Skript</title><link>javascript:alert(1)</link>`:            `scheme "javascript"`,
		itemHead + `<pubDate>bald</pubDate>`:                               `published: date "bald" not understood`,
		itemHead + `<pubDate>Wed, 11 Feb 2031 05:00:00 GMT</pubDate>`:      "lies in the future; treated as unknown",
		itemHead + `<desk:embargo>abends</desk:embargo>`:                   `embargo: date "abends" not understood`,
		itemHead + `<desk:pubstatus>fast</desk:pubstatus>`:                 "withheld",
		`<title>Zwei</title></item><item>` + itemHead + `<guid>g-2</guid>`: `item 1 "Zwei"`,
		itemHead + `</item><item><guid isPermaLink="false">g-7</guid>`:     `item 2 "g-7"`,
		itemHead + `</item><item><description>Text</description><a>1</a>`:  "item 2",
		`<title>&#x200B; </title><link>https://a.example/1</link>`:         "no title",
		`<title>Passwort</title><link>https://u:SECRET@a.example/1</link>`: "password",
		`<title>Pfad</title><link>http://[::1/?token=SECRET</link>`:        "malformed address",
		itemHead + `<pubDate>31 Feb 2026 10:00:00 GMT</pubDate>`:           "does not exist",
		itemHead + `<pubDate>03/04/2026</pubDate>`:                         "not understood",
	} {
		result := readItem(t, item)
		found := false
		for _, p := range result.Problems {
			found = found || strings.Contains(p.Error(), want)
			checkNoSecret(t, p)
			if !strings.HasPrefix(p.Error(), "feed.xml: item ") {
				t.Errorf("%s: problem without its place: %v", item, p)
			}
		}
		if !found {
			t.Errorf("%s: problems %v, want %q", item, result.Problems, want)
		}
		if wantArticles := strings.Count(item, "/1</link><") + strings.Count(item, itemHead); strings.HasPrefix(item, itemHead) &&
			len(result.Articles) != max(1, wantArticles/2) {
			t.Errorf("%s: %d articles", item, len(result.Articles))
		}
	}
}

// An embargo is kept where it can be read, and withholds the article where it cannot (H13).
func TestFeedEmbargo(t *testing.T) {
	a := readItem(t, itemHead+`<desk:embargo>2026-02-12T06:00</desk:embargo>`).Articles[0]
	if want := time.Date(2026, 2, 12, 5, 0, 0, 0, time.UTC); !a.Embargo.Equal(want) || a.Status != Usable {
		t.Errorf("embargo %v, status %v, want %v", a.Embargo, a.Status, want)
	}
	a = readItem(t, itemHead+`<desk:embargo>abends</desk:embargo>`).Articles[0]
	if a.Status != Withheld || !a.Embargo.IsZero() {
		t.Errorf("embargo %v, status %v, want withheld", a.Embargo, a.Status)
	}
	a = readItem(t, itemHead+`<desk:pubstatus>canceled</desk:pubstatus><desk:embargo>abends</desk:embargo>`).Articles[0]
	if a.Status != Canceled {
		t.Errorf("status %v, want canceled", a.Status)
	}
}

func TestFeedFields(t *testing.T) {
	for _, c := range []struct {
		name, item string
		field      func(Article) string
		want       string
	}{
		{"title with markup", `<title>&lt;b&gt;Fett&lt;/b&gt; &amp;amp; mehr</title><link>/1</link>`, title, "Fett & mehr"},
		{"relative link", itemHead, func(a Article) string { return a.URL }, "https://a.example/1"},
		{"guid as link", `<title>T</title><guid>https://a.example/g?utm_source=x</guid>`, func(a Article) string { return a.URL }, "https://a.example/g"},
		{"one subject is the kicker", itemHead + `<dc:subject>Rente</dc:subject>`, func(a Article) string { return a.Kicker }, "Rente"},
		{
			"kicker is no category", itemHead + `<desk:dachzeile>Rente</desk:dachzeile><category>Rente</category><category>Berlin</category>`,
			func(a Article) string { return a.Kicker + "|" + strings.Join(a.Categories, ",") }, "Rente|Berlin",
		},
		{"dateline", itemHead + `<description>Bonn (KNA) Der Anriss.</description>`, func(a Article) string { return a.Place + a.Agency + a.Teaser }, "BonnKNADer Anriss."},
		{
			"hostile body", itemHead + `<content:encoded><![CDATA[<p>` + prose1 + `</p><p onclick="x()">Zwei<script>x()</script> <a href="javascript:x()">Klick</a></p>]]></content:encoded>`,
			func(a Article) string { return a.Body }, "Zwei Klick",
		},
		{
			"links of a body", itemHead + `<content:encoded><![CDATA[<p>` + prose1 + `</p><h1>Eins</h1><p>Der <a href="/rat?utm_medium=x">Rat</a> tagt.</p>]]></content:encoded>`,
			func(a Article) string { return a.Body }, "## Eins\n\nDer [Rat](https://a.example/rat) tagt.",
		},
		{
			"picture", itemHead + `<media:content url="/b.jpg" medium="image"><media:description>Ein Bild</media:description><media:credit>Max/dpa</media:credit></media:content>`,
			func(a Article) string { return a.Picture.URL + "|" + a.Picture.Caption + "|" + a.Picture.Credit }, "https://a.example/b.jpg|Ein Bild|Max/dpa",
		},
		{"enclosure", itemHead + `<enclosure url="https://a.example/b.png" type="image/png" length="1"/>`, func(a Article) string { return a.Picture.URL }, "https://a.example/b.png"},
		{"zone of the source", itemHead + `<pubDate>10 Feb 2026 06:00</pubDate>`, func(a Article) string { return a.Published.UTC().Format(time.RFC3339) }, "2026-02-10T05:00:00Z"},
		{"weekday of a language", itemHead + `<pubDate>mar., 10 févr. 2026 06:00:00 +0100</pubDate>`, func(a Article) string { return a.Published.UTC().Format(time.RFC3339) }, "2026-02-10T05:00:00Z"},
		{"no date", itemHead, func(a Article) string { return a.Published.Format(time.RFC3339) }, "0001-01-01T00:00:00Z"},
	} {
		result := readItem(t, c.item)
		if len(result.Articles) != 1 {
			t.Errorf("%s: %d articles, %v", c.name, len(result.Articles), result.Problems)
		} else if got := c.field(result.Articles[0]); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func title(a Article) string { return a.Title }

func TestReadRefused(t *testing.T) {
	for document, want := range map[string]string{
		"":                 "empty",
		"nur Text":         "neither a feed",
		"<svg></svg>":      `"svg"`,
		`{"a": 1}`:         "JSON",
		"\x1f\x8b\x08\x00": "gzip",
		"<rss><channel>":   "",
		"<feed xmlns='http://www.w3.org/2005/Atom'>" + strings.Repeat("<a>", 300): "nested deeper than 200",
	} {
		_, err := Read("etwas.dat", []byte(document), "", testSource, testNow)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "etwas.dat") {
			t.Errorf("Read(%.40q): error %v, want %q", document, err, want)
		}
	}
}

func TestReadCharsets(t *testing.T) {
	feed := func(encoding, title string) string {
		return `<?xml version="1.0"` + encoding + `?><rss version="2.0"><channel><item><title>` + title +
			`</title><link>https://a.example/1</link></item></channel></rss>`
	}
	utf16 := func(s string) string {
		out := "\xFF\xFE"
		for _, r := range s {
			out += string([]byte{byte(r), byte(r >> 8)})
		}
		return out
	}
	for _, c := range []struct{ name, document, contentType string }{
		{"UTF-8", feed("", "Größe"), ""},
		{"byte order mark", "\xEF\xBB\xBF" + feed(` encoding="iso-8859-1"`, "Größe"), "text/xml; charset=iso-8859-1"},
		{"declared", feed(` encoding="iso-8859-1"`, "Gr\xF6\xDFe"), ""},
		{"header", feed("", "Gr\xF6\xDFe"), "text/xml; charset=ISO-8859-15"},
		{"undeclared", feed("", "Gr\xF6\xDFe"), ""},
		{"declared wrongly", feed(` encoding="iso-8859-1"`, "Größe"), ""},
		{"UTF-16", utf16(feed(` encoding="utf-16"`, "Größe")), ""},
	} {
		result, err := Read("feed.xml", []byte(c.document), c.contentType, testSource, testNow)
		if err != nil || len(result.Articles) != 1 || result.Articles[0].Title != "Größe" {
			t.Errorf("%s: %v, %v", c.name, result, err)
		}
	}
}
