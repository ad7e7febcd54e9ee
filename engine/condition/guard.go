package condition

import (
	_ "embed"
	"math"
	"regexp"
	"strings"
	"time"

	"github.com/dlclark/regexp2/v2"
	"github.com/dop251/goja"

	"github.com/millrace/millrace/ipc/jsonscan"
)

const (
	// maxLength and maxString bound what one call of a built-in function works
	// through or makes.
	maxLength = 1 << 22
	maxString = 16 << 20
)

const literal = `(\d{1,6}|'[^']*'|"[^"]*"|true|false|null)`

//go:embed guard.js
var guardSource string

var guardProgram = goja.MustCompile("guard", guardSource, true)

func init() {
	// goja makes its patterns with this default and has no setting of its own.
	if regexp2.DefaultMatchTimeout == time.Duration(math.MaxInt64) {
		regexp2.DefaultMatchTimeout = 2 * time.Second
	}
}

// What the guard bounds is reached by its name only, or by a list of great
// length; and a name can be made up only by an operator between brackets, an
// escape or reflection. A text without any of these does without the guard,
// which takes ten times as long (some 0.2 ms) as the rest of a short evaluation.
var (
	guardedNames = regexp.MustCompile(`eval|Function|constructor|repeat|pad|JSON|console|Reflect|Proxy|BigInt|Buffer|DataView|\\` +
		`|\blength\s*([^=!<>]?=[^=>]|["'` + "`" + `]?\s*:|[,}])`)
	harmless = regexp.MustCompile(`\[\s*(` + literal + `(\s*,\s*` + literal + `)*|upstreamStepId)?\s*\]|\bObject\.(keys|values|entries|hasOwn)\(|\bArray\.isArray\(`)
	// BigInt has operators that cannot be wrapped.
	bigLiteral = regexp.MustCompile(`\d\w*n\b|BigInt`)
)

// needsGuard says whether a condition's text could reach what guard bounds.
func needsGuard(text string) bool {
	if guardedNames.MatchString(text) || bigLiteral.MatchString(text) {
		return true
	}
	rest := harmless.ReplaceAllString(text, "")
	return strings.Contains(rest, "[") || strings.Contains(rest, "Object") || strings.Contains(rest, "Array")
}

// hugeNumbers says whether the text could make an integer of any size in one
// step.
func hugeNumbers(text string) bool {
	return bigLiteral.MatchString(text) && (strings.Contains(text, "**") || strings.Contains(text, "<<"))
}

// guard takes from a fresh runtime what a condition must not have: making code
// from strings, which OpenFn's runtime refuses as well, and which would let a
// deeply nested text exhaust the host's stack; and bounds what makes much of
// little in one step.
func guard(rt *goja.Runtime) error {
	value, err := rt.RunProgram(guardProgram)
	if err != nil {
		return err
	}
	install, _ := goja.AssertFunction(value)
	validate := func(call goja.FunctionCall) goja.Value {
		if err := jsonscan.Validate([]byte(call.Argument(0).String())); err != nil {
			return rt.ToValue(err.Error())
		}
		return goja.Undefined()
	}
	_, err = install(goja.Undefined(), rt.ToValue(maxLength), rt.ToValue(maxString), rt.ToValue(validate))
	return err
}
