// Package worker is the Go executor library: a program that registers its
// functions and calls [Main] can run steps of a millrace workflow.
//
//	func main() { worker.Main(worker.Functions{"delays": Delays}) }
//
//	func Delays(ctx context.Context, s *worker.State) error {
//		flights, err := worker.Get[[]Flight](s, "data")
//		if err != nil {
//			return err
//		}
//		return s.Set("delays", late(flights))
//	}
//
// # What it owns
//
// The executor's end of the control channel, the arena of shared memory that
// this process writes, and the read-only mappings of segments that the
// supervisor handed over. A [State] is a table of references: a key that a
// function does not touch is passed on without being mapped, a key that it
// reads is mapped, a key that it sets is encoded straight into shared memory.
//
// Below the functions there is a seam for other kinds of step: [Serve] runs
// any [Runner]. worker/command is one.
//
// # Calling other steps
//
// [Call] runs another step of the workflow and returns what comes of it, [Each]
// runs one for each of many items. Arguments and results are rows of references
// like any state: nothing is copied on the way. [State.New] and [State.Fork] make
// states to call with; [State.SetFrom] passes a value on by reference,
// [State.Extend] makes the elements of arrays one array where they lie, and
// [State.Forward] chooses the step that goes on with the result.
//
// A reply is read until it is closed, and its memory is held until then. What
// another state of the function refers to is held for longer by itself.
//
// # Streams
//
// A step need not be finished for the next one to begin: [State.Stream] hands
// the state over at once, with a key whose items this step goes on to write, and
// the next steps run beside it.
//
//	w, err := s.Stream(ctx, "pages", worker.StreamOptions{})
//	if err != nil {
//		return err
//	}
//	for page := range fetch(ctx) {
//		if err := w.Encode(page); err != nil {
//			return err // also when the reader wants no more: that is no failure
//		}
//	}
//	return nil
//
// A step that finds a stream in its state reads it, and the slower of the two
// sets the pace.
//
//	r, err := s.OpenStream(ctx, "pages")
//	if err != nil {
//		return err
//	}
//	for page, err := range worker.Items[Page](r) {
//
// [EachStream] calls a step for each item. [StreamWriter.Reserve] and
// [StreamReader.Next] work in the memory that both share: an item is encoded
// where it is read, and nothing is copied or allocated for it. When a step ends
// its streams end too, and one that fails fails whoever is at the other end, with
// a [StreamError].
//
// # Invariants
//
//   - One step runs at a time. It runs on the goroutine that received it; when
//     it takes longer than a moment another goroutine takes over receiving, so
//     that cancellation and hang-up are always seen.
//   - A result names exactly the blocks that the step wrote and its table
//     uses; everything else that it wrote was freed before. What is published
//     is freed when the supervisor says so, never earlier.
//   - A call is forgotten once it is answered, closed, and no state of the step
//     refers to its result or to what it published. Then the supervisor may
//     release both.
//   - When the supervisor hangs up, [Main] exits at once.
//
// # Caveats
//
// Bytes from [State.Raw], [State.Reader] and [State.Document] lie in read-only
// shared memory and are valid until the function returns. Writing to them
// fails the step with a RuntimeError (in a goroutine that the function
// started: it kills the process); reading them after the function has returned
// may do so too. Copy what is to be kept. What [StreamReader.Next] returns is
// valid until the next call and can be changed by its writer until then; what
// [StreamWriter.Reserve] returns, until the stream is closed.
//
// A function that ignores its context after a cancellation or timeout is
// killed with its process.
//
// # Who calls it
//
// Programs of users; worker/command; it never imports the engine.
package worker
