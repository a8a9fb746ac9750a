package newsletter

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"time"
)

// ratesOver is how many days back topics are measured.
const ratesOver = 28

// Rates are how many entries a day each topic of a newsletter brought: over its last four weeks, or since its first digest if
// that was later. They are what a reader of that topic alone would have been mailed. Without a digest in that time there are
// none.
func (n *Newsroom) Rates(ctx context.Context, now time.Time, newsletter string) (map[string]float64, error) {
	l, known := n.Newsletter(newsletter)
	if !known {
		return nil, nil
	}
	today := DayOf(now, l.Zone).noon(l.Zone)
	since := Day(today.AddDate(0, 0, 1-ratesOver).Format(time.DateOnly))
	var first sql.NullString
	err := n.db.Read.QueryRowContext(ctx, `SELECT MIN(day) FROM digests WHERE newsletter = $1 AND day >= $2`, newsletter, string(since)).Scan(&first)
	if err != nil {
		return nil, fmt.Errorf("measure topics: %w", err)
	}
	if !first.Valid {
		return nil, nil
	}
	began, err := ParseDay(first.String)
	if err != nil {
		return nil, fmt.Errorf("measure topics: %w", err)
	}
	days := today.Sub(began.noon(l.Zone)).Round(24*time.Hour).Hours()/24 + 1
	type row struct {
		topic string
		count int
	}
	rows, err := all(ctx, n.db.Read, func(scan func(...any) error) (x row, err error) { return x, scan(&x.topic, &x.count) }, `
		SELECT t.topic, COUNT(*) FROM digests d
		JOIN entries e ON e.digest = d.id
		JOIN entry_topics t ON t.digest = e.digest AND t.article = e.article AND t.kind = e.kind
		WHERE d.newsletter = $1 AND d.day >= $2 AND e.withdrawn IS NULL
		GROUP BY t.topic`, newsletter, string(since))
	if err != nil {
		return nil, fmt.Errorf("measure topics: %w", err)
	}
	rates := map[string]float64{}
	for _, topic := range l.Topics {
		rates[topic] = 0
	}
	for _, x := range rows {
		rates[x.topic] = float64(x.count) / days
	}
	return rates, nil
}

// Sample is the path of the newsletter's last digest on the web, in the variant with the most topics, "" if none was sent yet;
// one that is held is passed over.
func (n *Newsroom) Sample(ctx context.Context, newsletter string) (string, error) {
	var day string
	var variant int64
	err := n.db.Read.QueryRowContext(ctx, `
		SELECT d.day, v.variant FROM digests d JOIN variants v ON v.digest = d.id
		WHERE d.newsletter = $1 AND d.began IS NOT NULL AND d.held IS NULL
		ORDER BY d.day DESC, LENGTH(v.topics) DESC, v.variant LIMIT 1`, newsletter).Scan(&day, &variant)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look for a sample: %w", err)
	}
	return fmt.Sprintf("/digest/%s/%s/%d", url.PathEscape(newsletter), day, variant), nil
}
