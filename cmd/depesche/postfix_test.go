package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io/fs"
	"math/big"
	"net/smtp"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
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

// Whom the chain takes mail from.
const (
	chainUser     = "depesche"
	chainPassword = "geheim"
)

// newChain prepares the chain in a fresh folder; start starts it. Without root, or unless the chain is asked for, the test skips.
func newChain(t *testing.T) *chain {
	t.Helper()
	if os.Getenv("DEPESCHE_CHAIN") == "" {
		t.Skip("SKIPPED: make test-chain runs the mail chain")
	}
	if os.Getuid() != 0 {
		absent(t, "the mail chain needs root")
	}
	folder, err := os.MkdirTemp("", "depesche-chain-") // not t.TempDir: other users must be able to walk into it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	host, port, _ := strings.Cut(freeAddress(t), ":")
	owner := mustUser(t, "mail")
	c := &chain{Folder: folder, Host: host, Port: port, MailUID: owner.Uid, MailGID: owner.Gid}
	c.certify(t)
	for _, name := range []string{"queue", "data", "mail", "run"} {
		if err := os.Mkdir(filepath.Join(folder, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c.chown(t, "mail", owner)
	c.chown(t, "data", mustUser(t, "postfix"))
	c.write(t, "mail.log", "")
	c.chown(t, "mail.log", mustUser(t, "postfix")) // postsuper, as this user, complains there of what a crash has left behind
	return c
}

// start starts Dovecot, and Postfix with some more lines of main.cf.
func (c *chain) start(t *testing.T, more ...string) {
	t.Helper()
	c.write(t, "postfix/main.cf", postfixMain+strings.Join(more, "\n")+"\n")
	c.write(t, "postfix/master.cf", postfixMaster)
	c.write(t, "dovecot.conf", dovecot)
	c.command(t, "dovecot", "-c", c.Folder+"/dovecot.conf")
	t.Cleanup(func() { _ = exec.Command("doveadm", "-c", c.Folder+"/dovecot.conf", "stop").Run() })
	c.postfix(t, "start")
	t.Cleanup(func() {
		_ = exec.Command("postfix", "-c", c.Folder+"/postfix", "stop").Run()
		if t.Failed() {
			log := c.log(t)
			t.Logf("%s", log[max(0, len(log)-4000):])
		}
	})
}

func (c *chain) postfix(t *testing.T, order string) {
	t.Helper()
	c.command(t, "postfix", "-c", c.Folder+"/postfix", order)
}

func (c *chain) log(t *testing.T) string {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(c.Folder, "mail.log"))
	if err != nil {
		t.Error(err)
	}
	return string(log)
}

// serve makes the chain the town's relay: STARTTLS, a certificate it trusts, and AUTH.
func (c *chain) serve(town *town) {
	town.setRelay("localhost:" + c.Port)
	town.environ = append(town.environ, "DEPESCHE_SMTP_TLS=required", "DEPESCHE_SMTP_USER="+chainUser,
		"DEPESCHE_SMTP_PASSWORD="+chainPassword, "SSL_CERT_FILE="+filepath.Join(c.Folder, "cert.pem"))
}

// killSessions kills the server's side of every SMTP session, as a crash would; Postfix itself lives on.
func (c *chain) killSessions(t *testing.T) {
	t.Helper()
	pid, err := os.ReadFile(filepath.Join(c.Folder, "queue", "pid", "master.pid"))
	if err != nil {
		t.Fatal(err)
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%[1]s/task/%[1]s/children", strings.TrimSpace(string(pid))))
	if err != nil {
		t.Fatal(err)
	}
	for _, child := range strings.Fields(string(children)) {
		name, _ := os.ReadFile(filepath.Join("/proc", child, "comm")) // it may have ended by itself
		if number, _ := strconv.Atoi(child); number > 0 && string(name) == "smtpd\n" {
			_ = syscall.Kill(number, syscall.SIGKILL)
		}
	}
}

// drain waits until Postfix has handed over everything it has taken. What it holds forever is not allowed: bounces, for one.
func (c *chain) drain(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for len(c.queued()) > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("mails do not leave Postfix:\n%s", strings.Join(c.queued(), "\n"))
		}
	}
}

// queued lists the mails in Postfix, in the order in which they pass: one that moves on meanwhile is listed twice, not missed.
func (c *chain) queued() (list []string) {
	for _, name := range []string{"maildrop", "incoming", "active", "deferred", "hold"} {
		_ = filepath.WalkDir(filepath.Join(c.Folder, "queue", name), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return nil // what has gone meanwhile is delivered
			}
			info, err := entry.Info()
			if err == nil && !debris(info) {
				list = append(list, fmt.Sprint(path, " ", info.Mode(), " ", info.Size()))
			}
			return nil
		})
	}
	return list
}

// debris is a mail that a killed process of Postfix did not finish writing, and so never accepted: a finished one is marked
// executable. It would be swept away after a day and a half.
func debris(info fs.FileInfo) bool {
	return info.Mode()&0o100 == 0 && time.Since(info.ModTime()) > 10*time.Second
}

// awaitMail polls until the server takes a MAIL command of a new connection: the window of its rate limits is over.
func (c *chain) awaitMail(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := c.tryMail()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the server takes no mail any more: %v", err)
		}
	}
}

func (c *chain) tryMail() error {
	certificate, err := os.ReadFile(filepath.Join(c.Folder, "cert.pem"))
	if err != nil {
		return err
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(certificate)
	client, err := smtp.Dial("localhost:" + c.Port)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	if err := client.StartTLS(&tls.Config{ServerName: "localhost", RootCAs: trusted}); err != nil {
		return err
	}
	if err := client.Auth(smtp.PlainAuth("", chainUser, chainPassword, "localhost")); err != nil {
		return err
	}
	if err := client.Mail("probe@talbote.test"); err != nil {
		return err
	}
	return client.Quit()
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
enable_long_queue_ids = yes
in_flow_delay = 0
queue_run_delay = 5s
minimal_backoff_time = 5s
service_throttle_time = 1s
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
mail_location = maildir:{{.Folder}}/mail/%u:INDEX=MEMORY
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
