// Package engine runs workflows: it compiles a plan, hands each step to an
// executor, moves references from step to step, decides the edges, and keeps
// the figures.
//
//	eng, err := engine.New(engine.Options{})
//	defer eng.Close()
//	p, err := plan.Load("flow.yaml", eng.PlanOptions())
//	run, err := eng.Submit(ctx, p, engine.FromReader(os.Stdin), engine.RunOptions{})
//	result, err := run.Wait(ctx)
//	err = result.WriteDocument(os.Stdout)
//	err = run.Close()
//
// # What it owns
//
// Runs. A run owns an account in the ledger (engine/ledger), which holds every
// block its states refer to; when the run is closed the account is, and with
// it goes all of the run's memory. Executors belong to engine/pool. A state in
// the engine is an ipc.Table whose holder is always one function at a time:
// each doc comment says who gives it up.
//
// A run walks its graph in branches. The branches that come from one start, the
// run's own or a call's, are a scope: what fails in a call's scope is for the
// caller to handle. While a step runs a session holds what it asks for: its
// calls, and its ends of streams. When the step ends, however it does, so do they,
// and whoever waits at the other end hears of it.
//
// # Invariants
//
//   - Between the step that wrote a block and the writer of the result, nothing
//     in this process decodes, encodes, maps or copies it ([Stats] counts).
//   - A step's failure is that step's: it is recorded in the state and the
//     edges are decided on it. A crash or kill ends its run, never another.
//   - Whatever happens, a run ends: Wait returns.
//
// # Who calls it
//
// cmd/millrace, and programs that embed the engine. The CLI uses nothing that
// is hidden from others.
package engine
