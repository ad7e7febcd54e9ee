package condition

import (
	"strconv"
	"unicode/utf8"

	"github.com/dop251/goja/token"

	"github.com/millrace/millrace/ipc/jsonscan"
)

// operandKind is the JavaScript type of an operand.
type operandKind uint8

const (
	isUndefined operandKind = iota
	isNull
	isBoolean
	isNumber
	isString
	isChild // an object or array of the state, not built
	isState // the state, an object
	isBail  // not certain: goja must decide
	isMiss  // an optional chain has ended
)

// operand is a value in the small evaluator.
type operand struct {
	kind   operandKind
	truth  bool
	number float64
	text   string
	child  jsonscan.Value
	array  bool // child is an array
}

var bail = operand{kind: isBail}

func boolean(b bool) operand   { return operand{kind: isBoolean, truth: b} }
func number(n float64) operand { return operand{kind: isNumber, number: n} }
func text(s string) operand    { return operand{kind: isString, text: s} }

// plainString returns s where its comparison byte by byte, and its length, are
// those of the JavaScript string; encoded is its length as goja keeps it.
func plainString(s string, encoded int) (string, bool) {
	if encoded != len(s) {
		return "", false
	}
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return "", false
		}
	}
	return s, true
}

// simpleEval is one evaluation. err is set where the state cannot be read.
type simpleEval struct {
	view     *view
	upstream string
	err      error
}

func (n constant) eval(*simpleEval) operand  { return n.value }
func (n stepRef) eval(e *simpleEval) operand { return text(e.upstream) }

func (n stateRef) eval(e *simpleEval) operand {
	switch e.view.state.Kind() {
	case Absent:
		return operand{}
	case Object:
		return operand{kind: isState}
	}
	return e.row("")
}

func (n chain) eval(e *simpleEval) operand {
	v := n.of.eval(e)
	if v.kind == isMiss {
		return operand{}
	}
	return v
}

func (n not) eval(e *simpleEval) operand {
	v := n.of.eval(e)
	if v.kind == isBail {
		return bail
	}
	return boolean(!v.truthy())
}

func (v operand) truthy() bool {
	switch v.kind {
	case isUndefined, isNull:
		return false
	case isBoolean:
		return v.truth
	case isNumber:
		return v.number != 0 && v.number == v.number
	case isString:
		return v.text != ""
	}
	return true
}

func (n logical) eval(e *simpleEval) operand {
	left := n.left.eval(e)
	if left.kind == isBail {
		return bail
	}
	decided := false
	switch n.op {
	case token.LOGICAL_AND:
		decided = !left.truthy()
	case token.LOGICAL_OR:
		decided = left.truthy()
	default:
		decided = left.kind != isUndefined && left.kind != isNull
	}
	if decided {
		return left
	}
	return n.right.eval(e)
}

func (n comparison) eval(e *simpleEval) operand {
	left := n.left.eval(e)
	if left.kind == isBail {
		return bail
	}
	right := n.right.eval(e)
	if right.kind == isBail {
		return bail
	}
	nullish := func(v operand) bool { return v.kind <= isNull }
	if left.kind != right.kind {
		switch n.op {
		case token.STRICT_EQUAL, token.STRICT_NOT_EQUAL:
			return boolean(n.op == token.STRICT_NOT_EQUAL)
		case token.EQUAL, token.NOT_EQUAL:
			if nullish(left) || nullish(right) {
				return boolean((nullish(left) && nullish(right)) == (n.op == token.EQUAL))
			}
		}
		return bail
	}
	var less, equal, ordered bool
	switch left.kind {
	case isUndefined, isNull:
		equal = true
	case isBoolean:
		equal = left.truth == right.truth
	case isNumber:
		ordered, less, equal = true, left.number < right.number, left.number == right.number
	case isString:
		// Byte order is UTF-16 order for ASCII only; equality is for all.
		_, plainLeft := plainString(left.text, len(left.text))
		_, plainRight := plainString(right.text, len(right.text))
		ordered, less, equal = plainLeft && plainRight, left.text < right.text, left.text == right.text
	default:
		return bail
	}
	switch n.op {
	case token.EQUAL, token.STRICT_EQUAL:
		return boolean(equal)
	case token.NOT_EQUAL, token.STRICT_NOT_EQUAL:
		return boolean(!equal)
	}
	if !ordered {
		return bail
	}
	switch n.op {
	case token.LESS:
		return boolean(less)
	case token.LESS_OR_EQUAL:
		return boolean(less || equal)
	case token.GREATER:
		return boolean(left.kind == isNumber && left.number > right.number || left.kind == isString && left.text > right.text)
	}
	return boolean(left.kind == isNumber && left.number >= right.number || left.kind == isString && left.text >= right.text)
}

func (n member) eval(e *simpleEval) operand {
	of := n.of.eval(e)
	switch of.kind {
	case isBail, isMiss:
		return of
	case isUndefined, isNull:
		if n.optional {
			return operand{kind: isMiss}
		}
		return bail // throws
	}
	key := n.key.eval(e)
	switch {
	case key.kind == isNumber && key.number >= 0 && key.number < 1<<53 && key.number == float64(int64(key.number)):
		key = text(strconv.FormatInt(int64(key.number), 10))
	case key.kind != isString:
		return bail
	}
	switch of.kind {
	case isState:
		if v := e.row(key.text); v.kind != isUndefined {
			return v
		}
		return inherited(key.text)
	case isString:
		if _, plain := plainString(of.text, len(of.text)); plain && key.text == "length" {
			return number(float64(len(of.text)))
		}
	case isChild:
		return e.memberOf(of, key.text)
	}
	return bail
}

// memberOf returns a property of an object or array in the state.
func (e *simpleEval) memberOf(of operand, key string) operand {
	if !of.array {
		child, ok, err := of.child.Member(key)
		if err != nil {
			return e.fail(err)
		}
		if !ok {
			return inherited(key)
		}
		return e.load(child)
	}
	if key == "length" {
		n, err := of.child.Len()
		if err != nil {
			return e.fail(err)
		}
		e.view.built(0)
		return number(float64(n))
	}
	i, ok := arrayIndex(key)
	if !ok {
		return bail
	}
	child, ok, err := of.child.Index(i)
	if err != nil {
		return e.fail(err)
	}
	if !ok {
		return operand{}
	}
	return e.load(child)
}

// inherited is a property that an object itself does not have: undefined,
// unless Object.prototype has it.
func inherited(key string) operand {
	switch key {
	case "constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString", "toString",
		"valueOf", "__proto__", "__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__":
		return bail
	}
	return operand{}
}

func (e *simpleEval) row(key string) operand {
	row, ok := e.view.state.Row(key)
	switch {
	case !ok:
		return operand{}
	case !row.isJSON():
		return bail
	}
	return e.load(e.view.open(row))
}

// load builds a scalar, and leaves an object or array where it is.
func (e *simpleEval) load(v jsonscan.Value) operand {
	kind, err := v.Kind()
	if err != nil {
		return e.fail(err)
	}
	switch kind {
	case jsonscan.Object, jsonscan.Array:
		return operand{kind: isChild, child: v, array: kind == jsonscan.Array}
	}
	s, err := v.Text()
	if err == nil {
		err = e.view.built(len(s))
	}
	if err != nil {
		return e.fail(err)
	}
	switch kind {
	case jsonscan.String:
		return text(s)
	case jsonscan.Number:
		return number(parseNumber(s))
	case jsonscan.Null:
		return operand{kind: isNull}
	}
	return boolean(kind == jsonscan.True)
}

func (e *simpleEval) fail(err error) operand {
	if e.err == nil {
		e.err = err
	}
	return bail
}

// parseNumber is what JSON.parse makes of a number: past the range of a
// double it is infinite.
func parseNumber(s string) float64 {
	n, _ := strconv.ParseFloat(s, 64)
	return n
}

// arrayIndex says whether a property's name is an index, as JavaScript writes
// it.
func arrayIndex(key string) (int64, bool) {
	if key == "" || len(key) > 10 || key[0] == '0' && key != "0" {
		return 0, false
	}
	n, err := strconv.ParseUint(key, 10, 64)
	return int64(n), err == nil && n < 1<<32-1
}
