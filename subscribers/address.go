package subscribers

import (
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// Address is a mail address that was checked.
type Address struct {
	Mailed  string // local part as written, domain as A-labels (RFC 5890): what RCPT TO gets
	Mailbox string // Mailed in lower case: one subscriber per mailbox
}

// AddressError says why a text is not an address we mail to. Its value is the code under which the pages explain it.
type AddressError string

// The reasons. ErrNeedsUTF8 is a valid address that only servers with SMTPUTF8 (RFC 6531) take; we do not ask for it.
const (
	ErrEmpty     AddressError = "empty"
	ErrNoAt      AddressError = "no-at"
	ErrSeveral   AddressError = "several"
	ErrName      AddressError = "name"
	ErrControl   AddressError = "control"
	ErrLocal     AddressError = "local"
	ErrNeedsUTF8 AddressError = "needs-utf8"
	ErrDomain    AddressError = "domain"
	ErrNoDot     AddressError = "no-dot"
	ErrTooLong   AddressError = "too-long"

	ErrDisposable AddressError = "disposable" // refused where Settings.Disposable says so
)

// Error names the problem and never the address.
func (e AddressError) Error() string {
	switch e {
	case ErrEmpty:
		return "address: nothing was entered"
	case ErrNoAt:
		return "address: the @ is missing"
	case ErrSeveral:
		return "address: more than one address"
	case ErrName:
		return "address: it must stand alone, without a name or angle brackets"
	case ErrControl:
		return "address: it contains a line break or another control character"
	case ErrLocal:
		return "address: the part before the @ is not valid"
	case ErrNeedsUTF8:
		return "address: the part before the @ has letters that need SMTPUTF8"
	case ErrDomain:
		return "address: the part after the @ is not a domain"
	case ErrNoDot:
		return "address: the domain has no dot"
	case ErrTooLong:
		return "address: it is too long"
	case ErrDisposable:
		return "address: its domain gives mailboxes to throw away"
	case ErrSame:
		return "address: it is the one the reader has"
	}
	return "address: " + string(e)
}

const (
	maxAddress = 254 // octets, RFC 5321 §4.5.3.1.3 less the angle brackets
	maxLocal   = 64  // octets, RFC 5321 §4.5.3.1.1
)

// ParseAddress reads one bare address as people type it: white space around it is cut off, an international domain
// becomes A-labels. Quoted local parts, comments, display names and domain literals are refused, as browsers do;
// nothing else is normalised, for a dot or a plus may be part of somebody's mailbox. The error is an AddressError.
func ParseAddress(s string) (Address, error) {
	if strings.ContainsFunc(s, isControl) {
		return Address{}, ErrControl
	}
	s = strings.TrimSpace(s)
	switch {
	case s == "":
		return Address{}, ErrEmpty
	case strings.ContainsAny(s, "<>\"()"):
		return Address{}, ErrName
	case strings.ContainsAny(s, ",;") || strings.Count(s, "@") > 1:
		return Address{}, ErrSeveral
	}
	local, domain, found := strings.Cut(s, "@")
	if !found {
		return Address{}, ErrNoAt
	}
	if err := checkLocal(local); err != nil {
		return Address{}, err
	}
	domain, err := asciiDomain(domain)
	if err != nil {
		return Address{}, err
	}
	mailed := local + "@" + domain
	if len(local) > maxLocal || len(mailed) > maxAddress {
		return Address{}, ErrTooLong
	}
	return Address{Mailed: mailed, Mailbox: strings.ToLower(mailed)}, nil
}

// isControl leaves tabs to TrimSpace. U+2028 and U+2029 break lines in some readers of what we write.
func isControl(c rune) bool {
	return c < 0x20 && c != '\t' || 0x7f <= c && c < 0xa0 || c == '\u2028' || c == '\u2029'
}

// checkLocal wants a dot-atom (RFC 5322 §3.2.3).
func checkLocal(local string) error {
	foreign := false
	for _, c := range local {
		if c == '\uFFFD' || c < 0x80 && !isAtext(c) && c != '.' {
			return ErrLocal
		}
		foreign = foreign || c >= 0x80
	}
	if strings.HasPrefix(local, ".") || strings.HasSuffix(local, ".") || strings.Contains(local, "..") || local == "" {
		return ErrLocal
	}
	if foreign {
		return ErrNeedsUTF8
	}
	return nil
}

func isAtext(c rune) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", c)
}

// asciiDomain turns a domain into A-labels as a resolver would look it up (RFC 5891 §5), and refuses what cannot be the
// domain of a public mailbox.
func asciiDomain(domain string) (string, error) {
	ascii, err := idna.Lookup.ToASCII(domain)
	if err != nil || ascii == "" {
		return "", ErrDomain
	}
	if again, err := idna.Lookup.ToASCII(ascii); err != nil || again != ascii {
		return "", ErrDomain // broken UTF-8 gets A-labels that no resolver would read back
	}
	ascii = strings.ToLower(ascii)
	labels := strings.Split(ascii, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 {
			return "", ErrDomain
		}
	}
	if _, err := netip.ParseAddr(ascii); err == nil {
		return "", ErrDomain
	}
	if len(labels) < 2 {
		return "", ErrNoDot
	}
	if last := labels[len(labels)-1]; '0' <= last[0] && last[0] <= '9' {
		return "", ErrDomain // no top-level domain begins with a digit; IPv4 addresses in all their spellings do
	}
	return ascii, nil
}

// isRole says whether the mailbox belongs to an office that never subscribes to anything: a sign-up for it is a trap.
func (a Address) isRole() bool {
	local, _, _ := strings.Cut(a.Mailbox, "@")
	switch local {
	case "abuse", "postmaster", "mailer-daemon", "noreply", "no-reply", "donotreply", "do-not-reply":
		return true
	}
	return false
}

// Masked is the address as its owner recognises it and nobody else does: "l…@wnoz.example".
func (a Address) Masked() string {
	local, domain, found := strings.Cut(a.Mailed, "@")
	if !found || local == "" {
		return "…"
	}
	if shown, err := idna.Display.ToUnicode(domain); err == nil {
		domain = shown
	}
	return local[:1] + "…@" + domain
}
