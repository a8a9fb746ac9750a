package ingest

import "testing"

func TestCanonical(t *testing.T) {
	base, err := parseAddress("https://a.example/x/y", nil)
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"https://a.example/1?utm_source=x&id=2&utm_medium=y#top": "https://a.example/1?id=2",
		"https://a.example/1?b=2&a=1&gclid=3":                    "https://a.example/1?b=2&a=1",
		"https://a.example/1?ref=rss&partner=rss&emc=rss":        "https://a.example/1",
		"https://a.example/1?ref=kapitel-3":                      "https://a.example/1?ref=kapitel-3",
		"https://a.example/1?at_medium=RSS&xtor=RSS-1&wt_zmc=2":  "https://a.example/1",
		"https://a.example/1?q=a%26b&MC_cid=1":                   "https://a.example/1?q=a%26b",
		"HTTP://A.Example:80/Pfad":                               "http://a.example/Pfad",
		"https://a.example:8443/1":                               "https://a.example:8443/1",
		"https://münchen.example/rat":                            "https://xn--mnchen-3ya.example/rat",
		"https://a.example/stra\nße":                             "https://a.example/stra%C3%9Fe",
		" z ":                                                    "https://a.example/x/z",
		"/z":                                                     "https://a.example/z",
		"//b.example/z":                                          "https://b.example/z",
		"https://[2001:db8::1]/z":                                "https://[2001:db8::1]/z",
	} {
		if got, err := canonical(in, base); got != want || err != nil {
			t.Errorf("canonical(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", "javascript:alert(1)", "java\tscript:alert(1)", "data:text/html,x", "mailto:a@b.example", "tag:a.example,2026:1", "ftp://a.example/",
		"https://u:p@a.example/", "https://", "https://a b.example/", "http://a..example/", "https://a.example:port/", "https://[::1/",
	} {
		if got, err := canonical(in, base); err == nil {
			t.Errorf("canonical(%q) = %q, want an error", in, got)
		}
	}
}
