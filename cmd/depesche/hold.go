package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) holdCommand() *cobra.Command {
	var letters bool
	command := &cobra.Command{
		Use:   "hold DIGEST | --letters",
		Short: "Stop a digest, or all letters: what is on the wire arrives, the rest waits",
		Long: `Stops a digest, or with --letters every confirmation and other letter, also those of a flood of sign-ups, which would else leave
when it is over. What is on the wire arrives, the rest waits for 'depesche release'; a sign-up whose letter waits for too long is
deleted like any that was not confirmed.`,
		Example: `  depesche hold morgen/2026-02-11
  depesche hold --letters`,
		Args: digestOr(&letters),
		RunE: func(c *cobra.Command, args []string) error {
			h, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer h.close()
			if letters {
				if _, err := h.registry.HoldLetters(c.Context(), a.now()); err != nil {
					return err
				}
				fmt.Fprintln(a.stdout, "letters are held; 'depesche release --letters' lets them leave")
				return nil
			}
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
	command.Flags().BoolVar(&letters, "letters", false, "hold all letters, not a digest")
	return command
}

func (a *app) releaseCommand() *cobra.Command {
	var letters bool
	command := &cobra.Command{
		Use:   "release DIGEST | --letters",
		Short: "Let a held digest go on, or letters that wait",
		Long: `Lets a held digest go on: the next run sends what is left. With --letters, confirmations and other letters leave that an editor
held or that wait because of a flood of sign-ups; for an hour no flood stops them again.`,
		Example: `  depesche release morgen/2026-02-11
  depesche release --letters`,
		Args: digestOr(&letters),
		RunE: func(c *cobra.Command, args []string) error {
			h, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer h.close()
			if letters {
				return a.releaseLetters(c, h)
			}
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
	command.Flags().BoolVar(&letters, "letters", false, "release letters, not a digest")
	return command
}

func (a *app) releaseLetters(c *cobra.Command, h *house) error {
	held, err := h.registry.ReleaseLetters(c.Context(), a.now())
	if err != nil {
		return err
	}
	if !held {
		fmt.Fprintln(a.stdout, "letters were not held")
		return nil
	}
	fmt.Fprintln(a.stdout, "letters leave again")
	return nil
}

// digestOr wants one digest, or the flag that says it is about letters.
func digestOr(letters *bool) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if *letters == (len(args) == 0) && len(args) < 2 {
			return nil
		}
		return errors.New("expected a digest such as morgen/2026-02-11, or --letters")
	}
}
