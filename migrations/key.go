package migrations

import (
	"math/rand/v2"
	"time"
)

// keyEpoch is where the 41 bits of milliseconds in a key begin to count: the first day of 2020. They last until 2089.
const keyEpoch = 1577836800000

// NewKey makes a 63-bit key for a row: 41 bits of milliseconds and 22 random ones, so that later keys sort later and
// processes need not ask each other. It can be taken already: whoever inserts it tries again on a conflict, as Retry does.
func NewKey(now time.Time) int64 {
	return ((now.UnixMilli()-keyEpoch)&(1<<41-1))<<22 | rand.Int64N(1<<22)
}

// NewKeys makes n keys in a row, the first of which it gives: n is at most a million.
func NewKeys(now time.Time, n int) int64 {
	return ((now.UnixMilli()-keyEpoch)&(1<<41-1))<<22 | rand.Int64N(1<<22-int64(n))
}
