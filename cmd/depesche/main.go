// Command depesche makes newsletters for newsrooms: readers sign up with provable consent, articles are grouped by topic
// into a daily digest, and each reader gets the topics they chose, each article once, by SMTP.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // zones work where the system has no zone data

	"golang.org/x/term"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// run is depesche without the process around it: arguments in, exit status out.
func run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{environ: environ, stdin: stdin, stdout: stdout, stderr: stderr}
	command := a.command()
	command.SetArgs(args)
	err := command.ExecuteContext(ctx)
	a.complain(err)
	return exitCode(err)
}

// isTerminal says whether progress and questions have somebody to see them.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
