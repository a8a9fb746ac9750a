package smtp

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/textproto"
	"os"
	"strconv"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail/smtp"
)

// TLS says how a relay is spoken to. There is no "if possible": what can be stripped from the wire protects nobody
// (RFC 8314 §3, RFC 3207 §5).
type TLS string

// The ways to speak to a relay. The zero value means TLSRequired.
const (
	TLSRequired TLS = "required" // STARTTLS, or no mail
	TLSImplicit TLS = "implicit" // TLS from the first byte, port 465
	TLSNone     TLS = "none"     // only to a relay on the loopback
)

// Relay is the server that takes our mail, and who we are to it.
type Relay struct {
	Host string // a name, which its certificate must hold, or an IP address
	Port int
	TLS  TLS

	User     string // "": no authentication
	Password string

	// Hello is the fully qualified name we give in EHLO. "" takes the machine's if it is one, else the address literal
	// of the connection (RFC 5321 §4.1.3).
	Hello string

	// Flight is how many messages may be unanswered on a connection where the server offers CHUNKING; DefaultFlight if 0, at
	// most MaxFlight. So many a connection can be doubtful after a kill.
	Flight int

	RootCAs  *x509.CertPool // who may sign the relay's certificate; nil: whom the system trusts
	Timeouts Timeouts
}

func (r Relay) flight() int {
	if r.Flight <= 0 {
		return DefaultFlight
	}
	return min(r.Flight, MaxFlight)
}

// Timeouts are how long we wait for a server. Zero values take those of RFC 5321 §4.5.3.2.
type Timeouts struct {
	Connect  time.Duration // for the TCP connection; the RFC has none: 1 minute
	Greeting time.Duration // from the connection until we may send mail, TLS and AUTH included: 5 minutes
	Mail     time.Duration // 5 minutes
	Rcpt     time.Duration // 5 minutes
	Data     time.Duration // 2 minutes
	Block    time.Duration // for every 64 KiB of content to leave: 3 minutes
	Dot      time.Duration // for the answer to a whole message: 10 minutes; shorter ones make duplicates (RFC 1047)
}

func (t Timeouts) withDefaults() Timeouts {
	return Timeouts{
		Connect:  cmp.Or(t.Connect, time.Minute),
		Greeting: cmp.Or(t.Greeting, 5*time.Minute),
		Mail:     cmp.Or(t.Mail, 5*time.Minute),
		Rcpt:     cmp.Or(t.Rcpt, 5*time.Minute),
		Data:     cmp.Or(t.Data, 2*time.Minute),
		Block:    cmp.Or(t.Block, 3*time.Minute),
		Dot:      cmp.Or(t.Dot, 10*time.Minute),
	}
}

// Refusal is the error of Dial when trying again will not help: the server will not have us (5yz to greeting, EHLO,
// STARTTLS or AUTH), or we will not have it (no STARTTLS, a certificate that does not hold, no AUTH we know, plain text
// beyond the loopback). Any other error of Dial means that the relay is away.
type Refusal struct {
	Addr  string // host:port
	Phase Phase
	Reply Reply // what the server said; Code 0 if it was us
	Err   error // what we did not accept; nil if Reply says it
}

func (r *Refusal) Error() string {
	if r.Err == nil {
		return fmt.Sprintf("smtp relay %s refuses us at %s: %s", r.Addr, r.Phase, r.Reply)
	}
	return fmt.Sprintf("smtp relay %s is unacceptable at %s: %v", r.Addr, r.Phase, r.Err)
}

// Unwrap returns what we did not accept.
func (r *Refusal) Unwrap() error { return r.Err }

// unmet is a condition of ours that the relay, or its configuration, does not meet.
type unmet string

func (u unmet) Error() string { return string(u) }

// Dial connects to the relay, secures the connection and authenticates. The error is a *Refusal if that cannot
// succeed as things are; any other means that the relay is away and worth another try later.
//
// The context governs dialling only; the session outlives it.
func Dial(ctx context.Context, r Relay) (*Session, error) {
	if err := r.check(); err != nil {
		return nil, r.failure(PhaseConnect, err)
	}
	dialer := net.Dialer{Timeout: r.Timeouts.withDefaults().Connect}
	conn, err := dialer.DialContext(ctx, "tcp", r.addr())
	if err != nil {
		return nil, r.failure(PhaseConnect, err)
	}
	return open(ctx, r, conn)
}

func (r Relay) addr() string { return net.JoinHostPort(r.Host, strconv.Itoa(r.Port)) }

// check refuses a relay that cannot be dialled as it is configured.
func (r Relay) check() error {
	switch r.TLS {
	case "", TLSRequired, TLSImplicit:
	case TLSNone:
		if ip := net.ParseIP(r.Host); r.Host != "localhost" && !ip.IsLoopback() {
			return unmet(`tls "none" is for a relay on the loopback only`)
		}
	default:
		return unmet(fmt.Sprintf(`tls is %q, not "required", "implicit" or "none"`, r.TLS))
	}
	if r.Host == "" || r.Port < 1 || r.Port > math.MaxUint16 {
		return unmet("host or port is missing or impossible")
	}
	if strings.ContainsFunc(r.Hello, notInCommand) {
		return unmet(fmt.Sprintf("hello name %q holds a space or control character", r.Hello))
	}
	return nil
}

// open makes a session of a fresh connection, or closes it.
func open(ctx context.Context, r Relay, conn net.Conn) (*Session, error) {
	timeouts := r.Timeouts.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, timeouts.Greeting)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })

	wire := &bounded{Conn: conn, left: maxNegotiation}
	client, phase, err := r.negotiate(ctx, wire)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		refused := r.failure(phase, err)
		if client != nil {
			_ = client.UpdateDeadline(quitTimeout)
			_ = client.Quit()
		}
		_ = conn.Close()
		return nil, refused
	}
	wire.left = math.MaxInt
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		_ = conn.Close()
		return nil, r.failure(phase, err)
	}
	return newSession(client, conn, r, deadline), nil
}

// negotiate leads the connection to where MAIL may be said. go-mail speaks; its steps are taken one by one here
// instead of by its DialToSMTPClientWithContext, which does not tell the phase of a failure, leaves the connection
// open on it, and would choose AUTH mechanisms from what was offered before TLS.
func (r Relay) negotiate(ctx context.Context, conn net.Conn) (*gomail.Client, Phase, error) {
	if r.TLS == TLSImplicit {
		secure := tls.Client(conn, r.tlsConfig())
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, PhaseSTARTTLS, err
		}
		conn = secure
	}
	client, err := gomail.NewClient(conn, r.Host)
	if err != nil {
		return nil, PhaseGreeting, err
	}
	if err := client.Hello(r.hello(conn.LocalAddr())); err != nil {
		return client, PhaseHello, err
	}
	if r.TLS != TLSImplicit && r.TLS != TLSNone {
		if phase, err := startTLS(client, r.tlsConfig()); err != nil {
			return client, phase, err
		}
	}
	if r.User != "" {
		return client, PhaseAuth, r.authenticate(client)
	}
	return client, PhaseHello, nil
}

// startTLS secures the connection. go-mail then starts anew as RFC 3207 §4.2 wants it: bytes sent ahead of the
// handshake are thrown away with the reader that held them, and EHLO is said again.
func startTLS(client *gomail.Client, config *tls.Config) (Phase, error) {
	if offered, _ := client.Extension("STARTTLS"); !offered {
		return PhaseSTARTTLS, unmet("it does not offer STARTTLS")
	}
	err := client.StartTLS(config)
	if state, _ := client.TLSConnectionState(); state.HandshakeComplete {
		return PhaseHello, err
	}
	return PhaseSTARTTLS, err
}

func (r Relay) tlsConfig() *tls.Config {
	return &tls.Config{
		ServerName: r.Host,
		RootCAs:    r.RootCAs,
		MinVersion: tls.VersionTLS12,
		// We write whole messages, not keystrokes: small first records would only cost system calls.
		DynamicRecordSizingDisabled: true,
	}
}

// authenticate gives user and password. The connection is secure, or goes to the loopback: see check and negotiate.
func (r Relay) authenticate(client *gomail.Client) error {
	// Not gomail.ServerInfo.Auth: that keeps what was offered before TLS where nothing is offered after it.
	offered, mechanisms := client.Extension("AUTH")
	if !offered {
		return unmet("it does not offer AUTH")
	}
	for mechanism := range strings.FieldsSeq(strings.ToUpper(mechanisms)) {
		switch mechanism {
		case "PLAIN":
			return client.Auth(gomail.PlainAuth("", r.User, r.Password, r.Host, true))
		case "LOGIN":
			return client.Auth(gomail.LoginAuth(r.User, r.Password, r.Host, true))
		}
	}
	return unmet("it offers neither AUTH PLAIN nor LOGIN")
}

// hello is the name for EHLO. An address literal is honest where a bare host name would be taken for a lie.
func (r Relay) hello(local net.Addr) string {
	if r.Hello != "" {
		return r.Hello
	}
	name, err := os.Hostname()
	if err == nil && strings.Contains(strings.Trim(name, "."), ".") && !strings.HasPrefix(name, "localhost") {
		return name
	}
	tcp, ok := local.(*net.TCPAddr)
	switch {
	case !ok:
		return "[127.0.0.1]"
	case tcp.IP.To4() != nil:
		return "[" + tcp.IP.String() + "]"
	}
	return "[IPv6:" + tcp.IP.String() + "]"
}

// failure makes the error of Dial. A server's answer goes into it as a Reply: cleaned, and without our password,
// should the server quote it.
func (r Relay) failure(phase Phase, err error) error {
	reply := Reply{Phase: phase, Err: err}
	if answer, ok := errors.AsType[*textproto.Error](err); ok {
		reply = newReply(phase, answer.Code, strings.Split(r.withoutSecrets(answer.Msg), "\n"))
		err = nil
	}
	switch {
	case reply.Code >= 500 || err != nil && unacceptable(phase, err):
		return &Refusal{Addr: r.addr(), Phase: phase, Reply: reply, Err: err}
	case err == nil:
		return fmt.Errorf("smtp relay %s is away at %s: %s", r.addr(), phase, reply)
	}
	return fmt.Errorf("smtp relay %s is away at %s: %w", r.addr(), phase, err)
}

func (r Relay) withoutSecrets(text string) string {
	encode := base64.StdEncoding.EncodeToString
	text = blank(text, encode([]byte("\x00"+r.User+"\x00"+r.Password)))
	text = blank(text, encode([]byte(r.Password)))
	return blank(text, r.Password)
}

// unacceptable tells whether an error that is no server's answer will come again tomorrow: a condition not met, or a
// TLS handshake that failed for another reason than the connection.
func unacceptable(phase Phase, err error) bool {
	if _, ok := errors.AsType[unmet](err); ok {
		return true
	}
	return phase == PhaseSTARTTLS && !interrupted(err)
}

func interrupted(err error) bool {
	for _, end := range []error{
		io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, errTalkative,
		context.Canceled, context.DeadlineExceeded, os.ErrDeadlineExceeded,
	} {
		if errors.Is(err, end) {
			return true
		}
	}
	if _, ok := errors.AsType[textproto.ProtocolError](err); ok {
		return true
	}
	operation, ok := errors.AsType[*net.OpError](err)
	return ok && (operation.Op == "read" || operation.Op == "write") // crypto/tls has Ops of its own for alerts
}

// maxNegotiation is how much a server may say until we send mail. net/textproto, which reads until then, has no limit.
const maxNegotiation = 1 << 20

var errTalkative = errors.New("the server talks without end")

// bounded is a connection of which only so many bytes are read.
type bounded struct {
	net.Conn
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTalkative
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
