package condition

import (
	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/token"
)

// node is an expression that the small evaluator knows. Its methods never
// guess: where the answer is not certain they bail, and goja decides.
type node interface {
	eval(e *simpleEval) operand
}

type (
	constant struct{ value operand }
	stateRef struct{}
	stepRef  struct{}

	// chain is an optional chain: a miss in it ends all of it.
	chain struct{ of node }
	// member is of.key or of[key]; optional for ?.
	member struct {
		of, key  node
		optional bool
	}
	not     struct{ of node }
	logical struct {
		op          token.Token
		left, right node
	}
	comparison struct {
		op          token.Token
		left, right node
	}
)

// simplify returns the function's result as a node, or nil.
func simplify(function *ast.FunctionLiteral) node {
	if len(function.Body.List) == 0 {
		return nil
	}
	for _, statement := range function.Body.List[1:] {
		if _, ok := statement.(*ast.EmptyStatement); !ok {
			return nil
		}
	}
	result, ok := function.Body.List[0].(*ast.ReturnStatement)
	if !ok || result.Argument == nil {
		return nil
	}
	if n, ok := simple(result.Argument); ok {
		return n
	}
	return nil
}

func simple(expression ast.Expression) (node, bool) {
	switch x := expression.(type) {
	case *ast.BooleanLiteral:
		return constant{boolean(x.Value)}, true
	case *ast.NullLiteral:
		return constant{operand{kind: isNull}}, true
	case *ast.StringLiteral:
		if s, ok := plainString(x.Value.String(), len(x.Value)); ok {
			return constant{text(s)}, true
		}
	case *ast.NumberLiteral:
		switch value := x.Value.(type) {
		case int64:
			return constant{number(float64(value))}, true
		case float64:
			return constant{number(value)}, true
		}
	case *ast.Identifier:
		switch x.Name {
		case "state":
			return stateRef{}, true
		case "upstreamStepId":
			return stepRef{}, true
		case "undefined":
			return constant{}, true
		}
	case *ast.OptionalChain:
		if of, ok := simple(x.Expression); ok {
			return chain{of}, true
		}
	case *ast.DotExpression:
		return simpleMember(x.Left, constant{text(x.Identifier.Name.String())}, true)
	case *ast.BracketExpression:
		key, ok := simple(x.Member)
		return simpleMember(x.Left, key, ok)
	case *ast.UnaryExpression:
		if of, ok := simple(x.Operand); ok && !x.Postfix {
			switch x.Operator {
			case token.NOT:
				return not{of}, true
			case token.MINUS:
				if c, ok := of.(constant); ok && c.value.kind == isNumber {
					return constant{number(-c.value.number)}, true
				}
			}
		}
	case *ast.BinaryExpression:
		return simpleBinary(x)
	}
	return nil, false
}

func simpleMember(left ast.Expression, key node, ok bool) (node, bool) {
	if !ok {
		return nil, false
	}
	optional, isOptional := left.(*ast.Optional)
	if isOptional {
		left = optional.Expression
	}
	of, ok := simple(left)
	if !ok {
		return nil, false
	}
	return member{of: of, key: key, optional: isOptional}, true
}

func simpleBinary(x *ast.BinaryExpression) (node, bool) {
	left, ok := simple(x.Left)
	if !ok {
		return nil, false
	}
	right, ok := simple(x.Right)
	if !ok {
		return nil, false
	}
	switch x.Operator {
	case token.LOGICAL_AND, token.LOGICAL_OR, token.COALESCE:
		return logical{x.Operator, left, right}, true
	case token.EQUAL, token.STRICT_EQUAL, token.NOT_EQUAL, token.STRICT_NOT_EQUAL,
		token.LESS, token.GREATER, token.LESS_OR_EQUAL, token.GREATER_OR_EQUAL:
		return comparison{x.Operator, left, right}, true
	}
	return nil, false
}
