package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"depesche/migrations"
	"depesche/subscribers"
)

// backupReport is what a backup or its restoration says.
type backupReport struct {
	File   string           `json:"file"`
	Keys   string           `json:"keys"` // the file that is not in it
	Ledger subscribers.Head `json:"ledger"`
	Held   int64            `json:"held,omitempty"`   // digests that wait for a person after a restoration
	Erased int              `json:"erased,omitempty"` // readers who had been erased since the backup
	Ended  int              `json:"ended,omitempty"`  // subscriptions that had been ended since
}

func (a *app) backupCommand() *cobra.Command {
	var force bool
	command := &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the database into one file, while everything goes on",
		Long: `Seals the ledger and copies the database into FILE, checked and whole, while readers sign up and digests are sent. PostgreSQL is
copied by its own program pg_dump, in its custom format.

The key file is NOT in it, on purpose: who has only the backup can make no reader's link and find nobody in it. Without the
keys the backup is incomplete; keep a copy of them in another place. A new key needs a new copy.`,
		Example: `  depesche backup /backup/depesche-$(date +%F).db`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			h, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer h.close()
			head, err := h.sealLedger(c.Context(), a.now())
			if err != nil {
				return err
			}
			if h.db.Kind == migrations.PostgreSQL {
				err = a.dump(c.Context(), h.config, args[0], force)
			} else {
				err = h.db.Backup(c.Context(), args[0], force)
			}
			if errors.Is(err, fs.ErrExist) {
				return usageErrorf("%s is there already: choose another name, or say --force to replace it", args[0])
			}
			if err != nil {
				return err
			}
			done := backupReport{File: args[0], Keys: h.config.Keys, Ledger: head}
			return a.report(done, func(w io.Writer) {
				fmt.Fprintf(w, "%s: written, ledger head %s\nNOT in it: the keys. Without %s it is incomplete: keep a copy of that file in another place.\n",
					done.File, head, done.Keys)
			})
		},
	}
	command.Flags().BoolVar(&force, "force", false, "replace FILE if it is there")
	return command
}

// dump lets pg_dump write the backup. The password goes by the environment: arguments can be seen by everybody.
func (a *app) dump(ctx context.Context, config *Config, path string, force bool) (err error) {
	program, err := exec.LookPath("pg_dump")
	if err != nil {
		return usageErrorf("pg_dump is not installed on this machine: run it where it is, like\n  pg_dump --format=custom --file=%s %s", path, config.Database)
	}
	if _, err := os.Lstat(path); err == nil && !force {
		return fs.ErrExist
	}
	address, err := url.Parse(string(config.Database))
	if err != nil {
		return errors.New("the database URL cannot be parsed")
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	environ := a.environ
	if password, ok := address.User.Password(); ok {
		environ = append(append([]string(nil), environ...), "PGPASSWORD="+password)
		address.User = url.User(address.User.Username())
	}
	command := exec.CommandContext(ctx, program, "--format=custom", "--no-owner", "--dbname="+address.String())
	command.Env, command.Stdout = environ, file
	var problems strings.Builder
	command.Stderr = &problems
	if err := errors.Join(command.Run(), file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("pg_dump: %w: %s", err, problems.String())
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return nil
}

func (a *app) restoreCommand() *cobra.Command {
	var force bool
	command := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put a backup in the place of the database",
		Long: `End 'depesche serve' first. Checks the backup and the key file that belongs to it, then puts its content in the place of the database that the configuration
names. A database with readers in it is replaced only with --force. What was sent since the backup is not known in it: digests that
were not done are held, and so is the next one of each newsletter: 'depesche report' shows them, 'depesche release' lets them go on. Who was erased, has left or is suppressed according to the
database that is replaced stays so. Where that is lost, who has gone since the backup is in it again: erase or unsubscribe
them anew before anything is sent.

For PostgreSQL use its own program:  pg_restore --clean --if-exists --no-owner --dbname=… FILE`,
		Example: `  depesche restore /backup/depesche-2026-02-11.db --force`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			config, err := LoadConfig(a.configPath, a.environ)
			if err != nil {
				return err
			}
			if config.Database.PostgreSQL() {
				return usageErrorf("a PostgreSQL database is restored by its own program:\n  pg_restore --clean --if-exists --no-owner --dbname=%s %s", config.Database, args[0])
			}
			if err := wholeBackup(c.Context(), config, args[0]); err != nil {
				return err
			}
			h, err := a.build(c.Context(), config)
			if err != nil {
				return err
			}
			defer h.close()
			return a.restore(c.Context(), h, args[0], force)
		},
	}
	command.Flags().BoolVar(&force, "force", false, "replace a database that has readers in it")
	return command
}

// wholeBackup finds out whether a backup is whole and its keys are there.
func wholeBackup(ctx context.Context, config *Config, path string) error {
	wanted, err := migrations.InspectBackup(ctx, path)
	if err != nil {
		return err
	}
	keys, err := subscribers.LoadKeys(config.Keys)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the backup %s is incomplete without its key file: put that to %s first; nothing was restored", path, config.Keys)
	}
	if err != nil {
		return usageError(err)
	}
	if wanted != "" && wanted != keys.Name() {
		return fmt.Errorf("the backup %s is incomplete: it was made with other keys (%s) than those in %s (%s); put its key file there first; nothing was restored",
			path, wanted, config.Keys, keys.Name())
	}
	return nil
}

func (a *app) restore(ctx context.Context, h *house, path string, force bool) error {
	unlock, free, err := h.db.TryLock("dispatch")
	if err != nil {
		return err
	}
	if !free {
		return errors.New("a dispatch is at work: end it, and 'depesche serve', before restoring")
	}
	defer unlock()
	readers, err := h.registry.Any(ctx)
	if err != nil {
		return err
	}
	if readers && !force {
		return usageErrorf("the database %s has readers in it: make a backup of it, then say --force to replace it", h.config.Database)
	}
	gone, err := h.registry.Refusals(ctx)
	if err != nil {
		return err
	}
	if err := h.db.Restore(ctx, path); err != nil {
		return err
	}
	if err := h.db.Ready(ctx); err != nil { // of an older depesche: 'migrate' is next
		return usageError(err)
	}
	done := backupReport{File: path, Keys: h.config.Keys}
	if done.Ledger, err = h.registry.Head(ctx); err != nil {
		return err
	}
	if err := logbookOf(h.config).restored(a.now(), done.Ledger); err != nil {
		return err
	}
	if done.Held, err = h.newsroom.Restored(ctx, a.now()); err != nil {
		return err
	}
	unlock() // scrubbing wants the lock
	if done.Erased, done.Ended, err = h.registry.Honour(ctx, a.now(), gone); err != nil {
		return err
	}
	return a.report(done, func(w io.Writer) {
		fmt.Fprintf(w, "restored from %s, ledger head %s\n", done.File, done.Ledger)
		if done.Erased+done.Ended > 0 {
			fmt.Fprintf(w, "who had gone since the backup is gone again: %s erased, %s ended\n",
				count(done.Erased, "reader", "readers"), count(done.Ended, "subscription", "subscriptions"))
		}
		if done.Held > 0 {
			fmt.Fprintf(w, "%s held: see 'depesche report'\n", count(int(done.Held), "unfinished digest is", "unfinished digests are"))
		}
	})
}
