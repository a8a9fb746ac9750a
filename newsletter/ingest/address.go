package ingest

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"

	"golang.org/x/net/idna"
)

const maxAddress = 8192 // bytes; longer ones are rubbish or an attack

// parseAddress reads an address that somebody else wrote, relative to base where there is one, and returns it absolute:
// http or https, host in lower case and ASCII, no default port, nobody's password.
func parseAddress(raw string, base *url.URL) (*url.URL, error) {
	raw = strings.Map(func(r rune) rune { // as browsers do (WHATWG URL, 4.4)
		if r == '\t' || r == '\n' || r == '\r' {
			return -1
		}
		return r
	}, strings.TrimSpace(raw))
	if raw == "" || len(raw) > maxAddress {
		return nil, fmt.Errorf("address of %d bytes", len(raw))
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("malformed address") // the cause would quote it, with whatever its query holds
	}
	if base != nil {
		u = base.ResolveReference(u)
	}
	u.Scheme = strings.ToLower(u.Scheme)
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("scheme %q, expected http or https", u.Scheme)
	}
	if u.User != nil {
		return nil, errors.New("address with user name or password")
	}
	if u.Host, err = asciiHost(u); err != nil {
		return nil, err
	}
	return u, nil
}

var hostName = regexp.MustCompile(`^[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?$`)

func asciiHost(u *url.URL) (string, error) {
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if strings.Contains(host, ":") {
		if net.ParseIP(host) == nil {
			return "", errors.New("malformed host")
		}
		host = "[" + host + "]"
	} else {
		ascii, err := idna.Punycode.ToASCII(host)
		if err != nil || !hostName.MatchString(ascii) || strings.Contains(ascii, "..") {
			return "", errors.New("malformed host")
		}
		host = ascii
	}
	port := u.Port()
	if port == "" || u.Scheme == "http" && port == "80" || u.Scheme == "https" && port == "443" {
		return host, nil
	}
	return host + ":" + port, nil
}

// canonical returns an article's address as it is kept: absolute, without tracking parameters and fragment.
func canonical(raw string, base *url.URL) (string, error) {
	u, err := parseAddress(raw, base)
	if err != nil {
		return "", err
	}
	u.Fragment, u.RawFragment, u.ForceQuery = "", "", false
	u.RawQuery = withoutTracking(u.RawQuery)
	return u.String(), nil
}

// absolute returns the address of something an article points to, whole; "" where it is none of http and https.
func absolute(raw string, base *url.URL) string {
	u, err := parseAddress(raw, base)
	if err != nil {
		return ""
	}
	return u.String()
}

// Query parameters that say where a click came from and nothing about the page.
var (
	trackingPrefixes = []string{"utm_", "mc_", "at_", "wt_", "pk_", "mtm_", "piwik_", "matomo_", "hsa_", "ns_", "itm_"}
	trackingNames    = wordSet(`fbclid gclid gclsrc dclid gbraid wbraid msclkid yclid twclid ttclid igshid igsh li_fat_id
		mkt_tok xtor cmpid ncid ocid ito oly_enc_id oly_anon_id vero_id _hsenc _hsmi _ga _gl sc_campaign s_cid wtmc`)
	// These may mean something: they go only where their value names a way readers come.
	trackingIfShaped = wordSet("ref referer referrer partner emc source src via cmp")
	trackingShape    = regexp.MustCompile(`(?i)^(?:rss|atom|feeds?|rss[-_]?feed|(?:e-?)?mail|newsletter|nl|social|share|push|app|amp|home(?:page)?|` +
		`twitter|x|t\.co|facebook|fb|instagram|whatsapp|telegram|linkedin|xing|mastodon|bluesky|reddit|google|bing|flipboard|upday)(?:[-_.].*)?$`)
)

func wordSet(words string) map[string]bool {
	set := map[string]bool{}
	for w := range strings.FieldsSeq(words) {
		set[w] = true
	}
	return set
}

// withoutTracking leaves out the parameters of the tables above; the others keep their order and spelling.
func withoutTracking(query string) string {
	if query == "" {
		return ""
	}
	var kept []string
	for part := range strings.SplitSeq(query, "&") {
		if part != "" && !tracks(part) {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, "&")
}

func tracks(parameter string) bool {
	name, value, _ := strings.Cut(parameter, "=")
	name = strings.ToLower(name)
	for _, prefix := range trackingPrefixes {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return trackingNames[name] || trackingIfShaped[name] && trackingShape.MatchString(value)
}

// addressKey is what two spellings of one address have in common; "" for a home page, which identifies no article.
// Scheme, default port, fragment, case of the host, spelling of escapes and a trailing slash make no difference.
func addressKey(address string) string {
	u, err := parseAddress(address, nil)
	if err != nil {
		return ""
	}
	if u.Port() == "80" || u.Port() == "443" { // http://host:443 and the like
		u.Host = strings.TrimSuffix(u.Host, ":"+u.Port())
	}
	if !strings.Contains(strings.ToLower(u.RawPath), "%2f") {
		u.RawPath = ""
	}
	path, query := strings.TrimRight(u.EscapedPath(), "/"), withoutTracking(u.RawQuery)
	if path == "" {
		return ""
	}
	if query != "" {
		query = "?" + query
	}
	return u.Host + path + query
}

// printable is an address as errors and logs may show it: without its query, which may hold a token.
func printable(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}
