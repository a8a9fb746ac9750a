package subscribers

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Head is the end of the chain of consent events: what is written down elsewhere, to notice when the chain becomes shorter.
type Head struct {
	Number int64  // of the last sealed event, 0 before the first
	Chain  string // its link: hexadecimal HMAC-SHA256
}

// String is the head as logs and reports have it: NUMBER:CHAIN.
func (h Head) String() string { return strconv.FormatInt(h.Number, 10) + ":" + h.Chain }

// MarshalText is String.
func (h Head) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText is ParseHead.
func (h *Head) UnmarshalText(text []byte) (err error) {
	*h, err = ParseHead(string(text))
	return err
}

// ParseHead reads what String made.
func ParseHead(text string) (Head, error) {
	number, chain, found := strings.Cut(text, ":")
	n, err := strconv.ParseInt(number, 10, 64)
	raw, hexErr := hex.DecodeString(chain)
	if !found || err != nil || hexErr != nil || n < 0 || (n == 0) != (len(raw) == 0) || n > 0 && len(raw) != keyBytes {
		return Head{}, fmt.Errorf("read head of the ledger: expected NUMBER:CHAIN, found %q", text)
	}
	return Head{n, chain}, nil
}

// ErrKeys means the key file is not the one this database was kept with.
var ErrKeys = errors.New("the key file is not the one of this database")

// chained is what the chain covers of a consent event.
type chained struct {
	id, subscriber, at                             int64
	newsletter, kind, wording, person, particulars string
}

const chainedColumns = `c.id, c.subscriber, c.at, c.newsletter, c.kind, COALESCE(c.wording, ''), c.person, c.particulars`

func (e *chained) columns() []any {
	return []any{&e.id, &e.subscriber, &e.at, &e.newsletter, &e.kind, &e.wording, &e.person, &e.particulars}
}

// link gives the head after an event: an HMAC, so that who has the database and not the keys cannot forge a chain that fits.
func (k *Keys) link(before Head, e chained) Head {
	w := k.ledger.take()
	defer k.ledger.release(w)
	w.text(before.Chain)
	w.number(before.Number + 1)
	for _, n := range [...]int64{e.id, e.subscriber, e.at} {
		w.number(n)
	}
	for _, s := range [...]string{e.newsletter, e.kind, e.wording, e.person, e.particulars} {
		w.text(s)
	}
	return Head{before.Number + 1, hex.EncodeToString(w.mac())}
}

// Name tells key files apart without betraying anything: 16 hexadecimal digits that stay when token keys rotate.
func (k *Keys) Name() string {
	w := k.name.take()
	defer k.name.release(w)
	return hex.EncodeToString(w.mac()[:8])
}

// sealBatch is how many events one transaction seals: on SQLite nobody else writes meanwhile.
const sealBatch = 200

// Seal gives every event that has none a number and a link, and says where the chain ends. Sign-ups do not wait for it:
// it works in short transactions of its own, and whoever holds the row of the head is the only sealer. Killed at any
// moment it leaves a chain that is valid. The error is ErrKeys where other keys began the chain.
func (r *Registry) Seal(ctx context.Context) (Head, error) {
	for {
		open, err := r.unsealed(ctx)
		if err != nil {
			return Head{}, err
		}
		if open == 0 {
			return r.Head(ctx)
		}
		if err := r.db.Tx(ctx, func(tx *sql.Tx) error { return r.sealSome(ctx, tx) }); err != nil {
			return Head{}, fmt.Errorf("seal consents: %w", err)
		}
	}
}

// unsealed is 0 or 1.
func (r *Registry) unsealed(ctx context.Context) (open int, err error) {
	err = r.db.Read.QueryRowContext(ctx, `
		SELECT COUNT(*) FROM (SELECT 1 FROM consents WHERE number IS NULL LIMIT 1) AS x`).Scan(&open)
	if err != nil {
		return 0, fmt.Errorf("look for unsealed consents: %w", err)
	}
	return open, nil
}

// Head is where the chain ends.
func (r *Registry) Head(ctx context.Context) (Head, error) {
	var value string
	err := r.db.Read.QueryRowContext(ctx, `SELECT value FROM house WHERE key = 'ledger_head'`).Scan(&value)
	if err != nil {
		return Head{}, fmt.Errorf("read head of the ledger: %w", err)
	}
	return ParseHead(value)
}

func (r *Registry) sealSome(ctx context.Context, tx *sql.Tx) error {
	var value string
	err := tx.QueryRowContext(ctx, `UPDATE house SET value = value WHERE key = 'ledger_head' RETURNING value`).Scan(&value)
	if err != nil {
		return err
	}
	head, err := ParseHead(value)
	if err != nil {
		return err
	}
	if err := r.signKeys(ctx, tx); err != nil {
		return err
	}
	events, err := r.nextUnsealed(ctx, tx)
	if err != nil || len(events) == 0 {
		return err
	}
	args := make([]any, 0, 3*len(events))
	for _, e := range events {
		head = r.keys.link(head, e)
		args = append(args, e.id, head.Number, head.Chain)
	}
	if _, err := tx.ExecContext(ctx, sealStatement(len(events)), args...); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE house SET value = $1 WHERE key = 'ledger_head'`, head.String())
	return err
}

// Own says that this database is kept with these keys, where nobody has said so yet, or finds that it is with others: ErrKeys. With
// those nobody would be found, neither readers nor those who want no mail.
func (r *Registry) Own(ctx context.Context) error {
	signed, err := r.checkKeys(ctx)
	if err != nil || signed {
		return err
	}
	return r.tx(ctx, func(tx *sql.Tx) error { return r.signKeys(ctx, tx) })
}

// checkKeys only reads. signed is whether anybody has said with which keys this database is kept.
func (r *Registry) checkKeys(ctx context.Context) (signed bool, err error) {
	names, err := texts(ctx, r.db.Read, `SELECT value FROM house WHERE key = 'keys'`)
	if err == nil && len(names) > 0 && names[0] != r.keys.Name() {
		err = ErrKeys
	}
	return len(names) > 0, err
}

// signKeys writes down with which keys this database is kept, or finds that it was with others.
func (r *Registry) signKeys(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO house (key, value) VALUES ('keys', $1) ON CONFLICT DO NOTHING`, r.keys.Name())
	if err != nil {
		return err
	}
	var name string
	if err := tx.QueryRowContext(ctx, `SELECT value FROM house WHERE key = 'keys'`).Scan(&name); err != nil {
		return err
	}
	if name != r.keys.Name() {
		return ErrKeys
	}
	return nil
}

func (r *Registry) nextUnsealed(ctx context.Context, tx *sql.Tx) ([]chained, error) {
	rows, err := tx.QueryContext(ctx, `
		SELECT `+chainedColumns+` FROM consents c WHERE c.number IS NULL ORDER BY c.at, c.id LIMIT $1`, sealBatch)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var events []chained
	for rows.Next() {
		var e chained
		if err := rows.Scan(e.columns()...); err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, rows.Err()
}

// sealStatement gives n events their links at once: PostgreSQL would otherwise be asked as many times.
func sealStatement(n int) string {
	var b strings.Builder
	b.WriteString(`WITH links (id, number, chain) AS (VALUES `)
	for i := range n {
		if i > 0 {
			b.WriteString(`, `)
		}
		fmt.Fprintf(&b, `(CAST($%d AS BIGINT), CAST($%d AS BIGINT), $%d)`, 3*i+1, 3*i+2, 3*i+3)
	}
	b.WriteString(`) UPDATE consents SET number = links.number, chain = links.chain FROM links WHERE consents.id = links.id`)
	return b.String()
}
