// Package condition decides edges: a condition is a JavaScript expression over
// the state that a step left behind, evaluated without decoding that state.
//
// # What it owns
//
// [Compile] turns an expression, or one of the words always, on_job_success
// and on_job_failure, into a [Condition], once, when a plan is made.
// [Condition.Eval] answers it for a [State], which the caller defines: keys in
// order, and for each a reader of its JSON text.
//
// In scope are state and upstreamStepId, as in OpenFn's runtime, whose meaning
// this package matches: the text is the operand of a return in a sloppy
// function, its result is taken as a boolean, eval and Function are refused,
// console does nothing, and there is nothing of the host. The words mean
//
//	always            true
//	on_job_success    !state?.errors?.[upstreamStepId]
//	on_job_failure    state?.errors && state.errors[upstreamStepId]
//
// with on_upstream_success and on_upstream_fail as other names.
//
// # How the state looks
//
// As what JSON.parse would have returned. Behind it are objects and arrays
// that scan their bytes when asked and build the scalars asked for:
// state.data.length > 0 scans data and builds one number. Iteration, spread,
// Object.keys, JSON.stringify and array methods work; changes to the state are
// seen within the one evaluation and go no further. A state that is absent is
// undefined, a bare document is itself. The value of a key that is not JSON is
// an object {encoding, length} with the length in bytes, which prints as
// "[arrow]" or whatever its encoding is.
//
// Conditions of the common simple forms (member chains, comparisons with
// literals, !, &&, || and ??) are answered by a small evaluator in well under
// the time that starting a JavaScript runtime takes; whatever it is not certain
// of, it leaves to goja. Each evaluation in goja has a fresh runtime: that is
// cheap enough (some ten microseconds), and nothing is left for the next one.
//
// # Invariants
//
// An evaluation ends: at its time limit, its memory limit, or when its context
// does. A condition that throws is an *EvalError, never a panic. A Condition is
// immutable and for any number of goroutines.
//
// # Who calls it
//
// engine/plan compiles, engine evaluates.
//
// # Caveats
//
// goja can interrupt JavaScript but not its own built-in functions. One that
// is still inside a built-in 100 ms after its limit is abandoned: Eval
// returns, the state is not read again, and the goroutine ends when the
// built-in does. What a built-in may work through in one call is bounded where
// the condition's text could reach such a one: strings made by repeat and
// padding to 16 Mi characters, lists to 4 Mi elements; there are no typed
// arrays, and no BigInt together with ** or <<. That stops what is known, not
// every hostile text: a host that runs workflows of strangers should give
// itself a memory limit as well. The memory limit of an evaluation watches the growth of the whole process.
// Importing this package bounds every match of the regular expression engine
// that goja uses for look-around and back-references to two seconds, process
// wide.
//
// Not quite as plain objects: the state's objects cannot be frozen or have
// symbols or accessors as properties, lone surrogates are U+FFFD, and of an
// array longer than 65,536, identity (===) of its objects is kept for those
// used lately.
package condition
