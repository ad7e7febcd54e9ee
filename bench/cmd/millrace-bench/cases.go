package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/bench"
	"github.com/millrace/millrace/bench/peer"
	"github.com/millrace/millrace/bench/subject"
)

// selection is what is to be measured.
type selection struct {
	cases   []bench.Case
	pings   []bench.PingCase
	figures []bench.FigureCase
}

// allCases lists everything that can be measured, in the order of the tables.
// Whatever else is to be compared is appended here.
func allCases() selection {
	return selection{
		cases:   append(peer.Cases(), subject.Cases()...),
		pings:   append(peer.PingCases(), subject.PingCases()...),
		figures: subject.FigureCases(),
	}
}

// pick keeps what names lists, separated by commas; empty keeps all. Round trips
// and figures are picked by their names too.
func (s *selection) pick(names string) error {
	if names == "" {
		return nil
	}
	known := s.names()
	wanted := strings.Split(names, ",")
	for i, name := range wanted {
		wanted[i] = strings.TrimSpace(name)
		if !slices.Contains(known, wanted[i]) {
			return fmt.Errorf("unknown case %q: there are %s", wanted[i], strings.Join(known, ", "))
		}
	}
	other := func(name string) bool { return !slices.Contains(wanted, name) }
	s.cases = slices.DeleteFunc(s.cases, func(c bench.Case) bool { return other(c.Info().Name) })
	s.pings = slices.DeleteFunc(s.pings, func(p bench.PingCase) bool { return other(p.Info().Name) })
	s.figures = slices.DeleteFunc(s.figures, func(f bench.FigureCase) bool { return other(f.Name()) })
	return nil
}

func (s *selection) names() []string {
	var names []string
	for _, c := range s.cases {
		names = append(names, c.Info().Name)
	}
	for _, p := range s.pings {
		names = append(names, p.Info().Name)
	}
	for _, f := range s.figures {
		names = append(names, f.Name())
	}
	return names
}

// parseSizes reads a list of sizes, ascending and without repetition.
func parseSizes(list string) ([]int, error) {
	var sizes []int
	for text := range strings.SplitSeq(list, ",") {
		n, err := bench.ParseSize(text)
		if err != nil {
			return nil, err
		}
		sizes = append(sizes, n)
	}
	slices.Sort(sizes)
	return slices.Compact(sizes), nil
}
