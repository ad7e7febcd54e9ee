// Package peer holds the baselines that millrace is compared with: pipes with
// JSON, pipes with raw bytes, a Unix socket with raw bytes, and shmipc-go.
//
// All of them have the topology of today's hosts. A supervisor process holds
// the state and three step processes hang on it; the state goes from the
// supervisor to a step and back, three times. One file defines one peer;
// supervisor.go and step.go hold what they share, and session.go is the
// harness's end.
//
// Invariants: whatever can be reused is reused (buffers, streams, shared
// memory), so that no peer loses for want of care; the raw peers check in
// every run that each step read exactly the bytes it should have; every
// process ends when the one above it does.
//
// The harness calls it through [Cases] and [PingCases].
package peer
