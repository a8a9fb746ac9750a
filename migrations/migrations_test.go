package migrations_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"depesche/migrations"
	"depesche/migrations/dbtest"
)

func TestSchemasAreEqual(t *testing.T) {
	sqlite := columns(t, dbtest.SQLite(t), `
		SELECT m.name, c.name, c.type, c."notnull" FROM sqlite_master m, pragma_table_info(m.name) c
		WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'goose%' AND m.name NOT LIKE 'sqlite%'`)
	postgres := columns(t, dbtest.PostgreSQL(t), `
		SELECT table_name, column_name, data_type, CASE is_nullable WHEN 'NO' THEN 1 ELSE 0 END
		FROM information_schema.columns WHERE table_schema = 'public' AND table_name NOT LIKE 'goose%'`)
	for _, line := range sqlite {
		if !slices.Contains(postgres, line) {
			t.Errorf("only in SQLite: %s", line)
		}
	}
	for _, line := range postgres {
		if !slices.Contains(sqlite, line) {
			t.Errorf("only in PostgreSQL: %s", line)
		}
	}
}

// columns lists "table column type null" with the two databases' names for one thing brought together. Columns of a view
// are nullable to PostgreSQL whatever they come from.
func columns(t *testing.T, db *migrations.Database, query string) []string {
	t.Helper()
	rows, err := db.Read.Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	same := strings.NewReplacer("integer", "bigint", "blob", "bytea")
	var lines []string
	for rows.Next() {
		var table, column, kind string
		var notNull int
		if err := rows.Scan(&table, &column, &kind, &notNull); err != nil {
			t.Fatal(err)
		}
		if table == "audience" {
			kind, notNull = "", 0
		}
		lines = append(lines, fmt.Sprintf("%s %s %s not null=%d", table, column, same.Replace(strings.ToLower(kind)), notNull))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestReadyRefuses(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		ctx := context.Background()
		exec(t, db, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true)`)
		if err := db.Ready(ctx); err != nil {
			t.Errorf("a newer schema that still allows this binary: Ready = %v, want nil", err)
		}
		exec(t, db, `UPDATE house SET value = '99' WHERE key = 'oldest_binary'`)
		if err := db.Ready(ctx); !errors.Is(err, migrations.ErrOldBinary) {
			t.Errorf("a schema for newer binaries: Ready = %v, want ErrOldBinary", err)
		}
		if _, err := db.Migrate(ctx); !errors.Is(err, migrations.ErrOldBinary) {
			t.Errorf("a schema for newer binaries: Migrate = %v, want ErrOldBinary", err)
		}
	})
}

func TestMigrateAtOnce(t *testing.T) {
	for kind, location := range map[string]string{"sqlite": dbtest.SQLiteLocation(t), "postgres": ""} {
		t.Run(kind, func(t *testing.T) {
			if location == "" {
				location = dbtest.PostgreSQLLocation(t)
			}
			failures := make(chan error)
			const processes = 8
			for range processes {
				go func() {
					db, err := migrations.Open(context.Background(), location)
					if err == nil {
						err = errors.Join(db.Ready(context.Background()), db.Close())
					}
					failures <- err
				}()
			}
			for range processes {
				if err := <-failures; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestConsentsAreAppendOnly(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		exec(t, db, `INSERT INTO subscribers (id, person, language, nonce, created) VALUES (1, 'p', 'de', 1, 1)`)
		exec(t, db, `INSERT INTO consents (id, subscriber, newsletter, kind, at, person, particulars) VALUES (1, 1, 'n', 'requested', 1, 'p', 'h')`)
		for _, statement := range []string{`UPDATE consents SET at = 2`, `UPDATE consents SET person = 'q'`, `DELETE FROM consents`, `UPDATE consents SET number = 1`, `UPDATE consents SET chain = 'c'`} {
			if _, err := db.Write.Exec(statement); err == nil {
				t.Errorf("%s before sealing: no error", statement)
			}
		}
		exec(t, db, `UPDATE consents SET number = 1, chain = 'c'`)
		for _, statement := range []string{`UPDATE consents SET number = 2`, `UPDATE consents SET chain = ''`, `DELETE FROM consents`} {
			if _, err := db.Write.Exec(statement); err == nil {
				t.Errorf("%s after sealing: no error", statement)
			}
		}
		exec(t, db, `INSERT INTO wordings (hash, kind, language, text, since) VALUES ('h', 'form', 'de', 'Worte', 1)`)
		refused := []string{`UPDATE wordings SET text = ''`, `DELETE FROM wordings`}
		if db.Kind == migrations.PostgreSQL {
			refused = append(refused, `TRUNCATE consents CASCADE`, `TRUNCATE wordings CASCADE`)
		}
		for _, statement := range refused {
			if _, err := db.Write.Exec(statement); err == nil {
				t.Errorf("%s: no error", statement)
			}
		}
	})
}

func TestSQLiteFilesArePrivate(t *testing.T) {
	db := dbtest.SQLite(t)
	for _, suffix := range []string{"", "-wal", "-shm", "-schema.lock"} {
		info, err := os.Stat(db.Path() + suffix)
		if err != nil {
			t.Error(err)
			continue
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s%s has mode %o, want 600", "test.db", suffix, mode)
		}
	}
}

func exec(t *testing.T, db *migrations.Database, statement string) {
	t.Helper()
	if _, err := db.Write.Exec(statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// What is committed comes into the file beside the writer, which could not do it: it is in the middle of the next transaction.
func TestMergeBeside(t *testing.T) {
	db := dbtest.SQLite(t)
	stop, err := db.MergeBeside(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	const mark = "a mark that nothing else has"
	if _, err := db.Write.Exec(`INSERT INTO house (key, value) VALUES ('test', $1)`, mark); err != nil {
		t.Fatal(err)
	}
	err = db.Tx(t.Context(), func(*sql.Tx) error {
		look := time.NewTicker(20 * time.Millisecond)
		defer look.Stop()
		for tooLong := time.After(2 * time.Second); ; {
			file, err := os.ReadFile(db.Path())
			if err != nil || bytes.Contains(file, []byte(mark)) {
				return err
			}
			select {
			case <-look.C:
			case <-tooLong:
				return errors.New("it is in the log only")
			}
		}
	})
	if err != nil {
		t.Error(err)
	}
}

// What belongs to one database must not be taken for another one's.
func TestFileName(t *testing.T) {
	for location, want := range map[string]string{
		"/var/lib/depesche/talbote.db":                         "talbote.db",
		"postgres://paper:secret@db.example:5433/talbote":      "talbote@db.example:5433",
		"postgresql:///talbote?host=/run/postgresql&port=5433": "talbote@%2Frun%2Fpostgresql:5433",
		"postgres://paper@db.example:5432/":                    "paper@db.example:5432",
		"postgres://paper@db.example:5432?dbname=abend":        "abend@db.example:5432",
		"postgres://paper@db.example:5432/../etc":              "..%2Fetc@db.example:5432",
	} {
		if got := migrations.FileName(location); got != want {
			t.Errorf("FileName of %s = %s, want %s", location, got, want)
		}
	}
}
