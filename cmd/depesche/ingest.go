package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"depesche/newsletter"
)

// handSource is the name of what comes by hand where no --source says otherwise.
const handSource = "hand"

func (a *app) ingestCommand() *cobra.Command {
	var sourceName string
	command := &cobra.Command{
		Use:   "ingest [FILE|DIR|URL|-]...",
		Short: "Take in articles: from the configured sources, or from files, addresses or standard input",
		Long: `Without arguments every configured source is asked. With arguments, each is read: a feed (RSS, Atom, JSON Feed), an article's
page (schema.org NewsArticle, OpenGraph), or a Markdown file with front matter; a folder gives all of them in it.

--source says whose rules hold for the arguments (rights, pictures, language). Without it they are those of the source in whose
folder the argument lies, or from whose host the article comes, or of the only source there is; anything else allows headline
and standfirst only. Taking in the same article twice adds nothing; a newer version replaces an older one.`,
		Example: `  depesche ingest
  depesche ingest --source wire artikel.html
  curl -s https://example.org/feed | depesche ingest -`,
		RunE: func(c *cobra.Command, args []string) error {
			h, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer h.close()
			harvests, err := a.ingest(c.Context(), h, sourceName, args)
			if err != nil {
				return err
			}
			return a.reportHarvests(harvests)
		},
	}
	command.Flags().StringVar(&sourceName, "source", "", "whose rules hold for the arguments")
	return command
}

func (a *app) ingest(ctx context.Context, h *house, sourceName string, args []string) ([]newsletter.Harvest, error) {
	if len(args) == 0 {
		return h.newsroom.Poll(ctx, a.now(), true)
	}
	var harvests []newsletter.Harvest
	for _, arg := range args {
		source, err := h.sourceFor(sourceName, arg)
		if err != nil {
			return harvests, err
		}
		harvest, err := a.ingestOne(ctx, h, source, arg)
		if ctx.Err() != nil {
			return harvests, ctx.Err()
		}
		if err != nil { // one broken document does not keep the others out
			harvest.Problems = append(harvest.Problems, err)
		}
		harvests = append(harvests, harvest)
	}
	return harvests, nil
}

func (a *app) ingestOne(ctx context.Context, h *house, source newsletter.Source, arg string) (newsletter.Harvest, error) {
	switch {
	case arg == "-":
		data, err := io.ReadAll(io.LimitReader(a.stdin, 10<<20+1))
		if err != nil {
			return newsletter.Harvest{}, fmt.Errorf("read standard input: %w", err)
		}
		if len(data) > 10<<20 {
			return newsletter.Harvest{}, errors.New("read standard input: it exceeds the limit of 10485760 bytes")
		}
		return h.newsroom.IngestBytes(ctx, a.now(), source, "standard input", data)
	case strings.HasPrefix(arg, "http://") || strings.HasPrefix(arg, "https://"):
		return h.newsroom.IngestURL(ctx, a.now(), source, arg)
	}
	return h.newsroom.IngestFile(ctx, a.now(), source, arg)
}

// sourceFor finds the source whose rules hold for an argument.
func (h *house) sourceFor(name, arg string) (newsletter.Source, error) {
	for _, source := range h.newsroom.Sources {
		switch {
		case name != "" && source.Name == name,
			name == "" && source.Path != "" && within(source.Path, arg),
			name == "" && source.URL != "" && source.URL == arg:
			return source, nil
		}
	}
	if name != "" {
		return newsletter.Source{}, usageErrorf("there is no source %q in %s", name, h.config.File)
	}
	if len(h.newsroom.Sources) == 1 {
		return h.newsroom.Sources[0], nil
	}
	hand := sourceOf(h.config, Source{Name: handSource, Language: h.config.Language, Rights: "teaser", MaxBytes: 10 << 20})
	hand.Guess = true
	return hand, nil
}

// reportHarvests prints what came in; something that could not be read makes the command fail after all else was.
func (a *app) reportHarvests(harvests []newsletter.Harvest) error {
	failed := 0
	for _, harvest := range harvests {
		for _, problem := range harvest.Problems {
			a.warn("%v", problem)
			failed++
		}
	}
	type line struct {
		newsletter.Harvest
		Problems []string `json:"problems"`
	}
	lines := []line{}
	for _, harvest := range harvests {
		one := line{harvest, []string{}}
		for _, problem := range harvest.Problems {
			one.Problems = append(one.Problems, problem.Error())
		}
		lines = append(lines, one)
	}
	err := a.report(lines, func(w io.Writer) {
		for _, h := range harvests {
			fmt.Fprintf(w, "%s: %d new, %d updated, %d unchanged", clean(h.Source), h.New, h.Updated, h.Unchanged)
			if h.Older > 0 {
				fmt.Fprintf(w, ", %d older than what is stored", h.Older)
			}
			fmt.Fprintln(w)
		}
	})
	if err == nil && failed > 0 {
		err = &exitError{Code: exitFailed, Err: errTold}
	}
	return err
}
