package plan

import (
	"fmt"
	"math"
	"math/big"
	"regexp"
	"strings"
	"time"
)

// Quantities are a number with a unit, or a bare number: milliseconds for a
// duration (OpenFn's unit), bytes for a size. They are computed exactly, then
// rounded down to a nanosecond or a byte.

var durationUnits = map[string]int64{
	"ns": 1, "us": int64(time.Microsecond), "µs": int64(time.Microsecond), "μs": int64(time.Microsecond),
	"ms": int64(time.Millisecond), "s": int64(time.Second), "m": int64(time.Minute),
	"h": int64(time.Hour), "d": 24 * int64(time.Hour),
}

var sizeUnits = map[string]int64{
	"b":  1,
	"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}

var (
	durationTerm = regexp.MustCompile(`([0-9]+(?:\.[0-9]+)?)(ns|us|µs|μs|ms|s|m|h|d)`)
	wholeTerms   = regexp.MustCompile(`^(?:` + durationTerm.String() + `)+$`)
	sizeTerm     = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?((?:[kKmMgGtT][iI]?)?[bB])$`)
)

// maxDigits bounds the text of a number before it is computed with: 1e999999999
// is a short text and an enormous number.
const maxDigits = 40

// ParseDuration reads a duration with units, as 30s, 1.5m or 1h30m: one or more
// terms of a decimal number and ns, us, ms, s, m, h or d (24 hours). It must be
// above zero.
func ParseDuration(s string) (time.Duration, error) {
	if !wholeTerms.MatchString(s) {
		return 0, fmt.Errorf("%q is not a duration such as 500ms, 30s, 2m or 1h30m", s)
	}
	sum := new(big.Rat)
	for _, term := range durationTerm.FindAllStringSubmatch(s, -1) {
		n, err := exact(term[1], durationUnits[term[2]])
		if err != nil {
			return 0, err
		}
		sum.Add(sum, n)
	}
	n, err := whole(sum, s, "ns")
	return time.Duration(n), err
}

// ParseSize reads a size with a unit, as 512MB (10^6) or 1.5GiB (2^30), in
// bytes. The unit's case does not matter. It must be above zero.
func ParseSize(s string) (int64, error) {
	m := sizeTerm.FindStringSubmatch(s)
	if m == nil || sizeUnits[strings.ToLower(m[2])] == 0 {
		return 0, fmt.Errorf("%q is not a size such as 64KB, 512MB or 1GiB", s)
	}
	n, err := exact(m[1], sizeUnits[strings.ToLower(m[2])])
	if err != nil {
		return 0, err
	}
	return whole(n, s, "bytes")
}

// quantity reads a node that the schema has found to be a number or a string.
// factor is what a bare number counts.
func quantity(n *node, factor int64, unit string, parse func(string) (int64, error)) (int64, error) {
	if n.kind == isString {
		return parse(n.text)
	}
	v, err := exact(n.text, factor)
	if err != nil {
		return 0, err
	}
	return whole(v, n.text, unit)
}

func exact(number string, factor int64) (*big.Rat, error) {
	if len(number) <= maxDigits {
		if i := strings.IndexAny(number, "eE"); i < 0 || len(number)-i <= len("e+99") {
			if r, ok := new(big.Rat).SetString(number); ok {
				return r.Mul(r, new(big.Rat).SetInt64(factor)), nil
			}
		}
	}
	return nil, fmt.Errorf("%.50q is out of range", number)
}

func whole(r *big.Rat, s, unit string) (int64, error) {
	n := new(big.Int).Quo(r.Num(), r.Denom())
	switch {
	case r.Sign() < 0:
		return 0, fmt.Errorf("%q must not be negative", s)
	case n.Sign() == 0:
		return 0, fmt.Errorf("%q must be above zero", s)
	case !n.IsInt64():
		return 0, fmt.Errorf("%q is too large, the limit is %d %s", s, int64(math.MaxInt64), unit)
	}
	return n.Int64(), nil
}
