package ingest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// loopback lets a Fetcher reach the servers of these tests.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

func TestGet(t *testing.T) {
	var request http.Request
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		request = *r
		w.Header().Set("Content-Type", "application/rss+xml; charset=utf-8")
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Last-Modified", "Tue, 10 Feb 2026 16:41:08 GMT")
		_, _ = io.WriteString(w, "<rss/>")
	})
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:9") // must not be asked
	f := &Fetcher{AllowPrivate: loopback, UserAgent: "depesche (+https://paper.example)"}
	got, err := f.Get(context.Background(), address+"/feed?id=7#top", Validators{})
	if err != nil {
		t.Fatal(err)
	}
	want := Validators{`"1"`, "Tue, 10 Feb 2026 16:41:08 GMT"}
	if got.URL != address+"/feed?id=7" || got.ContentType != "application/rss+xml; charset=utf-8" ||
		string(got.Body) != "<rss/>" || got.Validators != want || got.NotModified {
		t.Errorf("Get = %+v", got)
	}
	if request.URL.RawQuery != "id=7" || request.UserAgent() != f.UserAgent || request.Header.Get("If-None-Match") != "" {
		t.Errorf("asked %s with %v", request.URL, request.Header)
	}
}

// A server is asked again with what it gave; a 304 without validators keeps the known ones.
func TestGetConditional(t *testing.T) {
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") == `"1"` && r.Header.Get("If-Modified-Since") == "yesterday" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("ETag", `"2"`)
	})
	f := &Fetcher{AllowPrivate: loopback}
	known := Validators{`"1"`, "yesterday"}
	got, err := f.Get(context.Background(), address+"/feed", known)
	if err != nil || !got.NotModified || got.Validators != known || got.Body != nil {
		t.Errorf("Get = %+v, %v, want not modified", got, err)
	}
	got, err = f.Get(context.Background(), address+"/feed", Validators{ETag: `"0"`})
	if want := (Validators{ETag: `"2"`}); err != nil || got.NotModified || got.Validators != want {
		t.Errorf("Get = %+v, %v, want validators %v", got, err, want)
	}
}

// A 304 that nobody asked for holds nothing to go on with.
func TestGetStatus(t *testing.T) {
	for _, code := range []int{204, 206, 300, 304, 403, 404, 410, 429, 500, 503} {
		address := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
		_, err := (&Fetcher{AllowPrivate: loopback}).Get(context.Background(), address+"/feed?token=SECRET", Validators{})
		if err == nil || !strings.Contains(err.Error(), http.StatusText(code)) || !strings.Contains(err.Error(), address+"/feed") {
			t.Errorf("status %d: error %v", code, err)
		}
		checkNoSecret(t, err)
	}
}

// checkNoSecret holds that an error does not quote what stands in a query or a password.
func checkNoSecret(t *testing.T, err error) {
	t.Helper()
	if err != nil && strings.Contains(err.Error(), "SECRET") {
		t.Errorf("the error tells a secret: %v", err)
	}
}

func TestGetTooLarge(t *testing.T) {
	exact := strings.Repeat("x", 1000)
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, exact)
		if r.URL.Path == "/more" {
			_, _ = io.WriteString(w, "x")
		}
	})
	f := &Fetcher{AllowPrivate: loopback, MaxBytes: 1000}
	if got, err := f.Get(context.Background(), address+"/exact", Validators{}); err != nil || string(got.Body) != exact {
		t.Errorf("a body of the largest size: %d bytes, %v", len(got.Body), err)
	}
	got, err := f.Get(context.Background(), address+"/more", Validators{})
	if err == nil || !strings.Contains(err.Error(), "exceeds 1000 bytes") || got.Body != nil {
		t.Errorf("a body too large: %d bytes, %v", len(got.Body), err)
	}
}

// 100 MB of nothing are 100 KB on the wire: what counts is what comes out.
func TestGetGzipBomb(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	nothing := make([]byte, 1<<20)
	for range 100 {
		_, _ = z.Write(nothing)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	address := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb.Bytes())
	})
	_, err := (&Fetcher{AllowPrivate: loopback}).Get(context.Background(), address, Validators{})
	if err == nil || !strings.Contains(err.Error(), "exceeds 10485760 bytes") {
		t.Errorf("gzip bomb of %d bytes: error %v", bomb.Len(), err)
	}
}

func TestGetGzip(t *testing.T) {
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			t.Error("gzip was not asked for")
		}
		w.Header().Set("Content-Encoding", strings.Trim(r.URL.Path, "/"))
		z := gzip.NewWriter(w)
		_, _ = io.WriteString(z, "<rss/>")
		_ = z.Close()
	})
	f := &Fetcher{AllowPrivate: loopback}
	if got, err := f.Get(context.Background(), address+"/gzip", Validators{}); err != nil || string(got.Body) != "<rss/>" {
		t.Errorf("Get = %q, %v", got.Body, err)
	}
	if _, err := f.Get(context.Background(), address+"/br", Validators{}); err == nil || !strings.Contains(err.Error(), `"br"`) {
		t.Errorf("an encoding that was not asked for: error %v", err)
	}
}

func TestGetRedirects(t *testing.T) {
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if to, ok := strings.CutPrefix(r.URL.RequestURI(), "/to?"); ok {
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusFound)
			return
		}
		if hops, ok := strings.CutPrefix(r.URL.Path, "/hops/"); ok && hops != "" {
			http.Redirect(w, r, "/hops/"+hops[1:], http.StatusMovedPermanently)
			return
		}
		_, _ = io.WriteString(w, "here")
	})
	f := &Fetcher{AllowPrivate: loopback}
	got, err := f.Get(context.Background(), address+"/hops/xxxxx", Validators{})
	if err != nil || string(got.Body) != "here" || got.URL != address+"/hops/" {
		t.Errorf("five redirects: %+v, %v", got, err)
	}
	for path, want := range map[string]string{
		"/hops/xxxxxx":                    "more than 5 redirects",
		"/to?ftp://a.example/x":           `scheme "ftp"`,
		"/to?file:///etc/passwd":          `scheme "file"`,
		"/to?https://u:SECRET@a.example/": "password",
		"/to?":                            "redirect",
		"/to?http://[::1/?SECRET":         "malformed",
	} {
		_, err := f.Get(context.Background(), address+path, Validators{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", path, err, want)
		}
		checkNoSecret(t, err)
	}
	none := &Fetcher{AllowPrivate: loopback, MaxRedirects: -1}
	if _, err := none.Get(context.Background(), address+"/hops/x", Validators{}); err == nil {
		t.Error("a redirect was followed where none may be")
	}
}

// One server may be reached, and redirects to another machine's loopback, which may not.
func TestGetRedirectToPrivate(t *testing.T) {
	var reached atomic.Bool
	inner, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Skipf("no second loopback address: %v", err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) })}
	go func() { _ = server.Serve(inner) }()
	t.Cleanup(func() { _ = server.Close() })
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+inner.Addr().String()+"/admin?token=SECRET", http.StatusFound)
	})
	f := &Fetcher{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}
	_, err = f.Get(context.Background(), address, Validators{})
	if !errors.Is(err, ErrPrivateAddress) || reached.Load() {
		t.Errorf("redirect to a private address: %v, reached: %v", err, reached.Load())
	}
	checkNoSecret(t, err)
}

func TestGetTimeout(t *testing.T) {
	over := make(chan struct{})
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			_, _ = io.WriteString(w, "<rss>")
			w.(http.Flusher).Flush()
		}
		<-over
	})
	defer close(over)
	f := &Fetcher{AllowPrivate: loopback, Timeout: 50 * time.Millisecond}
	for _, path := range []string{"/head?key=SECRET", "/body?key=SECRET"} {
		start := time.Now()
		_, err := f.Get(context.Background(), address+path, Validators{})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 5*time.Second {
			t.Errorf("%s: error %v after %v", path, err, time.Since(start))
		}
		checkNoSecret(t, err)
	}
}

// What a source's address, or the one it redirects to, must not be.
func TestGetRefused(t *testing.T) {
	f := &Fetcher{}
	for _, address := range []string{
		"http://127.0.0.1/", "http://127.1.2.3/", "http://[::1]/", "http://0.0.0.0/", "http://[::]/", "http://10.0.0.1/",
		"http://172.16.0.1/", "http://172.31.255.255/", "http://192.168.1.1/", "http://169.254.169.254/latest/meta-data",
		"http://100.64.0.1/", "http://224.0.0.1/", "http://255.255.255.255/", "http://[fc00::1]/", "http://[fd12::1]/",
		"http://[fe80::1]/", "http://[ff02::1]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:10.0.0.1]/",
		"http://[::127.0.0.1]/", "http://[2002:7f00:1::]/", "http://[64:ff9b::7f00:1]/", "http://[64:ff9b:1::a00:1]/",
		"http://[2001::1]/", "http://192.0.2.1/", "http://198.18.0.1/", "http://127.0.0.1:443/", "http://127.0.0.1:6379/",
	} {
		_, err := f.Get(context.Background(), address, Validators{})
		if !errors.Is(err, ErrPrivateAddress) {
			t.Errorf("%s: error %v, want %v", address, err, ErrPrivateAddress)
		}
	}
	for _, address := range []string{
		"", "feed.xml", "//a.example/", "ftp://a.example/", "file:///etc/passwd", "gopher://a.example/", "javascript:alert(1)",
		"http://user:SECRET@a.example/", "http://SECRET@a.example/", "http://", "http://a..example/", "http://a b/?SECRET", "http://%zz/?SECRET",
	} {
		_, err := f.Get(context.Background(), address, Validators{})
		if err == nil {
			t.Errorf("%q was fetched", address)
		}
		checkNoSecret(t, err)
	}
}

func TestControl(t *testing.T) {
	f := &Fetcher{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}
	for address, want := range map[string]bool{
		"93.184.215.14:443": true, "93.184.215.14:80": true, "93.184.215.14:25": false, "93.184.215.14:8080": false,
		"[2606:2800:21f::1]:443": true, "[2606:2800:21f::1]:22": false, "10.1.2.3:8080": true, "10.2.0.1:80": false,
		"[::ffff:10.1.2.3]:80": true, "[::ffff:10.2.0.1]:80": false, "[fe80::1%lo]:80": false, "no address": false,
	} {
		if err := f.control("tcp", address, nil); (err == nil) != want {
			t.Errorf("control(%s) = %v, want allowed: %v", address, err, want)
		}
	}
}

// A name that resolves to a public address when it is looked at and to loopback when it is connected to (DNS rebinding)
// gains nothing: the address is looked at when the socket connects.
func TestGetRebinding(t *testing.T) {
	var reached atomic.Bool
	address := serve(t, func(http.ResponseWriter, *http.Request) { reached.Store(true) })
	_, port, _ := strings.Cut(strings.TrimPrefix(address, "http://"), ":")
	resolver := rebinding(t)
	if ips, err := resolver.LookupNetIP(context.Background(), "ip4", "rebind.example."); err != nil || !isPublic(ips[0].Unmap()) {
		t.Fatalf("first answer: %v, %v", ips, err)
	}
	f := &Fetcher{resolver: resolver}
	for _, target := range []string{"http://rebind.example/", "https://rebind.example/", "http://rebind.example:" + port + "/"} {
		if _, err := f.Get(context.Background(), target, Validators{}); !errors.Is(err, ErrPrivateAddress) {
			t.Errorf("%s: error %v, want %v", target, err, ErrPrivateAddress)
		}
	}
	if reached.Load() {
		t.Error("the server behind the name was reached")
	}
}

// rebinding is a resolver whose name server answers the first question for an address with a public one and every later
// one with loopback.
func rebinding(t *testing.T) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	go answerNames(server)
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

func answerNames(server net.PacketConn) {
	packet := make([]byte, 1500)
	ip := [4]byte{93, 184, 215, 14}
	for {
		n, from, err := server.ReadFrom(packet)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(packet[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		m.Response, m.Additionals = true, nil
		if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
				Body:   &dnsmessage.AResource{A: ip},
			}}
			ip = [4]byte{127, 0, 0, 1}
		}
		if answer, err := m.Pack(); err == nil {
			_, _ = server.WriteTo(answer, from)
		}
	}
}
