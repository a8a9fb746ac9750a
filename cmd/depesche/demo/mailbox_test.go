package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// digest is a mail as depesche sends it, with what an attacker might put into a headline.
const digest = "From: Talbote <morgen@talbote.test>\r\n" +
	"To: lea@leserin.test\r\n" +
	"Subject: =?UTF-8?q?Gr=C3=BC=C3=9Fe_=3Cscript=3Ealert=281=29=3C/script=3E?=\r\n" +
	"List-Id: <b>fett</b> <morgen.talbote.test>\r\n" +
	"MIME-Version: 1.0\r\n" +
	"Content-Type: multipart/alternative; boundary=\"=_x\"\r\n" +
	"\r\n" +
	"--=_x\r\n" +
	"Content-Type: text/plain; charset=utf-8\r\n" +
	"Content-Transfer-Encoding: quoted-printable\r\n" +
	"\r\n" +
	"Die Br=C3=BCcke & der <Fluss>\r\n" +
	"--=_x\r\n" +
	"Content-Type: text/html; charset=utf-8\r\n" +
	"Content-Transfer-Encoding: quoted-printable\r\n" +
	"\r\n" +
	"<html><head><title>x</title></head><body><p>Br=C3=BCcke</p><script>top.location=3D'/'</script></body></html>\r\n" +
	"--=_x--\r\n"

func newMailbox(t *testing.T) *Mailbox {
	t.Helper()
	m, err := NewMailbox("127.0.0.1:0", func() time.Time { return morning })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
	return m
}

func send(t *testing.T, m *Mailbox, raw string, to ...string) {
	t.Helper()
	client, err := smtp.Dial(m.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if err := client.SendMail("bounce@talbote.test", to, strings.NewReader(raw)); err != nil {
		t.Fatal(err)
	}
	if err := client.Quit(); err != nil {
		t.Fatal(err)
	}
}

// get asks the mailbox's pages through a real listener.
func get(t *testing.T, m *Mailbox, path string, header ...string) (*http.Response, string) {
	t.Helper()
	server := httptest.NewServer(m.Handler())
	defer server.Close()
	request, err := http.NewRequest(http.MethodGet, server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

func TestMailboxTakesAMailApart(t *testing.T) {
	m := newMailbox(t)
	send(t, m, digest, "lea@leserin.test", "omar@leser.test")
	messages := m.Messages()
	if len(messages) != 2 {
		t.Fatalf("%d messages, want one for each reader", len(messages))
	}
	got := messages[0]
	for _, check := range []struct{ name, got, want string }{
		{"To", got.To, "lea@leserin.test"},
		{"To of the second", messages[1].To, "omar@leser.test"},
		{"From", got.From, "bounce@talbote.test"},
		{"Sender", got.Sender, "Talbote <morgen@talbote.test>"},
		{"Subject", got.Subject, "Grüße <script>alert(1)</script>"},
		{"Text", strings.TrimSpace(got.Text), "Die Brücke & der <Fluss>"},
		{"Raw", string(got.Raw), digest},
	} {
		if check.got != check.want {
			t.Errorf("%s = %q, want %q", check.name, check.got, check.want)
		}
	}
	if !strings.Contains(got.HTML, "<p>Brücke</p>") || !got.Received.Equal(morning) || got.ID != 1 || len(got.Header) != 6 {
		t.Errorf("message %+v", got)
	}
}

func TestMailboxKeepsWhatIsNoMail(t *testing.T) {
	m := newMailbox(t)
	send(t, m, "no header at all\r\n", "a@leser.test")
	send(t, m, "Subject: only text\r\nContent-Type: text/plain; charset=klingon\r\n\r\nQapla\r\n", "b@leser.test")
	messages := m.Messages()
	if len(messages) != 2 || string(messages[0].Raw) != "no header at all\r\n" || !strings.Contains(messages[1].Text, "Qapla") {
		t.Errorf("messages %+v, want both", messages)
	}
	for _, path := range []string{"/mail/1", "/mail/1?as=desk", "/mail/2", "/mail/2?as=phone"} {
		if response, _ := get(t, m, path); response.StatusCode != http.StatusOK {
			t.Errorf("GET %s = %d, want 200", path, response.StatusCode)
		}
	}
}

func TestPagesEscapeWhatAMailSays(t *testing.T) {
	m := newMailbox(t)
	send(t, m, digest, "lea@leserin.test")
	for _, test := range []struct{ path, want string }{
		{"/", "Grüße &lt;script&gt;alert(1)&lt;/script&gt;"},
		{"/", `href="/mail/1"`},
		{"/mail/1", `<iframe class="desk"`},
		{"/mail/1", `sandbox="allow-popups allow-popups-to-escape-sandbox"`},
		{"/mail/1?as=phone", `<iframe class="phone"`},
		{"/mail/1?as=text", "Die Brücke &amp; der &lt;Fluss&gt;"},
		{"/mail/1?as=header", "&lt;b&gt;fett&lt;/b&gt;"},
		{"/mail/1?as=source", "&lt;script&gt;top.location=3D"},
	} {
		response, body := get(t, m, test.path)
		if response.StatusCode != http.StatusOK || !strings.Contains(body, test.want) {
			t.Errorf("GET %s = %d, lacks %q:\n%s", test.path, response.StatusCode, test.want, body)
		}
		if strings.Contains(body, "<script") || strings.Contains(body, "<b>fett") {
			t.Errorf("GET %s runs what the mail says", test.path)
		}
		if policy := response.Header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'") {
			t.Errorf("GET %s: policy %q", test.path, policy)
		}
	}
	if response, _ := get(t, m, "/mail/2"); response.StatusCode != http.StatusNotFound {
		t.Errorf("GET of an absent mail = %d, want 404", response.StatusCode)
	}
	if _, body := get(t, m, "/", "Accept-Language", "en-GB,en;q=0.8"); !strings.Contains(body, "Refresh") {
		t.Errorf("the page is not in English for an English browser")
	}
}

func TestHTMLOfAMailIsSandboxed(t *testing.T) {
	m := newMailbox(t)
	send(t, m, digest, "lea@leserin.test")
	response, body := get(t, m, "/mail/1/html")
	policy := response.Header.Get("Content-Security-Policy")
	for _, want := range []string{
		"default-src 'none'", "sandbox allow-popups", "form-action 'none'", "base-uri 'none'", "frame-ancestors 'self'",
	} {
		if !strings.Contains(policy, want) {
			t.Errorf("policy %q lacks %q", policy, want)
		}
	}
	for _, never := range []string{"script-src", "allow-scripts", "allow-same-origin", "allow-forms", "allow-top-navigation"} {
		if strings.Contains(policy, never) {
			t.Errorf("policy %q has %q", policy, never)
		}
	}
	if !strings.Contains(body, `<head><base target="_blank"><title>`) {
		t.Errorf("links would open inside the frame:\n%s", body)
	}
	response, body = get(t, m, "/mail/1/source.eml")
	if got := response.Header.Get("Content-Disposition"); body != digest || got != `attachment; filename="mail-1.eml"` {
		t.Errorf("source.eml: %s, %q", got, body)
	}
}

func TestEmptyOnlyFromOurOwnPage(t *testing.T) {
	m := newMailbox(t)
	send(t, m, digest, "lea@leserin.test")
	server := httptest.NewServer(m.Handler())
	defer server.Close()
	for _, test := range []struct {
		origin string
		left   int
	}{{"https://elsewhere.test", 1}, {server.URL, 0}} {
		request, err := http.NewRequest(http.MethodPost, server.URL+"/empty", strings.NewReader(url.Values{}.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Origin", test.origin)
		response, err := server.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if got := len(m.Messages()); got != test.left {
			t.Errorf("POST /empty from %s leaves %d mails, want %d", test.origin, got, test.left)
		}
	}
	send(t, m, digest, "lea@leserin.test")
	if got := m.Messages(); got[0].ID != 2 {
		t.Errorf("the mail after emptying has number %d, want 2: old links must not show new mails", got[0].ID)
	}
}

func TestWait(t *testing.T) {
	m := newMailbox(t)
	ctx, cancel := context.WithCancel(context.Background())
	arrived := make(chan error)
	go func() { arrived <- m.Wait(ctx, func(messages []Message) bool { return len(messages) == 2 }) }()
	send(t, m, digest, "lea@leserin.test")
	send(t, m, digest, "omar@leser.test")
	if err := <-arrived; err != nil {
		t.Errorf("Wait = %v, want nil after the second mail", err)
	}
	cancel()
	if err := m.Wait(ctx, func([]Message) bool { return false }); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait = %v, want %v", err, context.Canceled)
	}
}

func TestMailboxIsBounded(t *testing.T) {
	m := newMailbox(t)
	for i := range keptMessages + 3 {
		m.add(Message{Subject: fmt.Sprint(i)})
	}
	messages := m.Messages()
	if len(messages) != keptMessages || messages[0].Subject != "3" {
		t.Errorf("%d messages from %q on, want the last %d", len(messages), messages[0].Subject, keptMessages)
	}
	if message, ok := m.message(messages[5].ID); !ok || message.Subject != "8" {
		t.Errorf("message(%d) = %q, %v", messages[5].ID, message.Subject, ok)
	}
	client, err := smtp.Dial(m.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	huge := "Subject: x\r\n\r\n" + strings.Repeat("0123456789abcdef\r\n", 600_000)
	err = client.SendMail("a@talbote.test", []string{"b@leser.test"}, strings.NewReader(huge))
	var refused *smtp.SMTPError
	if !errors.As(err, &refused) || refused.Code != 552 {
		t.Errorf("a mail of more than 10 MiB: %v, want 552", err)
	}
}

func TestMailboxStaysOnThisMachine(t *testing.T) {
	if m, err := NewMailbox("0.0.0.0:0", time.Now); err == nil {
		t.Errorf("NewMailbox listens on %s, want an error", m.Addr())
	}
}
