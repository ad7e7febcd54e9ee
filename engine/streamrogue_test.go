package engine

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// rogue is an executor by hand: it says what its function's name lists, word by
// word, whether it makes sense or not.
type rogue struct {
	*ipc.Channel
	specs   map[uint64]string
	execute uint64        // the id
	row     ipc.Row       // of a stream in the input
	stream  shm.SegmentID // fed or read
	last    ipc.Message   // the last answer
	id      uint64        // of the last request
}

func runRogue() {
	conn, err := ipc.FromEnvironment()
	must(err)
	r := &rogue{Channel: ipc.NewChannel(conn), specs: make(map[uint64]string)}
	_, err = r.Greet(ipc.Hello{Language: "rogue", Capabilities: []string{ipc.CapabilityStreams, ipc.CapabilityCalls}}, 30*time.Second)
	must(err)
	for {
		switch e := r.next(); m := e.Message.(type) {
		case *ipc.Prepare:
			var spec struct{ Function string }
			must(json.Unmarshal([]byte(m.Spec), &spec))
			r.specs[m.Code] = spec.Function
		case *ipc.Execute:
			*r = rogue{Channel: r.Channel, specs: r.specs, execute: e.ID}
			if live := streamRows(e.State); len(live) > 0 {
				r.row, r.stream = live[0], live[0].Spans[0].Segment
			}
			for _, word := range strings.Fields(r.specs[m.Code]) {
				r.say(word, m)
			}
		}
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "rogue:", err)
		os.Exit(99)
	}
}

func (r *rogue) next() *ipc.Envelope {
	e, err := r.Receive()
	if err != nil {
		os.Exit(0)
	}
	if e.File != nil {
		e.File.Close()
	}
	if _, ok := e.Message.(*ipc.Shutdown); ok {
		os.Exit(0)
	}
	return e
}

func (r *rogue) send(id uint64, m ipc.Message, rows ...ipc.Row) {
	e := &ipc.Envelope{ID: id, Message: m}
	if len(rows) > 0 {
		e.State = ipc.Table{Kind: ipc.KindObject, Rows: rows}
	}
	must(r.Send(e))
}

// ask sends a request and waits for its answer.
func (r *rogue) ask(m ipc.Message, rows ...ipc.Row) {
	r.id++
	r.send(r.id, m, rows...)
	for {
		e := r.next()
		switch m := e.Message.(type) {
		case *ipc.StreamRing:
			if e.ID == r.id {
				r.last, r.stream = m, m.Stream
				return
			}
		case *ipc.Fail:
			if e.ID == r.id {
				r.last = m
				return
			}
		}
	}
}

func (r *rogue) say(word string, m *ipc.Execute) {
	word, argument, _ := strings.Cut(word, ":")
	switch word {
	case "stream":
		r.ask(&ipc.Stream{Key: argument, Encoding: shm.JSON})
	case "stream-with-row": // of the input
		r.ask(&ipc.Stream{Key: argument, Encoding: shm.JSON}, r.row)
	case "stream-encoding":
		r.ask(&ipc.Stream{Key: argument, Encoding: 77})
	case "stream-without-id":
		r.send(0, &ipc.Stream{Key: argument, Encoding: shm.JSON})
	case "stream-with-blocks":
		r.ask(&ipc.Stream{Key: argument, Encoding: shm.JSON, Blocks: []shm.Block{{Segment: 99, Length: 8}}})
	case "consume":
		r.ask(&ipc.Consume{Stream: r.stream})
	case "consume-other":
		r.ask(&ipc.Consume{Stream: r.stream + 1})
	case "consume-without-id":
		r.send(0, &ipc.Consume{Stream: r.stream})
	case "flood":
		for i := range uint64(1 << 20) {
			r.send(i+1, &ipc.Consume{Stream: r.stream + 1})
		}
	case "flood-calls":
		for i := range uint64(1 << 20) {
			r.send(i+1, &ipc.Call{Step: "nobody", Until: ipc.UntilStep})
		}
	case "call": // of a step that is not there
		r.ask(&ipc.Call{Step: "nobody", Until: ipc.UntilStep})
	case "ring":
		if _, ok := r.last.(*ipc.StreamRing); !ok {
			must(fmt.Errorf("answered with %+v", r.last))
		}
	case "refused":
		f, ok := r.last.(*ipc.Fail)
		if !ok || !strings.Contains(strings.ReplaceAll(f.Message, " ", "-"), argument) {
			must(fmt.Errorf("answered with %+v", r.last))
		}
	case "end":
		end := &ipc.StreamEnd{Stream: r.stream}
		if argument != "" {
			end.Severity, end.Name, end.Message = "nonsense", argument, "the rogue says so"
		}
		r.send(0, end)
	case "end-other":
		r.send(0, &ipc.StreamEnd{Stream: r.stream + 1, Name: "Forged", Message: "not its own"})
	case "wake":
		r.send(0, &ipc.Wake{Stream: r.stream})
	case "wake-other":
		r.send(0, &ipc.Wake{Stream: r.stream + 1})
	case "awake":
		for {
			if _, ok := r.next().Message.(*ipc.Wake); ok {
				return
			}
		}
	case "ended":
		for {
			if end, ok := r.next().Message.(*ipc.StreamEnd); ok {
				if end.Name != argument {
					must(fmt.Errorf("it ended with %q: %s", end.Name, end.Message))
				}
				return
			}
		}
	case "done":
		r.send(r.execute, new(ipc.Done))
	case "done-with-row":
		r.send(r.execute, new(ipc.Done), r.row)
	case "done-with-rows": // one stream under two keys
		other := r.row
		other.Key += "2"
		r.send(r.execute, new(ipc.Done), r.row, other)
	case "exit":
		os.Exit(7)
	case "hang":
		for {
			r.next()
		}
	default:
		must(fmt.Errorf("no word %q", word))
	}
}

func TestRogueStreams(t *testing.T) {
	const good = "stream:items ring ended: done"
	for name, c := range map[string]struct {
		make, read string
		status     Status
		want       string // in the document, or the error
	}{
		"all is well":                     {"stream:items ring wake end done", "consume ring ended: done", StatusSuccess, ""},
		"wakes pass both ways":            {"stream:items ring awake wake ended: done", "consume ring wake awake done", StatusSuccess, ""},
		"wakes and ends of nobody":        {"wake end:Forged stream:items ring wake-other end-other ended: done", "end-other wake-other consume ring end done", StatusSuccess, ""},
		"the feeder ends before it reads": {"stream:items ring end done", "consume ring ended: done", StatusSuccess, ""},
		"ends twice":                      {"stream:items ring end end:Late done", "consume ring ended: end end:Late done", StatusSuccess, ""},
		"done without an end":             {"stream:items ring done", "consume ring ended: done", StatusSuccess, ""},
		"done with the stream":            {"stream:items ring end done", "done-with-row", StatusSuccess, `{"items":"[stream]"}`},
		"read, and done with the stream":  {"stream:items ring ended: done", "consume ring done-with-row", StatusSuccess, `{"items":"[stream]"}`},
		"one stream under two keys":       {good, "done-with-rows", StatusSuccess, `{"items":"[stream]","items2":"[stream]"}`},
		"hands over twice":                {"stream:items ring stream:more refused:feeds-a-stream-already ended: done", "done", StatusSuccess, ""},
		"a key that is not passed on":     {"stream:_items refused:no-step-passes-on stream:response refused:no-step-passes-on stream:items ring ended: done", "done", StatusSuccess, ""},
		"an unknown encoding":             {"stream-encoding:items refused:unknown-encoding stream:items ring ended: done", "done", StatusSuccess, ""},
		"a stream without an id":          {"stream-without-id:items hang", "done", StatusCrash, "a stream without an id"},
		"blocks that are not its own":     {"stream-with-blocks:items hang", "done", StatusCrash, "never attached"},
		"another's stream":                {good, "consume-other refused:does-not-have consume ring done", StatusSuccess, ""},
		"reads twice":                     {good, "consume ring consume refused:read-once done", StatusSuccess, ""},
		"a consume without an id":         {"stream:items ring ended:ExitError hang", "consume-without-id hang", StatusCrash, "a consume without an id"},
		"asks and does not listen":        {"stream:items ring hang", "flood hang", StatusCrash, "asks faster than it reads"},
		"calls and does not listen":       {"stream:items ring hang", "flood-calls hang", StatusCrash, "asks faster than it reads"},
		"calls what is not there":         {good, "call refused:no-such-step call refused:no-such-step consume ring done", StatusSuccess, ""},
		"the feeder says it failed":       {"stream:items ring awake end:Sour done", "consume ring wake ended:Sour done", StatusSuccess, ""},
		"the reader says it failed":       {"stream:items ring ended:Sour done", "consume ring end:Sour done", StatusSuccess, ""},
		"the feeder dies":                 {"stream:items ring exit", "consume hang", StatusCrash, "exited with code: 7"},
		"the reader dies":                 {"stream:items ring ended:ExitError hang", "consume ring exit", StatusCrash, "exited with code: 7"},
		"the feeder dies, nobody reads":   {"stream:items ring exit", "hang", StatusCrash, "exited with code: 7"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t, Options{})
			p := flow(t, fmt.Sprintf(`
options: {timeout: 2m}
steps:
  - {id: make, worker: [/proc/self/exe, rogue], function: %q, next: read}
  - {id: read, worker: [/proc/self/exe, rogue], function: %q}
`, c.make, c.read))
			got := run(t, e, p, `{}`, RunOptions{Observe: func(Event) {}})
			text := got.document
			if got.Err != nil {
				text = got.Err.Error()
			}
			if got.Status != c.status || !strings.Contains(text, c.want) {
				t.Errorf("%s: %s", got.Status, text)
			}
		})
	}
}
