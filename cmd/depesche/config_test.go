package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"depesche/cmd/depesche/demo"
)

// paper is the shortest configuration there is; the tests below change a line of it.
const paper = `base_url: https://newsletter.talbote.de
publisher:
  name: Talbote Verlag GmbH
  address: Am Markt 3, 99999 Ahornfurt
  email: redaktion@talbote.de
  responsible: Jana Reuter
  privacy_url: https://www.talbote.de/datenschutz
  imprint_url: https://www.talbote.de/impressum
senders:
  newsletter: {from: morgen@talbote.de}
smtp:
  host: mail.talbote.de
sources:
  - name: talbote
    url: https://www.talbote.de/feed
topics:
  - {slug: politik, name: Politik, aliases: [Stadtrat]}
  - {slug: sport, name: Sport}
newsletters:
  - slug: morgen
    title: Talbote am Morgen
    topics: [politik, sport]
`

func writePaper(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "depesche.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// load reads text and returns the configuration, or the lines of its error without the folder.
func load(t *testing.T, text string, environ ...string) (*Config, []string) {
	t.Helper()
	file := writePaper(t, text)
	config, err := LoadConfig(file, environ)
	if err == nil {
		return config, nil
	}
	if got := exitCode(err); got != exitUsage {
		t.Errorf("exitCode = %d, want %d", got, exitUsage)
	}
	return nil, strings.Split(strings.ReplaceAll(err.Error(), filepath.Dir(file)+"/", ""), "\n")
}

func TestLoadConfigFillsInDefaults(t *testing.T) {
	config, wrong := load(t, paper)
	if wrong != nil {
		t.Fatal(wrong)
	}
	dir := filepath.Dir(config.File)
	want := &Config{
		BaseURL: "https://newsletter.talbote.de", Database: DSN(dir + "/depesche.db"), Keys: dir + "/depesche.keys", Journal: dir,
		Language: "de", Listen: "127.0.0.1:8080", Proxies: []string{"127.0.0.0/8", "::1"}, ConfirmWithin: 168 * time.Hour,
		SignUps: SignUps{PerNetwork: 10, Flood: 300, MinFill: 2 * time.Second, Disposable: "flag"},
		Publisher: Publisher{
			Name: "Talbote Verlag GmbH", Address: "Am Markt 3, 99999 Ahornfurt", Email: "redaktion@talbote.de",
			Responsible: "Jana Reuter", PrivacyURL: "https://www.talbote.de/datenschutz",
			ImprintURL: "https://www.talbote.de/impressum", Paper: "Talbote Verlag GmbH",
		},
		Senders: Senders{
			Newsletter: NewsletterSender{"morgen@talbote.de", "Talbote Verlag GmbH", "morgen@talbote.de"},
			Letter:     LetterSender{"morgen@talbote.de", "Talbote Verlag GmbH"}, BounceDomain: "talbote.de", MessageDomain: "talbote.de",
		},
		SMTP: SMTP{Host: "mail.talbote.de", Port: 587, TLS: "required", Connections: 8, PerConnection: 500, Flight: 8},
		Sources: []Source{{
			Name: "talbote", URL: "https://www.talbote.de/feed", Language: "de", Rights: "teaser", Every: 15 * time.Minute,
			MaxBytes: 10 << 20,
		}},
		Topics: []Topic{{Slug: "politik", Name: "Politik", Aliases: []string{"Stadtrat"}}, {Slug: "sport", Name: "Sport"}},
		Newsletters: []Newsletter{{
			Slug: "morgen", Title: "Talbote am Morgen", Topics: []string{"politik", "sport"},
			Days: []time.Weekday{1, 2, 3, 4, 5, 6, 0}, Time: "06:00", Latest: "10:00", Zone: "Europe/Berlin", MaxAge: 72 * time.Hour,
			Template: "digest", Language: "de", Limits: Limits{40, 15}, Doubt: "hold",
		}},
		Retention: Retention{
			IP: "truncated", IPFor: 180 * 24 * time.Hour, ProofYears: 3, LettersFor: 90 * 24 * time.Hour, AccessesFor: 365 * 24 * time.Hour,
		},
		File: config.File,
	}
	if diff := cmp.Diff(want, config); diff != "" {
		t.Errorf("LoadConfig (-want +got):\n%s", diff)
	}
}

func TestLoadConfigReadsEveryKindOfValue(t *testing.T) {
	config, wrong := load(t, "confirm_within: 1d12h\nproxies: [10.0.0.0/8, \"::1\"]\n"+strings.NewReplacer(
		"feed\n", "feed\n    pictures: yes\n    every: 5m\n    allow_private: [10.1.2.3]\n",
		"    title:", "    days: [mo, di, Wed, sun]\n    time: \"20:30\"\n    limits: {entries: 7}\n    title:",
		"host: mail.talbote.de", "host: 127.0.0.1\n  tls: none\n  password: null\n  user:",
	).Replace(paper))
	if wrong != nil {
		t.Fatal(wrong)
	}
	n := config.Newsletters[0]
	for _, check := range []struct{ name, got, want any }{
		{"confirm_within", config.ConfirmWithin, 36 * time.Hour},
		{"proxies", fmt.Sprint(config.TrustedProxies()), "[10.0.0.0/8 ::1/128]"},
		{"pictures", config.Sources[0].Pictures, true},
		{"every", config.Sources[0].Every, 5 * time.Minute},
		{"allow_private", fmt.Sprint(config.Sources[0].Private()), "[10.1.2.3/32]"},
		{"days", fmt.Sprint(n.Days), "[Monday Tuesday Wednesday Sunday]"},
		{"latest", n.Latest, Clock("23:59")},
		{"limits", n.Limits, Limits{7, 15}},
		{"zone", n.Location().String(), "Europe/Berlin"},
		{"port", config.SMTP.Port, 25},
	} {
		if check.got != check.want {
			t.Errorf("%v = %v, want %v", check.name, check.got, check.want)
		}
	}
	if hour, minute := n.Time.HourMinute(); hour != 20 || minute != 30 {
		t.Errorf("HourMinute = %d, %d, want 20, 30", hour, minute)
	}
}

func TestLoadConfigNamesWhatIsWrong(t *testing.T) {
	tests := []struct {
		name, old, new string // a change to the paper
		want           []string
	}{
		{"unknown key", "  host: mail", "  hots: mail", []string{
			`depesche.yaml:11:1: smtp.host: missing: expected the host name of the mail server`,
			`depesche.yaml:12:3: unknown key "hots" (did you mean "host"?)`,
		}},
		{"unknown key without a neighbour", "smtp:", "wurstbrot: 1\nsmtp:", []string{
			`depesche.yaml:11:1: unknown key "wurstbrot"`,
		}},
		{"key given twice", "smtp:", "base_url: https://a.talbote.de\nsmtp:", []string{
			`depesche.yaml:11:1: key "base_url" is given twice`,
		}},
		{"wrong type", "  host: mail.talbote.de", "  host: mail.talbote.de\n  port: smtp\n  connections: -1", []string{
			`depesche.yaml:13:9: smtp.port: expected a number from 0, got "smtp"`,
			`depesche.yaml:14:16: smtp.connections: expected a number from 0, got "-1"`,
		}},
		{"list for a value", "  name: Talbote Verlag GmbH", "  name: [a, b]", []string{
			`depesche.yaml:3:9: publisher.name: expected a single value, got a list`,
		}},
		{"value for a list", "topics: [politik, sport]", "topics: politik", []string{
			`depesche.yaml:22:13: newsletters[0].topics: expected a list, got a single value`,
		}},
		{"value for a section", "  newsletter: {from: morgen@talbote.de}", "  newsletter: morgen@talbote.de", []string{
			`depesche.yaml:10:15: senders.newsletter: expected keys such as from and name, got a single value`,
		}},
		{"no publisher", paper[strings.Index(paper, "publisher:"):strings.Index(paper, "senders:")], "", []string{
			`depesche.yaml: publisher.name: missing: expected the name of the company or person that publishes`,
			`depesche.yaml: publisher.address: missing: expected street, number, postcode and town on one line`,
			`depesche.yaml: publisher.responsible: missing: expected the person who answers for the content (MStV § 18 (2))`,
			`depesche.yaml: publisher.email: missing: expected an address readers can write to`,
			`depesche.yaml: publisher.privacy_url: missing: expected the https address of the privacy page`,
			`depesche.yaml: publisher.imprint_url: missing: expected the https address of the imprint`,
		}},
		{"nobody responsible", "  responsible: Jana Reuter", "  responsible:", []string{
			`depesche.yaml:6:3: publisher.responsible: missing: expected the person who answers for the content (MStV § 18 (2))`,
		}},
		{"placeholder", "Am Markt 3", "Musterstraße 1", []string{
			`depesche.yaml:4:12: publisher.address: "Musterstraße 1, 99999 Ahornfurt" is a placeholder: ` +
				`expected street, number, postcode and town on one line`,
		}},
		{"slug given twice", "slug: sport", "slug: politik", []string{
			`depesche.yaml:18:12: topics[1].slug: "politik" is given twice`,
			`depesche.yaml:22:23: newsletters[0].topics[1]: unknown topic "sport": expected the slug of one of topics`,
		}},
		{"unknown topic", "topics: [politik, sport]", "topics: [politk, sport, sport]", []string{
			`depesche.yaml:22:14: newsletters[0].topics[0]: unknown topic "politk" (did you mean "politik"?): ` +
				`expected the slug of one of topics`,
			`depesche.yaml:22:29: newsletters[0].topics[2]: the topic "sport" is given twice`,
		}},
		{"alias of two topics", "name: Sport}", "name: Sport, aliases: [\"  STADTRAT \"]}", []string{
			`depesche.yaml:18:42: topics[1].aliases[0]: "STADTRAT" already belongs to the topic "politik"`,
		}},
		{"alias that is ignored", "smtp:", "ignore: [stadtrat]\nsmtp:", []string{
			`depesche.yaml:11:10: ignore[0]: "stadtrat" already belongs to the topic "politik"`,
		}},
		{"times", "    title:", "    time: 6:00\n    zone: Europe/Ahornfurt\n    title:", []string{
			`depesche.yaml:21:11: newsletters[0].time: expected a time of day such as 06:00, got "6:00"`,
			`depesche.yaml:22:11: newsletters[0].zone: expected a time zone such as Europe/Berlin, got "Europe/Ahornfurt"`,
		}},
		{"latest before time", "    title:", "    latest: 05:59\n    days: []\n    title:", []string{
			`depesche.yaml:21:13: newsletters[0].latest: expected a time after 06:00 on the same day, got 05:59`,
			`depesche.yaml:22:5: newsletters[0].days: expected at least one day`,
		}},
		{"day", "    title:", "    days: [mon, Feiertag]\n    title:", []string{
			`depesche.yaml:21:17: newsletters[0].days[1]: expected a day: mon tue wed thu fri sat sun, or mo di mi do fr sa so, ` +
				`got "Feiertag"`,
		}},
		{"duration", "feed\n", "feed\n    every: -5m\n", []string{
			`depesche.yaml:16:12: sources[0].every: expected a duration such as 15m, 72h or 7d, got "-5m"`,
		}},
		{"plain http", "https://newsletter", "http://newsletter", []string{
			`depesche.yaml:1:11: base_url: expected https (http only for this machine itself), got "http://newsletter.talbote.de"`,
		}},
		{"path in base_url", "newsletter.talbote.de", "talbote.de/post?a=1", []string{
			`depesche.yaml:1:11: base_url: expected an address without path and query, got "https://talbote.de/post?a=1"`,
		}},
		{"two senders", "from: morgen@talbote.de", "from: \"a@talbote.de, b@talbote.de\"", []string{
			`depesche.yaml:10:22: senders.newsletter.from: expected one address such as redaktion@…, got "a@talbote.de, b@talbote.de"`,
		}},
		{"nobody reads", "morgen@", "no-reply@", []string{
			`depesche.yaml:10:22: senders.newsletter.from: expected an address somebody reads, got "no-reply@talbote.de": ` +
				`readers do answer newsletters`,
		}},
		{"line break in a name", "name: Talbote Verlag GmbH", "name: \"Talbote\\r\\nBcc: alle@talbote.de\"", []string{
			`depesche.yaml:3:9: publisher.name: expected one line of plain text, it holds the character U+000D`,
		}},
		{"tls none to the world", "  host: mail.talbote.de", "  host: mail.talbote.de\n  tls: none", []string{
			`depesche.yaml:13:8: smtp.tls: expected required or implicit: none is for this machine itself, not for mail.talbote.de`,
		}},
		{"password without a user", "  host: mail.talbote.de", "  host: mail.talbote.de\n  password: geheim", []string{
			`depesche.yaml:11:1: smtp.user: missing: expected the user the password belongs to`,
		}},
		{"source without an address", "    url: https://www.talbote.de/feed", "    language: tlh-klingon-x", []string{
			`depesche.yaml:14:5: sources[0].url: missing: expected url or path`,
			`depesche.yaml:15:15: sources[0].language: expected a language such as de or en, got "tlh-klingon-x"`,
		}},
		{"source with a password", "https://www.talbote.de/feed", "https://leser:geheim@www.talbote.de/feed", []string{
			`depesche.yaml:15:10: sources[0].url: expected an address such as https://…/feed without user and password, ` +
				`got "https://www.talbote.de/feed"`,
		}},
		{"one of", "feed\n", "feed\n    rights: ful\n", []string{
			`depesche.yaml:16:13: sources[0].rights: expected teaser or full, got "ful" (did you mean "full"?)`,
		}},
		{"no YAML", "smtp:", "smtp: \"open", []string{
			`depesche.yaml:11:7: expected YAML: could not find end character of double-quoted text`,
		}},
		{"second document", "smtp:", "---\nsmtp:", []string{
			`depesche.yaml:11:1: expected one YAML document, here a second one begins`,
		}},
		{"alias of YAML", "smtp:", "language: *l\nsmtp:", []string{
			`depesche.yaml:11:11: language: expected a single value, got an alias`,
		}},
		{"not UTF-8", "Jana", "Jana\xff", []string{`depesche.yaml:6:1: expected UTF-8 text`}},
		{"a list instead of keys", paper, "- a\n- b\n", []string{`depesche.yaml:1:1: expected keys such as base_url and database`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(paper, test.old) {
				t.Fatalf("the paper has no %q", test.old)
			}
			_, got := load(t, strings.Replace(paper, test.old, test.new, 1))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("LoadConfig (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoadConfigOfAnEmptyFile(t *testing.T) {
	for _, text := range []string{"", "# nothing but words\n", "\ufeff", "smtp:\nsources:\n"} {
		if _, got := load(t, text); len(got) < 9 {
			t.Errorf("LoadConfig(%q) names %d mistakes, want all that is required: %q", text, len(got), got)
		}
	}
}

func TestLoadConfigWithoutAFile(t *testing.T) {
	_, err := LoadConfig(filepath.Join(t.TempDir(), "absent.yaml"), nil)
	if err == nil || !strings.Contains(err.Error(), `create one with "depesche init"`) || exitCode(err) != exitUsage {
		t.Errorf("LoadConfig of no file = %v, want a hint and exit code %d", err, exitUsage)
	}
}

func TestEnvironmentOverrulesTheFile(t *testing.T) {
	config, wrong := load(t, strings.Replace(paper, "smtp:", "database: file.db\nsmtp:", 1),
		"DEPESCHE_SMTP_HOST=relay.talbote.de", "DEPESCHE_NEWSLETTERS_0_TIME=05:30", "DEPESCHE_NEWSLETTERS_0_LIMITS_PER_TOPIC=3",
		"DEPESCHE_NEWSLETTERS_0_TOPICS=sport, politik", "DEPESCHE_NEWSLETTERS_0_DAYS=mo,tue", "DEPESCHE_TOPICS_1_NAME=Sport im Tal",
		"DEPESCHE_SOURCES_0_PICTURES=yes", "DEPESCHE_CONFIRM_WITHIN=2d", "DEPESCHE_DATABASE=env.db", "DEPESCHE_LISTEN=",
		"DEPESCHE_CONFIG=elsewhere.yaml", "DEPESCHE_NOW=2026-02-11T05:00:00+01:00", "HOME=/root")
	if wrong != nil {
		t.Fatal(wrong)
	}
	n := config.Newsletters[0]
	for _, check := range []struct{ name, got, want any }{
		{"smtp.host", config.SMTP.Host, "relay.talbote.de"},
		{"time", n.Time, Clock("05:30")},
		{"limits", n.Limits, Limits{40, 3}},
		{"topics", fmt.Sprint(n.Topics), "[sport politik]"},
		{"days", fmt.Sprint(n.Days), "[Monday Tuesday]"},
		{"topics[1].name", config.Topics[1].Name, "Sport im Tal"},
		{"pictures", config.Sources[0].Pictures, true},
		{"confirm_within", config.ConfirmWithin, 48 * time.Hour},
		{"database", filepath.Base(string(config.Database)), "env.db"},
		{"listen", config.Listen, "127.0.0.1:8080"},
	} {
		if check.got != check.want {
			t.Errorf("%v = %v, want %v", check.name, check.got, check.want)
		}
	}
}

func TestEnvironmentIsCheckedToo(t *testing.T) {
	_, got := load(t, strings.Replace(paper, "  host: mail.talbote.de", "  host: a b", 1),
		"DEPESCHE_SMTP_PORT=many", "DEPESCHE_SMTP_HOTS=mail.talbote.de", "DEPESCHE_BASE_URL=http://talbote.de", "DEPESCHE_SMTP=x",
		"DEPESCHE_NEWSLETTERS_0_TOPICS=politik,kultur", "DEPESCHE_SOURCES_1_URL=https://talbote.de/2", "DEPESCHE_FILE=x")
	want := []string{
		`depesche.yaml:12:9: smtp.host: expected a host name without a port, got "a b"`,
		`DEPESCHE_SMTP_PORT: expected a number from 0, got "many"`,
		`unknown variable DEPESCHE_FILE`,
		`unknown variable DEPESCHE_SMTP`,
		`unknown variable DEPESCHE_SMTP_HOTS (did you mean "DEPESCHE_SMTP_HOST"?)`,
		`unknown variable DEPESCHE_SOURCES_1_URL (did you mean "DEPESCHE_SOURCES_0_URL"?)`,
		`DEPESCHE_BASE_URL: expected https (http only for this machine itself), got "http://talbote.de"`,
		`DEPESCHE_NEWSLETTERS_0_TOPICS: unknown topic "kultur": expected the slug of one of topics`,
	}
	for i := range got {
		for _, far := range []string{"unknown variable DEPESCHE_FILE", "unknown variable DEPESCHE_SMTP ("} {
			if strings.HasPrefix(got[i], far) {
				got[i], _, _ = strings.Cut(got[i], " (") // whatever it proposes
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("LoadConfig (-want +got):\n%s", diff)
	}
}

func TestSecretsInFilesOfTheirOwn(t *testing.T) {
	file := writePaper(t, strings.Replace(paper, "smtp:",
		"database_file: dsn\nsmtp:\n  user: talbote\n  password_file: password", 1))
	dir := filepath.Dir(file)
	writeSecret(t, filepath.Join(dir, "password"), "geheim\n", 0o644)
	writeSecret(t, filepath.Join(dir, "dsn"), "postgres://depesche:geheim@db/talbote?sslmode=disable\r\n", 0o640)
	config, err := LoadConfig(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if config.SMTP.Password != "geheim" || config.Database != "postgres://depesche:geheim@db/talbote?sslmode=disable" {
		t.Errorf("password %q, database %q", string(config.SMTP.Password), string(config.Database))
	}
	want := []string{dir + "/password holds a secret and is open to others (mode 0644): chmod 600 " + dir + "/password"}
	if diff := cmp.Diff(want, config.Warnings); diff != "" {
		t.Errorf("Warnings (-want +got):\n%s", diff)
	}

	config, err = LoadConfig(file, []string{"DEPESCHE_SMTP_PASSWORD=anders", "DEPESCHE_DATABASE=here.db"})
	if err != nil || config.SMTP.Password != "anders" || string(config.Database) != dir+"/here.db" {
		t.Errorf("LoadConfig with the secrets in the environment = %v, want these", err)
	}
	if err := os.Remove(filepath.Join(dir, "password")); err != nil {
		t.Fatal(err)
	}
	_, err = LoadConfig(file, nil)
	if err == nil || !strings.Contains(err.Error(), "depesche.yaml:14:18: smtp.password_file: cannot be read") {
		t.Errorf("LoadConfig without the password's file = %v, want its line", err)
	}
}

func writeSecret(t *testing.T, file, text string, mode os.FileMode) {
	t.Helper()
	if err := errors.Join(os.WriteFile(file, []byte(text), 0o600), os.Chmod(file, mode)); err != nil {
		t.Fatal(err)
	}
}

func TestSecretGivenTwice(t *testing.T) {
	_, got := load(t, strings.Replace(paper, "smtp:", "smtp:\n  user: u\n  password: p\n  password_file: f", 1))
	want := []string{`depesche.yaml:14:18: smtp.password_file: expected either this or smtp.password, not both`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("LoadConfig (-want +got):\n%s", diff)
	}
}

func TestWarnings(t *testing.T) {
	file := writePaper(t, strings.NewReplacer(
		"smtp:", "smtp:\n  user: u\n  password: p", "morgen@talbote.de", "morgen@talbote.example",
	).Replace(paper))
	if err := os.Chmod(file, 0o604); err != nil {
		t.Fatal(err)
	}
	config, err := LoadConfig(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(config.Warnings, "\n")
	for _, want := range []string{"depesche.yaml holds a secret", "senders.newsletter.from: talbote.example is a name for examples"} {
		if !strings.Contains(all, want) {
			t.Errorf("Warnings = %q, want one with %q", config.Warnings, want)
		}
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	config, wrong := load(t, strings.Replace(paper, "smtp:",
		"database: postgres://depesche:geheim@db/talbote?password=geheim\nsmtp:\n  user: talbote\n  password: geheim", 1))
	if wrong != nil {
		t.Fatal(wrong)
	}
	asJSON, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, printed := range []string{
		fmt.Sprintf("%v", config), fmt.Sprintf("%+v", *config), fmt.Sprintf("%#v", *config), fmt.Sprint(config.SMTP),
		fmt.Sprintf("%q %x", config.SMTP.Password, config.Database), string(asJSON),
	} {
		if strings.Contains(printed, "geheim") || strings.Contains(printed, "67656865696d") {
			t.Errorf("a secret is printed: %s", printed)
		}
	}
	if got := fmt.Sprint(config.Database); got != "postgres://db/talbote" {
		t.Errorf("database prints as %q", got)
	}
	_, wrong = load(t, strings.Replace(paper, "smtp:", "database: postgres://depesche:geheim%zz@db/talbote\nsmtp:", 1))
	all := strings.Join(wrong, "\n")
	if strings.Contains(all, "geheim") || !strings.Contains(all, ":11:11: database: expected postgres://") {
		t.Errorf("LoadConfig of a broken address = %q", wrong)
	}
}

// Every key has one name, and the environment's is made of the same.
func TestSectionTagsEndInAnUnderscore(t *testing.T) {
	eachKey(reflect.TypeFor[Config](), "", func(key string, field reflect.StructField) {
		section, ok := field.Tag.Lookup("section")
		if isSection(field.Type) != ok {
			t.Errorf("%s: a section has the tag section, a value has key", key)
		}
		if ok && !strings.HasSuffix(section, "_") {
			t.Errorf("%s: section:%q lacks the underscore that parts the names of variables", key, section)
		}
	})
}

// isSection is true of a struct and of a list of them.
func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct || t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct
}

// eachKey visits every key of the configuration, sources[].url and its like included.
func eachKey(section reflect.Type, prefix string, visit func(key string, field reflect.StructField)) {
	for i := range section.NumField() {
		field := section.Field(i)
		if keyOf(field) == "-" {
			continue
		}
		key := prefix + keyOf(field)
		visit(key, field)
		switch {
		case field.Type.Kind() == reflect.Struct:
			eachKey(field.Type, key+".", visit)
		case isSection(field.Type):
			eachKey(field.Type.Elem(), key+"[].", visit)
		}
	}
}

func TestManualHasEveryKeyOnce(t *testing.T) {
	var want, got []string
	eachKey(reflect.TypeFor[Config](), "", func(key string, _ reflect.StructField) { want = append(want, key) })
	for _, s := range manual() {
		got = append(got, s.key)
		if s.de == "" || s.en == "" {
			t.Errorf("%s is not explained in both languages", s.key)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("manual (-struct +manual):\n%s", diff)
	}
}

func TestDemoConfigurationLoads(t *testing.T) {
	files, err := demo.Paper(time.Date(2026, 2, 11, 5, 0, 0, 0, time.UTC), "http://127.0.0.1:8090")
	if err != nil {
		t.Fatal(err)
	}
	config, wrong := load(t, string(files["depesche.yaml"]), "DEPESCHE_BASE_URL=http://127.0.0.1:4711", "DEPESCHE_SMTP_PORT=4712")
	if wrong != nil {
		t.Fatal(wrong)
	}
	if len(config.Warnings) > 0 || len(config.Sources) != 4 || len(config.Topics) < 6 || config.SMTP.Port != 4712 {
		t.Errorf("configuration %+v, warnings %q", config, config.Warnings)
	}
}

func TestExitCode(t *testing.T) {
	child := exec.Command("false").Run()
	for _, test := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{fs.ErrNotExist, 1},
		{fmt.Errorf("run the alert command: %w", child), 1},
		{usageErrorf("no such flag"), 2},
		{fmt.Errorf("send: %w", &exitError{exitRefused, errors.New("535")}), 4},
		{&exitError{exitHuman, errors.New("held")}, 6},
	} {
		if got := exitCode(test.err); got != test.want {
			t.Errorf("exitCode(%v) = %d, want %d", test.err, got, test.want)
		}
	}
}

func FuzzLoadConfig(f *testing.F) {
	f.Add(paper)
	f.Add("smtp: {password: geheim, port: [1]}\nsmtp: &a\n  <<: *a\n")
	f.Add("sources:\n  -\n  - - a\ntopics: {}\n? x\n: y\n")
	f.Fuzz(func(t *testing.T, text string) {
		file := filepath.Join(t.TempDir(), "depesche.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		config, err := LoadConfig(file, nil)
		if (config == nil) == (err == nil) {
			t.Errorf("LoadConfig = %v, %v, want one of them", config, err)
		}
		if err != nil && exitCode(err) != exitUsage {
			t.Errorf("exitCode(%v) = %d, want %d", err, exitCode(err), exitUsage)
		}
	})
}
