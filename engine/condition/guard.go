package condition

import (
	"math"
	"regexp"
	"strings"
	"time"

	"github.com/dlclark/regexp2/v2"
	"github.com/dop251/goja"

	"github.com/millrace/millrace/ipc/jsonscan"
)

// maxString is how long a string may get by padding or repeating.
const maxString = 16 << 20

func init() {
	// goja makes its patterns with this default and has no setting of its own.
	if regexp2.DefaultMatchTimeout == time.Duration(math.MaxInt64) {
		regexp2.DefaultMatchTimeout = 2 * time.Second
	}
}

// What guard bounds is reached by its name only, and a name can be made up only
// by an operator between brackets, an escape, or reflection. A text without any
// of these does without guard, which costs several times what the rest of a
// short evaluation does.
var (
	guardedNames = regexp.MustCompile(`eval|Function|constructor|repeat|pad|JSON|console|Reflect|Proxy|\\`)
	harmless     = regexp.MustCompile(`\[\s*(\d+|'[^']*'|"[^"]*")?\s*\]|\bObject\.(keys|values|entries|hasOwn)\(`)
)

// needsGuard says whether a condition's text could reach what guard bounds.
func needsGuard(text string) bool {
	if guardedNames.MatchString(text) {
		return true
	}
	rest := harmless.ReplaceAllString(text, "")
	return strings.Contains(rest, "[") || strings.Contains(rest, "Object")
}

// guard removes from a fresh runtime what a condition must not have: making
// code from strings, which OpenFn's runtime refuses as well, and which would
// let a deeply nested text exhaust the host's stack; and bounds what makes
// much of little in one step.
func guard(rt *goja.Runtime) {
	global := rt.GlobalObject()
	_ = global.Set("eval", func(goja.FunctionCall) goja.Value {
		panic(refused(rt))
	})
	refuse := func(goja.ConstructorCall) *goja.Object { panic(refused(rt)) }
	function := rt.ToValue(refuse).(*goja.Object)
	_ = global.Set("Function", function)
	for i, source := range functionKinds {
		value, err := rt.RunProgram(source)
		if err != nil {
			continue
		}
		proto := value.(*goja.Object)
		if i == 0 { // so that instanceof Function holds
			_ = function.DefineDataProperty("prototype", proto, goja.FLAG_FALSE, goja.FLAG_FALSE, goja.FLAG_FALSE)
		}
		_ = proto.DefineDataProperty("constructor", function, goja.FLAG_FALSE, goja.FLAG_FALSE, goja.FLAG_FALSE)
	}
	boundStrings(rt)
	boundJSON(rt)
	silent := rt.ToValue(func(goja.FunctionCall) goja.Value { return goja.Undefined() })
	console := rt.NewObject()
	for _, name := range []string{"log", "info", "warn", "error", "debug", "trace"} {
		_ = console.Set(name, silent)
	}
	_ = global.Set("console", console)
}

// functionKinds give the prototypes from whose constructor code can be made.
var functionKinds = []*goja.Program{
	goja.MustCompile("", "Object.getPrototypeOf(function(){})", true),
	goja.MustCompile("", "Object.getPrototypeOf(async function(){})", true),
	goja.MustCompile("", "Object.getPrototypeOf(function*(){})", true),
}

func refused(rt *goja.Runtime) goja.Value {
	return throwable(rt, "EvalError", "Code generation from strings disallowed for this context")
}

func throwable(rt *goja.Runtime, class, message string) goja.Value {
	e, err := rt.New(rt.Get(class), rt.ToValue(message))
	if err != nil {
		return rt.ToValue(class + ": " + message)
	}
	return e
}

// boundStrings bounds the methods that make a long string in one step.
func boundStrings(rt *goja.Runtime) {
	proto := rt.Get("String").(*goja.Object).Get("prototype").(*goja.Object)
	bound := func(name string, size func(call goja.FunctionCall) float64) {
		original, _ := goja.AssertFunction(proto.Get(name))
		_ = proto.DefineDataProperty(name, rt.ToValue(func(call goja.FunctionCall) goja.Value {
			if size(call) > maxString {
				panic(throwable(rt, "RangeError", "Invalid string length"))
			}
			value, err := original(call.This, call.Arguments...)
			if err != nil {
				panic(err)
			}
			return value
		}), goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE)
	}
	wanted := func(call goja.FunctionCall) float64 { return call.Argument(0).ToFloat() }
	bound("padStart", wanted)
	bound("padEnd", wanted)
	bound("repeat", func(call goja.FunctionCall) float64 {
		return wanted(call) * float64(max(len(call.This.String()), 1))
	})
}

// boundJSON keeps JSON.parse, which recurses, from nesting too deep.
func boundJSON(rt *goja.Runtime) {
	object := rt.Get("JSON").(*goja.Object)
	original, _ := goja.AssertFunction(object.Get("parse"))
	_ = object.DefineDataProperty("parse", rt.ToValue(func(call goja.FunctionCall) goja.Value {
		s := call.Argument(0).String()
		if err := jsonscan.Validate([]byte(s)); err != nil {
			panic(throwable(rt, "SyntaxError", err.Error()))
		}
		value, err := original(call.This, rt.ToValue(s), call.Argument(1))
		if err != nil {
			panic(err)
		}
		return value
	}), goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE)
}
