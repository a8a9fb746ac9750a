// Command depesche makes newsletters for newsrooms: readers sign up with provable consent, articles are grouped by topic
// into a daily digest, and each reader gets the topics they chose, each article once, by SMTP.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	_ "time/tzdata" // zones work where the system has no zone data

	"golang.org/x/term"
)

func main() {
	if os.Getenv("GOGC") == "" {
		// What lives while a digest is sent is small, the garbage of a moment is not: collecting it more often costs a few
		// hundredths of the time and saves a tenth of the memory, whatever the length of the list.
		debug.SetGCPercent(40)
	}
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
