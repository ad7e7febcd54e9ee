package standin

import (
	"encoding/json"
	"errors"
	"net/http"
)

// maxEnqueue is the largest run in bytes that can be enqueued over HTTP.
const maxEnqueue = 1 << 30

// EnqueueRequest is the body of POST /api/runs.
type EnqueueRequest struct {
	Plan        json.RawMessage            `json:"plan"`
	Dataclip    json.RawMessage            `json:"dataclip,omitempty"`
	Credentials map[string]json.RawMessage `json:"credentials,omitempty"`
	Queue       string                     `json:"queue,omitempty"`
}

// Enqueued is its answer. Workers is how many are connected and may claim it.
type Enqueued struct {
	ID      string `json:"id"`
	Workers int    `json:"workers"`
}

// routes are the worker's socket, and a small API to enqueue runs and follow
// them:
//
//	POST /api/runs               EnqueueRequest → Enqueued
//	GET  /api/runs/{id}          RunRecord
//	GET  /api/runs/{id}/updates  an Update a line, until the run is finished
//	GET  /api/runs/{id}/final    the final state
//	GET  /api/dataclips/{id}     a dataclip's text
//	GET  /api/violations         what workers did wrong
//	GET  /api/wire               figures of the sockets
//
// An error is {"error": text}.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /worker/websocket", s.socket)
	mux.HandleFunc("POST /api/runs", s.postRun)
	mux.HandleFunc("GET /api/runs/{id}", func(w http.ResponseWriter, req *http.Request) {
		record, err := s.Run(req.PathValue("id"))
		answer(w, record, err)
	})
	mux.HandleFunc("GET /api/runs/{id}/updates", s.getUpdates)
	mux.HandleFunc("GET /api/runs/{id}/final", func(w http.ResponseWriter, req *http.Request) {
		record, err := s.Run(req.PathValue("id"))
		if err == nil && (record.Final == nil || record.Final.Text == nil) {
			err = &missingError{"the run has no final state here"}
		}
		if err != nil {
			answer(w, nil, err)
			return
		}
		raw(w, record.Final.Text)
	})
	mux.HandleFunc("GET /api/dataclips/{id}", func(w http.ResponseWriter, req *http.Request) {
		text, found := s.dataclip(req.PathValue("id"))
		if !found {
			answer(w, nil, &missingError{"no such dataclip is kept"})
			return
		}
		raw(w, text)
	})
	mux.HandleFunc("GET /api/violations", func(w http.ResponseWriter, _ *http.Request) {
		violations := s.Violations()
		if violations == nil {
			violations = []Violation{}
		}
		answer(w, violations, nil)
	})
	mux.HandleFunc("GET /api/wire", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.Wire(), nil) })
	return mux
}

type missingError struct{ text string }

func (e *missingError) Error() string { return e.text }

func answer(w http.ResponseWriter, value any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		status := http.StatusBadRequest
		var missing *missingError
		if errors.As(err, &missing) || errors.Is(err, ErrUnknownRun) {
			status = http.StatusNotFound
		}
		w.WriteHeader(status)
		value = map[string]string{"error": err.Error()}
	}
	_ = json.NewEncoder(w).Encode(value) // whoever asked may be gone
}

func raw(w http.ResponseWriter, text json.RawMessage) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text) // whoever asked may be gone
}

func (s *Server) postRun(w http.ResponseWriter, req *http.Request) {
	var r EnqueueRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxEnqueue)).Decode(&r); err != nil {
		answer(w, nil, err)
		return
	}
	id, err := s.Enqueue(Run{Plan: r.Plan, Dataclip: r.Dataclip, Credentials: r.Credentials, Queue: r.Queue})
	answer(w, Enqueued{ID: id, Workers: s.Wire().Open}, err)
}

// getUpdates streams a run's updates.
func (s *Server) getUpdates(w http.ResponseWriter, req *http.Request) {
	id := req.PathValue("id")
	control, encoder := http.NewResponseController(w), json.NewEncoder(w)
	for next := 0; ; {
		s.mu.Lock()
		r, changed := s.runs[id], s.changed
		var updates []Update
		done := true
		if r != nil {
			updates, done = r.updates[next:], r.record.State == StateFinished
		}
		s.mu.Unlock()
		if r == nil && next == 0 {
			answer(w, nil, ErrUnknownRun)
			return
		}
		next += len(updates)
		for _, u := range updates {
			if encoder.Encode(u) != nil {
				return
			}
		}
		if control.Flush() != nil || done {
			return
		}
		select {
		case <-changed:
		case <-req.Context().Done():
			return
		case <-s.ctx.Done():
			return
		}
	}
}
