package subscribers

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
)

// logo is the picture in the head of every page, served by us: no page of ours asks anybody else for anything.
type logo struct {
	path string // its address, another one when it changes; "" for none
	kind string
	data []byte
}

const maxLogo = 256 << 10 // bytes

// readLooks reads the style sheets, the box's script and the logo, and checks the colours.
func (v *views) readLooks(templates fs.FS) (err error) {
	sheet, err := fs.ReadFile(templates, "web/style.css")
	if err != nil {
		return fmt.Errorf("read style sheet: %w", err)
	}
	// The paper's colours come after the sheet's own, which they replace.
	v.sheet = append(bytes.TrimRight(sheet, "\n"), []byte("\n"+brandColours(v.settings.Publisher))...)
	if err := checkContrast(string(v.sheet), v.settings.Publisher); err != nil {
		return err
	}
	v.style = "/style.css?" + fingerprint(v.sheet)
	if v.boxSheet, err = fs.ReadFile(templates, "web/embed.css"); err != nil {
		return fmt.Errorf("read style sheet of the box: %w", err)
	}
	colours := fmt.Sprintf(".depesche { --paper-colour: %s; --paper-text: %s; }\n", v.settings.Publisher.Colour, brandText(v.settings.Publisher))
	v.boxSheet = append([]byte(colours), v.boxSheet...)
	if v.script, err = fs.ReadFile(templates, "web/embed.js"); err != nil {
		return fmt.Errorf("read script of the box: %w", err)
	}
	if v.logo, err = readLogo(v.settings.Publisher.LogoFile); err != nil {
		return err
	}
	v.notice, err = readNotice(v.settings.Publisher.PrivacyFile, v.settings.Language)
	return err
}

func brandText(p Publisher) string {
	if p.ColourText != "" {
		return p.ColourText
	}
	return readable(p.Colour)
}

func fingerprint(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

// readLogo reads a picture file: SVG, PNG, JPEG, WebP or GIF, known by its content.
func readLogo(file string) (logo, error) {
	if file == "" {
		return logo{}, nil
	}
	data, err := readSmall("publisher.logo_file", file, maxLogo)
	if err != nil {
		return logo{}, err
	}
	kind := http.DetectContentType(data)
	switch {
	case bytes.Contains(data[:min(len(data), 1024)], []byte("<svg")):
		kind = "image/svg+xml"
	case kind != "image/png" && kind != "image/jpeg" && kind != "image/webp" && kind != "image/gif":
		return logo{}, errors.New("publisher.logo_file: expected a picture (SVG, PNG, JPEG, WebP or GIF): " + file)
	}
	return logo{"/logo?" + fingerprint(data), kind, data}, nil
}

// readSmall reads a file that a setting names.
func readSmall(setting, file string, most int) ([]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	if len(data) > most {
		return nil, fmt.Errorf("%s: %s has %d bytes, expected at most %d", setting, file, len(data), most)
	}
	return data, nil
}

// serveLooks are what the pages and the box are made of: nothing in them is anybody's.
func (p *pages) serveLooks(routes map[string]http.HandlerFunc) {
	const year, hour = "public, max-age=31536000, immutable", "public, max-age=3600"
	routes["GET /style.css"] = asset("text/css; charset=utf-8", year, p.views.sheet)
	routes["GET /embed.css"] = shared(asset("text/css; charset=utf-8", hour, p.views.boxSheet))
	routes["GET /embed.js"] = shared(asset("text/javascript; charset=utf-8", hour, p.views.script))
	if p.views.logo.path != "" {
		routes["GET /logo"] = asset(p.views.logo.kind, year, p.views.logo.data)
	}
}

func asset(kind, cache string, data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", kind)
		h.Set("Cache-Control", cache)
		// A drawing opened by itself runs nothing; its own styles are part of it.
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		_, _ = w.Write(data)
	}
}

// shared lets the paper's pages load what belongs to the box, also where they are isolated (COEP) or check its hash (SRI).
func shared(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Cross-Origin-Resource-Policy", "cross-origin")
		next(w, r)
	}
}
