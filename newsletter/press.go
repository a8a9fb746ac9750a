package newsletter

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"

	"depesche/newsletter/render"
)

// press makes the message of a variant when the first of its readers is due, and keeps it: a variant's message is small,
// because it shares its entries with the others. Of a digest with very many variants one shelf after the other is sent.
type press struct {
	newsroom *Newsroom
	edition  *edition

	mu     sync.Mutex
	prints map[int64]*print
	order  []int64 // the oldest first

	topics map[int64]string // of the variants of a shelf; guarded by mu, too
	shelf  int64
}

// print is one variant's message, made once.
type print struct {
	once    sync.Once
	message *render.Message // nil: nothing is left in it
	err     error
}

// mostPrints is how many are kept: a shelf of variants.
const mostPrints = 1024

func newPress(n *Newsroom, e *edition) *press {
	return &press{newsroom: n, edition: e, prints: map[int64]*print{}, shelf: -1}
}

// message is that of a variant; nil if everything in it was withdrawn.
func (p *press) message(variant int64) (*render.Message, error) {
	p.mu.Lock()
	one, made := p.prints[variant]
	if !made {
		one = &print{}
		p.prints[variant] = one
		if p.order = append(p.order, variant); len(p.order) > mostPrints {
			delete(p.prints, p.order[0])
			p.order = append(p.order[:0], p.order[1:]...)
		}
	}
	p.mu.Unlock()
	one.once.Do(func() { one.message, one.err = p.print(variant) })
	return one.message, one.err
}

func (p *press) print(variant int64) (*render.Message, error) {
	topics, err := p.chosen(variant)
	if err != nil {
		return nil, err
	}
	body, err := p.edition.variant(variant, strings.Split(topics, ","))
	if errors.Is(err, ErrNothingLeft) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	message, err := p.edition.message(body)
	if err != nil {
		return nil, fmt.Errorf("build variant %d: %w", variant, err)
	}
	return message, nil
}

// chosen are the topics of a variant. Those of a whole shelf are read at once: they are wanted one after the other.
func (p *press) chosen(variant int64) (topics string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if shelf := variant / mostPrints; shelf != p.shelf || p.topics[variant] == "" {
		p.topics = map[int64]string{}
		p.shelf = shelf
		err = p.read(shelf)
	}
	topics, found := p.topics[variant]
	if err == nil && !found {
		err = sql.ErrNoRows
	}
	if err != nil {
		return "", fmt.Errorf("read variant %d: %w", variant, err)
	}
	return topics, nil
}

func (p *press) read(shelf int64) error {
	_, err := all(context.Background(), p.newsroom.db.Read, func(scan func(...any) error) (variant int64, err error) {
		var topics string
		err = scan(&variant, &topics)
		p.topics[variant] = topics
		return variant, err
	}, `SELECT variant, topics FROM variants WHERE digest = $1 AND variant >= $2 AND variant < $3`,
		p.edition.digest.ID, shelf*mostPrints, (shelf+1)*mostPrints)
	return err
}
