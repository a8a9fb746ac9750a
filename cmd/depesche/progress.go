package main

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"

	"depesche/newsletter"
)

// progress shows how far a digest is: sent, rate, time left, failures.
func progress(w io.Writer, now func() time.Time) func(newsletter.Tally, newsletter.Report) {
	var bar *progressbar.ProgressBar
	var shown string
	return func(t newsletter.Tally, r newsletter.Report) {
		name := r.Newsletter + " " + string(r.Day)
		if bar == nil || shown != name {
			shown = name
			bar = progressbar.NewOptions(r.Prepared,
				progressbar.OptionSetWriter(w), progressbar.OptionShowCount(), progressbar.OptionShowIts(),
				progressbar.OptionSetItsString("mails"), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(24))
		}
		bar.Describe(fmt.Sprintf("%s, %d failed", name, r.Failed))
		_ = bar.Set(r.Prepared - r.Due - r.Claimed)
	}
}
