package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// dataForPage is everything kept about the person with that address, for the page "my data": as JSON, and as a page to read.
func (h *house) dataForPage(ctx context.Context, now time.Time, address, language string) (asJSON, asPage []byte, err error) {
	data, err := h.personalData(ctx, now, address)
	if err != nil {
		return nil, nil, err
	}
	if asJSON, err = json.MarshalIndent(data, "", " "); err != nil {
		return nil, nil, fmt.Errorf("write personal data: %w", err)
	}
	asPage, err = h.registry.DataPage(data, language, h.zone())
	return asJSON, asPage, err
}
