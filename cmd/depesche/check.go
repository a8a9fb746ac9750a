package main

import (
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/language"
)

// checker finds what is wrong with a configuration that could be read. Each check names the key and what was expected.
type checker struct {
	report func(key, text string)
}

// validate checks the whole configuration, defaults filled in, and reports every mistake under its key.
func (c *Config) validate(report func(key, text string)) {
	check := checker{report}
	check.general(c)
	check.publisher(c.Publisher)
	check.origins("pages.origins", c.Pages.Origins)
	check.senders(c.Senders)
	check.smtp(c.SMTP)
	check.sources(c.Sources)
	check.topics(c.Topics, c.Ignore)
	check.newsletters(c.Newsletters, c.Topics)
	check.optionalAddress("alerts.mail", c.Alerts.Mail)
	check.retention(c.Retention)
}

func (c checker) reportf(key, format string, args ...any) {
	c.report(key, fmt.Sprintf(format, args...))
}

func (c checker) general(config *Config) {
	c.baseURL(config.BaseURL)
	c.oneOf("language", config.Language, "de", "en")
	if _, port, err := net.SplitHostPort(config.Listen); err != nil || !isPort(port) {
		c.reportf("listen", "expected an address such as 127.0.0.1:8080, got %q", config.Listen)
	}
	if !config.Database.PostgreSQL() && strings.Contains(string(config.Database), "://") {
		c.report("database", "expected a file name or postgres://user:password@host/name")
	}
	if _, err := url.Parse(string(config.Database)); err != nil && config.Database.PostgreSQL() {
		// The parser's error would repeat the address, password and all.
		c.report("database", "expected postgres://user:password@host/name, with %xx for special characters in the password")
	}
	if info, err := os.Stat(config.Templates); config.Templates != "" && (err != nil || !info.IsDir()) {
		c.reportf("templates", "expected a folder, there is none at %s", config.Templates)
	}
	c.networks("proxies", config.Proxies)
	c.signUps(config.SignUps)
}

func (c checker) signUps(s SignUps) {
	c.oneOf("signups.disposable", s.Disposable, "refuse", "flag", "allow")
	if s.PerNetwork < 1 {
		c.reportf("signups.per_network", "expected a number of 1 or more, got %d", s.PerNetwork)
	}
	if s.Flood < 1 {
		c.reportf("signups.flood", "expected a number of 1 or more, got %d", s.Flood)
	}
	if s.MinFill < 0 || s.MinFill > time.Minute {
		c.reportf("signups.min_fill", "expected a duration of at most a minute, got %v", s.MinFill)
	}
}

// baseURL must be the root of a host: links in mails are base_url and a path, and tokens in them want TLS on the way.
func (c checker) baseURL(text string) {
	if text == "" {
		c.report("base_url", "missing: expected where readers reach depesche serve, such as https://newsletter.…")
		return
	}
	base, err := url.Parse(text)
	switch {
	case err != nil || base.Hostname() == "" || base.User != nil || base.Scheme != "https" && base.Scheme != "http":
		c.reportf("base_url", "expected an address such as https://newsletter.…, got %q", text)
	case base.Scheme == "http" && !loopback(base.Hostname()):
		c.reportf("base_url", "expected https (http only for this machine itself), got %q", text)
	case base.Path != "" || base.RawQuery != "" || base.Fragment != "":
		c.reportf("base_url", "expected an address without path and query, got %q", text)
	}
}

func (c checker) publisher(p Publisher) {
	c.own("publisher.name", p.Name, "the name of the company or person that publishes")
	c.own("publisher.address", p.Address, "street, number, postcode and town on one line")
	c.own("publisher.responsible", p.Responsible, "the person who answers for the content (MStV § 18 (2))")
	if c.own("publisher.email", p.Email, "an address readers can write to") {
		c.address("publisher.email", p.Email)
	}
	if c.own("publisher.privacy_url", p.PrivacyURL, "the https address of the privacy page") {
		c.webAddress("publisher.privacy_url", p.PrivacyURL)
	}
	if c.own("publisher.imprint_url", p.ImprintURL, "the https address of the imprint") {
		c.webAddress("publisher.imprint_url", p.ImprintURL)
	}
	if p.Paper != "" {
		c.own("publisher.paper", p.Paper, "the short name of the paper")
	}
	if p.Logo != "" {
		c.webAddress("publisher.logo", p.Logo)
	}
	for _, one := range []struct{ key, colour string }{
		{"publisher.colour", p.Colour},
		{"publisher.colour_text", p.ColourText},
		{"publisher.link_colour", p.LinkColour},
		{"publisher.link_colour_dark", p.LinkColourDark},
	} {
		if one.colour != "" && !matches(`^#[0-9a-fA-F]{6}$`, one.colour) {
			c.reportf(one.key, "expected #rrggbb, got %q", one.colour)
		}
	}
}

// origins are schemes and hosts as a browser names them (RFC 6454): in lower case, without the scheme's own port.
func (c checker) origins(key string, origins []string) {
	for i, text := range origins {
		origin, err := url.Parse(text)
		ok := err == nil && (origin.Scheme == "https" || origin.Scheme == "http" && loopback(origin.Hostname())) &&
			origin.Host != "" && text == origin.Scheme+"://"+origin.Host && text == strings.ToLower(text) &&
			!strings.HasSuffix(text, ":443") && !strings.Contains(text, "*") && origin.User == nil
		if !ok {
			c.reportf(fmt.Sprintf("%s[%d]", key, i), "expected an origin such as https://www.…, without a path, got %q", text)
		}
	}
}

// placeholders are what forms and templates suggest and nobody is called. Readers would get them as the imprint (D15).
const placeholders = `(?i)\b(todo|fixme|tbd|xxx+|change ?me|lorem ipsum|platzhalter|placeholder` +
	`|muster(firma|verlag|zeitung|mann|frau|stra(ß|ss)e|str\.|stadt|ort|hausen)|(max|erika) muster\w*` +
	`|(ihr|ihre|ihren|your) (name|firma|verlag|zeitung|adresse|anschrift|company|publisher|paper|address|e-?mail))|^<.*>$|^\.\.\.$|^…$`

// own wants a text of the paper's own and tells whether there is one.
func (c checker) own(key, text, expected string) bool {
	switch {
	case text == "":
		c.report(key, "missing: expected "+expected)
	case matches(placeholders, text):
		c.reportf(key, "%q is a placeholder: expected %s", text, expected)
	default:
		return true
	}
	return false
}

func (c checker) retention(r Retention) {
	c.oneOf("retention.ip", r.IP, "off", "truncated", "full")
	for _, kept := range []struct {
		key         string
		time, least time.Duration
		words       string
	}{
		{"retention.ip_for", r.IPFor, 24 * time.Hour, "a day"},
		{"retention.letters_for", r.LettersFor, 14 * 24 * time.Hour, "14d: so long letters count against the limit"},
		{"retention.accesses_for", r.AccessesFor, 24 * time.Hour, "a day"},
	} {
		if kept.time < kept.least {
			c.reportf(kept.key, "expected at least %s", kept.words)
		}
	}
	if r.ProofYears < 0 || r.ProofYears > 30 {
		c.reportf("retention.proof_years", "expected 1 to 30 years, got %d", r.ProofYears)
	}
}

func (c checker) senders(s Senders) {
	if c.own("senders.newsletter.from", s.Newsletter.From, "the address digests come from") {
		c.answered("senders.newsletter.from", s.Newsletter.From)
	}
	if s.Newsletter.ReplyTo != s.Newsletter.From { // else it is the default, and checked
		c.answered("senders.newsletter.reply_to", s.Newsletter.ReplyTo)
	}
	if s.Letter.From != s.Newsletter.From {
		c.answered("senders.letter.from", s.Letter.From)
	}
	c.optionalDomain("senders.bounce_domain", s.BounceDomain)
	c.optionalDomain("senders.message_domain", s.MessageDomain)
}

func (c checker) optionalDomain(key, name string) {
	if name != "" && !isHost(name) {
		c.reportf(key, "expected a domain, got %q", name)
	}
}

// answered wants an address somebody reads: readers answer newsletters, and providers ask that they can (Gmail 81126).
func (c checker) answered(key, address string) {
	if !c.address(key, address) {
		return
	}
	local, _, _ := strings.Cut(address, "@")
	plain := strings.ToLower(strings.NewReplacer("-", "", "_", "", ".", "").Replace(local))
	if slices.Contains([]string{"noreply", "donotreply", "nichtantworten", "bittenichtantworten", "keineantwort"}, plain) {
		c.reportf(key, "expected an address somebody reads, got %q: readers do answer newsletters", address)
	}
}

// address wants one bare mailbox.
func (c checker) address(key, text string) bool {
	parsed, err := mail.ParseAddress(text)
	if err == nil && parsed.Address == text && isHost(domain(text)) {
		return true
	}
	c.reportf(key, "expected one address such as redaktion@…, got %q", text)
	return false
}

func (c checker) optionalAddress(key, text string) {
	if text != "" {
		c.address(key, text)
	}
}

// webAddress wants a page or picture that readers' programs fetch: https, or http on this machine for a trial.
func (c checker) webAddress(key, text string) {
	address, err := url.Parse(text)
	switch {
	case err != nil || address.Host == "" || address.User != nil:
	case address.Scheme == "https", address.Scheme == "http" && loopback(address.Hostname()):
		return
	}
	c.reportf(key, "expected an address such as https://…, got %q", text)
}

func (c checker) smtp(s SMTP) {
	c.oneOf("smtp.tls", s.TLS, "required", "implicit", "none")
	switch {
	case s.Host == "":
		c.report("smtp.host", "missing: expected the host name of the mail server")
	case !isHost(s.Host) && net.ParseIP(s.Host) == nil && !loopback(s.Host):
		c.reportf("smtp.host", "expected a host name without a port, got %q", s.Host)
	case s.TLS == "none" && !loopback(s.Host):
		c.reportf("smtp.tls", "expected required or implicit: none is for this machine itself, not for %s", s.Host)
	}
	if s.Port > 65535 {
		c.reportf("smtp.port", "expected a port from 1 to 65535, got %d", s.Port)
	}
	if s.User == "" && s.Password != "" {
		c.report("smtp.user", "missing: expected the user the password belongs to")
	}
	if s.User != "" && s.Password == "" {
		c.report("smtp.password", "missing: expected smtp.password, smtp.password_file or DEPESCHE_SMTP_PASSWORD")
	}
	if s.Hello != "" && (!isHost(s.Hello) || !strings.Contains(s.Hello, ".")) {
		c.reportf("smtp.hello", "expected a full host name such as mail.…, got %q", s.Hello)
	}
	if s.Connections > 50 {
		c.reportf("smtp.connections", "expected at most 50, got %d", s.Connections)
	}
	if s.Flight > 32 || s.Flight < 0 {
		c.reportf("smtp.flight", "expected 1 to 32, got %d", s.Flight)
	}
	for i, limit := range s.Domains {
		key := fmt.Sprintf("smtp.domains[%d]", i)
		if !strings.Contains(limit.Domain, ".") || strings.ContainsAny(limit.Domain, "@ /") {
			c.reportf(key+".domain", "expected a domain such as example.org, got %q", limit.Domain)
		}
		if limit.PerMinute < 1 {
			c.reportf(key+".per_minute", "expected a number of 1 or more, got %d", limit.PerMinute)
		}
	}
}

func (c checker) sources(sources []Source) {
	names := map[string]bool{}
	for i, s := range sources {
		key := fmt.Sprintf("sources[%d].", i)
		c.unique(names, key+"name", s.Name, "a name that tells the source apart")
		switch {
		case s.URL == "" && s.Path == "":
			c.report(key+"url", "missing: expected url or path")
		case s.URL != "" && s.Path != "":
			c.report(key+"path", "expected either url or path, not both")
		case s.URL != "" && !isFeedAddress(s.URL):
			c.reportf(key+"url", "expected an address such as https://…/feed without user and password, got %q", withoutUser(s.URL))
		}
		if _, err := language.Parse(s.Language); err != nil {
			c.reportf(key+"language", "expected a language such as de or en, got %q", s.Language)
		}
		c.oneOf(key+"rights", s.Rights, "teaser", "full")
		c.networks(key+"allow_private", s.AllowPrivate)
		if s.Every < time.Minute {
			c.reportf(key+"every", "expected at least 1m, got %v", s.Every)
		}
	}
}

func isFeedAddress(text string) bool {
	address, err := url.Parse(text)
	return err == nil && address.Host != "" && address.User == nil && (address.Scheme == "https" || address.Scheme == "http")
}

// withoutUser keeps a password in an address out of the error about it.
func withoutUser(text string) string {
	address, err := url.Parse(text)
	if err != nil || address.User == nil {
		return text
	}
	address.User = nil
	return address.String()
}

// topics checks that every kicker leads to one topic only, and that none is both a topic and ignored.
func (c checker) topics(topics []Topic, ignore []string) {
	slugs := map[string]bool{}
	owner := map[string]string{}
	for i, topic := range topics {
		key := fmt.Sprintf("topics[%d].", i)
		c.slug(slugs, key+"slug", topic.Slug)
		if topic.Name == "" {
			c.report(key+"name", "missing: expected the name readers see")
		}
		c.claim(owner, key+"slug", topic.Slug, topic.Slug)
		c.claim(owner, key+"name", topic.Name, topic.Slug)
		for j, alias := range topic.Aliases {
			c.claim(owner, fmt.Sprintf("%saliases[%d]", key, j), alias, topic.Slug)
		}
	}
	for i, kicker := range ignore {
		if topic := owner[folded(kicker)]; topic != "" {
			c.reportf(fmt.Sprintf("ignore[%d]", i), "%q already belongs to the topic %q", kicker, topic)
		}
	}
}

// claim gives a kicker to a topic, unless another one has it.
func (c checker) claim(owner map[string]string, key, kicker, slug string) {
	name := folded(kicker)
	if other := owner[name]; other != "" && other != slug {
		c.reportf(key, "%q already belongs to the topic %q", kicker, other)
	} else if name != "" {
		owner[name] = slug
	}
}

// folded is a kicker as it is compared: letter case and the width of spaces do not count.
func folded(kicker string) string { return strings.ToLower(strings.Join(strings.Fields(kicker), " ")) }

func (c checker) newsletters(newsletters []Newsletter, topics []Topic) {
	if len(newsletters) == 0 {
		c.report("newsletters", "missing: expected at least one newsletter")
	}
	var known []string
	for _, topic := range topics {
		known = append(known, topic.Slug)
	}
	slugs := map[string]bool{}
	for i, n := range newsletters {
		key := fmt.Sprintf("newsletters[%d].", i)
		c.slug(slugs, key+"slug", n.Slug)
		if n.Title == "" {
			c.report(key+"title", "missing: expected the title readers see")
		}
		c.chosenTopics(key+"topics", n.Topics, known)
		c.schedule(key, n)
		c.oneOf(key+"language", n.Language, "de", "en")
		c.oneOf(key+"doubt", n.Doubt, "hold", "resend")
		if !matches(slugPattern, n.Template) {
			c.reportf(key+"template", "expected the name of a template such as digest, got %q", n.Template)
		}
	}
}

func (c checker) chosenTopics(key string, chosen, known []string) {
	if len(chosen) == 0 {
		c.report(key, "missing: expected at least one topic")
	}
	for i, slug := range chosen {
		at := fmt.Sprintf("%s[%d]", key, i)
		switch {
		case !slices.Contains(known, slug):
			c.reportf(at, "unknown topic %q%s: expected the slug of one of topics", slug, didYouMean(slug, known))
		case slices.Contains(chosen[:i], slug):
			c.reportf(at, "the topic %q is given twice", slug)
		}
	}
}

func (c checker) schedule(key string, n Newsletter) {
	const clock = `^([01][0-9]|2[0-3]):[0-5][0-9]$`
	switch {
	case !matches(clock, string(n.Time)):
		c.reportf(key+"time", "expected a time of day such as 06:00, got %q", n.Time)
	case !matches(clock, string(n.Latest)):
		c.reportf(key+"latest", "expected a time of day such as 10:00, got %q", n.Latest)
	case n.Latest <= n.Time:
		c.reportf(key+"latest", "expected a time after %s on the same day, got %s", n.Time, n.Latest)
	}
	if _, err := time.LoadLocation(n.Zone); err != nil || n.Zone == "Local" {
		c.reportf(key+"zone", "expected a time zone such as Europe/Berlin, got %q", n.Zone)
	}
	if len(n.Days) == 0 {
		c.report(key+"days", "expected at least one day")
	}
	for i, day := range n.Days {
		if slices.Contains(n.Days[:i], day) {
			c.reportf(fmt.Sprintf("%sdays[%d]", key, i), "%s is given twice", day)
		}
	}
}

const slugPattern = `^[a-z0-9]+(-[a-z0-9]+)*$`

func (c checker) slug(seen map[string]bool, key, slug string) {
	if slug != "" && (!matches(slugPattern, slug) || len(slug) > 40) {
		c.reportf(key, "expected up to 40 of a–z, 0–9 and single hyphens, got %q", slug)
		return
	}
	c.unique(seen, key, slug, "a short name of a–z, 0–9 and hyphens")
}

func (c checker) unique(seen map[string]bool, key, name, expected string) {
	switch {
	case name == "":
		c.report(key, "missing: expected "+expected)
	case seen[name]:
		c.reportf(key, "%q is given twice", name)
	}
	seen[name] = true
}

func (c checker) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		c.reportf(key, "expected %s, got %q%s", strings.Join(allowed, " or "), value, didYouMean(value, allowed))
	}
}

func (c checker) networks(key string, texts []string) {
	for i, text := range texts {
		if _, err := parseNetwork(text); err != nil {
			c.reportf(fmt.Sprintf("%s[%d]", key, i), "expected an address or network such as 10.0.0.0/8, got %q", text)
		}
	}
}

// isHost accepts names as they stand in DNS, A-labels included (RFC 1123 § 2.1).
func isHost(name string) bool {
	const label = `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`
	return len(name) <= 253 && matches(`(?i)^`+label+`(\.`+label+`)*$`, name) && net.ParseIP(name) == nil && name != "localhost"
}

func isPort(text string) bool {
	port, err := strconv.Atoi(text)
	return err == nil && port >= 0 && port <= 65535
}

// matches compiles on every call: a configuration is read once, and this way no pattern lives outside its check.
func matches(pattern, text string) bool { return regexp.MustCompile(pattern).MatchString(text) }
