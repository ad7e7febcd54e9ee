package differential

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// compare returns how millrace's outcome disagrees with the reference's beyond
// what is intended; empty when it does not.
func compare(f flow, want, got outcome) []string {
	var problems []string
	say := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if want.Error != nil || got.Error != nil {
		switch {
		case got.Error == nil:
			say("the reference ended with %s, millrace did not", want.Error)
		case want.Error == nil:
			say("millrace ended with %s, the reference did not", got.Error)
		case f.crashes > 1 && got.Error.Severity != "exception":
			// Branches run at once here, in turn there: which of several
			// crashes comes first is not defined.
		default:
			for _, p := range differError(want.Error, got.Error) {
				say("the run's error: %s", p)
			}
		}
		return problems
	}
	if a, b := stepsOf(want), stepsOf(got); !slices.Equal(a, b) {
		say("steps run:\n  reference %v\n  millrace  %v", a, b)
	}
	if a, b := edgesOf(want), edgesOf(got); !slices.Equal(a, b) {
		say("edges taken:\n  reference %v\n  millrace  %v", a, b)
	}
	again := append(reachedAgain(want.State), reachedAgain(got.State)...)
	a, b := canonical(want.State, again), canonical(got.State, again)
	if !reflect.DeepEqual(a, b) {
		say("final states:\n  reference %s\n  millrace  %s\n  %s", short(a), short(b), where("state", a, b))
	}
	return problems
}

func (f *failure) String() string {
	return fmt.Sprintf("%s (%s): %s", f.Name, f.Severity, f.Message)
}

func stepsOf(o outcome) []string {
	var all []string
	for _, s := range o.Steps {
		line := s.ID
		if s.Error != nil {
			line += " " + errorName(s.Error) + ": " + message(s.Error)
		}
		all = append(all, line)
	}
	slices.Sort(all)
	return all
}

func edgesOf(o outcome) []string {
	var all []string
	for _, e := range o.Edges {
		all = append(all, e[0]+">"+e[1])
	}
	slices.Sort(all)
	return all
}

func short(v any) string {
	s := js(v)
	if len(s) > 1500 {
		s = s[:1500] + "…"
	}
	return s
}

// where names the first places at which two documents differ.
func where(path string, a, b any) string {
	if reflect.DeepEqual(a, b) {
		return ""
	}
	if x, ok := a.(object); ok {
		if y, ok := b.(object); ok {
			var all []string
			for _, k := range sortedKeys(x) {
				if v, ok := y[k]; !ok {
					all = append(all, path+"."+k+" is missing")
				} else if p := where(path+"."+k, x[k], v); p != "" {
					all = append(all, p)
				}
			}
			for _, k := range sortedKeys(y) {
				if _, ok := x[k]; !ok {
					all = append(all, path+"."+k+" is too many")
				}
			}
			return strings.Join(all, "; ")
		}
	}
	return fmt.Sprintf("%s: %.200s against %.200s", path, js(a), js(b))
}

// unescape makes source text in JSON readable.
func unescape(s string) string {
	return strings.NewReplacer(`\n`, "\n", `\u003e`, ">", `\u003c`, "<", `\u0026`, "&").Replace(s)
}
