package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"depesche/newsletter"
	"depesche/newsletter/render"
)

func (a *app) previewCommand() *cobra.Command {
	var slug, date, as string
	var topics []string
	command := &cobra.Command{
		Use:   "preview",
		Short: "Show a digest as a reader would get it, without storing or sending anything",
		Long: `Prints the digest of a day: the one that was composed, or, if none was, the one that would be composed now. The links that
would be personal belong to nobody.`,
		Example: `  depesche preview --as html > morgen.html
  depesche preview --topics sport,kultur --as text`,
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
			day := newsletter.DayOf(a.now(), n.Zone)
			if date != "" {
				if day, err = newsletter.ParseDay(date); err != nil {
					return usageError(err)
				}
			}
			body, message, problems, err := h.newsroom.Preview(c.Context(), a.now(), n, day, topics)
			for _, problem := range problems {
				a.warn("%v", problem)
			}
			if errors.Is(err, newsletter.ErrNothingLeft) {
				fmt.Fprintln(a.stderr, "there is no news for these topics: nothing would be sent")
				return nil
			}
			if err != nil {
				return err
			}
			return a.show(body, message, as)
		},
	}
	command.Flags().StringVar(&slug, "newsletter", "", "which newsletter, if there are several")
	command.Flags().StringVar(&date, "date", "", "the digest of this day (YYYY-MM-DD), default today")
	command.Flags().StringSliceVar(&topics, "topics", nil, "a reader's topics, default all")
	command.Flags().StringVar(&as, "as", "text", "html, text or eml")
	return command
}

func (a *app) show(body render.Body, message *render.Message, as string) error {
	nobody := newsletter.Nobody("leserin@example.org", a.now())
	body, err := body.With(nobody)
	if err != nil {
		return err
	}
	var out []byte
	switch as {
	case "html":
		out = []byte(body.HTML)
	case "text":
		out = []byte(body.Text)
	case "eml":
		out, err = message.Splice(nil, &nobody)
	default:
		err = usageErrorf("--as %s: expected html, text or eml", as)
	}
	if err != nil {
		return err
	}
	_, err = a.stdout.Write(out)
	return err
}
