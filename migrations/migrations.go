// Package migrations holds the schema for both databases and the way to it.
//
// SQLite is a file with one writer and a pool of readers; PostgreSQL is a pool. Everything above speaks one SQL to either:
// `$N` placeholders that first appear in ascending order (to SQLite `$2` is a name, bound by first appearance), instants as
// unix milliseconds, keys made in Go. What remains different is in this package.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed sqlite/*.sql postgres/*.sql
var files embed.FS

// Version is the schema this binary was built for: the number of the newest migration.
const Version = 1

// ErrOldSchema means the database has tables of an older depesche: `depesche migrate` brings them up to date. That is left
// to a person, who may want a backup first.
var ErrOldSchema = errors.New("the database has an older schema: make a backup, then run 'depesche migrate'")

// ErrOldBinary means a newer depesche has changed the database so that this one must not touch it.
var ErrOldBinary = errors.New("the database belongs to a newer depesche: install that one")

// Migrate brings the schema to Version and says from which version it came. Called by several processes at once, one does
// the work and the others wait.
func (d *Database) Migrate(ctx context.Context) (from int64, err error) {
	unlock, err := d.lockSchema(ctx)
	if err != nil {
		return 0, err
	}
	defer unlock()

	provider, err := d.provider()
	if err != nil {
		return 0, err
	}
	from, err = provider.GetDBVersion(ctx)
	if err != nil {
		return 0, fmt.Errorf("read schema version: %w", err)
	}
	if from > Version {
		return from, d.checkNewer(ctx)
	}
	if _, err := provider.Up(ctx); err != nil {
		return from, fmt.Errorf("migrate the database from version %d to %d: %w", from, Version, err)
	}
	return from, nil
}

// Ready makes an empty database usable and refuses one whose schema is older (ErrOldSchema) or too new (ErrOldBinary).
func (d *Database) Ready(ctx context.Context) error {
	version, err := d.version(ctx)
	switch {
	case err != nil:
		return err
	case version == 0:
		_, err = d.Migrate(ctx)
		return err
	case version < Version:
		return fmt.Errorf("%w (it is at %d, this depesche needs %d)", ErrOldSchema, version, Version)
	case version > Version:
		return d.checkNewer(ctx)
	}
	return nil
}

// version reads what goose recorded, without creating anything: 0 where there is nothing yet.
func (d *Database) version(ctx context.Context) (int64, error) {
	const table = `SELECT COUNT(*) FROM sqlite_master WHERE name = 'goose_db_version'`
	const tablePG = `SELECT COUNT(*) FROM information_schema.tables
		WHERE table_schema = current_schema() AND table_name = 'goose_db_version'`
	query := table
	if d.Kind == PostgreSQL {
		query = tablePG
	}
	var n int
	if err := d.Write.QueryRowContext(ctx, query).Scan(&n); err != nil {
		return 0, fmt.Errorf("look for the schema: %w", err)
	}
	if n == 0 {
		return 0, nil
	}
	var version sql.NullInt64
	err := d.Write.QueryRowContext(ctx, `SELECT MAX(version_id) FROM goose_db_version`).Scan(&version)
	if err != nil {
		return 0, fmt.Errorf("read schema version: %w", err)
	}
	return version.Int64, nil
}

// checkNewer asks a schema newer than this binary whether this binary may still use it.
func (d *Database) checkNewer(ctx context.Context) error {
	var value string
	err := d.Write.QueryRowContext(ctx, `SELECT value FROM house WHERE key = 'oldest_binary'`).Scan(&value)
	if err != nil {
		return fmt.Errorf("read which binary the database needs: %w", err)
	}
	oldest, err := strconv.ParseInt(value, 10, 64)
	if err != nil || oldest > Version {
		return fmt.Errorf("%w (it needs version %s, this is %d)", ErrOldBinary, value, Version)
	}
	return nil
}

func (d *Database) provider() (*goose.Provider, error) {
	dialect, folder := goose.DialectSQLite3, "sqlite"
	var options []goose.ProviderOption
	if d.Kind == PostgreSQL {
		dialect, folder = goose.DialectPostgres, "postgres"
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
		if err != nil {
			return nil, fmt.Errorf("prepare the migration lock: %w", err)
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	folderFS, err := fs.Sub(files, folder)
	if err != nil {
		return nil, fmt.Errorf("open migrations: %w", err)
	}
	provider, err := goose.NewProvider(dialect, d.Write, folderFS, options...)
	if err != nil {
		return nil, fmt.Errorf("prepare migrations: %w", err)
	}
	return provider, nil
}
