package smtp

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	var (
		sent     = Outcome{Verdict: Sent}
		failed   = Outcome{Verdict: Failed}
		dead     = Outcome{Verdict: Failed, Suppress: true}
		later    = Outcome{Verdict: Later}
		again    = Outcome{Verdict: Again}
		confused = Outcome{Verdict: Again, Pause: true}
		doubtful = Outcome{Verdict: Doubtful}
		ours     = Outcome{Verdict: Ours, Pause: true}
	)
	tests := []struct {
		phase Phase
		reply string // as on the wire, "" for none
		want  Outcome
	}{
		// Taken.
		{PhaseDot, "250 2.0.0 Ok: queued as 4XyZ", sent},
		{PhaseDot, "250 ok", sent},
		{PhaseDot, "250", sent},
		{PhaseDot, "251 forwarding", sent},
		{PhaseDot, "252 will try", sent},

		// No answer.
		{PhaseConnect, "", again},
		{PhaseGreeting, "", again},
		{PhaseMail, "", again},
		{PhaseRcpt, "", again},
		{PhaseData, "", again},
		{PhaseContent, "", again},
		{PhaseDot, "", doubtful},

		// Positive, but not what was asked for: out of step.
		{PhaseMail, "354 go on", confused},
		{PhaseRcpt, "354 go on", confused},
		{PhaseData, "250 ok", confused},
		{PhaseDot, "354 go on", doubtful},

		// The mailbox is dead.
		{PhaseRcpt, "550 5.1.1 no such user", dead},
		{PhaseRcpt, "550 5.1.2 no such domain", dead},
		{PhaseRcpt, "553 5.1.3 bad address", dead},
		{PhaseRcpt, "501 5.1.3 Bad recipient address syntax", dead},
		{PhaseRcpt, "551 5.1.6 moved", dead},
		{PhaseRcpt, "556 5.1.10 null MX", dead},
		{PhaseRcpt, "550 5.1.10 null MX", dead},
		{PhaseRcpt, "556 the domain takes no mail", dead},
		{PhaseRcpt, "550 5.2.1 The account is disabled", dead},
		{PhaseRcpt, "550 5.2.1 corporate account closed", dead},
		{PhaseData, "550 5.1.1 no such user", dead},
		{PhaseDot, "550 5.1.1 no such user", dead},

		// 5.2.1 that is not about the mailbox.
		{PhaseRcpt, "550 5.2.1 The user is receiving mail at a rate that prevents delivery", failed},
		{PhaseRcpt, "550 5.2.1 too many messages", failed},
		{PhaseRcpt, "550 5.2.1 rejected by content filter", failed},
		{PhaseRcpt, "550 5.2.1 Blocked by policy", failed},

		// Unknown is never permanent for the reader.
		{PhaseRcpt, "550 no such user", failed},
		{PhaseRcpt, "550 user unknown", failed},
		{PhaseRcpt, "551 user not local", failed},
		{PhaseRcpt, "553 mailbox name not allowed", failed},
		{PhaseRcpt, "554 transaction failed", failed},
		{PhaseDot, "554 This user doesn't have an account", failed},
		{PhaseRcpt, "550", failed},
		{PhaseRcpt, "550 5.0.0 rejected", failed},
		{PhaseRcpt, "550 5.1.0 address rejected", failed},
		{PhaseRcpt, "550 5.1.4 ambiguous", failed},
		{PhaseRcpt, "550 5.1.11 of the future", failed},
		{PhaseRcpt, "550 5.2.0 mailbox", failed},
		{PhaseRcpt, "550 5.3.0 system", failed},
		{PhaseRcpt, "550 5.4.1 Recipient address rejected: Access denied", failed},
		{PhaseRcpt, "554 5.4.6 loop", failed},
		{PhaseRcpt, "550 5.5.0 Requested action not taken: mailbox unavailable", failed},
		{PhaseRcpt, "550 5.9.9 nobody knows", failed},
		{PhaseRcpt, "550 4.1.1 classes disagree", failed},
		{PhaseRcpt, "599 out of range", again}, // not a reply at all

		// The mailbox is full.
		{PhaseRcpt, "552 5.2.2 over quota", later},
		{PhaseDot, "552 5.2.2 over quota", later},
		{PhaseDot, "554 5.2.2 mailbox full", later},
		{PhaseRcpt, "552 too many recipients", later},
		{PhaseRcpt, "452 4.2.2 over quota", later},

		// The message is at fault.
		{PhaseMail, "552 5.3.4 message too big", failed},
		{PhaseMail, "552 message too big", failed},
		{PhaseDot, "552 5.3.4 message too big", failed},
		{PhaseDot, "552 message too big", failed},
		{PhaseRcpt, "552 5.2.3 too big for this mailbox", failed},
		{PhaseDot, "554 5.6.0 cannot parse", failed},
		{PhaseMail, "553 5.6.7 SMTPUTF8 required", failed},

		// We are at fault.
		{PhaseMail, "550 5.1.7 bad sender address", ours},
		{PhaseMail, "501 5.1.7 bad sender address syntax", ours},
		{PhaseRcpt, "550 5.1.8 sender's domain", ours},
		{PhaseRcpt, "450 4.1.8 Sender address rejected: Domain not found", ours},
		{PhaseMail, "550 5.1.1 unknown", ours},
		{PhaseMail, "556 5.1.10 your domain has a null MX", ours},
		{PhaseMail, "550 rejected", ours},
		{PhaseMail, "553 sender not allowed", ours},
		{PhaseMail, "554 no", ours},
		{PhaseRcpt, "550 5.7.1 relaying denied", ours},
		{PhaseRcpt, "554 5.7.1 Relay access denied", ours},
		{PhaseRcpt, "550 relaying denied", ours},
		{PhaseRcpt, "553 we do not relay: not permitted", ours},
		{PhaseRcpt, "550 Authentication is required to send", ours},
		{PhaseDot, "550 5.7.26 unauthenticated sender", ours},
		{PhaseDot, "550 5.7.515 Access denied, sending domain fails authentication", ours},
		{PhaseDot, "550 5.7.1 spam", ours},
		{PhaseMail, "530 5.7.0 must issue STARTTLS first", ours},
		{PhaseMail, "530 5.5.1 Authentication Required", ours},
		{PhaseMail, "530 authentication needed", ours},
		{PhaseMail, "535 5.7.8 credentials invalid", ours},
		{PhaseMail, "538 encryption required", ours},
		{PhaseMail, "502 5.7.0 Please authenticate first", ours},
		{PhaseRcpt, "521 5.3.2 host accepts no mail", ours},
		{PhaseMail, "421 4.7.28 unusual rate", ours},
		{PhaseDot, "421 4.7.28 unusual rate", ours},
		{PhaseRcpt, "450 4.7.25 no PTR record", ours},
		{PhaseRcpt, "450 4.7.1 Client host rejected: cannot find your hostname", ours},
		{PhaseRcpt, "451 4.7.650 temporarily rate limited due to IP reputation", ours},
		{PhaseRcpt, "454 4.7.1 Relay access denied", ours},

		// Greylisting is not a judgement of us.
		{PhaseRcpt, "450 4.7.1 Greylisted, see https://postgrey.example", later},
		{PhaseRcpt, "451 4.7.1 Please try again later", later},
		{PhaseRcpt, "450 4.2.0 Greylisted", later},
		{PhaseDot, "451 4.7.0 Graylisting in action", later},
		{PhaseRcpt, "451 greylisted", later},
		{PhaseRcpt, "421 4.7.1 try again later", ours},
		{PhaseRcpt, "451 4.7.500 Server busy. Please try again later", ours},

		// Later.
		{PhaseMail, "451 local error", later},
		{PhaseMail, "452 4.3.1 insufficient storage", later},
		{PhaseRcpt, "450 mailbox busy", later},
		{PhaseRcpt, "450 4.1.1 not known yet", later},
		{PhaseRcpt, "451 4.3.0 queue", later},
		{PhaseRcpt, "452 4.5.3 too many recipients", later},
		{PhaseData, "451 4.3.0 no", later},
		{PhaseDot, "451 4.4.1 timeout", later},
		{PhaseDot, "450 5.1.1 classes disagree", later},

		// The service closes.
		{PhaseMail, "421 closing", again},
		{PhaseRcpt, "421 4.3.2 shutting down", again},
		{PhaseData, "421 4.4.2 timeout", again},
		{PhaseDot, "421 4.3.0 closing", again},

		// It does not understand us.
		{PhaseMail, "500 what?", confused},
		{PhaseMail, "501 syntax", confused},
		{PhaseMail, "502 5.5.1 not implemented", confused},
		{PhaseMail, "503 sender already specified", confused},
		{PhaseMail, "503 5.5.0 order", confused},
		{PhaseMail, "555 5.5.4 unsupported option", confused},
		{PhaseRcpt, "501 syntax", confused},
		{PhaseRcpt, "503 5.5.1 need MAIL", confused},
		{PhaseData, "503 no valid recipients", confused},
		{PhaseData, "554 5.5.1 no valid recipients", confused},
		{PhaseDot, "500 5.5.2 line too long", confused},

		// Before any message.
		{PhaseGreeting, "421 too busy", again},
		{PhaseGreeting, "421 4.7.0 too many connections", again},
		{PhaseGreeting, "421 4.7.28 unusual rate", ours},
		{PhaseGreeting, "554 no service", ours},
		{PhaseHello, "550 who?", ours},
		{PhaseSTARTTLS, "454 4.7.0 not now", again},
		{PhaseAuth, "454 4.7.0 not now", again},
		{PhaseAuth, "535 5.7.8 wrong", ours},
	}
	for _, test := range tests {
		reply := Reply{Phase: test.phase, Err: io.ErrUnexpectedEOF}
		if code, text, more, ok := splitLine(test.reply); ok && !more {
			reply = newReply(test.phase, code, []string{text})
		}
		if got := Judge(reply); got != test.want {
			t.Errorf("Judge(%s: %q) = %+v, want %+v", test.phase, test.reply, got, test.want)
		}
	}
}

func TestJudgeIgnoresContradictingCodes(t *testing.T) {
	tests := []struct {
		reply Reply
		want  Verdict
	}{
		{Reply{Phase: PhaseRcpt, Code: 450, Enhanced: "5.1.1"}, Later},
		{Reply{Phase: PhaseDot, Code: 250, Enhanced: "5.1.1"}, Sent},
		{Reply{Phase: PhaseRcpt, Code: 700, Enhanced: "7.1.1"}, Again},
		{Reply{Phase: PhaseContent, Err: ErrSkip}, Again},
		{Reply{Phase: PhaseContent, Err: errors.New("disk full")}, Again},
	}
	for _, test := range tests {
		got := Judge(test.reply)
		if got.Verdict != test.want || got.Suppress {
			t.Errorf("Judge(%+v) = %+v, want %s", test.reply, got, test.want)
		}
	}
}

// What must hold of every code in every phase.
func TestJudgeAllCodes(t *testing.T) {
	phases := []Phase{
		PhaseConnect, PhaseGreeting, PhaseHello, PhaseSTARTTLS, PhaseAuth,
		PhaseMail, PhaseRcpt, PhaseData, PhaseContent, PhaseDot, PhaseQuit,
	}
	hard := map[string]bool{"5.1.1": true, "5.1.2": true, "5.1.3": true, "5.1.6": true, "5.1.10": true, "5.2.1": true}
	for _, phase := range phases {
		for code := range 600 {
			for _, enhanced := range someEnhanced(code / 100) {
				r := Reply{Phase: phase, Code: code, Enhanced: enhanced}
				got := Judge(r)
				switch {
				case got.Verdict == "":
					t.Errorf("%+v: no verdict", r)
				case got.Suppress && !hard[enhanced] && code != 556:
					t.Errorf("%+v: suppressed", r)
				case got.Suppress && (code < 500 || phase == PhaseMail || got.Verdict != Failed):
					t.Errorf("%+v: suppressed in vain", r)
				case (got.Verdict == Sent) != (phase == PhaseDot && code/100 == 2):
					t.Errorf("%+v: %s", r, got.Verdict)
				case got.Verdict == Doubtful && (phase != PhaseDot || code >= 400):
					t.Errorf("%+v: doubtful", r)
				case (got.Verdict == Ours) && !got.Pause:
					t.Errorf("%+v: our fault, and nobody is told", r)
				case subject(enhanced) == "7" && code >= 500 && got.Verdict != Ours:
					t.Errorf("%+v: policy is %s", r, got.Verdict)
				}
			}
		}
	}
}

func someEnhanced(class int) []string {
	codes := []string{""}
	for s := range 8 {
		for _, d := range strings.Fields("0 1 2 3 4 6 7 8 10") {
			codes = append(codes, fmt.Sprintf("%d.%d.%s", class, s, d))
		}
	}
	return codes
}
