package smtp

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A script is one side of a dialogue, a line each:
//
//	< 220 mx     the server says this; "|" is a line break, to say more in one breath
//	> MAIL       the server hears a line that begins so
//	> .          the server hears lines up to the final dot
//	tls          the server shakes hands
//	cut          at the end: the server closes the connection
//	hush         at the end: the server says nothing more, until the client hangs up
//
// Else, after its last line, the server takes QUIT or the end of the connection.

// hi is how most scripts begin.
const hi = `
	< 220 mx ready
	> EHLO news.example
	< 250 mx
`

// peer plays a script on a connection and keeps what it heard.
type peer struct {
	conn   net.Conn
	reader *bufio.Reader
	tls    *tls.Config
	heard  strings.Builder
}

func newPeer(conn net.Conn, config *tls.Config) *peer {
	return &peer{conn: conn, reader: bufio.NewReader(conn), tls: config}
}

// play plays a whole script and closes the connection.
func (p *peer) play(script string) error {
	defer func() { _ = p.conn.Close() }()
	script, end := strings.TrimSpace(script), ""
	for _, word := range []string{"cut", "hush"} {
		if before, ok := strings.CutSuffix(script, word); ok {
			script, end = before, word
		}
	}
	if err := p.converse(script); err != nil {
		return err
	}
	switch end {
	case "cut":
		return nil
	case "hush":
		_, _ = io.Copy(io.Discard, p.reader)
		return nil
	}
	if line, err := p.reader.ReadString('\n'); err == nil {
		if line != "QUIT\r\n" {
			return fmt.Errorf("after the script the client said %q", line)
		}
		_, _ = io.WriteString(p.conn, "221 bye\r\n")
	}
	return nil
}

// converse plays a part of a script and leaves the connection open.
func (p *peer) converse(script string) error {
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		var err error
		switch said, toSay := strings.CutPrefix(line, "< "); {
		case line == "":
		case toSay:
			_, err = io.WriteString(p.conn, strings.ReplaceAll(said, "|", "\r\n")+"\r\n")
		case line == "tls":
			secure := tls.Server(p.conn, p.tls)
			p.conn, p.reader = secure, bufio.NewReader(secure)
			err = secure.Handshake()
		case line == "> .":
			err = p.hearContent()
		default:
			err = p.hear(strings.TrimPrefix(line, "> "))
		}
		if err != nil {
			return fmt.Errorf("at %q: %w", line, err)
		}
	}
	return nil
}

func (p *peer) hear(want string) error {
	line, err := p.reader.ReadString('\n')
	p.heard.WriteString(line)
	if err == nil && !strings.HasPrefix(line, want) {
		err = fmt.Errorf("the client said %q", line)
	}
	return err
}

func (p *peer) hearContent() error {
	for {
		line, err := p.reader.ReadString('\n')
		p.heard.WriteString(line)
		if err != nil || line == ".\r\n" {
			return err
		}
	}
}

// meet opens a session with a server that plays the script over a pipe. The test fails if the server hears anything
// else than its script.
func meet(t *testing.T, script string) *Session {
	t.Helper()
	session, err := dialScript(t, t.Context(), plainRelay, script)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(session.Close)
	return session
}

var plainRelay = Relay{Host: "127.0.0.1", Port: 25, TLS: TLSNone, Hello: "news.example"}

func dialScript(t *testing.T, ctx context.Context, r Relay, script string) (*Session, error) {
	t.Helper()
	near, far := net.Pipe()
	var server sync.WaitGroup
	server.Go(func() {
		if err := newPeer(far, nil).play(script); err != nil {
			t.Errorf("server: %v", err)
		}
	})
	t.Cleanup(server.Wait)
	return open(ctx, r, near)
}

// listen plays a script to the one client that connects, and returns a relay for it. heard is what the server heard;
// asking for it waits until the client has gone.
func listen(t *testing.T, config *tls.Config, script string) (relay Relay, heard func() string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var server sync.WaitGroup
	var text string
	server.Go(func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		p := newPeer(conn, config)
		if err := p.play(script); err != nil {
			t.Logf("server: %v", err)
		}
		text = p.heard.String()
	})
	wait := sync.OnceValue(func() string {
		_ = listener.Close()
		server.Wait()
		return text
	})
	t.Cleanup(func() { wait() })
	port := listener.Addr().(*net.TCPAddr).Port
	return Relay{Host: "127.0.0.1", Port: port, TLS: TLSRequired, Hello: "news.example"}, wait
}

// authority signs certificates that hold for one test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, key: newKey(t)}
	template := certificate("Test Authority")
	template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign
	template.BasicConstraintsValid = true
	a.cert = a.sign(template, template, &a.key.PublicKey)
	return a
}

func (a *authority) sign(template, parent *x509.Certificate, key *ecdsa.PublicKey) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

// pool trusts this authority alone.
func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// server is a server's TLS configuration with a certificate for an IP address.
func (a *authority) server(ip string) *tls.Config {
	a.t.Helper()
	key := newKey(a.t)
	template := certificate("mx")
	template.IPAddresses = []net.IP{net.ParseIP(ip)}
	cert := a.sign(template, a.cert, &key.PublicKey)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func certificate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
}
