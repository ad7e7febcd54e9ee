package differential

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// The rules by which outcomes may differ. Each is a heading of
// docs/openfn-differences.md, where its reason is.

// errorName is an error's name. The reference wraps what crashes as
// RuntimeCrash with a subtype, and reports the subtype to people; here the
// subtype is the name.
func errorName(f *failure) string {
	if f.Name != "RuntimeCrash" {
		return f.Name
	}
	switch f.Subtype {
	case "InvalidOperationError", "InvalidExportsError":
		return "ValidationError"
	}
	return f.Subtype
}

// foreign are messages of JavaScript's parser and module loader: their
// wording differs, their names do not.
var foreign = regexp.MustCompile(`^(ImportError|SyntaxError|EdgeConditionError|ExecutionError)$`)

// message is what an error says, as far as it has to agree.
func message(f *failure) string {
	if foreign.MatchString(errorName(f)) {
		return ""
	}
	if f.Name == "RuntimeCrash" && errorName(f) == "ValidationError" {
		return strings.TrimPrefix(f.Message, f.Subtype+": ")
	}
	return thrownText(f.Message)
}

func differError(want, got *failure) (problems []string) {
	if a, b := errorName(want), errorName(got); a != b {
		problems = append(problems, fmt.Sprintf("name %s (%s) against %s (%s)", a, want.Message, b, got.Message))
	}
	if want.Severity != got.Severity {
		problems = append(problems, fmt.Sprintf("severity %s against %s (%s)", want.Severity, got.Severity, want))
	}
	if a, b := message(want), message(got); a != b {
		problems = append(problems, fmt.Sprintf("message %q against %q", a, b))
	}
	return problems
}

// thrownText is the message of a thrown value that is no error and has no
// message, or an error with an empty one: empty for the reference, the value
// as text here.
func thrownText(s string) string {
	if s == "5" || s == "[object Object]" || s == "Error" {
		return ""
	}
	return s
}

// canonical rewrites a final document so that only unintended differences are
// left in it. again are the steps that have several leaves in either outcome.
func canonical(v any, again []string) any {
	doc, ok := v.(object)
	if !ok {
		return v
	}
	doc = numbered(doc, again)
	out := object{}
	for k, v := range doc {
		if leaf, ok := v.(object); ok {
			v = canonicalErrors(leaf)
		}
		out[k] = v
	}
	return canonicalErrors(out)
}

// errorMembers of a recorded error have to agree. There are more here: where it
// happened, the stack, and the subtype of every error.
var errorMembers = []string{"source", "name", "severity", "message", "details"}

func canonicalErrors(state object) object {
	errs, ok := state["errors"].(object)
	if !ok {
		return state
	}
	out := object{}
	for step, e := range errs {
		out[step] = e
		record, ok := e.(object)
		if !ok || record["source"] != "runtime" {
			continue
		}
		kept := object{}
		for _, m := range errorMembers {
			kept[m] = record[m]
		}
		if record["name"] == "RuntimeError" {
			kept["subtype"] = record["subtype"]
		}
		if text, ok := kept["message"].(string); ok {
			kept["message"] = thrownText(text)
		}
		out[step] = kept
	}
	copied := object{}
	for k, v := range state {
		copied[k] = v
	}
	copied["errors"] = out
	return copied
}

var numberedLeaf = regexp.MustCompile(`^([a-f])-\d+$`)

// reachedAgain returns the steps whose leaves are numbered in a final document.
func reachedAgain(v any) (again []string) {
	doc, _ := v.(object)
	for k := range doc {
		if numberedLeaf.MatchString(k) {
			again = append(again, k[:1])
		}
	}
	return again
}

// numbered makes one list of the leaves of a step that was reached several
// times: the reference numbers its executions in breadth-first order, here
// leaves are numbered as they come.
func numbered(doc object, again []string) object {
	if len(again) == 0 {
		return doc
	}
	out := object{}
	lists := map[string][]string{}
	for k, v := range doc {
		id := k
		if numberedLeaf.MatchString(k) {
			id = k[:1]
		}
		if !slices.Contains(again, id) {
			out[k] = v
			continue
		}
		if leaf, ok := v.(object); ok {
			v = canonicalErrors(leaf)
		}
		lists[id] = append(lists[id], js(withoutNegativeZero(v)))
	}
	for id, texts := range lists {
		slices.Sort(texts)
		out[id] = strings.Join(texts, "\n")
	}
	return out
}

// withoutNegativeZero rewrites -0 in place: a number that no step decodes keeps
// its text, and -0 equals 0.
func withoutNegativeZero(v any) any {
	switch v := v.(type) {
	case float64:
		if v == 0 {
			return 0.0
		}
	case object:
		for k, item := range v {
			v[k] = withoutNegativeZero(item)
		}
	case []any:
		for i, item := range v {
			v[i] = withoutNegativeZero(item)
		}
	}
	return v
}
