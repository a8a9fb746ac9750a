package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"depesche/subscribers"
)

func (a *app) subscriberProofCommand() *cobra.Command {
	var language string
	command := &cobra.Command{
		Use:   "proof ADDRESS",
		Short: "Print everything a reader declared, with the words they were shown",
		Long: `Prints, as one HTML page that needs nothing else, every consent event of a person: when, what, on which page, with which words,
what was mailed and how the server answered. The words are those that were shown then, whatever the templates say now. After an
erasure it says so, and what is left. --json gives the same as data.`,
		Example: `  depesche subscriber proof leserin@example.org > nachweis.html
  depesche subscriber proof leserin@example.org --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			h, err := a.openAbout(c, args[0], language)
			if err != nil {
				return err
			}
			defer h.close()
			if _, err := h.sealLedger(c.Context(), a.now()); err != nil {
				return err
			}
			proof, err := h.registry.Proof(c.Context(), args[0])
			if err != nil {
				return notThere(err)
			}
			proof.Printed = a.now().UTC()
			page, err := h.registry.ProofPage(proof, language, h.zone())
			if err != nil {
				return err
			}
			return a.reportPage(proof, page)
		},
	}
	command.Flags().StringVar(&language, "language", "", "de or en (default: the reader's)")
	return command
}

func (a *app) subscriberDataCommand() *cobra.Command {
	var language string
	command := &cobra.Command{
		Use:   "data ADDRESS",
		Short: "Print everything that is kept about a reader (GDPR Art. 15 and 20)",
		Long: `Prints, as one HTML page, what is kept about a person, what for, how long and who receives it: subscriptions, consent events,
letters, deliveries. --json gives the same for machines, with the record of who in the house looked at it. Give it only to the
person themselves: send it to the address it is about.`,
		Example: `  depesche subscriber data leserin@example.org > auskunft.html
  depesche subscriber data leserin@example.org --json > auskunft.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			h, err := a.openAbout(c, args[0], language)
			if err != nil {
				return err
			}
			defer h.close()
			data, err := h.personalData(c.Context(), a.now(), args[0])
			if err != nil {
				return notThere(err)
			}
			page, err := h.registry.DataPage(data, language, h.zone())
			if err != nil {
				return err
			}
			return a.reportPage(data, page)
		},
	}
	command.Flags().StringVar(&language, "language", "", "de or en (default: the reader's)")
	return command
}

// personalData is everything that is kept about a reader, in every room.
func (h *house) personalData(ctx context.Context, now time.Time, address string) (subscribers.PersonalData, error) {
	data, err := h.registry.PersonalData(ctx, now, address)
	if err != nil {
		return data, err
	}
	data.Relay = h.config.SMTP.Host
	if data.Reader != nil {
		data.Deliveries, err = h.newsroom.DeliveriesTo(ctx, data.Reader.ID)
	}
	return data, err
}

// openAbout opens the house for a look at one reader and writes down that there was one.
func (a *app) openAbout(c *cobra.Command, address, language string) (*house, error) {
	if language != "" && language != "de" && language != "en" {
		return nil, usageErrorf("--language %s: expected de or en", language)
	}
	h, err := a.open(c.Context())
	if err != nil {
		return nil, err
	}
	if err := a.accessed(c, h, address); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

// zone is where the paper's clock hangs.
func (h *house) zone() *time.Location {
	if len(h.newsroom.Newsletters) == 0 {
		return time.UTC
	}
	return h.newsroom.Newsletters[0].Zone
}

// reportPage prints value as JSON where --json asks for it, otherwise the page.
func (a *app) reportPage(value any, page []byte) error {
	if a.json {
		return a.report(value, nil)
	}
	if _, err := a.stdout.Write(page); err != nil {
		return fmt.Errorf("print page: %w", err)
	}
	return nil
}
