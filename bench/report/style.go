package report

import (
	"fmt"
	"strings"
)

// Classes of the lines. The subjects are drawn heavier, the others thinner;
// dashes tell apart what colours may not.
var (
	peerClasses    = []string{"p1", "p2", "p3"}
	subjectClasses = []string{"m1", "m2", "m3"}
)

// palette holds the colours of one scheme, picked for contrast on its card.
type palette struct {
	card, edge, ink, soft, grid string
	lines                       [7]string // of lineClasses
}

var lineClasses = [...]string{"base", "p1", "p2", "p3", "m1", "m2", "m3"}

var (
	light = palette{"#ffffff", "#d8dee4", "#1f2328", "#59636e", "#e7ebef",
		[...]string{"#bc4c00", "#57606a", "#8250df", "#9a6700", "#0969da", "#1a7f37", "#bf3989"}}
	dark = palette{"#0d1117", "#30363d", "#f0f6fc", "#9198a1", "#21262d",
		[...]string{"#f0883e", "#9198a1", "#bc8cff", "#d29922", "#58a6ff", "#3fb950", "#f778ba"}}
)

// shapes is the part of the style sheet that holds in both schemes.
const shapes = `text { font-family: -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; font-size: 13px; }
.title { font-size: 19px; font-weight: 600; }
.tick { font-size: 12px; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.band { opacity: .13; stroke: none; }
.dot { stroke-width: 1.5; }
.lead { fill: none; opacity: .5; }
.label { font-weight: 500; }
.line.p1 { stroke-dasharray: 7 5; }
.line.p2 { stroke-dasharray: 2 5; }
.line.p3 { stroke-dasharray: 10 4 2 4; }
.line.m1, .line.m2, .line.m3 { stroke-width: 3.5; }
.label.m1, .label.m2, .label.m3 { font-weight: 700; }
`

// style is the charts' style sheet: the light scheme for all, and the dark one
// for viewers that ask for it. It uses no CSS variables, which converters to
// bitmaps tend not to know.
var style = "<style>\n" + shapes + light.rules() + "@media (prefers-color-scheme: dark) {\n" + dark.rules() + "}\n</style>\n"

func (p *palette) rules() string {
	var b strings.Builder
	fmt.Fprintf(&b, ".card { fill: %s; stroke: %s; }\n", p.card, p.edge)
	fmt.Fprintf(&b, ".title { fill: %s; }\n.sub, .tick { fill: %s; }\n", p.ink, p.soft)
	fmt.Fprintf(&b, ".grid { stroke: %s; }\n.axis { stroke: %s; }\n.dot { stroke: %s; }\n", p.grid, p.soft, p.card)
	for i, class := range lineClasses {
		fmt.Fprintf(&b, ".line.%[1]s, .lead.%[1]s { stroke: %[2]s; }\n.band.%[1]s, .dot.%[1]s, .label.%[1]s { fill: %[2]s; }\n", class, p.lines[i])
	}
	return b.String()
}
