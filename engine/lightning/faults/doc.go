// Package faults tests the Lightning worker against a stand-in server that
// checks everything it receives and fails on purpose, at each point where a
// real one can. It holds tests only.
//
// Every test ends with the same questions: did the server see a violation of
// the protocol, did each event arrive once and in order, and is all of the
// runs' memory given back?
package faults
