package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"depesche/newsletter"
)

func (a *app) reportCommand() *cobra.Command {
	var troubles int
	command := &cobra.Command{
		Use:   "report [DIGEST]",
		Short: "The account of a digest: who got it, who did not, and why",
		Long: `Without an argument the newest digest of every newsletter; DIGEST is newsletter/day, like morgen/2026-02-11.

prepared = sent + failed + skipped + expired + doubtful + due, always.`,
		Example: `  depesche report morgen/2026-02-11 --json`,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			h, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer h.close()
			digests, err := h.digests(c.Context(), args)
			if err != nil {
				return err
			}
			type account struct {
				newsletter.Report
				Troubles []newsletter.Trouble `json:"troubles"`
			}
			accounts := []account{}
			for _, d := range digests {
				report, err := h.newsroom.Report(c.Context(), a.now(), d)
				if err != nil {
					return err
				}
				list, err := h.newsroom.Troubles(c.Context(), d, troubles)
				if err != nil {
					return err
				}
				accounts = append(accounts, account{report, list})
			}
			return a.report(accounts, func(w io.Writer) {
				for _, x := range accounts {
					printReport(w, x.Report)
					printTroubles(w, x.Troubles)
				}
			})
		},
	}
	command.Flags().IntVar(&troubles, "troubles", 20, "list at most so many failed or doubtful deliveries")
	return command
}

// digests are those an argument names: newsletter/day, or the newest of every newsletter.
func (h *house) digests(ctx context.Context, args []string) ([]newsletter.Digest, error) {
	if len(args) == 1 {
		d, err := h.digest(ctx, args[0])
		return []newsletter.Digest{d}, err
	}
	all, err := h.newsroom.Digests(ctx, 10*len(h.newsroom.Newsletters))
	if err != nil {
		return nil, err
	}
	var newest []newsletter.Digest
	seen := map[string]bool{}
	for _, d := range all {
		if !seen[d.Newsletter] {
			seen[d.Newsletter] = true
			newest = append(newest, d)
		}
	}
	return newest, nil
}

// digest finds newsletter/day; the newsletter may be left out where there is one, the day where today is meant.
func (h *house) digest(ctx context.Context, name string) (newsletter.Digest, error) {
	slug, date, found := strings.Cut(name, "/")
	if !found {
		return newsletter.Digest{}, usageErrorf("name the digest as NEWSLETTER/DAY, like %s/2026-02-11", h.newsroom.Newsletters[0].Slug)
	}
	n, err := h.choose(slug)
	if err != nil {
		return newsletter.Digest{}, err
	}
	day, err := newsletter.ParseDay(date)
	if err != nil {
		return newsletter.Digest{}, usageError(err)
	}
	d, err := h.newsroom.Digest(ctx, n.Slug, day)
	if errors.Is(err, newsletter.ErrNoDigest) {
		return d, usageError(err)
	}
	return d, err
}

func printReport(w io.Writer, r newsletter.Report) {
	fmt.Fprintf(w, "%s, %s", r.Newsletter, r.Day)
	switch {
	case r.State == newsletter.Empty:
		fmt.Fprintln(w, ": no news, nothing is sent")
		return
	case r.Held:
		fmt.Fprint(w, ", HELD")
	}
	fmt.Fprintf(w, ": %s, %s\n", count(r.Entries, "entry", "entries"), count(r.Prepared, "reader", "readers"))
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "sent\tfailed\tskipped\texpired\tdoubtful\tdue\t= prepared\tno news for\t")
	fmt.Fprintf(table, "%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n",
		r.Sent, r.Failed, r.Skipped, r.Expired, r.Doubtful, r.Due, r.Prepared, r.Silent)
	_ = table.Flush()
	for _, work := range r.Work {
		fmt.Fprintf(w, "  being sent by process %d on %s: %d mails, %.0f a second\n", work.Process, clean(work.Host), work.Sent, work.PerSecond)
	}
	if r.Seconds > 0 {
		fmt.Fprintf(w, "  about %s left, %d on the wire\n", time.Duration(r.Seconds*float64(time.Second)).Round(time.Second), r.OnWire)
	}
	for _, d := range r.Decisions {
		fmt.Fprintf(w, "  %s decided that %s: %s\n", clean(d.Person), count(d.Count, "doubtful mail", "doubtful mails"), d.Decision)
	}
}

func printTroubles(w io.Writer, troubles []newsletter.Trouble) {
	for _, t := range troubles {
		code := ""
		if t.Code != 0 {
			code = fmt.Sprintf("%d ", t.Code)
		}
		fmt.Fprintf(w, "  %s: reader %d, %s, %s: %s%s\n", t.State, t.Subscriber, count(t.Attempts, "try", "tries"),
			t.At.Format(time.DateTime), code, clean(t.Reply))
	}
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
