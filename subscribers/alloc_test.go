//go:build !race

// The race detector makes sync.Pool forget at random, which counts as allocations.

package subscribers

import "testing"

func TestAppendTokenAllocatesNothing(t *testing.T) {
	keys := newKeys(t)
	out := make([]byte, 0, TokenLength)
	if n := testing.AllocsPerRun(200, func() { keys.AppendToken(out, ToUnsubscribe, 1, "morgen", 2) }); n > 0 {
		t.Errorf("AppendToken allocates %v times", n)
	}
}

func TestAppendMessageIDAllocatesNothing(t *testing.T) {
	keys := newKeys(t)
	out := make([]byte, 0, messageIDLength)
	digest, revision, subscriber := int64(1), int64(2), int64(3)
	if n := testing.AllocsPerRun(200, func() { keys.AppendMessageID(out, digest, revision, subscriber) }); n > 0 {
		t.Errorf("AppendMessageID allocates %v times", n)
	}
}

func TestAppendSenderAllocatesNothing(t *testing.T) {
	keys := newKeys(t)
	out := make([]byte, 0, senderLength)
	if n := testing.AllocsPerRun(200, func() { keys.AppendSender(out, "morgen", 1) }); n > 0 {
		t.Errorf("AppendSender allocates %v times", n)
	}
}
