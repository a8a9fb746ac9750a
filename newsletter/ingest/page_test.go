package ingest

import (
	"strings"
	"testing"
)

const pageHead = `<!DOCTYPE html><html lang="de"><head><title>Titel</title>
<link rel="canonical" href="https://www.a.example/stadt/titel.html"></head><body><main><article><h1>Titel</h1>`

const (
	prose1 = "Der erste Absatz ist lang genug, um als Text eines Artikels zu gelten, und er hat einen zweiten Satz."
	prose2 = "Der zweite Absatz folgt nach allem, was dazwischen steht, und schließt den Artikel mit einem Ausblick ab."
)

func readTestPage(t *testing.T, html string) Article {
	t.Helper()
	a, err := ReadPage("test.html", strings.NewReader(html), testSource, testNow)
	if err != nil {
		t.Fatalf("ReadPage: %v", err)
	}
	return a
}

// What stands around and in an article must not come along; what only looks like it must.
func TestPageLeaks(t *testing.T) {
	for _, leak := range []string{
		`<aside><p>LEAK Ein Kasten am Rand.</p></aside>`,
		`<div class="c-newsletter-teaser"><h3>LEAK</h3><p>LEAK Jetzt bestellen.</p></div>`,
		`<div class="box"><h3>LEAK Newsletter</h3><p>LEAK Holen Sie sich die Nachrichten.</p><form action="/s"><input type="email"></form>
			<p><small>LEAK Datenschutz</small></p></div>`,
		`<form><p>LEAK Ihre Adresse</p><input type="email"></form>`,
		`<nav><ul><li>LEAK</li></ul></nav>`,
		`<div role="complementary"><p>LEAK</p></div>`,
		`<section class="related-articles"><h2>LEAK</h2><p>LEAK Ein anderer Artikel mit einem langen Anrisstext daneben.</p></section>`,
		`<div id="relatedContent"><p>LEAK</p></div>`,
		`<article class="teaser"><h3>LEAK</h3><p>LEAK Ein anderer Artikel.</p></article>`,
		`<p><a href="/x">LEAK Ein anderer Artikel</a></p>`,
		`<p><strong>Lesen Sie auch:</strong> <a href="/x">LEAK Ein anderer Artikel</a></p>`,
		`<p>Read also: <a href="/x">LEAK another story</a></p>`,
		`<ul><li><a href="/x">LEAK</a></li><li><a href="/y">LEAK</a></li></ul>`,
		`<h3>Das könnte Sie auch interessieren</h3><ul><li><a href="/x">LEAK</a></li></ul>`,
		`<div class="ad"><p>LEAK Werbung</p></div><div class="adSlot">LEAK</div>`,
		`<p>Anzeige</p><script>LEAK</script><style>.LEAK{}</style><noscript>LEAK</noscript><iframe>LEAK</iframe>`,
		`<div class="social-share"><span>LEAK Teilen</span></div><button>LEAK</button>`,
		`<div class="comments" id="comments"><p>LEAK Ein Leser schreibt.</p></div>`,
		`<p class="feedback">LEAK Sagen Sie uns Ihre Meinung.</p>`,
		`<p>Sind Ihnen Fehler aufgefallen? Schreiben Sie uns. <a href="mailto:x@a.example">LEAK</a></p>`,
		`<figure><img src="/i.jpg"><figcaption>LEAK Bildtext</figcaption></figure>`,
		`<p hidden>LEAK</p><p style="display: none">LEAK</p><div aria-hidden="true"><p>LEAK</p></div>`,
		`<div class="paywall"><p>LEAK Weiterlesen mit Abo.</p></div>`,
		`<span>LEAK</span>`,
		`<h2>Newsletter</h2><p>LEAK Holen Sie sich den Newsletter.</p><p>LEAK Mit der Registrierung nehmen Sie die Datenschutzerklärung an.</p>`,
	} {
		a := readTestPage(t, pageHead+"<p>"+prose1+"</p>"+leak+"<p>"+prose2+"</p></article></main></body></html>")
		if strings.Contains(a.Teaser+a.Body, "LEAK") {
			t.Errorf("%s\nleaked into %q", leak, a.Teaser+a.Body)
		}
		if got := a.Teaser + "|" + a.Body; got != prose1+"|"+prose2 {
			t.Errorf("%s\ntook text along: %q", leak, got)
		}
	}
	for html, want := range map[string]string{
		`<p>Zum Thema Rente sagte sie <a href="/rente">im Interview</a>, das werde noch dauern.</p>`: "Zum Thema Rente sagte sie",
		`<h2 id="mehr-werbung-im-newsletter">Mehr Werbung</h2><p>KEEP</p>`:                           "## Mehr Werbung\n\nKEEP",
		`<ul><li>Punkt <a href="/1">eins</a></li><li>Punkt zwei</li></ul>`:                           "- Punkt [eins](https://www.a.example/1)\n- Punkt zwei",
		`<div class="text with-newsletter no-ads"><p>KEEP</p></div>`:                                 "KEEP",
		`<p>Ein <span class="teaser">KEEP</span> im Satz.</p>`:                                       "Ein KEEP im Satz.",
		`<table><tr><th>Verein</th><th>Punkte</th></tr><tr><td>TSG</td><td>12</td></tr></table>`:     "| TSG",
		`<pre><code>KEEP = 1</code></pre>`:                                                           "KEEP = 1",
		`<ol start="3"><li>drei</li></ol>`:                                                           "3. drei",
	} {
		a := readTestPage(t, pageHead+"<p>"+prose1+"</p><p>"+prose2+"</p>"+html+"<p>Ende gut, alles gut.</p></article></main></body></html>")
		if !strings.Contains(a.Body, want) {
			t.Errorf("%s\nwant %q in %q", html, want, a.Body)
		}
	}
}

// A heading whose box was taken away stands over nothing.
func TestPageHeadingOverNothing(t *testing.T) {
	a := readTestPage(t, pageHead+"<p>"+prose1+"</p><p>"+prose2+"</p><h2>Mehr davon</h2><aside><p>Ein Kasten</p></aside></article>")
	if a.Body != prose2 {
		t.Errorf("body %q, want %q", a.Body, prose2)
	}
}

func TestPageTitleWithoutSite(t *testing.T) {
	for head, want := range map[string]string{
		`<meta property="og:title" content="Die Wahl - was nun? - Talbote"><meta property="og:site_name" content="Talbote">`: "Die Wahl - was nun?",
		`<title>Die Wahl | Politik | Talbote</title>`:                                                  "Die Wahl",
		`<title>Russland gewinnt nicht - EU kann fordern</title>`:                                      "Russland gewinnt nicht - EU kann fordern",
		`<title>Die Wahl – a.example</title>`:                                                          "Die Wahl",
		`<meta property="og:title" content="Tom &amp;amp; Jerry"><title>Anders</title>`:                "Tom & Jerry",
		`<script type="application/ld+json">{"@type":"NewsArticle","headline":"LD &amp; Co"}</script>`: "LD & Co",
	} {
		html := `<html><head><link rel="canonical" href="https://www.a.example/wahl">` + head + `</head><body><article><p>` + prose1 + `</p></article></body></html>`
		if a := readTestPage(t, html); a.Title != want {
			t.Errorf("%s: title %q, want %q", head, a.Title, want)
		}
	}
}

func TestPageAddress(t *testing.T) {
	body := `</head><body><article><h1>Titel</h1><p>` + prose1 + `</p></article></body></html>`
	for head, want := range map[string]string{
		`<link rel="canonical" href="https://a.example/1?utm_source=x">`:                                                 "https://a.example/1",
		`<meta property="og:url" content="https://a.example/2">`:                                                         "https://a.example/2",
		`<script type="application/ld+json">{"@type":"Article","headline":"Titel","url":"https://a.example/3"}</script>`: "https://a.example/3",
		`<link rel="canonical" href="https://a.example/"><meta property="og:url" content="https://a.example/4">`:         "https://a.example/4",
	} {
		if a := readTestPage(t, "<html><head>"+head+body); a.URL != want {
			t.Errorf("%s: URL %q, want %q", head, a.URL, want)
		}
	}
	_, err := ReadPage("seite.html", strings.NewReader("<html><head>"+body), testSource, testNow)
	if err == nil || !strings.Contains(err.Error(), "seite.html") || !strings.Contains(err.Error(), "canonical") {
		t.Errorf("page without address: %v", err)
	}
}

// Of an article that is not free, what the page hides is not read, neither from the HTML nor from the data beside it.
func TestPagePaywall(t *testing.T) {
	html := strings.Replace(pageHead, "</head>", `<script type="application/ld+json">{"@type": "NewsArticle", "headline": "Titel",
		"isAccessibleForFree": "False", "articleBody": "PAID", "hasPart": {"@type": "WebPageElement", "isAccessibleForFree": false,
		"cssSelector": ".paid"}}</script></head>`, 1) + "<p>" + prose1 + "</p><div class='text paid'><p>PAID " + prose2 + "</p></div></article>"
	if a := readTestPage(t, html); strings.Contains(a.Teaser+a.Body, "PAID") || a.Teaser+a.Body != prose1 {
		t.Errorf("paid text was read: %q %q", a.Teaser, a.Body)
	}
}

// An article whose text is in the data only, as on pages that scripts build.
func TestPageArticleBody(t *testing.T) {
	html := `<html><head><script type="application/ld+json">{"@type":"NewsArticle","headline":"Titel","url":"https://a.example/1",
		"articleBody":"Bonn (KNA) Der Text.\n\nEin *zweiter* Absatz & mehr.","author":[{"name":"KNA"}],"description":"Anriss."}</script></head><body></body></html>`
	a := readTestPage(t, html)
	if want := "Der Text.\n\nEin \\*zweiter* Absatz & mehr."; a.Body != want || a.Agency != "KNA" || a.Place != "Bonn" {
		t.Errorf("body %q, want %q; agency %q, place %q", a.Body, want, a.Agency, a.Place)
	}
}

func TestPageRefused(t *testing.T) {
	for name, html := range map[string]string{
		"leer.html":  "",
		"start.html": `<html><head><title>Start</title><link rel="canonical" href="https://a.example/"></head><body><a href="/1">Eins</a></body></html>`,
		"tief.html":  strings.Repeat("<div>", 5000),
	} {
		_, err := ReadPage(name, strings.NewReader(html), testSource, testNow)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestSplitCredit(t *testing.T) {
	for in, want := range map[string][2]string{
		"Das Rathaus. (Archivbild) Foto: Max Muster/dpa": {"Das Rathaus. (Archivbild)", "Max Muster/dpa"},
		"Das Rathaus © Max Muster":                       {"Das Rathaus", "Max Muster"},
		"Das Rathaus (Foto: Max Muster)":                 {"Das Rathaus", "Max Muster"},
		"Das Rathaus. | Bild: dpa":                       {"Das Rathaus.", "dpa"},
		"Foto: dpa":                                      {"", "dpa"},
		"Ein Bild von einem Rathaus":                     {"Ein Bild von einem Rathaus", ""},
		"Town hall. Photo: Jane Doe":                     {"Town hall.", "Jane Doe"},
		"":                                               {"", ""},
	} {
		if text, credit := splitCredit(in); text != want[0] || credit != want[1] {
			t.Errorf("splitCredit(%q) = %q, %q, want %q", in, text, credit, want)
		}
	}
	if got := creditText("Foto: © dpa"); got != "dpa" {
		t.Errorf("creditText = %q", got)
	}
}
