package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"syscall"
	"time"
)

// Bounds of a Fetcher whose fields are zero.
const (
	DefaultMaxBytes     = 10 << 20
	DefaultTimeout      = 30 * time.Second
	DefaultMaxRedirects = 5
)

// Fetcher gets documents from addresses that other people wrote. It connects to nothing but public addresses on the ports
// 80 and 443, whatever a name resolves to at that moment and wherever a server redirects to; an intranet's CMS must be
// allowed by its network. Proxies of the environment are not used. The zero value works; it is safe for concurrent use.
type Fetcher struct {
	UserAgent    string         // names the paper and how to reach it
	AllowPrivate []netip.Prefix // networks that may be reached although they are private, on any port
	MaxBytes     int64          // of a body after decompression; 0 means DefaultMaxBytes
	Timeout      time.Duration  // for a document with all its redirects; 0 means DefaultTimeout
	MaxRedirects int            // 0 means DefaultMaxRedirects, negative none

	resolver *net.Resolver // nil is the system's
}

// Validators are what a server gave to ask again with: RFC 9110 §8.8.
type Validators struct{ ETag, LastModified string }

// Document is what a server answered. Where NotModified is set there is no Body: the one of last time still holds.
type Document struct {
	URL         string // where it was found, after redirects
	ContentType string
	Body        []byte
	Validators  Validators
	NotModified bool
}

// Get fetches a document unless it is what the validators of last time say. Errors name the address without its query,
// which may hold a token. A body larger than MaxBytes is an error; it is never cut off.
func (f *Fetcher) Get(ctx context.Context, address string, v Validators) (Document, error) {
	at, err := fetchable(address, nil)
	if err != nil {
		return Document{}, fmt.Errorf("fetch: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, orDefault(f.Timeout, DefaultTimeout))
	defer cancel()
	transport := f.transport()
	defer transport.CloseIdleConnections()

	most := orDefault(f.MaxRedirects, DefaultMaxRedirects)
	for range max(most, 0) + 1 {
		document, next, err := f.get(ctx, transport, at, v)
		if err != nil {
			return Document{}, fmt.Errorf("fetch %s: %w", printable(at), inPlainWords(err))
		}
		if next == nil {
			return document, nil
		}
		at = next
	}
	return Document{}, fmt.Errorf("fetch %s: more than %d redirects", printable(at), most)
}

func orDefault[T int | int64 | time.Duration](value, standard T) T {
	if value == 0 {
		return standard
	}
	return value
}

// fetchable parses an address that is to be fetched.
func fetchable(address string, base *url.URL) (*url.URL, error) {
	u, err := parseAddress(address, base)
	if err != nil {
		return nil, err
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

// get makes one request. It returns a document, or where the server redirects to.
func (f *Fetcher) get(ctx context.Context, transport *http.Transport, at *url.URL, v Validators) (Document, *url.URL, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return Document{}, nil, errors.New("malformed address")
	}
	f.setHeader(request.Header, v)
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return Document{}, nil, err
	}
	defer answer.Body.Close()
	conditional := v != Validators{}
	switch code := answer.StatusCode; {
	case code == http.StatusOK:
		document, err := f.read(answer)
		document.URL = at.String()
		return document, nil, err
	case code == http.StatusNotModified && conditional:
		return Document{URL: at.String(), Validators: validatorsOf(answer.Header, v), NotModified: true}, nil, nil
	case isRedirect(code):
		next, err := fetchable(answer.Header.Get("Location"), at)
		if err != nil {
			return Document{}, nil, fmt.Errorf("redirect: %w", err)
		}
		return Document{}, next, nil
	default:
		return Document{}, nil, fmt.Errorf("the server answered %d %s", code, http.StatusText(code))
	}
}

func isRedirect(code int) bool {
	return slices.Contains([]int{301, 302, 303, 307, 308}, code)
}

func (f *Fetcher) setHeader(h http.Header, v Validators) {
	agent := f.UserAgent
	if agent == "" {
		agent = "depesche"
	}
	h.Set("User-Agent", agent)
	h.Set("Accept", "application/rss+xml, application/atom+xml, application/feed+json, text/html;q=0.9, */*;q=0.5")
	if v.ETag != "" {
		h.Set("If-None-Match", v.ETag)
	}
	if v.LastModified != "" {
		h.Set("If-Modified-Since", v.LastModified)
	}
}

// validatorsOf keeps what was known for what a 304 does not repeat.
func validatorsOf(h http.Header, known Validators) Validators {
	return Validators{
		ETag:         first(h.Get("ETag"), known.ETag),
		LastModified: first(h.Get("Last-Modified"), known.LastModified),
	}
}

// read reads a body, which net/http has decompressed, and refuses one that is too large.
func (f *Fetcher) read(answer *http.Response) (Document, error) {
	if encoding := answer.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return Document{}, fmt.Errorf("content encoding %s was not asked for", quoted(encoding))
	}
	most := orDefault(f.MaxBytes, DefaultMaxBytes)
	body, err := io.ReadAll(io.LimitReader(answer.Body, most+1))
	if err != nil {
		return Document{}, fmt.Errorf("read the body: %w", err)
	}
	if int64(len(body)) > most {
		return Document{}, fmt.Errorf("the body exceeds %d bytes", most)
	}
	return Document{
		ContentType: answer.Header.Get("Content-Type"), Body: body, Validators: validatorsOf(answer.Header, Validators{}),
	}, nil
}

// inPlainWords says a timeout as one.
func inPlainWords(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)
	}
	return err
}

// transport checks every address at the moment it connects. It is used without an http.Client, which would follow
// redirects by itself and quote addresses with their queries in its errors.
func (f *Fetcher) transport() *http.Transport {
	dialer := &net.Dialer{Timeout: DefaultTimeout, Control: f.control, Resolver: f.resolver}
	return &http.Transport{
		DialContext:            dialer.DialContext, // and no Proxy
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    DefaultTimeout,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// ErrPrivateAddress is why a Fetcher does not connect.
var ErrPrivateAddress = errors.New("not a public address (allow its network if it is meant)")

// control runs after a name was resolved and before the socket connects, so a name that resolves to something else the
// second time (DNS rebinding) gains nothing.
func (f *Fetcher) control(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", address, ErrPrivateAddress)
	}
	ip := to.Addr().WithZone("").Unmap()
	for _, network := range f.AllowPrivate {
		if network.Masked().Contains(ip) {
			return nil
		}
	}
	if !isPublic(ip) {
		return fmt.Errorf("connect to %s: %w", ip, ErrPrivateAddress)
	}
	if to.Port() != 80 && to.Port() != 443 {
		return fmt.Errorf("connect to port %d: only 80 and 443 are allowed", to.Port())
	}
	return nil
}

// special are the networks that are not the public Internet, beyond what netip knows (IANA Special-Purpose Address
// Registries, RFC 6890), and those that carry an IPv4 address inside: 6to4, Teredo, NAT64.
var special = prefixes(
	"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
	"203.0.113.0/24", "240.0.0.0/4",
	"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
	"5f00::/16", "fec0::/10",
)

func prefixes(list ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, p := range list {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}

func isPublic(ip netip.Addr) bool {
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return false
	}
	return !slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(ip) })
}
