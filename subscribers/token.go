package subscribers

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"time"
)

// Purpose is what a token allows. One made for one purpose opens nothing else.
type Purpose string

// The purposes. Those to confirm, prefer and unsubscribe go out by mail; the others are made for the page that
// leads on to them.
const (
	ToConfirm     Purpose = "confirm"
	ToPrefer      Purpose = "preferences"
	ToUnsubscribe Purpose = "unsubscribe"
	ToResume      Purpose = "resume"
	ToPause       Purpose = "pause"
	ToMove        Purpose = "address"
)

// ErrToken means a link was not made by us, or was revoked.
var ErrToken = errors.New("the link is not valid")

// TokenLength is the length of every token, in characters of the alphabet A–Z a–z 0–9 - _.
const TokenLength = 44

// A token is: key id (1 byte), subscriber (8), nonce (8), MAC (16: 128 bits of an HMAC-SHA256), in base64url.
const (
	macBytes   = 16
	tokenBytes = 1 + 8 + 8 + macBytes
)

// Token makes the token that allows a purpose for one subscriber of one newsletter. It is a pure function of its
// arguments and the newest key, is never stored and never expires; a new nonce revokes it.
func (k *Keys) Token(p Purpose, subscriber int64, newsletter string, nonce int64) string {
	return string(k.AppendToken(make([]byte, 0, TokenLength), p, subscriber, newsletter, nonce))
}

// AppendToken is Token without an allocation.
func (k *Keys) AppendToken(dst []byte, p Purpose, subscriber int64, newsletter string, nonce int64) []byte {
	key := k.tokens[0]
	w := key.take()
	defer key.release(w)
	raw := append(w.raw[:0], key.id)
	raw = binary.BigEndian.AppendUint64(raw, uint64(subscriber))
	raw = binary.BigEndian.AppendUint64(raw, uint64(nonce))
	raw = append(raw, w.tokenMAC(key.id, p, subscriber, newsletter, nonce)...)
	return base64.RawURLEncoding.AppendEncode(dst, raw)
}

func (w *desk) tokenMAC(key byte, p Purpose, subscriber int64, newsletter string, nonce int64) []byte {
	w.in = append(w.in, key)
	w.text(string(p))
	w.number(subscriber)
	w.text(newsletter)
	w.number(nonce)
	return w.mac()[:macBytes]
}

// Open verifies a token and says for whom it was made. Every failure is ErrToken.
func (k *Keys) Open(p Purpose, newsletter, token string) (subscriber, nonce int64, err error) {
	if len(token) != TokenLength {
		return 0, 0, ErrToken
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) != tokenBytes {
		return 0, 0, ErrToken
	}
	for _, key := range k.tokens {
		if key.id != raw[0] {
			continue
		}
		w := key.take()
		defer key.release(w)
		subscriber = int64(binary.BigEndian.Uint64(raw[1:9]))
		nonce = int64(binary.BigEndian.Uint64(raw[9:17]))
		if hmac.Equal(w.tokenMAC(key.id, p, subscriber, newsletter, nonce), raw[17:]) {
			return subscriber, nonce, nil
		}
	}
	return 0, 0, ErrToken
}

// messageIDLength is the length of what MessageID makes.
const messageIDLength = 22

// MessageID is the left side of a Message-ID: 22 characters that are a pure function of the parts, so that a retry has
// the same one, and tell nobody else anything.
func (k *Keys) MessageID(parts ...int64) string {
	return string(k.AppendMessageID(make([]byte, 0, messageIDLength), parts...))
}

// AppendMessageID is MessageID without an allocation.
func (k *Keys) AppendMessageID(dst []byte, parts ...int64) []byte {
	w := k.messageID.take()
	defer k.messageID.release(w)
	for _, part := range parts {
		w.number(part)
	}
	return base64.RawURLEncoding.AppendEncode(dst, w.mac()[:16])
}

const (
	senderPrefix   = "b-"
	senderMACBytes = 12
)

// Servers may change the case of a local part, so its alphabet has only one.
var senderEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// senderLength is the length of what Sender makes.
const senderLength = 34

// Sender is the local part of the envelope sender of a newsletter to a subscriber (34 characters): what comes back to it
// was caused by us. It is the same every day, which greylisting (RFC 6647) rewards.
func (k *Keys) Sender(newsletter string, subscriber int64) string {
	return string(k.AppendSender(make([]byte, 0, senderLength), newsletter, subscriber))
}

// AppendSender is Sender without an allocation.
func (k *Keys) AppendSender(dst []byte, newsletter string, subscriber int64) []byte {
	w := k.sender.take()
	defer k.sender.release(w)
	raw := binary.BigEndian.AppendUint64(w.raw[:0], uint64(subscriber))
	raw = append(raw, w.senderMAC(newsletter, subscriber)...)
	return senderEncoding.AppendEncode(append(dst, senderPrefix...), raw)
}

func (w *desk) senderMAC(newsletter string, subscriber int64) []byte {
	w.text(newsletter)
	w.number(subscriber)
	return w.mac()[:senderMACBytes]
}

// OpenSender verifies a local part made by Sender and says which of the newsletters and whom it stands for.
// Every failure is ErrToken.
func (k *Keys) OpenSender(local string, newsletters []string) (newsletter string, subscriber int64, err error) {
	encoded, found := strings.CutPrefix(strings.ToLower(local), senderPrefix)
	if !found {
		return "", 0, ErrToken
	}
	raw, err := senderEncoding.DecodeString(encoded)
	if err != nil || len(raw) != 8+senderMACBytes {
		return "", 0, ErrToken
	}
	subscriber = int64(binary.BigEndian.Uint64(raw))
	w := k.sender.take()
	defer k.sender.release(w)
	for _, newsletter := range newsletters {
		w.in = w.in[:0]
		if hmac.Equal(w.senderMAC(newsletter, subscriber), raw[8:]) {
			return newsletter, subscriber, nil
		}
	}
	return "", 0, ErrToken
}

// A form's stamp says when it was shown and with which words, and is good for its newsletter only: milliseconds (8 bytes),
// wording hash (32), MAC (16).
const stampBytes = 8 + sha256.Size + macBytes

// formStamp makes the stamp of a form whose wording has that (hexadecimal) hash.
func (k *Keys) formStamp(shown time.Time, newsletter, wording string) string {
	words, err := hex.DecodeString(wording)
	if err != nil || len(words) != sha256.Size {
		return ""
	}
	w := k.stamp.take()
	defer k.stamp.release(w)
	w.number(shown.UnixMilli())
	w.in = append(w.in, words...)
	raw := append(w.raw[:0], w.in...)
	w.text(newsletter)
	return base64.RawURLEncoding.EncodeToString(append(raw, w.mac()[:macBytes]...))
}

func (k *Keys) openStamp(stamp, newsletter string) (shown time.Time, wording string, err error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(stamp)
	if err != nil || len(raw) != stampBytes {
		return time.Time{}, "", ErrToken
	}
	w := k.stamp.take()
	defer k.stamp.release(w)
	w.in = append(w.in, raw[:8+sha256.Size]...)
	w.text(newsletter)
	if !hmac.Equal(w.mac()[:macBytes], raw[8+sha256.Size:]) {
		return time.Time{}, "", ErrToken
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(raw))), hex.EncodeToString(raw[8 : 8+sha256.Size]), nil
}
