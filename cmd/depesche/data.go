package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"time"

	"depesche/subscribers"
)

// personalData is everything kept about the person with that address, for the page "my data": as JSON, and as a page to read.
func (h *house) personalData(ctx context.Context, _ time.Time, address, language string) (asJSON, asPage []byte, err error) {
	reader, err := h.registry.Show(ctx, address)
	if err != nil {
		return nil, nil, err
	}
	proof, err := h.registry.Proof(ctx, address)
	if err != nil {
		return nil, nil, err
	}
	asJSON, err = json.MarshalIndent(struct {
		Reader subscribers.Reader `json:"reader"`
		Proof  subscribers.Proof  `json:"proof"`
	}{reader, proof}, "", " ")
	if err != nil {
		return nil, nil, fmt.Errorf("write personal data: %w", err)
	}
	var text bytes.Buffer
	printReader(&text, reader)
	printProof(&text, proof)
	asPage = fmt.Appendf(nil, "<!doctype html>\n<html lang=%q>\n<meta charset=\"utf-8\">\n<title>%s</title>\n<pre>%s</pre>\n</html>\n",
		language, html.EscapeString(h.config.Publisher.Paper), html.EscapeString(text.String()))
	return asJSON, asPage, nil
}
