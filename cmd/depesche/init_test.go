package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// talbote are answers to everything init asks.
func talbote() map[string]string {
	return map[string]string{
		"paper": "Talbote", "publisher": "Talbote Verlag GmbH", "address": "Am Markt 3, 99999 Ahornfurt",
		"responsible": "Jana \"JR\" Reuter", "base-url": "https://newsletter.talbote.de", "email": "redaktion@talbote.de",
		"privacy-url": "https://www.talbote.de/datenschutz", "imprint-url": "https://www.talbote.de/impressum",
		"smtp-host": "mail.talbote.de", "source": "https://www.talbote.de/feed",
	}
}

// runInit runs the command as main does, without a terminal.
func runInit(answers map[string]string, args ...string) (output string, err error) {
	var out bytes.Buffer
	command := initCommand(func(path string) error { return os.WriteFile(path, []byte("keys\n"), 0o600) })
	for name, value := range answers {
		args = append(args, "--"+name+"="+value)
	}
	command.SetArgs(args)
	command.SetIn(strings.NewReader(""))
	command.SetOut(&out)
	command.SetErr(&out)
	command.SilenceErrors, command.SilenceUsage = true, true
	err = command.Execute()
	return out.String(), err
}

func TestInitWritesAConfigurationThatLoads(t *testing.T) {
	for _, language := range []string{"de", "en"} {
		dir := filepath.Join(t.TempDir(), "new", "folder")
		output, err := runInit(talbote(), dir, "--language", language)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "depesche.yaml")
		config, err := LoadConfig(file, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(config.Warnings) > 0 {
			t.Errorf("Warnings = %q, want none", config.Warnings)
		}
		if got, want := config.Publisher.Responsible, `Jana "JR" Reuter`; got != want {
			t.Errorf("responsible = %q, want %q", got, want)
		}
		if config.Language != language || len(config.Topics) != 5 || config.Sources[0].Name != "talbote.de" {
			t.Errorf("language %q, %d topics, source %q", config.Language, len(config.Topics), config.Sources[0].Name)
		}
		for _, path := range []string{file, config.Keys} {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("Stat(%s) = %v, %v, want mode 0600", path, info, err)
			}
		}
		if !strings.Contains(output, "doctor --config "+file) {
			t.Errorf("output = %q, want the next steps", output)
		}
		compareGolden(t, filepath.Join("testdata", "depesche."+language+".yaml"), file)
	}
}

func compareGolden(t *testing.T, golden, file string) {
	t.Helper()
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := errors.Join(os.MkdirAll(filepath.Dir(golden), 0o755), os.WriteFile(golden, got, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", golden, diff)
	}
}

// Every key that init leaves commented out must be right, too, when somebody takes the # away.
func TestInitCommentsOutWhatIsValid(t *testing.T) {
	dir := t.TempDir()
	if _, err := runInit(talbote(), dir); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "depesche.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	all := regexp.MustCompile(`(?m)^( *)#((?:- )?[a-z_]+:)`).ReplaceAllString(string(text), "$1$2")
	all = strings.NewReplacer("…", "talbote.de", "templates: templates", "templates: .").Replace(all)
	// Either, or: what stands beside its alternative.
	all = regexp.MustCompile(`(?m)^ *(path|password_file|database_file|disposable_file): .*\n`).ReplaceAllString(all, "")
	if err := os.WriteFile(file, []byte(all), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadConfig(file, nil); err != nil {
		t.Error(err)
	}
	if bytes.Count(text, []byte("\n")) < 2*len(manual()) {
		t.Errorf("the file has fewer lines than keys and explanations")
	}
}

func TestInitNamesEveryMissingFlag(t *testing.T) {
	answers := talbote()
	delete(answers, "responsible")
	delete(answers, "source")
	dir := t.TempDir()
	_, err := runInit(answers, dir)
	if err == nil || !strings.HasSuffix(err.Error(), "needed: --responsible --source") || exitCode(err) != exitUsage {
		t.Errorf("init = %v, want both flags named and exit code %d", err, exitUsage)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("init left %v behind", entries)
	}
}

func TestInitRefusesBadAnswers(t *testing.T) {
	for _, test := range []struct{ flag, answer, want string }{
		{"address", "Musterstraße 1, 12345 Musterstadt", "is a placeholder"},
		{"email", "noreply", "publisher.email: expected one address"},
		{"base-url", "http://newsletter.talbote.de", "base_url: expected https"},
		{"smtp-host", "mail.talbote.de:smtp", "smtp.host: expected a host name"},
		{"responsible", "Jana\nReuter", "publisher.responsible: expected one line"},
		{"language", "fr", "--language: expected de or en"},
	} {
		answers := talbote()
		answers[test.flag] = test.answer
		dir := t.TempDir()
		_, err := runInit(answers, dir)
		if err == nil || !strings.Contains(err.Error(), test.want) || exitCode(err) != exitUsage {
			t.Errorf("init --%s=%q = %v, want %q and exit code %d", test.flag, test.answer, err, test.want, exitUsage)
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 0 {
			t.Errorf("init left %v behind", entries)
		}
	}
}

func TestInitNeverOverwrites(t *testing.T) {
	for _, name := range []string{"depesche.yaml", "depesche.keys"} {
		dir := t.TempDir()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := runInit(talbote(), dir)
		if err == nil || !strings.Contains(err.Error(), file) || exitCode(err) != exitUsage {
			t.Errorf("init over %s = %v, want it named", name, err)
		}
		if text, _ := os.ReadFile(file); string(text) != "mine" {
			t.Errorf("init changed %s to %q", name, text)
		}
	}
}

func TestInitCanBeRunAgainWhenKeysFail(t *testing.T) {
	dir := t.TempDir()
	s := setup{dir: dir, language: "de", answers: talbote(), out: &bytes.Buffer{}}
	full := errors.New("no space left on device")
	if err := s.run(func(string) error { return full }); !errors.Is(err, full) {
		t.Errorf("run = %v, want %v", err, full)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("init left %v behind", entries)
	}
}

func TestInitAsks(t *testing.T) {
	var out bytes.Buffer
	in := strings.Join([]string{
		"Talbote", "", "Musterstraße 1", "Am Markt 3, 99999 Ahornfurt", "Jana Reuter", "https://newsletter.talbote.de/",
		"", "", "", "127.0.0.1:2525", "",
	}, "\n") + "\n"
	s := setup{dir: t.TempDir(), language: "de", answers: map[string]string{}, out: &out}
	s.in = bufio.NewReader(strings.NewReader(in))
	if err := s.run(func(path string) error { return os.WriteFile(path, nil, 0o600) }); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	config, err := LoadConfig(filepath.Join(s.dir, "depesche.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range []struct{ name, got, want any }{
		{"publisher.name", config.Publisher.Name, "Talbote"},
		{"publisher.email", config.Publisher.Email, "redaktion@talbote.de"},
		{"publisher.imprint_url", config.Publisher.ImprintURL, "https://www.talbote.de/impressum"},
		{"smtp.host", config.SMTP.Host, "127.0.0.1"},
		{"smtp.port", config.SMTP.Port, 2525},
		{"smtp.tls", config.SMTP.TLS, "none"},
		{"sources[0].url", config.Sources[0].URL, "https://www.talbote.de/feed"},
	} {
		if check.got != check.want {
			t.Errorf("%v = %v, want %v", check.name, check.got, check.want)
		}
	}
	for _, want := range []string{"[Talbote]", "is a placeholder", "[redaktion@talbote.de]"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the dialogue lacks %q:\n%s", want, out.String())
		}
	}
}

func TestInitStopsWhereTheAnswersEnd(t *testing.T) {
	s := setup{dir: t.TempDir(), language: "en", answers: map[string]string{}, out: &bytes.Buffer{}}
	s.in = bufio.NewReader(strings.NewReader("Talbote\n"))
	err := s.run(func(string) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "no answer for --publisher") {
		t.Errorf("run = %v, want the question that was not answered", err)
	}
}

func TestInitTakesAFolderAsSource(t *testing.T) {
	answers := talbote()
	answers["source"] = "articles"
	dir := t.TempDir()
	if _, err := runInit(answers, dir); err != nil {
		t.Fatal(err)
	}
	config, err := LoadConfig(filepath.Join(dir, "depesche.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	here, err := filepath.Abs("articles")
	if err != nil {
		t.Fatal(err)
	}
	if got := config.Sources[0]; got.Path != here || got.URL != "" || got.Name != "articles" {
		t.Errorf("source = %+v, want the folder seen from here", got)
	}
}
