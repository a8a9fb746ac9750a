package subscribers

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Refusals are what a restored backup does not know: who was erased, who left and who must not be mailed. By keyed hash.
type Refusals struct {
	suppressed []refusal
	erased     []string
	left       []refusal
}

type refusal struct {
	person, newsletter, reason, detail string
	at                                 int64
}

// Refusals gathers them from the database that is going to be replaced.
func (r *Registry) Refusals(ctx context.Context) (Refusals, error) {
	var all Refusals
	var err error
	all.suppressed, err = r.refusals(ctx, `SELECT person, '', reason, detail, at FROM suppressions ORDER BY person`)
	if err != nil {
		return all, err
	}
	all.left, err = r.refusals(ctx, `
		SELECT s.person, p.newsletter, '', '', p.ended FROM subscriptions p JOIN subscribers s ON s.id = p.subscriber
		WHERE p.state = 'ended' AND p.ended IS NOT NULL ORDER BY p.subscriber, p.newsletter`)
	if err != nil {
		return all, err
	}
	all.erased, err = texts(ctx, r.db.Read, `
		SELECT person FROM subscribers s WHERE address IS NULL AND NOT EXISTS (
			SELECT 1 FROM subscribers x WHERE x.person = s.person AND x.address IS NOT NULL)`)
	return all, err
}

func (r *Registry) refusals(ctx context.Context, query string) ([]refusal, error) {
	rows, err := r.db.Read.QueryContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("read refusals: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var all []refusal
	for rows.Next() {
		var x refusal
		if err := rows.Scan(&x.person, &x.newsletter, &x.reason, &x.detail, &x.at); err != nil {
			return nil, fmt.Errorf("read refusals: %w", err)
		}
		all = append(all, x)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read refusals: %w", err)
	}
	return all, nil
}

// Honour applies refusals to a database that was restored: nobody comes back who had gone. It says how many readers it
// erased and how many subscriptions it ended. Who signed up again after leaving, as the backup knows it, stays.
func (r *Registry) Honour(ctx context.Context, now time.Time, all Refusals) (erased, ended int, err error) {
	if err := r.Admit(ctx); err != nil { // sign-ups the backup kept and had not decided about
		return 0, 0, err
	}
	for _, person := range all.erased {
		done := 0
		err := r.tx(ctx, func(tx *sql.Tx) error {
			done, err = r.eraseAgain(ctx, tx, now, person)
			return err
		})
		if err != nil {
			return erased, ended, err
		}
		erased += done
	}
	for _, x := range all.left {
		done := 0
		err := r.tx(ctx, func(tx *sql.Tx) error {
			done, err = r.endAgain(ctx, tx, now, x)
			return err
		})
		if err != nil {
			return erased, ended, err
		}
		ended += done
	}
	err = r.tx(ctx, func(tx *sql.Tx) error {
		for _, x := range all.suppressed {
			if err := suppress(ctx, tx, instant(x.at), x.person, SuppressionReason(x.reason), x.detail); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && erased > 0 {
		_, err = r.scrub(ctx, true)
	}
	return erased, ended, err
}

func (r *Registry) eraseAgain(ctx context.Context, tx *sql.Tx, now time.Time, person string) (int, error) {
	ids, err := numbers(ctx, tx, `SELECT id FROM subscribers WHERE person = $1 AND address IS NOT NULL`, person)
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		who, err := lock(ctx, tx, id)
		if err != nil {
			return 0, err
		}
		if err := r.erase(ctx, tx, now, who, "request", &Erasure{}); err != nil {
			return 0, err
		}
	}
	return len(ids), nil
}

func (r *Registry) endAgain(ctx context.Context, tx *sql.Tx, now time.Time, x refusal) (int, error) {
	ids, err := numbers(ctx, tx, `
		SELECT s.id FROM subscribers s JOIN subscriptions p ON p.subscriber = s.id AND p.newsletter = $1
		WHERE s.person = $2 AND p.state <> 'ended' AND p.requested < $3`, x.newsletter, x.person, x.at)
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		who, err := lock(ctx, tx, id)
		if err != nil {
			return 0, err
		}
		if err := r.withdraw(ctx, tx, now, who, x.newsletter, "", ByCommand, Visit{}); err != nil {
			return 0, err
		}
	}
	return len(ids), nil
}
