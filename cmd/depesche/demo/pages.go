package demo

import (
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

//go:embed mailbox.html mailbox.css
var pageFiles embed.FS

// Handler shows the mailbox: a list, and each mail as HTML, as text, as source and by its header. It works without scripts.
//
// A mail's HTML is another's: it is shown in a frame that may neither run scripts nor send forms, under a policy of its own.
func (m *Mailbox) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", m.list)
	mux.HandleFunc("GET /mail/{id}", m.show)
	mux.HandleFunc("GET /mail/{id}/html", m.body)
	mux.HandleFunc("GET /mail/{id}/source.eml", m.source)
	mux.HandleFunc("POST /empty", m.emptyAll)
	mux.HandleFunc("GET /mailbox.css", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFileFS(w, r, pageFiles, "mailbox.css")
	})
	return http.NewCrossOriginProtection().Handler(headers(mux))
}

func headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; frame-src 'self'; form-action 'self'; "+
			"base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// labels are the words of the page.
type labels struct {
	Language, Mailbox, Nothing, Refresh, Empty, To, From, Subject, Received, Back string
	Source, Header, Text, Phone, Desk, Download, NoHTML, NoText                   string
}

func labelsFor(r *http.Request) labels {
	if strings.HasPrefix(strings.ToLower(r.Header.Get("Accept-Language")), "en") {
		return labels{
			Language: "en", Mailbox: "Mailbox", Nothing: "No mail yet.", Refresh: "Refresh", Empty: "Empty",
			To: "To", From: "From", Subject: "Subject", Received: "Received", Back: "All mails", Source: "Source", Header: "Header", Text: "Text",
			Phone: "Phone", Desk: "Desk", Download: "Save as .eml", NoHTML: "This mail has no HTML part.",
			NoText: "This mail has no text part.",
		}
	}
	return labels{
		Language: "de", Mailbox: "Postfach", Nothing: "Noch keine Mail.", Refresh: "Aktualisieren", Empty: "Leeren",
		To: "An", From: "Von", Subject: "Betreff", Received: "Eingang", Back: "Alle Mails", Source: "Quelltext", Header: "Kopfzeilen", Text: "Text",
		Phone: "Telefon", Desk: "Schreibtisch", Download: "Als .eml sichern", NoHTML: "Diese Mail hat keinen HTML-Teil.",
		NoText: "Diese Mail hat keinen Textteil.",
	}
}

// page is what mailbox.html is filled with; the templates escape all of it.
type page struct {
	L        labels
	Messages []Message // newest first
	Message  Message
	View     string // desk, phone, text, source or header
}

func (m *Mailbox) list(w http.ResponseWriter, r *http.Request) {
	messages := m.Messages()
	for i, j := 0, len(messages)-1; i < j; i, j = i+1, j-1 {
		messages[i], messages[j] = messages[j], messages[i]
	}
	write(w, "list", page{L: labelsFor(r), Messages: messages})
}

func (m *Mailbox) show(w http.ResponseWriter, r *http.Request) {
	message, ok := m.asked(w, r)
	if !ok {
		return
	}
	view := r.FormValue("as")
	switch view {
	case "phone", "text", "source", "header":
	default:
		view = "desk"
		if message.HTML == "" {
			view = "text"
		}
	}
	write(w, "mail", page{L: labelsFor(r), Message: message, View: view})
}

// asked is the mail of the address; it answers 404 where there is none.
func (m *Mailbox) asked(w http.ResponseWriter, r *http.Request) (Message, bool) {
	id, err := strconv.Atoi(r.PathValue("id"))
	message, ok := m.message(id)
	if err != nil || !ok {
		http.NotFound(w, r)
		return Message{}, false
	}
	return message, true
}

// body gives a mail's HTML to the frame. Its policy allows pictures and inline styles, nothing else; sandboxed, even a
// direct visit runs nothing. Links open outside the frame, where pages with forms work again.
func (m *Mailbox) body(w http.ResponseWriter, r *http.Request) {
	message, ok := m.asked(w, r)
	if !ok {
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; img-src http: https: data:; style-src 'unsafe-inline'; "+
		"form-action 'none'; base-uri 'none'; frame-ancestors 'self'; sandbox allow-popups allow-popups-to-escape-sandbox")
	_, _ = w.Write([]byte(openLinksOutside(message.HTML)))
}

// openLinksOutside adds a base target: in the mail itself links have none, as mail programs open them by themselves.
func openLinksOutside(html string) string {
	const target = `<base target="_blank">`
	head := regexp.MustCompile(`(?i)<head(\s[^>]*)?>`).FindStringIndex(html)
	if head == nil {
		return target + html
	}
	return html[:head[1]] + target + html[head[1]:]
}

// source is the mail as a file, byte for byte.
func (m *Mailbox) source(w http.ResponseWriter, r *http.Request) {
	message, ok := m.asked(w, r)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "message/rfc822")
	w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="mail-%d.eml"`, message.ID))
	_, _ = w.Write(message.Raw)
}

func (m *Mailbox) emptyAll(w http.ResponseWriter, r *http.Request) {
	m.empty()
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func write(w http.ResponseWriter, name string, p page) {
	pages, err := template.ParseFS(pageFiles, "mailbox.html")
	if err != nil {
		http.Error(w, "the page cannot be shown", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = pages.ExecuteTemplate(w, name, p) // what fails now is the browser's connection
}
