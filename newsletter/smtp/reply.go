package smtp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Phase is the place in the dialogue where a reply came, or failed to come.
type Phase string

// The phases of a connection, then of a message. PhaseContent ends when the final dot has left completely;
// what is missing after that is missing in PhaseDot.
const (
	PhaseConnect  Phase = "connect"
	PhaseGreeting Phase = "greeting"
	PhaseHello    Phase = "hello"
	PhaseSTARTTLS Phase = "starttls" // the TLS handshake, on port 465 too
	PhaseAuth     Phase = "auth"
	PhaseMail     Phase = "mail"
	PhaseRcpt     Phase = "rcpt"
	PhaseData     Phase = "data"
	PhaseContent  Phase = "content"
	PhaseDot      Phase = "dot"
	PhaseQuit     Phase = "quit"
)

// Reply is what the server said to a message, in the phase that decided about it. It is data, not an error: Judge
// tells what follows from it.
type Reply struct {
	Phase Phase
	// Code is the reply code of RFC 5321 §4.2. 0 means that no reply came, or none that could be read; Err then says
	// why.
	Code int
	// Enhanced is the status code of RFC 3463, such as "5.1.1", or "" if the server gave none that fits Code.
	Enhanced string
	// Text is one line of at most 500 bytes without control characters. The addresses of the envelope are blanked in
	// it, so that it can be shown and stored.
	Text string
	// Err is set with Code 0. With another Code it says that the session refused the message itself and nothing went
	// out.
	Err error
}

// String is the reply as an editor reads it: code, enhanced code and text, or why there is none.
func (r Reply) String() string {
	if r.Code == 0 {
		return fmt.Sprintf("no reply: %v", r.Err)
	}
	words := strconv.Itoa(r.Code)
	if r.Enhanced != "" {
		words += " " + r.Enhanced
	}
	if r.Text != "" {
		words += " " + r.Text
	}
	return words
}

// What we read of a reply. RFC 5321 §4.5.3.1.5 allows a line 512 octets and knows no number of lines; real servers
// write longer lines, but nobody needs more than this.
const (
	maxReplyLine  = 2 << 10
	maxReplyLines = 50
	maxReplyText  = 500
)

var errGarbage = errors.New("the server's answer is not an SMTP reply")

// readReply reads one reply, joining its lines (RFC 5321 §4.2.1). Half a reply and anything else that is not one
// give Code 0.
func readReply(r *bufio.Reader, phase Phase) Reply {
	code, lines, err := readLines(r)
	if err != nil {
		return Reply{Phase: phase, Err: err}
	}
	return newReply(phase, code, lines)
}

// newReply makes a reply of a code and the texts of its lines.
func newReply(phase Phase, code int, lines []string) Reply {
	reply := Reply{Phase: phase, Code: code}
	for i, line := range lines {
		// RFC 2034 §4 has the code in every line: once is enough.
		found := enhancedCode(line, code)
		if reply.Enhanced == "" {
			reply.Enhanced = found
		}
		if found != "" && found == reply.Enhanced {
			line = line[len(found):]
		}
		lines[i] = strings.TrimSpace(line)
	}
	reply.Text = oneLine(strings.TrimSpace(strings.Join(lines, " ")))
	return reply
}

func readLines(r *bufio.Reader) (code int, texts []string, err error) {
	for range maxReplyLines {
		line, err := readLine(r)
		if err != nil {
			return 0, nil, err
		}
		number, text, more, ok := splitLine(line)
		if !ok || code != 0 && number != code {
			return 0, nil, errGarbage
		}
		code = number
		texts = append(texts, text)
		if !more {
			return code, texts, nil
		}
	}
	return 0, nil, errGarbage
}

// readLine reads up to a line feed. The carriage return before it may be missing: nothing can be smuggled to us with
// that, and old servers forget it.
func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull) || len(line) > maxReplyLine:
		return "", errGarbage
	case errors.Is(err, io.EOF):
		return "", io.ErrUnexpectedEOF // a line without its end may have been a longer one
	case err != nil:
		return "", err
	}
	return strings.TrimSuffix(string(line[:len(line)-1]), "\r"), nil
}

// splitLine takes a reply line apart: three digits (RFC 5321 §4.2), then nothing, a space, or a hyphen where more
// lines follow.
func splitLine[T string | []byte](line T) (code int, text T, more, ok bool) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || line[1] < '0' || line[1] > '5' || !digit(line[2]) {
		return 0, text, false, false
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	if len(line) == 3 {
		return code, text, false, true
	}
	return code, line[4:], line[3] == '-', line[3] == '-' || line[3] == ' '
}

// enhancedCode returns the status code of RFC 3463 §2 that a reply's text begins with, such as "4.7.1". Its class has
// to be that of the reply (RFC 2034 §4): anything else is taken for text.
func enhancedCode(text string, code int) string {
	if len(text) == 0 || int(text[0]-'0') != code/100 {
		return ""
	}
	end := 1
	for range 2 {
		digits := countDigits(text[min(end+1, len(text)):])
		if end >= len(text) || text[end] != '.' || digits == 0 || digits > 3 {
			return ""
		}
		end += 1 + digits
	}
	rest := text[end:]
	if rest != "" && (rest[0] == '_' || letter(rest[0])) {
		return ""
	}
	if len(rest) > 1 && rest[0] == '.' && digit(rest[1]) {
		return "" // "5.1.1.2" is an IP address
	}
	return text[:end]
}

func countDigits(text string) int {
	n := 0
	for n < len(text) && digit(text[n]) {
		n++
	}
	return n
}

func digit(b byte) bool { return '0' <= b && b <= '9' }

func letter(b byte) bool { return 'a' <= b|0x20 && b|0x20 <= 'z' }

// oneLine makes text from outside fit for a terminal and a table: what is not printable (control and bidirectional
// characters, broken UTF-8) is written as an escape, and what is too long ends in an ellipsis.
func oneLine(text string) string {
	if len(text) <= maxReplyText && plain(text) {
		return text
	}
	const ellipsis = "…"
	var line []byte
	for i, size := 0, 0; i < len(text); i += size {
		var r rune
		r, size = utf8.DecodeRuneInString(text[i:])
		shown := text[i : i+size]
		switch {
		case r == utf8.RuneError && size == 1:
			shown = fmt.Sprintf(`\x%02x`, text[i])
		case !unicode.IsPrint(r):
			shown = strings.Trim(strconv.QuoteRune(r), "'")
		}
		if len(line)+len(shown) > maxReplyText-len(ellipsis) {
			return string(line) + ellipsis
		}
		line = append(line, shown...)
	}
	return string(line)
}

// plain tells whether the text is printable ASCII, as nearly every reply is.
func plain(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

// blank replaces a secret or an address in a text, whatever its case, by an ellipsis.
func blank(text, secret string) string {
	if secret == "" {
		return text
	}
	var out strings.Builder
	for i := 0; i < len(text); {
		if n := len(secret); i+n <= len(text) && strings.EqualFold(text[i:i+n], secret) {
			out.WriteString("…")
			i += n
			continue
		}
		out.WriteByte(text[i])
		i++
	}
	return out.String()
}
