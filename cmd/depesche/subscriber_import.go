package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"depesche/subscribers"
)

// importOrder is what the flags of an import say.
type importOrder struct {
	newsletter, status, zone             string
	topics, columns                      []string
	evidence, evidenceDate, evidenceFrom string
	dryRun, yes                          bool
}

func (a *app) subscriberImportCommand() *cobra.Command {
	var o importOrder
	command := &cobra.Command{
		Use:   "import FILE",
		Short: "Bring in readers from a list of another program",
		Long: `Reads a CSV file ("-": standard input) of Mailchimp, Substack, beehiiv, Ghost, listmonk or a spreadsheet: UTF-8, UTF-16 or
Windows-1252; commas, semicolons or tabs; German or English headers. --dry-run shows how it is understood and changes nothing;
at a terminal it is shown and asked for anyway, unless --yes.

Only who has evidence of consent may be mailed: a time of sign-up or confirmation, and beside it the page, the words or the network
address, in columns of the file; or the same for all rows by --evidence, --evidence-date and --evidence-source. Readers without are
kept as "unproven": nothing is ever mailed to them, nor are they asked to confirm, for that mail would itself be unlawful. They
become readers by a later import with evidence or by signing up.

Rows of those who unsubscribed, complained or bounced become suppressions, without the address. Nobody comes back by an import: who left
or is suppressed here stays so, and who reads already keeps their topics. The same file twice changes nothing. A line that cannot be
taken is named on standard error and the rest goes on.

Fields for --map column=field (the column by header or number; "column=" leaves it out):
  ` + fieldNames() + `

Exit codes: 0 done · 1 some lines were not taken, or failed · 2 the file or the order cannot be understood, nothing was done.`,
		Example: `  depesche subscriber import --dry-run mailchimp.csv
  depesche subscriber import --newsletter morgen --map 'Datum=requested' --map 'Seite=source' liste.csv
  depesche subscriber import --evidence einwilligung.txt --evidence-date 2024-05-03 --evidence-source https://talbote.example/abo liste.csv
  depesche subscriber import --status bounced cleaned.csv`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.importList(c, args[0], o)
		},
	}
	flags := command.Flags()
	flags.StringVar(&o.newsletter, "newsletter", "", "newsletter of rows that name none (default the first one)")
	flags.StringSliceVar(&o.topics, "topics", nil, "topics of rows that name none (default all)")
	flags.StringArrayVar(&o.columns, "map", nil, "column=field, where the header does not say it")
	flags.StringVar(&o.status, "status", "", "status of rows that have none: subscribed, unsubscribed, bounced, complained … (default subscribed)")
	flags.StringVar(&o.evidence, "evidence", "", "words that all agreed to: a file, or the text itself")
	flags.StringVar(&o.evidenceDate, "evidence-date", "", "day on which they did, for rows without one: YYYY-MM-DD")
	flags.StringVar(&o.evidenceFrom, "evidence-source", "", "page or form on which they did")
	flags.StringVar(&o.zone, "zone", "UTC", "zone of times that name none, for example Europe/Berlin")
	flags.BoolVar(&o.dryRun, "dry-run", false, "show how the file is understood, and change nothing")
	flags.BoolVar(&o.yes, "yes", false, "do not ask")
	return command
}

func fieldNames() string {
	var names []string
	for _, field := range subscribers.Fields {
		names = append(names, string(field))
	}
	return strings.Join(names, ", ")
}

func (a *app) importList(c *cobra.Command, path string, o importOrder) error {
	ctx := c.Context()
	h, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer h.close()
	order, err := o.read(h, a.now())
	if err != nil {
		return usageError(err)
	}
	if err := a.accessed(c, h, ""); err != nil {
		return err
	}
	file, forget, err := a.listFile(path)
	if err != nil {
		return usageError(err)
	}
	defer forget()
	sheet, err := subscribers.NewSheet(file)
	if err != nil {
		return err
	}
	broken := a.brokenLines()
	ask := !o.yes && isTerminal(a.stdin) && isTerminal(a.stderr) && path != "-"
	if o.dryRun || ask {
		preview := order
		if o.dryRun {
			preview.Problem = broken.tell
		}
		sighting, err := h.registry.Preview(ctx, a.now(), sheet, preview)
		if err != nil {
			return importError(err)
		}
		if o.dryRun {
			broken.end()
			if err := a.report(sighting, func(w io.Writer) { printSighting(w, sighting) }); err != nil {
				return err
			}
			return brokenError(sighting.Broken)
		}
		printSighting(a.stderr, sighting)
		if !a.confirmed("import them?") {
			return nil
		}
	}
	order.Problem = broken.tell
	order.Progress = a.importProgress(sheet.Size)
	done, err := h.registry.Import(ctx, a.now, sheet, order)
	broken.end()
	if err != nil {
		return importError(err)
	}
	if err := a.report(done, func(w io.Writer) { printAdmission(w, done) }); err != nil {
		return err
	}
	return brokenError(done.Broken)
}

// read makes an order for the registry of the flags.
func (o importOrder) read(h *house, now time.Time) (subscribers.Import, error) {
	i := subscribers.Import{
		Newsletter: o.newsletter, Topics: o.topics, Map: o.columns, Status: o.status, Aliases: map[string][]string{},
		Evidence: subscribers.Evidence{Source: o.evidenceFrom},
	}
	for _, topic := range h.config.Topics {
		i.Aliases[topic.Slug] = topic.Aliases
	}
	var err error
	if i.Zone, err = time.LoadLocation(o.zone); err != nil {
		return i, fmt.Errorf("--zone: %w", err)
	}
	if o.evidenceDate != "" {
		if i.Evidence.At, err = time.ParseInLocation(time.DateOnly, o.evidenceDate, i.Zone); err != nil {
			return i, fmt.Errorf("--evidence-date %s: expected YYYY-MM-DD", o.evidenceDate)
		}
		if i.Evidence.At.After(now) {
			return i, fmt.Errorf("--evidence-date %s lies in the future", o.evidenceDate)
		}
	}
	i.Evidence.Text, err = evidenceText(o.evidence)
	switch {
	case err != nil:
	case o.evidence != "" && o.evidenceFrom == "":
		err = errors.New("--evidence needs --evidence-source: where the words were shown")
	case o.evidence == "" && (o.evidenceFrom != "" || o.evidenceDate != ""):
		err = errors.New("--evidence-date and --evidence-source go with --evidence: the words that were agreed to")
	}
	return i, err
}

const maxEvidence = 20_000 // bytes

// evidenceText is the file of that name, or the text itself. What looks like the name of a file and is none is a mistake: the
// name would stand for words that nobody was shown.
func evidenceText(given string) (string, error) {
	if given == "" {
		return "", nil
	}
	text, err := os.ReadFile(given)
	if err != nil {
		if strings.Contains(strings.TrimSpace(given), " ") && len(given) <= maxEvidence {
			return given, nil
		}
		return "", fmt.Errorf("--evidence: neither a file nor a sentence: %w", err)
	}
	if len(text) > maxEvidence || len(strings.TrimSpace(string(text))) == 0 {
		return "", fmt.Errorf("--evidence %s: expected a text of at most %d bytes", given, maxEvidence)
	}
	if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
		return "", fmt.Errorf("--evidence %s: it is not UTF-8 text", given)
	}
	return string(text), nil
}

// listFile opens the list. Standard input is kept in a file that has no name any more, for it is read more than once.
func (a *app) listFile(path string) (file *os.File, forget func(), err error) {
	if path != "-" {
		file, err = os.Open(path)
		if err != nil {
			return nil, nil, fmt.Errorf("open list: %w", err)
		}
		if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
			_ = file.Close()
			return nil, nil, fmt.Errorf("open list: %s is no file; pipe it in with '-'", path)
		}
		return file, func() { _ = file.Close() }, nil
	}
	if file, err = os.CreateTemp("", "depesche-list-*"); err != nil { // mode 0600
		return nil, nil, fmt.Errorf("keep standard input: %w", err)
	}
	if err = os.Remove(file.Name()); err == nil {
		_, err = io.Copy(file, a.stdin)
	}
	if err != nil {
		_ = file.Close()
		return nil, nil, fmt.Errorf("keep standard input: %w", err)
	}
	return file, func() { _ = file.Close() }, nil
}

// confirmed asks at a terminal.
func (a *app) confirmed(question string) bool {
	fmt.Fprintf(a.stderr, "%s [y/N] ", question)
	answer, _ := bufio.NewReader(a.stdin).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes", "j", "ja":
		return true
	}
	return false
}

func importError(err error) error {
	if errors.Is(err, subscribers.ErrTable) {
		return usageError(err)
	}
	return err
}

func brokenError(n int) error {
	if n == 0 {
		return nil
	}
	return fmt.Errorf("import: %s not taken; correct them and import the file again", count(n, "line was", "lines were"))
}

// brokenLines tells the first lines that are not taken, and at the end how many more there are.
type brokenLines struct {
	w    io.Writer
	told int
}

const toldLines = 200

func (a *app) brokenLines() *brokenLines { return &brokenLines{w: a.stderr} }

func (b *brokenLines) tell(p subscribers.Problem) {
	if b.told++; b.told <= toldLines {
		fmt.Fprintln(b.w, "depesche: import:", clean(p.Error()))
	}
}

func (b *brokenLines) end() {
	if b.told > toldLines {
		fmt.Fprintf(b.w, "depesche: import: and %d more\n", b.told-toldLines)
	}
}

// importProgress shows at a terminal how much of the file was read.
func (a *app) importProgress(size int64) func(int64) {
	if !isTerminal(a.stderr) {
		return nil
	}
	bar := progressbar.NewOptions64(size, progressbar.OptionSetWriter(a.stderr), progressbar.OptionShowBytes(true),
		progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(24),
		progressbar.OptionSetDescription("import"))
	return func(read int64) { _ = bar.Set64(read) }
}

func printSighting(w io.Writer, s subscribers.Sighting) {
	names := map[string]string{",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
	fmt.Fprintf(w, "%s, fields separated by %s, %s\n", s.Encoding, names[s.Separator], count(s.Lines, "row", "rows"))
	for _, column := range s.Columns {
		field := string(column.Field)
		if field == "" {
			field = "(not used)"
		}
		fmt.Fprintf(w, "  %-24s → %s\n", clean(column.Header), field)
	}
	fmt.Fprintf(w, "%d with evidence of consent, %d without (these will not be mailed)\n", s.Proven, s.Unproven)
	for _, standing := range slices.Sorted(maps.Keys(s.Standings)) {
		fmt.Fprintf(w, "  %s: %d\n", standing, s.Standings[standing])
	}
	if s.Broken > 0 {
		fmt.Fprintf(w, "  not taken: %d\n", s.Broken)
	}
	printLabels(w, s.Labels)
	for _, line := range s.First {
		evidence := "no evidence"
		if line.Evidence {
			evidence = "evidence"
		}
		fmt.Fprintf(w, "line %d: %s, %s, %s %s, %s\n", line.Line, clean(line.Address), line.Standing, line.Newsletter, line.Topics, evidence)
	}
}

func printAdmission(w io.Writer, a subscribers.Admission) {
	if a.Changes() == 0 {
		fmt.Fprint(w, "nothing changed: ")
		if a.Seen {
			fmt.Fprint(w, "this file was imported before; ")
		}
	}
	fmt.Fprintf(w, "%s read\n", count(a.Lines, "line", "lines"))
	for _, line := range []struct {
		n    int
		text string
	}{
		{a.Active, "may be mailed now"},
		{a.Proven, "were here without evidence, and may be mailed now"},
		{a.Unproven, "came without evidence of consent, and are not mailed"},
		{a.Ended, "subscriptions ended"},
		{a.Suppressed, "suppressed: they unsubscribed, objected, complained or bounced"},
		{a.KeptOut, "kept out: they left or are suppressed here"},
		{a.Waiting, "passed over: they never confirmed there"},
		{a.Unchanged, "known already"},
		{a.Broken, "not taken"},
	} {
		if line.n > 0 {
			fmt.Fprintf(w, "  %7d %s\n", line.n, line.text)
		}
	}
	printLabels(w, a.Labels)
}

// printLabels names the labels that are no topic, the commonest first.
func printLabels(w io.Writer, labels map[string]int) {
	if len(labels) == 0 {
		return
	}
	names := slices.SortedFunc(maps.Keys(labels), func(a, b string) int {
		if n := labels[b] - labels[a]; n != 0 {
			return n
		}
		return strings.Compare(a, b)
	})
	var shown []string
	for _, name := range names[:min(len(names), 10)] {
		if !strings.Contains(name, "@") {
			shown = append(shown, clean(name))
		}
	}
	fmt.Fprintf(w, "%s no topic: %s\n", count(len(names), "label is", "labels are"), strings.Join(shown, ", "))
}
