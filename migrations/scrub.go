package migrations

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Scrub makes what was deleted unreadable in the database's own files, and says whether it could. On SQLite deleted bytes
// are overwritten in the file (secure_delete), but stand in the log beside it until that is emptied, for which no reader
// may be at work; and a page that was split may keep a copy in its gaps, which secure_delete does not know of. So the file is
// searched for the traces that are named, and written anew (VACUUM) if one is found or if anew says so. PostgreSQL's rows
// are given free (VACUUM); its files and its log forget them when the place is used again.
func (d *Database) Scrub(ctx context.Context, anew bool, traces ...string) (clean bool, err error) {
	if d.Kind == PostgreSQL {
		_, err := d.Write.ExecContext(ctx, `VACUUM subscribers, subscriptions, particulars, letters, slips, deliveries`)
		if err != nil {
			return false, fmt.Errorf("vacuum: %w", err)
		}
		return true, nil
	}
	clean, err = d.emptyLog(ctx)
	if err != nil || !clean {
		return false, err
	}
	if !anew {
		if anew, err = holds(d.path, traces); err != nil || !anew {
			return err == nil, err
		}
	}
	return d.rebuild(ctx)
}

// rebuild writes the file anew, with nothing in it but what is stored. Nobody else can write meanwhile, so a dispatch that is
// under way goes first.
func (d *Database) rebuild(ctx context.Context) (bool, error) {
	unlock, free, err := d.TryLock("dispatch")
	if err != nil || !free {
		return false, err
	}
	defer unlock()
	if _, err := d.Write.ExecContext(ctx, `VACUUM`); err != nil {
		return false, fmt.Errorf("write the database anew: %w", err)
	}
	return d.emptyLog(ctx)
}

// emptyLog brings the log into the file and cuts it to nothing, unless a reader still needs it. Somebody who merges at this moment
// is waited for: SQLite does not wait for those.
func (d *Database) emptyLog(ctx context.Context) (bool, error) {
	tooLong := time.NewTimer(2 * time.Second) // for a reader SQLite waits by itself, and longer
	defer tooLong.Stop()
	for {
		var busy, frames, moved int
		err := d.Write.QueryRowContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &frames, &moved)
		if err != nil {
			return false, fmt.Errorf("empty the database's log: %w", err)
		}
		if busy == 0 {
			return true, nil
		}
		select {
		case <-tooLong.C:
			return false, nil
		case <-ctx.Done():
			return false, fmt.Errorf("empty the database's log: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// holds says whether one of the texts stands anywhere in a file.
func holds(path string, texts []string) (bool, error) {
	longest := 0
	for _, text := range texts {
		longest = max(longest, len(text))
	}
	if longest == 0 {
		return false, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return false, fmt.Errorf("search the database for traces: %w", err)
	}
	defer func() { _ = file.Close() }()
	buffer, kept := make([]byte, 1<<20+longest), 0
	for {
		n, err := io.ReadFull(file, buffer[kept:])
		have := buffer[:kept+n]
		for _, text := range texts {
			if text != "" && bytes.Contains(have, []byte(text)) {
				return true, nil
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("search the database for traces: %w", err)
		}
		kept = copy(buffer, have[len(have)-longest+1:]) // a text may stand across two reads
	}
}
