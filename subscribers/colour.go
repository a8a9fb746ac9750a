package subscribers

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// The least contrast of text with its ground, and of what is no text but must be seen (WCAG 2.2, 1.4.3 and 1.4.11).
const (
	textContrast = 4.5
	lineContrast = 3
)

// brandColours gives the paper's colours to the style sheet. What is written on the paper's colour is black or white where
// the configuration does not say: whichever has more contrast, which is always enough.
func brandColours(p Publisher) string {
	on := p.ColourText
	if on == "" {
		on = readable(p.Colour)
	}
	light := fmt.Sprintf("--brand: %s; --on-brand: %s;", p.Colour, on)
	if p.LinkColour != "" {
		light += " --link: " + p.LinkColour + ";"
	}
	out := ":root { " + light + " }\n"
	if p.LinkColourDark != "" {
		out += "@media (prefers-color-scheme: dark) { :root { --link: " + p.LinkColourDark + "; } }\n"
	}
	return out
}

// readable is black or white, whichever has more contrast with the colour: at least 4.58:1, whatever the colour.
func readable(colour string) string {
	if contrast("#000000", colour) > contrast("#ffffff", colour) {
		return "#000000"
	}
	return "#ffffff"
}

// pair is a colour and what it stands on, by the names the style sheet has for them.
type pair struct {
	colour, ground string
	least          float64
}

// pairs are what the pages put on what.
var pairs = []pair{
	{"--text", "--paper", textContrast},
	{"--text", "--ground", textContrast},
	{"--quiet", "--paper", textContrast},
	{"--quiet", "--ground", textContrast},
	{"--link", "--paper", textContrast},
	{"--link", "--ground", textContrast},
	{"--good", "--paper", textContrast},
	{"--bad", "--paper", textContrast},
	{"--bad", "--bad-ground", textContrast},
	{"--on-brand", "--brand", textContrast},
	{"--line", "--paper", lineContrast},
}

// checkContrast wants the colours of a style sheet, the paper's among them, to be readable, by day and by night. The error
// names the key of the configuration or else the name in the sheet, and the ratio. A sheet of the paper's own that does not
// use a name is not judged by it.
func checkContrast(sheet string, p Publisher) error {
	light, dark := customProperties(sheet)
	for _, scheme := range []struct {
		name    string
		colours map[string]string
		keys    map[string]string
	}{
		{"light", light, map[string]string{
			"--on-brand": "publisher.colour_text", "--link": "publisher.link_colour", "--brand": "publisher.colour",
		}},
		{"dark", dark, map[string]string{
			"--on-brand": "publisher.colour_text", "--link": "publisher.link_colour_dark", "--brand": "publisher.colour",
		}},
	} {
		given := map[string]string{
			"publisher.colour_text": p.ColourText, "publisher.link_colour": p.LinkColour,
			"publisher.link_colour_dark": p.LinkColourDark, "publisher.colour": p.Colour,
		}
		named := func(property string) string {
			if key := scheme.keys[property]; given[key] != "" {
				return key
			}
			return "web/style.css: " + property
		}
		for _, one := range pairs {
			colour, ground := scheme.colours[one.colour], scheme.colours[one.ground]
			if !isColour(colour) || !isColour(ground) {
				continue
			}
			if ratio := contrast(colour, ground); ratio < one.least {
				return fmt.Errorf("%s: %s on %s %s (%s) has a contrast of %.2f:1, at least %.1f:1 is needed (WCAG 2.2, %s)",
					named(one.colour), colour, strings.TrimPrefix(named(one.ground), "web/style.css: "), ground, scheme.name,
					math.Floor(ratio*100)/100, one.least, criterion(one.least))
			}
		}
	}
	return nil
}

func criterion(least float64) string {
	if least == textContrast {
		return "1.4.3"
	}
	return "1.4.11"
}

var (
	rootRule = regexp.MustCompile(`(@media \(prefers-color-scheme: dark\)\s*\{\s*)?:root\s*\{([^}]*)\}`)
	property = regexp.MustCompile(`(--[a-z-]+)\s*:\s*([^;}]+)`)
)

// customProperties are those a sheet sets on :root, by day and by night; the last one counts, as in a browser.
func customProperties(sheet string) (light, dark map[string]string) {
	light, night := map[string]string{}, map[string]string{}
	for _, rule := range rootRule.FindAllStringSubmatch(sheet, -1) {
		into := light
		if rule[1] != "" {
			into = night
		}
		for _, p := range property.FindAllStringSubmatch(rule[2], -1) {
			into[p[1]] = strings.TrimSpace(p[2])
		}
	}
	dark = map[string]string{}
	for _, colours := range []map[string]string{light, night} {
		for name, value := range colours {
			dark[name] = value
		}
	}
	return light, dark
}

var sixDigits = regexp.MustCompile(`^#[0-9a-fA-F]{6}$`)

func isColour(text string) bool { return sixDigits.MatchString(text) }

// contrast is the contrast ratio of two colours #rrggbb (WCAG 2.2), 1 to 21.
func contrast(a, b string) float64 {
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

// luminance is the relative luminance of #rrggbb (WCAG 2.2), 0 to 1.
func luminance(colour string) float64 {
	value, err := strconv.ParseUint(strings.TrimPrefix(colour, "#"), 16, 32)
	if err != nil {
		return 0
	}
	linear := func(channel uint64) float64 {
		c := float64(channel&0xff) / 255
		if c <= 0.04045 {
			return c / 12.92
		}
		return math.Pow((c+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(value>>16) + 0.7152*linear(value>>8) + 0.0722*linear(value)
}
