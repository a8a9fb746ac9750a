package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"depesche/cmd/depesche/demo"
	"depesche/newsletter"
	"depesche/subscribers"
)

func (a *app) demoCommand() *cobra.Command {
	var folder string
	command := &cobra.Command{
		Use:   "demo",
		Short: "The whole job with a made-up paper: three readers, one morning, a mailbox to look at",
		Long: `Sets up a made-up local paper with its feeds, lets three readers sign up through the form, confirm by the letter they get, and
choose topics; takes the articles in, composes the morning's digest and mails it to a built-in mailbox. Everything is real but
the paper and the mailbox. At a terminal the mailbox stays open on a web page until Ctrl-C; elsewhere the command ends.`,
		Example: `  depesche demo`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			d := &demonstration{app: a, folder: folder}
			return d.run(c.Context())
		},
	}
	command.Flags().StringVar(&folder, "dir", "", "keep the demo's files in this folder, which must not exist")
	return command
}

// demonstration is one run of the demo: a paper's web site, a mailbox, the readers' pages, and a clock of its own that stands
// shortly before six in the morning.
type demonstration struct {
	*app
	folder  string
	clock   atomic.Int64 // nanoseconds the demo's clock is away from the process's
	mailbox *demo.Mailbox
	house   *house
	pages   string // address of the readers' pages
}

// demoReader signs up by the form like anybody else.
type demoReader struct {
	name, address string
	topics        []string
}

var demoReaders = []demoReader{
	{"Anna", "anna@leserin.example", []string{"rathaus", "kultur"}},
	{"Ben", "ben@leser.example", []string{"sport", "verkehr", "wirtschaft"}},
	{"Carla", "carla@leserin.example", nil}, // leaves every box empty: she gets all topics
}

func (d *demonstration) run(ctx context.Context) (err error) {
	real := d.now
	d.now = func() time.Time { return real().Add(time.Duration(d.clock.Load())) }
	folder, err := d.makeFolder()
	if err != nil {
		return err
	}
	if d.folder == "" {
		defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	}
	site, err := listen()
	if err != nil {
		return err
	}
	pages, err := listen()
	if err != nil {
		return err
	}
	d.pages = "http://" + pages.Addr().String()
	if d.mailbox, err = demo.NewMailbox("127.0.0.1:0", d.now); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.mailbox.Close()) }()
	files, err := d.setUp(ctx, folder, "http://"+site.Addr().String())
	if err != nil {
		return err
	}
	defer d.house.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopSite := background(ctx, site, demo.Site(files))
	defer stopSite()
	served := make(chan error, 1)
	go func() { served <- d.serve(ctx, d.house, pages) }()
	defer func() {
		cancel()
		err = errors.Join(err, <-served)
	}()
	if err := d.morningOf(ctx); err != nil {
		return err
	}
	return d.show(ctx)
}

func (d *demonstration) makeFolder() (string, error) {
	if d.folder == "" {
		return os.MkdirTemp("", "depesche-demo-")
	}
	return d.folder, os.Mkdir(d.folder, 0o700)
}

// setUp writes the paper's files and a configuration, and opens the house.
func (d *demonstration) setUp(ctx context.Context, folder, site string) (map[string][]byte, error) {
	d.setTime("05:40")
	files, err := demo.Paper(d.now(), site)
	if err != nil {
		return nil, err
	}
	for name, content := range files {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, fmt.Errorf("write the sample paper: %w", err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return nil, fmt.Errorf("write the sample paper: %w", err)
		}
	}
	host, port, err := net.SplitHostPort(d.mailbox.Addr())
	if err != nil {
		return nil, err
	}
	config, err := LoadConfig(filepath.Join(folder, "depesche.yaml"), []string{
		"DEPESCHE_BASE_URL=" + d.pages, "DEPESCHE_SMTP_HOST=" + host, "DEPESCHE_SMTP_PORT=" + port, "DEPESCHE_SMTP_TLS=none",
		"DEPESCHE_SIGNUPS_MIN_FILL=1ns", // its readers type fast
	})
	if err != nil {
		return nil, err
	}
	if err := subscribers.CreateKeys(config.Keys); err != nil {
		return nil, err
	}
	d.house, err = d.build(ctx, config)
	return files, err
}

// setTime moves the demo's clock to a time of today in the paper's zone.
func (d *demonstration) setTime(clock string) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		zone = time.UTC // cannot happen: the binary carries the zones
	}
	day := newsletter.DayOf(d.now(), zone)
	target, err := time.ParseInLocation(time.DateOnly+" 15:04", string(day)+" "+clock, zone)
	if err == nil {
		d.clock.Add(int64(target.Sub(d.now())))
	}
}

// morningOf is the story: sign-ups, letters, buttons, articles, the digest.
func (d *demonstration) morningOf(ctx context.Context) error {
	for _, reader := range demoReaders {
		d.say("%s signs up on %s", reader.name, d.pages)
		if err := d.signUp(ctx, reader); err != nil {
			return fmt.Errorf("sign %s up: %w", reader.name, err)
		}
	}
	d.say("articles are taken in")
	harvests, err := d.house.newsroom.Poll(ctx, d.now(), true)
	if err != nil {
		return err
	}
	for _, h := range harvests {
		d.say("  %s: %s", h.Source, count(h.New, "article", "articles"))
		for _, problem := range h.Problems {
			d.warn("%v", problem)
		}
	}
	d.setTime("06:00")
	d.say("it is six o'clock: the digest is composed and mailed")
	m, err := d.house.newsroom.Run(ctx, newsletter.Plan{Options: d.options()})
	for _, problem := range m.Problems {
		d.warn("%v", problem)
	}
	if err != nil {
		return err
	}
	waiting, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	err = d.mailbox.Wait(waiting, func(mails []demo.Message) bool { return len(mails) >= 2*len(demoReaders) })
	if err != nil {
		return fmt.Errorf("wait for the digests: %w", err)
	}
	return nil
}

func (d *demonstration) say(format string, args ...any) {
	fmt.Fprintf(d.stdout, format+"\n", args...)
}

// signUp goes the whole way of a reader: form, letter, page, button.
func (d *demonstration) signUp(ctx context.Context, reader demoReader) error {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	browser := &http.Client{Jar: jar, Timeout: 10 * time.Second}
	form, err := page(browser.Get(d.pages + "/"))
	if err != nil {
		return err
	}
	fields := hidden(form)
	fields.Set("email", reader.address)
	fields["topic"] = reader.topics
	if _, err := page(browser.PostForm(d.pages+"/subscribe", fields)); err != nil {
		return err
	}
	letter, err := d.letterTo(ctx, reader.address)
	if err != nil {
		return err
	}
	link := regexp.MustCompile(regexp.QuoteMeta(d.pages) + `/confirm/[^\s>]+`).FindString(letter.Text)
	button, err := page(browser.Get(link))
	if err != nil {
		return err
	}
	_, err = page(browser.PostForm(link, hidden(button)))
	return err
}

// letterTo waits for the confirmation letter.
func (d *demonstration) letterTo(ctx context.Context, address string) (letter demo.Message, err error) {
	ctx, stop := context.WithTimeout(ctx, 20*time.Second)
	defer stop()
	err = d.mailbox.Wait(ctx, func(mails []demo.Message) bool {
		for _, mail := range mails {
			if mail.To == address {
				letter = mail
				return true
			}
		}
		return false
	})
	if err != nil {
		return letter, fmt.Errorf("wait for the letter: %w", err)
	}
	return letter, nil
}

// page reads an answer that must be a success.
func page(response *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("the page answered %s", response.Status)
	}
	return string(body), err
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)"`)

// hidden are the fields a form sends along by itself.
func hidden(form string) url.Values {
	fields := url.Values{}
	for _, match := range hiddenField.FindAllStringSubmatch(form, -1) {
		fields.Set(match[1], match[2])
	}
	return fields
}

// show prints who got what; at a terminal it keeps the mailbox open to be looked at.
func (d *demonstration) show(ctx context.Context) error {
	d.say("")
	table := tabwriter.NewWriter(d.stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "reader\ttopics\tarticles\tsubject of the digest")
	for _, reader := range demoReaders {
		topics := strings.Join(reader.topics, ", ")
		if topics == "" {
			topics = "all"
		}
		digest := demo.Message{}
		for _, mail := range d.mailbox.Messages() {
			if mail.To == reader.address {
				digest = mail
			}
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\n", reader.name, topics, strings.Count(digest.HTML, "<h3"), clean(digest.Subject))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if !isTerminal(d.stdout) {
		return nil
	}
	address, err := listen()
	if err != nil {
		return err
	}
	defer background(ctx, address, d.mailbox.Handler())()
	d.say("\nThe mailbox: http://%s · the readers' pages: %s · Ctrl-C ends the demo", address.Addr(), d.pages)
	<-ctx.Done()
	return nil
}

// listen opens a port of the loopback.
func listen() (net.Listener, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open a port for the demo: %w", err)
	}
	return listener, nil
}

// background serves until the function it returns is called.
func background(ctx context.Context, listener net.Listener, handler http.Handler) (stop func()) {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	return func() {
		_ = server.Close()
		<-done
	}
}
