package demo

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	text "text/template"
	"time"
)

// paper is the Talbote of Ahornfurt: a paper, a town and a news agency (tbd) that do not exist.
//
//go:embed paper
var paper embed.FS

// Paper gives the files of the made-up paper as it looks at this moment: two feeds in German, one in English, a folder of
// Markdown files, two pictures, and depesche.yaml, which names them as sources. Articles are between one and ten hours old,
// one is under embargo until tomorrow.
//
// site is where Site serves the files, such as http://127.0.0.1:8090. base_url and the mail server in depesche.yaml are
// only examples; whoever runs the demo overrules them by environment.
func Paper(now time.Time, site string) (map[string][]byte, error) {
	files := map[string][]byte{"bilder/bruecke.jpg": bridge(), "bilder/tal.jpg": valley()}
	err := fs.WalkDir(paper, "paper", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		files[strings.TrimPrefix(name, "paper/")], err = fillIn(name, now, site)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("print the sample paper: %w", err)
	}
	return files, nil
}

// fillIn puts dates and addresses into a file. The functions are named after the format that wants them; each takes the
// distance from now, "-3h" or "22h".
func fillIn(name string, now time.Time, site string) ([]byte, error) {
	format := func(layout string) func(string) (string, error) {
		return func(distance string) (string, error) {
			d, err := time.ParseDuration(distance)
			return now.Add(d).Format(layout), err
		}
	}
	file, err := text.New(path.Base(name)).Funcs(text.FuncMap{
		"rss": format(time.RFC1123Z),
		"iso": format(time.RFC3339),
	}).ParseFS(paper, name)
	if err != nil {
		return nil, err
	}
	var filled bytes.Buffer
	err = file.Execute(&filled, struct{ Site string }{site})
	return filled.Bytes(), err
}

// Site is the paper's web site: its feeds and pictures, and behind every other address a page that owns up.
func Site(files map[string][]byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			http.Error(w, "only GET", http.StatusMethodNotAllowed)
			return
		}
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'")
		name := strings.TrimPrefix(r.URL.Path, "/")
		kind := contentType(name)
		content, ok := files[name]
		if !ok || kind == "" {
			h.Set("Content-Type", "text/html; charset=utf-8")
			_ = madeUp.Execute(w, path.Base(r.URL.Path))
			return
		}
		h.Set("Content-Type", kind)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	})
}

// contentType knows what the site publishes; anything else, such as depesche.yaml, stays inside.
func contentType(name string) string {
	return map[string]string{
		".rss": "application/rss+xml", ".atom": "application/atom+xml", ".json": "application/feed+json", ".jpg": "image/jpeg",
	}[path.Ext(name)]
}

var madeUp = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="de">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>Talbote</title>
<style>body{max-width:36rem;margin:15vh auto;padding:0 1.25rem;font:1.125rem/1.6 Georgia,serif}</style>
</head>
<body>
<h1>Talbote</h1>
<p>Hier stünde der Artikel „{{.}}“. Ahornfurt, das Wendetal und diese Zeitung sind für die Vorschau von depesche erfunden.</p>
<p lang="en">This is where the article would be. Ahornfurt, its valley and this paper were made up for the demo of depesche.</p>
</body>
</html>
`))
