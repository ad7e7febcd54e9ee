// Package payload gathers outgoing JSON messages from small parts and from
// states whose bytes stay in shared memory until they are written.
//
// # What it owns
//
// A [Message] is an object: fields that are encoded when they are set, and
// states as document.Writer writes them, either inline or as a JSON string
// that contains the document. It implements phoenix.Payload.
//
// # Invariants
//
// A state's bytes are read once each time the message is written: validated,
// escaped where they go into a string, and written, in one pass through
// buffers of a fixed size, which are pooled. Nothing is decoded; memory does
// not depend on the size of a state.
//
// What is written is one valid JSON object whatever the states' writers put
// into their memory: a value that is found not to be JSON is cut off and
// completed, and IfInvalid says which fields follow it.
//
// The bytes of a message are the same each time, unless a writer changes what
// it published, which harms its own run only.
//
// # Caveats
//
// The caller holds the tables for as long as the message may be written.
//
// # Who calls it
//
// engine/lightning, and engine/uplink/frames for its lines.
package payload
