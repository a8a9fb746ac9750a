package migrations

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/mattn/go-sqlite3"
)

// Kind is which of the two databases this is.
type Kind string

// The two databases.
const (
	SQLite     Kind = "sqlite"
	PostgreSQL Kind = "postgres"
)

// Database is an open database. Read and Write are one pool on PostgreSQL. On SQLite, Write is a single connection whose
// transactions take the write lock when they begin (a deferred one that writes later fails at once instead of waiting),
// and Read a pool of read-only ones.
type Database struct {
	Kind        Kind
	Read, Write *sql.DB
	path        string // of the SQLite file
}

// Open opens a SQLite file, created with mode 0600 if it is not there, or PostgreSQL where location is a postgres:// URL.
// The schema is not looked at: see Ready.
func Open(ctx context.Context, location string) (*Database, error) {
	if IsPostgres(location) {
		return openPostgres(ctx, location)
	}
	return openSQLite(ctx, location)
}

// FileName is a name for files that belong to the database at location: no two databases have the same in one folder.
func FileName(location string) string {
	if !IsPostgres(location) {
		return filepath.Base(location)
	}
	at, err := pgconn.ParseConfig(location)
	if err != nil {
		return "depesche" // nothing is at work there
	}
	return url.PathEscape(cmp.Or(at.Database, at.User) + "@" + net.JoinHostPort(at.Host, strconv.Itoa(int(at.Port))))
}

// IsPostgres tells the address of a PostgreSQL database from the name of a file.
func IsPostgres(location string) bool {
	return strings.HasPrefix(location, "postgres://") || strings.HasPrefix(location, "postgresql://")
}

func openPostgres(ctx context.Context, location string) (*Database, error) {
	pool, err := sql.Open("pgx", location)
	if err != nil {
		return nil, fmt.Errorf("open PostgreSQL: %w", withoutPassword(err))
	}
	pool.SetMaxOpenConns(16)
	pool.SetMaxIdleConns(16)
	if err := pool.PingContext(ctx); err != nil {
		_ = pool.Close()
		return nil, fmt.Errorf("reach PostgreSQL: %w", withoutPassword(err))
	}
	return &Database{Kind: PostgreSQL, Read: pool, Write: pool}, nil
}

// withoutPassword keeps the connection string, which pgx puts into parse errors, out of messages.
func withoutPassword(err error) error {
	var parse *pgconn.ParseConfigError
	if errors.As(err, &parse) {
		return errors.New("the database URL cannot be parsed")
	}
	return err
}

func openSQLite(ctx context.Context, path string) (*Database, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find database %s: %w", path, err)
	}
	// SQLite creates its files with 0644; the -wal and -shm beside it take over the mode of this one.
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := file.Close(); err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	// Pragmas stand in the DSN because they belong to connections, not to databases.
	write, err := sql.Open("sqlite3", sqliteDSN(path, url.Values{"_txlock": {"immediate"}}))
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	write.SetMaxOpenConns(1)
	d := &Database{Kind: SQLite, Write: write, path: path}
	if err := d.firstContact(ctx); err != nil {
		_ = write.Close()
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	read, err := sql.Open("sqlite3", sqliteDSN(path, url.Values{"_query_only": {"1"}}))
	if err != nil {
		_ = write.Close()
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	read.SetMaxOpenConns(8)
	read.SetMaxIdleConns(8)
	d.Read = read
	return d, nil
}

// firstContact opens the first connection while no other process does: the switch of a new file to WAL fails at once where
// two try it together, whatever busy_timeout says.
func (d *Database) firstContact(ctx context.Context) error {
	unlock, err := d.lockSchema(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return d.Write.PingContext(ctx)
}

func sqliteDSN(path string, extra url.Values) string {
	extra.Set("_mutex", "no") // database/sql gives a connection to one goroutine at a time
	extra.Set("_journal_mode", "WAL")
	extra.Set("_synchronous", "FULL")
	extra.Set("_foreign_keys", "1")
	extra.Set("_busy_timeout", "20000")
	extra.Set("_secure_delete", "1")
	extra.Set("_stmt_cache_size", "64") // the dispatcher says the same few statements over and over
	return (&url.URL{Scheme: "file", Path: path, RawQuery: extra.Encode()}).String()
}

// Close closes both pools.
func (d *Database) Close() error {
	if d.Read == d.Write {
		return d.Write.Close()
	}
	return errors.Join(d.Read.Close(), d.Write.Close())
}

// Path is the SQLite file, "" on PostgreSQL.
func (d *Database) Path() string { return d.path }

// Tx runs fn in a transaction and commits it if fn returns nil.
func (d *Database) Tx(ctx context.Context, fn func(tx *sql.Tx) error) error {
	tx, err := d.Write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit this does nothing
	if err := fn(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// Retry runs fn in a transaction, and again if another process inserted the same key at the same moment: the second time
// it is found.
func (d *Database) Retry(ctx context.Context, fn func(tx *sql.Tx) error) error {
	err := d.Tx(ctx, fn)
	for tries := 1; IsConflict(err) && tries < 5; tries++ {
		err = d.Tx(ctx, fn)
	}
	return err
}

// Roomy gives the writer room for large transactions until restore is called: memory for the pages they change, 64 MB. Hashes come in no
// order, so each row changes pages of its own; with the usual 2 MB SQLite writes them out and reads them in for each. It merges beside
// the writer, too. PostgreSQL has its own memory.
func (d *Database) Roomy(ctx context.Context) (restore func(), err error) {
	if d.Kind == PostgreSQL {
		return func() {}, nil
	}
	stop, err := d.MergeBeside(ctx)
	if err != nil {
		return nil, err
	}
	restore = func() {
		stop()
		_ = d.set(context.WithoutCancel(ctx), `cache_size = -2000`, `temp_store = DEFAULT`) // else it is only room
	}
	if err := d.set(ctx, `cache_size = -65536`, `temp_store = MEMORY`); err != nil {
		restore()
		return nil, err
	}
	return restore, nil
}

// MergeBeside moves what is committed from SQLite's log into the file on a connection of its own, until stop is called. By default the
// writer does so itself after every 4 MB, and who waits for it waits for that, too; now it does so after 64 MB.
func (d *Database) MergeBeside(ctx context.Context) (stop func(), err error) {
	if d.Kind == PostgreSQL {
		return func() {}, nil
	}
	if err := d.set(ctx, `wal_autocheckpoint = 16384`); err != nil {
		return nil, err
	}
	merging, end := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.keepMerging(merging)
	}()
	return func() {
		end()
		<-ended
		_ = d.set(context.WithoutCancel(ctx), `wal_autocheckpoint = 1000`) // else the file is only larger
	}, nil
}

func (d *Database) set(ctx context.Context, pragmas ...string) error {
	for _, pragma := range pragmas {
		if _, err := d.Write.ExecContext(ctx, `PRAGMA `+pragma); err != nil {
			return fmt.Errorf("set %s: %w", pragma, err)
		}
	}
	return nil
}

func (d *Database) keepMerging(ctx context.Context) {
	for often := time.NewTicker(200 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			often.Stop()
			return
		case <-often.C:
			_, _ = d.Read.ExecContext(ctx, `PRAGMA wal_checkpoint(PASSIVE)`) // else the writer does it
		}
	}
}

// ByIndex keeps PostgreSQL, in this transaction, from reading whole tables: it plans a statement once and keeps the plan, and one that
// was good while the table was empty is what the millionth row is looked up with. SQLite has no other plan.
func (d *Database) ByIndex(ctx context.Context, tx *sql.Tx) error {
	if d.Kind != PostgreSQL {
		return nil
	}
	if _, err := tx.ExecContext(ctx, `SET LOCAL enable_seqscan = off`); err != nil {
		return fmt.Errorf("prefer indexes: %w", err)
	}
	return nil
}

// SkipLocked is the one piece of SQL the databases do not share: rows another dispatcher is claiming are passed over.
// SQLite has one writer at a time and needs no such words.
func (d *Database) SkipLocked() string {
	if d.Kind == PostgreSQL {
		return " FOR UPDATE SKIP LOCKED"
	}
	return ""
}

// IsConflict says whether err is a violated UNIQUE or PRIMARY KEY.
func IsConflict(err error) bool {
	var lite sqlite3.Error
	if errors.As(err, &lite) {
		return lite.ExtendedCode == sqlite3.ErrConstraintUnique || lite.ExtendedCode == sqlite3.ErrConstraintPrimaryKey
	}
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "23505"
}

// IsDeadlock says whether err is PostgreSQL's choice of whom to send back where two waited for each other: trying again helps.
// SQLite has one writer at a time.
func IsDeadlock(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40P01" || pg.Code == "40001")
}
