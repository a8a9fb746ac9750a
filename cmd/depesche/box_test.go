package main

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"depesche/subscribers"
)

const boxPath = "/ukraine-krieg/eu-chefdiplomatin.html"

// newspaper serves the seed page at an origin of its own, with our box in the place of its own, under a policy as strict as
// /embed says. At /own the page has its own form.
func newspaper(t *testing.T, pages *string) *httptest.Server {
	t.Helper()
	seed, err := os.ReadFile(filepath.Join(fixtures(t), "seed", "article.html"))
	if err != nil {
		t.Fatal(err)
	}
	form := regexp.MustCompile(`(?s)<form method="post".*?</form>\s*<p><small>.*?</small></p>`)
	if !form.Match(seed) {
		t.Fatal("the seed page has no form")
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", strings.ReplaceAll(
			"default-src 'none'; form-action PAGES; style-src PAGES; script-src PAGES; connect-src PAGES", "PAGES", *pages))
		if r.URL.Path == "/own" {
			_, _ = w.Write([]byte(strings.Replace(string(seed), "https://newsletter.wnoz.example", *pages, 1)))
			return
		}
		_, _ = w.Write(form.ReplaceAllLiteral(seed, []byte(snippets(*pages))))
	}))
	t.Cleanup(server.Close)
	return server
}

// snippets are what /embed wants copied: the box, and its looks and script.
func snippets(pages string) string {
	shown, err := page(http.Get(pages + "/embed?newsletter=morgen"))
	if err != nil {
		return err.Error()
	}
	found := regexp.MustCompile(`(?s)<pre><code>(.*?)</code></pre>`).FindAllStringSubmatch(shown, 2)
	return html.UnescapeString(found[0][1] + "\n" + found[1][1])
}

func scripts(t *testing.T, ctx context.Context, on bool) {
	t.Helper()
	if _, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on}); err != nil {
		t.Fatal(err)
	}
}

// wantRequest wants the proof to say on which page the reader signed up, and which words were shown there.
func (n *town) wantRequest(address, page, words, unknown string) {
	n.t.Helper()
	out, _ := n.depesche("", 0, "subscriber", "proof", address, "--json")
	var proof subscribers.Proof
	if err := json.Unmarshal([]byte(out), &proof); err != nil {
		n.t.Fatal(err)
	}
	e := proof.Events[0]
	text := ""
	if e.Wording != nil {
		text = e.Wording.Text
	}
	if e.Particulars.Page != page || !strings.Contains(text, words) || (words == "") != (text == "") || e.Particulars.Unknown != unknown {
		n.t.Errorf("signed up on %q with the words %q (unknown: %q), want %q, %q and %q", e.Particulars.Page, text, e.Particulars.Unknown, page, words, unknown)
	}
}

// The box in the page this product was ordered for, which is at another origin than our pages: without JavaScript it leads to
// a page, with it the answer is in place, and what is proved are its words and its page.
func TestBoxInTheSeedPage(t *testing.T) {
	ctx := browser(t)
	var pages string
	news := newspaper(t, &pages)
	town := newPaper(t, news.URL)
	pages = town.pages
	town.serve(ingestAt)
	const words = "Mit Ihrer Registrierung nehmen Sie die Datenschutzerklärung"

	t.Run("without JavaScript", func(t *testing.T) {
		scripts(t, ctx, false)
		do(t, ctx, chromedp.Navigate(news.URL+boxPath), chromedp.WaitVisible(".depesche button"),
			chromedp.SendKeys(".depesche input[type=email]", "anna@reader.test"), chromedp.Click(".depesche button"), chromedp.WaitReady("main [role=status]"))
		if at := read(t, ctx, chromedp.Location()); !strings.HasPrefix(at, town.pages+"/check-your-mail") {
			t.Errorf("the form leads to %s", at)
		}
		town.wait("anna@reader.test", 1)
		town.wantRequest("anna@reader.test", news.URL+"/", "Mit der Anmeldung willigen Sie ein", "")
		scripts(t, ctx, true)
	})
	t.Run("with JavaScript", func(t *testing.T) {
		do(t, ctx, chromedp.Navigate(news.URL+boxPath+"?session=1"), chromedp.WaitVisible(".depesche button"),
			chromedp.SendKeys(".depesche input[type=email]", "berta@reader"), chromedp.Click(".depesche button"),
			chromedp.WaitVisible(".depesche input[aria-invalid=true]"))
		if said := read(t, ctx, chromedp.Text("label + .depesche-error")); !strings.Contains(said, "fehlt die Endung") {
			t.Errorf("the box says %q", said)
		}
		boxLooks(t, ctx, "box-error")
		do(t, ctx, chromedp.SendKeys(".depesche input[type=email]", ".test"), chromedp.Click(".depesche summary"),
			chromedp.Click(`.depesche input[value="sport"]`))
		boxLooks(t, ctx, "box-open")
		do(t, ctx, chromedp.Click(".depesche button"), chromedp.WaitNotVisible(".depesche form"))
		if said := read(t, ctx, chromedp.Text(".depesche-answer")); !strings.Contains(said, "sehen Sie in Ihr Postfach") {
			t.Errorf("the box says %q", said)
		}
		if at := read(t, ctx, chromedp.Location()); at != news.URL+boxPath+"?session=1" {
			t.Errorf("the answer is at %s, want it in place", at)
		}
		if focus := read(t, ctx, chromedp.Evaluate[string](`document.activeElement.className`)); focus != "depesche-answer" {
			t.Errorf("the focus is on %q, want the answer", focus)
		}
		boxLooks(t, ctx, "box-answer")
		if mail := town.wait("berta@reader.test", 1); !strings.Contains(mail.Text, "Sport") || strings.Contains(mail.Text, "Politik") {
			t.Errorf("the letter is not about sport alone:\n%s", mail.Text)
		}
		town.wantRequest("berta@reader.test", news.URL+boxPath, words, "")
	})
	t.Run("the page's own form", func(t *testing.T) {
		do(t, ctx, chromedp.Navigate(news.URL+"/own"), chromedp.WaitVisible(".newsletter-box button"),
			chromedp.SendKeys(".newsletter-box input", "clara@reader.test"), chromedp.Click(".newsletter-box button"), chromedp.WaitReady("main [role=status]"))
		town.wait("clara@reader.test", 1)
		town.wantRequest("clara@reader.test", news.URL+"/", "", "none given")
	})
	t.Run("a foreign origin", func(t *testing.T) {
		other := newspaper(t, &pages)
		do(t, ctx, chromedp.Navigate(other.URL+boxPath), chromedp.WaitVisible(".depesche button"),
			chromedp.SendKeys(".depesche input[type=email]", "dora@reader.test"), chromedp.Click(".depesche button"), chromedp.WaitReady("footer a[href^=mailto]"))
		if title := read(t, ctx, chromedp.Title()); !strings.Contains(title, "Das ging nicht") {
			t.Errorf("the form leads to the page %q", title)
		}
		if mails := town.mails("dora@reader.test"); len(mails) > 0 {
			t.Errorf("a form on a foreign page brings %d letters", len(mails))
		}
	})
}

// boxLooks judges the box in the paper's page.
func boxLooks(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	read(t, ctx, chromedp.Evaluate[bool](axe+";true"))
	for _, width := range []int64{320, 1280} {
		do(t, ctx, chromedp.EmulateViewport(width, 900))
		script := strings.Replace(violations, "axe.run(document", "axe.run(document.querySelector('.depesche')", 1)
		for _, fault := range read(t, ctx, chromedp.Evaluate[[]string](script, chromedp.EvalAwaitPromise)) {
			t.Errorf("%s at %d: %s", name, width, fault)
		}
		if over := read(t, ctx, chromedp.Evaluate[int](`(e => e.scrollWidth - e.clientWidth)(document.querySelector(".depesche"))`)); over > 0 {
			t.Errorf("%s at %d: %d pixels run over the edge", name, width, over)
		}
		if folder := os.Getenv("DEPESCHE_LOOKS"); folder != "" {
			keepLook(t, ctx, filepath.Join(folder, fmt.Sprintf("%s-%d.png", name, width)))
		}
	}
}

// keyboard is a person without a mouse.
type keyboard struct {
	t   *testing.T
	ctx context.Context
}

// to presses Tab until the focus is there, and wants to see at every stop where it is.
func (k keyboard) to(selector string) {
	k.t.Helper()
	var stops []string
	for range 40 {
		do(k.t, k.ctx, chromedp.KeyEvent(kb.Tab))
		seen := read(k.t, k.ctx, chromedp.Evaluate[string](`(e => {
			const style = getComputedStyle(e), box = e.getBoundingClientRect();
			const shown = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
			const inView = box.top >= 0 && box.bottom <= innerHeight && box.width > 0;
			return (shown ? "" : "unseen ") + (inView ? "" : "hidden ") + e.outerHTML.slice(0, 80);
		})(document.activeElement)`))
		if strings.HasPrefix(seen, "unseen ") || strings.HasPrefix(seen, "hidden ") {
			k.t.Errorf("the focus cannot be seen: %s", seen)
		}
		if read(k.t, k.ctx, chromedp.Evaluate[bool](fmt.Sprintf(`document.activeElement.matches(%q)`, selector))) {
			return
		}
		stops = append(stops, seen)
	}
	k.t.Fatalf("Tab does not lead to %s but to %q", selector, stops)
}

func (k keyboard) key(key string) {
	k.t.Helper()
	do(k.t, k.ctx, chromedp.KeyEvent(key))
}

// enter presses Enter, which leads to another page.
func (k keyboard) enter() {
	k.t.Helper()
	read(k.t, k.ctx, chromedp.Evaluate[bool](`document.documentElement.dataset.old = "1"; true`))
	do(k.t, k.ctx, chromedp.KeyEvent(kb.Enter), chromedp.WaitNotPresent("html[data-old]"), chromedp.WaitReady("footer"))
}

// The whole way without a mouse: every stop can be seen, nothing traps the focus, and each page does what it is for.
func TestKeyboardOnly(t *testing.T) {
	ctx := browser(t)
	town := newPaper(t, "http://127.0.0.1:2")
	town.serve(ingestAt)
	k := keyboard{t, ctx}
	const reader = "anna@reader.test"

	visit(t, ctx, town.pages+"/")
	k.to("#email")
	k.key("anna")
	k.enter()
	wantFocus(t, ctx, "summary")
	k.to(`#summary a`)
	k.to("#email") // what is in it is selected
	k.key(reader)
	k.to(`input[value="sport"]`)
	k.key(" ")
	k.to("button")
	k.enter()
	if at := read(t, ctx, chromedp.Location()); !strings.Contains(at, "/check-your-mail") {
		t.Fatalf("the form leads to %s", at)
	}
	visit(t, ctx, town.linkTo("confirm", town.wait(reader, 1).Text))
	k.to("button")
	k.enter()
	if town.active() != 1 {
		t.Fatal("the reader is not active")
	}
	k.to(`a[href^="/preferences/"]`)
	k.enter()
	k.to(`input[value="politik"]`)
	k.key(" ")
	k.to("button")
	k.enter()
	if saved := read(t, ctx, chromedp.Evaluate[int](`document.querySelectorAll("input:checked").length`)); saved != 2 {
		t.Errorf("%d topics are saved, want 2", saved)
	}
	k.to(`a[href^="/pause/"]`)
	k.enter()
	k.to(`button[value="1"]`)
	k.enter()
	k.to(`button[name="end"]`)
	k.enter()
	k.to(`a[href^="/preferences/"]`)
	k.enter()
	k.to(`a[href^="/address/"]`)
	k.enter()
	k.to("#email")
	k.key("berta@reader.test")
	k.enter()
	town.wait("berta@reader.test", 1)
	k.to(`a[href^="/preferences/"]`)
	k.enter()
	k.to(`a[href^="/unsubscribe/"]`)
	k.enter()
	k.to("button")
	k.enter()
	if town.active() != 0 {
		t.Error("the reader is still active")
	}
	k.to("button")
	k.enter()
	if town.active() != 1 {
		t.Error("the undo did nothing")
	}
}
