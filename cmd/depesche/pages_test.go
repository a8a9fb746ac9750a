package main

import (
	"context"
	_ "embed"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// axe finds what keeps people with disabilities out: axe-core 4.14.1 as published (MPL-2.0, see the licence beside it).
//
//go:embed testdata/axe-core/axe.min.js
var axe string

// pagesConfig is a paper with a German and an English newsletter, a logo, promises, and pages of its own at another origin.
const pagesConfig = `
language: de
base_url: http://127.0.0.1:1
publisher:
  name: Talbote Verlag GmbH
  paper: Talbote
  address: Am Markt 3, 99999 Ahornfurt
  email: redaktion@talbote.test
  responsible: Jana Reuter
  privacy_url: https://www.talbote.test/datenschutz
  imprint_url: https://www.talbote.test/impressum
  colour: "#8a1538"
  logo_file: logo.svg
pages: {origins: ["http://127.0.0.1:2"]}
senders:
  newsletter: {from: morgen@talbote.test}
  letter: {from: leserservice@talbote.test}
smtp: {host: 127.0.0.1, port: 1, tls: none}
signups: {min_fill: 1ns}
sources:
  - {name: wire, path: wire, rights: teaser, pictures: yes}
topics:
  - {slug: ukraine, name: Krieg in der Ukraine, promise: "Was an der Front und in der Diplomatie geschieht."}
  - {slug: politik, name: Politik, aliases: [Stadtrat], promise: "Rat, Land und Bund, mit den Grundstücksverkehrsgenehmigungszuständigkeiten."}
  - {slug: sport, name: Sport}
newsletters:
  - {slug: morgen, title: Talbote am Morgen, promise: Jeden Morgen um sechs., topics: [ukraine, politik, sport]}
  - {slug: world, title: Talbote World, promise: The region in English., language: en, topics: [politik, sport]}
`

const logoFile = `<svg xmlns="http://www.w3.org/2000/svg" width="240" height="48" viewBox="0 0 240 48"><title>Talbote</title>` +
	`<rect width="240" height="48" fill="#8a1538"/><path d="M12 10h40v8H36v22h-8V18H12z" fill="#fff"/></svg>`

// newPaper is a town with pagesConfig whose pages may be at one more origin.
func newPaper(t *testing.T, origin string) *town {
	t.Helper()
	town := newTown(t, "")
	town.write("depesche.yaml", strings.Replace(pagesConfig, "http://127.0.0.1:2", origin, 1))
	town.write("logo.svg", logoFile)
	return town
}

// violations are axe's findings for everything it knows, as "rule: element".
const violations = `axe.run(document, {resultTypes: ["violations"]}).then(r => r.violations.flatMap(v => v.nodes.map(n =>
	v.id + ": " + n.target.join(" ") + " (" + v.help + ")")))`

// grave are faults no page may have; axe does not look for all of them.
const grave = `(() => {
	const found = [], all = s => [...document.querySelectorAll(s)];
	if (!/^(de|en)$/.test(document.documentElement.lang)) found.push("no language");
	if (!document.title.trim()) found.push("no title");
	if (all("h1").length !== 1) found.push(all("h1").length + " first headings");
	for (const e of all("header, main, footer")) if (e.parentElement !== document.body) found.push("a landmark inside another");
	if (all("header").length !== 1 || all("main").length !== 1 || all("footer").length !== 1) found.push("landmarks are missing");
	if (!document.querySelector('footer a[href^="mailto:"]')) found.push("no contact in the footer");
	for (const e of performance.getEntriesByType("resource"))
		if (new URL(e.name).origin !== location.origin) found.push("a foreign resource: " + e.name);
	if (document.cookie) found.push("a cookie");
	for (const e of all("a[href], button, input:not([type=hidden]), summary")) {
		const box = e.getBoundingClientRect();
		const inText = e.tagName === "A" && e.parentElement.matches("p, small, label") && !e.closest("footer");
		if (!e.closest("[hidden], [aria-hidden=true]") && box.height && !inText && !e.matches("[type=checkbox], [type=radio]") &&
			(box.height < 24 || box.width < 24)) found.push("a target of " + box.width + " by " + box.height + ": " + e.outerHTML.slice(0, 60));
	}
	return found;
})()`

// looks judges the page the browser shows: at three widths, by day and by night, and at twice its size.
func looks(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	check := func(what string, scripts ...string) {
		t.Helper()
		if over := read(t, ctx, chromedp.Evaluate[int](`document.documentElement.scrollWidth - window.innerWidth`)); over > 0 {
			t.Errorf("%s: %d pixels run over the edge", what, over)
		}
		for _, script := range append(scripts, faults, grave) {
			for _, fault := range read(t, ctx, chromedp.Evaluate[[]string](script, chromedp.EvalAwaitPromise)) {
				t.Errorf("%s: %s", what, fault)
			}
		}
		if folder := os.Getenv("DEPESCHE_LOOKS"); folder != "" {
			keepLook(t, ctx, filepath.Join(folder, "page-"+what+".png"))
		}
	}
	read(t, ctx, chromedp.Evaluate[bool](axe+";true"))
	for _, scheme := range []string{"light", "dark"} {
		params := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}
		if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, params); err != nil {
			t.Fatal(err)
		}
		for _, width := range []int64{320, 375, 1280} {
			do(t, ctx, chromedp.EmulateViewport(width, 900))
			what := fmt.Sprintf("%s-%d-%s", name, width, scheme)
			if width == 375 {
				check(what)
				continue
			}
			check(what, violations)
		}
	}
	// Twice as large (WCAG 2.2, 1.4.4): the whole page, as browsers do it, and the text alone.
	do(t, ctx, chromedp.EmulateViewport(640, 450, chromedp.EmulateScale(2)))
	check(name + "-zoomed")
	do(t, ctx, chromedp.EmulateViewport(1280, 900))
	read(t, ctx, chromedp.Evaluate[bool](`document.documentElement.style.fontSize = "200%"; true`))
	check(name + "-large-text")
	read(t, ctx, chromedp.Evaluate[bool](`document.documentElement.style.fontSize = ""; true`))
}

// visit opens a page.
func visit(t *testing.T, ctx context.Context, address string) {
	t.Helper()
	do(t, ctx, chromedp.Navigate(address), chromedp.WaitReady("footer"))
}

// click presses a button that leads to another page, and waits for that.
func click(t *testing.T, ctx context.Context, button string) {
	t.Helper()
	read(t, ctx, chromedp.Evaluate[bool](`document.documentElement.dataset.old = "1"; true`))
	do(t, ctx, chromedp.Click(button), chromedp.WaitNotPresent("html[data-old]"), chromedp.WaitReady("footer"))
}

// wantFocus wants an element to have the focus as soon as the page is laid out.
func wantFocus(t *testing.T, ctx context.Context, id string) {
	t.Helper()
	focused := fmt.Sprintf(`new Promise(done => {
		const look = left => (document.activeElement || {}).id === %q || left === 0 ? done(left > 0) : requestAnimationFrame(() => look(left - 1));
		look(100);
	})`, id)
	if !read(t, ctx, chromedp.Evaluate[bool](focused, chromedp.EvalAwaitPromise)) {
		t.Errorf("the focus is not on #%s", id)
	}
}

// link is the address a link or a form on the page leads to.
func link(t *testing.T, ctx context.Context, selector string) string {
	t.Helper()
	return read(t, ctx, chromedp.Evaluate[string](fmt.Sprintf(`(e => e.href || e.action)(document.querySelector(%q))`, selector)))
}

// Every page in every state, in both languages, as people see it.
func TestPagesInTheBrowser(t *testing.T) {
	for _, test := range []struct{ newsletter, sent, other string }{
		{"morgen", "Postfach", "Fehler: "},
		{"world", "mailbox", "Error: "},
	} {
		t.Run(test.newsletter, func(t *testing.T) {
			ctx := browser(t)
			town := newPaper(t, "http://127.0.0.1:2")
			town.serve(ingestAt)
			titles := map[string]string{}
			state := func(name string) {
				t.Helper()
				title := read(t, ctx, chromedp.Title())
				if other := titles[title]; other != "" {
					t.Errorf("the pages %s and %s have the same title %q", other, name, title)
				}
				titles[title] = name
				looks(t, ctx, test.newsletter+"-"+name)
			}
			again := func(name string) { // a state whose title may be that of another
				t.Helper()
				looks(t, ctx, test.newsletter+"-"+name)
			}
			const reader, second = "anna@reader.test", "berta@reader.test"

			visit(t, ctx, town.pages+"/embed?newsletter="+test.newsletter)
			state("embed")
			visit(t, ctx, town.pages+"/?newsletter="+test.newsletter)
			state("form")
			do(t, ctx, chromedp.SendKeys("#email", "anna"))
			click(t, ctx, "main button")
			wantFocus(t, ctx, "summary")
			state("form-error")
			do(t, ctx, chromedp.SetValue("#email", reader), chromedp.Click(`input[value="sport"]`))
			click(t, ctx, "main button")
			state("check-your-mail")
			confirm := town.linkTo("confirm", town.wait(reader, 1).Text)
			visit(t, ctx, confirm)
			state("confirm")
			click(t, ctx, "main button")
			state("confirmed")

			town.article("rathaus", "Politik", "2026-02-11T04:00:00+01:00", "")
			town.article("derby", "Sport", "2026-02-11T04:00:00+01:00", "")
			town.depesche(runAt, 0, "run")
			visit(t, ctx, town.linkTo("preferences", town.wait(reader, 2).Text))
			preferences := read(t, ctx, chromedp.Location())
			state("preferences")
			click(t, ctx, "main button")
			again("preferences-saved")
			do(t, ctx, chromedp.Click(`input[value="sport"]`))
			click(t, ctx, "main button")
			state("preferences-error")
			visit(t, ctx, preferences)
			pause, address := link(t, ctx, `a[href^="/pause/"]`), link(t, ctx, `a[href^="/address/"]`)
			unsubscribe, ask := link(t, ctx, `a[href^="/unsubscribe/"]`), link(t, ctx, `a[href^="/data/"]`)

			visit(t, ctx, ask)
			state("ask-data")
			click(t, ctx, "main button")
			again("data-asked")
			mine := town.linkTo("my-data", town.wait(reader, 3).Text)
			visit(t, ctx, mine)
			state("my-data")

			visit(t, ctx, pause)
			state("pause")
			read(t, ctx, chromedp.Evaluate[bool](`document.querySelector("form").noValidate = true`))
			click(t, ctx, "main button")
			state("pause-error")
			click(t, ctx, `button[value="2"]`)
			again("pause-saved")
			visit(t, ctx, pause)
			again("paused")
			visit(t, ctx, preferences)
			again("preferences-paused")
			visit(t, ctx, pause)
			click(t, ctx, `button[name="end"]`)

			visit(t, ctx, address)
			state("address")
			click(t, ctx, "main button")
			state("address-error")
			do(t, ctx, chromedp.SendKeys("#email", second))
			click(t, ctx, "main button")
			state("address-sent")
			visit(t, ctx, town.linkTo("confirm", town.wait(second, 1).Text))
			state("address-confirm")

			visit(t, ctx, unsubscribe)
			state("unsubscribe")
			click(t, ctx, "main button")
			state("unsubscribed")
			click(t, ctx, "main button")
			state("resumed")

			visit(t, ctx, town.pages+"/nothing")
			again("404")
			visit(t, ctx, strings.Replace(confirm, "/confirm/", "/resume/", 1)) // a page that can only be pressed
			again("405")
			foreign := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = fmt.Fprintf(w, `<!doctype html><title>x</title><form method="post" action="%s/subscribe"><button>x</button></form>`, town.pages)
			}))
			defer foreign.Close()
			do(t, ctx, chromedp.Navigate(foreign.URL))
			click(t, ctx, "button")
			again("403")

			visit(t, ctx, unsubscribe)
			click(t, ctx, "main button")
			visit(t, ctx, preferences)
			state("expired")
			visit(t, ctx, town.pages+"/?newsletter="+test.newsletter)
			for range 12 {
				_, _ = page(http.PostForm(town.pages+"/subscribe", url.Values{"email": {"x"}}))
			}
			do(t, ctx, chromedp.SendKeys("#email", reader))
			click(t, ctx, "main button")
			again("429")
			visit(t, ctx, mine)
			if read(t, ctx, chromedp.Evaluate[bool](`document.querySelector('button[value="erase"]') !== null`)) {
				click(t, ctx, `button[value="erase"]`)
				state("erased")
			}
			town.exec(`DROP VIEW audience`)
			town.exec(`DROP VIEW correspondence`)
			town.exec(`ALTER TABLE suppressions RENAME TO nowhere`)
			visit(t, ctx, preferences)
			state("500")
		})
	}
}
