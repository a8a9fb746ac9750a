package subscribers

import (
	_ "embed" // the list
	"strings"
)

// Policy is what becomes of sign-ups with throw-away addresses.
type Policy string

// The policies.
const (
	Refuse Policy = "refuse" // the form says so, whatever is known about the address
	Flag   Policy = "flag"   // lists show it
	Allow  Policy = "allow"
)

//go:embed disposable.txt
var disposableDomains string

// disposable knows domains whose mailboxes are thrown away after use; false are those that are none after all.
type disposable map[string]bool

// newDisposable adds the paper's own list to the built-in one; "!domain" takes a domain out of it.
func newDisposable(own []string) disposable {
	d := disposable{}
	for line := range strings.Lines(disposableDomains) { // A-labels in lower case, and two remarks
		d[strings.TrimSpace(line)] = true
	}
	for _, line := range own {
		line, _, _ = strings.Cut(line, "#")
		name, none := strings.CutPrefix(strings.TrimSpace(line), "!")
		if ascii, err := asciiDomain(strings.TrimPrefix(name, "@")); err == nil { // what is no domain meets no address
			d[ascii] = !none
		}
	}
	return d
}

// has says whether a domain or one above it is known; the nearest decides.
func (d disposable) has(a Address) bool {
	_, domain, _ := strings.Cut(a.Mailbox, "@")
	for domain != "" {
		if thrown, known := d[domain]; known {
			return thrown
		}
		_, domain, _ = strings.Cut(domain, ".")
	}
	return false
}

// parseAddress is ParseAddress for a sign-up.
func (r *Registry) parseAddress(text string) (Address, error) {
	a, err := ParseAddress(text)
	if err == nil && r.settings.Disposable == Refuse && r.thrown.has(a) {
		err = ErrDisposable
	}
	return a, err
}

// flagged says whether lists should mark an address.
func (r *Registry) flagged(address string) bool {
	return r.settings.Disposable != Allow && r.thrown.has(Address{Mailbox: strings.ToLower(address)})
}
