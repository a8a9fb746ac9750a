package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"depesche/newsletter"
	"depesche/newsletter/smtp"
	"depesche/subscribers"
)

func (a *app) serveCommand() *cobra.Command {
	var listen string
	command := &cobra.Command{
		Use:   "serve",
		Short: "Serve the readers' pages, and send letters",
		Long: `Serves the form, confirmation, preferences, unsubscription, digests on the web, and pictures, over plain HTTP: a web server in
front of it has the certificate. Letters (confirmations) leave within seconds. SIGTERM ends it within ten seconds.`,
		Example: `  depesche serve --listen 127.0.0.1:8080`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer h.close()
			if listen == "" {
				listen = h.config.Listen
			}
			if err := h.registry.KeepBoxes(c.Context(), a.now()); err != nil {
				return err
			}
			listener, err := net.Listen("tcp", listen)
			if err != nil {
				return fmt.Errorf("serve readers' pages: %w", err)
			}
			fmt.Fprintf(a.stderr, "depesche: readers' pages on http://%s for %s\n", listener.Addr(), h.config.BaseURL)
			return a.serve(c.Context(), h, listener)
		},
	}
	command.Flags().StringVar(&listen, "listen", "", "address to listen on, default that of the configuration")
	return command
}

// serve serves pages and sends letters until ctx ends.
func (a *app) serve(ctx context.Context, h *house, listener net.Listener) error {
	server := &http.Server{
		Handler:           h.handler(a.now),
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10,
	}
	stopMerging, err := h.db.MergeBeside(ctx)
	if err != nil {
		return err
	}
	defer stopMerging()
	var beside sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	beside.Go(func() { a.sendLetters(ctx, h) })
	beside.Go(func() { a.admit(ctx, h) })
	beside.Go(func() { a.keepSealing(ctx, h) })
	context.AfterFunc(ctx, func() {
		grace, done := context.WithTimeout(context.WithoutCancel(ctx), 8*time.Second)
		defer done()
		_ = server.Shutdown(grace)
	})
	err = server.Serve(listener)
	cancel()
	beside.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve readers' pages: %w", err)
}

// admit decides about sign-ups as they come in, and looks now and then for those another process has left.
func (a *app) admit(ctx context.Context, h *house) {
	look := time.NewTicker(3 * time.Second)
	defer look.Stop()
	for {
		if err := h.registry.Admit(ctx); err != nil && ctx.Err() == nil {
			h.log.Error("decide about sign-ups", "error", err)
			if !wait(ctx, time.Second) {
				return
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-h.registry.Arrivals():
			if !wait(ctx, gather) {
				return
			}
		case <-look.C:
		}
	}
}

// gather is how long a sign-up that was answered waits for others to be decided with: a commit each would cost more than all
// the rest.
const gather = 50 * time.Millisecond

// watchFlood tells a person when so many sign-ups come that letters wait, and when that is over.
func (a *app) watchFlood(ctx context.Context, h *house) {
	flood, ended, err := h.registry.WatchFlood(ctx, a.now())
	switch {
	case err != nil && ctx.Err() == nil:
		h.log.Error("watch for a flood", "error", err)
	case flood != nil:
		a.alert(ctx, h, h.describeFlood(flood))
	case ended:
		a.alert(ctx, h, "the flood of sign-ups is over: letters leave again")
	}
}

// describeFlood is what an editor must know of a flood.
func (h *house) describeFlood(f *subscribers.Flood) string {
	since := h.newsroom.InZone(f.Began).Format("2006-01-02 15:04")
	if f.ByEditor {
		return fmt.Sprintf("letters are held by an editor since %s ('depesche release --letters')", since)
	}
	return fmt.Sprintf("a flood of sign-ups since %s, %d in its worst minute, the limit is %d: letters wait until it is over"+
		" ('depesche release --letters' lets them leave now, 'depesche hold --letters' keeps them)", since, f.Peak, h.config.SignUps.Flood)
}

// sendLetters sends letters as they are queued, and looks for retries every few seconds. A relay that refuses us is
// reported once, not every few seconds.
func (a *app) sendLetters(ctx context.Context, h *house) {
	retry := time.NewTicker(3 * time.Second)
	defer retry.Stop()
	told := ""
	for {
		a.watchFlood(ctx, h)
		tally, err := h.newsroom.DispatchLetters(ctx, newsletter.Options{Now: a.now})
		problem := strings.Join(tally.Alerts, "; ")
		if err != nil && ctx.Err() == nil {
			problem = err.Error()
		}
		if problem != told && problem != "" {
			a.alert(ctx, h, problem)
		}
		told = problem
		var refusal *smtp.Refusal
		if errors.As(err, &refusal) || len(tally.Alerts) > 0 {
			if !wait(ctx, time.Minute) {
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-h.registry.Letters():
		case <-retry.C:
		}
	}
}

func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// handler is every page: the registry's, digests on the web, pictures.
func (h *house) handler(now func() time.Time) http.Handler {
	pages := h.registry.Pages(now, h.log)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /digest/{newsletter}/{day}/{variant}", func(w http.ResponseWriter, r *http.Request) {
		h.digestPage(w, r, pages)
	})
	mux.HandleFunc("GET /picture/{file}", func(w http.ResponseWriter, r *http.Request) { h.picture(w, r, pages) })
	mux.Handle("/", pages)
	return mux
}

// digestPage shows a digest as it was sent. It is frozen and holds nothing personal, so anybody may keep it for a while;
// a withdrawal must show, so not for long.
func (h *house) digestPage(w http.ResponseWriter, r *http.Request, pages http.Handler) {
	day, err := newsletter.ParseDay(r.PathValue("day"))
	variant, numberErr := strconv.ParseInt(r.PathValue("variant"), 10, 64)
	if err != nil || numberErr != nil {
		notFound(w, r, pages)
		return
	}
	page, err := h.newsroom.WebPage(r.Context(), r.PathValue("newsletter"), day, variant)
	if errors.Is(err, newsletter.ErrNoDigest) {
		notFound(w, r, pages)
		return
	}
	if err != nil {
		h.log.Error("show a digest", "error", err)
		http.Error(w, "Diese Ausgabe kann gerade nicht gezeigt werden.", http.StatusInternalServerError)
		return
	}
	head := w.Header()
	head.Set("Content-Type", "text/html; charset=utf-8")
	head.Set("Content-Security-Policy", "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("X-Robots-Tag", "noindex")
	head.Set("Referrer-Policy", "no-referrer")
	head.Set("Cache-Control", "public, max-age=60")
	_, _ = w.Write([]byte(page))
}

// picture serves a copy by its content hash: it can never change.
func (h *house) picture(w http.ResponseWriter, r *http.Request, pages http.Handler) {
	hash, _ := strings.CutSuffix(r.PathValue("file"), ".jpg")
	picture, err := h.newsroom.Picture(r.Context(), hash)
	if errors.Is(err, newsletter.ErrNoPicture) {
		notFound(w, r, pages)
		return
	}
	if err != nil {
		h.log.Error("show a picture", "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	head := w.Header()
	head.Set("Content-Type", picture.Type)
	head.Set("Content-Security-Policy", "default-src 'none'")
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Cross-Origin-Resource-Policy", "cross-origin") // mail programs on the web show it
	head.Set("Cache-Control", "public, max-age=31536000, immutable")
	head.Set("Content-Length", strconv.Itoa(len(picture.Bytes)))
	_, _ = w.Write(picture.Bytes)
}

// notFound lets the registry answer, whose page for what is not there has the paper's face.
func notFound(w http.ResponseWriter, r *http.Request, pages http.Handler) {
	r = r.Clone(r.Context())
	r.URL.Path = "/-"
	pages.ServeHTTP(w, r)
}
