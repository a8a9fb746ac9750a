package subscribers

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"depesche/migrations"
	"depesche/migrations/dbtest"
)

const (
	oldAddress = "lena@wnoz.example"
	newAddress = "lena.neu@wnoz.example"
)

func TestMove(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.subscribe(oldAddress, "sport")
		path := "/address/morgen/" + h.token(ToMove, oldAddress)
		before := h.dump()
		h.wantPage(h.get(path), 200, "l…@wnoz.example")
		for typed, words := range map[string]string{"": "geben Sie", "lena": "fehlt das @", strings.ToUpper(oldAddress): "die Sie schon haben"} {
			h.wantPage(h.press(path, url.Values{"email": {typed}}), 422, words)
		}
		if h.dump() != before {
			t.Error("a wrong form or an opened page changed the database")
		}
		h.wantPage(h.press(path, url.Values{"email": {newAddress}}), 200, "neues Postfach")
		l := h.letter(ChangeLetter)
		if l.Address != newAddress || strings.Join(l.Topics, ",") != "sport" || !strings.Contains(l.Action, "/confirm/") {
			t.Fatalf("letter = %+v", l)
		}
		h.wantAudience("before the button", oldAddress)

		confirm := "/confirm/morgen/" + l.Token
		before = h.dump()
		button := h.get(confirm)
		h.wantPage(button, 200, "Meine bisherige Adresse wird abgemeldet")
		if h.dump() != before || strings.Contains(button.body, "lena") {
			t.Error("the page changes something by being opened, or names an address")
		}
		h.wantPage(h.press(confirm, button.hidden()), 200, "Sie sind angemeldet")
		h.wantPage(h.press(confirm, button.hidden()), 200, "Sie sind angemeldet")
		h.wantAudience("after the button", newAddress)
		h.wantEvents(oldAddress, Requested, Mailed, Confirmed, Withdrawn)
		h.wantEvents(newAddress, Requested, Mailed, Confirmed)

		// Neither chain names the other address.
		for address, other := range map[string]string{oldAddress: newAddress, newAddress: oldAddress} {
			proof, err := h.Proof(t.Context(), address)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range proof.Events {
				if e.Particulars.Address == other || e.Wording != nil && strings.Contains(e.Wording.Text, other) {
					t.Errorf("the proof of one address names the other: %+v", e)
				}
			}
		}
		proof, err := h.Proof(t.Context(), oldAddress)
		if err != nil || proof.Events[3].Particulars.How != string(ByMove) {
			t.Errorf("Proof = %+v, %v", proof.Events, err)
		}
		h.wantPage(h.get(path), 410, "abgelaufen")
	})
}

// Until the button is pressed everything stays as it was, for ever if it never is; and what rests goes on resting.
func TestMoveNotConfirmed(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.subscribe(oldAddress)
		path := "/address/morgen/" + h.token(ToMove, oldAddress)
		h.press(path, url.Values{"email": {newAddress}})
		l := h.letter(ChangeLetter)
		h.later(8 * day)
		h.wantPage(h.press("/confirm/morgen/"+l.Token, nil), 410, "abgelaufen")
		if n, err := h.Purge(t.Context(), h.now()); n != 1 || err != nil {
			t.Errorf("Purge = %d, %v, want the new address deleted", n, err)
		}
		h.wantAudience("after the letter ran out", oldAddress)
		if n := h.count(`SELECT COUNT(*) FROM subscribers WHERE address = $1`, newAddress); n != 0 {
			t.Errorf("the new address stands %d times", n)
		}
		h.later(14 * day)
		h.press("/pause/morgen/"+h.token(ToPause, oldAddress), url.Values{"weeks": {"2"}})
		h.press(path, url.Values{"email": {newAddress}})
		h.press("/confirm/morgen/"+h.letter(ChangeLetter).Token, nil)
		h.wantAudience("moved during a pause")
		if err := h.LiftPauses(t.Context(), h.now().Add(15*day)); err != nil {
			t.Fatal(err)
		}
		h.wantAudience("after the pause", newAddress)
	})
}

// The answer is the same whatever is known about the new address, and the limits are those of a sign-up.
func TestMoveTellsNothingAndIsLimited(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.subscribe(oldAddress)
		h.subscribe("reads@wnoz.example")
		h.subscribe("bounced@wnoz.example")
		h.bounce("bounced@wnoz.example")
		path := "/address/morgen/" + h.token(ToMove, oldAddress)
		before := h.tables()
		var first string
		for _, address := range []string{"fresh@wnoz.example", "reads@wnoz.example", "bounced@wnoz.example", "abuse@wnoz.example"} {
			got := h.press(path, url.Values{"email": {address}})
			if first == "" {
				first = got.body
			}
			if got.status != 200 || got.body != first {
				t.Errorf("the answer for %s differs:\n%s", address, got.body)
			}
		}
		for table, rows := range h.tables() {
			if table != "slips" && table != "wordings" && !slices.Equal(rows, before[table]) {
				t.Errorf("the door changed the table %s", table)
			}
		}
		if l := h.letter(ChangeLetter); l.Address != "fresh@wnoz.example" {
			t.Errorf("the letter goes to %s", l.Address)
		}
		for _, address := range []string{"fresh@wnoz.example", "b@wnoz.example", "c@wnoz.example", "d@wnoz.example", "e@wnoz.example"} {
			h.press(path, url.Values{"email": {address}})
			h.later(time.Minute)
		}
		if n := len(h.mail()); n != maxMoves-1 {
			t.Errorf("%d more letters left, want %d in all", n, maxMoves)
		}
		h.wantAudience("in the end", oldAddress, "reads@wnoz.example")
	})
}

// However many are asked for at once.
func TestMoveIsLimitedWithinOneMoment(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.subscribe(oldAddress)
		token := h.token(ToMove, oldAddress)
		for i := range 2 * maxMoves {
			if err := h.Move(t.Context(), h.now(), "morgen", token, fmt.Sprintf("neu%d@wnoz.example", i), Visit{}); err != nil {
				t.Fatal(err)
			}
		}
		if err := h.Admit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := h.count(`SELECT COUNT(*) FROM letters WHERE kind = 'change'`); n != maxMoves {
			t.Errorf("%d letters, want %d", n, maxMoves)
		}
		if n := h.count(`SELECT COUNT(*) FROM subscribers`); n != 1+maxMoves {
			t.Errorf("%d addresses are kept, want %d and the old one", n, maxMoves)
		}
	})
}

// A change of address counts like any other letter to the new one, the door like any other door.
func TestMoveHasTheLimitsOfASignUp(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, func(s *Settings) { s.PerNetwork, s.Disposable = 3, Refuse })
		h.subscribe(oldAddress)
		path := "/address/morgen/" + h.token(ToMove, oldAddress)
		if err := h.SignUp(t.Context(), h.now(), SignUp{Address: newAddress, Newsletter: "world"}); err != nil {
			t.Fatal(err)
		}
		h.letter(ConfirmLetter)
		h.wantPage(h.press(path, url.Values{"email": {newAddress}}), 200, "neues Postfach")
		if letters := h.mail(); len(letters) != 0 {
			t.Errorf("a second letter within a day: %+v", letters)
		}
		h.wantPage(h.press(path, url.Values{"email": {"lena@mailinator.com"}}), 422, "Anbieters")
		h.wantPage(h.press(path, url.Values{"email": {"eins@wnoz.example"}}), 200, "neues Postfach")
		h.wantPage(h.press(path, url.Values{"email": {"zwei@wnoz.example"}}), 429, "Zu viele Anmeldungen")
		h.letter(ChangeLetter)
		h.later(25 * time.Hour)
		if l := h.letter(ChangeLetter); l.Address != newAddress {
			t.Errorf("the letter of the next day goes to %s", l.Address)
		}
	})
}

// Who is erased leaves no letter behind that would put another address into their place.
func TestEraseDuringAMove(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.subscribe(oldAddress)
		h.press("/address/morgen/"+h.token(ToMove, oldAddress), url.Values{"email": {newAddress}})
		l := h.letter(ChangeLetter)
		h.erase(oldAddress)
		if n := h.count(`SELECT COUNT(*) FROM letters WHERE moves IS NOT NULL`); n != 0 {
			t.Errorf("%d letters still name the erased", n)
		}
		h.wantPage(h.press("/confirm/morgen/"+l.Token, nil), 410, "abgelaufen")
		h.wantAudience("after the erasure")
	})
}
