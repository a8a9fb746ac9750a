package subscribers

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgtype"

	"depesche/migrations"
)

// shape is a statement over many rows: what stands before them, their columns (n for a number, t for a text) and what stands after.
// As a table the rows have the columns column1, column2, …
type shape struct{ before, columns, after string }

// table collects rows for a shape. A value is an int64, a string, or nil for NULL.
type table struct {
	shape
	values []any
}

func (t *table) add(values ...any) { t.values = append(t.values, values...) }

// flush writes the rows. PostgreSQL takes them as an array a column, which costs a third of what as many parameters cost; SQLite
// knows no arrays.
func (t *table) flush(ctx context.Context, tx *sql.Tx, kind migrations.Kind) (err error) {
	defer func() {
		if t.values = t.values[:0]; err != nil {
			err = fmt.Errorf("write %s…: %w", t.before[:24], err)
		}
	}()
	if kind == migrations.PostgreSQL {
		for rows := range slices.Chunk(t.values, 1000*len(t.columns)) {
			if _, err := tx.ExecContext(ctx, t.overArrays(), t.arrays(rows)...); err != nil {
				return err
			}
		}
		return nil
	}
	const bulk = 100 // rows of a statement: more would not be faster
	for rows := range slices.Chunk(t.values, bulk*len(t.columns)) {
		if err := execAsQuery(ctx, tx, t.overValues(len(rows)/len(t.columns)), rows); err != nil {
			return err
		}
	}
	return nil
}

// execAsQuery runs a statement that gives no rows. SQLite's driver binds the parameters of a query all at once, those of other statements
// one by one, which costs a fifth of writing them.
func execAsQuery(ctx context.Context, tx *sql.Tx, statement string, args []any) error {
	rows, err := tx.QueryContext(ctx, statement, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	rows.Next() // runs it, or tells why not
	return rows.Err()
}

// query writes the rows, at most 100, and gives what the statement returns.
func (t *table) query(ctx context.Context, tx *sql.Tx, kind migrations.Kind) (*sql.Rows, error) {
	if kind == migrations.PostgreSQL {
		return tx.QueryContext(ctx, t.overArrays(), t.arrays(t.values)...)
	}
	return tx.QueryContext(ctx, t.overValues(len(t.values)/len(t.columns)), t.values...)
}

// overArrays is the statement for PostgreSQL.
func (s shape) overArrays() string {
	var arrays, names []string
	for i, kind := range s.columns {
		of := map[rune]string{'n': "bigint", 't': "text"}[kind]
		arrays = append(arrays, fmt.Sprintf("$%d::%s[]", i+1, of))
		names = append(names, fmt.Sprintf("column%d", i+1))
	}
	return s.before + "SELECT * FROM unnest(" + strings.Join(arrays, ", ") + ") AS v (" + strings.Join(names, ", ") + ")" + s.after
}

// arrays turns rows into columns.
func (s shape) arrays(rows []any) []any {
	width := len(s.columns)
	columns := make([]any, width)
	for i, kind := range s.columns {
		if kind == 'n' {
			columns[i] = column(rows[i:], width, func(n int64, known bool) pgtype.Int8 { return pgtype.Int8{Int64: n, Valid: known} })
		} else {
			columns[i] = column(rows[i:], width, func(text string, known bool) pgtype.Text { return pgtype.Text{String: text, Valid: known} })
		}
	}
	return columns
}

// column takes every width-th value. The driver encodes the types it knows without looking into them: a slice of plain values where none
// is NULL, else its own.
func column[T, N any](values []any, width int, orNull func(v T, known bool) N) any {
	n := (len(values) + width - 1) / width
	plain := make([]T, 0, n)
	for i := 0; i < len(values); i += width {
		v, known := values[i].(T)
		if !known {
			break
		}
		plain = append(plain, v)
	}
	if len(plain) == n {
		return plain
	}
	nullable := make(pgtype.FlatArray[N], n)
	for i := range nullable {
		var v T
		known := values[i*width] != nil
		if known {
			v = values[i*width].(T) // a value of another kind is a fault of ours, and no NULL
		}
		nullable[i] = orNull(v, known)
	}
	return nullable
}

// orNull is NULL for nothing.
func orNull[T comparable](v T) any {
	var nothing T
	if v == nothing {
		return nil
	}
	return v
}

var statements sync.Map // texts by how many rows they are of, and what stands around them

// overValues is the statement for SQLite. The text for a number of rows is always the same: drivers keep what they prepared by it.
func (s shape) overValues(rows int) string {
	key := strconv.Itoa(rows) + s.before + s.after
	if text, known := statements.Load(key); known {
		return text.(string)
	}
	var b strings.Builder
	b.WriteString(s.before + "VALUES ")
	for i := range rows * len(s.columns) {
		switch {
		case i == 0:
			b.WriteString("(")
		case i%len(s.columns) == 0:
			b.WriteString("), (")
		default:
			b.WriteString(", ")
		}
		b.WriteString("$" + strconv.Itoa(i+1))
	}
	b.WriteString(")" + s.after)
	statements.Store(key, b.String())
	return b.String()
}

// placeholders are $1, $2, … $n.
func placeholders(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = "$" + strconv.Itoa(i+1)
	}
	return strings.Join(list, ", ")
}

// among is the end of a condition: PostgreSQL takes the persons as one array, SQLite as so many parameters.
func (r *Registry) among(persons []string) (condition string, args []any) {
	if r.db.Kind == migrations.PostgreSQL {
		return "= ANY ($1)", []any{persons}
	}
	for _, person := range persons {
		args = append(args, person)
	}
	return "IN (" + placeholders(len(persons)) + ")", args
}

// scanEach reads rows into the same places and calls fn after each.
func scanEach(ctx context.Context, db reader, query string, args []any, fn func(), into ...any) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		fn()
	}
	return rows.Err()
}
