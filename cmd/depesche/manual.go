package main

import (
	"fmt"
	"strings"
)

// setting is one key as the file written by init explains it. preset stands commented out where init has no answer for it.
type setting struct {
	key    string // sources[].url
	preset string
	de, en string
}

// manual lists every key of Config once, in the order of the file. A test holds it against the struct.
func manual() []setting {
	return []setting{
		{
			"base_url", "https://newsletter.…",
			"Hier erreichen Ihre Leser „depesche serve“; jeder Link in jeder Mail beginnt damit. Nur https, ohne Pfad.",
			"Where your readers reach \"depesche serve\"; every link in every mail begins with it. https only, no path.",
		},
		{
			"database", "depesche.db",
			"Datei für SQLite, oder postgres://name:passwort@rechner/datenbank für PostgreSQL.",
			"A file for SQLite, or postgres://user:password@host/database for PostgreSQL.",
		},
		{
			"database_file", "/run/secrets/depesche-database",
			"Statt database: eine Datei, in der die Adresse samt Passwort steht.",
			"Instead of database: a file that holds the address with its password.",
		},
		{
			"keys", "depesche.keys",
			"Die Schlüssel für die Links der Leser. Sichern Sie diese Datei getrennt: Ohne sie gilt kein Link mehr.",
			"The keys for readers' links. Keep a copy of this file elsewhere: without it no link works any more.",
		},
		{
			"journal", ".",
			"Ordner für die Journale, in denen Antworten des Mailservers einen Absturz überstehen: auf einer Platte dieses Rechners.",
			"Folder for the journals in which the mail server's answers survive a crash: on a disk of this machine.",
		},
		{
			"language", "de",
			"Sprache der Seiten und Mails, wo nichts anderes steht: de oder en.",
			"Language of pages and mails where nothing else is said: de or en.",
		},
		{
			"listen", "127.0.0.1:8080",
			"Hier lauscht „depesche serve“, ohne TLS, hinter Ihrem Webserver.",
			"Where \"depesche serve\" listens, without TLS, behind your web server.",
		},
		{
			"templates", "templates",
			"Ordner mit eigenen Vorlagen; was darin fehlt, nimmt depesche aus den mitgelieferten.",
			"A folder of your own templates; what it lacks comes from the built-in ones.",
		},
		{
			"proxies", `["127.0.0.0/8", "::1"]`,
			"Adressen oder Netze der Webserver davor: Nur ihnen wird X-Forwarded-For geglaubt.",
			"Addresses or networks of the web servers in front: only their X-Forwarded-For is believed.",
		},
		{
			"confirm_within", "7d",
			"So lange kann eine Anmeldung bestätigt werden; danach wird sie gelöscht. Dauern: 15m, 72h, 7d.",
			"How long a sign-up can be confirmed; afterwards it is deleted. Durations: 15m, 72h, 7d.",
		},

		{"signups", "", "Was Menschen vor Anmeldungen schützt, die andere in ihrem Namen abschicken.", "What protects people from sign-ups that others send in their name."},
		{
			"signups.per_network", "10",
			"So viele Anmeldungen in der Minute nimmt depesche aus einem Netz an (IPv4-Adresse oder IPv6-/64).",
			"How many sign-ups a minute are taken from one network (IPv4 address or IPv6 /64).",
		},
		{
			"signups.flood", "300",
			"Ab so vielen in der Minute, von überall, warten Bestätigungsmails, und jemand wird alarmiert.",
			"Above so many a minute, from everywhere, confirmations wait and somebody is alerted.",
		},
		{
			"signups.min_fill", "2s",
			"Wer das Formular schneller ausfüllt, ist ein Automat.",
			"Who fills in the form faster is a robot.",
		},
		{
			"signups.disposable", "flag",
			"Wegwerfadressen: refuse (ablehnen), flag (in Listen zeigen) oder allow (nicht beachten).",
			"Throw-away addresses: refuse, flag (lists show them) or allow.",
		},
		{
			"signups.disposable_file", "disposable.txt",
			"Weitere Anbieter von Wegwerfadressen, eine Domain je Zeile; „!domain“ nimmt eine mitgelieferte aus.",
			"More providers of throw-away addresses, a domain a line; \"!domain\" exempts a built-in one.",
		},

		{
			"publisher", "",
			"Wer den Newsletter verantwortet. Das steht in jeder Mail (DDG § 5, MStV § 18 Abs. 2).",
			"Who answers for the newsletter. This stands in every mail (DDG § 5, MStV § 18 (2)).",
		},
		{"publisher.name", "", "Firma oder Person.", "Company or person."},
		{
			"publisher.address", "", "Straße, Nummer, Postleitzahl und Ort in einer Zeile.",
			"Street, number, postcode and town on one line.",
		},
		{"publisher.email", "", "Adresse, an die Leser schreiben können.", "An address readers can write to."},
		{
			"publisher.responsible", "",
			"Verantwortlich für den Inhalt: Vor- und Nachname.",
			"The person who answers for the content: first and last name.",
		},
		{"publisher.privacy_url", "https://www.…/datenschutz", "Ihre Datenschutzerklärung.", "Your privacy page."},
		{
			"publisher.privacy_file", "datenschutz.html",
			"Eine Kopie dieser Seite (HTML, Text, Markdown): Ihr Wortlaut wird mit jeder Anmeldung aufbewahrt.",
			"A copy of that page (HTML, text, Markdown): its words are kept with each sign-up.",
		},
		{"publisher.imprint_url", "https://www.…/impressum", "Ihr Impressum.", "Your imprint."},
		{
			"publisher.paper", "", "Kurzer Name der Zeitung, wie die Leser sie kennen.",
			"Short name of the paper, as readers know it.",
		},
		{
			"publisher.logo", "https://www.…/logo.png",
			"https-Adresse eines Bildes für den Kopf; ohne steht dort der Name.",
			"https address of a picture for the head; without it the name stands there.",
		},
		{
			"publisher.logo_file", "logo.svg",
			"Bilddatei für den Kopf der Leserseiten (SVG, PNG, JPEG, WebP, GIF); sie laden nichts von anderswo.",
			"A picture file for the head of the readers' pages (SVG, PNG, JPEG, WebP, GIF); they load nothing from elsewhere.",
		},
		{"publisher.colour", `"#1a4a6e"`, "Farbe der Zeitung, #rrggbb.", "Colour of the paper, #rrggbb."},
		{
			"publisher.colour_text", `"#ffffff"`,
			"Schrift auf dieser Farbe, Kontrast mindestens 4,5:1. Sonst: Schwarz oder Weiß.",
			"What is written on that colour, contrast at least 4.5:1. Otherwise: black or white.",
		},
		{
			"publisher.link_colour", `"#174a73"`,
			"Links auf den Leserseiten bei Tag, Kontrast mindestens 4,5:1.",
			"Links on the readers' pages by day, contrast at least 4.5:1.",
		},
		{
			"publisher.link_colour_dark", `"#9ccbf5"`,
			"Dasselbe auf dunklem Grund.",
			"The same on dark ground.",
		},

		{"pages", "", "Die Seiten für Leser, und der Kasten in Ihren eigenen (/embed).", "The readers' pages, and the box in your own (/embed)."},
		{
			"pages.origins", `["https://www.…"]`,
			"Herkunft Ihrer Seiten: Nur dort antwortet der Kasten ohne Seitenwechsel, und Formulare fremder Seiten werden abgewiesen.",
			"Where your pages are: only there the box answers in place, and forms of foreign pages are refused.",
		},

		{"senders", "", "Von wem die Mails kommen.", "Whom the mails come from."},
		{"senders.newsletter", "", "Absender der Newsletter.", "Sender of the newsletters."},
		{"senders.newsletter.from", "", "Eine Adresse, die jemand liest.", "An address somebody reads."},
		{"senders.newsletter.name", "", "Name davor. Sonst: publisher.paper.", "Name before it. Otherwise: publisher.paper."},
		{"senders.newsletter.reply_to", "", "Wohin Antworten gehen. Sonst: from.", "Where answers go. Otherwise: from."},
		{
			"senders.letter", "",
			"Absender der Bestätigungen; besser eine andere Adresse als die der Newsletter.",
			"Sender of confirmations; better another address than that of the newsletters.",
		},
		{"senders.letter.from", "", "Sonst: newsletter.from.", "Otherwise: newsletter.from."},
		{"senders.letter.name", "", "Sonst: publisher.paper.", "Otherwise: publisher.paper."},
		{
			"senders.bounce_domain", "bounce.…",
			"Domain, an die Unzustellbares zurückkommt. Sonst: die von newsletter.from.",
			"Domain that returned mail comes back to. Otherwise: that of newsletter.from.",
		},
		{
			"senders.message_domain", "newsletter.…",
			"Domain in Message-ID und List-Id. Sonst: die von newsletter.from.",
			"Domain in Message-ID and List-Id. Otherwise: that of newsletter.from.",
		},

		{"smtp", "", "Der Mailserver, der die Mails annimmt.", "The mail server that takes the mails."},
		{"smtp.host", "", "Rechnername, wie er im Zertifikat steht.", "Host name as in its certificate."},
		{
			"smtp.port", "587",
			"Sonst: 587 bei required, 465 bei implicit, 25 bei none.",
			"Otherwise: 587 for required, 465 for implicit, 25 for none.",
		},
		{
			"smtp.tls", "required",
			"required (STARTTLS oder gar nicht), implicit (TLS von Anfang an) oder none (nur auf diesem Rechner).",
			"required (STARTTLS or not at all), implicit (TLS from the start) or none (this machine only).",
		},
		{"smtp.user", "", "Anmeldename, wenn der Server einen will.", "User name, if the server wants one."},
		{
			"smtp.password", "",
			"Das Passwort steht besser in einer eigenen Datei (password_file) oder in DEPESCHE_SMTP_PASSWORD.",
			"The password is better kept in a file of its own (password_file) or in DEPESCHE_SMTP_PASSWORD.",
		},
		{
			"smtp.password_file", "smtp.password", "Datei mit dem Passwort, Rechte 0600.",
			"File that holds the password, mode 0600.",
		},
		{
			"smtp.hello", "mail.…",
			"Voller Name dieses Rechners, mit dem depesche sich meldet (EHLO).",
			"Full name of this machine, said in EHLO.",
		},
		{"smtp.connections", "8", "Verbindungen gleichzeitig.", "Connections at once."},
		{
			"smtp.per_second", "0",
			"Höchstens so viele Mails in der Sekunde; 0: so schnell der Server annimmt.",
			"At most so many mails a second; 0: as fast as the server takes them.",
		},
		{
			"smtp.per_second_connection", "0",
			"Höchstens so viele Mails in der Sekunde über eine Verbindung; 0: keine Grenze.",
			"At most so many mails a second over one connection; 0: no limit.",
		},
		{
			"smtp.per_connection", "500",
			"Nach so vielen Mails eine neue Verbindung.",
			"A new connection after so many mails.",
		},
		{
			"smtp.flight", "8",
			"Mails einer Verbindung, die unbeantwortet sein dürfen, wo der Server CHUNKING kann; höchstens 32.",
			"Mails of a connection that may be unanswered where the server offers CHUNKING; at most 32.",
		},
		{
			"smtp.domains", "[]",
			"Empfängerdomains, die Mail nur langsam annehmen.",
			"Recipients' domains that take mail slowly only.",
		},
		{"smtp.domains[].domain", "example.org", "Die Domain rechts vom @.", "The domain right of the @."},
		{"smtp.domains[].per_minute", "60", "Höchstens so viele Mails in der Minute.", "At most so many mails a minute."},

		{"sources", "", "Woher die Artikel kommen.", "Where articles come from."},
		{
			"sources[].name", "",
			"Unterscheidet die Quellen; ein neuer Name macht aus alten Artikeln neue.",
			"Tells sources apart; a new name makes new articles of old ones.",
		},
		{
			"sources[].url", "https://www.…/feed",
			"Adresse eines Feeds (RSS, Atom, JSON Feed) oder einer Artikelseite.",
			"Address of a feed (RSS, Atom, JSON Feed) or of an article's page.",
		},
		{
			"sources[].path", "articles",
			"Statt url: Datei oder Ordner mit Feeds und Markdown-Dateien.",
			"Instead of url: a file, or a folder of feeds and Markdown files.",
		},
		{
			"sources[].language", "de", "Sprache der Artikel, die ihre nicht nennen.",
			"Language of articles that do not say theirs.",
		},
		{
			"sources[].rights", "teaser",
			"Was gemailt werden darf: teaser (Anriss und Link) oder full (ganzer Text).",
			"What may be mailed: teaser (standfirst and link) or full (the whole text).",
		},
		{
			"sources[].pictures", "no",
			"Dürfen Bilder kopiert und mit Nachweis gezeigt werden? yes oder no.",
			"May pictures be copied and shown with their credit? yes or no.",
		},
		{"sources[].every", "15m", "Frühestens so lange nach dem letzten Besuch.", "Shortest time between two visits."},
		{
			"sources[].allow_private", `["10.1.2.3"]`,
			"Private Adressen, die hier erlaubt sind: für ein Redaktionssystem im Haus.",
			"Private addresses allowed here: for a CMS in the house.",
		},
		{"sources[].max_bytes", "10485760", "Größtes Dokument in Bytes, ausgepackt.", "Largest document in bytes, unpacked."},

		{
			"topics", "",
			"Die Themen, unter denen Leser wählen.",
			"The topics readers choose from.",
		},
		{
			"topics[].slug", "",
			"Kurzname in Links: a–z, 0–9, Bindestrich. Er bleibt, wenn sich der Name ändert.",
			"Short name in links: a–z, 0–9, hyphen. It stays when the name changes.",
		},
		{"topics[].name", "", "Name, den die Leser sehen.", "Name readers see."},
		{
			"topics[].promise", "Rat, Verkehr, Vereine.",
			"Eine Zeile für Leser: was das Thema bringt.", "One line for readers: what the topic brings.",
		},
		{
			"topics[].aliases", "",
			"Dachzeilen und Rubriken, die hierher gehören. Was niemand haben will, zeigt „depesche topic unmapped“.",
			"Kickers and categories that belong here. What nobody wanted is listed by \"depesche topic unmapped\".",
		},

		{
			"ignore", `["Lage im Überblick"]`,
			"Dachzeilen, die Formate sind und keine Themen.",
			"Kickers that are formats, not topics.",
		},

		{"newsletters", "", "Die Newsletter.", "The newsletters."},
		{
			"newsletters[].slug", "", "Kurzname in Links und List-Id; er ändert sich nie.",
			"Short name in links and List-Id; it never changes.",
		},
		{"newsletters[].title", "", "Titel, den die Leser sehen.", "Title readers see."},
		{
			"newsletters[].promise", "",
			"Eine Zeile für das Formular: was kommt, und wann.",
			"One line for the form: what comes, and when.",
		},
		{"newsletters[].topics", "", "Themen in der Reihenfolge der Mail.", "Topics in the order of the mail."},
		{
			"newsletters[].days", "[mon, tue, wed, thu, fri, sat, sun]",
			"Tage: mo di mi do fr sa so oder mon tue wed thu fri sat sun. Sonst: alle.",
			"Days: mon tue wed thu fri sat sun, or mo di mi do fr sa so. Otherwise: all.",
		},
		{"newsletters[].time", `"06:00"`, "Uhrzeit, zu der er zusammengestellt wird.", "Time of day at which it is composed."},
		{
			"newsletters[].latest", `"10:00"`,
			"Danach geht keine Mail mehr hinaus: Nachrichten von gestern will niemand.",
			"After it no mail leaves any more: nobody wants yesterday's news.",
		},
		{"newsletters[].zone", "Europe/Berlin", "Zeitzone.", "Time zone."},
		{"newsletters[].max_age", "72h", "Ältere Artikel bleiben draußen.", "Older articles stay out."},
		{
			"newsletters[].template", "digest",
			"Vorlage: eine Datei in mail/<sprache>/, ohne Endung.",
			"Template: a file of mail/<language>/, without its ending.",
		},
		{"newsletters[].language", "de", "de oder en.", "de or en."},
		{"newsletters[].limits", "", "Damit es lesbar bleibt.", "To keep it readable."},
		{"newsletters[].limits.entries", "40", "Höchstens so viele Meldungen.", "At most so many entries."},
		{"newsletters[].limits.per_topic", "15", "Höchstens so viele je Thema.", "At most so many for each topic."},
		{
			"newsletters[].doubt", "hold",
			"Wenn unklar ist, ob eine Mail ankam: hold (nie doppelt) oder resend (noch einmal).",
			"When nobody knows whether a mail arrived: hold (never twice) or resend.",
		},

		{"alerts", "", "Wer erfährt, wenn etwas nicht geht.", "Who hears when something fails."},
		{"alerts.mail", "", "Adresse von jemandem, der handeln kann.", "Address of somebody who can act."},
		{
			"alerts.command", `[/usr/local/bin/alert, --urgent]`,
			"Programm mit Argumenten, ohne Shell; die Meldung kommt über die Standardeingabe.",
			"Program and arguments, no shell; the alert is its standard input.",
		},

		{
			"retention", "", "Was von Lesern aufgehoben wird, und wie lange; „depesche cleanup“ löscht, was darüber ist.",
			"What is kept of readers, and for how long; \"depesche cleanup\" deletes what is over.",
		},
		{
			"retention.ip", "truncated", "IP-Adresse im Einwilligungsnachweis: off, truncated (gekürzt) oder full.",
			"Network address in the proof of consent: off, truncated or full.",
		},
		{"retention.ip_for", "180d", "So lange.", "For so long."},
		{
			"retention.proof_years", "3",
			"So viele Jahre, jeweils bis zum Jahresende, bleibt der Nachweis nach der Abmeldung (Verjährung, §§ 195, 199 BGB).",
			"So many years, each to its end, the proof stays after a reader has left (limitation, BGB §§ 195, 199).",
		},
		{"retention.letters_for", "90d", "Liste der verschickten Bestätigungen, ohne Text.", "The list of confirmations sent, without text."},
		{
			"retention.accesses_for", "365d", "Wer im Haus Leserdaten angesehen hat.",
			"Who of the house has looked at readers' data.",
		},
	}
}

// text is the explanation in the language of the file.
func (s setting) text(language string) string {
	if language == "en" {
		return s.en
	}
	return s.de
}

// writeManual makes the commented file. answers holds YAML values by key; a key without one is commented out, with its
// default: "#key:" without a space, while explanations are "# text". more holds the further entries of a list, whose first
// entry is the explained one, as YAML each.
func writeManual(language string, answers map[string]string, more map[string][]string) string {
	var b strings.Builder
	settings := manual()
	for i, s := range settings {
		previous, next := "", ""
		if i > 0 {
			previous = settings[i-1].key
		}
		if i+1 < len(settings) {
			next = settings[i+1].key
		}
		s.write(&b, language, answers, strings.HasPrefix(s.key, previous+"[]."), isBelow(next, s.key))
		list, _, inList := strings.Cut(s.key, "[]")
		if inList && !isBelow(next, list) {
			for _, entry := range more[list] {
				fmt.Fprintf(&b, "  - %s\n", entry)
			}
		}
	}
	return strings.TrimPrefix(b.String(), "\n")
}

// write adds the explanation and the key. opensEntry is true of the first key of a list's entry, which carries the hyphen.
func (s setting) write(b *strings.Builder, language string, answers map[string]string, opensEntry, isSection bool) {
	depth := strings.Count(s.key, ".") + strings.Count(s.key, "[]")
	value, active := answers[s.key]
	switch {
	case isSection:
		active = answered(s.key, answers)
	case !active:
		value = s.preset
	}
	line := strings.TrimSuffix(s.key[strings.LastIndexByte(s.key, '.')+1:]+": "+value, " ")
	if opensEntry {
		depth--
		line = "- " + line
	}
	if !active {
		line = "#" + line
	}
	if depth == 0 {
		b.WriteString("\n")
	}
	indent := strings.Repeat("  ", depth)
	fmt.Fprintf(b, "%s# %s\n%s%s\n", indent, s.text(language), indent, line)
}

func isBelow(key, section string) bool {
	return strings.HasPrefix(key, section+".") || strings.HasPrefix(key, section+"[].")
}

// answered tells whether init has an answer for anything in a section.
func answered(section string, answers map[string]string) bool {
	for key := range answers {
		if isBelow(key, section) {
			return true
		}
	}
	return false
}
