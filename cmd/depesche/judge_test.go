package main

import (
	"bytes"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// mailRecord is a mail as a sink keeps it, with its line in the log.
type mailRecord struct {
	name   string
	raw    []byte
	fields []string // time, recipients, Message-ID, List-Unsubscribe, SHA-256
}

const (
	loggedTo = iota + 1
	loggedID
	loggedUnsubscribe
	loggedSum
)

func (m *mailRecord) replace(old, replacement string, n int) {
	m.raw = bytes.Replace(m.raw, []byte(old), []byte(replacement), n)
}

// tokens are the two of the mail's personal links: a line of the body may be broken within a link, never within a token.
func (m *mailRecord) tokens() (unsubscribe, preferences string) {
	for _, match := range regexp.MustCompile(`/([\w-]{44})\b`).FindAllSubmatch(m.raw, -1) {
		token := string(match[1])
		if unsubscribe == "" {
			unsubscribe = token // the header's
		}
		if token != unsubscribe {
			return unsubscribe, token
		}
	}
	return unsubscribe, ""
}

// exchange puts one token for another, n times (-1: everywhere).
func (m *mailRecord) exchange(old, token string, n int) { m.replace("/"+old, "/"+token, n) }

// The judge of the exams is examined, too: it passes what is right, and finds every fault that is put in.
func TestExamJudge(t *testing.T) {
	onlyIn(t, "exam", "DEPESCHE_EXAM")
	tools := newWorkshop(t)
	p := newPress(t, shipped(t), "", 30)
	p.compose()
	server := tools.newKeepingSink(t)
	p.setRelay(server.address)
	p.depesche(0, "dispatch")
	server.stop()
	if out, err := p.verdict(server.log, server.saved); err != nil || !strings.Contains(out, "30 mails to 30 readers, 0 violations") {
		t.Fatalf("without a fault: %v\n%s", err, out)
	}
	for name, fault := range map[string]struct {
		put  func(one, other *mailRecord)
		want string
	}{
		"To of another": {func(one, other *mailRecord) {
			one.replace("\r\nTo: "+one.fields[loggedTo], "\r\nTo: "+other.fields[loggedTo], 1)
		}, "is addressed (To) to another"},
		"delivered to another": {func(one, other *mailRecord) {
			one.fields[loggedTo] = other.fields[loggedTo]
		}, "is addressed (To) to another"},
		"two recipients": {func(one, other *mailRecord) {
			one.fields[loggedTo] += "," + other.fields[loggedTo]
		}, "has 2 recipients"},
		"Message-ID of another": {func(one, other *mailRecord) {
			one.replace(one.fields[loggedID], other.fields[loggedID], 1)
			one.fields[loggedID] = other.fields[loggedID]
		}, "has not the reader's Message-ID"},
		"List-Unsubscribe of another": {func(one, other *mailRecord) {
			mine, _ := one.tokens()
			theirs, _ := other.tokens()
			one.exchange(mine, theirs, 1)
			one.fields[loggedUnsubscribe] = other.fields[loggedUnsubscribe]
		}, "List-Unsubscribe has a link to unsubscribe of reader"},
		"links of another in the parts": {func(one, other *mailRecord) {
			_, mine := one.tokens()
			_, theirs := other.tokens()
			one.exchange(mine, theirs, -1)
		}, "the HTML has a link to preferences of reader"},
		"a token for something else": {func(one, _ *mailRecord) {
			unsubscribe, preferences := one.tokens()
			one.exchange(preferences, unsubscribe, 1)
		}, "the text has a link to preferences that opens nothing"},
		"a token nobody made": {func(one, _ *mailRecord) {
			token, _ := one.tokens()
			one.exchange(token, token[:22]+strings.ToLower(token[22:]), -1)
		}, "the text has a link to unsubscribe that opens nothing"},
		"the sign-up of another day": {func(one, _ *mailRecord) {
			one.raw = regexp.MustCompile(`(\d\d\.\d\d\.20)\d\d`).ReplaceAll(one.raw, []byte("${1}99"))
		}, "does not say the reader's day of sign-up"},
		"an address of another": {func(one, other *mailRecord) {
			one.replace("\r\n\r\nHeute", "\r\n\r\n"+other.fields[loggedTo]+" Heute", 1)
		}, "the text has the address of reader"},
		"a mail that is missing": {func(one, _ *mailRecord) {
			one.name = ""
		}, "29 mails are kept and 30 logged"},
		"a mail that is not in the log": {func(one, _ *mailRecord) {
			one.fields[loggedSum] = strings.Repeat("0", 64)
		}, "is not in the log"},
	} {
		mails := keptMails(t, server)
		sum := mails[3].fields[loggedSum]
		fault.put(&mails[3], &mails[4])
		if mails[3].fields[loggedSum] == sum {
			digest := sha256.Sum256(mails[3].raw)
			mails[3].fields[loggedSum] = hex.EncodeToString(digest[:])
		}
		out, err := p.verdict(keepMails(t, mails))
		if err == nil || !strings.Contains(out, fault.want) {
			t.Errorf("%s: the judge says %v, want %q\n%s", name, err, fault.want, out)
		}
		if strings.Contains(out, "@reader.test") {
			t.Errorf("%s: the judge prints an address:\n%s", name, out)
		}
	}
}

// keptMails reads back what a stopped sink accepted.
func keptMails(t *testing.T, s *sink) []mailRecord {
	t.Helper()
	text, err := os.ReadFile(s.log)
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		lines[fields[loggedSum]] = fields
	}
	entries, err := os.ReadDir(s.saved)
	if err != nil {
		t.Fatal(err)
	}
	var mails []mailRecord
	for _, entry := range entries {
		raw, err := os.ReadFile(filepath.Join(s.saved, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(raw)
		mails = append(mails, mailRecord{entry.Name(), raw, lines[hex.EncodeToString(sum[:])]})
	}
	return mails
}

// keepMails writes mails down as a sink would have; one without a name is in the log only.
func keepMails(t *testing.T, mails []mailRecord) (log, saved string) {
	t.Helper()
	folder := t.TempDir()
	log, saved = filepath.Join(folder, "log"), filepath.Join(folder, "saved")
	if err := os.Mkdir(saved, 0o700); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, mail := range mails {
		fmt.Fprintln(&b, strings.Join(mail.fields, "\t"))
		if mail.name == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(saved, mail.name), mail.raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(log, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return log, saved
}

// judge lets a program that shares nothing with depesche look at every mail a stopped sink accepted.
func (p *press) judge(t testing.TB, s *sink) {
	t.Helper()
	out, err := p.verdict(s.log, s.saved)
	if err != nil {
		t.Errorf("judge: %v", err)
	}
	t.Logf("%s", out)
}

// verdict is the judge's, an error if it finds violations.
func (p *press) verdict(log, saved string) (string, error) {
	p.t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		absent(p.t, "python3 is not installed; nobody has judged the mails")
	}
	people := filepath.Join(p.t.TempDir(), "readers")
	p.listReaders(people)
	out, err := exec.Command("python3", "../../.ci/judge.py", log, saved, people, filepath.Join(p.folder, "depesche.keys")).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// listReaders writes what the judge must know of the digest and its readers.
func (p *press) listReaders(path string) {
	p.t.Helper()
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		p.t.Fatal(err)
	}
	var b bytes.Buffer
	p.look(func(db *sql.DB) error {
		settings := map[string]any{"newsletter": "morgen", "base_url": p.pages, "domain": "talbote.test"}
		var digest, revision int64
		if err := db.QueryRow(`SELECT id, revision FROM digests`).Scan(&digest, &revision); err != nil {
			return err
		}
		settings["digest"], settings["revision"] = digest, revision
		if err := json.NewEncoder(&b).Encode(settings); err != nil {
			return err
		}
		rows, err := db.Query(`SELECT s.id, s.address, s.nonce, p.signed_up FROM subscribers s JOIN subscriptions p ON p.subscriber = s.id`)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var id, nonce, signedUp int64
			var address string
			if err := rows.Scan(&id, &address, &nonce, &signedUp); err != nil {
				return err
			}
			fmt.Fprintf(&b, "%d\t%s\t%d\t%s\n", id, address, nonce, time.UnixMilli(signedUp).In(zone).Format(time.DateOnly))
		}
		return rows.Err()
	})
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		p.t.Fatal(err)
	}
}
