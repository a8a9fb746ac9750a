package main

import (
	"strings"
	"testing"
)

// A reader whose local part is not ASCII (A45, B14): mailed with SMTPUTF8 where the server offers it; where it does not, the
// delivery fails with words that say why, nothing of it is said to the server, and the reader is not suppressed. Nobody else's
// mail asks for anything.
func TestForeignLocalPart(t *testing.T) {
	t.Parallel()
	const address, readers = "jörg@xn--mller-kva.test", 20
	for name, c := range map[string]struct {
		offers []string
		want   string // the parameters of MAIL; "": it cannot be sent
	}{
		"offered":          {[]string{pipelined, chunked, "SMTPUTF8", "8BITMIME"}, " BODY=8BITMIME SMTPUTF8"},
		"without 8BITMIME": {[]string{pipelined, "SMTPUTF8"}, " SMTPUTF8"},
		"not offered":      {[]string{pipelined, chunked, "8BITMIME"}, ""},
		"not with DATA":    {[]string{pipelined, "8BITMIME"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			town := newTown(t, "")
			server := newTurnstile(t, atOnce, c.offers...)
			town.printed(server, readers)
			town.exec(`UPDATE subscribers SET address = $1 WHERE id = 7`, address)
			town.depesche(runAt, 0, "run")
			server.rest()
			a := town.account(runAt)
			trouble, troubled := town.troubled(a)[leser(7)]
			for _, p := range server.all() {
				_, parameters, _ := strings.Cut(p.command, ">")
				switch {
				case p.to == address && parameters != c.want:
					t.Errorf("MAIL to the foreign address has the parameters %q, want %q", parameters, c.want)
				case p.to == address && !strings.Contains(p.content, "\r\nTo: "+address+"\r\n"):
					t.Errorf("the mail to the foreign address does not name it:\n%.500s", p.content)
				case p.to != address && parameters != "":
					t.Errorf("MAIL to an ASCII address has the parameters %q, want none", parameters)
				}
			}
			want := 1
			if c.want == "" {
				want = 0
				if !troubled || a.Failed != 1 || !strings.Contains(trouble.Reply, "SMTPUTF8") || trouble.Code != 553 {
					t.Errorf("the account is %+v, want one failed, and the reason", a)
				}
			}
			if got := server.count(func(p piece) bool { return p.to == address }); got != want || a.Sent != readers-1+want {
				t.Errorf("%d mails were begun to the foreign address, want %d: %+v", got, want, a)
			}
			if n := town.mailable(); n != readers {
				t.Errorf("%d readers may be mailed, want all %d", n, readers)
			}
		})
	}
}
