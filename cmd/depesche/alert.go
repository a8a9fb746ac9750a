package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// alert tells a person: on stderr always, by the command and the address the configuration names where it does. The
// command comes first, for the mail needs the relay, which may be what failed.
func (a *app) alert(ctx context.Context, h *house, text string) {
	fmt.Fprintln(a.stderr, "depesche: ALERT:", clean(text))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if program := h.config.Alerts.Command; len(program) > 0 {
		command := exec.CommandContext(ctx, program[0], program[1:]...)
		command.Stdin = strings.NewReader(text + "\n")
		if out, err := command.CombinedOutput(); err != nil {
			a.warn("the alert command failed: %v: %s", err, out)
		}
	}
	if to := h.config.Alerts.Mail; to != "" {
		if err := h.newsroom.SendAlert(ctx, a.now(), to, text); err != nil {
			a.warn("the alert could not be mailed: %v", err)
		}
	}
}
