package main

import (
	"encoding/json"
	"slices"

	"github.com/spf13/cobra"

	"depesche/subscribers"
)

func (a *app) subscriberExportCommand() *cobra.Command {
	var slug, state string
	var texts bool
	command := &cobra.Command{
		Use:   "export",
		Short: "Write the whole list as CSV, with the evidence of consent",
		Long: `Writes every subscription as CSV (with --json a line of JSON each) to standard output: UTF-8 with a mark for Excel, and an apostrophe
before what a spreadsheet would take for a formula, which an import takes away again. An import elsewhere brings the same readers
back as they were: with their topics and evidence, or as ended or suppressed. Suppressed persons whose address was never here, or was
erased, cannot be in it.`,
		Example: `  depesche subscriber export --newsletter morgen --state active >leser.csv`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			states := []subscribers.State{"", subscribers.Pending, subscribers.Active, subscribers.Unproven, subscribers.Ended}
			if !slices.Contains(states, subscribers.State(state)) {
				return usageErrorf("--state %s: expected pending, active, unproven or ended", state)
			}
			h, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer h.close()
			if err := a.accessed(c, h, ""); err != nil {
				return err
			}
			if slug != "" {
				if _, err := h.choose(slug); err != nil {
					return err
				}
			}
			filter := subscribers.Filter{Newsletter: slug, State: subscribers.State(state)}
			if a.json {
				encoder := json.NewEncoder(a.stdout)
				encoder.SetEscapeHTML(false)
				return h.registry.Export(c.Context(), filter, func(e subscribers.Entry) error { return encoder.Encode(e) })
			}
			roll := subscribers.NewRoll(a.stdout, texts)
			if err := h.registry.Export(c.Context(), filter, roll.Write); err != nil {
				return err
			}
			return roll.Close()
		},
	}
	command.Flags().StringVar(&slug, "newsletter", "", "only this newsletter")
	command.Flags().StringVar(&state, "state", "", "only pending, active, unproven or ended subscriptions")
	command.Flags().BoolVar(&texts, "texts", false, "with the words each reader agreed to")
	return command
}
