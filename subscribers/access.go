package subscribers

import (
	"context"
	"fmt"
	"time"

	"depesche/migrations"
)

// Access is one look of the house's own people at readers' data (GDPR Art. 5 (2), 32).
type Access struct {
	At      time.Time `json:"at"`
	Who     string    `json:"who"`              // the account on the machine
	Command string    `json:"command"`          // without its arguments
	Person  string    `json:"person,omitempty"` // keyed hash; "" for the whole list
}

// RecordAccess writes down who looks at whose data and with which command, before anything is shown. address is "" for a
// list; of one that cannot be an address only the command is kept.
func (r *Registry) RecordAccess(ctx context.Context, now time.Time, who, command, address string) error {
	person := ""
	if a, err := ParseAddress(address); err == nil {
		person = r.keys.Person(a.Mailbox)
	}
	_, err := r.db.Write.ExecContext(ctx, `INSERT INTO accesses (id, at, who, command, person) VALUES ($1, $2, $3, $4, $5)`,
		migrations.NewKey(now), now.UnixMilli(), who, command, person)
	if err != nil {
		return fmt.Errorf("record access: %w", err)
	}
	return nil
}

// Accesses are the looks at the data of the person with that address, or at all readers' where it is "": oldest first.
// Looks at the whole list are among both.
func (r *Registry) Accesses(ctx context.Context, address string) ([]Access, error) {
	person := ""
	if address != "" {
		a, err := ParseAddress(address)
		if err != nil {
			return nil, err
		}
		person = r.keys.Person(a.Mailbox)
	}
	rows, err := r.db.Read.QueryContext(ctx, `
		SELECT at, who, command, person FROM accesses WHERE $1 = '' OR person = '' OR person = $1 ORDER BY at, id`, person)
	if err != nil {
		return nil, fmt.Errorf("read accesses: %w", err)
	}
	defer func() { _ = rows.Close() }()
	all := []Access{}
	for rows.Next() {
		var x Access
		var at int64
		if err := rows.Scan(&at, &x.Who, &x.Command, &x.Person); err != nil {
			return nil, fmt.Errorf("read accesses: %w", err)
		}
		x.At = instant(at)
		all = append(all, x)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read accesses: %w", err)
	}
	return all, nil
}
