package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/bench"
	"github.com/millrace/millrace/bench/peer"
	"github.com/millrace/millrace/bench/subject"
)

// allCases lists everything that can be measured, in the order of the tables.
// Whatever else is to be compared is appended here.
func allCases() ([]bench.Case, []bench.PingCase) {
	return append(peer.Cases(), subject.Cases()...), append(peer.PingCases(), subject.PingCases()...)
}

// pick keeps the cases that names lists, separated by commas; empty keeps all.
// Round trips are picked by their names too.
func pick(cases []bench.Case, pings []bench.PingCase, names string) ([]bench.Case, []bench.PingCase, error) {
	if names == "" {
		return cases, pings, nil
	}
	var known []string
	for _, c := range cases {
		known = append(known, c.Info().Name)
	}
	for _, p := range pings {
		known = append(known, p.Info().Name)
	}
	wanted := strings.Split(names, ",")
	for i, name := range wanted {
		wanted[i] = strings.TrimSpace(name)
		if !slices.Contains(known, wanted[i]) {
			return nil, nil, fmt.Errorf("unknown case %q: there are %s", wanted[i], strings.Join(known, ", "))
		}
	}
	cases = slices.DeleteFunc(cases, func(c bench.Case) bool { return !slices.Contains(wanted, c.Info().Name) })
	pings = slices.DeleteFunc(pings, func(p bench.PingCase) bool { return !slices.Contains(wanted, p.Info().Name) })
	return cases, pings, nil
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
