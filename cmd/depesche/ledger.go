package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"depesche/subscribers"
)

// sealAfter is sealLedger after a run, however that ended: mails that left are not undone because the ledger is in trouble.
func (a *app) sealAfter(ctx context.Context, h *house) subscribers.Head {
	head, err := h.sealLedger(context.WithoutCancel(ctx), a.now())
	if err != nil {
		a.warn("the ledger of consents: %v", err)
	}
	return head
}

// sealLedger seals what is not yet sealed and writes down where the chain ends.
func (h *house) sealLedger(ctx context.Context, now time.Time) (subscribers.Head, error) {
	head, err := h.registry.Seal(ctx)
	if err != nil {
		return head, err
	}
	return head, logbookOf(h.config).seal(now, head)
}

const sealEvery = 5 * time.Second // between two looks of `serve` for events to seal

// keepSealing seals as events come, until ctx ends. What fails is said once.
func (a *app) keepSealing(ctx context.Context, h *house) {
	told := ""
	for wait(ctx, sealEvery) {
		problem := ""
		if _, err := h.registry.Seal(ctx); err != nil && ctx.Err() == nil {
			problem = err.Error()
		}
		if problem != told && problem != "" {
			h.log.Error("seal consents", "error", problem)
		}
		told = problem
	}
}

func (a *app) subscriberVerifyCommand() *cobra.Command {
	var noted string
	command := &cobra.Command{
		Use:   "verify",
		Short: "Recompute the ledger of consents and name the first link that does not hold",
		Long: `Seals what is not yet sealed, then recomputes the chain of all consent events, the hashes of their particulars and of the
words they refer to, and compares the chain with the heads that earlier runs wrote to the ledger's log (*-ledger.log, beside the
journals). Particulars that were deleted are counted as erased: that breaks nothing. --head takes a head that was kept
elsewhere, as 'depesche run --json' reports it. The exit status is 1 if a link does not hold.`,
		Example: `  depesche subscriber verify
  depesche subscriber verify --head 1234:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer h.close()
			book, err := logbookOf(h.config).read()
			if err != nil {
				return err
			}
			if noted != "" {
				head, err := subscribers.ParseHead(noted)
				if err != nil {
					return usageErrorf("--head: %w", err)
				}
				book.heads = append(book.heads, head)
			}
			return a.verify(c.Context(), h, book.heads)
		},
	}
	command.Flags().StringVar(&noted, "head", "", "a head that was written down elsewhere: NUMBER:CHAIN")
	return command
}

func (a *app) verify(ctx context.Context, h *house, heads []subscribers.Head) error {
	if _, err := h.registry.Seal(ctx); err != nil { // the log is not written: it shall not say what has yet to be verified
		return err
	}
	v, err := h.registry.Verify(ctx, heads...)
	if err != nil {
		return err
	}
	if err := a.report(v, func(w io.Writer) { printVerification(w, v) }); err != nil {
		return err
	}
	if !v.Valid() {
		return &exitError{Code: exitFailed, Err: errTold}
	}
	return nil
}

func printVerification(w io.Writer, v subscribers.Verification) {
	if v.Valid() {
		fmt.Fprintf(w, "the ledger holds: %s, of %d the particulars are erased\nhead %s\n",
			count(int(v.Events), "event", "events"), v.Erased, v.Head)
		return
	}
	fmt.Fprintf(w, "the ledger is BROKEN at %s (%s in all):\n", count(int(v.Broken), "link", "links"), count(int(v.Events), "event", "events"))
	for _, b := range v.Breaks {
		fmt.Fprintf(w, "  number %d", b.Number)
		if b.Event != 0 {
			fmt.Fprintf(w, " (event %d)", b.Event)
		}
		fmt.Fprintf(w, ": %s\n", b.What)
	}
	if more := v.Broken - int64(len(v.Breaks)); more > 0 {
		fmt.Fprintf(w, "  and %d more\n", more)
	}
}
