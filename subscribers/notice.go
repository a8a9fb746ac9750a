package subscribers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html/atom"
)

// Notice is the paper's privacy notice. Its words are kept like any others, and every sign-up says which ones held (GDPR Art. 7(1)
// with Art. 13): an address alone shows what stands there today.
const Notice WordingKind = "privacy"

const maxNotice = 1 << 20

// readNotice reads the file with the privacy notice: text, Markdown, or a page, of which what stands in <main> or <body> counts.
func readNotice(file, language string) (Wording, error) {
	if file == "" {
		return Wording{}, nil
	}
	data, err := readSmall("publisher.privacy_file", file, maxNotice)
	if err != nil {
		return Wording{}, err
	}
	if !utf8.Valid(data) {
		return Wording{}, errors.New("publisher.privacy_file: expected UTF-8: " + file)
	}
	text := strings.TrimSpace(strings.TrimPrefix(strings.ReplaceAll(string(data), "\r\n", "\n"), "\ufeff")) + "\n"
	if isPage(data) {
		if text, err = visibleIn(data, atom.Main, atom.Body); err != nil {
			return Wording{}, fmt.Errorf("publisher.privacy_file: %s: %w", file, err)
		}
	}
	if strings.TrimSpace(text) == "" {
		return Wording{}, errors.New("publisher.privacy_file: there are no words in " + file)
	}
	return newWording(Notice, language, text), nil
}

func isPage(data []byte) bool {
	begin := bytes.ToLower(data[:min(len(data), 4096)])
	return bytes.Contains(begin, []byte("<html")) || bytes.Contains(begin, []byte("<!doctype html")) || bytes.Contains(begin, []byte("<main"))
}

// notices are the privacy notices that events name, each once, in their order.
func (r *Registry) notices(ctx context.Context, events []Event) ([]Wording, error) {
	notices := []Wording{}
	known := map[string]bool{"": true}
	for _, e := range events {
		if e.Particulars == nil || known[e.Particulars.Privacy] {
			continue
		}
		known[e.Particulars.Privacy] = true
		w := Wording{Hash: e.Particulars.Privacy}
		err := r.db.Read.QueryRowContext(ctx, `SELECT kind, language, text FROM wordings WHERE hash = $1`, w.Hash).Scan(&w.Kind, &w.Language, &w.Text)
		if err != nil {
			return nil, fmt.Errorf("read privacy notice: %w", err)
		}
		notices = append(notices, w)
	}
	return notices, nil
}
