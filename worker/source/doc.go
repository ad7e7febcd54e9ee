// Package source reads files as batches of records: NDJSON, CSV, folders of
// files, Parquet and Arrow files. A batch is one JSON array (or one Arrow IPC
// stream), so that a file which is larger than memory flows through a workflow
// piece by piece.
//
// # What it owns
//
// [Reader] turns a [Spec] into batches, in the order of the files and of the
// records in them. [Runner] runs steps of the kind "source" in an executor: it
// hands the step's state over with a stream under the spec's key and feeds it.
//
// # Invariants
//
//   - Memory is bounded by a batch, never by a file.
//   - A JSON record is validated and passed on as it was written; it is not
//     decoded. A batch is valid JSON whatever the file holds.
//   - An error names the file, and the line or row in it.
//
// # Who calls it
//
// cmd/millrace, which the engine starts as the executor of source steps.
package source
