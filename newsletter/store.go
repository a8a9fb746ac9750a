package newsletter

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"time"
)

// querier is what reads: a pool or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// newID makes a 63-bit key: 41 bits of milliseconds and 22 random ones, so that keys made later sort later and two
// processes need not ask each other. Whoever inserts it retries on a conflict.
func newID(now time.Time) int64 {
	var random [4]byte
	_, _ = rand.Read(random[:]) // crypto/rand never fails
	return now.UnixMilli()<<22 | int64(binary.BigEndian.Uint32(random[:])&(1<<22-1))
}

// instant turns a stored instant into a time, NULL into the zero time.
func instant(ms sql.NullInt64) time.Time {
	if !ms.Valid {
		return time.Time{}
	}
	return time.UnixMilli(ms.Int64)
}

// stored turns a time into a stored instant, the zero time into NULL.
func stored(t time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: t.UnixMilli(), Valid: !t.IsZero()}
}

// all reads every row with scan and closes the rows: nothing is written while a result is open.
func all[T any](ctx context.Context, q querier, scan func(scan func(...any) error) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var list []T
	for rows.Next() {
		row, err := scan(rows.Scan)
		if err != nil {
			return nil, err
		}
		list = append(list, row)
	}
	return list, rows.Err()
}
