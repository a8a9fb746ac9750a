package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"depesche/newsletter"
)

// noMailbox is the one code in the map of refusals that says that an address is dead.
const noMailbox = "5.1.1"

// refusal is what the server says of a reader, with words of their own: two in a hundred are refused.
func refusal(number int) (code, words string) {
	switch number % 100 {
	case 7:
		return noMailbox, fmt.Sprintf("no such mailbox, case %d", number)
	case 57:
		return "5.2.0", fmt.Sprintf("mailbox says no, case %d", number)
	}
	return "", ""
}

// wary says whose server greylists: one in twenty.
func wary(number int) bool { return number%20 == 3 }

// rejectMap is a table of access(5) by which Postfix refuses recipients.
func rejectMap(readers int) string {
	var table strings.Builder
	for number := 1; number <= readers; number++ {
		if code, words := refusal(number); code != "" {
			fmt.Fprintf(&table, "leser%d@reader.test 550 %s %s\n", number, code, words)
		}
	}
	return table.String()
}

// chainReaders is how many readers the chain has to serve: DEPESCHE_CHAIN_READERS, or 1,000.
func chainReaders(t *testing.T) int {
	t.Helper()
	text := os.Getenv("DEPESCHE_CHAIN_READERS")
	if text == "" {
		return 1000
	}
	count, err := strconv.Atoi(text)
	if err != nil || count < 100 {
		t.Fatalf("DEPESCHE_CHAIN_READERS is %q, want a number of at least 100", text)
	}
	return count
}

// So often the server's side of all connections is killed; then Postfix is stopped and started again.
const (
	chainConnections = 2
	chainFlight      = 8 // Postfix offers CHUNKING: so many messages of a connection are unanswered
	chainKills       = 7
)

// mostLost is how many messages may have been on the wire when something happened to the server.
const mostLost = chainConnections * chainFlight * (chainKills + 1)

// TestChain sends a morning through Postfix into Dovecot mailboxes: by STARTTLS and AUTH, past a greylist and a map of
// refusals, with crashes of the server's sessions and a restart of the server in the middle. Afterwards each mailbox holds
// exactly one digest, the reader's own, and who was refused has failed with the server's words; nothing else differs.
func TestChain(t *testing.T) {
	c := newChain(t)
	readers := chainReaders(t)
	greylist := newGreylist(t, func(recipient string) bool { return wary(readerNumber(recipient)) })
	c.write(t, "reject", rejectMap(readers))
	c.start(t, "smtpd_recipient_restrictions = check_recipient_access texthash:{{.Folder}}/reject,",
		" check_policy_service inet:"+greylist.address)
	town := newTown(t, "")
	c.serve(town)
	town.environ = append(town.environ, fmt.Sprint("DEPESCHE_SMTP_CONNECTIONS=", chainConnections))
	town.depesche(ingestAt, 0, "status")
	town.addReaders(readers)
	town.spreadSignUps()
	town.article("haushalt", "Politik", "2026-02-11T04:00:00+01:00", "")

	began := time.Now()
	greylist.setClock(t, runAt)
	runInterrupted(t, town, c, greylist, readers/10)
	first := town.account(runAt)
	c.drain(t)
	checkPatience(t, town, c, greylist, first)
	// What lost its connection is due a minute later, what was greylisted six, what met a server that could not just then thirty.
	for _, now := range []string{"2026-02-11T06:35:00+01:00", "2026-02-11T07:10:00+01:00", "2026-02-11T07:45:00+01:00"} {
		if town.account(now).Due > 0 {
			greylist.setClock(t, now)
			town.depesche(now, 0, "run")
		}
	}
	c.drain(t)
	doubtful := settleDoubtful(t, town, c, "2026-02-11T07:45:00+01:00")
	for _, now := range []string{"2026-02-11T07:46:00+01:00", "2026-02-11T08:20:00+01:00", "2026-02-11T08:55:00+01:00"} {
		if town.account(now).Due > 0 {
			greylist.setClock(t, now)
			town.depesche(now, 0, "run")
		}
	}
	last := town.account("2026-02-11T08:55:00+01:00")
	c.drain(t)
	t.Logf("%d readers in %v: %d sent, %d failed, %d were doubtful", readers, time.Since(began).Round(time.Second), last.Sent, last.Failed, doubtful)
	checkAccount(t, last, readers)
	checkSuppressed(t, town, readers)
	checkMailboxes(t, town, c, greylist, last)
}

// runInterrupted is the first run. Every so many readers something happens to the server.
func runInterrupted(t *testing.T, town *town, c *chain, greylist *greylist, every int) {
	t.Helper()
	moment := greylist.arm(every)
	command := town.command(runAt, "run")
	var problems bytes.Buffer
	command.Stderr = &problems
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	for interruption := range chainKills + 1 {
		select {
		case err := <-ended:
			t.Fatalf("the run ended before it could be interrupted: %v\n%s", err, &problems)
		case <-moment:
		}
		moment = greylist.arm(every)
		if interruption < chainKills {
			c.killSessions(t)
			continue
		}
		c.postfix(t, "stop")
		c.postfix(t, "start")
	}
	if err := <-ended; err != nil {
		t.Fatalf("the interrupted run: %v\n%s", err, &problems)
	}
	if strings.Contains(problems.String(), "@reader.test") {
		t.Errorf("an address is in the log:\n%s", &problems)
	}
}

// settleDoubtful does what a person would: who has the mail is settled as sent, the others get it again. It says how many there
// were.
func settleDoubtful(t *testing.T, town *town, c *chain, now string) int {
	t.Helper()
	a := town.account(now)
	if a.Doubtful > mostLost {
		t.Errorf("%d doubtful, want at most %d", a.Doubtful, mostLost)
	}
	keys, again := town.keys(), 0
	for _, trouble := range a.Troubles {
		if trouble.State != newsletter.Doubtful {
			continue
		}
		if number := int(trouble.Subscriber); len(c.delivered(t, newReader(keys, number))) > 0 {
			town.depesche(now, 0, "resolve", "morgen/2026-02-11", "--sent", "--reader", strconv.Itoa(number))
		} else {
			again++
		}
	}
	if again > 0 {
		town.depesche(now, 0, "resolve", "morgen/2026-02-11", "--again", "--all")
	}
	return a.Doubtful
}

// checkPatience wants those who were greylisted to be due, and without mail until they are tried again.
func checkPatience(t *testing.T, town *town, c *chain, greylist *greylist, a account) {
	t.Helper()
	asked, waiting, impatient := greylist.patient()
	if asked == 0 || a.Due+a.Doubtful < len(waiting) { // one whose answer was lost is doubtful
		t.Errorf("%d were greylisted, %d of them wait, and %d are due", asked, len(waiting), a.Due)
	}
	if impatient > mostLost { // who lost the answer cannot know
		t.Errorf("%d were tried again before it was time", impatient)
	}
	keys := town.keys()
	for _, recipient := range waiting {
		r := newReader(keys, readerNumber(recipient))
		if len(c.delivered(t, r)) > 0 {
			t.Errorf("reader %d was greylisted and has mail", r.number)
		}
	}
}

// checkAccount wants everybody to be accounted for, and the refused, and only them, to have failed with words of their own.
func checkAccount(t *testing.T, a account, readers int) {
	t.Helper()
	failed := 0
	for number := 1; number <= readers; number++ {
		if code, _ := refusal(number); code != "" {
			failed++
		}
	}
	if !a.AddsUp() || a.Prepared != readers || a.Failed != failed || a.Sent+a.Failed != readers || len(a.Troubles) != a.Failed {
		t.Errorf("report = %+v, %d in trouble, want %d failed and nothing left", a.Report, len(a.Troubles), failed)
	}
	for _, trouble := range a.Troubles {
		_, words := refusal(int(trouble.Subscriber))
		if words == "" || trouble.Code != 550 || !strings.HasSuffix(trouble.Reply, ": "+words) {
			t.Errorf("reader %d failed with %d %q, want 550 and %q", trouble.Subscriber, trouble.Code, trouble.Reply, words)
		}
		if strings.Contains(trouble.Reply, "@reader.test") {
			t.Errorf("an address is in the words about reader %d", trouble.Subscriber)
		}
	}
}

// checkSuppressed wants the dead, and only them, never to be mailed again.
func checkSuppressed(t *testing.T, town *town, readers int) {
	t.Helper()
	var dead []string
	for number := 1; number <= readers; number++ {
		if code, _ := refusal(number); code == noMailbox {
			dead = append(dead, fmt.Sprintf("leser%d@reader.test", number))
		}
	}
	if got := town.suppressed(); !slices.Equal(got, dead) {
		t.Errorf("%d addresses are suppressed, want the %d that do not exist", len(got), len(dead))
	}
	if got := town.mailable(); got != readers-len(dead) {
		t.Errorf("%d readers may be mailed, want %d", got, readers-len(dead))
	}
}

// checkMailboxes settles what the report says by what is in the mailboxes: one digest each, none for the refused, and of the
// doubtful one or none.
func checkMailboxes(t *testing.T, town *town, c *chain, greylist *greylist, a account) {
	t.Helper()
	may := map[int]bool{} // have mail or not
	for _, trouble := range a.Troubles {
		may[int(trouble.Subscriber)] = trouble.State == newsletter.Doubtful
	}
	keys, arrived := town.keys(), 0
	expected, ids, dates := reference(t, town), map[string]bool{}, map[string]bool{}
	for number := 1; number <= a.Prepared; number++ {
		r := newReader(keys, number)
		mails := c.delivered(t, r)
		code, _ := refusal(number)
		if len(mails) > 1 || code != "" && len(mails) > 0 || code == "" && !may[number] && len(mails) == 0 {
			t.Errorf("reader %d has %d mails; refused: %q, doubtful: %v", number, len(mails), code, may[number])
		}
		if got := greylist.sendersOf(r.address); code == "" && !slices.Equal(got, []string{r.sender}) {
			t.Errorf("the server was given %d envelope senders for reader %d, want their own alone", len(got), number)
		}
		for _, mail := range mails {
			arrived++
			r.check(t, mail, expected)
			ids[messageID.FindString(mail.message)], dates[dateLine.FindString(mail.message)] = true, true
		}
	}
	if len(ids) != arrived || len(dates) != 1 {
		t.Errorf("%d mails have %d Message-IDs and %d Dates", arrived, len(ids), len(dates))
	}
	if folders, err := os.ReadDir(filepath.Join(c.Folder, "mail")); err != nil || len(folders) != arrived {
		t.Errorf("%d mailboxes hold mail, %v, want %d", len(folders), err, arrived)
	}
	t.Logf("%d mailboxes compared; %d of %d doubtful mails have arrived", arrived, arrived-a.Sent, a.Doubtful)
}

// reference is the digest as another house with the same configuration hands it to a server that changes nothing.
func reference(t *testing.T, town *town) pattern {
	t.Helper()
	other := newTown(t, "")
	other.environ = append(other.environ, "DEPESCHE_BASE_URL="+town.pages)
	other.depesche(ingestAt, 0, "status")
	other.addReaders(1)
	other.spreadSignUps()
	other.article("haushalt", "Politik", "2026-02-11T04:00:00+01:00", "")
	other.depesche(runAt, 0, "run")
	r := newReader(other.keys(), 1)
	message := bytes.ReplaceAll(other.wait(r.address, 1).Raw, []byte("\r\n"), []byte("\n")) // as a mailbox keeps it
	p, err := newPattern(string(message), r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A server that takes only so many messages, or connections, in a while: nobody fails for that, and everybody gets one mail.
func TestChainRateLimits(t *testing.T) {
	for _, test := range []struct{ name, limit, log string }{
		{"messages", "smtpd_client_message_rate_limit = 20", "Message delivery request rate limit exceeded"},
		{"connections", "smtpd_client_connection_rate_limit = 4", "Connection rate limit exceeded"},
	} {
		t.Run(test.name, func(t *testing.T) {
			const readers = 60
			c := newChain(t)
			c.start(t, test.limit, "anvil_rate_time_unit = 3s")
			town := newTown(t, "")
			c.serve(town)
			town.environ = append(town.environ, "DEPESCHE_SMTP_PER_CONNECTION=5", "DEPESCHE_NEWSLETTERS_0_LATEST=23:00")
			town.depesche(ingestAt, 0, "status")
			town.addReaders(readers)
			town.article("haushalt", "Politik", "2026-02-11T04:00:00+01:00", "")
			now, err := time.Parse(time.RFC3339, runAt)
			if err != nil {
				t.Fatal(err)
			}
			a := runLimited(t, town, now)
			for tries := 0; a.Due > 0 && tries < 30; tries++ {
				c.awaitMail(t)
				now = now.Add(31 * time.Minute)
				a = runLimited(t, town, now)
			}
			if !a.AddsUp() || a.Sent != readers || town.mailable() != readers {
				t.Errorf("report = %+v, %d readers, want all sent and all kept", a.Report, town.mailable())
			}
			if !strings.Contains(c.log(t), test.log) {
				t.Error("the limit has not bitten")
			}
			c.drain(t)
			keys := town.keys()
			for number := 1; number <= readers; number++ {
				if got := len(c.delivered(t, newReader(keys, number))); got != 1 {
					t.Errorf("reader %d has %d mails", number, got)
				}
			}
		})
	}
}

// runLimited is a run that the server may break off: it then calls somebody, and nobody has failed.
func runLimited(t *testing.T, town *town, now time.Time) account {
	t.Helper()
	clock := now.Format(time.RFC3339)
	command := town.command(clock, "run")
	var problems bytes.Buffer
	command.Stderr = &problems
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != exitRefused) {
		t.Fatalf("run: %v\n%s", err, &problems)
	}
	a := town.account(clock)
	if a.Failed+a.Doubtful+a.Skipped+a.Expired > 0 {
		t.Fatalf("report = %+v, want nobody harmed\n%s", a.Report, &problems)
	}
	return a
}
