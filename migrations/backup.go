package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/mattn/go-sqlite3"
)

// ErrNoBackup means a file is not a whole backup of depesche's.
var ErrNoBackup = errors.New("this is no whole backup of depesche")

// Backup copies a SQLite database, while others work with it, into a file of its own with mode 0600: compact, with nothing in
// it but what is stored, checked, and there under its name only when it is whole and on the disk. A file that is there
// already is fs.ErrExist, unless replace says so.
func (d *Database) Backup(ctx context.Context, path string, replace bool) (err error) {
	if _, statErr := os.Lstat(path); statErr == nil && !replace {
		return fmt.Errorf("write backup %s: %w", path, fs.ErrExist)
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600; VACUUM INTO takes an empty file
	if err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	if err := file.Close(); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	if err := d.vacuumInto(ctx, file.Name()); err != nil {
		return fmt.Errorf("write backup %s: %w", path, err)
	}
	if _, err := InspectBackup(ctx, file.Name()); err != nil {
		return err
	}
	if err := syncFile(file.Name()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return syncFile(filepath.Dir(path))
}

// vacuumInto uses a connection of its own: the readers' may write nowhere, and the writer's has others waiting for it.
func (d *Database) vacuumInto(ctx context.Context, path string) error {
	db, err := sql.Open("sqlite3", sqliteDSN(d.path, url.Values{}))
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, `VACUUM INTO $1`, path)
	return errors.Join(err, db.Close())
}

// syncFile waits until a file or folder is on the disk.
func syncFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return nil
}

// InspectBackup checks a backup from its first page to its last and gives the name of the keys that belong to it, "" where it
// was made before anything was sealed. It changes nothing.
func InspectBackup(ctx context.Context, path string) (keys string, err error) {
	db, err := openBackup(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = db.Close() }()
	var verdict string
	if err := db.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&verdict); err != nil || verdict != "ok" {
		return "", fmt.Errorf("%s: %w: %v%s", path, ErrNoBackup, err, verdict)
	}
	var version int64
	if err := db.QueryRowContext(ctx, `SELECT MAX(version_id) FROM goose_db_version`).Scan(&version); err != nil || version == 0 {
		return "", fmt.Errorf("%s: %w: %v", path, ErrNoBackup, err)
	}
	if version > Version {
		return "", fmt.Errorf("%s: %w", path, ErrOldBinary)
	}
	err = db.QueryRowContext(ctx, `SELECT value FROM house WHERE key = 'keys'`).Scan(&keys)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w: %v", path, ErrNoBackup, err)
	}
	return keys, nil
}

func openBackup(path string) (*sql.DB, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read backup: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read backup: %s is no file", path)
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("read backup: %w", err)
	}
	// Immutable: a backup has no log beside it, and none shall be made.
	return sql.Open("sqlite3", (&url.URL{Scheme: "file", Path: path, RawQuery: "mode=ro&immutable=1"}).String())
}

// Restore replaces everything in a SQLite database by what a backup holds, in one transaction: who works with the database
// meanwhile sees the old state or the new one.
func (d *Database) Restore(ctx context.Context, path string) error {
	backup, err := openBackup(path)
	if err != nil {
		return err
	}
	defer func() { _ = backup.Close() }()
	from, err := backup.Conn(ctx)
	if err != nil {
		return fmt.Errorf("read backup %s: %w", path, err)
	}
	defer func() { _ = from.Close() }()
	to, err := d.Write.Conn(ctx)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	defer func() { _ = to.Close() }()
	err = to.Raw(func(target any) error {
		return from.Raw(func(source any) error { return copyPages(target.(*sqlite3.SQLiteConn), source.(*sqlite3.SQLiteConn)) })
	})
	if err != nil {
		return fmt.Errorf("restore %s: %w", path, err)
	}
	return nil
}

func copyPages(target, source *sqlite3.SQLiteConn) (err error) {
	work, err := target.Backup("main", source, "main")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, work.Finish()) }()
	done, err := work.Step(-1) // all at once: nobody sees half of it
	if err == nil && !done {
		err = errors.New("another process is at work with the database: end it and try again")
	}
	return err
}
