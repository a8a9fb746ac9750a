package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"depesche/subscribers"
)

// The ledger's log is outside the database: a line for each head of the chain that a run left. Who cuts off the ledger's end
// and puts an older head into the database would have to cut this, too, wherever it was copied.
//
//	2026-02-11T06:00:04Z sealed 1234:9f86d0…
//	2026-02-12T10:12:00Z restored 1200:60303a…   from then on heads above 1200 count no more

// ledgerLog is where it is: beside the journals of replies.
func ledgerLog(c *Config) string {
	return strings.TrimSuffix(journalBase(c), "-replies") + "-ledger.log"
}

// logHead adds a head, unless it stands there last.
func logHead(path string, now time.Time, what string, head subscribers.Head) (err error) {
	last, err := lastLine(path)
	if err != nil {
		return fmt.Errorf("read the ledger's log: %w", err)
	}
	if strings.HasSuffix(last, " "+head.String()) && what == "sealed" || head.Number == 0 {
		return nil
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the ledger's log: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := fmt.Fprintf(file, "%s %s %s\n", now.UTC().Format(time.RFC3339), what, head); err != nil {
		return fmt.Errorf("write the ledger's log: %w", err)
	}
	return file.Sync()
}

// lastLine is the end of a file, "" where there is none.
func lastLine(path string) (string, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	const longest = 200 // bytes of a line
	if _, err := file.Seek(-longest, io.SeekEnd); err != nil {
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return "", err
		}
	}
	end, err := io.ReadAll(file)
	text := strings.TrimRight(string(end), "\n")
	return text[strings.LastIndexByte(text, '\n')+1:], err
}

// loggedHeads are the heads that still count.
func loggedHeads(path string) ([]subscribers.Head, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the ledger's log: %w", err)
	}
	defer func() { _ = file.Close() }()
	var heads []subscribers.Head
	lines := bufio.NewScanner(file)
	for number := 1; lines.Scan(); number++ {
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 {
			return nil, fmt.Errorf("read the ledger's log: %s:%d: expected TIME sealed NUMBER:CHAIN", path, number)
		}
		head, err := subscribers.ParseHead(fields[2])
		if err != nil {
			return nil, fmt.Errorf("read the ledger's log: %s:%d: %w", path, number, err)
		}
		if fields[1] == "restored" {
			kept := heads[:0]
			for _, h := range heads {
				if h.Number <= head.Number {
					kept = append(kept, h)
				}
			}
			heads = kept
		}
		heads = append(heads, head)
	}
	return heads, lines.Err()
}

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
	return head, logHead(ledgerLog(h.config), now, "sealed", head)
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
			heads, err := loggedHeads(ledgerLog(h.config))
			if err != nil {
				return err
			}
			if noted != "" {
				head, err := subscribers.ParseHead(noted)
				if err != nil {
					return usageErrorf("--head: %w", err)
				}
				heads = append(heads, head)
			}
			return a.verify(c.Context(), h, heads)
		},
	}
	command.Flags().StringVar(&noted, "head", "", "a head that was written down elsewhere: NUMBER:CHAIN")
	return command
}

func (a *app) verify(ctx context.Context, h *house, heads []subscribers.Head) error {
	_, err := h.registry.Seal(ctx) // the log is not written: it shall not say what has yet to be verified
	if errors.Is(err, subscribers.ErrKeys) {
		return usageErrorf("%w: %s", err, h.config.Keys)
	}
	if err != nil {
		return err
	}
	v, err := h.registry.Verify(ctx, heads...)
	if errors.Is(err, subscribers.ErrKeys) {
		return usageErrorf("%w: %s", err, h.config.Keys)
	}
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
