package render

import (
	"slices"
	"strings"
	"testing"
)

func TestLint(t *testing.T) {
	for _, c := range []struct {
		html string
		want []string
	}{
		{`<p style="color:#000;background-color:#fff">gut</p><a href="https://a.example">x</a><a href="mailto:a@b.example">y</a>`, nil},
		{`<a href="http://127.0.0.1:8080/u">x</a><a href="http://localhost/p">y</a>`, nil},
		{`<a href="http://a.example/">x</a>`, []string{"link is not https: http://a.example/"}},
		{`<a href="/u">x</a><a>y</a>`, []string{`link is not absolute: "/u"`, `link is not absolute: ""`}},
		{`<img src="https://a.example/b.jpg">`, []string{
			"picture https://a.example/b.jpg has no alt", "picture https://a.example/b.jpg has no width",
		}},
		{`<img src="https://a.example/b.webp?x" alt="" width="1">`, []string{
			"picture https://a.example/b.webp?x: Outlook does not show .webp",
		}},
		{`<p style="display: none">x</p>`, []string{"<p> has display: none"}},
		{`<p style="font-size:0;opacity:0">x</p>`, []string{"<p> has font-size: 0", "<p> has opacity: 0"}},
		{`<div style="display:flex;margin:1rem;width:var(--x)">`, []string{
			"<div> has display: flex", "<div> has margin: 1rem", "<div> has width: var(--x)",
		}},
		{`<p style="color:#fff">x</p>`, []string{"<p> has a text colour without a background colour"}},
		{`<form><button onclick="x">`, []string{
			"<form> does not work in mail", "<button> does not work in mail", "<button onclick> is a script",
		}},
		{`a&zwnj;b`, []string{`zero-width padding ("&zwnj;")`}},
		{`<a href="https://a.example/1">weiterlesen</a> <a href="https://a.example/2">weiter<b>lesen</b></a>`, []string{
			`two links read "weiterlesen" and lead to different places`,
		}},
		{strings.Repeat("x", 100_001), []string{
			"HTML has 100001 bytes, more than 100000: Gmail will clip it",
			"HTML has 104000 bytes in quoted-printable, more than 100000: Gmail will clip it",
		}},
		{strings.Repeat("ü", 30_000), []string{"HTML has 187197 bytes in quoted-printable, more than 100000: Gmail will clip it"}},
	} {
		if got := Lint(Body{HTML: c.html}); !slices.Equal(got, c.want) {
			t.Errorf("Lint(%.60q) = %q, want %q", c.html, got, c.want)
		}
	}
}
