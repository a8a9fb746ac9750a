package subscribers

import (
	"context"
	"math"
	"sync"
	"time"
)

// frequency is how often a topic brings something, as a reader wants to know it: about Count articles a Per.
type frequency struct {
	Count int
	Per   string // "day", "week", "rare": less than one a week; "" if nobody knows
}

// often puts a rate, in articles a day, into words that are true: "about 4 a day", "about 3 a week".
func often(perDay float64) frequency {
	switch perWeek := math.Round(perDay * 7); {
	case perDay >= 0.95:
		return frequency{int(math.Round(perDay)), "day"}
	case perWeek >= 1:
		return frequency{int(perWeek), "week"}
	}
	return frequency{Per: "rare"}
}

// measures are what the newsroom says about each newsletter, kept for a while: pages are opened more often than it changes.
type measures struct {
	mutex sync.Mutex
	known map[string]measure
}

type measure struct {
	at     time.Time
	rates  map[string]float64 // articles a day, by topic
	sample string
}

const measureEvery = 10 * time.Minute

// measured adds to a page how often each topic brings something, and the last digest as a sample. A page does without what
// cannot be had.
func (p *pages) measured(ctx context.Context, now time.Time, data *view) {
	m := p.measure(ctx, now, data.Newsletter.Slug)
	data.Sample = m.sample
	for i, b := range data.Topics {
		if rate, known := m.rates[b.Slug]; known {
			data.Topics[i].Often = often(rate)
		}
	}
}

func (p *pages) measure(ctx context.Context, now time.Time, newsletter string) measure {
	p.measures.mutex.Lock()
	defer p.measures.mutex.Unlock()
	if m, known := p.measures.known[newsletter]; known && now.Sub(m.at) < measureEvery && !now.Before(m.at) {
		return m
	}
	m := measure{at: now}
	var err error
	if p.settings.Rates != nil {
		if m.rates, err = p.settings.Rates(ctx, now, newsletter); err != nil {
			p.log.Error("measure topics", "error", err)
		}
	}
	if p.settings.Sample != nil {
		if m.sample, err = p.settings.Sample(ctx, newsletter); err != nil {
			p.log.Error("look for a sample", "error", err)
		}
	}
	if p.measures.known == nil {
		p.measures.known = map[string]measure{}
	}
	if len(m.rates) > 0 && m.sample != "" { // a new paper asks again
		p.measures.known[newsletter] = m
	}
	return m
}
