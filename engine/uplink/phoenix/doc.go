// Package phoenix is a client for Phoenix channels: the V2 JSON serializer
// over a websocket. It sends messages of any length and receives replies of
// any length in constant memory.
//
// # What it owns
//
// A [Socket] is one connection that is made again whenever it is lost, for
// ever, until Close. A [Channel] is one topic on it. Channels are rejoined
// after a drop by themselves, each before anything else is sent on it.
//
//   - Push sends a [Payload], which is written straight into the connection
//     through one buffer of bounded size, and waits for its acknowledgement.
//   - PushOptions.Into receives the bytes of a large reply while they arrive.
//   - On hands out what the server sends of its own accord.
//
// # Invariants
//
// Pushes of one channel go out in the order in which they were made. A push
// that was not wholly written when the connection broke is sent again, since
// the server cannot have seen it. One that was written and not acknowledged is
// sent again only with PushOptions.Resend: then before everything that came
// after it, with the same payload, so that a server can tell the duplicate by
// the ids in it. Otherwise it fails with [ErrDisconnected].
//
// Memory is bounded: by Options.Outbox pushes that wait, beyond which Push
// blocks, one write buffer, one read buffer, and Options.MaxReply for a reply
// that is not streamed.
//
// What the server sends is not trusted: a frame that is no Phoenix message is
// logged and skipped; a reply to nothing, a second or a late one is counted
// and dropped; no frame can make the client panic or allocate more than the
// limits above.
//
// # Who calls it
//
// engine/lightning. The payloads come from engine/uplink/payload.
package phoenix
