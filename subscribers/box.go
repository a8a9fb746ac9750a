package subscribers

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The box is a form for the paper's own pages. It carries the hash of its words, so that what is recorded are the words that
// were shown, however old the copy in the paper's pages is. Where the hash is missing or unknown, that is what is recorded.

// OnBox is a wording read in the box; its first line names the newsletter, or anyNewsletter.
const OnBox WordingKind = "box"

const anyNewsletter = "*"

// parseBox parses the box and the words it answers with.
func (v *views) parseBox(templates fs.FS, language string) error {
	parsed, err := template.ParseFS(templates, "web/"+language+"/problem.html", "web/"+language+"/box.html")
	if err != nil {
		return fmt.Errorf("read the box: %w", err)
	}
	for _, name := range []string{"box", "answer"} {
		part := parsed.Lookup(name)
		if part == nil {
			return fmt.Errorf("read the box: web/%s/box.html defines no %q", language, name)
		}
		v.pages[language+"/"+name] = part
	}
	return nil
}

// boxWordings are the words of every box there is: one for each newsletter, and where there are several one to choose from.
func (v *views) boxWordings() error {
	for _, n := range v.settings.Newsletters {
		_, words, err := v.box(n, nil)
		if err != nil {
			return err
		}
		v.boxes[n.Slug] = words
	}
	if len(v.settings.Newsletters) < 2 {
		return nil
	}
	_, words, err := v.box(v.settings.Newsletters[0], v.settings.Newsletters)
	v.boxes[""] = words
	return err
}

// box is the snippet for one newsletter, or to choose one of several, and its words.
func (v *views) box(n Newsletter, several []Newsletter) (snippet []byte, words Wording, err error) {
	data := v.dressed(view{Newsletter: n, Others: several, Topics: n.boxes("")})
	of := n.Slug
	if several != nil {
		of, data.Topics = anyNewsletter, nil
	}
	draft, err := v.page("box", data)
	if err != nil {
		return nil, words, err
	}
	text, err := visibleText(slices.Concat([]byte("<main>"), draft, []byte("</main>")))
	if err != nil {
		return nil, words, err
	}
	words = newWording(OnBox, data.Language, of+"\n"+text)
	data.Wording = words.Hash
	snippet, err = v.page("box", data)
	return snippet, words, err
}

// KeepBoxes stores the words of every box, so that a copy of one is known as long as it stands in the paper's pages. It is for
// the start of a process: pages that are opened store nothing.
func (r *Registry) KeepBoxes(ctx context.Context, now time.Time) error {
	for _, words := range r.views.boxes {
		if err := r.keep(ctx, now, words); err != nil {
			return err
		}
	}
	return nil
}

// boxWords says what is known about the words a box says it showed for a newsletter: their hash, or else what it claimed.
func (r *Registry) boxWords(ctx context.Context, n Newsletter, claimed string) (known, unknown string, err error) {
	if !sha256Hex.MatchString(claimed) {
		return "", "none given", nil
	}
	for _, of := range []string{n.Slug, ""} {
		if r.views.boxes[of].Hash == claimed {
			return claimed, "", nil
		}
	}
	var text string
	err = r.db.Read.QueryRowContext(ctx, `SELECT text FROM wordings WHERE hash = $1 AND kind = 'box'`, claimed).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return "", claimed, nil
	}
	if err != nil {
		return "", "", fmt.Errorf("look for the words of a box: %w", err)
	}
	if of, _, _ := strings.Cut(text, "\n"); of != n.Slug && of != anyNewsletter {
		return "", claimed, nil // they are another newsletter's
	}
	return claimed, "", nil
}

var sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)

// boxed reads what only a box says: which words it showed, and where it stood.
func (p *pages) boxed(r *http.Request, n Newsletter, s *SignUp) (err error) {
	s.Page = p.boxPage(r)
	s.Wording, s.Unknown, err = p.boxWords(r.Context(), n, r.PostForm.Get("wording"))
	return err
}

// boxPage is where a box stood, without what follows a "?": what it says itself if the browser confirms the site, else what the
// browser tells, which is often the site alone.
func (p *pages) boxPage(r *http.Request) string {
	var seen string
	for _, header := range []string{"Referer", "Origin"} {
		if page, err := url.Parse(r.Header.Get(header)); err == nil && page.Host != "" {
			seen = (&url.URL{Scheme: page.Scheme, Host: page.Host, Path: page.Path}).String()
			break
		}
	}
	said, err := url.Parse(r.PostForm.Get("page"))
	if err != nil || said.Host == "" || len(said.Path) > 500 {
		return seen
	}
	site := said.Scheme + "://" + said.Host
	if site == siteOf(seen) || seen == "" && slices.Contains(p.settings.Origins, site) {
		return (&url.URL{Scheme: said.Scheme, Host: said.Host, Path: said.Path}).String()
	}
	return seen
}

func siteOf(page string) string {
	u, err := url.Parse(page)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// fromBox admits forms from our own pages and from the configured origins; where none is configured, from anywhere. Only
// configured origins may read the answer (CORS), without credentials, of which there are none.
func (p *pages) fromBox(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !p.allowOrigin(w, r) && p.isForeign(r) {
			p.fail(w, r, http.StatusForbidden)
			return
		}
		next(w, r)
	}
}

// allowOrigin tells the browser that the page that asks may read the answer, if it may.
func (p *pages) allowOrigin(w http.ResponseWriter, r *http.Request) bool {
	w.Header().Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if !slices.Contains(p.settings.Origins, origin) {
		return false
	}
	w.Header().Set("Access-Control-Allow-Origin", origin)
	return true
}

// isForeign says whether a form comes from a page that must not have one. Without that, any page in the world could let its
// visitors' browsers sign strangers up, each from another network.
func (p *pages) isForeign(r *http.Request) bool {
	if len(p.settings.Origins) == 0 {
		return false
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin":
		return false
	case "cross-site", "same-site":
		return true
	}
	origin := r.Header.Get("Origin") // browsers without Sec-Fetch-Site; "null" is what our own pages' forms say
	return origin != "" && origin != "null" && origin != p.settings.BaseURL
}

// preflight answers what a browser asks before a script sends something unusual.
func (p *pages) preflight(w http.ResponseWriter, r *http.Request) {
	if p.allowOrigin(w, r) {
		w.Header().Set("Access-Control-Allow-Methods", http.MethodPost)
		w.Header().Set("Access-Control-Allow-Headers", "Accept, Content-Type")
		w.Header().Set("Access-Control-Max-Age", "7200")
	}
	w.Header().Set("Allow", "OPTIONS, POST")
	w.WriteHeader(http.StatusNoContent)
}

// inPlace says whether the box's script asks, which shows the answer where the form stands.
func inPlace(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Path == "/subscribe" && strings.Contains(r.Header.Get("Accept"), "application/json")
}

// answer tells the box's script in a sentence what a page says to everybody else.
func (p *pages) answer(w http.ResponseWriter, status int, data view) {
	data.Code = status
	text, err := p.views.page("answer", data)
	if err != nil {
		p.log.Error("answer a box", "error", err)
		status = http.StatusInternalServerError
	}
	words := html.UnescapeString(string(bytes.Join(bytes.Fields(text), []byte(" "))))
	body, err := json.Marshal(map[string]string{"text": words})
	if err != nil {
		p.log.Error("answer a box", "error", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// sent answers to a form that was taken, whatever came of it.
func (p *pages) sent(w http.ResponseWriter, r *http.Request, n Newsletter) {
	if inPlace(r) {
		p.answer(w, http.StatusOK, view{Newsletter: n})
		return
	}
	http.Redirect(w, r, "/check-your-mail?newsletter="+url.QueryEscape(n.Slug), http.StatusSeeOther)
}

// embed shows the box and how to put it into the paper's pages: /embed?newsletter=morgen for one newsletter.
func (p *pages) embed(w http.ResponseWriter, r *http.Request) {
	n, err := p.settings.wanted(r.URL.Query().Get("newsletter"))
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	var several []Newsletter
	if r.URL.Query().Get("newsletter") == "" && len(p.settings.Newsletters) > 1 {
		several = p.settings.Newsletters
	}
	snippet, _, err := p.views.box(n, several)
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	w.Header().Set("Content-Security-Policy", contentPolicy+"; script-src 'self'; connect-src 'self'")
	p.show(w, r, http.StatusOK, "embed", view{
		Newsletter: n, Others: p.settings.Newsletters, Snippet: strings.TrimSpace(string(snippet)), Origins: p.settings.Origins,
		Box: template.HTML(snippet), // our own template escaped it
	})
}
