package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"depesche/newsletter"
)

// articleView is an article as the command line shows it.
type articleView struct {
	ID             string     `json:"id"`
	Source         string     `json:"source"`
	GUID           string     `json:"guid,omitempty"`
	URL            string     `json:"url"`
	Version        int64      `json:"version"`
	Title          string     `json:"title"`
	Kicker         string     `json:"kicker"`
	Teaser         string     `json:"teaser"`
	Body           string     `json:"body"`
	BodyParagraphs int        `json:"body_paragraphs"`
	BodyHeadings   []string   `json:"body_headings"`
	Language       string     `json:"language"`
	Place          string     `json:"place"`
	Agency         string     `json:"agency"`
	Author         string     `json:"author,omitempty"`
	Image          *imageView `json:"image"`
	Published      *time.Time `json:"published"`
	Updated        *time.Time `json:"updated"`
	Embargo        *time.Time `json:"embargo"`
	Available      time.Time  `json:"available"`
	Withdrawn      *time.Time `json:"withdrawn"`
	Status         string     `json:"status"`
	Urgency        int        `json:"urgency"`
	Labels         []string   `json:"labels"`
	Topics         []string   `json:"topics"`
}

type imageView struct {
	URL     string `json:"url"`
	Alt     string `json:"alt"`
	Caption string `json:"caption"`
	Credit  string `json:"credit"`
}

func viewArticle(n *newsletter.Newsroom, a newsletter.Article) articleView {
	v := articleView{
		ID: a.ID, Source: a.Source, GUID: a.GUID, URL: a.URL, Version: a.Version, Title: a.Title, Kicker: a.Kicker,
		Teaser: a.Teaser, Body: a.Body, Language: a.Language, Place: a.Place, Agency: a.Agency, Author: a.Author,
		Published: given(n.InZone(a.Published)), Updated: given(n.InZone(a.Updated)), Embargo: given(n.InZone(a.Embargo)),
		Available: n.InZone(a.Available), Withdrawn: given(n.InZone(a.Withdrawn)), Status: a.Status.String(), Urgency: a.Urgency,
		Labels: append([]string{}, a.Labels...), Topics: append([]string{}, n.TopicsOf(a)...), BodyHeadings: []string{},
	}
	if a.Picture != nil {
		v.Image = &imageView{URL: a.Picture.URL, Alt: a.Picture.Alt, Caption: a.Picture.Caption, Credit: a.Picture.Credit}
	}
	for block := range strings.SplitSeq(a.Body, "\n\n") {
		block = strings.TrimSpace(block)
		if heading := strings.TrimLeft(block, "#"); heading != block {
			v.BodyHeadings = append(v.BodyHeadings, strings.TrimSpace(heading))
		} else if block != "" {
			v.BodyParagraphs++
		}
	}
	return v
}

func given(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func (a *app) articleCommand() *cobra.Command {
	command := &cobra.Command{
		Use:     "article",
		Short:   "Look at articles, withdraw one",
		Example: `  depesche article list`,
	}
	command.AddCommand(a.articleListCommand(), a.articleShowCommand(), a.articleWithdrawCommand())
	return command
}

func (a *app) articleListCommand() *cobra.Command {
	days := 3
	command := &cobra.Command{
		Use:     "list",
		Short:   "List articles, newest first, with their topics",
		Example: `  depesche article list --days 7 --json`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer h.close()
			articles, err := h.newsroom.Articles(c.Context(), a.now().AddDate(0, 0, -days))
			if err != nil {
				return err
			}
			views := []articleView{}
			for _, article := range articles {
				views = append(views, viewArticle(h.newsroom, article))
			}
			return a.report(views, func(w io.Writer) {
				for _, v := range views {
					topics := strings.Join(v.Topics, ", ")
					if topics == "" {
						topics = "no topic"
					}
					fmt.Fprintf(w, "%s  %s  %s  [%s]\n", v.ID, v.Available.Format("2006-01-02 15:04"), clean(v.Title), clean(topics))
				}
			})
		},
	}
	command.Flags().IntVar(&days, "days", days, "how many days back")
	return command
}

func (a *app) articleShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "show [ARTICLE]",
		Short:   "Show everything about an article: by its id, its source's id or its address; by default the newest",
		Example: `  depesche article show https://example.org/politik/haushalt.html`,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			h, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer h.close()
			var article newsletter.Article
			if len(args) == 1 {
				article, err = h.newsroom.Article(c.Context(), args[0])
			} else {
				article, err = h.newsroom.NewestArticle(c.Context())
			}
			if errors.Is(err, newsletter.ErrNoArticle) {
				return usageError(err)
			}
			if err != nil {
				return err
			}
			v := viewArticle(h.newsroom, article)
			return a.report(v, func(w io.Writer) { printArticle(w, v) })
		},
	}
}

func printArticle(w io.Writer, v articleView) {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%-10s %s\n", name, clean(value))
		}
	}
	line("id", v.ID)
	line("source", v.Source)
	line("address", v.URL)
	line("kicker", v.Kicker)
	line("title", v.Title)
	line("teaser", v.Teaser)
	line("dateline", strings.TrimSpace(v.Place+" "+v.Agency))
	line("author", v.Author)
	if v.Published != nil {
		line("published", v.Published.Format(time.RFC3339))
	}
	if v.Embargo != nil {
		line("embargo", v.Embargo.Format(time.RFC3339))
	}
	line("status", v.Status)
	if v.Withdrawn != nil {
		line("withdrawn", v.Withdrawn.Format(time.RFC3339))
	}
	line("labels", strings.Join(v.Labels, ", "))
	line("topics", strings.Join(v.Topics, ", "))
	if v.Image != nil {
		line("picture", v.Image.URL)
		line("caption", v.Image.Caption)
		line("credit", v.Image.Credit)
	}
	if v.Body != "" {
		fmt.Fprintln(w)
		for text := range strings.SplitSeq(v.Body, "\n") {
			fmt.Fprintln(w, clean(text))
		}
	}
}

func (a *app) articleWithdrawCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "withdraw ARTICLE",
		Short: "Take an article out of everything that has not left the house",
		Long: `The article enters no digest any more, and a digest that is being sent goes on without it: the rest of its readers get a new
revision. The command says how many readers have it already.`,
		Example: `  depesche article withdraw qf3k2m7bza`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			h, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer h.close()
			article, err := h.newsroom.Article(c.Context(), args[0])
			if errors.Is(err, newsletter.ErrNoArticle) {
				return usageError(err)
			}
			if err != nil {
				return err
			}
			reached, err := h.newsroom.Withdraw(c.Context(), a.now(), article.ID)
			if err != nil {
				return err
			}
			return a.report(map[string]any{"id": article.ID, "reached": reached}, func(w io.Writer) {
				fmt.Fprintf(w, "withdrawn: %s (%s have it already)\n", clean(article.Title), count(reached, "reader", "readers"))
			})
		},
	}
}
