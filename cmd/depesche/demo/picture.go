package demo

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"math"
)

const pictureWidth, pictureHeight = 1200, 675

// valley is a sunrise over three ridges.
func valley() []byte {
	return paint(func(x, y float64) color.RGBA {
		ridges := []struct {
			height, swing, pace float64
			colour              color.RGBA
		}{
			{0.88, 0.05, 7, color.RGBA{38, 66, 58, 255}},
			{0.74, 0.07, 5, color.RGBA{74, 107, 96, 255}},
			{0.60, 0.09, 4, color.RGBA{140, 158, 150, 255}},
		}
		for i, r := range ridges {
			if y > r.height+r.swing*math.Sin(r.pace*x+2*float64(i)) {
				return r.colour
			}
		}
		if math.Hypot((x-0.62)*16/9, y-0.36) < 0.09 {
			return color.RGBA{255, 244, 214, 255}
		}
		return blend(color.RGBA{246, 178, 122, 255}, color.RGBA{253, 226, 178, 255}, y/0.6)
	})
}

// bridge is three arches over a river.
func bridge() []byte {
	return paint(func(x, y float64) color.RGBA {
		stone, water := color.RGBA{150, 134, 116, 255}, color.RGBA{86, 124, 140, 255}
		inArch := false
		for _, middle := range []float64{0.2, 0.5, 0.8} {
			inArch = inArch || math.Hypot((x-middle)/0.12, (y-0.72)/0.24) < 1
		}
		switch {
		case y > 0.72:
			return blend(water, color.RGBA{58, 92, 108, 255}, (y-0.72)/0.28+0.1*math.Sin(60*y+4*x))
		case y > 0.40 && !inArch:
			return stone
		case y > 0.37 && y <= 0.40:
			return color.RGBA{120, 106, 92, 255}
		case y > 0.60:
			return color.RGBA{112, 138, 104, 255}
		}
		return blend(color.RGBA{176, 203, 222, 255}, color.RGBA{238, 234, 222, 255}, y/0.6)
	})
}

// paint asks for the colour of every point; x and y run from 0 to 1, from the upper left corner.
func paint(at func(x, y float64) color.RGBA) []byte {
	canvas := image.NewRGBA(image.Rect(0, 0, pictureWidth, pictureHeight))
	for row := range pictureHeight {
		for column := range pictureWidth {
			canvas.SetRGBA(column, row, at(float64(column)/pictureWidth, float64(row)/pictureHeight))
		}
	}
	var out bytes.Buffer
	_ = jpeg.Encode(&out, canvas, &jpeg.Options{Quality: 82}) // fails only for larger pictures or a writer that fails
	return out.Bytes()
}

// blend goes from one colour to the other as share goes from 0 to 1.
func blend(from, to color.RGBA, share float64) color.RGBA {
	share = min(1, max(0, share))
	mix := func(a, b uint8) uint8 { return uint8(float64(a) + share*(float64(b)-float64(a))) }
	return color.RGBA{mix(from.R, to.R), mix(from.G, to.G), mix(from.B, to.B), 255}
}
