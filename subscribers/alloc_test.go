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
