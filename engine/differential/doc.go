// Package differential holds no code, only a test: it makes OpenFn workflows
// from seeds, runs each on the npm package @openfn/runtime and on millrace, and
// compares the final states, the steps run, the edges taken and the errors.
//
// What may differ is listed in docs/openfn-differences.md with its reason, and
// in differences_test.go as a rule of the comparer; nothing else may. A case
// that disagrees is printed with its seed and its whole plan, so that
//
//	go test ./engine/differential -run 'TestSame/seed=17$'
//
// shows it alone. MILLRACE_DIFFERENTIAL_CASES sets how many cases are run.
//
// The reference runs in one Node.js process for the whole batch
// (reference.mjs); its packages are installed by npm ci when they are missing.
// Without Node.js the test is skipped.
package differential
