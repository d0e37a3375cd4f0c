package size

import (
	"math"
	"slices"

	"github.com/pantavisor/pantavisor/images/inspect"
)

// rect is a rectangle of a drawing.
type rect struct{ x, y, w, h float64 }

func (r rect) area() float64 { return r.w * r.h }

// inset returns the rectangle without its border and, at the top, the space for a name.
func (r rect) inset(border, top float64) rect {
	return rect{r.x + border, r.y + top, max(r.w-2*border, 0), max(r.h-top-border, 0)}
}

// squarify divides a rectangle into one for each weight, with areas in the proportion of the
// weights, as square as they come. Weights are sorted, the largest first, and positive.
//
// The method is that of M. Bruls, K. Huizing, J. van Wijk: Squarified Treemaps (2000).
func squarify(weights []float64, in rect) []rect {
	out := make([]rect, 0, len(weights))
	left := 0.0
	for _, w := range weights {
		left += w
	}
	for from := 0; from < len(weights); {
		side := min(in.w, in.h)
		scale := in.area() / left
		sum, to := weights[from], from+1
		worst := aspect(weights[from:to], sum, scale, side)
		for ; to < len(weights); to++ {
			next := aspect(weights[from:to+1], sum+weights[to], scale, side)
			if next > worst {
				break
			}
			worst, sum = next, sum+weights[to]
		}
		var row []rect
		row, in = lay(weights[from:to], sum, left, in)
		out = append(out, row...)
		left -= sum
		from = to
	}
	return out
}

// aspect returns the largest ratio of the sides in a row along a side. The first weight is the
// largest, the last the smallest.
func aspect(row []float64, sum, scale, side float64) float64 {
	if side <= 0 || scale <= 0 {
		return math.Inf(1)
	}
	thick := sum * scale / side
	return max(row[0]*scale/(thick*thick), thick*thick/(row[len(row)-1]*scale))
}

// lay puts a row along the shorter side, and returns what is left. The last row takes all of it.
func lay(row []float64, sum, left float64, in rect) (out []rect, rest rect) {
	share := 1.0
	if left > sum {
		share = sum / left
	}
	across := in.w > in.h // a column at the left
	at := 0.0
	for i, w := range row {
		end := (at + w) / sum
		if i == len(row)-1 {
			end = 1
		}
		begin := at / sum
		if across {
			out = append(out, rect{in.x, in.y + begin*in.h, in.w * share, (end - begin) * in.h})
		} else {
			out = append(out, rect{in.x + begin*in.w, in.y, (end - begin) * in.w, in.h * share})
		}
		at += w
	}
	if across {
		return out, rect{in.x + in.w*share, in.y, in.w * (1 - share), in.h}
	}
	return out, rect{in.x, in.y + in.h*share, in.w, in.h * (1 - share)}
}

// box is a thing in a drawing.
type box struct {
	rect
	of    *inspect.Sized
	path  string
	deep  int
	frame bool // others are drawn in it
}

// Sizes of a drawing, in its units.
const (
	headHeight = 15.0 // of the name above what is in a frame
	border     = 2.0
	leastFrame = 24.0 // sides of a frame that others are drawn in
	leastBox   = 2.5  // sides of what is drawn at all
	mostFrames = 12   // frames in each other
)

// boxes lays out a thing and what is in it, what is outside first.
func boxes(s *inspect.Sized, path string, in rect, deep int) []box {
	if in.w < leastBox || in.h < leastBox {
		return nil
	}
	out := []box{{in, s, path, deep, false}}
	inner := in.inset(border, headHeight)
	if len(s.Parts) == 0 || inner.w < leastFrame || inner.h < leastFrame || deep == mostFrames {
		return out
	}
	out[0].frame = true
	parts := slices.DeleteFunc(slices.Clone(s.Parts), func(p *inspect.Sized) bool { return p.Bytes <= 0 })
	weights := make([]float64, len(parts))
	for i, p := range parts {
		weights[i] = float64(p.Bytes)
	}
	for i, r := range squarify(weights, inner) {
		out = append(out, boxes(parts[i], joined(path, parts[i].Name), r, deep+1)...)
	}
	return out
}

// joined is a path with one more name.
func joined(path, name string) string {
	if path == "" {
		return name
	}
	return path + "/" + name
}
