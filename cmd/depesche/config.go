package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"depesche/migrations"
)

// Config is depesche.yaml, read, completed and checked.
//
// A key is named like its tag: `smtp: {host: …}` in the file, DEPESCHE_SMTP_HOST in the environment, which wins. Entries of
// a list carry their number, from 0: DEPESCHE_NEWSLETTERS_0_TIME; values of a plain list are separated by commas. An empty
// variable counts as unset, and so does an empty value in the file. A number of 0 means the default, too.
//
// Durations are written 15m, 72h, 7d; times of day 06:00; paths are relative to the folder of the file.
type Config struct {
	// BaseURL is where readers reach `depesche serve` through the paper's web server: https://host, no path. Every link in
	// every mail begins with it. http only on the loopback. Required.
	BaseURL string `key:"base_url"`

	// Database is a file for SQLite or postgres://user:password@host/name for PostgreSQL. Default depesche.db.
	Database DSN `key:"database"`

	// DatabaseFile names a file that holds Database, to keep a password out of this file. Not together with Database.
	DatabaseFile string `key:"database_file"`

	// Keys is the file of the keys that make and check readers' links. `init` creates it, mode 0600; without it no link in
	// any mail works any more, and it is in no backup of the database. Default depesche.keys.
	Keys string `key:"keys"`

	// Journal is the folder for the journals in which replies survive a kill: on a disk of this machine, not of the network.
	// Default: the folder of the SQLite database; with PostgreSQL that of this file.
	Journal string `key:"journal"`

	// Language is what pages and mails speak where nothing else is said: de or en. Default de.
	Language string `key:"language"`

	// Listen is the address of `depesche serve`: plain HTTP, for a web server in front of it. Default 127.0.0.1:8080.
	Listen string `key:"listen"`

	// Templates is a folder of the paper's own templates; what it lacks comes from the built-in ones. Default none.
	Templates string `key:"templates"`

	// Proxies are the addresses or networks whose X-Forwarded-For is believed. Default: the loopback.
	Proxies []string `key:"proxies"`

	// ConfirmWithin is how long a reader may take to confirm; what was not confirmed is deleted afterwards. Default 7d.
	ConfirmWithin time.Duration `key:"confirm_within"`

	SignUps     SignUps      `section:"signups_"`
	Publisher   Publisher    `section:"publisher_"`
	Pages       Pages        `section:"pages_"`
	Senders     Senders      `section:"senders_"`
	SMTP        SMTP         `section:"smtp_"`
	Sources     []Source     `section:"sources_"`
	Topics      []Topic      `section:"topics_"`
	Newsletters []Newsletter `section:"newsletters_"`

	// Ignore lists kickers and categories that are formats, not topics ("Lage im Überblick"). Default none.
	Ignore []string `key:"ignore"`

	Alerts Alerts `section:"alerts_"`

	Retention Retention `section:"retention_"`

	// File is where the configuration was read from.
	File string `key:"-"`

	// Warnings are what works but should not stay, a line each: secrets others can read, addresses that cannot exist.
	Warnings []string `key:"-"`
}

// SignUps is what protects people from sign-ups they did not ask for. To one address goes at most one confirmation a day and
// three letters in 14 days, which is not for configuring.
type SignUps struct {
	// PerNetwork is how many sign-ups one IPv4 address or IPv6 /64 may send a minute. Default 10.
	PerNetwork int `key:"per_network"`
	// Flood is the number of sign-ups a minute, from everywhere, above which letters wait and somebody is alerted. Default 300.
	Flood int `key:"flood"`
	// MinFill is the time below which nobody can have filled in the form. Default 2s.
	MinFill time.Duration `key:"min_fill"`
	// Disposable is what becomes of addresses with throw-away domains: refuse, flag or allow. Default flag.
	Disposable string `key:"disposable"`
	// DisposableFile lists such domains besides the built-in ones, one a line; "!domain" is none after all. Default none.
	DisposableFile string `key:"disposable_file"`

	// Domains are the lines of DisposableFile.
	Domains []string `key:"-"`
}

// Publisher is who answers for the newsletter: printed in every mail (DDG § 5, MStV § 18 (2)).
type Publisher struct {
	// Name of the company or person that publishes. Required.
	Name string `key:"name"`
	// Address where papers can be served: street, number, postcode, town on one line. Required.
	Address string `key:"address"`
	// Email readers can write to. Required.
	Email string `key:"email"`
	// Responsible is the person who answers for the editorial content (MStV § 18 (2)). Required.
	Responsible string `key:"responsible"`
	// PrivacyURL and ImprintURL are the paper's pages of these names: https. Required.
	PrivacyURL string `key:"privacy_url"`
	ImprintURL string `key:"imprint_url"`
	// PrivacyFile is a copy of that privacy page (text, Markdown or HTML, at most 1 MiB): its words are kept with each sign-up, for the
	// proof to show years later. Default none: only what the form said is kept.
	PrivacyFile string `key:"privacy_file"`
	// Paper is the short name readers know. Default Name.
	Paper string `key:"paper"`
	// Logo is the https address of a picture for the head of a digest. Default none: the name is printed.
	Logo string `key:"logo"`
	// LogoFile is a picture (SVG, PNG, JPEG, WebP, GIF; at most 256 KiB) for the head of the readers' pages, which load nothing from
	// elsewhere. Default none: the name is printed.
	LogoFile string `key:"logo_file"`
	// Colour is the paper's colour, #rrggbb. Default none: the template's.
	Colour string `key:"colour"`
	// ColourText is what is written on Colour, #rrggbb, with a contrast of 4.5:1 (WCAG 2.2, 1.4.3). Default black or white,
	// whichever has more contrast.
	ColourText string `key:"colour_text"`
	// LinkColour and LinkColourDark are links on the readers' pages by day and by night, #rrggbb, with a contrast of 4.5:1.
	// Default: the style sheet's.
	LinkColour     string `key:"link_colour"`
	LinkColourDark string `key:"link_colour_dark"`
}

// Pages are the readers' pages, and the box in the paper's own.
type Pages struct {
	// Origins are where the paper's pages are (https://www.…, no path): only their boxes are answered in place, and forms from
	// other sites are refused. Default none: forms are taken from anywhere and answered with a page.
	Origins []string `key:"origins"`
}

// Senders are the addresses mails come from. Digests and letters should differ, so that one cannot spoil the other's repute.
type Senders struct {
	Newsletter NewsletterSender `section:"newsletter_"`
	Letter     LetterSender     `section:"letter_"`
	// BounceDomain is where returned mails go (the domain of the envelope sender). Default: that of newsletter.from.
	BounceDomain string `key:"bounce_domain"`
	// MessageDomain stands on the right of every Message-ID and List-Id. Default: that of newsletter.from.
	MessageDomain string `key:"message_domain"`
}

// NewsletterSender is whom digests come from.
type NewsletterSender struct {
	// From is one address somebody reads. Required.
	From string `key:"from"`
	// Name stands before it. Default: publisher.paper.
	Name string `key:"name"`
	// ReplyTo is where answers go. Default: From.
	ReplyTo string `key:"reply_to"`
}

// LetterSender is whom confirmations and other single mails come from.
type LetterSender struct {
	// From is one address somebody reads. Default: newsletter.from.
	From string `key:"from"`
	// Name stands before it. Default: publisher.paper.
	Name string `key:"name"`
}

// SMTP is the relay that takes the mails.
type SMTP struct {
	// Host name of the relay; its certificate must carry it. Required.
	Host string `key:"host"`
	// Port. Default 587 for required, 465 for implicit, 25 for none.
	Port int `key:"port"`
	// TLS: required (STARTTLS or nothing is sent), implicit (TLS from the first byte) or none (loopback only). Default required.
	TLS string `key:"tls"`
	// User and Password for AUTH. Default: no AUTH.
	User     string `key:"user"`
	Password Secret `key:"password"`
	// PasswordFile names a file that holds Password. Not together with Password.
	PasswordFile string `key:"password_file"`
	// Hello is the full host name said in EHLO. Default: this machine's, or its address in brackets.
	Hello string `key:"hello"`
	// Connections is how many are open at once. Default 8.
	Connections int `key:"connections"`
	// PerSecond is the most messages a second over all connections. Default 0: as fast as the relay takes them.
	PerSecond int `key:"per_second"`
	// PerSecondConnection is the most messages a second over one connection. Default 0: no limit.
	PerSecondConnection int `key:"per_second_connection"`
	// PerConnection is after how many messages a connection is renewed. Default 500.
	PerConnection int `key:"per_connection"`
	// Flight is how many messages may be unanswered on a connection whose server offers CHUNKING: so many can be doubtful after
	// a kill. Default 8, at most 32.
	Flight int `key:"flight"`
	// Domains are recipients' domains that want mail slowly. Default none.
	Domains []DomainLimit `section:"domains_"`
}

// DomainLimit is how fast a recipients' domain takes mail.
type DomainLimit struct {
	// Domain on the right of the @. Required.
	Domain string `key:"domain"`
	// PerMinute is the most messages a minute. Required.
	PerMinute int `key:"per_minute"`
}

// Source is where articles come from: a feed or a page by address, or a file or folder.
type Source struct {
	// Name tells sources apart; it is kept with every article, so a new name makes new articles. Required.
	Name string `key:"name"`
	// URL of an RSS, Atom or JSON feed, or of an article's page. Either URL or Path.
	URL string `key:"url"`
	// Path of a file or of a folder of feeds and Markdown files.
	Path string `key:"path"`
	// Language of articles that do not say theirs, such as de or pt-BR. Default: Config.Language.
	Language string `key:"language"`
	// Rights say how much of an article may be mailed: teaser or full. Default teaser.
	Rights string `key:"rights"`
	// Pictures says whether its pictures may be copied and shown, with their credit: yes or no. Default no.
	Pictures bool `key:"pictures"`
	// Every is the shortest time between two visits. Default 15m.
	Every time.Duration `key:"every"`
	// AllowPrivate lists private addresses or networks this source may be fetched from, for a CMS in the house. Default none.
	AllowPrivate []string `key:"allow_private"`
	// MaxBytes is the largest document taken, in bytes after decompression. Default 10485760 (10 MiB).
	MaxBytes int64 `key:"max_bytes"`
}

// Topic is a subject readers choose.
type Topic struct {
	// Slug names the topic in links and on the command line: a–z, 0–9 and hyphens. It stays when the name changes. Required.
	Slug string `key:"slug"`
	// Name readers see. Required.
	Name string `key:"name"`
	// Promise is one line for readers: what the topic brings. Default none.
	Promise string `key:"promise"`
	// Aliases are the kickers and categories that belong here; letter case does not count. Slug and Name always do.
	Aliases []string `key:"aliases"`
}

// Newsletter is a title, a set of topics, a schedule and a template.
type Newsletter struct {
	// Slug names the newsletter in links, in List-Id and on the command line; it never changes. Required.
	Slug string `key:"slug"`
	// Title readers see. Required.
	Title string `key:"title"`
	// Promise is the one line beside the title on the form: what comes, and when. Default none.
	Promise string `key:"promise"`
	// Topics are slugs, in the order of the digest. Required.
	Topics []string `key:"topics"`
	// Days on which a digest is made: mon tue wed thu fri sat sun, or mo di mi do fr sa so. Default all seven.
	Days []time.Weekday `key:"days"`
	// Time of day at which a digest is composed, in Zone. Default 06:00.
	Time Clock `key:"time"`
	// Latest time of day at which a mail may still leave; the rest expires. Default 10:00, or for a Time after that 23:59.
	Latest Clock `key:"latest"`
	// Zone is a name of the IANA database. Default Europe/Berlin.
	Zone string `key:"zone"`
	// MaxAge is how old an article may be at composing. Default 72h.
	MaxAge time.Duration `key:"max_age"`
	// Template is a file of mail/<language>/ without its ending. Default digest.
	Template string `key:"template"`
	// Language: de or en. Default: Config.Language.
	Language string `key:"language"`
	// Limits keep a digest readable.
	Limits Limits `section:"limits_"`
	// Doubt says what becomes of a mail of which nobody knows whether it arrived: hold (never twice) or resend. Default hold.
	Doubt string `key:"doubt"`
}

// Limits are the most entries of a digest, and of one topic in it.
type Limits struct {
	// Entries of the whole digest. Default 40.
	Entries int `key:"entries"`
	// PerTopic is the most entries of one topic. Default 15.
	PerTopic int `key:"per_topic"`
}

// Alerts go to stderr and to what is named here, never only through the relay that failed.
type Alerts struct {
	// Mail is the address of somebody who can act. Default none.
	Mail string `key:"mail"`
	// Command is a program and its arguments, run without a shell; the alert is its standard input. Default none.
	Command []string `key:"command"`
}

// Retention is what is kept of readers, and for how long; `cleanup` deletes what is over.
type Retention struct {
	// IP is how much of a network address a consent event keeps: off, truncated (to /24, for IPv6 /48) or full. Default truncated.
	IP string `key:"ip"`
	// IPFor is how long it keeps it. Default 180d.
	IPFor time.Duration `key:"ip_for"`
	// ProofYears is how many years, each to its end, the proof of a consent is kept after its reader has left: the period of
	// limitation (BGB §§ 195, 199). Default 3.
	ProofYears int `key:"proof_years"`
	// LettersFor is how long letters are listed that were sent or given up, without their text. Default 90d, at least 14d.
	LettersFor time.Duration `key:"letters_for"`
	// AccessesFor is how long it is recorded who looked at readers' data. Default 365d.
	AccessesFor time.Duration `key:"accesses_for"`
}

// Clock is a time of day, "06:00".
type Clock string

// HourMinute takes a checked Clock apart for time.Date.
func (c Clock) HourMinute() (hour, minute int) {
	_, _ = fmt.Sscanf(string(c), "%d:%d", &hour, &minute)
	return hour, minute
}

// Location is the checked Zone.
func (n Newsletter) Location() *time.Location {
	location, err := time.LoadLocation(n.Zone)
	if err != nil {
		return time.UTC // cannot happen after LoadConfig
	}
	return location
}

// Private is the checked AllowPrivate.
func (s Source) Private() []netip.Prefix { return networks(s.AllowPrivate) }

// TrustedProxies is the checked Proxies.
func (c *Config) TrustedProxies() []netip.Prefix { return networks(c.Proxies) }

func networks(texts []string) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, text := range texts {
		if prefix, err := parseNetwork(text); err == nil {
			prefixes = append(prefixes, prefix)
		}
	}
	return prefixes
}

// parseNetwork takes a network (10.0.0.0/8) or a single address.
func parseNetwork(text string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	return netip.ParsePrefix(text)
}

// Secret is a text that no log, error or dump shows. string(s) is the only way to it.
type Secret string

// Format hides the secret from every verb of fmt.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.hidden())) }

// MarshalText hides the secret from JSON, YAML and slog.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.hidden()), nil }

func (s Secret) hidden() string {
	if s == "" {
		return ""
	}
	return "…"
}

// DSN says where the database is. Printed, it lacks password and options; string(d) has them.
type DSN string

// PostgreSQL tells an address from a file name.
func (d DSN) PostgreSQL() bool {
	return migrations.IsPostgres(string(d))
}

// Format hides the password from every verb of fmt.
func (d DSN) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(d.hidden())) }

// MarshalText hides the password from JSON, YAML and slog.
func (d DSN) MarshalText() ([]byte, error) { return []byte(d.hidden()), nil }

func (d DSN) hidden() string {
	if !d.PostgreSQL() {
		return string(d)
	}
	address, err := url.Parse(string(d))
	if err != nil {
		return "postgres://…"
	}
	return "postgres://" + address.Host + address.Path
}

// LoadConfig reads the file at path, lets environ (as os.Environ gives it) overrule it, fills in the defaults, reads the
// secrets kept in files of their own, and checks everything. Its error lists all that is wrong, a line each, in the order of
// the file, and ends the process with status 2.
func LoadConfig(path string, environ []string) (*Config, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usageErrorf("there is no %s: create one with \"depesche init\" or name another with --config", path)
	}
	if err != nil {
		return nil, usageErrorf("read the configuration: %w", err)
	}
	c := &Config{File: path}
	d := newDocument(path, environ)
	if d.read(text, c); d.unreadable {
		return nil, usageError(d.mistakes)
	}
	d.overlay(c)
	c.resolvePaths()
	c.readSecrets(d)
	c.readDisposable(d)
	c.setDefaults()
	c.validate(d.report)
	c.warnOfExposedSecrets(d)
	c.warnOfReservedDomains()
	if len(d.mistakes) > 0 {
		return nil, usageError(d.mistakes.sorted())
	}
	return c, nil
}

// setDefaults fills in what file and environment left out. Every default of the configuration is here.
func (c *Config) setDefaults() {
	if c.DatabaseFile == "" {
		fill(&c.Database, DSN(c.beside("depesche.db")))
	}
	fill(&c.Keys, c.beside("depesche.keys"))
	if c.Journal == "" && !c.Database.PostgreSQL() {
		c.Journal = filepath.Dir(string(c.Database))
	}
	fill(&c.Journal, filepath.Dir(c.File))
	fill(&c.Language, "de")
	fill(&c.Listen, "127.0.0.1:8080")
	fill(&c.ConfirmWithin, 7*24*time.Hour)
	if c.Proxies == nil {
		c.Proxies = []string{"127.0.0.0/8", "::1"}
	}
	fill(&c.SignUps.PerNetwork, 10)
	fill(&c.SignUps.Flood, 300)
	fill(&c.SignUps.MinFill, 2*time.Second)
	fill(&c.SignUps.Disposable, "flag")
	c.BaseURL = strings.TrimSuffix(c.BaseURL, "/")
	fill(&c.Publisher.Paper, c.Publisher.Name)

	s := &c.Senders
	fill(&s.Newsletter.Name, c.Publisher.Paper)
	fill(&s.Newsletter.ReplyTo, s.Newsletter.From)
	fill(&s.Letter.From, s.Newsletter.From)
	fill(&s.Letter.Name, c.Publisher.Paper)
	fill(&s.BounceDomain, domain(s.Newsletter.From))
	fill(&s.MessageDomain, domain(s.Newsletter.From))

	fill(&c.Retention.IP, "truncated")
	fill(&c.Retention.IPFor, 180*24*time.Hour)
	fill(&c.Retention.ProofYears, 3)
	fill(&c.Retention.LettersFor, 90*24*time.Hour)
	fill(&c.Retention.AccessesFor, 365*24*time.Hour)

	fill(&c.SMTP.TLS, "required")
	fill(&c.SMTP.Port, map[string]int{"required": 587, "implicit": 465, "none": 25}[c.SMTP.TLS])
	fill(&c.SMTP.Connections, 8)
	fill(&c.SMTP.PerConnection, 500)
	fill(&c.SMTP.Flight, 8)

	for i := range c.Sources {
		source := &c.Sources[i]
		fill(&source.Language, c.Language)
		fill(&source.Rights, "teaser")
		fill(&source.Every, 15*time.Minute)
		fill(&source.MaxBytes, 10<<20)
	}
	for i := range c.Newsletters {
		newsletter := &c.Newsletters[i]
		fill(&newsletter.Time, "06:00")
		fill(&newsletter.Latest, latest(newsletter.Time))
		fill(&newsletter.Zone, "Europe/Berlin")
		fill(&newsletter.MaxAge, 72*time.Hour)
		fill(&newsletter.Template, "digest")
		fill(&newsletter.Language, c.Language)
		fill(&newsletter.Limits.Entries, 40)
		fill(&newsletter.Limits.PerTopic, 15)
		fill(&newsletter.Doubt, "hold")
		if newsletter.Days == nil {
			newsletter.Days = []time.Weekday{1, 2, 3, 4, 5, 6, 0}
		}
	}
}

// fill sets what is still zero.
func fill[T comparable](value *T, preset T) {
	var zero T
	if *value == zero {
		*value = preset
	}
}

// latest is the default for a digest planned at this time: ten o'clock, or for an evening paper the end of the day.
func latest(planned Clock) Clock {
	if planned < "10:00" {
		return "10:00"
	}
	return "23:59"
}

func domain(address string) string {
	return address[strings.LastIndexByte(address, '@')+1:]
}

// beside is a path as the configuration means it: relative to its own folder.
func (c *Config) beside(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(c.File), path)
}

func (c *Config) resolvePaths() {
	for _, path := range []*string{&c.DatabaseFile, &c.Keys, &c.Journal, &c.Templates, &c.Publisher.LogoFile, &c.Publisher.PrivacyFile, &c.SMTP.PasswordFile, &c.SignUps.DisposableFile} {
		*path = c.beside(*path)
	}
	if !c.Database.PostgreSQL() {
		c.Database = DSN(c.beside(string(c.Database)))
	}
	for i := range c.Sources {
		c.Sources[i].Path = c.beside(c.Sources[i].Path)
	}
}

// readSecrets replaces database_file and smtp.password_file by what these files hold.
func (c *Config) readSecrets(d *document) {
	if file := d.secretFile("database", c.Database != "", "database_file", c.DatabaseFile); file != "" {
		c.Database = DSN(c.readSecret(d, "database_file", file))
		if !c.Database.PostgreSQL() {
			c.Database = DSN(c.beside(string(c.Database)))
		}
	}
	file := d.secretFile("smtp.password", c.SMTP.Password != "", "smtp.password_file", c.SMTP.PasswordFile)
	if file != "" {
		c.SMTP.Password = Secret(c.readSecret(d, "smtp.password_file", file))
	}
}

// readDisposable reads the paper's own list of throw-away domains.
func (c *Config) readDisposable(d *document) {
	if c.SignUps.DisposableFile == "" {
		return
	}
	text, err := os.ReadFile(c.SignUps.DisposableFile)
	if err != nil {
		d.report("signups.disposable_file", fmt.Sprintf("cannot be read: %v", err))
	}
	c.SignUps.Domains = strings.Split(string(text), "\n")
}

func (c *Config) readSecret(d *document, key, file string) string {
	text, err := os.ReadFile(file)
	secret := strings.TrimRight(string(text), "\r\n")
	switch {
	case err != nil:
		d.report(key, fmt.Sprintf("cannot be read: %v", err))
	case secret == "":
		d.report(key, fmt.Sprintf("expected a secret in %s, it is empty", file))
	default:
		c.warnIfExposed(file)
	}
	return secret
}

// warnOfExposedSecrets looks at the file itself where it holds a secret.
func (c *Config) warnOfExposedSecrets(d *document) {
	if d.holds("smtp.password") || d.holds("database") && c.Database.PostgreSQL() {
		c.warnIfExposed(c.File)
	}
}

// warnIfExposed accepts a group that reads, as systemd and packages use it, but nobody else.
func (c *Config) warnIfExposed(file string) {
	info, err := os.Stat(file)
	if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o027 != 0 {
		c.Warnings = append(c.Warnings, fmt.Sprintf("%s holds a secret and is open to others (mode %04o): chmod 600 %s",
			file, info.Mode().Perm(), file))
	}
}

// warnOfReservedDomains finds addresses that can never receive mail (RFC 2606), unless everything is a trial on this machine.
func (c *Config) warnOfReservedDomains() {
	if base, err := url.Parse(c.BaseURL); err == nil && loopback(base.Hostname()) {
		return
	}
	for _, place := range []struct{ key, address string }{
		{"publisher.email", c.Publisher.Email},
		{"senders.newsletter.from", c.Senders.Newsletter.From},
		{"senders.newsletter.reply_to", c.Senders.Newsletter.ReplyTo},
		{"senders.letter.from", c.Senders.Letter.From},
	} {
		if name := domain(place.address); reserved(name) {
			warning := fmt.Sprintf("%s: %s is a name for examples, no mail ever reaches it", place.key, name)
			c.Warnings = append(c.Warnings, warning)
		}
	}
}

func reserved(name string) bool {
	labels := strings.Split(strings.ToLower(name), ".")
	last := labels[len(labels)-1]
	if slices.Contains([]string{"example", "test", "invalid", "localhost"}, last) {
		return true
	}
	return len(labels) >= 2 && labels[len(labels)-2] == "example" && slices.Contains([]string{"com", "net", "org"}, last)
}

// loopback tells whether a host name or address is this very machine.
func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address := net.ParseIP(host)
	return address != nil && address.IsLoopback()
}
