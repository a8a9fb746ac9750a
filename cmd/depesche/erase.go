package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"depesche/subscribers"
)

// accessed writes down who is about to see or change readers' data, and by which command; address is "" for a list (D32).
func (a *app) accessed(c *cobra.Command, h *house, address string) error {
	name := strings.TrimPrefix(c.CommandPath(), c.Root().Name()+" ")
	return h.registry.RecordAccess(c.Context(), a.now(), a.person(), name, address)
}

func (a *app) subscriberEraseCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "erase ADDRESS",
		Short: "Delete everything that names a reader (GDPR Art. 17)",
		Long: `Deletes the reader's address, subscriptions, letters and the particulars of every consent event, skips what is due to them of
running digests, and makes the bytes unreadable in the database's files. What stays is a keyed hash: the ledger goes on to hold,
and no import brings the address back. Backups made before still have it: erase again after restoring one.`,
		Example: `  depesche subscriber erase leserin@example.org`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			h, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer h.close()
			if err := a.accessed(c, h, args[0]); err != nil {
				return err
			}
			gone, err := h.registry.Erase(c.Context(), a.now(), args[0], h.newsroom.Forget)
			if err != nil {
				return notThere(err)
			}
			if gone.Traces {
				a.warn("a reader of the database or a dispatch is at work: bytes of the address may still be in its files until 'depesche cleanup' has run")
			}
			return a.report(gone, func(w io.Writer) {
				fmt.Fprintf(w, "erased: %s, %s, particulars of %s; %s skipped\n",
					count(int(gone.Subscriptions), "subscription", "subscriptions"), count(int(gone.Letters), "letter", "letters"),
					count(int(gone.Particulars), "event", "events"), count(int(gone.Deliveries), "delivery", "deliveries"))
			})
		},
	}
}

func (a *app) subscriberAccessesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "accesses [ADDRESS]",
		Short: "List who looked at readers' data, when, and with which command",
		Example: `  depesche subscriber accesses leserin@example.org
  depesche subscriber accesses --json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			h, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer h.close()
			all, err := h.registry.Accesses(c.Context(), strings.Join(args, ""))
			if err != nil {
				return notThere(err)
			}
			return a.report(all, func(w io.Writer) {
				for _, x := range all {
					whom := "the list"
					if x.Person != "" {
						whom = "person " + x.Person[:12] + "…"
					}
					fmt.Fprintf(w, "%s  %s  %s  %s\n", x.At.Format(time.RFC3339), clean(x.Who), clean(x.Command), whom)
				}
			})
		},
	}
}

func (a *app) cleanupCommand() *cobra.Command {
	var dry bool
	command := &cobra.Command{
		Use:   "cleanup",
		Short: "Delete what has been kept long enough; once a night is right",
		Long: `Deletes sign-ups that were not confirmed in time, readers who left long ago with the proof of their consent, network addresses of
consent events, old letters, and old records of who looked at readers' data: each after the time the configuration's section
'retention' gives it. Then it makes what was deleted unreadable in the database's files, for which SQLite's file is written
anew. --dry-run says what would go and changes nothing.`,
		Example: `  depesche cleanup --dry-run
  30 3 * * *  depesche cleanup --config /etc/depesche/depesche.yaml`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer h.close()
			done, err := h.registry.Cleanup(c.Context(), a.now(), dry)
			if err != nil {
				return err
			}
			if done.Traces && !dry {
				a.warn("a reader of the database or a dispatch is at work: bytes of what was deleted may still be in its files; run cleanup again later")
			}
			if !dry && !a.json && !isTerminal(a.stdout) {
				return nil
			}
			return a.report(done, func(w io.Writer) { printCleanup(w, done) })
		},
	}
	command.Flags().BoolVar(&dry, "dry-run", false, "say what would go, and change nothing")
	return command
}

func printCleanup(w io.Writer, c subscribers.Cleanup) {
	verb := "deleted"
	if c.DryRun {
		verb = "would go"
	}
	fmt.Fprintf(w, "%s: %s, %s, %s, %s, %s\n", verb,
		count(c.Unconfirmed, "unconfirmed sign-up", "unconfirmed sign-ups"), count(c.Former, "former reader", "former readers"),
		count(c.IPs, "network address", "network addresses"), count(c.Letters, "letter", "letters"),
		count(c.Accesses, "record of access", "records of access"))
	if c.DryRun && c.Traces {
		fmt.Fprintln(w, "bytes of what was deleted before would be scrubbed from the database's files")
	}
}
