package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"

	"depesche/newsletter"
)

const (
	ingestAt = "2026-02-11T05:00:00+01:00"
	runAt    = "2026-02-11T06:00:00+01:00"
)

// The page the product was ordered for: everything of the article, nothing around it, and its mail.
func TestSeedPage(t *testing.T) {
	folder := filepath.Join(fixtures(t), "seed")
	town := newTown(t, "")
	town.serve(ingestAt)
	town.signUp("anna@reader.test", "ukraine")
	town.signUp("ben@reader.test", "sport")
	town.depesche(ingestAt, 0, "ingest", filepath.Join(folder, "article.html"))
	town.depesche(ingestAt, 0, "ingest", filepath.Join(folder, "article.html"))

	out, _ := town.depesche(ingestAt, 0, "article", "list", "--json")
	var list []articleView
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 {
		t.Fatalf("article list: %d articles, %v, want 1", len(list), err)
	}
	out, _ = town.depesche(ingestAt, 0, "article", "show", "--json")
	checkSeed(t, filepath.Join(folder, "expected.json"), out)

	town.depesche(runAt, 0, "run")
	if mails := town.mails("ben@reader.test"); len(mails) != 1 {
		t.Errorf("the reader of another topic has %d mails, want the letter alone", len(mails))
	}
	digest := town.wait("anna@reader.test", 2)
	town.write("digest.eml", string(digest.Raw))
	checkWithPython(t, filepath.Join(town.folder, "digest.eml"), list[0])
}

func checkSeed(t *testing.T, expected, shown string) {
	t.Helper()
	data, err := os.ReadFile(expected)
	if err != nil {
		t.Fatal(err)
	}
	var want, got map[string]any
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(shown), &got); err != nil {
		t.Fatal(err)
	}
	for key, value := range want {
		switch key {
		case "must_not_contain":
			for _, words := range value.([]any) {
				if strings.Contains(shown, words.(string)) {
					t.Errorf("the article contains %q", words)
				}
			}
		case "image":
			image, picture := value.(map[string]any), got["image"].(map[string]any)
			if picture["credit"] != image["credit"] || !strings.Contains(picture["caption"].(string), image["caption_contains"].(string)) {
				t.Errorf("image = %v, want %v", picture, image)
			}
		default:
			if diff := cmp.Diff(value, got[key]); diff != "" {
				t.Errorf("%s: %s", key, diff)
			}
		}
	}
}

// checkWithPython lets a parser that is not ours judge the mail.
func checkWithPython(t *testing.T, path string, a articleView) {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		absent(t, "python3 is not installed; no foreign parser has judged the mail")
	}
	const script = `
import sys, json, email, email.policy, html, re
m = email.message_from_binary_file(open(sys.argv[1], 'rb'), policy=email.policy.default)
plain = m.get_body(('plain',)).get_content()
page = m.get_body(('html',)).get_content()
names = [k.lower() for k in m.keys()]
print(json.dumps({
	'defects': [str(d) for part in m.walk() for d in part.defects],
	'repeated': sorted({n for n in names if names.count(n) > 1}),
	'type': m.get_content_type(),
	'types': [p.get_content_type() for p in m.iter_parts()],
	'header': {k.lower(): str(v) for k, v in m.items()},
	'plain': ' '.join(plain.split()),
	'html': ' '.join(html.unescape(re.sub(r'<[^>]+>', ' ', page)).split()),
}))`
	out, err := exec.Command("python3", "-c", script, path).CombinedOutput()
	if err != nil {
		t.Fatalf("python: %v\n%s", err, out)
	}
	var mail struct {
		Defects, Repeated, Types []string
		Type, Plain, HTML        string
		Header                   map[string]string
	}
	if err := json.Unmarshal(out, &mail); err != nil {
		t.Fatal(err)
	}
	if len(mail.Defects)+len(mail.Repeated) > 0 || mail.Type != "multipart/alternative" ||
		!cmp.Equal(mail.Types, []string{"text/plain", "text/html"}) {
		t.Errorf("structure: %+v", mail)
	}
	for _, words := range []string{a.Title, a.Teaser, "dpa", a.Image.Credit, "Jana Reuter", "Am Markt 3", "Newsletter abbestellen", "10. Februar 2026, 17:41 Uhr"} {
		words = strings.Join(strings.Fields(words), " ")
		if !strings.Contains(mail.Plain, words) {
			t.Errorf("the text part lacks %q:\n%s", words, mail.Plain)
		}
		if !strings.Contains(mail.HTML, words) {
			t.Errorf("the HTML part lacks %q:\n%s", words, mail.HTML)
		}
	}
	for name, want := range map[string]string{
		"list-unsubscribe-post": "List-Unsubscribe=One-Click", "auto-submitted": "auto-generated", "to": "anna@reader.test",
		"list-id": `"Talbote am Morgen" <morgen.talbote.test>`,
	} {
		if got := mail.Header[name]; got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// One-click unsubscription as RFC 8058 wants it, and links that only look.
func TestOneClick(t *testing.T) {
	eachTown(t, func(t *testing.T, town *town) {
		town.serve(ingestAt)
		town.signUp("anna@reader.test")
		town.signUp("ben@reader.test")
		town.article("haushalt", "Politik", "2026-02-11T04:00:00+01:00", "")
		town.depesche(runAt, 0, "run")
		digest := town.wait("anna@reader.test", 2)
		link := town.linkTo("unsubscribe", digest.Text)
		if !strings.Contains(string(digest.Raw), "List-Unsubscribe: <"+link+">") && !strings.Contains(string(digest.Raw), "List-Unsubscribe:\r\n <"+link+">") {
			t.Errorf("the header's link is not the text's: %s", link)
		}
		for i := range 20 {
			method := []string{http.MethodGet, http.MethodHead}[i%2]
			request, err := http.NewRequest(method, link, nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("User-Agent", "BingPreview/1.0b")
			if _, err := page(http.DefaultClient.Do(request)); err != nil {
				t.Errorf("%s: %v", method, err)
			}
		}
		if out, _ := town.depesche("", 0, "subscriber", "list", "--state", "active"); strings.Count(out, "\n") != 2 {
			t.Errorf("after 20 looks: %q, want two active readers", out)
		}
		var form bytes.Buffer
		writer := multipart.NewWriter(&form)
		if err := writer.WriteField("List-Unsubscribe", "One-Click"); err != nil {
			t.Fatal(err)
		}
		if err := writer.Close(); err != nil {
			t.Fatal(err)
		}
		noRedirect := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		for kind, body := range map[string]io.Reader{
			"application/x-www-form-urlencoded": strings.NewReader("List-Unsubscribe=One-Click"),
			writer.FormDataContentType():        &form,
		} {
			response, err := noRedirect.Post(link, kind, body)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if response.StatusCode != http.StatusOK {
				t.Errorf("one click by %s: %s, want 200", kind, response.Status)
			}
		}
		town.article("morgen", "Politik", "2026-02-12T04:00:00+01:00", "")
		town.depesche("2026-02-12T06:00:00+01:00", 0, "run")
		if got := len(town.mails("anna@reader.test")); got != 2 {
			t.Errorf("who left has %d mails, want letter and one digest", got)
		}
		if got := len(town.mails("ben@reader.test")); got != 3 {
			t.Errorf("who stayed has %d mails, want letter and two digests", got)
		}
		out, _ := town.depesche("", 0, "subscriber", "proof", "--json", "anna@reader.test")
		if strings.Count(out, `"withdrawn"`) != 1 || !strings.Contains(out, `"requested"`) || !strings.Contains(out, `"confirmed"`) {
			t.Errorf("the proof must tell the story, with one withdrawal:\n%s", out)
		}
	})
}

// killable is a relay that says when some messages have come, so that a test can kill the sender in the middle.
type killable struct {
	mu     sync.Mutex
	counts map[string]int
	total  int
	at     int
	reach  chan struct{}
}

func (k *killable) arm(more int) <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.at, k.reach = k.total+more, make(chan struct{})
	return k.reach
}

type killableSession struct {
	*killable
	to string
}

func (s *killableSession) Reset()                               {}
func (s *killableSession) Logout() error                        { return nil }
func (s *killableSession) Mail(string, *smtp.MailOptions) error { return nil }

func (s *killableSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = to
	return nil
}

func (s *killableSession) Data(r io.Reader) error {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[s.to]++
	if s.total++; s.total == s.at {
		close(s.reach)
	}
	return nil
}

func newKillable(t *testing.T) (*killable, string) {
	t.Helper()
	k := &killable{counts: map[string]int{}}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &killableSession{killable: k}, nil }))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return k, listener.Addr().String()
}

// kill -9 in the middle of 2,000 deliveries, several times: nobody lost, nobody doubled, and doubtful is at most what was on
// the wire: the flight window of each connection.
func TestKilledInTheMiddle(t *testing.T) {
	eachTown(t, func(t *testing.T, town *town) {
		const readers, kills, onTheWire = 2000, 4, 8 * 8 // connections and flight window by default
		relay, address := newKillable(t)
		town.setRelay(address)
		town.depesche(ingestAt, 0, "status")
		town.addReaders(readers)
		town.article("haushalt", "Politik", "2026-02-11T04:00:00+01:00", "")
		for kill := range kills {
			middle := relay.arm(100 + 37*kill)
			command := town.command(runAt, "run")
			var problems bytes.Buffer
			command.Stderr = &problems
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- command.Wait() }()
			select {
			case err := <-ended:
				out, _ := town.depesche(runAt, 0, "report")
				t.Fatalf("run %d ended before it could be killed: %v\n%s%s", kill, err, &problems, out)
			case <-middle:
			}
			_ = command.Process.Kill()
			<-ended
		}
		// On PostgreSQL what the last victim held is due when its lease is over.
		town.depesche("2026-02-11T06:10:00+01:00", 0, "run")
		checkKilled(t, town, relay, readers, kills*onTheWire)
	})
}

func checkKilled(t *testing.T, town *town, relay *killable, readers, most int) {
	t.Helper()
	out, _ := town.depesche("2026-02-11T06:10:00+01:00", 0, "report", "--troubles", "1000", "--json")
	var accounts []struct {
		newsletter.Report
		Troubles []newsletter.Trouble
	}
	if err := json.Unmarshal([]byte(out), &accounts); err != nil || len(accounts) != 1 {
		t.Fatalf("report: %v\n%s", err, out)
	}
	r := accounts[0].Report
	if !r.AddsUp() || r.Prepared != readers || r.Due+r.OnWire+r.Failed+r.Skipped+r.Expired != 0 {
		t.Errorf("report = %+v", r)
	}
	if r.Doubtful > most || len(accounts[0].Troubles) != r.Doubtful {
		t.Errorf("%d doubtful, %d listed, want at most %d, all listed", r.Doubtful, len(accounts[0].Troubles), most)
	}
	doubtful := map[string]bool{}
	for _, trouble := range accounts[0].Troubles {
		doubtful[fmt.Sprintf("leser%d@reader.test", trouble.Subscriber)] = true
	}
	relay.mu.Lock()
	defer relay.mu.Unlock()
	for i := 1; i <= readers; i++ {
		reader := fmt.Sprintf("leser%d@reader.test", i)
		if n := relay.counts[reader]; n > 1 || n == 0 && !doubtful[reader] {
			t.Errorf("%s got %d mails, doubtful: %v", reader, n, doubtful[reader])
		}
	}
	t.Logf("%d sent, %d doubtful after the kills", r.Sent, r.Doubtful)
}

// Twenty processes at once, and once more: every reader has exactly one mail.
func TestTwentyProcessesAtOnce(t *testing.T) {
	eachTown(t, func(t *testing.T, town *town) {
		const readers = 100
		relay, address := newKillable(t)
		town.setRelay(address)
		town.depesche(ingestAt, 0, "status")
		town.addReaders(readers)
		town.article("haushalt", "Politik", "2026-02-11T04:00:00+01:00", "")
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() {
				if out, err := town.command(runAt, "run").CombinedOutput(); err != nil || len(out) > 0 {
					t.Errorf("run: %v, says %q; want silence under cron", err, out)
				}
			})
		}
		group.Wait()
		town.depesche("2026-02-11T06:05:00+01:00", 0, "run")
		checkKilled(t, town, relay, readers, 0)
	})
}
