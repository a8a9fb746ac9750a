package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/mail"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"text/template"
	"time"
)

// chain is a real Postfix, submission with STARTTLS and AUTH, and a real Dovecot behind it, on the loopback, in a folder of
// their own. Only root can start them.
type chain struct {
	Folder, Host, Port string
	MailUID, MailGID   string
}

// TestChain sends a morning through Postfix into Dovecot mailboxes: each holds exactly one digest, addressed to its owner, from
// the envelope sender that is theirs alone.
func TestChain(t *testing.T) {
	if os.Getenv("DEPESCHE_CHAIN") == "" {
		t.Skip("SKIPPED: make test-chain runs the mail chain")
	}
	if os.Getuid() != 0 {
		if os.Getenv("DEPESCHE_NO_SKIP") != "" {
			t.Fatal("the mail chain needs root")
		}
		t.Skip("SKIPPED: the mail chain needs root")
	}
	c := startChain(t)
	town := newTown(t, "")
	town.setRelay("localhost:" + c.Port)
	town.environ = append(town.environ, "DEPESCHE_SMTP_TLS=required", "DEPESCHE_SMTP_USER=depesche", "DEPESCHE_SMTP_PASSWORD=geheim",
		"SSL_CERT_FILE="+filepath.Join(c.Folder, "cert.pem"))
	const readers = 200
	town.depesche(ingestAt, 0, "status")
	town.addReaders(readers)
	town.article("haushalt", "Politik", "2026-02-11T04:00:00+01:00", "")
	town.depesche(runAt, 0, "run")
	out, _ := town.depesche(runAt, 0, "report")
	if !strings.Contains(out, "1 entry, 200 readers") {
		t.Errorf("report: %s", out)
	}
	senders := map[string]bool{}
	for i := 1; i <= readers; i++ {
		address := fmt.Sprintf("leser%d@reader.test", i)
		message := c.only(t, address)
		if to := message.Header.Get("To"); strings.Trim(to, "<>") != address {
			t.Errorf("the mailbox of %s holds a mail to %s", address, to)
		}
		from := message.Header.Get("Return-Path")
		if senders[from] || !strings.HasSuffix(from, "@talbote.test>") {
			t.Errorf("the mail to %s came from %s", address, from)
		}
		senders[from] = true
	}
}

func startChain(t *testing.T) *chain {
	t.Helper()
	folder, err := os.MkdirTemp("", "depesche-chain-") // not t.TempDir: other users must be able to walk into it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	host, port, _ := strings.Cut(freeAddress(t), ":")
	owner, err := user.Lookup("mail")
	if err != nil {
		t.Fatal(err)
	}
	c := &chain{Folder: folder, Host: host, Port: port, MailUID: owner.Uid, MailGID: owner.Gid}
	c.certify(t)
	c.write(t, "postfix/main.cf", postfixMain)
	c.write(t, "postfix/master.cf", postfixMaster)
	c.write(t, "dovecot.conf", dovecot)
	for _, name := range []string{"queue", "data", "mail", "run"} {
		if err := os.Mkdir(filepath.Join(folder, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c.chown(t, "mail", owner)
	c.chown(t, "data", mustUser(t, "postfix"))
	c.command(t, "dovecot", "-c", folder+"/dovecot.conf")
	t.Cleanup(func() { _ = exec.Command("doveadm", "-c", folder+"/dovecot.conf", "stop").Run() })
	c.command(t, "postfix", "-c", folder+"/postfix", "start")
	t.Cleanup(func() {
		_ = exec.Command("postfix", "-c", folder+"/postfix", "stop").Run()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(folder, "mail.log"))
			t.Logf("%s", log[max(0, len(log)-4000):])
		}
	})
	return c
}

func mustUser(t *testing.T, name string) *user.User {
	t.Helper()
	account, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	return account
}

func (c *chain) chown(t *testing.T, name string, account *user.User) {
	t.Helper()
	uid, _ := strconv.Atoi(account.Uid)
	gid, _ := strconv.Atoi(account.Gid)
	if err := os.Chown(filepath.Join(c.Folder, name), uid, gid); err != nil {
		t.Fatal(err)
	}
}

func (c *chain) write(t *testing.T, name, text string) {
	t.Helper()
	var filled bytes.Buffer
	if err := template.Must(template.New(name).Parse(text)).Execute(&filled, c); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.Folder, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, filled.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (c *chain) command(t *testing.T, name string, args ...string) {
	t.Helper()
	command := exec.Command(name, args...)
	out, err := os.Create(filepath.Join(c.Folder, name+".out")) // a file: a pipe would stay open in what they leave running
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	command.Stdout, command.Stderr = out, out
	if err := command.Run(); err != nil {
		said, _ := os.ReadFile(out.Name())
		t.Fatalf("%s: %v\n%s", name, err, said)
	}
}

// certify makes a certificate for localhost that vouches for itself.
func (c *chain) certify(t *testing.T) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: certificate}, "key.pem": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(c.Folder, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// only is the one mail in a mailbox, waited for: Postfix has taken it, Dovecot may still be at it.
func (c *chain) only(t *testing.T, address string) *mail.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		files, _ := filepath.Glob(filepath.Join(c.Folder, "mail", address, "new", "*"))
		if len(files) > 1 {
			t.Fatalf("%s has %d mails", address, len(files))
		}
		if len(files) == 1 {
			data, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			message, err := mail.ReadMessage(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			return message
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("no mail came to %s", address)
		}
	}
}

const postfixMain = `compatibility_level = 3.6
queue_directory = {{.Folder}}/queue
data_directory = {{.Folder}}/data
maillog_file = {{.Folder}}/mail.log
maillog_file_prefixes = {{.Folder}}
mail_owner = postfix
setgid_group = postdrop
myhostname = relay.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks =
alias_maps =
smtpd_tls_security_level = may
smtpd_tls_cert_file = {{.Folder}}/cert.pem
smtpd_tls_key_file = {{.Folder}}/key.pem
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {{.Folder}}/run/auth-postfix
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_client_connection_rate_limit = 0
virtual_mailbox_domains = reader.test
virtual_transport = lmtp:unix:{{.Folder}}/run/lmtp
lmtp_destination_recipient_limit = 1
`

const postfixMaster = `{{.Host}}:{{.Port}} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
lmtp unix - - n - - lmtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
postlog unix-dgram n - n - 1 postlogd
`

const dovecot = `base_dir = {{.Folder}}/run
log_path = {{.Folder}}/dovecot.log
protocols = lmtp
ssl = no
first_valid_uid = 1
mail_location = maildir:{{.Folder}}/mail/%u
mail_fsync = never
default_login_user = dovenull
default_internal_user = dovecot
passdb {
  driver = static
  args = password=geheim
}
userdb {
  driver = static
  args = uid={{.MailUID}} gid={{.MailGID}} home={{.Folder}}/mail/%u allow_all_users=yes
}
service auth {
  unix_listener auth-postfix {
    mode = 0666
  }
}
service lmtp {
  client_limit = 1
  unix_listener lmtp {
    mode = 0666
  }
}
`
