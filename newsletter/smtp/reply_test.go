package smtp

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestReadReply(t *testing.T) {
	tests := []struct {
		wire     string
		code     int
		enhanced string
		text     string
	}{
		{"250 ok\r\n", 250, "", "ok"},
		{"250\r\n", 250, "", ""},
		{"250 \r\n", 250, "", ""},
		{"250 ok\n", 250, "", "ok"},
		{"250 2.0.0 Ok: queued as 4XyZ\r\n", 250, "2.0.0", "Ok: queued as 4XyZ"},
		{"354 End data with <CR><LF>.<CR><LF>\r\n", 354, "", "End data with <CR><LF>.<CR><LF>"},
		{"550 5.1.1 no such user\r\n", 550, "5.1.1", "no such user"},
		{"550 5.1.1\r\n", 550, "5.1.1", ""},
		{"550 5.1.10 null MX\r\n", 550, "5.1.10", "null MX"},
		{"550 5.7.515 access denied\r\n", 550, "5.7.515", "access denied"},
		{"550 5.1.1: no such user\r\n", 550, "5.1.1", ": no such user"},
		{"550 5.1.1<anna> unknown\r\n", 550, "5.1.1", "<anna> unknown"},
		{"550 5.1.1. Sorry\r\n", 550, "5.1.1", ". Sorry"},
		{"451 4.7.1 Greylisted\r\n", 451, "4.7.1", "Greylisted"},
		{"451 try later\r\n", 451, "", "try later"},
		{"550-5.1.1 The account\r\n550-5.1.1 does not\r\n550 5.1.1 exist\r\n", 550, "5.1.1", "The account does not exist"},
		{"550-The account\r\n550 5.1.1 is gone\r\n", 550, "5.1.1", "The account is gone"},
		{"250-a\r\n250-\r\n250\r\n", 250, "", "a"},
		// Not enhanced codes.
		{"550 4.1.1 wrong class\r\n", 550, "", "4.1.1 wrong class"},
		{"550 5.1.1.2 is an address\r\n", 550, "", "5.1.1.2 is an address"},
		{"550 5.1.1234 too long\r\n", 550, "", "5.1.1234 too long"},
		{"550 5.1.1x\r\n", 550, "", "5.1.1x"},
		{"550 5.1 short\r\n", 550, "", "5.1 short"},
		{"550 5.\r\n", 550, "", "5."},
		{"550 5..1\r\n", 550, "", "5..1"},
		{"550 #5.1.0 rejected\r\n", 550, "", "#5.1.0 rejected"},
		{"550 see 5.1.1\r\n", 550, "", "see 5.1.1"},
		// Text from outside.
		{"550 a\x1b[31mb\x00c\x7f\r\n", 550, "", `a\x1b[31mb\x00c\x7f`},
		{"550 a\tb\r\r\n", 550, "", `a\tb`},
		{"550 Grüße\r\n", 550, "", "Grüße"},
		{"550 a\u202eb\u0085c\r\n", 550, "", `a\u202eb\u0085c`},
		{"550 a\xffb\r\n", 550, "", `a\xffb`},
		// Not replies.
		{"", 0, "", ""},
		{"250 ok", 0, "", ""},
		{"250 ok\r", 0, "", ""},
		{"250-ok\r\n", 0, "", ""},
		{"250-ok\r\n251 ok\r\n", 0, "", ""},
		{"250-ok\r\nand more\r\n", 0, "", ""},
		{"25\r\n", 0, "", ""},
		{"\r\n", 0, "", ""},
		{"150 ok\r\n", 0, "", ""},
		{"650 ok\r\n", 0, "", ""},
		{"290 ok\r\n", 0, "", ""},
		{"2500 ok\r\n", 0, "", ""},
		{"250\tok\r\n", 0, "", ""},
		{" 250 ok\r\n", 0, "", ""},
		{"HTTP/1.1 400 Bad Request\r\n", 0, "", ""},
		{"250 " + strings.Repeat("x", maxReplyLine) + "\r\n", 0, "", ""},
		{"250 " + strings.Repeat("x", 10*maxReplyLine) + "\r\n", 0, "", ""},
		{strings.Repeat("250-x\r\n", maxReplyLines) + "250 x\r\n", 0, "", ""},
	}
	for _, test := range tests {
		got := readReply(bufio.NewReader(strings.NewReader(test.wire)), PhaseDot)
		if got.Code != test.code || got.Enhanced != test.enhanced || got.Text != test.text || got.Phase != PhaseDot {
			t.Errorf("readReply(%.80q) = %+v, want %d %q %q", test.wire, got, test.code, test.enhanced, test.text)
		}
		if (got.Code == 0) != (got.Err != nil) {
			t.Errorf("readReply(%.80q) has code %d and error %v", test.wire, got.Code, got.Err)
		}
	}
}

func TestReadReplyJoinsUpToTheLimits(t *testing.T) {
	line := "550-" + strings.Repeat("ü", 900) + "\r\n"
	wire := strings.Repeat(line, maxReplyLines-1) + "550 end\r\n"
	got := readReply(bufio.NewReader(strings.NewReader(wire)), PhaseRcpt)
	if got.Code != 550 {
		t.Fatalf("code = %d (%v), want 550", got.Code, got.Err)
	}
	if len(got.Text) > maxReplyText || !utf8.ValidString(got.Text) || !strings.HasSuffix(got.Text, "ü…") {
		t.Errorf("text is %d bytes and ends in %q", len(got.Text), got.Text[len(got.Text)-8:])
	}
}

func TestReadReplyLeavesTheNext(t *testing.T) {
	r := bufio.NewReader(strings.NewReader("250-a\r\n250 b\r\n421 bye\r\n"))
	for _, want := range []int{250, 421, 0} {
		if got := readReply(r, PhaseMail); got.Code != want {
			t.Errorf("code = %d, want %d", got.Code, want)
		}
	}
}

func TestReplyString(t *testing.T) {
	tests := []struct {
		reply Reply
		want  string
	}{
		{Reply{Code: 250}, "250"},
		{Reply{Code: 250, Text: "ok"}, "250 ok"},
		{Reply{Code: 550, Enhanced: "5.1.1", Text: "gone"}, "550 5.1.1 gone"},
		{Reply{Err: io.ErrUnexpectedEOF}, "no reply: unexpected EOF"},
	}
	for _, test := range tests {
		if got := test.reply.String(); got != test.want {
			t.Errorf("String() = %q, want %q", got, test.want)
		}
	}
}

func TestBlank(t *testing.T) {
	tests := []struct{ text, secret, want string }{
		{"<Anna@Example.de>: unknown", "anna@example.de", "<…>: unknown"},
		{"a@b a@b", "a@b", "… …"},
		{"nothing", "a@b", "nothing"},
		{"", "a@b", ""},
		{"text", "", "text"},
	}
	for _, test := range tests {
		if got := blank(test.text, test.secret); got != test.want {
			t.Errorf("blank(%q, %q) = %q, want %q", test.text, test.secret, got, test.want)
		}
	}
}

// Whatever a server sends, the reply is fit to be shown, and reading it does not reach into what follows.
func FuzzReply(f *testing.F) {
	for _, seed := range []string{
		"250 ok\r\n", "550-5.1.1 a\r\n550 5.1.1 b\r\n", "421 4.7.28 x\n", "250", "\x00\xff\r\n", "550 \u202e\x1b\r\n",
		"250-\r\n250 " + strings.Repeat("é", 600) + "\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		reply := readReply(bufio.NewReader(bytes.NewReader(wire)), PhaseDot)
		if len(reply.Text) > maxReplyText || !utf8.ValidString(reply.Text) {
			t.Errorf("text of %d bytes: %q", len(reply.Text), reply.Text)
		}
		if i := strings.IndexFunc(reply.Text, notShown); i >= 0 {
			t.Errorf("text holds an unprintable character at %d: %q", i, reply.Text)
		}
		if (reply.Code == 0) != (reply.Err != nil) || reply.Code != 0 && (reply.Code < 200 || reply.Code > 559) {
			t.Errorf("code %d, error %v", reply.Code, reply.Err)
		}
		if reply.Code != 0 && !bytes.HasPrefix(wire, []byte(reply.String()[:3])) {
			t.Errorf("code %d is not what was sent", reply.Code)
		}
		outcome := Judge(reply)
		if outcome.Suppress && outcome.Verdict != Failed {
			t.Errorf("suppressed although %s", outcome.Verdict)
		}
		if reply.Code == 0 && outcome.Verdict != Doubtful {
			t.Errorf("no reply to the dot is %s", outcome.Verdict)
		}
		if len(wire) == 0 && !errors.Is(reply.Err, io.ErrUnexpectedEOF) {
			t.Errorf("error = %v", reply.Err)
		}
	})
}

func notShown(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x202e }
