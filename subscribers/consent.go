package subscribers

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"depesche/migrations"
)

// EventKind is what happened to a consent.
type EventKind string

// The kinds, in the order of a reader's life.
const (
	Requested EventKind = "requested" // the form was sent
	Mailed    EventKind = "mailed"    // a server took the letter
	Confirmed EventKind = "confirmed" // the button was pressed
	Changed   EventKind = "changed"   // other topics
	Withdrawn EventKind = "withdrawn"
	Resumed   EventKind = "resumed" // a withdrawal was undone by the reader
	Erased    EventKind = "erased"  // address and particulars were deleted
)

// Visit is what a consent event remembers of the request that caused it.
type Visit struct {
	Page    string     // where the form stood
	IP      netip.Addr // recorded as Settings.IPs says
	Wording string     // hash of the words that were shown; "" means those shown now
	Unknown string     // what a box says it showed, where these are no words we know; Wording is "" then
}

// Channel is the way by which a reader left.
type Channel string

// The channels. Those by letter, objection and complaint are honoured for good: they also suppress.
const (
	ByOneClick  Channel = "one-click" // the mail program's button, RFC 8058
	ByPage      Channel = "page"
	ByCommand   Channel = "command"
	ByLetter    Channel = "letter"
	ByObjection Channel = "objection" // UWG § 7, GDPR Art. 21
	ByComplaint Channel = "complaint" // the reader's "this is spam" button
)

// suppression is what a channel leaves behind, "" for none.
func (c Channel) suppression() SuppressionReason {
	switch c {
	case ByLetter, ByObjection:
		return Objected
	case ByComplaint:
		return Complained
	}
	return ""
}

// Particulars are the part of a consent event that can be deleted without breaking the proof of the rest: the event keeps
// their salted hash.
type Particulars struct {
	Address   string   `json:"address,omitempty"`
	Topics    []string `json:"topics,omitempty"`
	Page      string   `json:"page,omitempty"`
	IP        string   `json:"ip,omitempty"`
	How       string   `json:"how,omitempty"`             // the channel of a withdrawal, the reason of an erasure
	MessageID string   `json:"message_id,omitempty"`      // of the letter
	Reply     string   `json:"reply,omitempty"`           // the server's, to the letter
	Unknown   string   `json:"unknown_wording,omitempty"` // what a box says it showed, and nobody here knows: a hash, or "none given"
}

// event is a consent event before it is written.
type event struct {
	kind       EventKind
	newsletter string
	wording    string // hash, "" where no words were shown
	Particulars
}

// record writes an event and its particulars and gives its id.
func (r *Registry) record(ctx context.Context, tx *sql.Tx, now time.Time, who subscriber, e event) (int64, error) {
	body, err := json.Marshal(e.Particulars)
	if err != nil {
		return 0, fmt.Errorf("record consent: %w", err)
	}
	id, salt := migrations.NewKey(now), rand.Text()
	_, err = tx.ExecContext(ctx, `
		INSERT INTO consents (id, subscriber, newsletter, kind, at, wording, person, particulars)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		id, who.id, e.newsletter, string(e.kind), now.UnixMilli(), nullText(e.wording), who.person, particularsHash(salt, string(body)))
	if err != nil {
		return 0, fmt.Errorf("record consent: %w", err)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO particulars (consent, salt, body) VALUES ($1, $2, $3)`, id, salt, string(body))
	if err != nil {
		return 0, fmt.Errorf("record particulars: %w", err)
	}
	return id, nil
}

func particularsHash(salt, body string) string {
	sum := sha256.Sum256([]byte(salt + body))
	return hex.EncodeToString(sum[:])
}

func nullText(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }

// Proof is every declaration of a person, oldest first: what GDPR Art. 7(1) wants to be shown.
type Proof struct {
	Address string  `json:"address"`
	Person  string  `json:"person"` // the keyed hash under which the events stand
	Events  []Event `json:"events"`
}

// Event is one consent event with the words that were shown.
type Event struct {
	ID          int64        `json:"id"`
	Subscriber  int64        `json:"subscriber"`
	Kind        EventKind    `json:"kind"`
	At          time.Time    `json:"at"`
	Newsletter  string       `json:"newsletter,omitempty"`
	Wording     *Wording     `json:"wording,omitempty"`
	Hash        string       `json:"particulars_hash"`
	Status      Status       `json:"particulars_status"`
	Particulars *Particulars `json:"particulars,omitempty"`
}

// Status says whether an event's particulars still agree with the hash that was taken of them.
type Status string

// The statuses.
const (
	Intact  Status = "intact"
	Deleted Status = "erased"
	Altered Status = "altered"
)

// Proof gives every event of the person with that address, also those of an earlier subscriber row that was erased.
func (r *Registry) Proof(ctx context.Context, address string) (Proof, error) {
	a, err := ParseAddress(address)
	if err != nil {
		return Proof{}, err
	}
	proof := Proof{Address: a.Mailed, Person: r.keys.Person(a.Mailbox)}
	rows, err := r.db.Read.QueryContext(ctx, `
		SELECT c.id, c.subscriber, c.kind, c.at, c.newsletter, c.particulars,
			COALESCE(w.hash, ''), COALESCE(w.kind, ''), COALESCE(w.language, ''), COALESCE(w.text, ''),
			COALESCE(p.salt, ''), COALESCE(p.body, '')
		FROM subscribers s
		JOIN consents c ON c.subscriber = s.id
		LEFT JOIN wordings w ON w.hash = c.wording
		LEFT JOIN particulars p ON p.consent = c.id
		WHERE s.person = $1 ORDER BY c.at, c.id`, proof.Person)
	if err != nil {
		return Proof{}, fmt.Errorf("read proof: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		e, err := scanEvent(rows)
		if err != nil {
			return Proof{}, fmt.Errorf("read proof: %w", err)
		}
		proof.Events = append(proof.Events, e)
	}
	if err := rows.Err(); err != nil {
		return Proof{}, fmt.Errorf("read proof: %w", err)
	}
	if len(proof.Events) == 0 {
		return Proof{}, ErrNotFound
	}
	return proof, nil
}

func scanEvent(rows *sql.Rows) (Event, error) {
	var e Event
	var at int64
	var w Wording
	var salt, body string
	err := rows.Scan(&e.ID, &e.Subscriber, &e.Kind, &at, &e.Newsletter, &e.Hash,
		&w.Hash, &w.Kind, &w.Language, &w.Text, &salt, &body)
	if err != nil {
		return e, err
	}
	e.At = instant(at)
	if w.Hash != "" {
		e.Wording = &w
	}
	switch {
	case body == "":
		e.Status = Deleted
		return e, nil
	case particularsHash(salt, body) != e.Hash:
		e.Status = Altered
	default:
		e.Status = Intact
	}
	e.Particulars = &Particulars{}
	if err := json.Unmarshal([]byte(body), e.Particulars); err != nil {
		e.Status, e.Particulars = Altered, nil
	}
	return e, nil
}
