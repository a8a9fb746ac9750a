package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) holdCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "hold DIGEST",
		Short:   "Stop a digest: what is on the wire arrives, the rest waits",
		Example: `  depesche hold morgen/2026-02-11`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			h, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer h.close()
			d, err := h.digest(c.Context(), args[0])
			if err != nil {
				return err
			}
			if err := h.newsroom.Hold(c.Context(), a.now(), d.ID); err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s is held; 'depesche release %s' lets it go on\n", args[0], args[0])
			return nil
		},
	}
}

func (a *app) releaseCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "release DIGEST",
		Short:   "Let a held digest go on; the next run sends what is left",
		Example: `  depesche release morgen/2026-02-11`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			h, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer h.close()
			d, err := h.digest(c.Context(), args[0])
			if err != nil {
				return err
			}
			if err := h.newsroom.Release(c.Context(), d.ID); err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s is released; the next 'depesche run' sends what is left\n", args[0])
			return nil
		},
	}
}
