package smtp

import (
	"regexp"
	"strings"
)

// Verdict is what becomes of the message.
type Verdict string

// The verdicts.
const (
	Sent     Verdict = "sent"     // the server has taken responsibility for the message
	Failed   Verdict = "failed"   // refused for good: this message is not tried again
	Later    Verdict = "later"    // refused for now: try again after a while, and count it
	Again    Verdict = "again"    // nothing was said about this message: due again, not counted
	Doubtful Verdict = "doubtful" // all of it left and no answer came: it may have been accepted
	Ours     Verdict = "ours"     // we are refused, not the reader: due again, not counted
)

// Outcome is what follows from a reply.
type Outcome struct {
	Verdict Verdict
	// Suppress: the mailbox does not exist. Never mail to this address again. Only with Failed.
	Suppress bool
	// Pause: the next message would fare no better. Stop sending and alert somebody.
	Pause bool
}

// Judge decides what follows from a reply to a message. It looks at nothing else: the same reply always has the same
// outcome.
//
// The guiding rule is that unknown is never permanent for a reader: an address is suppressed only where the server
// says by an enhanced code (RFC 3463) that the mailbox does not exist. A reply whose Err wraps ErrSkip is judged like
// any other that never came; whoever returned ErrSkip knows better.
func Judge(r Reply) Outcome {
	if !strings.HasPrefix(r.Enhanced, string(rune('0'+r.Code/100))+".") {
		r.Enhanced = "" // RFC 2034 §4: the classes must agree; a code that contradicts the reply says nothing
	}
	switch class := r.Code / 100; {
	case class == 2 && r.Phase == PhaseDot:
		return Outcome{Verdict: Sent} // RFC 5321 §4.2.5: the server is responsible from here on
	case class == 4 && dialling(r.Phase):
		return judgeDialling(r)
	case class == 5 && dialling(r.Phase):
		return Outcome{Verdict: Ours, Pause: true} // no reader has been named yet
	case class == 4:
		return judgeTransient(r)
	case class == 5 && r.Phase == PhaseMail:
		return judgeSender(r)
	case class == 5:
		return judgePermanent(r)
	}
	return judgeSilence(r)
}

func dialling(p Phase) bool {
	switch p {
	case PhaseConnect, PhaseGreeting, PhaseHello, PhaseSTARTTLS, PhaseAuth, PhaseQuit:
		return true
	}
	return false
}

// judgeSilence judges what is no answer: none at all, garbage, or a positive reply where none is due.
func judgeSilence(r Reply) Outcome {
	if r.Phase == PhaseDot {
		// RFC 1047, RFC 5321 §6.1: the server may have accepted it before the connection broke.
		return Outcome{Verdict: Doubtful}
	}
	// RFC 5321 §3.8: lost before the final dot, the server must not have acted on it. A "go on" that we could not go
	// on from (say 250 to DATA) means that server and session are out of step, which somebody should look at.
	return Outcome{Verdict: Again, Pause: r.Code != 0}
}

// judgeDialling judges 4yz before any message: the relay is away (421 as a greeting, RFC 5321 §3.1; 454 to AUTH,
// RFC 4954 §4.7.0), which costs no reader an attempt.
func judgeDialling(r Reply) Outcome {
	if r.Enhanced == "4.7.28" {
		// Gmail's "unusual rate of mail from you": dialling again at once makes it worse.
		return Outcome{Verdict: Ours, Pause: true}
	}
	return Outcome{Verdict: Again}
}

// judgeTransient judges 4yz within a transaction (RFC 5321 §4.2.1: "the action may be requested again").
func judgeTransient(r Reply) Outcome {
	switch {
	case greylisted(r):
		return Outcome{Verdict: Later} // RFC 6647 §2: nothing but time is asked for
	case subject(r.Enhanced) == "7":
		// RFC 3463 §3.8 and the large providers: policy, reputation, authentication, quota of the sender.
		return Outcome{Verdict: Ours, Pause: true}
	case r.Enhanced == "4.1.7" || r.Enhanced == "4.1.8":
		return Outcome{Verdict: Ours, Pause: true} // RFC 3463 §3.2: our envelope sender's address, or its domain in DNS
	case r.Code == 421:
		return Outcome{Verdict: Again} // RFC 5321 §3.8: the service closes; it says nothing about the message
	}
	return Outcome{Verdict: Later}
}

// greylisted tells greylisting from the policy refusals that share its codes. RFC 6647 §3 knows no code for it;
// Postfix's postgrey and its kin answer 450 or 451 4.7.1, or say the word.
func greylisted(r Reply) bool {
	if r.Code != 450 && r.Code != 451 {
		return false
	}
	return greylist.MatchString(r.Text) || r.Enhanced == "4.7.1" && patience.MatchString(r.Text)
}

var (
	greylist = regexp.MustCompile(`(?i)gr[ae]y[- ]?list`)
	patience = regexp.MustCompile(`(?i)\btry (again|later)`)
)

// judgeSender judges 5yz to MAIL. RCPT has not been sent: whatever the code says, it cannot be about the reader.
func judgeSender(r Reply) Outcome {
	switch {
	case ofSender(r):
		return Outcome{Verdict: Ours, Pause: true}
	case ofMessage(r) || r.Code == 552 && r.Enhanced == "":
		return Outcome{Verdict: Failed} // RFC 1870 §6.1: 552 to MAIL with SIZE, too big for this server
	case outOfStep(r):
		return Outcome{Verdict: Again, Pause: true}
	}
	return Outcome{Verdict: Ours, Pause: true}
}

// judgePermanent judges 5yz to RCPT, DATA and the final dot.
func judgePermanent(r Reply) Outcome {
	switch {
	case ofSender(r):
		return Outcome{Verdict: Ours, Pause: true}
	case ofMessage(r):
		return Outcome{Verdict: Failed}
	case outOfStep(r):
		return Outcome{Verdict: Again, Pause: true}
	case noMailbox(r):
		return Outcome{Verdict: Failed, Suppress: true}
	case mailboxFull(r):
		return Outcome{Verdict: Later}
	}
	// 550, 551, 553, 554 without a code, "user unknown" in words, 5.1.0, 5.2.0, 5.4.x and whatever comes: the server
	// will not have this message (RFC 5321 §4.2.1: do not repeat it), but tomorrow's may pass.
	return Outcome{Verdict: Failed}
}

// relaying are the words with which a server that gives no enhanced code says that it does not know us. Every reader
// would be refused like this.
var relaying = regexp.MustCompile(`(?i)\brelay(ing)?\b.*\b(denied|prohibited|not (permitted|allowed))\b` +
	`|\bauthentication (is )?required\b`)

// ofSender: who is refused is us.
func ofSender(r Reply) bool {
	switch r.Code {
	case 530, 534, 535, 538: // RFC 4954 §6: authentication
		return true
	case 521: // RFC 7504 §3: the host accepts no mail, from nobody
		return true
	}
	switch r.Enhanced {
	case "5.1.7", "5.1.8": // RFC 3463 §3.2: bad *sender's* address, its syntax or system
		return true
	case "", "5.0.0":
		return relaying.MatchString(r.Text)
	}
	// RFC 3463 §3.8: security or policy. With the large providers that is SPF, DKIM, DMARC, reputation (550 5.7.26 of
	// Gmail, 550 5.7.515 of Microsoft). A reader must not lose a subscription for it.
	return subject(r.Enhanced) == "7"
}

// ofMessage: the message is refused, not the mailbox.
func ofMessage(r Reply) bool {
	switch r.Enhanced {
	case "5.3.4", "5.2.3": // RFC 3463 §3.4, §3.3: too big for the system, or for this mailbox
		return true
	}
	return subject(r.Enhanced) == "6" // RFC 3463 §3.7: content or media, and RFC 6531 §3.5 (5.6.7)
}

// outOfStep: the server did not understand the dialogue (RFC 5321 §4.2.2). That is no verdict about a message: taken
// for a failure it would lose every reader at once. An enhanced code that knows better (501 5.1.3) goes first.
func outOfStep(r Reply) bool {
	switch r.Enhanced {
	case "5.5.1", "5.5.2", "5.5.4", "5.5.5": // RFC 3463 §3.6: command, syntax, arguments, version
		return true
	case "", "5.0.0", "5.5.0": // 550 5.5.0 is Outlook's "mailbox unavailable": here the code decides
		return 500 <= r.Code && r.Code <= 504 || r.Code == 555
	}
	return false
}

// noMailbox: the address is dead. The list is short on purpose; it is what RFC 3463 calls permanent about the
// recipient's address and nothing that servers also use for other things.
func noMailbox(r Reply) bool {
	switch r.Enhanced {
	case "5.1.1", // §3.2: no such mailbox
		"5.1.2",  // no such domain
		"5.1.3",  // an address that cannot be
		"5.1.6",  // moved, no forwarding
		"5.1.10": // RFC 7505 §4.2: the domain has a null MX
		return true
	case "5.2.1":
		// §3.3: mailbox disabled. Gmail also says it of mailboxes that just receive too much, others of filters.
		return !throttled.MatchString(r.Text)
	case "", "5.0.0":
		return r.Code == 556 // RFC 7504 §4: the domain accepts no mail
	}
	return false
}

var throttled = regexp.MustCompile(`(?i)\b(rate|rates|rate-?limit\w*|limit\w*|throttl\w*|too (many|much|fast|quickly)|` +
	`filter\w*|spam\w*|polic(y|ies)|reputation|block(ed|ing|list\w*)|blacklist\w*)\b`)

// mailboxFull: RFC 3463 §3.3 (x.2.2) is about today, whatever the class. RFC 5321 §4.5.3.1.10 wants a 552 to RCPT
// taken for a 452.
func mailboxFull(r Reply) bool {
	return r.Enhanced == "5.2.2" || r.Code == 552 && r.Enhanced == "" && r.Phase == PhaseRcpt
}

// subject is the middle number of an enhanced code (RFC 3463 §3.1), or "".
func subject(enhanced string) string {
	_, rest, _ := strings.Cut(enhanced, ".")
	subject, _, _ := strings.Cut(rest, ".")
	return subject
}
