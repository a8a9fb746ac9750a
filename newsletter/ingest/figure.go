package ingest

import (
	"net/url"
	"regexp"
	"strings"

	"golang.org/x/net/html"
)

// tidy cleans a picture's texts, tells the credit from the caption and makes the address absolute. A picture without
// http(s) address is none.
func (p *Picture) tidy(base *url.URL) *Picture {
	if p == nil {
		return nil
	}
	tidy := Picture{URL: absolute(p.URL, base), Alt: plain(p.Alt)}
	if tidy.URL == "" {
		return nil
	}
	caption, credit := splitCredit(plain(p.Caption))
	tidy.Caption = caption
	tidy.Credit = creditText(first(plain(p.Credit), credit))
	return &tidy
}

var (
	// "… (Archivbild) Foto: Erika Muster/dpa", "… © Erika Muster"
	captionCredit = regexp.MustCompile(`(?i)(?:^|[\s(\[–—|])((?:(?:archiv|symbol)?(?:fotos?|bild(?:er|quelle|rechte|nachweis)?|grafik)|quelle|photos?(?: by)?|` +
		`picture|image|credit|illustration)\s*(?::\s*©?|©)|©|\(c\)\s|copyright\s*:?)\s*`)
	creditPrefix = regexp.MustCompile(`(?i)^(?:(?:(?:archiv|symbol)?(?:fotos?|bild(?:er|quelle|rechte|nachweis)?|grafik)|quelle|photos?(?: by)?|picture|image|` +
		`credit|illustration|copyright)\s*:|©|\(c\)\s)\s*`)
)

// longestCredit is how many bytes a credit may have; what follows "Bild:" for longer is a sentence.
const longestCredit = 150

// splitCredit cuts the credit off the end of a caption.
func splitCredit(caption string) (text, credit string) {
	all := captionCredit.FindAllStringSubmatchIndex(caption, -1)
	if len(all) == 0 {
		return caption, ""
	}
	last := all[len(all)-1]
	credit = strings.TrimSpace(caption[last[1]:])
	if credit == "" || len(credit) > longestCredit {
		return caption, ""
	}
	text = strings.TrimRight(caption[:last[2]], " ([|–—-")
	if open := strings.Count(credit, "(") < strings.Count(credit, ")"); open {
		credit = strings.TrimSuffix(credit, ")")
	}
	return text, strings.TrimRight(credit, " ]")
}

// creditText is a credit without the word before it: "Foto: Erika Muster/dpa" credits Erika Muster/dpa.
func creditText(s string) string {
	for creditPrefix.MatchString(s) {
		s = creditPrefix.ReplaceAllString(s, "")
	}
	return s
}

var creditRoles = wordSet("credit credits copyright copyrights photographer source quelle urheber fotograf bildnachweis bildquelle")

// firstPicture is the first figure, or image, of a text that is more than an icon or a counting pixel; nil for none.
func firstPicture(root *html.Node) *Picture {
	for img := range below(root, "img") {
		if p := pictureAt(img); p != nil && !inBox(img) {
			return p
		}
	}
	return nil
}

// inBox reports that something is part of what stands around a text: a button to share, a teaser, an advertisement.
func inBox(n *html.Node) bool {
	for n = n.Parent; n != nil; n = n.Parent {
		if n.Type == html.ElementNode && standsAround(n) {
			return true
		}
	}
	return false
}

// pictureAt reads an image with the caption of its figure.
func pictureAt(img *html.Node) *Picture {
	source := first(attribute(img, "src"), attribute(img, "data-src"))
	if strings.HasPrefix(source, "data:") { // a placeholder until a script loads the picture
		source = attribute(img, "data-src")
	}
	if source == "" || tiny(attribute(img, "width")) || tiny(attribute(img, "height")) {
		return nil
	}
	p := &Picture{URL: source, Alt: attribute(img, "alt")}
	figure := figureOf(img)
	if figure != nil {
		p.Caption, p.Credit = captionOf(figure)
	}
	return p
}

// figureOf is the figure an image stands in, or a box of image and caption in its place; nil for none.
func figureOf(img *html.Node) *html.Node {
	if figure := ancestor(img, "figure"); figure != nil {
		return figure
	}
	const near = 3
	box := img.Parent
	for range near {
		if !is(box, "div", "span", "a", "picture", "p") {
			return nil
		}
		if find(box, isCaption) != nil {
			return box
		}
		box = box.Parent
	}
	return nil
}

var captionRoles = wordSet("caption figcaption bildunterschrift bildtext bildzeile")

func isCaption(n *html.Node) bool { return hasRole(n, captionRoles) && textOf(n) != "" }

// tiny reports the size of an icon, a button or a pixel that counts readers.
func tiny(size string) bool {
	n := number(strings.TrimSuffix(size, "px"))
	return size != "" && n > 0 && n < 50 || size == "0"
}

// captionOf reads caption and credit of a figure. A caption that is there twice, for two widths of the screen, counts once.
func captionOf(figure *html.Node) (caption, credit string) {
	box := find(figure, named("figcaption"))
	if box == nil {
		box = find(figure, isCaption)
	}
	if box == nil {
		return "", ""
	}
	signed := find(box, func(n *html.Node) bool { return hasRole(n, creditRoles) })
	if signed != nil {
		credit = textOf(signed)
	}
	caption = textOf(box, signed)
	half := len(caption) / 2
	if len(caption)%2 == 1 && caption[half] == ' ' && caption[:half] == caption[half+1:] {
		caption = caption[:half]
	}
	text, split := splitCredit(caption)
	return text, creditText(first(credit, split))
}
