package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/mail"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"depesche/migrations"
	"depesche/newsletter"
	"depesche/newsletter/render"
	"depesche/newsletter/smtp"
	"depesche/subscribers"
	"depesche/templates"
)

// app is the door: what a command needs of the world outside. It is the only place where all rooms meet.
type app struct {
	environ        []string
	stdin          io.Reader
	stdout, stderr io.Writer
	configPath     string
	json           bool
	now            func() time.Time
}

// command is the whole command line: a file per command.
func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "depesche",
		Short: "A newsletter generator for newsrooms",
		Long: `depesche turns a newspaper's articles into a daily e-mail digest: readers sign up with provable consent, choose topics,
and get each article once.

A first set-up: depesche init · depesche ingest · depesche preview · depesche serve · depesche run (every five minutes).

Exit codes: 0 done, nothing due, another run at work, or rows waiting for a retry · 1 failed · 2 usage or configuration ·
4 the mail server refuses us · 5 the latest time passed with deliveries expired or doubtful · 6 held, too late or stale: a
human is needed.`,
		SilenceUsage: true, SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.setClock() },
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	preset := a.getenv("DEPESCHE_CONFIG")
	if preset == "" {
		preset = "depesche.yaml"
	}
	root.PersistentFlags().StringVar(&a.configPath, "config", preset, "configuration file (also DEPESCHE_CONFIG)")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "report as JSON, where a command reports")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError(err) })
	root.AddCommand(
		initCommand(subscribers.CreateKeys), a.demoCommand(), a.migrateCommand(), a.statusCommand(),
		a.ingestCommand(), a.articleCommand(), a.topicCommand(), a.previewCommand(),
		a.runCommand(), a.sendCommand(), a.dispatchCommand(), a.holdCommand(), a.releaseCommand(), a.resolveCommand(), a.reportCommand(),
		a.serveCommand(), a.subscriberCommand(), a.cleanupCommand(), a.backupCommand(), a.restoreCommand(),
	)
	markUsage(root)
	return root
}

// markUsage makes wrong arguments of every command end with the status for wrong usage.
func markUsage(command *cobra.Command) {
	if check := command.Args; check != nil {
		command.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usageErrorf("%w; see 'depesche %s --help'", err, strings.TrimPrefix(c.CommandPath(), "depesche "))
			}
			return nil
		}
	}
	if command.HasSubCommands() && command.RunE == nil {
		command.Args = cobra.ArbitraryArgs
		command.RunE = func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			hint := ""
			c.SuggestionsMinimumDistance = 2
			if like := c.SuggestionsFor(args[0]); len(like) > 0 {
				hint = fmt.Sprintf("; did you mean %q?", like[0])
			}
			return usageErrorf("unknown command %q for %q%s; see '%s --help'", args[0], c.CommandPath(), hint, c.CommandPath())
		}
	}
	for _, sub := range command.Commands() {
		markUsage(sub)
	}
}

func (a *app) getenv(name string) string {
	for _, variable := range a.environ {
		if value, ok := strings.CutPrefix(variable, name+"="); ok {
			return value
		}
	}
	return ""
}

// setClock starts the process's clock at DEPESCHE_NOW if that is set; it ticks on from there.
func (a *app) setClock() error {
	a.now = time.Now
	value := a.getenv("DEPESCHE_NOW")
	if value == "" {
		return nil
	}
	start, err := time.Parse(time.RFC3339, value)
	if err != nil {
		return usageErrorf("read DEPESCHE_NOW: expected a time like 2026-02-11T06:00:00+01:00, found %q", value)
	}
	began := time.Now()
	a.now = func() time.Time { return start.Add(time.Since(began)) }
	return nil
}

// complain prints an error the way a person reads it: what was tried, a line each.
func (a *app) complain(err error) {
	if err == nil || errors.Is(err, errTold) {
		return
	}
	for line := range strings.SplitSeq(strings.TrimRight(err.Error(), "\n"), "\n") {
		fmt.Fprintln(a.stderr, "depesche:", clean(line))
	}
}

// warn prints what does not stop the work.
func (a *app) warn(format string, args ...any) {
	fmt.Fprintln(a.stderr, "depesche: warning:", clean(fmt.Sprintf(format, args...)))
}

// clean makes text from outside harmless to a terminal: control characters are shown, not obeyed (G17).
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return '�'
		}
		return r
	}, s)
}

// report prints value as JSON where --json asks for it, otherwise as text.
func (a *app) report(value any, text func(w io.Writer)) error {
	if !a.json {
		text(a.stdout)
		return nil
	}
	encoder := json.NewEncoder(a.stdout)
	encoder.SetIndent("", " ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return fmt.Errorf("print report: %w", err)
	}
	return nil
}

// house is everything opened and put together.
type house struct {
	config   *Config
	db       *migrations.Database
	keys     *subscribers.Keys
	registry *subscribers.Registry
	newsroom *newsletter.Newsroom
	log      *slog.Logger
}

func (h *house) close() {
	if err := h.db.Close(); err != nil {
		h.log.Error("close the database", "error", err)
	}
}

// open reads the configuration and puts the rooms together.
func (a *app) open(ctx context.Context) (*house, error) {
	config, err := LoadConfig(a.configPath, a.environ)
	if err != nil {
		return nil, err
	}
	if isTerminal(a.stderr) {
		for _, warning := range config.Warnings {
			a.warn("%s", warning)
		}
	}
	return a.build(ctx, config)
}

func (a *app) build(ctx context.Context, config *Config) (*house, error) {
	keys, err := subscribers.LoadKeys(config.Keys)
	if err != nil {
		return nil, usageError(err)
	}
	db, err := migrations.Open(ctx, string(config.Database))
	if err != nil {
		return nil, err
	}
	h := &house{config: config, db: db, keys: keys, log: slog.New(slog.NewTextHandler(a.stderr, nil))}
	if err := h.furnish(ctx); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

func (h *house) furnish(ctx context.Context) (err error) {
	err = h.db.Ready(ctx)
	if errors.Is(err, migrations.ErrOldSchema) || errors.Is(err, migrations.ErrOldBinary) {
		return usageError(err)
	}
	if err != nil {
		return err
	}
	texts := templates.FS(h.config.Templates)
	forPages := registrySettings(h.config)
	forPages.Rates = func(ctx context.Context, now time.Time, slug string) (map[string]float64, error) {
		return h.newsroom.Rates(ctx, now, slug)
	}
	forPages.Sample = func(ctx context.Context, slug string) (string, error) { return h.newsroom.Sample(ctx, slug) }
	forPages.Data = h.dataForPage
	forPages.Erase = func(ctx context.Context, now time.Time, address string) error {
		_, err := h.registry.Erase(ctx, now, address, h.newsroom.Forget)
		return err
	}
	if h.registry, err = subscribers.New(h.db, h.keys, texts, forPages); err != nil {
		return usageError(err)
	}
	if err := h.registry.Own(ctx); err != nil {
		if errors.Is(err, subscribers.ErrKeys) {
			return usageErrorf("%w: %s", err, h.config.Keys)
		}
		return fmt.Errorf("look whose keys the database has: %w", err)
	}
	settings, err := newsroomSettings(h.config)
	if err != nil {
		return usageError(err)
	}
	if h.newsroom, err = newsletter.New(h.db, h.registry, h.keys, texts, settings); err != nil {
		return usageError(err)
	}
	return nil
}

// registrySettings tells the registry what it needs of the configuration.
func registrySettings(c *Config) subscribers.Settings {
	names, promises := map[string]string{}, map[string]string{}
	for _, topic := range c.Topics {
		names[topic.Slug], promises[topic.Slug] = topic.Name, topic.Promise
	}
	s := subscribers.Settings{
		BaseURL: c.BaseURL, Language: c.Language, ConfirmWithin: c.ConfirmWithin, Proxies: c.TrustedProxies(), Origins: c.Pages.Origins,
		IPs: ipPolicy(c.Retention), Retention: retentionOf(c),
		PerNetwork: c.SignUps.PerNetwork, Flood: c.SignUps.Flood, MinFill: c.SignUps.MinFill,
		Disposable: subscribers.Policy(c.SignUps.Disposable), DisposableDomains: c.SignUps.Domains,
		Publisher: subscribers.Publisher{
			Name: c.Publisher.Name, Paper: c.Publisher.Paper, Address: c.Publisher.Address, Email: c.Publisher.Email,
			Responsible: c.Publisher.Responsible, PrivacyURL: c.Publisher.PrivacyURL, PrivacyFile: c.Publisher.PrivacyFile,
			ImprintURL: c.Publisher.ImprintURL, LogoFile: c.Publisher.LogoFile, Colour: c.Publisher.Colour, ColourText: c.Publisher.ColourText,
			LinkColour: c.Publisher.LinkColour, LinkColourDark: c.Publisher.LinkColourDark,
		},
	}
	for _, n := range c.Newsletters {
		one := subscribers.Newsletter{Slug: n.Slug, Title: n.Title, Promise: n.Promise, Language: n.Language, Promises: promises, Zone: n.Location()}
		for _, slug := range n.Topics {
			one.Topics = append(one.Topics, subscribers.Topic{Slug: slug, Name: names[slug]})
		}
		s.Newsletters = append(s.Newsletters, one)
	}
	return s
}

func ipPolicy(r Retention) subscribers.IPPolicy {
	if r.IP == "off" {
		return subscribers.IPNone
	}
	return subscribers.IPPolicy(r.IP)
}

func retentionOf(c *Config) subscribers.Retention {
	keep := subscribers.Retention{
		Proof: c.Retention.ProofYears, IP: c.Retention.IPFor, Letters: c.Retention.LettersFor, Accesses: c.Retention.AccessesFor,
	}
	if len(c.Newsletters) > 0 {
		keep.Zone = c.Newsletters[0].Location()
	}
	return keep
}

// newsroomSettings tells the newsroom what it needs of the configuration.
func newsroomSettings(c *Config) (newsletter.Settings, error) {
	s := newsletter.Settings{
		BaseURL: c.BaseURL,
		Brand: render.Brand{
			Paper: render.Text(c.Publisher.Paper), Publisher: render.Text(c.Publisher.Name), Address: render.Text(c.Publisher.Address),
			Email: render.Text(c.Publisher.Email), Responsible: render.Text(c.Publisher.Responsible),
			Privacy: render.URL(c.Publisher.PrivacyURL), Imprint: render.URL(c.Publisher.ImprintURL), Logo: render.URL(c.Publisher.Logo),
			Colour: render.Colour(c.Publisher.Colour),
		},
		Ignored:     c.Ignore,
		Relay:       relay(c.SMTP),
		Connections: c.SMTP.Connections, PerSession: c.SMTP.PerConnection, Manners: mannersOf(c.SMTP),
		JournalBase: journalBase(c),
		DeleteAfter: c.ConfirmWithin,
		Senders: newsletter.Senders{
			Newsletter:   mailbox(c.Senders.Newsletter.Name, c.Senders.Newsletter.From),
			ReplyTo:      mailbox("", c.Senders.Newsletter.ReplyTo),
			Letter:       mailbox(c.Senders.Letter.Name, c.Senders.Letter.From),
			BounceDomain: c.Senders.BounceDomain, MailDomain: c.Senders.MessageDomain,
		},
	}
	for _, t := range c.Topics {
		s.Topics = append(s.Topics, newsletter.Topic{Slug: t.Slug, Name: t.Name, Aliases: t.Aliases})
	}
	for _, source := range c.Sources {
		s.Sources = append(s.Sources, sourceOf(c, source))
	}
	for _, n := range c.Newsletters {
		one, err := newsletterOf(n)
		if err != nil {
			return s, err
		}
		s.Newsletters = append(s.Newsletters, one)
	}
	return s, nil
}

func mailbox(name, address string) mail.Address { return mail.Address{Name: name, Address: address} }

func relay(c SMTP) smtp.Relay {
	return smtp.Relay{
		Host: c.Host, Port: c.Port, TLS: smtp.TLS(c.TLS), User: c.User, Password: string(c.Password), Hello: c.Hello, Flight: c.Flight,
	}
}

// journalBase is where journals of replies are kept: named after the database, for several houses may share a folder.
func journalBase(c *Config) string {
	return filepath.Join(c.Journal, migrations.FileName(string(c.Database))+"-replies")
}

func mannersOf(c SMTP) newsletter.Manners {
	m := newsletter.Manners{
		PerSecond: float64(c.PerSecond), PerSecondConnection: float64(c.PerSecondConnection), PerMinute: map[string]float64{},
	}
	for _, limit := range c.Domains {
		m.PerMinute[strings.ToLower(limit.Domain)] = float64(limit.PerMinute)
	}
	return m
}

func sourceOf(c *Config, s Source) newsletter.Source {
	zone := time.UTC
	if len(c.Newsletters) > 0 {
		zone = c.Newsletters[0].Location()
	}
	return newsletter.Source{
		Name: s.Name, URL: s.URL, Path: s.Path, Language: s.Language, Zone: zone,
		FullText: s.Rights == "full", Pictures: s.Pictures, Every: s.Every, AllowPrivate: s.Private(), MaxBytes: s.MaxBytes,
	}
}

func newsletterOf(n Newsletter) (newsletter.Newsletter, error) {
	planned, err := newsletter.ParseClock(string(n.Time))
	if err != nil {
		return newsletter.Newsletter{}, err
	}
	latest, err := newsletter.ParseClock(string(n.Latest))
	if err != nil {
		return newsletter.Newsletter{}, err
	}
	return newsletter.Newsletter{
		Slug: n.Slug, Title: n.Title, Language: n.Language, Topics: n.Topics, Days: n.Days, Time: planned, Latest: latest,
		Zone: n.Location(), MaxAge: n.MaxAge, Template: n.Template, Entries: n.Limits.Entries, PerTopic: n.Limits.PerTopic,
		Resend: n.Doubt == "resend",
	}, nil
}

// choose finds the newsletter a flag names; without one there must be only one.
func (h *house) choose(slug string) (newsletter.Newsletter, error) {
	if slug == "" {
		if len(h.newsroom.Newsletters) == 1 {
			return h.newsroom.Newsletters[0], nil
		}
		return newsletter.Newsletter{}, usageErrorf("there are several newsletters: name one with --newsletter (%s)", h.slugs())
	}
	n, ok := h.newsroom.Newsletter(slug)
	if !ok {
		return n, usageErrorf("there is no newsletter %q: expected one of %s", slug, h.slugs())
	}
	return n, nil
}

func (h *house) slugs() string {
	var slugs []string
	for _, n := range h.newsroom.Newsletters {
		slugs = append(slugs, n.Slug)
	}
	return strings.Join(slugs, ", ")
}

// within says whether a path lies in a folder, or is it.
func within(folder, path string) bool {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return false
	}
	if path, err = filepath.Abs(path); err != nil {
		return false
	}
	relative, err := filepath.Rel(folder, path)
	return err == nil && filepath.IsLocal(relative)
}
