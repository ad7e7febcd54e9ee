package ipc

import (
	"math"
	"strings"
	"time"

	"github.com/millrace/millrace/shm"
)

type vectorCase struct {
	name   string
	e      Envelope
	change func([]byte) []byte
}

const own = shm.SegmentID(7<<32 | 1)

func vectorCases() []vectorCase {
	state := Table{Kind: KindObject, Rows: []Row{
		{Key: "data", Spans: []shm.Ref{ref(own, 64, 1000, shm.JSON), ref(own, 4096, 1<<30, shm.JSON)}},
		{Key: "references", Spans: []shm.Ref{ref(own, 1064, 2, shm.JSON)}},
		{Key: "", Spans: []shm.Ref{ref(own, 0, 0, shm.Raw)}},
		{Key: "größe 📦", Spans: []shm.Ref{{Segment: 9<<32 | 3, Offset: 1 << 53, Length: 5, Encoding: shm.ArrowStream, Flags: shm.FlagStream}}},
	}}
	value := Table{Kind: KindValue, Rows: []Row{{Spans: []shm.Ref{ref(own, 8, 4, shm.JSON)}}}}
	extreme := Table{Kind: KindObject, Rows: []Row{
		{Key: "all ones", Spans: []shm.Ref{{Segment: math.MaxUint64, Offset: math.MaxUint64, Length: 0, Encoding: shm.Raw, Flags: 0xffff}}},
	}}
	return []vectorCase{
		{name: "hello", e: Envelope{Message: &Hello{MinVersion: 1, MaxVersion: 1, PID: 4711, Language: "go", Release: "0.1.0",
			Capabilities: []string{CapabilityRing, CapabilityConditions}, Functions: []string{"clean", "größe"}}}},
		{name: "hello, nothing in it", e: Envelope{Message: &Hello{}}},
		{name: "welcome without the ring", e: Envelope{Message: &Welcome{Version: 1, Executor: 7, RetainBytes: 256 << 20, PrefaultBytes: 16 << 20,
			DropKeys: []string{"configuration", "response"}}}},
		{name: "welcome with the ring", e: Envelope{Message: &Welcome{Version: 1, Executor: math.MaxUint32,
			Capabilities: []string{CapabilityRing}, RingSize: DefaultRingSize}, File: standIn(1)}},
		{name: "attach", e: Envelope{Message: &Attach{Segment: own, Size: 64 << 20}, File: standIn(1)}},
		{name: "attach, largest numbers", e: Envelope{Message: &Attach{Segment: math.MaxUint64, Size: math.MaxUint64}, File: standIn(1)}},
		{name: "detach", e: Envelope{Message: &Detach{Segments: []shm.SegmentID{own, own + 1}}}},
		{name: "detach nothing", e: Envelope{Message: &Detach{}}},
		{name: "release", e: Envelope{Message: &Release{Blocks: []shm.Block{{Segment: own, Offset: 64, Length: 1000}, {Segment: own, Offset: 4096, Length: 1 << 30}}}}},
		{name: "release nothing", e: Envelope{Message: &Release{}}},
		{name: "prepare a function", e: Envelope{Message: &Prepare{Code: 1, Kind: "function", Spec: `{"function":"clean"}`}}},
		{name: "prepare a command", e: Envelope{Message: &Prepare{Code: math.MaxUint64, Kind: "command",
			Spec: `{"argv":["jq",".data | length"],"stdin":"state","stdout":{"key":"count","encoding":"json"}}`}}},
		{name: "execute", e: Envelope{ID: 1, Message: &Execute{Code: 1, Run: "run-1", Step: "clean", Attempt: 1, Timeout: 30 * time.Second,
			MemoryLimit: 512 << 20, Budget: 1 << 30, Upstream: "fetch", Conditions: []string{"!state.errors", "state.data.length > 0"}}, State: state}},
		{name: "execute ahead", e: Envelope{ID: 2, Message: &Execute{Code: 2, Run: "run-1", Step: "load", Attempt: 1, Upstream: "clean", After: 1, Needs: []string{"data"}},
			State: Table{Kind: KindObject, Rows: []Row{{Key: "configuration", Spans: []shm.Ref{ref(9<<32|3, 0, 2, shm.JSON)}}}}}},
		{name: "execute without a state", e: Envelope{ID: math.MaxUint64, Message: &Execute{}}},
		{name: "execute on an empty object", e: Envelope{ID: 1 << 53, Message: &Execute{Timeout: math.MaxInt64}, State: Table{Kind: KindObject}}},
		{name: "execute on a bare value", e: Envelope{ID: 3, Message: &Execute{Code: 2, Step: "s"}, State: value}},
		{name: "done", e: Envelope{ID: 1, Message: &Done{Started: 123456789, Finished: 123456999,
			Blocks: []shm.Block{{Segment: own, Offset: 64, Length: 1000}}, Decoded: 10, Encoded: 1000,
			Verdicts: []Verdict{{Taken: true}, {Error: "ReferenceError: x is not defined"}}}, State: state}},
		{name: "done, nothing returned", e: Envelope{ID: 2, Message: &Done{}}},
		{name: "done, largest numbers", e: Envelope{ID: 2, Message: &Done{Started: math.MaxUint64, Finished: 1 << 53, Decoded: 1<<53 - 1, Encoded: math.MaxUint64,
			Blocks: []shm.Block{{Segment: math.MaxUint64, Offset: math.MaxUint64, Length: math.MaxUint64}}}, State: extreme}},
		{name: "fail", e: Envelope{ID: 1, Message: &Fail{Started: 1, Finished: 2, Severity: SeverityFail, Name: "JobError",
			Message: "state.data is undefined", Details: `{"stack":["at job.js:3:5"]}`}}},
		{name: "fail, refusing a hello", e: Envelope{Message: &Fail{Severity: SeverityException, Name: "VersionError", Message: "too old"}}},
		{name: "cancel", e: Envelope{ID: 1, Message: &Cancel{Reason: "step timed out after 30s"}}},
		{name: "log", e: Envelope{ID: 1, Message: &Log{Time: 1700000000000000, Level: "info", Source: "job", Message: "hello\nworld \u0000 📦"}}},
		{name: "log, structured", e: Envelope{ID: 1, Message: &Log{Time: math.MaxUint64, Level: "debug", Source: "runtime", Message: `{"rows":3}`, Structured: true}}},
		{name: "ping", e: Envelope{ID: 5, Message: &Ping{}}},
		{name: "pong", e: Envelope{ID: 5, Message: &Pong{}}},
		{name: "shutdown", e: Envelope{Message: &Shutdown{}}},
		{name: "doorbell", e: Envelope{Message: &doorbell{}}},
		{name: "from-socket", e: Envelope{Message: &fromSocket{}}},
		{name: "call", e: Envelope{ID: 1, Message: &Call{Step: "enrich", Until: UntilLeaf, Timeout: 5 * time.Second,
			Blocks: []shm.Block{{Segment: own, Offset: 64, Length: 1000}}}, State: state}},
		{name: "call without a state", e: Envelope{ID: math.MaxUint64, Message: &Call{Step: "größe", Until: UntilStep}}},
		{name: "result", e: Envelope{ID: 1, Message: &Result{Step: "enrich"}, State: state}},
		{name: "result, nothing returned", e: Envelope{ID: 2, Message: &Result{}}},
		{name: "forget", e: Envelope{Message: &Forget{Calls: []uint64{1, math.MaxUint64}}}},
		{name: "forget nothing", e: Envelope{Message: &Forget{}}},
		{name: "forward", e: Envelope{ID: 1, Message: &Forward{Step: "archive"}}},
		{name: "stream", e: Envelope{ID: 3, Message: &Stream{Key: "pages", Encoding: shm.JSON, Capacity: 4 << 20,
			Blocks: []shm.Block{{Segment: own, Offset: 64, Length: 1000}}}, State: value}},
		{name: "stream beside an empty object", e: Envelope{ID: 4, Message: &Stream{Key: "größe", Encoding: shm.Raw}, State: Table{Kind: KindObject}}},
		{name: "consume", e: Envelope{ID: 5, Message: &Consume{Stream: 17}}},
		{name: "stream-ring", e: Envelope{ID: 5, Message: &StreamRing{Stream: 17, Capacity: 4 << 20, MaxDemand: 1000, MinDemand: 500}, File: standIn(1)}},
		{name: "stream-ring, manual demand", e: Envelope{ID: 6, Message: &StreamRing{Stream: math.MaxUint64, Capacity: 64 << 10, Manual: true}, File: standIn(1)}},
		{name: "wake", e: Envelope{Message: &Wake{Stream: 17}}},
		{name: "stream-end", e: Envelope{Message: &StreamEnd{Stream: 17}}},
		{name: "stream-end, of a step that failed", e: Envelope{Message: &StreamEnd{Stream: 17, Severity: SeverityKill, Name: "TimeoutError", Message: "step \"pages\" took too long"}}},
	}
}

func decodeOnlyCases() []vectorCase {
	return []vectorCase{
		{"cancel with a newer peer's fields", Envelope{ID: 1, Message: &Cancel{Reason: "later"}}, func(b []byte) []byte {
			// The head has 9 bytes; 7 of padding and 8 more become head.
			return put32(put32(append(b, "newerfld"...), 0, uint32(len(b)+8)), 16, 24)
		}},
		{"cancel with padding that is not zero", Envelope{ID: 1, Message: &Cancel{Reason: "pad"}}, func(b []byte) []byte {
			b[len(b)-1] = 0xff
			return b
		}},
	}
}

func badCases() []vectorCase {
	one := Table{Kind: KindObject, Rows: []Row{{Key: "k", Spans: []shm.Ref{ref(own, 64, 8, shm.JSON)}}}}
	two := Table{Kind: KindObject, Rows: []Row{
		{Key: "a", Spans: []shm.Ref{ref(own, 64, 8, shm.JSON)}},
		{Key: "b", Spans: []shm.Ref{ref(own, 72, 8, shm.JSON)}},
	}}
	rope := Table{Kind: KindObject, Rows: []Row{{Key: "k", Spans: []shm.Ref{ref(own, 64, 8, shm.JSON), ref(own, 72, 8, shm.JSON)}}}}
	ping := Envelope{ID: 1, Message: &Ping{}}
	done := func(t Table) Envelope { return Envelope{ID: 1, Message: &Done{}, State: t} }
	cancel := Envelope{ID: 1, Message: &Cancel{Reason: "12345678"}}
	// Where the table of a done without blocks and verdicts starts, and the
	// reference in its only row with a key of up to 8 bytes.
	const table, firstRef = HeaderSize + 40, HeaderSize + 40 + 16
	set := func(at int, v byte) func([]byte) []byte {
		return func(b []byte) []byte { b[at] = v; return b }
	}
	set32 := func(at int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { return put32(b, at, v) }
	}
	return []vectorCase{
		{"no bytes", ping, func(b []byte) []byte { return b[:0] }},
		{"header cut short", ping, func(b []byte) []byte { return b[:HeaderSize-1] }},
		{"frame cut short", cancel, func(b []byte) []byte { return b[:len(b)-8] }},
		{"bytes after the frame", ping, func(b []byte) []byte { return append(b, 0, 0, 0, 0, 0, 0, 0, 0) }},
		{"size below the header's", ping, set32(0, 16)},
		{"size over the limit", ping, set32(0, MaxFrameSize+8)},
		{"size of 2^32-8", ping, set32(0, math.MaxUint32-7)},
		{"size not a multiple of 8", cancel, func(b []byte) []byte { return put32(b[:len(b)-4], 0, uint32(len(b)-4)) }},
		{"reserved header byte set", ping, set(7, 1)},
		{"type 0", ping, set(4, 0)},
		{"type 26", ping, set(4, 26)},
		{"type 255", ping, set(4, 255)},
		{"head longer than the frame", ping, set32(16, 1)},
		{"head of 2^32-1 bytes", cancel, set32(16, math.MaxUint32)},
		{"head cut short", cancel, set32(16, 8)},
		{"text longer than the head", cancel, set32(HeaderSize, 9)},
		{"text of 2^32-1 bytes", cancel, set32(HeaderSize, math.MaxUint32)},
		{"text that is not UTF-8", cancel, set(HeaderSize+4, 0xff)},
		{"list longer than the head", Envelope{Message: &Detach{Segments: []shm.SegmentID{1}}}, set32(HeaderSize, 2)},
		{"list of 2^32-1 items", Envelope{Message: &Release{}}, set32(HeaderSize, math.MaxUint32)},
		{"descriptor with a ping", ping, set(6, 1)},
		{"two descriptors", Envelope{Message: &Attach{Segment: own}, File: standIn(1)}, set(6, 2)},
		{"attach without a descriptor", Envelope{Message: &Attach{Segment: own}, File: standIn(1)}, set(6, 0)},
		{"stream-ring without a descriptor", Envelope{Message: &StreamRing{Stream: 1}, File: standIn(1)}, set(6, 0)},
		{"descriptor with a consume", Envelope{ID: 1, Message: &Consume{Stream: 1}}, set(6, 1)},
		{"table with a forward", Envelope{ID: 1, Message: &Forward{Step: "s"}}, set(5, byte(KindObject))},
		{"table with a ping", ping, set(5, byte(KindObject))},
		{"unknown table kind", done(one), set(5, 3)},
		{"rows without a state", done(one), set(5, byte(KindAbsent))},
		{"bare value of two rows", done(two), set(5, byte(KindValue))},
		{"bare value with a key", done(one), set(5, byte(KindValue))},
		{"bare value without a row", done(Table{Kind: KindObject}), set(5, byte(KindValue))},
		{"more rows than there are", done(one), set32(20, 2)},
		{"2^32-1 rows", done(one), set32(20, math.MaxUint32)},
		{"bytes after the table", done(two), set32(20, 1)},
		{"key longer than the frame", done(one), set32(table, math.MaxUint32)},
		{"key that is not UTF-8", done(one), set(table+8, 0xc0)},
		{"key twice", done(two), set(table+8+8+RefSize+8, 'a')},
		{"row without spans", done(one), set32(table+4, 0)},
		{"more spans than there are", done(one), set32(table+4, 2)},
		{"2^32-1 spans", done(one), set32(table+4, math.MaxUint32)},
		{"reference past 2^64", done(one), func(b []byte) []byte {
			copy(b[firstRef+8:], strings.Repeat("\xff", 8))
			return b
		}},
		{"encoding 0", done(one), set(firstRef+24, 0)},
		{"encoding 4", done(one), set(firstRef+24, 4)},
		{"mixed encodings in a row", done(rope), set(firstRef+RefSize+24, byte(shm.Raw))},
		{"reserved byte of a reference set", done(one), set(firstRef+25, 1)},
		{"reserved bytes of a reference set", done(one), set(firstRef+28, 1)},
	}
}
