package ingest

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// agencies are the known news agencies: how they sign, in lower case, and how they are credited.
var agencies = map[string]string{
	"dpa": "dpa", "deutsche presse-agentur": "dpa", "dpa-infocom": "dpa", "dpa-afx": "dpa-AFX", "dpa-tmn": "dpa-tmn",
	"afp": "AFP", "agence france-presse": "AFP", "agence france presse": "AFP",
	"ap": "AP", "associated press": "AP", "the associated press": "AP",
	"reuters": "Reuters", "thomson reuters": "Reuters", "rtr": "Reuters",
	"kna": "KNA", "katholische nachrichten-agentur": "KNA", "epd": "epd", "evangelischer pressedienst": "epd",
	"sid": "SID", "sport-informations-dienst": "SID", "dapd": "dapd", "ddp": "ddp",
	"ots": "ots", "news aktuell": "ots", "apa": "APA", "austria presse agentur": "APA",
	"sda": "sda", "keystone-sda": "Keystone-SDA", "ats": "ats", "dts": "dts", "dts nachrichtenagentur": "dts",
	"efe": "EFE", "ansa": "ANSA", "anp": "ANP", "belga": "Belga", "pa": "PA", "pa media": "PA", "upi": "UPI",
	"ntb": "NTB", "tt": "TT", "ritzau": "Ritzau", "stt": "STT", "pap": "PAP", "ctk": "ČTK", "čtk": "ČTK", "mti": "MTI",
	"xinhua": "Xinhua", "kyodo": "Kyodo", "tass": "TASS", "interfax": "Interfax", "ukrinform": "Ukrinform",
	"aap": "AAP", "cp": "CP", "the canadian press": "CP", "bloomberg": "Bloomberg", "glp": "glp", "idea": "IDEA",
}

// agencyNamed is how an agency is credited that signs with the word; "" for an unknown one.
func agencyNamed(word string) string {
	return agencies[strings.ToLower(strings.Trim(word, " .()\u00a0"))]
}

// A regional or special service of an agency: dpa/lhe, dpa/tmn.
var serviceName = regexp.MustCompile(`^[a-z]{2,4}$`)

// creditOf reads a credit such as "dpa", "dpa/lhe" or "AFP/dpa"; "" where it names anything but agencies and their services.
func creditOf(signature string) string {
	var parts []string
	for part := range strings.SplitSeq(strings.TrimSpace(signature), "/") {
		part = strings.TrimSpace(part)
		switch name := agencyNamed(part); {
		case name != "":
			parts = append(parts, name)
		case len(parts) > 0 && serviceName.MatchString(part):
			parts = append(parts, part)
		default:
			return ""
		}
	}
	return strings.Join(parts, "/")
}

var (
	// "Brüssel (dpa) - ", "WASHINGTON, Jan 5 (Reuters) — ", "(dpa) – ", "Frankfurt a.M. (epd). "; marks of bold and italic
	// may stand around it.
	datelineBracket = regexp.MustCompile(`^[*_]{0,3}([^()*_\n]{0,70}?)[*_]{0,3}\s*[*_]{0,3}\(([^()\n]{2,40})\)[*_]{0,3}` +
		`(\s*[*_]{0,3}(?:\\?[-–—―−]|[.:])[*_]{0,3})?\s+[*_]{0,3}(\S)`)
	// "BERLIN dpa | "
	datelineBar = regexp.MustCompile(`^[*_]{0,3}([^()*_|\n]{0,60}?)\s+([A-Za-z/]{2,16})[*_]{0,3}\s+\\?\|[*_]{0,3}\s+(\S)`)
	// "WASHINGTON, Jan 5" and "Berlin, 11. Februar 2026"
	datelineDay = regexp.MustCompile(`,\s*(?:\p{L}{3,9}\.?\s+\d{1,2}|\d{1,2}\.?\s+\p{L}{3,9}\.?)(?:,?\s+\d{4})?$`)
)

// These agencies put no dash behind their signature.
var withoutDash = []string{"KNA", "epd", "SID"}

// dateline splits what stands before an agency's text from the text: place, credit and the rest. Without an agency it
// finds nothing: "Weinheim. Die Stadt …" may be a dateline, or a sentence.
func dateline(text string) (place, agency, rest string, ok bool) {
	if m := datelineBracket.FindStringSubmatchIndex(text); m != nil {
		place, agency = text[m[2]:m[3]], creditOf(text[m[4]:m[5]])
		dash := m[6] >= 0 || slices.Contains(withoutDash, agency)
		rest = text[m[8]:]
		ok = agency != "" && dash
	} else if m := datelineBar.FindStringSubmatchIndex(text); m != nil {
		place, agency, rest = text[m[2]:m[3]], creditOf(text[m[4]:m[5]]), text[m[6]:]
		ok = agency != ""
	}
	place = datelineDay.ReplaceAllString(strings.Trim(place, " ,:–-"), "")
	if !ok || place != "" && !isPlace(place) {
		return "", "", text, false
	}
	return placeName(place), agency, rest, true
}

// isPlace tells places ("Frankfurt am Main", "Berlin/Paris", "Lutherstadt Wittenberg") from the beginning of a sentence
// ("Die Deutsche Presse-Agentur").
func isPlace(s string) bool {
	words := strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '/' || r == ',' })
	if len(words) == 0 || len(words) > 8 || notPlace[strings.ToLower(words[0])] {
		return false
	}
	for _, w := range words {
		initial, short := []rune(w)[0], len(w) > 1 && w[1] == '.' // "a.M."
		if !unicode.IsUpper(initial) && !unicode.IsDigit(initial) && !short && !inPlaceNames[strings.ToLower(w)] {
			return false
		}
	}
	return true
}

var (
	notPlace = wordSet(`der die das ein eine einer dem den the a an nach laut wie im in am auf bei mit von zum zur für es er sie
		wir ich deutsche katholische evangelische associated agence`)
	inPlaceNames = wordSet(`am an der im in bei ob von vor zu zum zur unter auf und den dem de del la le les du des sur upon of
		the and al el di da do dos bin`)
)

// placeName writes places in capitals (AFP, AP) like others. Abbreviations stay as they are.
func placeName(s string) string {
	if s != strings.ToUpper(s) {
		return s
	}
	words := strings.FieldsFunc(s, func(r rune) bool { return !unicode.IsLetter(r) })
	for _, w := range words {
		if !abbreviations[w] {
			runes := []rune(strings.ToLower(w))
			runes[0] = unicode.ToUpper(runes[0])
			s = strings.Replace(s, w, string(runes), 1)
		}
	}
	return s
}

var abbreviations = wordSet("USA US UN UNO EU UK UAE DC D.C LA NRW")

// takeDateline moves a dateline from the head of body and teaser into the fields Place and Agency. What the document said
// about these itself stays.
func (a *Article) takeDateline() {
	for _, text := range []*string{&a.Teaser, &a.Body} {
		place, agency, rest, ok := dateline(*text)
		if ok {
			*text = rest
			a.Place = first(a.Place, place)
			if a.Agency == "" || strings.HasPrefix(agency, a.Agency+"/") { // dpa/lhe says more than dpa
				a.Agency = agency
			}
			continue
		}
		*text = withoutPlace(*text, a.Place)
	}
}

// withoutPlace cuts a dateline of a place only, "Weinheim. Die Stadt …", where the document names the place elsewhere.
func withoutPlace(text, place string) string {
	if place == "" || len(text) <= len(place) || !strings.EqualFold(text[:len(place)], place) {
		return text
	}
	for _, mark := range []string{". ", ".– ", " - ", " – ", " — ", ": "} {
		if rest, ok := strings.CutPrefix(text[len(place):], mark); ok {
			return strings.TrimSpace(rest)
		}
	}
	return text
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

var bylinePrefix = regexp.MustCompile(`(?i)^(?:von|by|text:|autor:|author:)\s+`)

// byline splits "Von Erika Muster, dpa" into author and agency.
func byline(s string) (author, agency string) {
	s = bylinePrefix.ReplaceAllString(oneLine(s), "")
	if credit := creditOf(s); credit != "" {
		return "", credit
	}
	var names []string
	for part := range strings.FieldsFuncSeq(s, func(r rune) bool { return strings.ContainsRune(",/;|()", r) }) {
		part = strings.TrimSpace(part)
		if credit := creditOf(part); credit != "" {
			agency = first(agency, credit)
		} else if part != "" && !strings.Contains(part, "@") {
			names = append(names, part)
		}
	}
	return strings.Join(names, ", "), agency
}

// takeByline sets author and agency from the names a document gives as its authors.
func (a *Article) takeByline(names ...string) {
	var authors []string
	for _, name := range names {
		author, agency := byline(plain(name))
		if author != "" && !slices.Contains(authors, author) {
			authors = append(authors, author)
		}
		a.Agency = first(a.Agency, agency)
	}
	a.Author = first(a.Author, strings.Join(authors, ", "))
}
