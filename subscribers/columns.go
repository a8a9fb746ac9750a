package subscribers

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Field is what a column of an imported table is about.
type Field string

// The fields. The words of Source to Requested are the evidence of a consent.
const (
	FieldAddress     Field = "email"
	FieldNewsletter  Field = "newsletter"
	FieldTopics      Field = "topics"       // also tags, labels, groups
	FieldStatus      Field = "status"       // in a word
	FieldSuppressed  Field = "suppressed"   // why nothing may be mailed; empty: nothing speaks against it
	FieldSubscribed  Field = "subscribed"   // yes or no
	FieldDisabled    Field = "disabled"     // yes or no
	FieldLeft        Field = "left"         // when they left; empty: they did not
	FieldBounced     Field = "bounced"      // when the address was found dead
	FieldSource      Field = "source"       // the page or form on which they signed up
	FieldText        Field = "text"         // the words they agreed to
	FieldIP          Field = "ip"           // from which they signed up
	FieldConfirmedIP Field = "confirmed-ip" // from which they confirmed
	FieldConfirmed   Field = "confirmed"    // when they confirmed
	FieldRequested   Field = "requested"    // when they signed up
	FieldLanguage    Field = "language"
)

// Fields are all there are, in the order in which they are explained.
var Fields = []Field{
	FieldAddress, FieldNewsletter, FieldTopics, FieldStatus, FieldSuppressed, FieldSubscribed, FieldDisabled, FieldLeft, FieldBounced,
	FieldConfirmed, FieldRequested, FieldSource, FieldText, FieldIP, FieldConfirmedIP, FieldLanguage,
}

// headers are the names under which programs write a field, as plain gives them: Mailchimp, Substack, beehiiv, Ghost, Curated,
// listmonk, depesche itself, and what people type into a spreadsheet in German and English. When a row was made (created_at)
// says nothing about consent and is not among them.
var headers = map[Field][]string{
	FieldAddress: {
		"email", "emailaddress", "emailadresse", "mail", "mailadresse", "subscriberemail", "correoelectronico", "courriel",
	},
	FieldNewsletter: {"newsletter", "newsletters", "list", "lists", "liste", "listen", "verteiler", "publication"},
	FieldTopics: {
		"topics", "topic", "themen", "thema", "tags", "tag", "labels", "label", "groups", "group", "gruppe", "gruppen", "interests",
		"interessen", "segment", "segments", "kategorie", "kategorien", "rubriken", "rubrik",
	},
	FieldStatus:      {"status", "state", "zustand", "subscriptionstatus", "subscriberstatus", "emailstatus", "memberstatus"},
	FieldSuppressed:  {"suppressed", "suppression", "gesperrt", "sperre"},
	FieldSubscribed:  {"subscribed", "subscribedtoemails", "issubscribed", "angemeldet", "abonniert", "emailmarketing"},
	FieldDisabled:    {"disabled", "emaildisabled", "unsubscribed", "abgemeldet", "optout", "blocked"},
	FieldLeft:        {"unsubscribedat", "unsubtime", "unsubscribetime", "unsubscribedate", "deletedat", "ended", "abgemeldetam", "abmeldedatum", "optouttime"},
	FieldBounced:     {"cleantime", "cleanedat", "bouncedat", "bouncetime", "unzustellbarseit"},
	FieldSource:      {"source", "quelle", "optinsource", "signupsource", "subscriptionsource", "acquisitionsource", "page", "seite", "optinurl", "signupurl", "formurl", "optinpage", "signuppage", "formular", "form", "herkunft"},
	FieldText:        {"text", "consenttext", "optintext", "einwilligungstext", "einwilligung", "wortlaut", "wording", "consentwording"},
	FieldIP:          {"ip", "ipaddress", "ipadresse", "optinip", "signupip", "ipsignup", "anmeldeip"},
	FieldConfirmedIP: {"confirmip", "confirmedip", "confirmationip", "doioptinip", "doiip", "bestaetigungsip"},
	FieldConfirmed: {
		"confirmtime", "confirmedat", "confirmed", "confirmationtime", "confirmdate", "bestaetigtam", "bestaetigt", "bestaetigungszeit",
		"doubleoptinat", "doubleoptintime", "doitime", "doiat",
	},
	FieldRequested: {
		"optintime", "optinat", "optindate", "requested", "signedup", "signedupat", "signuptime", "signupdate", "subscribedat",
		"subscribedate", "subscriptiondate", "consenttime", "consentdate", "anmeldedatum", "angemeldetam", "anmeldezeit",
		"einwilligungsdatum", "einwilligungam",
	},
	FieldLanguage: {"language", "sprache", "locale", "lang"},
}

var fieldOf = func() map[string]Field {
	all := map[string]Field{}
	for field, names := range headers {
		for _, name := range names {
			all[name] = field
		}
	}
	return all
}()

// Column is a column of an imported table.
type Column struct {
	Header string `json:"header"`
	Field  Field  `json:"field,omitempty"` // "": not used
}

// columns say where in a record a field stands.
type columns struct {
	all   []Column
	at    map[Field][]int
	last  int            // the last one that is used
	state map[Field]bool // fields that say something about all rows by being there at all
}

// plain brings a header or a label to what it has in common with its other spellings.
func plain(s string) string {
	s = strings.NewReplacer("ä", "ae", "ö", "oe", "ü", "ue", "ß", "ss", "ó", "o").Replace(strings.ToLower(s))
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return r
		}
		return -1
	}, s)
}

// mapColumns reads the first record of a table. overrides are "column=field", the column by its header or number, the field
// empty where the column shall not be used. A table without a header is one whose first record holds an address.
func mapColumns(first []string, overrides []string) (c columns, headed bool, err error) {
	headed = !slices.ContainsFunc(first, holdsAddress)
	c = columns{at: map[Field][]int{}, state: map[Field]bool{}, last: -1}
	for i, cell := range first {
		column := Column{Header: strings.TrimSpace(Rearm(cell))}
		if !headed {
			column.Header = strconv.Itoa(i + 1)
			if holdsAddress(cell) {
				column.Field = FieldAddress
			}
		} else {
			column.Field = fieldOf[plain(column.Header)]
		}
		switch plain(column.Header) {
		case "unsubreason", "unsubcampaigntitle":
			c.state[FieldLeft] = true
		case "cleancampaigntitle", "cleantime":
			c.state[FieldBounced] = true
		}
		c.all = append(c.all, column)
	}
	for _, override := range overrides {
		if err := c.override(override); err != nil {
			return c, headed, err
		}
	}
	for i, column := range c.all {
		if column.Field != "" {
			c.at[column.Field] = append(c.at[column.Field], i)
			c.last = i
		}
	}
	if len(c.at[FieldAddress]) == 0 {
		return c, headed, fmt.Errorf("no column holds the addresses (there are: %s): name it with column=email", c.names())
	}
	return c, headed, nil
}

func holdsAddress(cell string) bool {
	_, err := ParseAddress(Rearm(cell))
	return err == nil
}

func (c *columns) override(text string) error {
	at := strings.LastIndex(text, "=")
	if at < 0 {
		return fmt.Errorf("map %q: expected column=field", text)
	}
	name, field := strings.TrimSpace(text[:at]), Field(strings.TrimSpace(text[at+1:]))
	if field != "" && !slices.Contains(Fields, field) {
		return fmt.Errorf("map %q: there is no field %q: expected one of %v", text, field, Fields)
	}
	i := slices.IndexFunc(c.all, func(column Column) bool { return plain(column.Header) == plain(name) })
	if number, err := strconv.Atoi(name); i < 0 && err == nil && 0 < number && number <= len(c.all) {
		i = number - 1
	}
	if i < 0 {
		return fmt.Errorf("map %q: there is no such column (there are: %s)", text, c.names())
	}
	c.all[i].Field = field
	return nil
}

// names are the headers, for a message: what looks like an address or is long is left out.
func (c *columns) names() string {
	var names []string
	for _, column := range c.all {
		if column.Header != "" && len(column.Header) < 40 && !strings.Contains(column.Header, "@") {
			names = append(names, column.Header)
		}
	}
	return strings.Join(names, ", ")
}

// get is the first value of a field that is not empty, and the header under which it stands.
func (c *columns) get(record []string, field Field) (value, header string) {
	for _, i := range c.at[field] {
		if i >= len(record) {
			continue
		}
		if value := strings.TrimSpace(Rearm(record[i])); value != "" {
			return value, c.all[i].Header
		}
	}
	return "", ""
}

// fits refuses a record whose cells do not stand under their headers: a field that was lost or torn moves all after it, and
// "unsubscribed" would stand where nobody looks.
func (c *columns) fits(record []string) bool {
	for i := len(c.all); i < len(record); i++ {
		if strings.TrimSpace(record[i]) != "" {
			return false
		}
	}
	return len(record) > c.last
}
