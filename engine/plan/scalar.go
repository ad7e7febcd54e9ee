package plan

import (
	"math/big"
	"regexp"
	"strings"
)

// The core schema of YAML 1.2: what a plain scalar means. Anything else is a
// string, so that yes, no, on and 12:30 are the text they look like.
var (
	coreInt   = regexp.MustCompile(`^[-+]?[0-9]+$`)
	coreBase  = regexp.MustCompile(`^0(o[0-7]+|x[0-9a-fA-F]+)$`)
	coreFloat = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)
	coreOdd   = regexp.MustCompile(`^([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$`)
)

// plainScalar sets a node from a plain YAML scalar. It is false for the numbers
// that JSON has no text for: infinity and not-a-number.
func plainScalar(n *node, s string) bool {
	n.source = s
	switch s {
	case "", "~", "null", "Null", "NULL":
		n.kind = isNull
	case "true", "True", "TRUE":
		n.kind, n.text = isBool, "true"
	case "false", "False", "FALSE":
		n.kind, n.text = isBool, "false"
	default:
		switch {
		case coreOdd.MatchString(s):
			return false
		case coreInt.MatchString(s), coreFloat.MatchString(s):
			n.kind, n.text = isNumber, jsonNumber(s)
		case coreBase.MatchString(s):
			i, _ := new(big.Int).SetString(s, 0)
			n.kind, n.text = isNumber, i.String()
		default:
			n.kind, n.text = isString, s
		}
	}
	return true
}

// jsonNumber rewrites a core schema decimal with as little change as JSON
// demands, so that no digit is lost: no plus sign, no leading zeros, digits on
// both sides of the point.
func jsonNumber(s string) string {
	s = strings.TrimPrefix(s, "+")
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	digits, rest := s, ""
	if i := strings.IndexAny(s, ".eE"); i >= 0 {
		digits, rest = s[:i], s[i:]
	}
	if digits = strings.TrimLeft(digits, "0"); digits == "" {
		digits = "0"
	}
	if strings.HasPrefix(rest, ".") && (len(rest) == 1 || rest[1] == 'e' || rest[1] == 'E') {
		rest = rest[1:]
	}
	return sign + digits + rest
}
