package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"depesche/subscribers"
)

func (a *app) subscriberCommand() *cobra.Command {
	command := &cobra.Command{
		Use:     "subscriber",
		Short:   "Look at readers and the proof of their consent; unsubscribe or erase one",
		Example: `  depesche subscriber proof leserin@example.org`,
	}
	command.AddCommand(a.subscriberListCommand(), a.subscriberShowCommand(), a.subscriberProofCommand(), a.subscriberUnsubscribeCommand())
	command.AddCommand(a.subscriberVerifyCommand(), a.subscriberEraseCommand(), a.subscriberDataCommand(), a.subscriberAccessesCommand())
	command.AddCommand(a.subscriberImportCommand(), a.subscriberExportCommand())
	return command
}

func (a *app) subscriberListCommand() *cobra.Command {
	var slug, state string
	command := &cobra.Command{
		Use:     "list",
		Short:   "List subscriptions, in the order in which readers came",
		Example: `  depesche subscriber list --newsletter morgen --state active --json`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer h.close()
			if err := a.accessed(c, h, ""); err != nil {
				return err
			}
			encoder := json.NewEncoder(a.stdout) // a line each: the list may be long
			return h.registry.List(c.Context(), subscribers.Filter{Newsletter: slug, State: subscribers.State(state)}, func(row subscribers.Row) error {
				if a.json {
					return encoder.Encode(row)
				}
				remark := ""
				if row.Disposable {
					remark = "\tthrow-away address"
				}
				_, err := fmt.Fprintf(a.stdout, "%s\t%s\t%s\t%s%s\n", clean(row.Address), row.Newsletter, row.State, strings.Join(row.Topics, ","), remark)
				return err
			})
		},
	}
	command.Flags().StringVar(&slug, "newsletter", "", "only this newsletter")
	command.Flags().StringVar(&state, "state", "", "only pending, active, unproven or ended subscriptions")
	return command
}

func (a *app) subscriberShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "show ADDRESS",
		Short:   "Show what stands about a reader",
		Example: `  depesche subscriber show leserin@example.org --json`,
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
			reader, err := h.registry.Show(c.Context(), args[0])
			if err != nil {
				return notThere(err)
			}
			return a.report(reader, func(w io.Writer) { printReader(w, reader) })
		},
	}
}

func printReader(w io.Writer, r subscribers.Reader) {
	fmt.Fprintf(w, "%s (%d), %s, since %s\n", clean(r.Address), r.ID, r.Language, r.Created.Format(time.DateTime))
	if r.Suppressed != nil {
		fmt.Fprintf(w, "  SUPPRESSED: %s, %s\n", r.Suppressed.Reason, r.Suppressed.At.Format(time.DateTime))
	}
	if r.Disposable {
		fmt.Fprintln(w, "  a throw-away address, by its domain")
	}
	for _, s := range r.Subscriptions {
		fmt.Fprintf(w, "  %s: %s, topics %s\n", s.Newsletter, s.State, strings.Join(s.Topics, ", "))
	}
}

func (a *app) subscriberUnsubscribeCommand() *cobra.Command {
	var reason string
	command := &cobra.Command{
		Use:   "unsubscribe ADDRESS",
		Short: "End all of a reader's subscriptions at once, also in a running digest",
		Long: `Ends every subscription of the reader; mail that has not left yet does not leave. With --reason letter or objection the reader
has objected by letter, phone or reply (GDPR Art. 21): the address is then suppressed and comes back only by a double opt-in
of its own.`,
		Example: `  depesche subscriber unsubscribe leserin@example.org --reason letter`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			h, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer h.close()
			how := subscribers.Channel(reason)
			if !slices.Contains([]subscribers.Channel{subscribers.ByCommand, subscribers.ByLetter, subscribers.ByObjection, subscribers.ByComplaint}, how) {
				return usageErrorf("--reason %s: expected command, letter, objection or complaint", reason)
			}
			if err := a.accessed(c, h, args[0]); err != nil {
				return err
			}
			ended, err := h.registry.UnsubscribeAddress(c.Context(), a.now(), args[0], how)
			if err != nil {
				return notThere(err)
			}
			return a.report(map[string]int{"ended": ended}, func(w io.Writer) {
				fmt.Fprintf(w, "%s ended\n", count(ended, "subscription", "subscriptions"))
			})
		},
	}
	command.Flags().StringVar(&reason, "reason", string(subscribers.ByCommand), "command, letter, objection or complaint")
	return command
}

func notThere(err error) error {
	if errors.Is(err, subscribers.ErrNotFound) {
		return usageError(err)
	}
	var address subscribers.AddressError
	if errors.As(err, &address) {
		return usageError(err)
	}
	return err
}
