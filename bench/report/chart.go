package report

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"slices"
)

// Layout of a chart, in SVG units.
const (
	width, height = 880, 500
	left, right   = 84, 212 // right leaves room for the lines' labels
	top, bottom   = 86, 56
	labelGap      = 19 // least distance between two labels
)

// chart draws lines over two logarithmic axes.
type chart struct {
	title, subtitle  string
	xFormat, yFormat func(float64) string
	binary           bool // ticks of the y axis at powers of four, not of ten
	series           []series
}

type series struct {
	label, class string
	points       []dot // ascending in x; positive
}

// dot is one point; low and high are its spread, or zero.
type dot struct{ x, y, low, high float64 }

// scale maps a value to a position, logarithmically.
type scale struct{ low, high, from, to float64 }

func (s scale) at(v float64) float64 {
	if s.high == s.low {
		return (s.from + s.to) / 2
	}
	return s.from + (math.Log(v)-math.Log(s.low))/(math.Log(s.high)-math.Log(s.low))*(s.to-s.from)
}

// render returns the picture, or nil when there is no point to draw.
func (c *chart) render() []byte {
	if len(c.series) == 0 {
		return nil
	}
	xs, y, ticks := c.scales()
	x := scale{xs[0], xs[len(xs)-1], left + 10, width - right - 10}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s">`+"\n",
		width, height, html.EscapeString(c.title+": "+c.subtitle))
	b.WriteString(style)
	fmt.Fprintf(&b, `<rect class="card" x="0.5" y="0.5" width="%d" height="%d" rx="10"/>`+"\n", width-1, height-1)
	text(&b, "title", "start", 28, 36, c.title)
	text(&b, "sub", "start", 28, 58, c.subtitle)
	for _, t := range ticks {
		at := y.at(t)
		fmt.Fprintf(&b, `<path class="grid" d="M%d %.1fH%d"/>`+"\n", left, at, width-right)
		text(&b, "tick", "end", left-10, at+4, c.yFormat(t))
	}
	for _, v := range xs {
		text(&b, "tick", "middle", x.at(v), height-bottom+24, c.xFormat(v))
	}
	fmt.Fprintf(&b, `<path class="axis" d="M%d %dH%d"/>`+"\n", left, height-bottom, width-right)
	text(&b, "tick", "middle", (left+width-right)/2, height-14, "size of the state")
	for _, s := range c.series {
		band(&b, s, x, y)
	}
	for _, s := range c.series {
		line(&b, s, x, y)
	}
	c.labels(&b, x, y)
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// scales returns the distinct x values, the y scale, and its ticks.
func (c *chart) scales() (xs []float64, y scale, ticks []float64) {
	low, high := math.Inf(1), 0.0
	for _, s := range c.series {
		for _, p := range s.points {
			if !slices.Contains(xs, p.x) {
				xs = append(xs, p.x)
			}
			low, high = min(low, p.y), max(high, p.y, p.high)
			if p.low > 0 {
				low = min(low, p.low)
			}
		}
	}
	slices.Sort(xs)
	base := 10.0
	if c.binary {
		base = 4
	}
	first := math.Floor(math.Log(low)/math.Log(base) + 1e-9)
	last := max(math.Ceil(math.Log(high)/math.Log(base)-1e-9), first+1)
	for e := first; e <= last; e++ {
		ticks = append(ticks, math.Round(math.Pow(base, e)))
	}
	return xs, scale{ticks[0], ticks[len(ticks)-1], height - bottom, top}, ticks
}

// labels writes each line's name beside its end, pushed apart where they would
// touch.
func (c *chart) labels(b *bytes.Buffer, x, y scale) {
	type label struct {
		s      series
		end, y float64
	}
	labels := make([]label, len(c.series))
	for i, s := range c.series {
		at := y.at(s.points[len(s.points)-1].y)
		labels[i] = label{s, at, at}
	}
	slices.SortStableFunc(labels, func(a, b label) int { return int(math.Copysign(1, a.y-b.y)) })
	for i := 1; i < len(labels); i++ {
		labels[i].y = max(labels[i].y, labels[i-1].y+labelGap)
	}
	// What was pushed below the axis is pushed back up.
	limit := float64(height - bottom)
	for i := len(labels) - 1; i >= 0; i-- {
		labels[i].y = min(labels[i].y, limit)
		limit = labels[i].y - labelGap
	}
	for _, l := range labels {
		from := x.at(l.s.points[len(l.s.points)-1].x) + 7
		fmt.Fprintf(b, `<path class="lead %s" d="M%.1f %.1fL%d %.1f"/>`+"\n", l.s.class, from, l.end, width-right+14, l.y)
		text(b, "label "+l.s.class, "start", width-right+18, l.y+4, l.s.label)
	}
}

// band draws the spread around a line.
func band(b *bytes.Buffer, s series, x, y scale) {
	if len(s.points) < 2 || s.points[0].low <= 0 {
		return
	}
	fmt.Fprintf(b, `<path class="band %s" d="`, s.class)
	for i, p := range s.points {
		fmt.Fprintf(b, "%s%.1f %.1f", pen(i), x.at(p.x), y.at(p.high))
	}
	for _, p := range slices.Backward(s.points) {
		fmt.Fprintf(b, "L%.1f %.1f", x.at(p.x), y.at(max(p.low, y.low)))
	}
	b.WriteString(`Z"/>` + "\n")
}

func line(b *bytes.Buffer, s series, x, y scale) {
	fmt.Fprintf(b, `<path class="line %s" d="`, s.class)
	for i, p := range s.points {
		fmt.Fprintf(b, "%s%.1f %.1f", pen(i), x.at(p.x), y.at(p.y))
	}
	b.WriteString(`"/>` + "\n")
	for _, p := range s.points {
		fmt.Fprintf(b, `<circle class="dot %s" cx="%.1f" cy="%.1f" r="4"/>`+"\n", s.class, x.at(p.x), y.at(p.y))
	}
}

func pen(i int) string {
	if i == 0 {
		return "M"
	}
	return "L"
}

func text(b *bytes.Buffer, class, anchor string, x, y float64, content string) {
	fmt.Fprintf(b, `<text class="%s" text-anchor="%s" x="%.1f" y="%.1f">%s</text>`+"\n", class, anchor, x, y, html.EscapeString(content))
}
