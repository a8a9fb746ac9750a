package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) topicCommand() *cobra.Command {
	command := &cobra.Command{
		Use:     "topic",
		Short:   "Look at topics, and at articles nobody wanted",
		Example: `  depesche topic unmapped`,
	}
	command.AddCommand(a.topicListCommand(), a.topicUnmappedCommand())
	return command
}

func (a *app) topicListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List topics with their aliases and how many articles they got in the last seven days",
		Example: `  depesche topic list --json`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer h.close()
			articles, err := h.newsroom.Articles(c.Context(), a.now().AddDate(0, 0, -7))
			if err != nil {
				return err
			}
			counts := map[string]int{}
			for _, article := range articles {
				for _, slug := range h.newsroom.TopicsOf(article) {
					counts[slug]++
				}
			}
			type line struct {
				Slug     string   `json:"slug"`
				Name     string   `json:"name"`
				Aliases  []string `json:"aliases"`
				Articles int      `json:"articles"`
			}
			lines := []line{}
			for _, t := range h.config.Topics {
				lines = append(lines, line{t.Slug, t.Name, append([]string{}, t.Aliases...), counts[t.Slug]})
			}
			return a.report(lines, func(w io.Writer) {
				for _, l := range lines {
					fmt.Fprintf(w, "%s (%s): %s in seven days; also %s\n", l.Slug, l.Name,
						count(l.Articles, "article", "articles"), strings.Join(l.Aliases, ", "))
				}
			})
		},
	}
}

func (a *app) topicUnmappedCommand() *cobra.Command {
	days := 7
	command := &cobra.Command{
		Use:   "unmapped",
		Short: "List articles that belong to no topic, with the labels that could become aliases",
		Long: `Nothing is dropped silently: an article whose kicker and categories mean no topic is listed here. Add one of its labels to a
topic's aliases in the configuration, and it is in the next digest.`,
		Example: `  depesche topic unmapped --days 2`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer h.close()
			articles, err := h.newsroom.Unmapped(c.Context(), a.now().AddDate(0, 0, -days))
			if err != nil {
				return err
			}
			type line struct {
				ID     string   `json:"id"`
				Title  string   `json:"title"`
				Labels []string `json:"labels"`
			}
			lines := []line{}
			for _, article := range articles {
				lines = append(lines, line{article.ID, article.Title, append([]string{}, article.Labels...)})
			}
			return a.report(lines, func(w io.Writer) {
				for _, l := range lines {
					labels := strings.Join(l.Labels, ", ")
					if labels == "" {
						labels = "no label, or only ignored ones"
					}
					fmt.Fprintf(w, "%s  %s  [%s]\n", l.ID, clean(l.Title), clean(labels))
				}
			})
		},
	}
	command.Flags().IntVar(&days, "days", days, "how many days back")
	return command
}
