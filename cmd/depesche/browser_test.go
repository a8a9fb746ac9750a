package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// browser starts Chromium with a profile of its own. Where it is not installed the test is skipped, or fails in CI.
func browser(t *testing.T) context.Context {
	t.Helper()
	if _, err := exec.LookPath("chromium"); err != nil {
		absent(t, "chromium is not installed; no page was looked at in a browser (Debian: apt-get install chromium)")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.ExecPath("chromium"),
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true))
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits until Chromium has let go of its profile
		cancel()
	})
	do(t, ctx) // starts it: what was never started cannot be waited for
	return ctx
}

// do takes steps in the browser.
func do(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

// read asks the browser for something.
func read[T any](t *testing.T, ctx context.Context, action chromedp.Action[T]) T {
	t.Helper()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// A reader's way, in a browser: form, mailbox, button, topics, digest, and out again with one click from the mail.
func TestReaderInTheBrowser(t *testing.T) {
	ctx := browser(t)
	town := newTown(t, "")
	town.serve(ingestAt)
	inbox := httptest.NewServer(town.mailbox.Handler())
	t.Cleanup(inbox.Close)
	const reader = "anna@reader.test"

	do(t, ctx, chromedp.Navigate(town.pages+"/"), chromedp.SendKeys("#email", "anna"), chromedp.Click("main button"),
		chromedp.WaitVisible("#email-error"))
	if text := read(t, ctx, chromedp.Text("#email-error")); !strings.Contains(text, "@") {
		t.Errorf("the error says %q, want what is missing", text)
	}
	if value := read(t, ctx, chromedp.Value("#email")); value != "anna" {
		t.Errorf("after an error the field holds %q, want what was typed", value)
	}
	do(t, ctx, chromedp.SetValue("#email", reader), chromedp.Click(`input[value="sport"]`), chromedp.Click("main button"),
		chromedp.WaitVisible("main [role=status]"))
	town.wait(reader, 1)

	do(t, ctx, chromedp.Navigate(openMail(t, ctx, inbox.URL, 1, "/confirm/")), chromedp.WaitVisible("main button"))
	if n := read(t, ctx, chromedp.Evaluate[int](`document.querySelectorAll("button").length`)); n != 1 {
		t.Errorf("the confirmation page has %d buttons, want one", n)
	}
	if got := town.active(); got != 0 {
		t.Errorf("before the button is pressed %d readers are active", got)
	}
	do(t, ctx, chromedp.Click("main button"), chromedp.WaitVisible(".done"))
	if got := town.active(); got != 1 {
		t.Errorf("after the button was pressed %d readers are active, want 1", got)
	}

	town.article("haushalt", "Politik", "2026-02-11T04:00:00+01:00", "")
	town.article("derby", "Sport", "2026-02-11T04:00:00+01:00", "")
	town.depesche(runAt, 0, "run")
	digest := town.wait(reader, 2)
	if !strings.Contains(digest.Text, "/derby") || strings.Contains(digest.Text, "/haushalt") {
		t.Errorf("the first digest must have sport and nothing else:\n%s", digest.Text)
	}
	do(t, ctx, chromedp.Navigate(openMail(t, ctx, inbox.URL, digest.ID, "/preferences/")), chromedp.WaitVisible("fieldset"),
		chromedp.Click(`input[value="politik"]`), chromedp.Click(`input[value="sport"]`), chromedp.Click("main button"),
		chromedp.WaitVisible(".done"))
	town.article("rathaus", "Politik", "2026-02-12T04:00:00+01:00", "")
	town.article("pokal", "Sport", "2026-02-12T04:00:00+01:00", "")
	town.depesche("2026-02-12T06:00:00+01:00", 0, "run")
	second := town.wait(reader, 3)
	if !strings.Contains(second.Text, "/rathaus") || strings.Contains(second.Text, "/pokal") {
		t.Errorf("the second digest must follow the new choice:\n%s", second.Text)
	}

	do(t, ctx, chromedp.Navigate(openMail(t, ctx, inbox.URL, second.ID, "/digest/")), chromedp.WaitReady("body"))
	if page := read(t, ctx, chromedp.OuterHTML("html")); strings.Contains(page, "/unsubscribe/") || strings.Contains(page, reader) {
		t.Error("the digest on the web holds something of the reader's")
	}
	do(t, ctx, chromedp.Navigate(openMail(t, ctx, inbox.URL, second.ID, "/unsubscribe/")), chromedp.WaitVisible("main button"),
		chromedp.Click("main button"), chromedp.WaitVisible(".done"))
	if got := town.active(); got != 0 {
		t.Errorf("after one click %d readers are active", got)
	}
	do(t, ctx, chromedp.Click("main button"), chromedp.WaitNotPresent("main button"), chromedp.WaitVisible(".done"))
	if got := town.active(); got != 1 {
		t.Errorf("after undoing it %d readers are active, want 1", got)
	}
}

// active counts the readers who may be mailed.
func (n *town) active() int {
	n.t.Helper()
	out, _ := n.depesche("", 0, "subscriber", "list", "--state", "active")
	return strings.Count(out, "\n")
}

// openMail opens a mail in the mailbox's page and gives the address of its link of that kind.
func openMail(t *testing.T, ctx context.Context, inbox string, id int, kind string) string {
	t.Helper()
	do(t, ctx, chromedp.Navigate(fmt.Sprintf("%s/mail/%d/html", inbox, id)), chromedp.WaitReady("body"))
	return read(t, ctx, chromedp.Evaluate[string](fmt.Sprintf(`document.querySelector('a[href*=%q]').href`, kind)))
}

// The seed page's mail at telephone and desktop width, light, dark, and with its <style> removed: nothing runs over the edge,
// the text is large enough, and what is text has contrast. Where DEPESCHE_LOOKS names a folder, pictures are kept there to look at.
func TestSeedMailInTheBrowser(t *testing.T) {
	folder := filepath.Join(fixtures(t), "seed")
	ctx := browser(t)
	town := newTown(t, "")
	town.serve(ingestAt)
	town.signUp("anna@reader.test")
	town.depesche(ingestAt, 0, "ingest", "--source", "wire", filepath.Join(folder, "article.html"))
	town.depesche(runAt, 0, "run")
	mail := town.wait("anna@reader.test", 2).HTML
	bare := regexp.MustCompile(`(?s)<style.*?</style>`).ReplaceAllString(mail, "")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if strings.HasSuffix(r.URL.Path, "bare") {
			_, _ = w.Write([]byte(bare))
			return
		}
		_, _ = w.Write([]byte(mail))
	}))
	t.Cleanup(server.Close)
	for _, width := range []int64{320, 375, 800} {
		for _, look := range []struct{ name, path, scheme string }{
			{"light", "/", "light"}, {"dark", "/", "dark"}, {"bare", "/bare", "light"}, {"bare-dark", "/bare", "dark"},
		} {
			params := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: look.scheme}}}
			if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, params); err != nil {
				t.Fatal(err)
			}
			do(t, ctx, chromedp.EmulateViewport(width, 900), chromedp.Navigate(server.URL+look.path), chromedp.WaitReady("body"))
			name := fmt.Sprintf("seed-%d-%s", width, look.name)
			if over := read(t, ctx, chromedp.Evaluate[int](`document.documentElement.scrollWidth - window.innerWidth`)); over > 0 {
				t.Errorf("%s: %d pixels run over the edge", name, over)
			}
			for _, fault := range read(t, ctx, chromedp.Evaluate[[]string](faults)) {
				t.Errorf("%s: %s", name, fault)
			}
			if folder := os.Getenv("DEPESCHE_LOOKS"); folder != "" {
				keepLook(t, ctx, filepath.Join(folder, name+".png"))
			}
		}
	}
}

func keepLook(t *testing.T, ctx context.Context, path string) {
	t.Helper()
	picture := read(t, ctx, chromedp.FullScreenshot(100))
	if err := os.WriteFile(path, picture, 0o600); err != nil {
		t.Fatal(err)
	}
}

// faults finds text that is too small or lacks contrast (WCAG 2.2, 1.4.3) against the nearest background that is set.
const faults = `(() => {
	const channels = c => c.match(/[\d.]+/g).map(Number);
	const linear = v => (v /= 255, v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
	const luminance = c => { const [r, g, b] = channels(c); return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b); };
	const ground = e => {
		for (; e; e = e.parentElement) {
			const c = getComputedStyle(e).backgroundColor;
			if (channels(c)[3] !== 0) return c;
		}
		return "rgb(255, 255, 255)";
	};
	const found = [];
	const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walker.nextNode()) {
		const text = walker.currentNode.data.trim();
		if (!text) continue;
		const e = walker.currentNode.parentElement, style = getComputedStyle(e);
		const [a, b] = [luminance(style.color), luminance(ground(e))].sort((x, y) => y - x);
		const contrast = (a + 0.05) / (b + 0.05);
		if (contrast < 4.5) found.push("contrast " + contrast.toFixed(2) + ": " + text.slice(0, 40));
		if (parseFloat(style.fontSize) < 13) found.push("size " + style.fontSize + ": " + text.slice(0, 40));
	}
	return found;
})()`
