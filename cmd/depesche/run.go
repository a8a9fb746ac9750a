package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"depesche/newsletter"
	"depesche/newsletter/smtp"
)

func (a *app) runCommand() *cobra.Command {
	var slug, date string
	var follow, force bool
	command := &cobra.Command{
		Use:   "run",
		Short: "What the timer calls: poll sources, compose digests that are due, send",
		Long: `Polls the sources that are due, composes each newsletter's digest at its planned time, sends what is due (letters, first tries,
retries) and exits. Called every five minutes, or once a morning with --follow. Two at once do no harm: every reader gets
one mail.

A digest whose latest time has passed is not sent unless --force says so; the exit status is then 6.`,
		Example: `  */5 * * * *  depesche run --config /etc/depesche/depesche.yaml
  depesche run --newsletter morgen --follow`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer h.close()
			plan := newsletter.Plan{Options: a.options(), Force: force, Follow: follow, Poll: true}
			if slug != "" {
				n, err := h.choose(slug)
				if err != nil {
					return err
				}
				plan.Newsletter = n.Slug
			}
			if date != "" {
				if plan.Day, err = newsletter.ParseDay(date); err != nil {
					return usageError(err)
				}
			}
			return a.morning(c.Context(), h, plan)
		},
	}
	command.Flags().StringVar(&slug, "newsletter", "", "only this newsletter")
	command.Flags().StringVar(&date, "date", "", "the digest of this day (YYYY-MM-DD) instead of the one that is due")
	command.Flags().BoolVar(&follow, "follow", false, "stay until today's digests are done or too late")
	command.Flags().BoolVar(&force, "force", false, "compose and send although the latest time has passed")
	return command
}

func (a *app) sendCommand() *cobra.Command {
	var slug string
	var yes bool
	var test []string
	command := &cobra.Command{
		Use:   "send",
		Short: "Compose and send now, or send a test mail",
		Long: `An editor's command: composes today's digest at once, whatever the schedule says, and sends it. It asks before it does,
unless --yes is given. If today's digest is composed already, what is left of it is sent.

--test sends the digest as it would be now to the addresses given and nobody else: its links belong to no reader, nothing is
stored, nothing counts as sent.`,
		Example: `  depesche send --newsletter morgen
  depesche send --test redaktion@example.org`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer h.close()
			n, err := h.choose(slug)
			if err != nil {
				return err
			}
			if len(test) > 0 {
				return a.test(c.Context(), h, n, test)
			}
			if !yes && !a.confirm(fmt.Sprintf("Compose „%s“ now and send it to all its readers?", n.Title)) {
				return usageErrorf("nothing was sent: confirm at a terminal, or say --yes")
			}
			plan := newsletter.Plan{Options: a.options(), Newsletter: n.Slug, AtOnce: true}
			plan.Patience = untilLatest // nobody calls again
			return a.morning(c.Context(), h, plan)
		},
	}
	command.Flags().StringVar(&slug, "newsletter", "", "which newsletter, if there are several")
	command.Flags().BoolVar(&yes, "yes", false, "do not ask")
	command.Flags().StringSliceVar(&test, "test", nil, "send a test to these addresses instead")
	return command
}

func (a *app) dispatchCommand() *cobra.Command {
	var follow bool
	command := &cobra.Command{
		Use:     "dispatch",
		Short:   "Send what is due of composed digests, and letters, without polling or composing",
		Example: `  depesche dispatch --follow`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer h.close()
			return a.morning(c.Context(), h, newsletter.Plan{Options: a.options(), Follow: follow, SendOnly: true})
		},
	}
	command.Flags().BoolVar(&follow, "follow", false, "stay until composed digests are done or too late")
	return command
}

// shortPatience is how long a plain run waits for a relay that is away (1, 2 and 4 seconds): the timer calls again in a few minutes.
const shortPatience = 7 * time.Second

// untilLatest waits for the relay until the digest's latest time ends it.
const untilLatest = 24 * time.Hour

// options of a dispatch: progress where somebody watches.
func (a *app) options() newsletter.Options {
	o := newsletter.Options{Now: a.now, Patience: shortPatience}
	if isTerminal(a.stderr) {
		o.Progress = progress(a.stderr)
	}
	return o
}

// morning runs a plan and turns what became of it into words and an exit status.
func (a *app) morning(ctx context.Context, h *house, plan newsletter.Plan) error {
	if plan.Follow {
		plan.Patience = untilLatest
	}
	if err := a.noticeOld(ctx, h); err != nil {
		return err
	}
	m, err := h.newsroom.Run(ctx, plan)
	m.Ledger = a.sealAfter(ctx, h)
	if err := logbookOf(h.config).digests(a.now(), m); err != nil {
		a.warn("%v", err)
	}
	for _, harvest := range m.Harvests {
		for _, problem := range harvest.Problems {
			a.warn("%v", problem)
		}
	}
	for _, problem := range m.Problems {
		a.warn("%v", problem)
	}
	for _, alert := range m.Alerts() {
		a.alert(ctx, h, alert)
	}
	var refusal *smtp.Refusal
	if errors.As(err, &refusal) {
		a.alert(ctx, h, err.Error())
		return &exitError{Code: exitRefused, Err: errTold}
	}
	if err != nil {
		return err
	}
	if a.json || isTerminal(a.stdout) {
		if err := a.report(m, func(w io.Writer) { printMorning(w, m) }); err != nil {
			return err
		}
	}
	return verdict(m)
}

// verdict is the exit status of a morning: the gravest of its digests'.
func verdict(m newsletter.Morning) error {
	var human, late, refused, broken error
	for _, r := range m.Digests {
		name := r.Newsletter + " of " + string(r.Day)
		switch {
		case r.TooLate:
			human = errTold
		case r.Broken:
			broken = errTold
		case r.Report.Held && r.Report.Due > 0:
			human = fmt.Errorf("the digest %s is held: 'depesche release' lets it go on", name)
		case r.Overdue && r.Report.Expired+r.Report.Doubtful > 0:
			late = fmt.Errorf("the latest time of the digest %s has passed: %d expired, %d doubtful", name, r.Report.Expired, r.Report.Doubtful)
		}
	}
	if len(m.Alerts()) > 0 {
		refused = errTold
	}
	for _, v := range []struct {
		err  error
		code int
	}{{refused, exitRefused}, {broken, exitFailed}, {human, exitHuman}, {late, exitLate}} {
		if v.err != nil {
			return &exitError{Code: v.code, Err: v.err}
		}
	}
	return nil
}

// errTold is an error whose words have been printed already.
var errTold = errors.New("")

// test sends today's digest as it would be to some addresses.
func (a *app) test(ctx context.Context, h *house, n newsletter.Newsletter, addresses []string) error {
	problems, err := h.newsroom.SendTest(ctx, a.now(), n, addresses)
	for _, problem := range problems {
		a.warn("%v", problem)
	}
	var refusal *smtp.Refusal
	switch {
	case errors.Is(err, newsletter.ErrNothingLeft):
		return errors.New("there is no news to test with: ingest articles first")
	case errors.As(err, &refusal):
		return &exitError{Code: exitRefused, Err: err}
	case err != nil:
		return err
	}
	fmt.Fprintf(a.stdout, "test sent to %s\n", strings.Join(addresses, ", "))
	return nil
}

// confirm asks at a terminal; elsewhere nobody can say yes.
func (a *app) confirm(question string) bool {
	if !isTerminal(a.stdin) {
		return false
	}
	fmt.Fprintf(a.stderr, "%s [y/N] ", question)
	var answer string
	_, _ = fmt.Fscanln(a.stdin, &answer)
	return slices.Contains([]string{"y", "yes", "j", "ja"}, strings.ToLower(answer))
}

func printMorning(w io.Writer, m newsletter.Morning) {
	for _, h := range m.Harvests {
		fmt.Fprintf(w, "source %s: %d new, %d updated\n", clean(h.Source), h.New, h.Updated)
	}
	if m.Busy {
		fmt.Fprintln(w, "another run is at work and sends")
	}
	if m.Letters.Sent+m.Letters.Failed+m.Letters.Later > 0 {
		fmt.Fprintf(w, "letters: %d sent, %d failed, %d wait for a retry\n", m.Letters.Sent, m.Letters.Failed, m.Letters.Later)
	}
	for _, r := range m.Digests {
		if r.TooLate || r.Broken {
			continue
		}
		printReport(w, r.Report)
	}
	if len(m.Digests) == 0 {
		fmt.Fprintln(w, "no digest is due")
	}
	if m.Ledger.Number > 0 {
		fmt.Fprintf(w, "ledger: %s, head %s\n", count(int(m.Ledger.Number), "event", "events"), m.Ledger)
	}
}
