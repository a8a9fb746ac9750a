package ingest

import "testing"

func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"Tom &amp; Jerry":                          "Tom & Jerry",
		"Tom &amp;amp; Jerry":                      "Tom & Jerry",
		"Caf\u00e9 &#8211; &quot;Bar&quot;":        "Café – \"Bar\"",
		"Cafe\u0301":                               "Café",
		"<p>Eins</p><p>Zwei</p>":                   "Eins Zwei",
		"Ein <b>fettes</b> Wort":                   "Ein fettes Wort",
		"Wort<br/>umbruch":                         "Wort umbruch",
		"1 < 2 > 0":                                "1 < 2 > 0",
		"3 <4":                                     "3 <4",
		"Kurs <unbekannt> steigt":                  "Kurs <unbekannt> steigt",
		"The <b> tag":                              "The <b> tag",
		"Ende <":                                   "Ende <",
		"Ende <abc":                                "Ende <abc",
		"vor<script>alert(1)</script>nach":         "vornach",
		"<style>p{}</style>Text":                   "Text",
		"a<!-- weg -->b":                           "ab",
		"zwei\r\nZeilen\tund\u00a0mehr":            "zwei Zeilen und mehr",
		"Bcc:\r\nBcc: a@b.example":                 "Bcc: Bcc: a@b.example",
		"\x1b]0;Titel\x07":                         "]0;Titel",
		"\u202Egnp.exe\u200B\uFEFF":                "gnp.exe",
		"Donau\u00addampf":                         "Donaudampf",
		"👩\u200d🚒 und 🏳️\u200d🌈":                   "👩\u200d🚒 und 🏳️\u200d🌈",
		"a\u200db":                                 "ab",
		"می\u200cخواهم":                            "می\u200cخواهم",
		"\u3164\u2800":                             "",
		"kaputt \xff":                              "kaputt \uFFFD",
		"\u2028neu":                                "neu",
		"Q&A mit AT&T":                             "Q&A mit AT&T",
		"{{.Secret}} {% x %}":                      "{{.Secret}} {% x %}",
		"&lt;blink&gt; bleibt":                     "<blink> bleibt",
		"<a href=\"javascript:alert(1)\">Link</a>": "Link",
	} {
		if got := plain(in); got != want {
			t.Errorf("plain(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestLanguageTag(t *testing.T) {
	for in, want := range map[string]string{"de": "de", "de_DE": "de-DE", "EN-us": "en-US", "klingonisch!": "", "": "", "und": ""} {
		if got := languageTag(in); got != want {
			t.Errorf("languageTag(%q) = %q, want %q", in, got, want)
		}
	}
}
