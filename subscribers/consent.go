package subscribers

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"time"
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
	Resumed   EventKind = "resumed"  // a withdrawal was undone by the reader
	Imported  EventKind = "imported" // came with a list, with the evidence that stands there, if any
	Erased    EventKind = "erased"   // address and particulars were deleted
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
	ByList      Channel = "list"      // an imported list says so
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
	IP        string   `json:"ip,omitempty"`              // kept beside the rest, for it may be deleted sooner
	IPHash    string   `json:"ip_hash,omitempty"`         // SHA-256 of its own salt and IP: stays when IP goes
	How       string   `json:"how,omitempty"`             // the channel of a withdrawal, the reason of an erasure
	MessageID string   `json:"message_id,omitempty"`      // of the letter
	Reply     string   `json:"reply,omitempty"`           // the server's, to the letter
	Privacy   string   `json:"privacy_notice,omitempty"`  // hash of the one that held at a sign-up
	Unknown   string   `json:"unknown_wording,omitempty"` // what a box says it showed, and nobody here knows: a hash, or "none given"

	Import *Origin `json:"import,omitempty"` // where an imported reader comes from
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
	w := newWriting()
	id, err := w.record(now, who, e)
	if err != nil {
		return 0, err
	}
	return id, w.flush(ctx, tx, r.db.Kind)
}

// sealed are particulars as they are stored, and the hash by which the event knows them: it stays when they are deleted.
type sealed struct {
	keptParticulars
	hash string
}

// keep makes the row that holds particulars. The network addresses have a salt and a hash of their own in them: they are
// deleted sooner.
func (p Particulars) keep() (kept sealed, err error) {
	kept.ip, p.IP = p.IP, ""
	if p.Import != nil && p.Import.ConfirmedIP != "" {
		origin := *p.Import
		kept.ip += " " + origin.ConfirmedIP
		origin.ConfirmedIP, p.Import = "", &origin
	}
	if kept.ip != "" {
		kept.ipSalt = rand.Text()
		p.IPHash = particularsHash(kept.ipSalt, kept.ip)
	}
	body, err := json.Marshal(p)
	kept.salt, kept.body = rand.Text(), string(body)
	kept.hash = particularsHash(kept.salt, kept.body)
	return kept, err
}

func particularsHash(salt, body string) string {
	var room [1024]byte // for what is hashed: most of it is not as long
	sum := sha256.Sum256(append(append(room[:0], salt...), body...))
	return hex.EncodeToString(sum[:])
}
