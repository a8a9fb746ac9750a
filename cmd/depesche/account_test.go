package main

import (
	"encoding/json"
	"errors"
	"os/exec"
	"strings"

	"depesche/newsletter"
	"depesche/subscribers"
)

// account is what `depesche report --json` says of a digest.
type account struct {
	newsletter.Report
	Troubles []newsletter.Trouble
}

// account asks for the account of the one digest there is, with everybody in trouble.
func (n *town) account(now string) account {
	n.t.Helper()
	out, _ := n.depesche(now, 0, "report", "--json", "--troubles", "1000000")
	var accounts []account
	if err := json.Unmarshal([]byte(out), &accounts); err != nil || len(accounts) != 1 {
		n.t.Fatalf("report: %v\n%.1000s", err, out)
	}
	return accounts[0]
}

// mailable counts the newsletter's readers as `depesche status` does. Its exit status tells of doubtful deliveries, too.
func (n *town) mailable() int {
	n.t.Helper()
	command := n.command(runAt, "status", "--json")
	out, err := command.Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != exitHuman) {
		n.t.Fatalf("status: %v", err)
	}
	var s status
	if err := json.Unmarshal(out, &s); err != nil || len(s.Newsletters) != 1 {
		n.t.Fatalf("status: %v\n%s", err, out)
	}
	return s.Newsletters[0].Readers
}

// suppressed are the addresses that must not be mailed any more, in the order in which the readers came.
func (n *town) suppressed() (addresses []string) {
	n.t.Helper()
	out, _ := n.depesche(runAt, 0, "subscriber", "list", "--json")
	decoder := json.NewDecoder(strings.NewReader(out))
	for decoder.More() {
		var row subscribers.Row
		if err := decoder.Decode(&row); err != nil {
			n.t.Fatal(err)
		}
		if row.Suppressed == subscribers.Bounced {
			addresses = append(addresses, row.Address)
		}
	}
	return addresses
}
