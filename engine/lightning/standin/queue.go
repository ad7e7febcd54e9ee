package standin

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// queueTopic is the topic on which runs are claimed.
const queueTopic = "worker:queue"

// heartbeat answers the socket's own topic.
func (k *checker) heartbeat() *reply {
	if k.m.event != "heartbeat" {
		k.bad("the topic phoenix has heartbeats only")
		return refuse("unmatched event")
	}
	k.rest()
	if k.s.options.IgnoreHeartbeats {
		return nil
	}
	return ok(map[string]any{})
}

// queue acts on a message for worker:queue.
func (k *checker) queue() *reply {
	switch k.m.event {
	case "phx_join":
		capacity := k.integer("capacity")
		var queues map[string]json.RawMessage
		if k.m.fields["queues"] != nil {
			queues = k.object("queues", true)
			total := int64(0)
			for name, text := range queues {
				var n int64
				if json.Unmarshal(text, &n) != nil || n < 1 || name == "" {
					k.bad("queues.%s is %s: it must be a number of slots", name, text)
				}
				total += n
			}
			if total != capacity {
				k.bad("the queues' slots are %d together, the capacity is %d", total, capacity)
			}
		}
		k.rest()
		if k.problems > 0 {
			return refuse("invalid join")
		}
		k.conn.queueRef, k.conn.capacity = k.m.joinRef, int(capacity)
		k.conn.topics[queueTopic] = k.m.joinRef
		return ok(map[string]any{})
	case "claim":
		return k.claim()
	case "phx_leave":
		k.conn.forget(queueTopic)
		return ok(map[string]any{})
	}
	k.bad("no such event on this topic")
	return refuse("unmatched event")
}

func (k *checker) claim() *reply {
	demand := k.integer("demand")
	if demand < 1 {
		k.bad("demand is %d: it must be at least 1", demand)
	}
	k.nullable("worker_name")
	var queues []string
	if text, ok := k.take("queues"); ok {
		if json.Unmarshal(text, &queues) != nil || len(queues) == 0 {
			k.bad("queues is %.80s: it must be a list of names", text)
		}
		for i, q := range queues {
			if q == "*" && i+1 < len(queues) || q == "" {
				k.bad("queues is %s: * may be last only", text)
			}
		}
	} else {
		queues = []string{"*"}
	}
	k.rest()
	if k.problems > 0 {
		return refuse("invalid claim")
	}
	active := 0
	for _, r := range k.s.runs {
		if r.worker == k.conn.worker && !r.lost && !r.over && (r.record.State == StateClaimed || r.record.State == StateStarted) {
			active++
		}
	}
	if active+int(demand) > k.conn.capacity {
		k.bad("a claim of %d with %d runs in progress: the capacity is %d", demand, active, k.conn.capacity)
	}
	type claimed struct {
		ID    string `json:"id"`
		Token string `json:"token"`
	}
	runs := []claimed{}
	for _, q := range queues {
		for i := 0; i < len(k.s.waiting) && len(runs) < int(demand); {
			r := k.s.runs[k.s.waiting[i]]
			if q != "*" && q != r.queue {
				i++
				continue
			}
			k.s.waiting = slices.Delete(k.s.waiting, i, i+1)
			r.record.State, r.record.Claimed, r.worker = StateClaimed, time.Now(), k.conn.worker
			r.note(Update{Event: "claim"})
			runs = append(runs, claimed{r.record.ID, r.token})
		}
	}
	if len(runs) > 0 {
		k.s.options.Logger.Info("claimed", "runs", len(runs), "worker", k.conn.worker)
	}
	return ok(map[string]any{"runs": runs})
}

// unclaim puts runs back whose claim was never answered, as Lightning's
// transaction does. s.mu is held.
func (s *Server) unclaim(rep *reply) {
	response, _ := rep.response.(map[string]any)
	b, err := json.Marshal(response["runs"])
	if err != nil {
		panic(err) // it was made in claim
	}
	var runs []struct{ ID string }
	if json.Unmarshal(b, &runs) != nil {
		return // refused
	}
	for _, c := range runs {
		r := s.runs[c.ID]
		r.record.State, r.record.Claimed, r.worker = StateAvailable, time.Time{}, ""
		s.waiting = append(s.waiting, c.ID)
	}
}

// run returns the run of a topic, or nil. s.mu is held.
func (s *Server) run(topic string) *run {
	id, found := strings.CutPrefix(topic, "run:")
	if !found {
		return nil
	}
	return s.runs[id]
}
