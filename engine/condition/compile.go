package condition

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/dop251/goja"
	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/parser"
)

// Condition is a compiled condition.
type Condition struct {
	source  string // as the plan has it
	program *goja.Program
	simple  node // nil where only goja can tell
	guarded bool // the text could reach what guard bounds
}

// words are the conditions with a name, and the expressions they stand for.
var words = map[string]string{
	"always":              `true`,
	"on_job_success":      `!state?.errors?.[upstreamStepId]`,
	"on_job_failure":      `state?.errors && state.errors[upstreamStepId]`,
	"on_upstream_success": `!state?.errors?.[upstreamStepId]`,
	"on_upstream_fail":    `state?.errors && state.errors[upstreamStepId]`,
}

// String returns the condition as it was given to Compile.
func (c *Condition) String() string { return c.source }

// maxCompiled is how many conditions are remembered. A plan compiles its own
// once; this spares the work for the next run of the same workflow.
const maxCompiled = 1024

var compiled = struct {
	sync.Mutex
	conditions map[string]*Condition
}{conditions: map[string]*Condition{}}

// Compile parses a condition: an expression or a word. White space around it
// is ignored. It is cheap for one that was compiled before. The error is a
// *SyntaxError.
func Compile(expr string) (*Condition, error) {
	compiled.Lock()
	c := compiled.conditions[expr]
	compiled.Unlock()
	if c != nil {
		return c, nil
	}
	c, err := parse(expr)
	if err != nil {
		return nil, err
	}
	compiled.Lock()
	defer compiled.Unlock()
	if len(compiled.conditions) >= maxCompiled {
		clear(compiled.conditions)
	}
	compiled.conditions[expr] = c
	return c, nil
}

const (
	head = "(function (state, upstreamStepId) {return "
	tail = "\n})"
)

// parse is compile for a parser that might panic on what it has never seen.
func parse(expr string) (c *Condition, err error) {
	defer func() {
		if p := recover(); p != nil {
			c, err = nil, &SyntaxError{Condition: expr, Line: 1, Column: 1, Message: fmt.Sprint("the parser failed: ", p)}
		}
	}()
	return compile(expr)
}

func compile(expr string) (*Condition, error) {
	fail := func(line, column int, message string) (*Condition, error) {
		return nil, &SyntaxError{Condition: expr, Line: max(line, 1), Column: max(column, 1), Message: message}
	}
	if len(expr) > MaxExpression {
		return fail(1, MaxExpression+1, fmt.Sprintf("%d bytes long: the limit is %d bytes", len(expr), MaxExpression))
	}
	text := strings.TrimSpace(expr)
	if text == "" {
		return fail(1, 1, "it is empty")
	}
	if meaning, ok := words[text]; ok {
		text = meaning
	}
	source := head + text + tail
	tree, err := parser.ParseFile(nil, "condition", source, 0, parser.WithDisableSourceMaps)
	if err != nil {
		line, column, message := 1, 1, err.Error()
		var list parser.ErrorList
		if errors.As(err, &list) && len(list) > 0 {
			line, column, message = list[0].Position.Line, list[0].Position.Column, list[0].Message
		}
		return fail(inText(expr, text, line, column, message))
	}
	function := onlyFunction(tree)
	if function == nil {
		return fail(1, 1, "it closes a bracket that it has not opened")
	}
	if first, ok := function.Body.List[0].(*ast.ReturnStatement); ok && first.Argument == nil {
		return fail(1, 1, "the first line has no expression: put comments after it")
	}
	if hugeNumbers(text) {
		return fail(1, 1, "BigInt with ** or << is not allowed in a condition")
	}
	program, err := goja.CompileAST(tree, false)
	if err != nil {
		return fail(1, 1, err.Error())
	}
	return &Condition{
		source:  expr,
		program: program,
		simple:  simplify(function),
		guarded: needsGuard(text),
	}, nil
}

// inText turns a position in the function into one in the expression.
func inText(expr, text string, line, column int, message string) (int, int, string) {
	if line == 1 {
		column -= len(head)
	}
	lead := expr[:strings.Index(expr, text)]
	if last := strings.Count(text, "\n") + 1; line > last {
		// The error is at the bracket behind: something is missing at the end.
		line, message = last, "Unexpected end of input"
		column = len(text) - strings.LastIndexByte(text, '\n')
	}
	if line == 1 {
		column += len(lead) - strings.LastIndexByte(lead, '\n') - 1
	}
	return line + strings.Count(lead, "\n"), column, message
}

// onlyFunction returns the one function of the program, or nil where the
// expression has closed it and gone on.
func onlyFunction(tree *ast.Program) *ast.FunctionLiteral {
	if len(tree.Body) != 1 {
		return nil
	}
	statement, ok := tree.Body[0].(*ast.ExpressionStatement)
	if !ok {
		return nil
	}
	function, _ := statement.Expression.(*ast.FunctionLiteral)
	return function
}
