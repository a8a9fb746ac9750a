package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/user"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"depesche/newsletter"
)

func (a *app) resolveCommand() *cobra.Command {
	var sent, again, everyone bool
	var reader, by string
	command := &cobra.Command{
		Use:   "resolve DIGEST",
		Short: "Settle doubtful deliveries: as sent, or to be sent again",
		Long: `A delivery is doubtful when its mail had left and the server's answer was lost: it may have arrived. Nobody is mailed twice
for that unless a person says so, or the newsletter has 'doubt: resend'. 'depesche report DIGEST' lists them; the mail server's
log says what became of them. Who decided is kept.`,
		Example: `  depesche resolve morgen/2026-02-11 --sent --all
  depesche resolve morgen/2026-02-11 --again --reader leserin@example.org`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if sent == again || everyone == (reader != "") {
				return usageErrorf("say --sent or --again, and --all or --reader; see 'depesche resolve --help'")
			}
			h, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer h.close()
			d, err := h.digest(c.Context(), args[0])
			if err != nil {
				return err
			}
			subscriber, err := h.subscriberNumber(c.Context(), reader)
			if err != nil {
				return err
			}
			decision := newsletter.WasSent
			if again {
				decision = newsletter.SendAgain
			}
			settled, err := h.newsroom.Resolve(c.Context(), a.now(), d, subscriber, decision, cmp.Or(by, a.person()))
			if errors.Is(err, newsletter.ErrNotDoubtful) {
				return usageErrorf("%s: %w", args[0], err)
			}
			if err != nil {
				return err
			}
			return a.report(map[string]any{"settled": settled, "decision": decision}, func(w io.Writer) {
				fmt.Fprintf(w, "%s: %s settled as %s\n", args[0], count(settled, "delivery", "deliveries"), decision)
			})
		},
	}
	command.Flags().BoolVar(&sent, "sent", false, "they arrived")
	command.Flags().BoolVar(&again, "again", false, "they did not: the next run sends them")
	command.Flags().BoolVar(&everyone, "all", false, "every doubtful delivery of the digest")
	command.Flags().StringVar(&reader, "reader", "", "one reader's, by address or number")
	command.Flags().StringVar(&by, "by", "", "who decided (default: the user who runs this)")
	return command
}

// person is who runs this process, for the record of a decision.
func (a *app) person() string {
	if who := a.getenv("SUDO_USER"); who != "" {
		return who
	}
	if account, err := user.Current(); err == nil {
		return account.Username
	}
	return cmp.Or(a.getenv("USER"), "unknown")
}

// subscriberNumber finds a reader by number or address; 0 for no reader.
func (h *house) subscriberNumber(ctx context.Context, reader string) (int64, error) {
	if reader == "" {
		return 0, nil
	}
	if number, err := strconv.ParseInt(reader, 10, 64); err == nil && number > 0 {
		return number, nil
	}
	if !strings.Contains(reader, "@") {
		return 0, usageErrorf("--reader: expected an address or a number")
	}
	number, err := h.registry.Find(ctx, reader)
	return number, notThere(err)
}
