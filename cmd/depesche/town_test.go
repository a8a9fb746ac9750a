package main

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"depesche/cmd/depesche/demo"
	"depesche/migrations"
	"depesche/migrations/dbtest"
	"depesche/subscribers"
)

func TestMain(m *testing.M) {
	if os.Getenv("BE_DEPESCHE") != "" {
		main() // the test binary is depesche to the journeys that need a process to kill
	}
	testscript.Main(m, map[string]func(){"depesche": main})
}

// quickExit keeps the race detector from sleeping for a second at the end of every one of the many processes.
const quickExit = "GORACE=atexit_sleep_ms=20"

// town is a paper with its configuration, a mailbox that takes its mail, and depesche as processes of their own.
type town struct {
	t       testing.TB
	folder  string
	mailbox *demo.Mailbox
	pages   string   // address of `depesche serve`
	environ []string // of every depesche
}

// townConfig is the configuration of the tests' paper. Addresses come by environment.
const townConfig = `
language: de
base_url: http://127.0.0.1:1
publisher:
  name: Talbote Verlag GmbH
  paper: Talbote
  address: Am Markt 3, 99999 Ahornfurt
  email: redaktion@talbote.test
  responsible: Jana Reuter
  privacy_url: https://www.talbote.test/datenschutz
  imprint_url: https://www.talbote.test/impressum
senders:
  newsletter: {from: morgen@talbote.test}
  letter: {from: leserservice@talbote.test}
smtp: {host: 127.0.0.1, port: 1, tls: none}
signups: {min_fill: 1ns}
sources:
  - {name: wire, path: wire, rights: teaser, pictures: yes}
topics:
  - {slug: ukraine, name: Krieg in der Ukraine, aliases: [Ukraine-Krieg]}
  - {slug: politik, name: Politik, aliases: [Stadtrat]}
  - {slug: sport, name: Sport}
ignore: [Lage im Überblick]
newsletters:
  - {slug: morgen, title: Talbote am Morgen, promise: Jeden Morgen um sechs., topics: [ukraine, politik, sport]}
`

func newTown(t testing.TB, database string) *town {
	t.Helper()
	mailbox, err := demo.NewMailbox("127.0.0.1:0", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mailbox.Close() })
	town := &town{t: t, folder: t.TempDir(), mailbox: mailbox}
	town.write("depesche.yaml", townConfig)
	if err := os.Mkdir(filepath.Join(town.folder, "wire"), 0o700); err != nil {
		t.Fatal(err)
	}
	pages := freeAddress(t)
	town.pages = "http://" + pages
	foreign := func(variable string) bool { return strings.HasPrefix(variable, "DEPESCHE_") }
	town.environ = append(slices.DeleteFunc(os.Environ(), foreign),
		"BE_DEPESCHE=1", quickExit, "DEPESCHE_CONFIG="+filepath.Join(town.folder, "depesche.yaml"),
		"DEPESCHE_BASE_URL="+town.pages, "DEPESCHE_LISTEN="+pages)
	town.setRelay(mailbox.Addr())
	if database != "" {
		town.environ = append(town.environ, "DEPESCHE_DATABASE="+database)
	}
	town.makeKeys()
	return town
}

// eachTown runs a journey on SQLite and on PostgreSQL.
func eachTown(t *testing.T, journey func(t *testing.T, town *town)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { journey(t, newTown(t, "")) })
	t.Run("postgres", func(t *testing.T) { journey(t, newTown(t, dbtest.PostgreSQLLocation(t))) })
}

func (n *town) setRelay(address string) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		n.t.Fatal(err)
	}
	n.environ = append(n.environ, "DEPESCHE_SMTP_HOST="+host, "DEPESCHE_SMTP_PORT="+port)
}

func (n *town) makeKeys() {
	if err := subscribers.CreateKeys(filepath.Join(n.folder, "depesche.keys")); err != nil {
		n.t.Fatal(err)
	}
}

func (n *town) write(name, content string) {
	n.t.Helper()
	if err := os.WriteFile(filepath.Join(n.folder, name), []byte(content), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// article puts a Markdown file into the wire folder.
func (n *town) article(id, kicker, published, more string) {
	n.t.Helper()
	n.write("wire/"+id+".md", fmt.Sprintf("---\nid: %s\nurl: https://www.talbote.test/%s\ntitle: Schlagzeile %s\nkicker: %s\n"+
		"teaser: Vorspann %s.\nagency: tbd\npublished: %s\n%s---\n\nText.\n", id, id, id, kicker, id, published, more))
}

// command is a depesche whose clock starts at now (RFC 3339).
func (n *town) command(now string, args ...string) *exec.Cmd {
	executable, err := os.Executable()
	if err != nil {
		n.t.Fatal(err)
	}
	command := exec.Command(executable, args...)
	command.Env = append([]string(nil), n.environ...)
	if now != "" {
		command.Env = append(command.Env, "DEPESCHE_NOW="+now)
	}
	command.Dir = n.folder
	return command
}

// depesche runs a command that must end with status want.
func (n *town) depesche(now string, want int, args ...string) (stdout, stderr string) {
	n.t.Helper()
	command := n.command(now, args...)
	var out, problems bytes.Buffer
	command.Stdout, command.Stderr = &out, &problems
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		n.t.Fatal(err)
	}
	if got := command.ProcessState.ExitCode(); got != want {
		n.t.Fatalf("depesche %s: status %d, want %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), got, want, &out, &problems)
	}
	return out.String(), problems.String()
}

// serve starts the readers' pages; they end with the test.
func (n *town) serve(now string) {
	n.t.Helper()
	command := n.command(now, "serve")
	problems, err := command.StderrPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		n.t.Fatal(err)
	}
	lines := bufio.NewReader(problems)
	if first, err := lines.ReadString('\n'); err != nil || !strings.Contains(first, "readers' pages on") {
		n.t.Fatalf("serve says %q, %v", first, err)
	}
	var log bytes.Buffer
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		_, _ = log.ReadFrom(lines)
	}()
	n.t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		<-logged
		if err := command.Wait(); err != nil {
			n.t.Errorf("serve ended with %v\n%s", err, &log)
		}
		n.wantNoSecrets("the log of serve", log.String())
	})
}

// wantNoSecrets wants a log to hold nothing that belongs to a reader: no address, not even the part before the @, and no
// token of any link that was mailed; and no password or key of the house.
func (n *town) wantNoSecrets(what, log string) {
	n.t.Helper()
	if strings.Contains(log, "@reader.test") {
		n.t.Errorf("an address is in %s:\n%s", what, log)
	}
	secrets := map[string]bool{}
	for _, mail := range n.mailbox.Messages() {
		local, _, _ := strings.Cut(mail.To, "@")
		secrets[mail.To], secrets[local+"@"], secrets[local+"%40"] = true, true, true
		for _, token := range mailedToken.FindAllStringSubmatch(mail.Text, -1) {
			secrets[token[1]] = true
		}
	}
	keys, err := os.ReadFile(filepath.Join(n.folder, "depesche.keys"))
	if err != nil {
		n.t.Fatal(err)
	}
	for word := range strings.FieldsSeq(string(keys)) {
		secrets[word] = len(word) > 20
	}
	for _, variable := range n.environ {
		if name, value, _ := strings.Cut(variable, "="); strings.HasSuffix(name, "PASSWORD") {
			secrets[value] = true
		}
	}
	for secret, is := range secrets {
		if is && strings.Contains(log, secret) {
			n.t.Errorf("%q is in %s:\n%s", secret, what, log)
		}
	}
}

// mailedToken finds what follows purpose and newsletter in a link.
var mailedToken = regexp.MustCompile(`https?://\S+/([A-Za-z0-9_-]{44})\b`)

// signUp takes a reader through form, letter and button.
func (n *town) signUp(address string, topics ...string) {
	n.t.Helper()
	fields := url.Values{"email": {address}, "topic": topics}
	if _, err := page(http.PostForm(n.pages+"/subscribe", fields)); err != nil {
		n.t.Fatalf("sign up: %v", err)
	}
	link := n.linkTo("confirm", n.wait(address, 1).Text)
	button, err := page(http.Get(link))
	if err != nil {
		n.t.Fatalf("open the confirmation: %v", err)
	}
	if _, err := page(http.PostForm(link, hidden(button))); err != nil {
		n.t.Fatalf("confirm: %v", err)
	}
}

// addReaders puts many confirmed readers of all topics straight into the database; the way in has tests of its own.
func (n *town) addReaders(count int) {
	n.t.Helper()
	config, err := LoadConfig(filepath.Join(n.folder, "depesche.yaml"), n.environ)
	if err != nil {
		n.t.Fatal(err)
	}
	db, err := migrations.Open(context.Background(), string(config.Database))
	if err != nil {
		n.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	err = db.Tx(context.Background(), func(tx *sql.Tx) error {
		if _, err := tx.Exec(`INSERT INTO choices (id, newsletter, topics) VALUES (1, 'morgen', 'politik,sport,ukraine')`); err != nil {
			return err
		}
		for i := range count {
			id, address := i+1, fmt.Sprintf("leser%d@reader.test", i+1)
			for _, statement := range []string{
				`INSERT INTO subscribers (id, address, person, language, nonce, created) VALUES ($1, $2, $2, 'de', 1, 1)`,
				`INSERT INTO consents (id, subscriber, newsletter, kind, at, person, particulars) VALUES ($1, $1, 'morgen', 'confirmed', 1, $2, '')`,
			} {
				if _, err := tx.Exec(statement, id, address); err != nil {
					return err
				}
			}
			_, err := tx.Exec(`INSERT INTO subscriptions (subscriber, newsletter, choice, state, requested, signed_up, consent)
				VALUES ($1, 'morgen', 1, 'active', 1, 1, $1)`, id)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

// linkTo finds a personal link in a mail's text.
func (n *town) linkTo(purpose, text string) string {
	n.t.Helper()
	link := regexp.MustCompile(regexp.QuoteMeta(n.pages) + "/" + purpose + `/[^\s>]+`).FindString(text)
	if link == "" {
		n.t.Fatalf("no %s link in\n%s", purpose, text)
	}
	return link
}

// wait gives the reader's mail number count, waiting for it.
func (n *town) wait(address string, count int) (mail demo.Message) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err := n.mailbox.Wait(ctx, func([]demo.Message) bool {
		mails := n.mails(address)
		if len(mails) < count {
			return false
		}
		mail = mails[count-1]
		return true
	})
	if err != nil {
		n.t.Fatalf("wait for mail %d of a reader: %v", count, err)
	}
	return mail
}

func (n *town) mails(address string) []demo.Message {
	var list []demo.Message
	for _, mail := range n.mailbox.Messages() {
		if mail.To == address {
			list = append(list, mail)
		}
	}
	return list
}

func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// fixtures is the folder of inputs that nobody here wrote.
func fixtures(t testing.TB) string {
	t.Helper()
	folder := os.Getenv("DEPESCHE_FIXTURES")
	if folder == "" {
		t.Skip("SKIPPED: DEPESCHE_FIXTURES names no folder of real inputs")
	}
	if _, err := os.Stat(folder); err != nil {
		t.Fatal(err)
	}
	return folder
}
