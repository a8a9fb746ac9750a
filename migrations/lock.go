package migrations

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// TryLock takes the lock of that name for this process and says whether it got it. On SQLite it is a lock on a file beside
// the database: the kernel lets go of it when the process dies, however it dies. On PostgreSQL, where several machines share
// the work by leases, everybody gets it.
func (d *Database) TryLock(name string) (unlock func(), ok bool, err error) {
	if d.Kind == PostgreSQL {
		return func() {}, true, nil
	}
	file, err := d.lockFile(name)
	if err != nil {
		return nil, false, err
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, false, file.Close()
	}
	if err != nil {
		_ = file.Close()
		return nil, false, fmt.Errorf("lock %s: %w", file.Name(), err)
	}
	return func() { _ = file.Close() }, true, nil
}

// lockSchema waits for the right to migrate. PostgreSQL has a session lock of its own in the migration provider.
func (d *Database) lockSchema(ctx context.Context) (unlock func(), err error) {
	if d.Kind == PostgreSQL {
		return func() {}, nil
	}
	file, err := d.lockFile("schema")
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
	}
	if err := ctx.Err(); err != nil {
		_ = file.Close()
		return nil, err
	}
	return func() { _ = file.Close() }, nil
}

func (d *Database) lockFile(name string) (*os.File, error) {
	file, err := os.OpenFile(d.path+"-"+name+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	return file, nil
}
