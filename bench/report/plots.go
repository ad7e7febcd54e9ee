package report

import (
	"github.com/millrace/millrace/bench"
	"github.com/millrace/millrace/bench/measure"
)

// Plot is a finished picture.
type Plot struct {
	Name string // file name
	SVG  []byte
}

// Plots draws the result: wall time, hand-over and peak memory against the
// payload's size. A picture with nothing to show is left out.
func Plots(r *bench.Result) []Plot {
	var plots []Plot
	add := func(name string, c chart, value func(*bench.Point) measure.Spread) {
		c.series = seriesOf(r, value)
		if svg := c.render(); svg != nil {
			plots = append(plots, Plot{name, svg})
		}
	}
	add("wall.svg", chart{
		title: "Three steps, end to end", subtitle: "wall time of one run, median and 10th–90th percentile",
		xFormat: formatBytes, yFormat: duration,
	}, func(p *bench.Point) measure.Spread { return p.Wall })
	add("handover.svg", chart{
		title: "Hand-over", subtitle: "from one step's code ending to the next one's beginning",
		xFormat: formatBytes, yFormat: duration,
	}, func(p *bench.Point) measure.Spread { return p.Handover })
	add("memory.svg", chart{
		title: "Peak memory", subtitle: "supervisor and three steps together, shared pages counted once",
		xFormat: formatBytes, yFormat: formatBytes, binary: true,
	}, func(p *bench.Point) measure.Spread { return measure.Spread{Median: float64(p.PeakBytes)} })
	return plots
}

func formatBytes(v float64) string { return bench.FormatSize(int(v)) }

// seriesOf collects one line a case.
func seriesOf(r *bench.Result, value func(*bench.Point) measure.Spread) []series {
	var all []series
	peers, subjects := 0, 0
	for _, c := range r.Cases {
		s := series{label: c.Title}
		switch c.Role {
		case bench.Baseline:
			s.class = "base"
		case bench.Peer:
			s.class = peerClasses[peers%len(peerClasses)]
			peers++
		default:
			s.class = subjectClasses[subjects%len(subjectClasses)]
			subjects++
		}
		for _, size := range r.Sizes {
			p := r.Point(c.Name, size)
			if p == nil {
				continue
			}
			if v := value(p); v.Median > 0 {
				s.points = append(s.points, dot{x: float64(size), y: v.Median, low: v.P10, high: v.P90})
			}
		}
		if len(s.points) > 0 {
			all = append(all, s)
		}
	}
	return all
}
