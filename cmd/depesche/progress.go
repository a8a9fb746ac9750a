package main

import (
	"fmt"
	"io"

	"github.com/schollz/progressbar/v3"

	"depesche/newsletter"
)

// progress shows how far a digest is: sent, rate, time left, failures.
func progress(w io.Writer) func(newsletter.Progress) {
	var bar *progressbar.ProgressBar
	var shown string
	return func(p newsletter.Progress) {
		name := p.Newsletter + " " + string(p.Day)
		if bar == nil || shown != name {
			shown = name
			bar = progressbar.NewOptions(p.Prepared,
				progressbar.OptionSetWriter(w), progressbar.OptionShowCount(), progressbar.OptionShowIts(),
				progressbar.OptionSetItsString("mails"), progressbar.OptionSetPredictTime(true),
				progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(24))
		}
		bar.Describe(fmt.Sprintf("%s, %d failed, %d later", name, p.Tally.Failed, p.Tally.Later))
		_ = bar.Set(p.Prepared - p.Left)
	}
}
