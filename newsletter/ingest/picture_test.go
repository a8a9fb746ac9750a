package ingest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"strings"
	"testing"
)

// painted is a picture whose upper left quarter is red and whose rest is blue.
func painted(width, height int) *image.Paletted {
	p := image.NewPaletted(image.Rect(0, 0, width, height), color.Palette{
		color.RGBA{B: 255, A: 255}, color.RGBA{R: 255, A: 255}, color.RGBA{},
	})
	for y := range height / 2 {
		for x := range width / 2 {
			p.SetColorIndex(x, y, 1)
		}
	}
	return p
}

func TestShrinkPicture(t *testing.T) {
	for _, c := range []struct {
		name                  string
		encode                func(*bytes.Buffer, image.Image) error
		width, height         int
		wantWidth, wantHeight int
	}{
		{"small PNG", func(b *bytes.Buffer, p image.Image) error { return png.Encode(b, p) }, 300, 200, 300, 200},
		{"wide PNG", func(b *bytes.Buffer, p image.Image) error { return png.Encode(b, p) }, 3000, 1500, 1200, 600},
		{"JPEG", func(b *bytes.Buffer, p image.Image) error { return jpeg.Encode(b, p, nil) }, 1300, 650, 1200, 600},
		{"GIF", func(b *bytes.Buffer, p image.Image) error { return gif.Encode(b, p, nil) }, 40, 2000, 40, 2000},
		{"line", func(b *bytes.Buffer, p image.Image) error { return png.Encode(b, p) }, 9000, 2, 1200, 1},
	} {
		var original bytes.Buffer
		if err := c.encode(&original, painted(c.width, c.height)); err != nil {
			t.Fatal(err)
		}
		got, err := ShrinkPicture(&original)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		decoded, err := jpeg.Decode(bytes.NewReader(got.Bytes))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		size, sum := decoded.Bounds().Size(), sha256.Sum256(got.Bytes)
		if got.Type != "image/jpeg" || got.Width != c.wantWidth || got.Height != c.wantHeight || size.X != got.Width ||
			size.Y != got.Height || got.Hash != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: %s %d×%d (%v), want %d×%d", c.name, got.Type, got.Width, got.Height, size, c.wantWidth, c.wantHeight)
		}
	}
}

func TestShrinkTransparent(t *testing.T) {
	var original bytes.Buffer
	if err := png.Encode(&original, image.NewNRGBA(image.Rect(0, 0, 8, 8))); err != nil {
		t.Fatal(err)
	}
	got, err := ShrinkPicture(&original)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := jpeg.Decode(bytes.NewReader(got.Bytes))
	if err != nil {
		t.Fatal(err)
	}
	if r, g, b, _ := decoded.At(4, 4).RGBA(); r>>8 < 250 || g>>8 < 250 || b>>8 < 250 {
		t.Errorf("transparent became %d %d %d, want white", r>>8, g>>8, b>>8)
	}
}

// A camera held upright writes a picture that lies on its side, and a tag that says so.
func TestShrinkTurned(t *testing.T) {
	var original bytes.Buffer
	if err := jpeg.Encode(&original, painted(80, 40), nil); err != nil {
		t.Fatal(err)
	}
	tiff := "MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
	segment := "Exif\x00\x00" + tiff
	tagged := "\xFF\xD8\xFF\xE1" + string(binary.BigEndian.AppendUint16(nil, uint16(len(segment)+2))) + segment + original.String()[2:]
	got, err := ShrinkPicture(strings.NewReader(tagged))
	if err != nil || got.Width != 40 || got.Height != 80 {
		t.Fatalf("%d×%d, %v, want 40×80", got.Width, got.Height, err)
	}
	decoded, err := jpeg.Decode(bytes.NewReader(got.Bytes))
	if err != nil {
		t.Fatal(err)
	}
	if r, _, b, _ := decoded.At(30, 10).RGBA(); r < b { // what was upper left is upper right
		t.Error("the picture was not turned right")
	}
}

// header is the beginning of a PNG of this size, and nothing else.
func header(width, height uint32) string {
	chunk := []byte("IHDR")
	chunk = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(chunk, width), height)
	chunk = append(chunk, 8, 2, 0, 0, 0)
	out := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0D"), chunk...)
	return string(binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(chunk)))
}

func TestShrinkRefused(t *testing.T) {
	for name, c := range map[string]struct{ data, want string }{
		"empty":      {"", "neither JPEG"},
		"SVG":        {"<svg xmlns='http://www.w3.org/2000/svg'/>", "neither JPEG"},
		"megapixels": {header(40000, 40000), "40000×40000 pixels"},
		"overflow":   {header(1<<31-1, 1<<31-1), "refused"},
		"broken":     {header(10, 10), "refused"},
		"bytes":      {header(10, 10) + strings.Repeat("x", 10<<20), "exceeds 10 MiB"},
	} {
		_, err := ShrinkPicture(strings.NewReader(c.data))
		if !errors.Is(err, ErrPicture) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}
