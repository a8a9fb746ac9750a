package render

import (
	"fmt"
	"math"
	"os"
	"regexp"
	"testing"
)

var (
	lightPair = regexp.MustCompile(`color:(#[0-9a-f]{6});background-color:(#[0-9a-f]{6})`)
	darkPair  = regexp.MustCompile(`background-color: (#[0-9a-f]{6}) !important; color: (#[0-9a-f]{6}) !important`)
	darkTitle = regexp.MustCompile(`a\.t \{ color: (#[0-9a-f]{6})`)
)

// Text can be read in light and dark (WCAG 2.2, 1.4.3).
func TestContrast(t *testing.T) {
	page, err := os.ReadFile("testdata/de.digest.html")
	if err != nil {
		t.Fatal(err)
	}
	light, dark := lightPair.FindAllStringSubmatch(string(page), -1), darkPair.FindAllStringSubmatch(string(page), -1)
	if len(light) == 0 || len(dark) < 3 {
		t.Fatalf("%d light and %d dark pairs of colours found", len(light), len(dark))
	}
	dark = append(dark, []string{"", dark[0][1], darkTitle.FindStringSubmatch(string(page))[1]})
	for _, pair := range append(light, dark...) {
		if ratio := contrast(luminance(pair[1]), luminance(pair[2])); ratio < 4.5 {
			t.Errorf("%s and %s: contrast %.1f", pair[1], pair[2], ratio)
		}
	}
}

func contrast(a, b float64) float64 { return (max(a, b) + 0.05) / (min(a, b) + 0.05) }

func luminance(colour string) float64 {
	var r, g, b int
	if _, err := fmt.Sscanf(colour, "#%02x%02x%02x", &r, &g, &b); err != nil {
		return 0
	}
	return 0.2126*linear(r) + 0.7152*linear(g) + 0.0722*linear(b)
}

func linear(c int) float64 {
	v := float64(c) / 255
	if v <= 0.04045 {
		return v / 12.92
	}
	return math.Pow((v+0.055)/1.055, 2.4)
}
