package standin

import (
	"encoding/json"
	"fmt"
)

// planFile is what is read of a Lightning plan.
type planFile struct {
	Start    string        `json:"starting_node_id"`
	Triggers []planTrigger `json:"triggers"`
	Jobs     []planJob     `json:"jobs"`
	Edges    []planEdge    `json:"edges"`
	Options  planOptions   `json:"options"`
}

type planTrigger struct {
	ID   string `json:"id"`
	Type string `json:"type"`
}

type planJob struct {
	ID           string          `json:"id"`
	Name         string          `json:"name,omitempty"`
	Body         string          `json:"body"`
	Adaptor      string          `json:"adaptor,omitempty"`
	Credential   json.RawMessage `json:"credential,omitempty"`
	CredentialID string          `json:"credential_id,omitempty"`
	State        json.RawMessage `json:"state,omitempty"`
}

// credential returns the id that a worker asks for, if any.
func (j *planJob) credential() []string {
	var id string
	if j.CredentialID != "" {
		return []string{j.CredentialID}
	}
	if json.Unmarshal(j.Credential, &id) == nil && id != "" {
		return []string{id}
	}
	return nil
}

type planEdge struct {
	ID            string `json:"id"`
	SourceJob     string `json:"source_job_id,omitempty"`
	SourceTrigger string `json:"source_trigger_id,omitempty"`
	Target        string `json:"target_job_id"`
	Condition     string `json:"condition,omitempty"`
	Enabled       *bool  `json:"enabled,omitempty"`
}

type planOptions struct {
	RunTimeoutMS    float64  `json:"run_timeout_ms,omitempty"`
	PayloadLimit    *float64 `json:"payload_limit_mb,omitempty"`
	LogPayloadLimit *float64 `json:"log_payload_limit_mb,omitempty"`
	RunMemoryLimit  float64  `json:"run_memory_limit_mb,omitempty"`
	Sanitize        string   `json:"sanitize,omitempty"`
	OutputDataclips *bool    `json:"output_dataclips,omitempty"`
}

// A PlanError is returned by Enqueue for a plan that no worker could run.
type PlanError struct{ Text string }

// Error implements error.
func (e *PlanError) Error() string { return "the plan is invalid: " + e.Text }

func invalidPlan(format string, args ...any) error {
	return &PlanError{fmt.Sprintf(format, args...)}
}
