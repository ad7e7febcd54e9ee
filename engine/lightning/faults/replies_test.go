package faults

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/millrace/millrace/engine/lightning"
	"github.com/millrace/millrace/engine/lightning/standin"
)

func TestReplies(t *testing.T) {
	for name, hook := range map[string]func(standin.Push) standin.Action{
		"late": func(p standin.Push) standin.Action {
			return standin.Action{Delay: 20 * time.Millisecond}
		},
		"twice": func(standin.Push) standin.Action { return standin.Action{Twice: true} },
		"with an unknown ref": func(standin.Push) standin.Action {
			return standin.Action{UnknownRef: true}
		},
		"with a frame that is no JSON":    garbage("}{"),
		"with a frame that is no message": garbage(`{"a":1}`),
		"with a message for nobody":       garbage(`[null,null,"run:nobody","party",{}]`),
		"with a message of odd types":     garbage(`[1,[],{},null,7]`),
		"with nothing in a frame":         garbage(""),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, standin.Options{Hook: hook}, nil)
			r.wantWhole(r.run(line(nil, counting...)))
		})
	}
}

func garbage(text string) func(standin.Push) standin.Action {
	return func(standin.Push) standin.Action { return standin.Action{Garbage: []byte(text)} }
}

// TestLaterThanTheTimeout: an acknowledgement that never comes, or comes when
// nobody waits for it, costs that event's time and nothing else.
func TestLaterThanTheTimeout(t *testing.T) {
	for name, a := range map[string]standin.Action{
		"never": {NoReply: true},
		"late":  {Delay: 3 * time.Second, Forgive: true},
	} {
		t.Run(name, func(t *testing.T) {
			// Small states: no other acknowledgement is to take that long.
			r := newRig(t, standin.Options{Hook: once("run:log", 5, a)}, func(o *lightning.Options) { o.MessageTimeout = 2 * time.Second })
			record := r.run(line(nil, `console.log(0); console.log(1)`, `console.log(2); console.log(3)`, `console.log(4)`))
			r.wantCounted(record, 5)
			r.wantEvents(record, threeSteps)
		})
	}
}

// TestRefusals: an event that the server refuses is not sent again, and the run
// goes on.
func TestRefusals(t *testing.T) {
	for _, event := range []string{"run:log", "run:complete"} {
		t.Run(event, func(t *testing.T) {
			r := newRig(t, standin.Options{Hook: once(event, 1, standin.Action{Refuse: "no"})}, nil)
			id := r.enqueue(line(nil, counting...))
			if event == "run:complete" { // it is lost: the server finds out
				r.until("the run is left", func() bool { return r.Count("phx_leave") > 0 && r.worker.Active() == 0 })
				return
			}
			record := r.finish(id)
			if record.Reason != "success" || r.Count(event) < 2 {
				t.Errorf("%s", record.Reason)
			}
			r.wantCounted(record, 9)
			r.wantEvents(record, threeSteps)
		})
	}
}

func TestFetchesAreRefused(t *testing.T) {
	secret := object{"id": "a", "body": "export default [(state) => state]", "credential_id": "secret"}
	for event, want := range map[string]string{
		"fetch:plan": "exception", "fetch:dataclip": "exception DataClipError", "fetch:credential": "exception CredentialLoadError",
	} {
		t.Run(event, func(t *testing.T) {
			r := newRig(t, standin.Options{Hook: once(event, 1, standin.Action{Refuse: "no"})}, nil)
			run := runOf(object{"starting_node_id": "a", "triggers": []object{}, "jobs": []object{secret}, "edges": []object{}})
			run.Credentials = map[string]json.RawMessage{"secret": json.RawMessage(`{"password":"x"}`)}
			record := r.finish(r.enqueue(run))
			if got := record.Reason + " " + record.ErrorType; got != want && record.Reason != want {
				t.Errorf("the run ended with %s: %s, want %s", got, record.ErrorMessage, want)
			}
		})
	}
}

// TestAJoinIsRefused: the run is left to the server, and its place is free.
func TestAJoinIsRefused(t *testing.T) {
	refused := ""
	r := newRig(t, standin.Options{Hook: func(p standin.Push) standin.Action {
		if p.Event == "phx_join" && p.Topic != "worker:queue" && (refused == "" || refused == p.Topic) {
			refused = p.Topic
			return standin.Action{Refuse: "unauthorized"}
		}
		return standin.Action{}
	}}, func(o *lightning.Options) { o.Workloops = lightning.DefaultWorkloops(2) })
	lost := r.enqueue(line(nil, counting...))
	r.until("the run is refused", func() bool { return r.Count("phx_join") >= 2 })
	r.wantWhole(r.run(line(nil, counting...)))
	if record, err := r.Run(lost); err != nil || record.State != standin.StateClaimed || len(record.Events) != 0 {
		t.Errorf("%+v %v", record, err)
	}
}

func TestTheQueuesJoinIsRefused(t *testing.T) {
	r := newRig(t, standin.Options{Hook: once("phx_join", 1, standin.Action{Refuse: "later"})}, nil)
	r.wantWhole(r.run(line(nil, counting...)))
}

// TestAChannelEnds: the server lets a channel crash or closes the queue; the
// worker joins again.
func TestAChannelEnds(t *testing.T) {
	for name, hook := range map[string]func(standin.Push) standin.Action{
		"the queue is closed":  once("claim", 2, standin.Action{Channel: "phx_close"}),
		"the queue crashes":    once("claim", 2, standin.Action{Channel: "phx_error"}),
		"the run's crashes":    once("step:start", 2, standin.Action{Channel: "phx_error"}),
		"the run's, at a line": once("run:log", 4, standin.Action{Channel: "phx_error"}),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, standin.Options{Hook: hook}, nil)
			r.until("claims", func() bool { return r.Count("claim") > 2 })
			r.wantWhole(r.run(line(nil, counting...)))
		})
	}
}

// TestBadRunTokens: a worker that knows the server's key refuses a run whose
// token is not the server's, and retires.
func TestBadRunTokens(t *testing.T) {
	for name, change := range map[string]func(*standin.Run){
		"garbage":  func(run *standin.Run) { run.Token = "not.a.token" },
		"expired":  func(run *standin.Run) { run.TokenLife = -time.Minute },
		"unsigned": func(run *standin.Run) { run.Token = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJMaWdodG5pbmcifQ." },
	} {
		for _, rsa := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				r := newRigWithKey(t, standin.Options{RSA: rsa})
				run := line(nil, counting...)
				r.wantWhole(r.run(run))
				change(&run)
				id := r.enqueue(run)
				var refused *lightning.RunTokenError
				if err := r.stopped(); !errors.As(err, &refused) {
					t.Errorf("the worker ended with %v", err)
				}
				if record, err := r.Run(id); err != nil || len(record.Events) > 0 {
					t.Errorf("%+v %v", record, err)
				}
			})
		}
	}
}

// newRigWithKey is a rig whose worker checks the runs' tokens.
func newRigWithKey(t *testing.T, so standin.Options) *rig {
	t.Helper()
	return newRigFor(t, so, func(s *standin.Server, o *lightning.Options) {
		key, err := lightning.ParseRunKey(s.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		o.RunKey = key
	})
}
