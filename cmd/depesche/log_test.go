package main

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// A whole life of readers, with everything that goes wrong in it, leaves no address, token or password in any log: of serve
// (looked at when it ends), or of a command that says something.
func TestLogsHoldNobody(t *testing.T) {
	eachTown(t, func(t *testing.T, town *town) {
		const password = "geheim-4711-Passwort"
		town.article("a1", "Stadtrat", "2026-02-11T04:00:00+01:00", "")
		town.serve(ingestAt)
		post := func(path string, fields url.Values, want int) string {
			response, err := http.PostForm(town.pages+path, fields)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := page(response, nil)
			if response.StatusCode != want {
				t.Errorf("POST = %d, want %d: %s", response.StatusCode, want, text)
			}
			return text
		}
		for _, bad := range []string{"quatsch", "b@c@reader.test", "x@reader.test\r\nBcc: y@reader.test", strings.Repeat("x", 300) + "@reader.test"} {
			post("/subscribe", url.Values{"email": {bad}}, http.StatusUnprocessableEntity)
		}
		post("/subscribe", url.Values{"email": {"falle@reader.test"}, "fax": {"1"}}, http.StatusOK)
		post("/subscribe", url.Values{"email": {"x@reader.test"}, "newsletter": {"gibt-es-nicht"}}, http.StatusNotFound)
		said := []string{}
		tell := func(want int, args ...string) {
			_, stderr := town.depesche(runAt, want, args...)
			said = append(said, stderr)
		}
		for i, address := range []string{"lena@reader.test", "omar@reader.test"} {
			if i == 0 {
				town.signUp(address, "politik")
			} else {
				post("/subscribe", url.Values{"email": {address}}, http.StatusOK) // stays unconfirmed
				town.wait(address, 1)
			}
		}
		link := town.linkTo("confirm", town.wait("omar@reader.test", 1).Text)
		forged := link[:len(link)-1] + "A"
		if forged == link {
			forged = link[:len(link)-1] + "B"
		}
		post(strings.TrimPrefix(forged, town.pages), nil, http.StatusNotFound)
		tell(0, "ingest")
		tell(0, "run")
		leave := town.linkTo("unsubscribe", town.wait("lena@reader.test", 2).Text)
		post(strings.TrimPrefix(leave, town.pages), url.Values{"List-Unsubscribe": {"One-Click"}}, http.StatusOK)
		tell(0, "subscriber", "unsubscribe", "omar@reader.test", "--reason", "letter")
		tell(0, "status")
		town.environ = append(town.environ, "DEPESCHE_SMTP_USER=depesche", "DEPESCHE_SMTP_PASSWORD="+password)
		refused, err := town.command(runAt, "send", "--test", "redaktion@talbote.test").CombinedOutput() // the mailbox knows no AUTH
		if err == nil {
			t.Error("a server without AUTH took a mail of somebody who wants to log in")
		}
		for _, log := range append(said, string(refused)) {
			town.wantNoSecrets("what a command says", log)
		}
	})
}
