package subscribers

import (
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Limits of the pages.
const (
	maxForm      = 16 << 10       // bytes of a form
	stampExpires = 24 * time.Hour // a form may stay open for so long (WCAG 2.2, 2.2.1 asks for 20 hours)
)

// contentPolicy lets a page have its style sheet, the paper's logo and its forms, all from us, and nothing else.
const contentPolicy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// pages are the readers' pages. Opening one never changes anything; only buttons do.
type pages struct {
	*Registry
	now      func() time.Time
	log      *slog.Logger
	throttle *throttle
	measures measures
}

// Pages are all pages of the readers. The access log knows the pattern of a route, never its path: tokens are in that.
func (r *Registry) Pages(now func() time.Time, log *slog.Logger) http.Handler {
	p := &pages{Registry: r, now: now, log: log, throttle: newThrottle(r.settings.PerNetwork, r.settings.PerMinute)}
	routes := map[string]http.HandlerFunc{
		"GET /{$}":                                  p.form,
		"POST /subscribe":                           p.fromBox(p.limited(p.subscribe)),
		"OPTIONS /subscribe":                        p.preflight,
		"GET /embed":                                p.embed,
		"GET /check-your-mail":                      p.checkYourMail,
		"GET /confirm/{newsletter}/{token}":         p.confirmPage,
		"POST /confirm/{newsletter}/{token}":        p.own(p.confirmed),
		"GET /preferences/{newsletter}/{token}":     p.preferencesPage,
		"POST /preferences/{newsletter}/{token}":    p.own(p.preferencesSaved),
		"GET /pause/{newsletter}/{token}":           p.pausePage,
		"POST /pause/{newsletter}/{token}":          p.own(p.paused),
		"GET /address/{newsletter}/{token}":         p.addressPage,
		"POST /address/{newsletter}/{token}":        p.own(p.limited(p.addressChanged)),
		"GET /data/{newsletter}/{token}":            p.askDataPage,
		"POST /data/{newsletter}/{token}":           p.own(p.dataAsked),
		"GET /my-data/{newsletter}/{token}":         p.dataPage,
		"POST /my-data/{newsletter}/{token}":        p.own(p.dataWanted),
		"GET /unsubscribe/{newsletter}/{token}":     p.unsubscribePage,
		"POST /unsubscribe/{newsletter}/{token}":    p.unsubscribed,
		"OPTIONS /unsubscribe/{newsletter}/{token}": p.unsubscribeOptions,
		"POST /resume/{newsletter}/{token}":         p.own(p.resumed),
		"GET /healthz":                              p.healthz,
		"/":                                         p.nothing,
	}
	p.serveLooks(routes)
	mux := http.NewServeMux()
	allowed := map[string][]string{}
	for pattern, handler := range routes {
		mux.HandleFunc(pattern, handler)
		if method, path, found := strings.Cut(pattern, " "); found {
			allowed[path] = append(allowed[path], method)
		}
	}
	for path, methods := range allowed {
		mux.HandleFunc(path, p.wrongMethod(methods))
	}
	return p.around(mux)
}

// around is what every request passes: headers, the size of its body, the log, and a page for what panics.
func (p *pages) around(next *http.ServeMux) http.Handler {
	secure := strings.HasPrefix(p.settings.BaseURL, "https://")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := p.now()
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Robots-Tag", "noindex")
		h.Set("Cache-Control", "no-store")
		if secure {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		answer := &answer{ResponseWriter: w}
		_, pattern := next.Handler(r)
		defer func() {
			if trouble := recover(); trouble != nil {
				p.log.Error("a page panicked", "route", pattern, "panic", harmless(trouble))
				if answer.status == 0 {
					p.fail(answer, r, http.StatusInternalServerError)
				}
			}
			p.log.Debug("served", "method", r.Method, "route", pattern, "status", answer.status, "took", p.now().Sub(began))
		}()
		next.ServeHTTP(answer, r)
	})
}

// harmless is what a log may say of a panic: the runtime's words, but not a value, which may be somebody's.
func harmless(trouble any) string {
	if err, ok := trouble.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("%T", trouble)
}

// answer remembers the status for the log.
type answer struct {
	http.ResponseWriter
	status int
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(data []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a.ResponseWriter.Write(data)
}

// own lets a form be sent from our own pages only. One-click unsubscription and the sign-up box come from elsewhere.
func (p *pages) own(next http.HandlerFunc) http.HandlerFunc {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.fail(w, r, http.StatusForbidden)
	}))
	return protection.Handler(next).ServeHTTP
}

// show answers with a page.
func (p *pages) show(w http.ResponseWriter, r *http.Request, status int, name string, data view) {
	if inPlace(r) {
		p.answer(w, status, data)
		return
	}
	page, err := p.views.page(name, data)
	if err != nil {
		p.log.Error("show a page", "error", err)
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(page)
	}
}

// fail answers with the page for an error.
func (p *pages) fail(w http.ResponseWriter, r *http.Request, status int) {
	n, err := p.settings.wanted(r.PathValue("newsletter"))
	if err != nil {
		n = p.settings.Newsletters[0]
	}
	p.show(w, r, status, "error", view{Newsletter: n, Code: status})
}

// refuse answers for what the registry refused. Links that are not ours and links that are over tell nothing about anybody.
func (p *pages) refuse(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, ErrToken), errors.Is(err, ErrNewsletter):
		p.fail(w, r, http.StatusNotFound)
	case errors.Is(err, ErrExpired):
		p.fail(w, r, http.StatusGone)
	default:
		p.log.Error("a page failed", "error", err)
		p.fail(w, r, http.StatusInternalServerError)
	}
}

// parse reads a form, which must be one of the two kinds forms have. A wrong or too large one is answered here.
func (p *pages) parse(w http.ResponseWriter, r *http.Request) bool {
	var err error
	switch kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind {
	case "application/x-www-form-urlencoded":
		err = r.ParseForm()
	case "multipart/form-data":
		err = r.ParseMultipartForm(maxForm)
	default:
		p.fail(w, r, http.StatusUnsupportedMediaType)
		return false
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		p.fail(w, r, http.StatusRequestEntityTooLarge)
	case err != nil:
		p.fail(w, r, http.StatusBadRequest)
	}
	return err == nil
}

// visit is what a consent event remembers of a request from one of our pages: which page, but never the link to it.
func (p *pages) visit(r *http.Request) Visit {
	page, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	return Visit{
		Page: p.settings.BaseURL + "/" + page, IP: clientIP(r, p.settings.Proxies), Wording: r.PostForm.Get("wording"),
	}
}

// wrongMethod answers for a path that is there, but not in this way. OPTIONS is told the ways, without a page.
func (p *pages) wrongMethod(methods []string) http.HandlerFunc {
	if slices.Contains(methods, http.MethodGet) {
		methods = append(methods, http.MethodHead)
	}
	slices.Sort(methods)
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", strings.Join(methods, ", "))
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		p.fail(w, r, http.StatusMethodNotAllowed)
	}
}

func (p *pages) nothing(w http.ResponseWriter, r *http.Request) {
	p.fail(w, r, http.StatusNotFound)
}

func (p *pages) healthz(w http.ResponseWriter, r *http.Request) {
	if err := p.db.Read.PingContext(r.Context()); err != nil {
		http.Error(w, "database", http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}

// form shows the form of a newsletter.
func (p *pages) form(w http.ResponseWriter, r *http.Request) {
	n, err := p.settings.wanted(r.URL.Query().Get("newsletter"))
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	p.showForm(w, r, http.StatusOK, view{Newsletter: n, Topics: n.boxes("")})
}

func (p *pages) showForm(w http.ResponseWriter, r *http.Request, status int, data view) {
	data.Stamp = p.keys.formStamp(p.now(), data.Newsletter.Slug, p.views.forms[data.Newsletter.Slug].Hash)
	for _, other := range p.settings.Newsletters {
		if other.Slug != data.Newsletter.Slug {
			data.Others = append(data.Others, other)
		}
	}
	p.show(w, r, status, "form", data)
}

// subscribe takes a form: ours, or the box on the paper's pages, which sends an address and nothing else. What was entered
// wrongly is said; about the state of an address nothing is: every valid form gets the same answer.
func (p *pages) subscribe(w http.ResponseWriter, r *http.Request) {
	if !p.parse(w, r) {
		return
	}
	now := p.now()
	n, err := p.settings.wanted(r.PostForm.Get("newsletter"))
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	s := SignUp{Address: r.PostForm.Get("email"), Newsletter: n.Slug, Topics: r.PostForm["topic"]}
	s.IP = clientIP(r, p.settings.Proxies)
	problem, robot := p.stamped(now, r.PostForm, &s)
	if problem == "" && s.Wording == "" {
		err = p.boxed(r, n, &s)
	}
	if problem == "" && err == nil && r.PostForm.Has("several") && r.PostForm.Get("newsletter") == "" {
		problem = "newsletter"
	}
	if problem == "" && err == nil {
		problem, err = p.signUpForm(r, now, s, robot)
	}
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	if problem != "" {
		p.showForm(w, r, http.StatusUnprocessableEntity, view{
			Newsletter: n, Email: shortened(s.Address), Problem: problem, Topics: n.boxes(strings.Join(s.Topics, ",")),
		})
		return
	}
	p.sent(w, r, n)
}

// stamped reads our form's stamp: which words were shown, and when. The box on the paper's pages has none. robot says that
// nobody can have filled the form in so fast, or that the field people cannot see is filled in.
func (p *pages) stamped(now time.Time, form url.Values, s *SignUp) (problem string, robot bool) {
	robot = form.Get("fax") != ""
	stamp := form.Get("stamp")
	if stamp == "" {
		return "", robot
	}
	shown, words, err := p.keys.openStamp(stamp, s.Newsletter)
	if err != nil || now.Sub(shown) > stampExpires {
		return "stale", robot
	}
	s.Wording, s.Page = words, p.settings.BaseURL+"/"
	return "", robot || now.Sub(shown) < p.settings.MinFill
}

// signUpForm signs up, unless a robot asks, who gets the same answer. problem is the code of what was entered wrongly.
func (p *pages) signUpForm(r *http.Request, now time.Time, s SignUp, robot bool) (problem string, err error) {
	if robot {
		_, err = p.parseAddress(s.Address)
	} else {
		err = p.SignUp(r.Context(), now, s)
	}
	var address AddressError
	switch {
	case errors.As(err, &address):
		return string(address), nil
	case errors.Is(err, ErrTopics):
		return "topics", nil
	case errors.Is(err, ErrWording):
		return "stale", nil
	}
	return "", err
}

func (p *pages) checkYourMail(w http.ResponseWriter, r *http.Request) {
	n, err := p.settings.wanted(r.URL.Query().Get("newsletter"))
	if err != nil {
		n = p.settings.Newsletters[0]
	}
	p.show(w, r, http.StatusOK, "sent", view{Newsletter: n})
}

// confirmPage shows one button. Scanners open every link of a mail: what a GET did would be nobody's consent.
func (p *pages) confirmPage(w http.ResponseWriter, r *http.Request) {
	slug := r.PathValue("newsletter")
	q, err := p.request(r.Context(), p.db.Read, slug, r.PathValue("token"))
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	s, err := readSubscription(r.Context(), p.db.Read, q.who, slug)
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	n, _ := p.settings.newsletter(slug)
	switch err := q.standing(p.now(), s); {
	case errors.Is(err, errConfirmed):
		p.showConfirmed(w, r, n, q.who)
	case err != nil:
		p.refuse(w, r, err)
	default:
		p.showConfirm(w, r, http.StatusOK, n, q)
	}
}

func (p *pages) showConfirm(w http.ResponseWriter, r *http.Request, status int, n Newsletter, q request) {
	words, err := p.views.confirmWording(n, q.topics, q.moves != 0)
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	p.show(w, r, status, "confirm", view{Newsletter: n, Topics: n.chosen(q.topics), Moved: q.moves != 0, Wording: words.Hash})
}

func (p *pages) confirmed(w http.ResponseWriter, r *http.Request) {
	if !p.parse(w, r) {
		return
	}
	slug, token := r.PathValue("newsletter"), r.PathValue("token")
	n, _ := p.settings.newsletter(slug)
	pressed := p.Confirm(r.Context(), p.now(), slug, token, p.visit(r))
	if pressed != nil && !errors.Is(pressed, ErrWording) {
		p.refuse(w, r, pressed)
		return
	}
	q, err := p.request(r.Context(), p.db.Read, slug, token)
	switch {
	case err != nil:
		p.refuse(w, r, err)
	case pressed != nil: // the words have changed since the page was opened: they are shown anew
		p.showConfirm(w, r, http.StatusOK, n, q)
	default:
		p.showConfirmed(w, r, n, q.who)
	}
}

// showConfirmed says that all is done, and where topics can be chosen.
func (p *pages) showConfirmed(w http.ResponseWriter, r *http.Request, n Newsletter, who subscriber) {
	data := view{Newsletter: n, Preferences: p.path(ToPrefer, n.Slug, who)}
	p.measured(r.Context(), p.now(), &data)
	p.show(w, r, http.StatusOK, "confirmed", data)
}

func (p *pages) preferencesPage(w http.ResponseWriter, r *http.Request) {
	p.showPreferences(w, r, http.StatusOK, view{})
}

// showPreferences shows the topics of whoever holds the link; their address only as they themselves recognise it.
func (p *pages) showPreferences(w http.ResponseWriter, r *http.Request, status int, data view) {
	slug := r.PathValue("newsletter")
	h, err := p.holder(r.Context(), p.db.Read, ToPrefer, slug, r.PathValue("token"))
	if err == nil && h.state != Active {
		err = ErrExpired
	}
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	n, _ := p.settings.newsletter(slug)
	data.Newsletter, data.Topics = n, n.boxes(h.topics)
	data.Masked = Address{Mailed: h.who.address}.Masked()
	data.Leave, data.Pause, data.Move = p.path(ToUnsubscribe, slug, h.who), p.path(ToPause, slug, h.who), p.path(ToMove, slug, h.who)
	data.Data = p.path(ToAskData, slug, h.who)
	data.Paused = p.views.pausedUntil(n, h.paused)
	p.measured(r.Context(), p.now(), &data)
	words, err := p.views.preferences(n)
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	data.Wording = words.Hash
	p.show(w, r, status, "preferences", data)
}

// path is where the holder of one link goes on to another page of theirs.
func (p *pages) path(purpose Purpose, newsletter string, who subscriber) string {
	return "/" + string(purpose) + "/" + url.PathEscape(newsletter) + "/" + p.keys.Token(purpose, who.id, newsletter, who.nonce)
}

func (p *pages) preferencesSaved(w http.ResponseWriter, r *http.Request) {
	if !p.parse(w, r) {
		return
	}
	n, _ := p.settings.newsletter(r.PathValue("newsletter"))
	if words, err := p.views.preferences(n); err == nil && r.PostForm.Has("wording") && r.PostForm.Get("wording") != words.Hash {
		p.showPreferences(w, r, http.StatusUnprocessableEntity, view{Problem: "stale"}) // other words were shown than are in use now
		return
	}
	topics := slices.Compact(slices.Sorted(slices.Values(r.PostForm["topic"])))
	err := p.SetTopics(r.Context(), p.now(), r.PathValue("newsletter"), r.PathValue("token"), topics, p.visit(r))
	switch {
	case errors.Is(err, ErrTopics):
		p.showPreferences(w, r, http.StatusUnprocessableEntity, view{Problem: "topics"})
	case err != nil:
		p.refuse(w, r, err)
	default:
		p.showPreferences(w, r, http.StatusOK, view{Saved: true})
	}
}

// unsubscribePage shows one button. It works for ever, also for newsletters that are no longer published.
func (p *pages) unsubscribePage(w http.ResponseWriter, r *http.Request) {
	slug := r.PathValue("newsletter")
	h, err := p.holder(r.Context(), p.db.Read, ToUnsubscribe, slug, r.PathValue("token"))
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	n, _ := p.settings.newsletter(slug)
	data := view{Newsletter: n}
	if h.state == Active {
		data.Preferences = p.path(ToPrefer, slug, h.who)
	}
	p.show(w, r, http.StatusOK, "unsubscribe", data)
}

// unsubscribed ends a subscription: by our page's button, or by the mail program's (RFC 8058), which sends no cookie, no
// Origin we know and no Referer, and must get its 200 without a redirect. Some webmails ask from a script: any origin may.
func (p *pages) unsubscribed(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "*")
	_ = r.ParseMultipartForm(maxForm) // whatever the body is: who holds the token wants to leave
	slug, token := r.PathValue("newsletter"), r.PathValue("token")
	how, visit := ByPage, p.visit(r)
	if r.PostForm.Get("List-Unsubscribe") == "One-Click" {
		how, visit.Page = ByOneClick, "" // no page was seen
	}
	if err := p.Unsubscribe(r.Context(), p.now(), slug, token, how, visit); err != nil {
		p.refuse(w, r, err)
		return
	}
	h, err := p.holder(r.Context(), p.db.Read, ToUnsubscribe, slug, token)
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	n, _ := p.settings.newsletter(slug)
	data := view{Newsletter: n}
	if how == ByPage && h.who.address != "" {
		data.Data = p.path(ToAskData, slug, h.who)
	}
	if how == ByPage && h.canResume(p.now()) {
		data.Resume = p.path(ToResume, slug, h.who)
	}
	p.show(w, r, http.StatusOK, "unsubscribed", data)
}

func (p *pages) unsubscribeOptions(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "*")
	w.Header().Set("Access-Control-Allow-Methods", "POST")
	w.Header().Set("Access-Control-Allow-Headers", "Content-Type")
	w.WriteHeader(http.StatusNoContent)
}

func (p *pages) resumed(w http.ResponseWriter, r *http.Request) {
	if !p.parse(w, r) {
		return
	}
	slug := r.PathValue("newsletter")
	if err := p.Resume(r.Context(), p.now(), slug, r.PathValue("token"), p.visit(r)); err != nil {
		p.refuse(w, r, err)
		return
	}
	n, _ := p.settings.newsletter(slug)
	p.show(w, r, http.StatusOK, "resumed", view{Newsletter: n})
}
