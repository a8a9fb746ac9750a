package ingest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/color"
	_ "image/gif" // what image.Decode reads
	"image/jpeg"
	_ "image/png"
	"io"

	"golang.org/x/image/draw"
	_ "golang.org/x/image/webp"
)

// Bounds of pictures. A newsletter's column is 600 px wide; twice that looks sharp on every screen.
const (
	maxPictureBytes  = 10 << 20
	maxPicturePixels = 40_000_000
	maxPictureWidth  = 1200 // px
	pictureQuality   = 80   // JPEG
)

// Copy is a picture as it is delivered: a JPEG of bounded width, without whatever else the original held.
type Copy struct {
	Type          string // media type, image/jpeg
	Width, Height int    // px
	Bytes         []byte
	Hash          string // SHA-256 of Bytes in hex
}

// ErrPicture is why [ShrinkPicture] refuses a picture: too large, broken, or of another format.
var ErrPicture = errors.New("picture refused")

// ShrinkPicture makes the copy of a JPEG, PNG, GIF (its first frame) or WebP that mails may point to. What is transparent
// becomes white. The dimensions are looked at before anything is decoded.
func ShrinkPicture(r io.Reader) (Copy, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxPictureBytes+1))
	if err != nil {
		return Copy{}, fmt.Errorf("read picture: %w", err)
	}
	if len(data) > maxPictureBytes {
		return Copy{}, fmt.Errorf("%w: exceeds %d MiB", ErrPicture, maxPictureBytes>>20)
	}
	config, format, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return Copy{}, fmt.Errorf("%w: neither JPEG, PNG, GIF nor WebP: %w", ErrPicture, err)
	}
	if w, h := int64(config.Width), int64(config.Height); w < 1 || h < 1 || w > maxPicturePixels/h {
		return Copy{}, fmt.Errorf("%w: %d×%d pixels, at most %d million", ErrPicture, w, h, maxPicturePixels/1_000_000)
	}
	decoded, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return Copy{}, fmt.Errorf("%w: %w", ErrPicture, err)
	}
	turn := upright
	if format == "jpeg" {
		turn = orientation(data)
	}
	return encode(turn.apply(shrink(decoded, turn)))
}

func encode(picture image.Image) (Copy, error) {
	var out bytes.Buffer
	if err := jpeg.Encode(&out, picture, &jpeg.Options{Quality: pictureQuality}); err != nil {
		return Copy{}, fmt.Errorf("encode picture: %w", err)
	}
	sum := sha256.Sum256(out.Bytes())
	size := picture.Bounds().Size()
	return Copy{
		Type: "image/jpeg", Width: size.X, Height: size.Y, Bytes: out.Bytes(), Hash: hex.EncodeToString(sum[:]),
	}, nil
}

// shrink draws a picture on white, no wider than it may be once it is turned. It goes by halves, where a bilinear filter
// is exactly the mean of four pixels; one big step would skip pixels.
func shrink(from image.Image, turn exif) *image.RGBA {
	size := from.Bounds().Size()
	wide := &size.X
	if turn.sideways() {
		wide = &size.Y
	}
	for *wide > 2*maxPictureWidth {
		from = scaled(from, max(size.X/2, 1), max(size.Y/2, 1))
		size.X, size.Y = max(size.X/2, 1), max(size.Y/2, 1)
	}
	if *wide > maxPictureWidth {
		ratio := float64(maxPictureWidth) / float64(*wide)
		size.X, size.Y = max(int(float64(size.X)*ratio+0.5), 1), max(int(float64(size.Y)*ratio+0.5), 1)
	}
	return scaled(from, size.X, size.Y)
}

func scaled(from image.Image, width, height int) *image.RGBA {
	to := image.NewRGBA(image.Rect(0, 0, width, height))
	draw.Draw(to, to.Bounds(), image.NewUniform(color.White), image.Point{}, draw.Src)
	draw.ApproxBiLinear.Scale(to, to.Bounds(), from, from.Bounds(), draw.Over, nil)
	return to
}

// exif is how a camera was held (Exif 2.3 §4.6.4, tag 0x0112). A copy has no such tag, so its pixels are turned.
type exif uint16

const upright exif = 1

func (e exif) sideways() bool { return e >= 5 && e <= 8 }

// apply turns a picture upright.
func (e exif) apply(from *image.RGBA) *image.RGBA {
	if e <= upright || e > 8 {
		return from
	}
	w, h := from.Rect.Dx(), from.Rect.Dy()
	to := image.NewRGBA(image.Rect(0, 0, w, h))
	if e.sideways() {
		to = image.NewRGBA(image.Rect(0, 0, h, w))
	}
	for y := range h {
		for x := range w {
			tx, ty := e.target(x, y, w, h)
			to.SetRGBA(tx, ty, from.RGBAAt(x, y))
		}
	}
	return to
}

// target is where the pixel (x, y) of a picture of w×h belongs.
func (e exif) target(x, y, w, h int) (tx, ty int) {
	switch e {
	case 2:
		return w - 1 - x, y
	case 3:
		return w - 1 - x, h - 1 - y
	case 4:
		return x, h - 1 - y
	case 5:
		return y, x
	case 6:
		return h - 1 - y, x
	case 7:
		return h - 1 - y, w - 1 - x
	case 8:
		return y, w - 1 - x
	}
	return x, y
}

// orientation finds the tag in a JPEG's APP1 segment. What it cannot read is upright.
func orientation(jpg []byte) exif {
	for at := 2; at+4 <= len(jpg) && jpg[at] == 0xFF && jpg[at+1] != 0xDA; {
		length := int(jpg[at+2])<<8 | int(jpg[at+3])
		end := at + 2 + length
		if length < 2 || end > len(jpg) {
			break
		}
		if tiff, ok := bytes.CutPrefix(jpg[at+4:end], []byte("Exif\x00\x00")); ok && jpg[at+1] == 0xE1 {
			return tiffOrientation(tiff)
		}
		at = end
	}
	return upright
}

func tiffOrientation(tiff []byte) exif {
	if len(tiff) < 8 {
		return upright
	}
	little := tiff[0] == 'I'
	read := func(at, bytes int) int { // out of bounds is 0
		n := 0
		for i := range bytes {
			k := at + i
			if little {
				k = at + bytes - 1 - i
			}
			if k < 0 || k >= len(tiff) {
				return 0
			}
			n = n<<8 | int(tiff[k])
		}
		return n
	}
	directory := read(4, 4)
	for i := range min(read(directory, 2), 200) {
		entry := directory + 2 + 12*i
		if read(entry, 2) == 0x0112 {
			if value := exif(read(entry+8, 2)); value >= 1 && value <= 8 {
				return value
			}
		}
	}
	return upright
}
