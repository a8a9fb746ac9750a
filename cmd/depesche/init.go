package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/net/publicsuffix"
)

// initCommand writes depesche.yaml and has createKeys make the key file beside it.
func initCommand(createKeys func(path string) error) *cobra.Command {
	answers := map[string]*string{}
	var language string
	command := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Write a commented depesche.yaml and the key file",
		Long: `Writes depesche.yaml, every key explained, and depesche.keys into DIR (default: here), both readable by you alone.
At a terminal it asks for what it needs and was not told; otherwise everything comes from flags.
It never overwrites a file.`,
		Example: `  depesche init
  depesche init /etc/depesche --paper Talbote --publisher "Talbote Verlag GmbH" \
    --address "Am Markt 3, 99999 Ahornfurt" --email redaktion@talbote.de --responsible "Jana Reuter" \
    --base-url https://newsletter.talbote.de --privacy-url https://www.talbote.de/datenschutz \
    --imprint-url https://www.talbote.de/impressum --smtp-host mail.talbote.de --source https://www.talbote.de/feed`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			dir := "."
			if len(args) == 1 {
				dir = args[0]
			}
			if language != "de" && language != "en" {
				return usageErrorf("--language: expected de or en, got %q", language)
			}
			setup := setup{dir: dir, language: language, answers: map[string]string{}, out: command.OutOrStdout()}
			for flag, value := range answers {
				setup.answers[flag] = strings.TrimSpace(*value)
			}
			if isTerminal(command.InOrStdin()) {
				setup.in = bufio.NewReader(command.InOrStdin())
			}
			return setup.run(createKeys)
		},
	}
	for _, q := range questions() {
		answers[q.flag] = command.Flags().String(q.flag, "", q.en)
	}
	command.Flags().StringVar(&language, "language", "de", "language of the file's comments and of the newsletter: de or en")
	return command
}

// question is something init cannot know. key is where the answer goes; flags and questions come in this order.
type question struct {
	flag, key string
	de, en    string
	guess     func(answers map[string]string) string // shown as the default at a terminal; nil for none
}

func questions() []question {
	return []question{
		{"paper", "publisher.paper", "Name der Zeitung", "name of the paper, as readers know it", nil},
		{"publisher", "publisher.name", "Verlag (Firma oder Person)", "publisher: company or person", answer("paper")},
		{
			"address", "publisher.address", "Anschrift (Straße, Nummer, Postleitzahl, Ort)",
			"street, number, postcode and town", nil,
		},
		{
			"responsible", "publisher.responsible", "Verantwortlich für den Inhalt (Vor- und Nachname)",
			"the person who answers for the content", nil,
		},
		{
			"base-url", "base_url", "Adresse des Newsletters für Leser (https://newsletter.…)",
			"where readers will reach depesche serve: https://newsletter.…", nil,
		},
		{"email", "publisher.email", "E-Mail-Adresse der Redaktion", "address readers can write to", guess("redaktion@%s")},
		{
			"privacy-url", "publisher.privacy_url", "Adresse der Datenschutzerklärung",
			"address of the privacy page", guess("https://www.%s/datenschutz"),
		},
		{
			"imprint-url", "publisher.imprint_url", "Adresse des Impressums",
			"address of the imprint", guess("https://www.%s/impressum"),
		},
		{
			"smtp-host", "smtp.host", "Mailserver (Rechner oder Rechner:Port)",
			"mail server: host or host:port", guess("mail.%s"),
		},
		{
			"source", "sources[].url", "Erste Quelle (Adresse eines Feeds oder ein Ordner)",
			"first source: address of a feed, or a folder", guess("https://www.%s/feed"),
		},
	}
}

// answer repeats an earlier one.
func answer(flag string) func(map[string]string) string {
	return func(answers map[string]string) string { return answers[flag] }
}

// guess puts the paper's domain into a pattern; without a public domain in base-url there is nothing to guess.
func guess(pattern string) func(map[string]string) string {
	return func(answers map[string]string) string {
		base, err := url.Parse(answers["base-url"])
		if err != nil {
			return ""
		}
		domain, err := publicsuffix.EffectiveTLDPlusOne(base.Hostname())
		if err != nil || net.ParseIP(base.Hostname()) != nil {
			return ""
		}
		return fmt.Sprintf(pattern, domain)
	}
}

// setup is one run of init.
type setup struct {
	dir, language string
	answers       map[string]string // flag → answer
	in            *bufio.Reader     // nil where nobody can be asked
	out           io.Writer
}

func (s setup) run(createKeys func(path string) error) error {
	config, keys := filepath.Join(s.dir, "depesche.yaml"), filepath.Join(s.dir, "depesche.keys")
	for _, file := range []string{config, keys} {
		if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
			return usageErrorf("%s is already there and is not overwritten", file)
		}
	}
	if err := s.complete(); err != nil {
		return err
	}
	text := s.file()
	if wrong := mistakesOf(config, text); len(wrong) > 0 {
		return usageErrorf("the answers do not make a configuration, nothing was written:\n%w", wrong)
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("create the folder: %w", err)
	}
	if err := writeNew(config, text); err != nil {
		return err
	}
	if err := createKeys(keys); err != nil {
		_ = os.Remove(config) // so that init can simply be run again
		return fmt.Errorf("create %s: %w", keys, err)
	}
	s.printNextSteps(config, keys)
	return nil
}

// complete asks for what is missing or, where nobody can be asked, names all of it.
func (s setup) complete() error {
	var missing []string
	for _, q := range questions() {
		switch {
		case s.answers[q.flag] != "":
		case s.in == nil:
			missing = append(missing, "--"+q.flag)
		default:
			if err := s.ask(q); err != nil {
				return err
			}
		}
	}
	if len(missing) > 0 {
		return usageErrorf("nobody to ask here, so these flags are needed: %s", strings.Join(missing, " "))
	}
	return nil
}

// ask repeats a question until its answer, put into an otherwise finished file, is accepted.
func (s setup) ask(q question) error {
	preset := ""
	if q.guess != nil {
		preset = q.guess(s.answers)
	}
	for {
		fmt.Fprint(s.out, s.say(q.de, q.en))
		if preset != "" {
			fmt.Fprintf(s.out, " [%s]", preset)
		}
		fmt.Fprint(s.out, ": ")
		line, err := s.in.ReadString('\n')
		if err != nil && line == "" {
			return usageErrorf("no answer for --%s, nothing was written", q.flag)
		}
		s.answers[q.flag] = strings.TrimSpace(line)
		if s.answers[q.flag] == "" {
			s.answers[q.flag] = preset
		}
		mistake := s.mistake(q)
		if mistake == "" {
			return nil
		}
		fmt.Fprintf(s.out, "  %s\n", mistake)
	}
}

// mistake is what the check of the configuration says about the answer to one question.
func (s setup) mistake(q question) string {
	for _, p := range mistakesOf("depesche.yaml", s.file()) {
		if p.key == q.key || p.key == strings.Replace(q.key, "[]", "[0]", 1) {
			_, mistake, _ := strings.Cut(p.text, p.key+": ")
			return mistake
		}
	}
	return ""
}

// mistakesOf reads a finished file as every later command will.
func mistakesOf(file, text string) mistakes {
	d, c := newDocument(file, nil), &Config{File: file}
	d.read([]byte(text), c)
	c.setDefaults()
	c.validate(d.report)
	return d.mistakes.sorted()
}

// file is depesche.yaml with the answers in it, a few topics to begin with and one newsletter.
func (s setup) file() string {
	values := map[string]string{"language": s.language}
	for _, q := range questions() {
		values[q.key] = strconv.Quote(s.answers[q.flag])
	}
	values["senders.newsletter.from"] = values["publisher.email"]
	s.addRelay(values)
	s.addSource(values)
	start := s.starterTopics()
	values["topics[].slug"], values["topics[].name"], values["topics[].aliases"] = start[0].slug, start[0].name, start[0].aliases
	var slugs, further []string
	for i, topic := range start {
		slugs = append(slugs, topic.slug)
		if i > 0 {
			further = append(further, fmt.Sprintf("{slug: %s, name: %s, aliases: %s}", topic.slug, topic.name, topic.aliases))
		}
	}
	values["newsletters[].slug"] = s.say("morgen", "morning")
	values["newsletters[].title"] = strconv.Quote(s.answers["paper"] + s.say(" am Morgen", " in the morning"))
	values["newsletters[].promise"] = s.say("Jeden Morgen um sechs: was wichtig ist.", "Every morning at six: what matters.")
	values["newsletters[].promise"] = strconv.Quote(values["newsletters[].promise"])
	values["newsletters[].topics"] = "[" + strings.Join(slugs, ", ") + "]"
	head := s.say(`# Die Einrichtung von depesche. Prüfen Sie sie mit „depesche doctor“.
# Eine Umgebungsvariable ersetzt jeden Wert: DEPESCHE_SMTP_HOST den von smtp: host.

`, `# The configuration of depesche. Check it with "depesche doctor".
# An environment variable replaces any value: DEPESCHE_SMTP_HOST that of smtp: host.

`)
	return head + writeManual(s.language, values, map[string][]string{"topics": further})
}

// addRelay takes host:port apart; a mail server on this machine has no certificate for its name and needs none.
func (s setup) addRelay(values map[string]string) {
	host, port, err := net.SplitHostPort(s.answers["smtp-host"])
	if err == nil && isPort(port) {
		values["smtp.host"], values["smtp.port"] = strconv.Quote(host), port
	} else {
		host = s.answers["smtp-host"]
	}
	if loopback(host) {
		values["smtp.tls"] = "none"
	}
}

// addSource tells an address from a folder and names the source after its host or file.
func (s setup) addSource(values map[string]string) {
	source := s.answers["source"]
	name := filepath.Base(source)
	if address, err := url.Parse(source); err == nil && strings.Contains(source, "://") {
		name = strings.TrimPrefix(address.Hostname(), "www.")
	} else if absolute, err := filepath.Abs(source); err == nil && source != "" {
		delete(values, "sources[].url")
		values["sources[].path"] = strconv.Quote(absolute)
	}
	values["sources[].name"] = strconv.Quote(name)
	values["sources[].rights"] = "teaser"
	values["sources[].pictures"] = "no"
}

type starterTopic struct{ slug, name, aliases string }

func (s setup) starterTopics() []starterTopic {
	if s.language == "en" {
		return []starterTopic{
			{"politics", "Politics", "[Town council, Elections]"},
			{"business", "Business", "[Economy]"},
			{"culture", "Culture", "[Theatre, Music]"},
			{"sport", "Sport", "[Football]"},
			{"local", "Local news", "[Police, Traffic]"},
		}
	}
	return []starterTopic{
		{"politik", "Politik", "[Stadtrat, Landtag, Wahlen]"},
		{"wirtschaft", "Wirtschaft", "[Unternehmen, Arbeitsmarkt]"},
		{"kultur", "Kultur", "[Theater, Musik]"},
		{"sport", "Sport", "[Fußball, Handball]"},
		{"lokales", "Lokales", "[Polizei, Verkehr]"},
	}
}

// writeNew creates a file for its owner only and leaves nothing behind where that fails.
func writeNew(path, text string) (err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create the configuration: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(path)
			err = fmt.Errorf("write the configuration: %w", err)
		}
	}()
	_, err = file.WriteString(text)
	return errors.Join(err, file.Sync(), file.Close())
}

func (s setup) printNextSteps(config, keys string) {
	option := " --config " + config
	if filepath.Dir(config) == "." {
		option = ""
	}
	fmt.Fprintf(s.out, s.say(`%[1]s und %[2]s sind angelegt. So geht es weiter:
  1. Sehen Sie %[1]s durch: Themen, Quellen und ihre Rechte, Zugang zum Mailserver. Prüfen: depesche doctor%[3]s
  2. Artikel holen und die Mail ansehen: depesche ingest%[3]s && depesche preview%[3]s --serve
  3. Seiten für Leser: depesche serve%[3]s; jeden Morgen versenden: depesche run%[3]s alle fünf Minuten vom Timer
Sichern Sie %[2]s an einem anderen Ort: Ohne diese Datei gilt kein Link in einer Mail mehr.
`, `%[1]s and %[2]s are written. What comes next:
  1. Look through %[1]s: topics, sources and their rights, access to the mail server. Check it: depesche doctor%[3]s
  2. Fetch articles and look at the mail: depesche ingest%[3]s && depesche preview%[3]s --serve
  3. Pages for readers: depesche serve%[3]s; sending every morning: a timer calls depesche run%[3]s every five minutes
Keep a copy of %[2]s elsewhere: without that file no link in any mail works any more.
`), config, keys, option)
}

func (s setup) say(de, en string) string {
	if s.language == "en" {
		return en
	}
	return de
}
