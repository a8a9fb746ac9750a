package subscribers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// Two dispatchers share the letters: each letter is claimed once.
func TestClaimsNeverOverlap(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		const letters = 60
		for i := range letters {
			h.signUp(fmt.Sprintf("reader%d@wnoz.example", i))
		}
		var mutex sync.Mutex
		claimed := map[int64]int64{}
		together(t, 4, func(i int) error {
			fence := int64(i + 1)
			for {
				batch, err := h.ClaimLetters(context.Background(), h.now(), fence, time.Minute, 7)
				if err != nil || len(batch) == 0 {
					return err
				}
				if len(batch) > 7 {
					return fmt.Errorf("ClaimLetters gave %d letters, more than the limit", len(batch))
				}
				mutex.Lock()
				for _, l := range batch {
					if other := claimed[l.ID]; other != 0 {
						t.Errorf("letter %d was claimed by %d and %d", l.ID, other, fence)
					}
					claimed[l.ID] = fence
				}
				mutex.Unlock()
			}
		})
		// SKIP LOCKED may leave letters to the next round; none may be lost.
		rest, err := h.ClaimLetters(t.Context(), h.now(), 9, time.Minute, letters)
		if err != nil || len(claimed)+len(rest) != letters {
			t.Errorf("claimed %d and %d of %d letters, %v", len(claimed), len(rest), letters, err)
		}
	})
}

func TestLetterSaysWhatTheDispatcherNeeds(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.signUp("Lena@WNOZ.example", "sport", "politik")
		select {
		case <-h.Letters():
		default:
			t.Error("nobody was signalled that a letter waits")
		}
		if n, err := h.LettersDue(t.Context()); n != 1 || err != nil {
			t.Errorf("LettersDue = %d, %v", n, err)
		}
		l := h.letter(ConfirmLetter)
		if l.Address != "Lena@wnoz.example" || l.Newsletter != "morgen" || l.Language != "de" || strings.Join(l.Topics, ",") != "politik,sport" {
			t.Errorf("letter = %+v", l)
		}
		if l.Action != "https://news.talbote.example/confirm/morgen/" || len(l.Token) != TokenLength {
			t.Errorf("link = %q + %q", l.Action, l.Token)
		}
		if got := l.Expires.Sub(l.Requested); got != 7*day {
			t.Errorf("the letter is good for %v, want 7 days", got)
		}
		if strings.Contains(h.dump(), l.Token) {
			t.Error("the token is in the database")
		}
	})
}

// A letter that is no longer wanted is settled when it is claimed, and stopped before the final dot if it was claimed.
func TestUnwantedLettersAreNotMailed(t *testing.T) {
	address := "lena@wnoz.example"
	tests := []struct {
		name   string
		happen func(t *testing.T, h *house, id int64)
		state  LetterState
	}{
		{"confirmed", func(t *testing.T, h *house, id int64) {
			var subscriber, nonce int64
			err := h.db.Read.QueryRow(`SELECT subscriber, nonce FROM letters WHERE id = $1`, id).Scan(&subscriber, &nonce)
			if err != nil {
				t.Fatal(err)
			}
			token := h.keys.Token(ToConfirm, subscriber, "morgen", nonce)
			if err := h.Confirm(t.Context(), h.now(), "morgen", token, Visit{}); err != nil {
				t.Fatal(err)
			}
		}, LetterSkipped},
		{"ended", func(t *testing.T, h *house, _ int64) {
			if _, err := h.UnsubscribeAddress(t.Context(), h.now(), address, ByCommand); err != nil {
				t.Fatal(err)
			}
		}, LetterSkipped},
		{"suppressed", func(t *testing.T, h *house, _ int64) { h.bounce(address) }, LetterSkipped},
		{"expired", func(_ *testing.T, h *house, _ int64) { h.later(8 * day) }, LetterExpired},
	}
	for _, test := range tests {
		t.Run(test.name+" while due", func(t *testing.T) {
			each(t, func(t *testing.T, h *house) {
				h.signUp(address)
				id := int64(h.count(`SELECT id FROM letters`))
				test.happen(t, h, id)
				if letters := h.mail(); len(letters) != 0 {
					t.Errorf("mailed %+v", letters)
				}
				if n := h.count(`SELECT COUNT(*) FROM letters WHERE state = $1 AND settled IS NOT NULL`, string(test.state)); n != 1 {
					t.Errorf("the letter is not %s", test.state)
				}
			})
		})
		t.Run(test.name+" while claimed", func(t *testing.T) {
			each(t, func(t *testing.T, h *house) {
				h.signUp(address)
				l := h.claim1(1, 30*day)
				test.happen(t, h, l.ID)
				if ok, err := h.DoubtLetter(t.Context(), h.now(), l.ID, l.Fence); ok || err != nil {
					t.Errorf("DoubtLetter = %v, %v, want a stop", ok, err)
				}
			})
		})
	}
}

// claim1 claims the one letter that is due.
func (h *house) claim1(fence int64, lease time.Duration) Letter {
	h.t.Helper()
	letters, err := h.Registry.ClaimLetters(h.t.Context(), h.now(), fence, lease, 10)
	if err != nil || len(letters) != 1 {
		h.t.Fatalf("ClaimLetters = %+v, %v, want one letter", letters, err)
	}
	return letters[0]
}

func TestRetriesSendTheSameBytes(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.signUp("lena@wnoz.example")
		l := h.claim1(1, time.Minute)
		if l.Message != "" {
			t.Errorf("message before the first try = %q", l.Message)
		}
		if err := h.KeepMessage(ctx, h.now(), l, "first TOKEN", "first"); err != nil {
			t.Fatal(err)
		}
		if err := h.KeepMessage(ctx, h.now(), l, "second TOKEN", "second"); !errors.Is(err, ErrFenced) {
			t.Errorf("a second KeepMessage = %v, want ErrFenced", err)
		}
		retry := h.now().Add(time.Hour)
		settled := Settled{State: LetterDue, Code: 451, Reply: "4.7.1 later", Due: retry, Counted: true}
		if err := h.SettleLetter(ctx, h.now(), l.ID, 1, settled); err != nil {
			t.Fatal(err)
		}
		if letters := h.mail(); len(letters) != 0 {
			t.Errorf("claimed before its time: %+v", letters)
		}
		h.later(2 * time.Hour)
		again := h.claim1(2, time.Minute)
		if again.Message != "first TOKEN" || again.Token != l.Token || again.Attempts != 1 {
			t.Errorf("the retry = %+v, want the same message and token", again)
		}
		if err := h.SettleLetter(ctx, h.now(), l.ID, 1, Settled{State: LetterSent}); !errors.Is(err, ErrFenced) {
			t.Errorf("SettleLetter with the old fence = %v, want ErrFenced", err)
		}
		if err := h.SettleLetter(ctx, h.now(), l.ID, 2, Settled{State: LetterFailed, Code: 550, Reply: "no lena@wnoz.example"}); err != nil {
			t.Fatal(err)
		}
		h.wantEvents("lena@wnoz.example", Requested)
		if n := h.count(`SELECT COUNT(*) FROM letters WHERE message IS NULL AND reply = 'no …'`); n != 1 {
			t.Error("a settled letter still has its bytes or the address")
		}
	})
}

func TestVoidLetterLeases(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.signUp("lena@wnoz.example")
		l := h.claim1(1, time.Minute)
		if ok, err := h.DoubtLetter(ctx, h.now(), l.ID, 2); ok || err != nil {
			t.Errorf("DoubtLetter with another fence = %v, %v", ok, err)
		}
		if ok, err := h.DoubtLetter(ctx, h.now().Add(time.Minute), l.ID, 1); ok || err != nil {
			t.Errorf("DoubtLetter after the lease = %v, %v", ok, err)
		}
		if ok, err := h.DoubtLetter(ctx, h.now(), l.ID, 1); !ok || err != nil {
			t.Fatalf("DoubtLetter = %v, %v", ok, err)
		}
		if err := h.VoidLetterLeases(ctx, h.now()); err != nil {
			t.Fatal(err)
		}
		if n, err := h.LettersDue(ctx); n != 0 || err != nil {
			t.Errorf("LettersDue while the lease holds = %d, %v", n, err)
		}
		h.later(time.Minute)
		if err := h.VoidLetterLeases(ctx, h.now()); err != nil {
			t.Fatal(err)
		}
		again := h.claim1(2, time.Minute)
		if again.ID != l.ID || again.Token != l.Token {
			t.Errorf("after the lease = %+v, want the same letter", again)
		}
		if err := h.SettleLetter(ctx, h.now(), l.ID, 1, Settled{State: LetterSent}); !errors.Is(err, ErrFenced) {
			t.Errorf("SettleLetter by the one who was dead = %v, want ErrFenced", err)
		}
	})
}

func TestReportAboutAStrangerIsNoError(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		tx, err := h.db.Write.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		err = h.Report(t.Context(), tx, h.now(), Report{Kind: MailboxDead, Subscriber: 1})
		if err = errors.Join(err, tx.Commit()); err != nil {
			t.Errorf("Report about nobody = %v", err)
		}
	})
}
