package subscribers

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Proof is every declaration of a person, oldest first: what GDPR Art. 7(1) wants to be shown.
type Proof struct {
	Address  string    `json:"address"` // as it was asked for
	Person   string    `json:"person"`  // the keyed hash under which the events stand
	Language string    `json:"language"`
	Erased   time.Time `json:"erased,omitzero"`  // when the address was deleted, if it is not here any more
	Printed  time.Time `json:"printed,omitzero"` // the caller knows the time
	Ledger   Head      `json:"ledger"`           // the end of the chain when this was printed
	Events   []Event   `json:"events"`
	Notices  []Wording `json:"privacy_notices"` // those the events name
}

// Event is one consent event with the words that were shown.
type Event struct {
	ID          int64        `json:"id"`
	Subscriber  int64        `json:"subscriber"`
	Kind        EventKind    `json:"kind"`
	At          time.Time    `json:"at"`
	Newsletter  string       `json:"newsletter,omitempty"`
	Wording     *Wording     `json:"wording,omitempty"`
	Number      int64        `json:"number,omitempty"` // in the chain; 0 until it is sealed
	Chain       string       `json:"chain,omitempty"`
	Hash        string       `json:"particulars_hash"`
	Status      Status       `json:"particulars_status"`
	Particulars *Particulars `json:"particulars,omitempty"`
	IPStatus    Status       `json:"ip_status,omitempty"` // "" where none was recorded
}

// Status says whether an event's particulars still agree with the hash that was taken of them.
type Status string

// The statuses.
const (
	Intact  Status = "intact"
	Deleted Status = "erased"
	Altered Status = "altered"
)

// Proof gives every event of the person with that address, also those of an earlier subscriber row that was erased, or
// ErrNotFound.
func (r *Registry) Proof(ctx context.Context, address string) (Proof, error) {
	a, err := ParseAddress(address)
	if err != nil {
		return Proof{}, err
	}
	if err := r.Admit(ctx); err != nil { // a sign-up that was kept a moment ago belongs to it
		return Proof{}, err
	}
	proof := Proof{Address: a.Mailed, Person: r.keys.Person(a.Mailbox)}
	if proof.Ledger, err = r.Head(ctx); err != nil {
		return Proof{}, err
	}
	if proof.Events, err = r.proofEvents(ctx, proof.Person); err != nil {
		return Proof{}, err
	}
	if len(proof.Events) == 0 {
		return Proof{}, ErrNotFound
	}
	if proof.Notices, err = r.notices(ctx, proof.Events); err != nil {
		return Proof{}, err
	}
	var erased sql.NullInt64
	err = r.db.Read.QueryRowContext(ctx, `
		SELECT language, CASE WHEN address IS NULL THEN erased END FROM subscribers WHERE person = $1
		ORDER BY created DESC, id DESC LIMIT 1`, proof.Person).Scan(&proof.Language, &erased)
	if err != nil {
		return Proof{}, fmt.Errorf("read proof: %w", err)
	}
	proof.Erased = nullInstant(erased)
	return proof, nil
}

func (r *Registry) proofEvents(ctx context.Context, person string) ([]Event, error) {
	rows, err := r.db.Read.QueryContext(ctx, `
		SELECT c.id, c.subscriber, c.kind, c.at, c.newsletter, COALESCE(c.number, 0), COALESCE(c.chain, ''), c.particulars,
			COALESCE(w.hash, ''), COALESCE(w.kind, ''), COALESCE(w.language, ''), COALESCE(w.text, ''),
			COALESCE(p.salt, ''), COALESCE(p.body, ''), COALESCE(p.ip_salt, ''), COALESCE(p.ip, '')
		FROM subscribers s
		JOIN consents c ON c.subscriber = s.id
		LEFT JOIN wordings w ON w.hash = c.wording
		LEFT JOIN particulars p ON p.consent = c.id
		WHERE s.person = $1 ORDER BY c.at, c.id`, person)
	if err != nil {
		return nil, fmt.Errorf("read proof: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var events []Event
	for rows.Next() {
		e, err := scanEvent(rows)
		if err != nil {
			return nil, fmt.Errorf("read proof: %w", err)
		}
		events = append(events, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read proof: %w", err)
	}
	return events, nil
}

func scanEvent(rows *sql.Rows) (Event, error) {
	var e Event
	var at int64
	var w Wording
	var p keptParticulars
	err := rows.Scan(&e.ID, &e.Subscriber, &e.Kind, &at, &e.Newsletter, &e.Number, &e.Chain, &e.Hash,
		&w.Hash, &w.Kind, &w.Language, &w.Text, &p.salt, &p.body, &p.ipSalt, &p.ip)
	if err != nil {
		return e, err
	}
	e.At = instant(at)
	if w.Hash != "" {
		e.Wording = &w
	}
	e.Particulars, e.Status, e.IPStatus = p.open(e.Hash)
	return e, nil
}

// keptParticulars is a row of that table; all is "" where there is none.
type keptParticulars struct{ salt, body, ipSalt, ip string }

// open reads particulars and compares them with the hash their event kept; ip says the same of the network address, "" where
// none was recorded.
func (k keptParticulars) open(hash string) (p *Particulars, all, ip Status) {
	if k.body == "" {
		return nil, Deleted, ""
	}
	p, err := k.read()
	if err != nil {
		return nil, Altered, ""
	}
	all = Intact
	if particularsHash(k.salt, k.body) != hash {
		all = Altered
	}
	switch {
	case p.IPHash == "" && k.ip == "":
		return p, all, ""
	case k.ip == "":
		return p, all, Deleted
	case particularsHash(k.ipSalt, k.ip) != p.IPHash:
		ip = Altered
	default:
		ip = Intact
	}
	return p, all, ip
}

// read gives particulars as they were before keep; one that was deleted is empty.
func (k keptParticulars) read() (*Particulars, error) {
	p := &Particulars{}
	if k.body == "" {
		return p, nil
	}
	if err := json.Unmarshal([]byte(k.body), p); err != nil {
		return nil, err
	}
	at, confirmed, _ := strings.Cut(k.ip, " ") // the second, if there is one, is that of a confirmation elsewhere
	p.IP = at
	if p.Import != nil {
		p.Import.ConfirmedIP = confirmed
	}
	return p, nil
}
