package main

import (
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"depesche/cmd/depesche/demo"
	"depesche/subscribers"
)

// TestScripts are journeys on the command line, a file each: the living manual of what it says and how it ends.
//
// Beside testscript's own commands: `paper` writes the tests' configuration and keys; `mailbox` takes mail for the rest of the
// script; `status N command…` wants an exit status.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Vars = append(env.Vars, quickExit)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"paper": func(ts *testscript.TestScript, _ bool, _ []string) {
				ts.Check(os.WriteFile(ts.MkAbs("depesche.yaml"), []byte(townConfig), 0o600))
				ts.Check(os.MkdirAll(ts.MkAbs("wire"), 0o700))
				ts.Check(subscribers.CreateKeys(ts.MkAbs("depesche.keys")))
			},
			"mailbox": func(ts *testscript.TestScript, _ bool, _ []string) {
				mailbox, err := demo.NewMailbox("127.0.0.1:0", time.Now)
				ts.Check(err)
				ts.Defer(func() { _ = mailbox.Close() })
				host, port, err := net.SplitHostPort(mailbox.Addr())
				ts.Check(err)
				ts.Setenv("DEPESCHE_SMTP_HOST", host)
				ts.Setenv("DEPESCHE_SMTP_PORT", port)
			},
			"status": exitStatus,
			"lines": func(ts *testscript.TestScript, _ bool, args []string) {
				if got := strings.Count(ts.ReadFile(args[0]), "\n"); len(args) != 2 || args[1] != strconv.Itoa(got) {
					ts.Fatalf("%s has %d lines, want %s:\n%s", args[0], got, args[1], ts.ReadFile(args[0]))
				}
			},
		},
	})
}

// exitStatus runs `depesche` and wants this status; `stdout` and `stderr` can look at what it said.
func exitStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N command args…")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("%s ended with status %s, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}
