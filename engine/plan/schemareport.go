package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// schemaReport says in plain words what the schema validator found.
type schemaReport struct {
	schema   *schema
	root     *node
	suggest  *suggester
	problems []*Problem
	// several holds the places where several kinds of work were reported.
	several map[string]bool
}

func (r *schemaReport) problem(at path, onKey bool, hint, format string, args ...any) {
	r.problems = append(r.problems, &Problem{at: at, onKey: onKey, Hint: hint, Message: fmt.Sprintf(format, args...)})
}

func (r *schemaReport) add(e *jsonschema.ValidationError) {
	at := pathOf(r.root, e.InstanceLocation)
	switch k := e.ErrorKind.(type) {
	case *kind.Schema, *kind.Group, *kind.Reference, *kind.AllOf:
		for _, cause := range e.Causes {
			r.add(cause)
		}
	case *kind.AnyOf, *kind.OneOf:
		r.alternatives(e, at)
	case *kind.AdditionalProperties:
		known := r.schema.properties(e.SchemaURL)
		naming := r.schema.annotation(e.SchemaURL, "patternErrorMessage")
		for _, name := range k.Properties {
			if naming != "" {
				r.problem(at.with(name), true, "", "%q %s", name, naming)
				continue
			}
			r.problem(at.with(name), true, r.suggest.hint(name, known), "unknown key %q", name)
		}
	case *kind.Required:
		for _, name := range k.Missing {
			r.problem(at, false, "", "missing key %q", name)
		}
	case *kind.DependentRequired:
		r.problem(at.with(k.Prop), true, "", "%q needs %s beside it", k.Prop, orList(quoted(k.Missing)))
	case *kind.FalseSchema:
		r.severalKinds(at)
	case *kind.Type:
		r.wrongType(at, k.Want)
	default:
		r.value(e, at)
	}
}

// severalKinds is reported once for a step, at its second kind of work. What a
// command reads or writes may not be of several kinds either.
func (r *schemaReport) severalKinds(at path) {
	step := r.root.follow(at[:len(at)-1])
	if last := at[len(at)-1]; last == "stream" {
		r.problem(at, true, "", "%q is one or the other: a key's value, or the items of a %q", at[len(at)-2], last)
		return
	}
	var given []string
	second := at
	for _, m := range step.members {
		if slices.Contains(Kinds, Kind(m.key)) {
			given = append(given, m.key)
			if len(given) == 2 {
				second = at[:len(at)-1].with(m.key)
			}
		}
	}
	if r.several[second.String()] {
		return
	}
	r.several[second.String()] = true
	r.problem(second, true, "split it into one step for each", "several kinds of work in one step: %s",
		strings.Join(quoted(given), ", "))
}

func (r *schemaReport) wrongType(at path, want []string) {
	got := r.root.follow(at)
	if got == nil {
		r.problem(at, false, "", "must be %s", typeList(want))
		return
	}
	is := typeWords[[]string{"null", "boolean", "number", "string", "array", "object"}[got.kind]]
	if got.kind == isBool || got.kind == isNumber {
		is = got.text
	}
	hint := ""
	numberFits := slices.Contains(want, "number") || slices.Contains(want, "integer")
	if (got.kind == isBool || got.kind == isNumber) && slices.Contains(want, "string") && !numberFits {
		written, _ := got.argument()
		hint = fmt.Sprintf("quote it: %q", written)
	}
	r.problem(at, false, hint, "must be %s, not %s", typeList(want), is)
}

// alternatives picks the branch that the author most likely meant: one whose
// type fits. When none does, the types that would are listed.
func (r *schemaReport) alternatives(e *jsonschema.ValidationError, at path) {
	var want, required []string
	var fitting []*jsonschema.ValidationError
	for _, cause := range e.Causes {
		leaf := onlyCause(cause)
		here := len(leaf.InstanceLocation) == len(e.InstanceLocation)
		switch k := leaf.ErrorKind.(type) {
		case *kind.Type:
			if here {
				want = append(want, k.Want...)
				continue
			}
		case *kind.Required:
			if here {
				required = append(required, k.Missing...)
			}
		}
		fitting = append(fitting, cause)
	}
	switch {
	case len(fitting) == 0:
		r.wrongType(at, want)
	case len(required) == len(fitting) && len(required) > 1:
		if _, prop, ok := strings.Cut(e.SchemaURL, "/dependentSchemas/"); ok {
			r.problem(at.with(prop), true, "", "%q needs %s beside it", prop, orList(quoted(required)))
			return
		}
		r.problem(at, false, "", "needs one of the keys %s", orList(quoted(required)))
	default:
		r.add(fitting[0])
	}
}

// onlyCause descends through wrappers that hold a single cause.
func onlyCause(e *jsonschema.ValidationError) *jsonschema.ValidationError {
	for len(e.Causes) == 1 {
		switch e.ErrorKind.(type) {
		case *kind.Group, *kind.Reference, *kind.AllOf:
			e = e.Causes[0]
		default:
			return e
		}
	}
	return e
}

func (r *schemaReport) value(e *jsonschema.ValidationError, at path) {
	written := ""
	if got := r.root.follow(at); got != nil && got.kind != isArray && got.kind != isObject {
		written = shown(got.instance())
	}
	switch k := e.ErrorKind.(type) {
	case *kind.Enum:
		var want []string
		for _, w := range k.Want {
			want = append(want, fmt.Sprint(w))
		}
		hint := ""
		if got, ok := k.Got.(string); ok {
			hint = r.suggest.hint(got, want)
		}
		r.problem(at, false, hint, "must be %s, not %s", orList(quoted(want)), written)
	case *kind.Pattern:
		if own := r.schema.annotation(e.SchemaURL, "patternErrorMessage"); own != "" {
			r.problem(at, false, quantityHint(k.Got), "%s %s", written, own)
			return
		}
		r.problem(at, false, "", "does not match the pattern %s", k.Want)
	case *kind.MinLength:
		r.problem(at, false, "", "must not be empty")
	case *kind.MaxLength:
		r.problem(at, false, "", "is %d characters long, the limit is %d", k.Got, k.Want)
	case *kind.MinItems:
		r.problem(at, false, "", "must hold at least one entry")
	case *kind.UniqueItems:
		r.problem(at.with(k.Duplicates[1]), false, "", "is in the list twice")
	case *kind.Minimum:
		r.problem(at, false, "", "must be at least %s, not %s", k.Want.RatString(), written)
	case *kind.ExclusiveMinimum:
		r.problem(at, false, "", "must be above %s, not %s", k.Want.RatString(), written)
	case *kind.Maximum:
		r.problem(at, false, "", "must be at most %s, not %s", k.Want.RatString(), written)
	default:
		r.problem(at, false, "", "breaks the rule %q of the schema", strings.Join(k.KeywordPath(), "/"))
	}
}

// quantityHint explains the two usual slips in a duration or a size.
func quantityHint(got string) string {
	switch {
	case strings.HasPrefix(got, "-"):
		return "it must not be negative"
	case got != "" && strings.Trim(got, "0123456789.") == "":
		return "give a unit"
	}
	return ""
}
