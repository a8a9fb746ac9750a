package subscribers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// LetterKind is what a letter is for.
type LetterKind string

// The kinds.
const (
	ConfirmLetter LetterKind = "confirm" // please confirm your sign-up
	ChangeLetter  LetterKind = "change"  // please confirm your new address
	LinkLetter    LetterKind = "link"    // you read already: here is the page of your preferences
)

// LetterState is where a letter stands on its way.
type LetterState string

// The states. Doubtful is written before the message is finished on the wire, and stays until the reply is recorded.
const (
	LetterDue      LetterState = "due"
	LetterClaimed  LetterState = "claimed"
	LetterDoubtful LetterState = "doubtful"
	LetterSent     LetterState = "sent"
	LetterFailed   LetterState = "failed"
	LetterSkipped  LetterState = "skipped" // nobody may be mailed it any more
	LetterExpired  LetterState = "expired"
)

// Letter is one mail outside a digest, as the dispatcher claims it.
type Letter struct {
	ID, Subscriber int64
	Kind           LetterKind
	Newsletter     string
	Topics         []string // what the reader asked for
	Address        string
	Language       string
	Requested      time.Time
	Expires        time.Time
	Action         string // the link's address up to the token, which follows directly
	Token          string
	Message        string // as KeepMessage stored it, "" before the first try
	Attempts       int
	Fence          int64
}

// Settled is how a try to mail a letter ended.
type Settled struct {
	State     LetterState // LetterSent, LetterFailed, LetterDue for another try, or LetterDoubtful
	Code      int         // the server's, 0 for none
	Reply     string      // the server's words, or ours
	Due       time.Time   // of the next try
	Counted   bool        // the try counts against the letter, and not the relay
	MessageID string
}

// ErrFenced means a letter is no longer the caller's: its lease ended, or it was deleted with its sign-up.
var ErrFenced = errors.New("the letter belongs to another dispatcher")

// message is what a letter is about.
type message struct {
	newsletter string
	choice     int64
	expires    time.Time
	moves      int64 // of a change of address: the subscriber whose place its reader takes; 0 for nobody
}

// ClaimLetters gives at most limit letters that are due to the holder of the fence until the lease ends, the longest waiting
// first, after deciding about sign-ups that still wait; none while there is a flood. Letters that expired, or that
// correspondence no longer allows, are settled on the way.
func (r *Registry) ClaimLetters(ctx context.Context, now time.Time, fence int64, lease time.Duration, limit int) ([]Letter, error) {
	if err := r.Admit(ctx); err != nil {
		return nil, err
	}
	var letters []Letter
	err := r.tx(ctx, func(tx *sql.Tx) error {
		letters = nil
		for len(letters) < limit {
			taken, claimed, err := r.claim(ctx, tx, now, fence, lease, limit-len(letters))
			if err != nil {
				return err
			}
			letters = append(letters, claimed...)
			if taken == 0 {
				break
			}
		}
		return nil
	})
	slices.SortFunc(letters, func(a, b Letter) int { return a.Requested.Compare(b.Requested) })
	return letters, err
}

// claim takes letters out of the queue, settles those that must not be mailed, and gives the others.
func (r *Registry) claim(
	ctx context.Context, tx *sql.Tx, now time.Time, fence int64, lease time.Duration, limit int,
) (taken int, claimed []Letter, err error) {
	rows, err := tx.QueryContext(ctx, `
		WITH due AS MATERIALIZED (
			SELECT id FROM letters WHERE state = 'due' AND due <= $1
				AND NOT EXISTS (SELECT 1 FROM floods WHERE ended IS NULL) ORDER BY due LIMIT $2`+r.db.SkipLocked()+`
		)
		UPDATE letters SET fence = $3, lease = $4, state = CASE
			WHEN expires <= $1 THEN 'expired'
			WHEN NOT EXISTS (SELECT 1 FROM correspondence c WHERE c.letter = letters.id) THEN 'skipped'
			ELSE 'claimed' END
		WHERE id IN (SELECT id FROM due)
		RETURNING id, state, subscriber, kind, newsletter, nonce, created, expires, COALESCE(message, ''), attempts,
			COALESCE((SELECT c.topics FROM choices c WHERE c.id = letters.choice), ''),
			COALESCE((SELECT s.address FROM subscribers s WHERE s.id = letters.subscriber), ''),
			(SELECT s.language FROM subscribers s WHERE s.id = letters.subscriber),
			(SELECT s.nonce FROM subscribers s WHERE s.id = letters.subscriber)`,
		now.UnixMilli(), limit, fence, now.Add(lease).UnixMilli())
	if err != nil {
		return 0, nil, fmt.Errorf("claim letters: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var closed []int64
	for rows.Next() {
		l, state, err := r.scanLetter(rows)
		if err != nil {
			return 0, nil, fmt.Errorf("claim letters: %w", err)
		}
		l.Fence = fence
		if taken++; state == LetterClaimed {
			claimed = append(claimed, l)
		} else {
			closed = append(closed, l.ID)
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return 0, nil, fmt.Errorf("claim letters: %w", err)
	}
	for _, id := range closed {
		_, err := tx.ExecContext(ctx, `UPDATE letters SET settled = $1, message = NULL WHERE id = $2`, now.UnixMilli(), id)
		if err != nil {
			return 0, nil, fmt.Errorf("settle letter: %w", err)
		}
	}
	return taken, claimed, nil
}

func (r *Registry) scanLetter(rows *sql.Rows) (Letter, LetterState, error) {
	var l Letter
	var state LetterState
	var topics string
	var letterNonce, subscriberNonce, created, expires int64
	err := rows.Scan(&l.ID, &state, &l.Subscriber, &l.Kind, &l.Newsletter, &letterNonce, &created, &expires,
		&l.Message, &l.Attempts, &topics, &l.Address, &l.Language, &subscriberNonce)
	if err != nil {
		return l, state, err
	}
	l.Topics = strings.Split(topics, ",")
	l.Requested, l.Expires = instant(created), instant(expires)
	if n, found := r.settings.newsletter(l.Newsletter); found {
		l.Language = n.Language
	}
	purpose, nonce := ToConfirm, letterNonce
	switch l.Kind {
	case LinkLetter:
		purpose, nonce = ToPrefer, subscriberNonce
	case DataLetter:
		purpose = ToData
	}
	l.Action = r.Link(purpose, l.Newsletter)
	l.Token = r.keys.Token(purpose, l.Subscriber, l.Newsletter, nonce)
	return l, state, nil
}

// KeepMessage stores a claimed letter before its first try, so that every later one sends the same bytes. Message is the mail
// with a placeholder for the token; text is its words for the proof, in which the reader's address is blotted out.
func (r *Registry) KeepMessage(ctx context.Context, now time.Time, l Letter, message, text string) error {
	w := newWording(InLetter, l.Language, withoutAddress(clean(text), l.Address))
	return r.tx(ctx, func(tx *sql.Tx) error {
		if err := insertWording(ctx, tx, now, w); err != nil {
			return err
		}
		result, err := tx.ExecContext(ctx, `
			UPDATE letters SET message = $1, wording = $2
			WHERE id = $3 AND fence = $4 AND state = 'claimed' AND message IS NULL`, message, w.Hash, l.ID, l.Fence)
		return oneRow(result, err, "keep message of letter")
	})
}

// DoubtLetter must be called before the final dot leaves, and says whether it may: a claimed letter becomes doubtful if the
// lease holds, it has not expired, and the reader may still be mailed it in this moment.
func (r *Registry) DoubtLetter(ctx context.Context, now time.Time, id, fence int64) (bool, error) {
	result, err := r.db.Write.ExecContext(ctx, `
		UPDATE letters SET state = 'doubtful'
		WHERE id = $1 AND fence = $2 AND state = 'claimed' AND lease > $3 AND expires > $3
			AND EXISTS (SELECT 1 FROM correspondence c WHERE c.letter = letters.id)`, id, fence, now.UnixMilli())
	err = oneRow(result, err, "doubt letter")
	if errors.Is(err, ErrFenced) {
		return false, nil
	}
	return err == nil, err
}

// SettleLetter records how a try ended. For a letter that a server took it also records the event Mailed, with the text
// that was kept, in the same transaction.
func (r *Registry) SettleLetter(ctx context.Context, now time.Time, id, fence int64, s Settled) error {
	return r.tx(ctx, func(tx *sql.Tx) error {
		var subscriber int64
		err := tx.QueryRowContext(ctx, `SELECT subscriber FROM letters WHERE id = $1`, id).Scan(&subscriber)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrFenced
		}
		if err != nil {
			return fmt.Errorf("settle letter: %w", err)
		}
		who, err := lock(ctx, tx, subscriber)
		if err != nil {
			return err
		}
		if err := settle(ctx, tx, now, id, fence, s, who); err != nil {
			return err
		}
		if s.State != LetterSent {
			return nil
		}
		return r.recordMailed(ctx, tx, now, id, s, who)
	})
}

func settle(ctx context.Context, tx *sql.Tx, now time.Time, id, fence int64, s Settled, who subscriber) error {
	counted, due := 0, now.UnixMilli()
	if s.Counted {
		counted = 1
	}
	if !s.Due.IsZero() {
		due = s.Due.UnixMilli()
	}
	result, err := tx.ExecContext(ctx, `
		UPDATE letters SET state = $1, code = $2, reply = $3, attempts = attempts + $4, due = $5, settled = $6
		WHERE id = $7 AND fence = $8 AND state IN ('claimed', 'doubtful')`,
		string(s.State), s.Code, serverWords(s.Reply, who.address), counted, due, s.settled(now), id, fence)
	if err := oneRow(result, err, "settle letter"); err != nil {
		return err
	}
	if s.settled(now).Valid { // no try will need the bytes again, and the address is in them
		if _, err := tx.ExecContext(ctx, `UPDATE letters SET message = NULL WHERE id = $1`, id); err != nil {
			return fmt.Errorf("settle letter: %w", err)
		}
	}
	return nil
}

// settled is NULL while the letter may still be mailed.
func (s Settled) settled(now time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: now.UnixMilli(), Valid: s.State != LetterDue && s.State != LetterDoubtful}
}

func (r *Registry) recordMailed(ctx context.Context, tx *sql.Tx, now time.Time, id int64, s Settled, who subscriber) error {
	var newsletter, topics, wording string
	err := tx.QueryRowContext(ctx, `
		SELECT l.newsletter, COALESCE(c.topics, ''), COALESCE(l.wording, '')
		FROM letters l LEFT JOIN choices c ON c.id = l.choice WHERE l.id = $1`, id).Scan(&newsletter, &topics, &wording)
	if err != nil {
		return fmt.Errorf("read letter: %w", err)
	}
	_, err = r.record(ctx, tx, now, who, event{Mailed, newsletter, wording, Particulars{
		Address: who.address, Topics: strings.Split(topics, ","), MessageID: s.MessageID, Reply: serverWords(s.Reply, ""),
	}})
	return err
}

// VoidLetterLeases puts letters back into the queue whose dispatcher died: claimed ones, and doubtful ones too, for a
// second letter does less harm than none. Whoever holds the lock of the only dispatcher may pass an instant after every lease.
func (r *Registry) VoidLetterLeases(ctx context.Context, now time.Time) error {
	_, err := r.db.Write.ExecContext(ctx, `
		UPDATE letters SET state = 'due', fence = 0, lease = 0
		WHERE state IN ('claimed', 'doubtful') AND lease <= $1`, now.UnixMilli())
	if err != nil {
		return fmt.Errorf("void leases of letters: %w", err)
	}
	return nil
}

// ReportKind is what the post office learnt about a reader.
type ReportKind string

// The kinds. That a letter was mailed is reported by SettleLetter.
const (
	MailboxDead   ReportKind = "mailbox dead" // a hard bounce, at once or by a report that was verified
	SpamComplaint ReportKind = "complaint"
)

// Report is what the post office tells about a reader: the one arrow that points back.
type Report struct {
	Kind       ReportKind
	Subscriber int64
	Reply      string // the server's words; of these only the codes are kept, for they outlive the address
}

// Report suppresses a reader in the caller's transaction. After a complaint every subscription ends, too; who bounced keeps
// theirs and is back as soon as they confirm again. An erased or unknown subscriber is no error.
func (r *Registry) Report(ctx context.Context, tx *sql.Tx, now time.Time, report Report) error {
	who, err := lock(ctx, tx, report.Subscriber)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	switch report.Kind {
	case MailboxDead:
		return suppress(ctx, tx, now, who.person, Bounced, replyCodes.FindString(report.Reply))
	case SpamComplaint:
		if _, err := r.withdrawAll(ctx, tx, now, who, ByComplaint); err != nil {
			return err
		}
		return suppress(ctx, tx, now, who.person, Complained, "")
	}
	return fmt.Errorf("report about a subscriber: unknown kind %q", report.Kind)
}

// replyCodes are the reply code and the enhanced one (RFC 5321 §4.2, RFC 3463).
var replyCodes = regexp.MustCompile(`^[2-5]\d\d(?:[ -][245]\.\d{1,3}\.\d{1,3})?`)

const maxReply = 500 // characters kept of what a server said

// serverWords makes a server's words fit for the database and for a line, without the reader's address in them.
func serverWords(reply, address string) string {
	reply = strings.Join(strings.Fields(withoutAddress(clean(reply), address)), " ")
	if utf8.RuneCountInString(reply) > maxReply {
		reply = string([]rune(reply)[:maxReply-1]) + "…"
	}
	return reply
}

// clean drops what PostgreSQL refuses and terminals obey.
func clean(text string) string {
	return strings.Map(func(c rune) rune {
		if isControl(c) && c != '\n' {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(text, "�"))
}

func withoutAddress(text, address string) string {
	if address == "" {
		return text
	}
	return regexp.MustCompile(`(?i)`+regexp.QuoteMeta(address)).ReplaceAllLiteralString(text, "…")
}

// oneRow is ErrFenced where a statement about one letter found nothing to do.
func oneRow(result sql.Result, err error, what string) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if n == 0 {
		return ErrFenced
	}
	return nil
}

// LettersDue counts the letters that wait to be mailed.
func (r *Registry) LettersDue(ctx context.Context) (int, error) {
	var count int
	err := r.db.Read.QueryRowContext(ctx, `SELECT COUNT(*) FROM letters WHERE state = 'due'`).Scan(&count)
	if err != nil {
		return 0, fmt.Errorf("count letters: %w", err)
	}
	return count, nil
}
