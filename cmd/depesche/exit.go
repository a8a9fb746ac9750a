package main

import (
	"errors"
	"fmt"
)

// What depesche's exit status says to a timer, a script or a person. 3 is left free.
const (
	exitDone    = 0 // done, nothing due, another run at work, or rows waiting for a retry
	exitFailed  = 1 // failed
	exitUsage   = 2 // the command line or the configuration is wrong
	exitRefused = 4 // the mail server refuses us: TLS, AUTH, policy
	exitLate    = 5 // the latest time passed with deliveries expired or doubtful
	exitHuman   = 6 // held, too late or stale: a human is needed
)

// exitError is an error that knows the status the process ends with.
type exitError struct {
	Code int
	Err  error
}

func (e *exitError) Error() string { return e.Err.Error() }
func (e *exitError) Unwrap() error { return e.Err }

// usageError marks err as the fault of the command line or the configuration.
func usageError(err error) error { return &exitError{Code: exitUsage, Err: err} }

// usageErrorf is usageError with a text of its own.
func usageErrorf(format string, args ...any) error { return usageError(fmt.Errorf(format, args...)) }

// exitCode is the status for err: 0 for none, its own where it has one, otherwise 1.
//
// It asks for our own type and not for an ExitCode method: the error of a program that was run has one, too, and an alert
// command that ends with 5 must not look like a digest that came too late.
func exitCode(err error) int {
	var coded *exitError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &coded):
		return coded.Code
	default:
		return exitFailed
	}
}
