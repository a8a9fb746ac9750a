package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"depesche/newsletter"
	"depesche/subscribers"
)

// stale is how old the newest digest of a daily newsletter may be before somebody should look (H24).
const stale = 26 * time.Hour

// status is how the house stands.
type status struct {
	Now         time.Time                `json:"now"`
	Newsletters []newsletterStatus       `json:"newsletters"`
	Sources     []newsletter.SourceState `json:"sources"`
	Letters     int                      `json:"letters_due"`
	Flood       *subscribers.Flood       `json:"flood,omitempty"` // letters wait
	Problems    []string                 `json:"problems"`
}

type newsletterStatus struct {
	Newsletter string             `json:"newsletter"`
	Readers    int                `json:"readers"`
	Next       time.Time          `json:"next"`
	Last       *newsletter.Report `json:"last"`
}

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "How the house stands: readers, last and next digests, sources, what needs a person",
		Long: `Lists the newsletters with their readers, last and next digest, the sources with their last visit, and what needs a person:
doubtful deliveries, held digests, missed days, a flood of sign-ups. The exit status is 6 if there is such a thing.`,
		Example: `  depesche status --json`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer h.close()
			s, err := h.status(c, a.now())
			if err != nil {
				return err
			}
			if err := a.report(s, func(w io.Writer) { printStatus(w, s) }); err != nil {
				return err
			}
			if len(s.Problems) > 0 {
				return &exitError{Code: exitHuman, Err: errTold}
			}
			return nil
		},
	}
}

func (h *house) status(c *cobra.Command, now time.Time) (s status, err error) {
	ctx := c.Context()
	s = status{Now: now, Problems: []string{}}
	for _, n := range h.newsroom.Newsletters {
		one := newsletterStatus{Newsletter: n.Slug, Next: n.Next(now).Planned}
		if one.Readers, err = h.newsroom.Readers(ctx, n.Slug); err != nil {
			return s, err
		}
		last, found, err := h.newsroom.Last(ctx, n.Slug)
		if err != nil {
			return s, err
		}
		if found {
			report, err := h.newsroom.Report(ctx, now, last)
			if err != nil {
				return s, err
			}
			one.Last = &report
			s.Problems = append(s.Problems, problems(report)...)
		}
		s.Problems = append(s.Problems, missed(n, last, found, now)...)
		s.Newsletters = append(s.Newsletters, one)
	}
	if s.Sources, err = h.newsroom.SourceStates(ctx); err != nil {
		return s, err
	}
	pauses, err := h.newsroom.Pauses(ctx, now)
	if err != nil {
		return s, err
	}
	for _, p := range pauses {
		whom := "nothing is sent"
		if p.Scope != "" {
			whom = "nothing is sent to " + p.Scope
		}
		s.Problems = append(s.Problems, fmt.Sprintf("%s until %s: %s", whom, h.newsroom.InZone(p.Until).Format("15:04"), clean(p.Reason)))
	}
	if s.Flood, err = h.registry.Flood(ctx); err != nil {
		return s, err
	}
	if s.Flood != nil {
		s.Problems = append(s.Problems, h.describeFlood(s.Flood))
	}
	s.Letters, err = h.registry.LettersDue(ctx)
	return s, err
}

func problems(r newsletter.Report) []string {
	name := r.Newsletter + "/" + string(r.Day)
	var list []string
	if doubtful := r.Doubtful - r.OnWire; doubtful > 0 {
		list = append(list, fmt.Sprintf("%s: %d doubtful: the server's answer was lost ('depesche report %s' lists them, 'depesche resolve' settles them)",
			name, doubtful, name))
	}
	if r.Expired > 0 {
		list = append(list, fmt.Sprintf("%s: %d expired: the latest time came first", name, r.Expired))
	}
	if r.Held {
		list = append(list, name+": held ('depesche release "+name+"')")
	}
	return list
}

// missed tells of a digest that was planned and never composed.
func missed(n newsletter.Newsletter, last newsletter.Digest, found bool, now time.Time) []string {
	occasion, due := n.Occasion(now)
	if !due || !found || last.Day >= occasion.Day || now.Sub(last.Composed) < stale && now.Before(occasion.Latest) {
		return nil
	}
	return []string{fmt.Sprintf("%s: the digest of %s was not composed", n.Slug, occasion.Day)}
}

func printStatus(w io.Writer, s status) {
	for _, n := range s.Newsletters {
		fmt.Fprintf(w, "%s: %s, next digest %s\n", n.Newsletter, count(n.Readers, "reader", "readers"), n.Next.Format("2006-01-02 15:04"))
		if n.Last != nil {
			fmt.Fprint(w, "  last: ")
			printReport(w, *n.Last)
		}
	}
	for _, source := range s.Sources {
		seen := "never polled"
		if source.Polled != nil {
			seen = "polled " + source.Polled.Format("2006-01-02 15:04")
		}
		fmt.Fprintf(w, "source %s: %s", clean(source.Name), seen)
		if source.Problem != "" {
			fmt.Fprintf(w, ", failed: %s", clean(source.Problem))
		}
		fmt.Fprintln(w)
	}
	if s.Letters > 0 {
		fmt.Fprintf(w, "%s to be mailed\n", count(s.Letters, "letter waits", "letters wait"))
	}
	for _, problem := range s.Problems {
		fmt.Fprintln(w, "! "+problem)
	}
}
