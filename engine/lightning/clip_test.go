package lightning

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/engine/document"
	"github.com/millrace/millrace/engine/ledger"
	"github.com/millrace/millrace/engine/uplink/payload"
	"github.com/millrace/millrace/ipc"
)

// table puts a document into shared memory.
func table(t *testing.T, text string) (*ledger.Ledger, ipc.Table) {
	t.Helper()
	l := ledger.New()
	account := l.Open("r", 0)
	t.Cleanup(func() {
		if err := account.Close(); err != nil {
			t.Error(err)
		}
	})
	state, err := document.Store{Ledger: l, Account: account}.Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return l, state
}

func TestFit(t *testing.T) {
	text := `{"a":"` + strings.Repeat(`x\"`, 100) + `"}` // 308 bytes, as text 308 + 4 + 200 + 2
	l, state := table(t, text)
	content := &states{ledger: l, tables: []ipc.Table{state}}
	plain, asText := int64(len(text)), int64(len(encode(text)))
	if n, err := content.size(false); n != plain || err != nil {
		t.Fatalf("%d bytes inline, want %d: %v", n, plain, err)
	}
	if n, err := content.size(true); n != asText || err != nil {
		t.Fatalf("%d bytes as text, want %d: %v", n, asText, err)
	}
	for _, c := range []struct {
		limit    int64
		encoding Encoding
		text, ok bool
	}{
		{0, EncodingString, true, true}, {0, EncodingObject, false, true}, {0, EncodingAuto, true, true},
		{asText, EncodingString, true, true}, {asText - 1, EncodingString, false, false},
		{plain, EncodingObject, false, true}, {plain - 1, EncodingObject, false, false},
		{asText, EncodingAuto, true, true}, {asText - 1, EncodingAuto, false, true}, {plain, EncodingAuto, false, true}, {plain - 1, EncodingAuto, false, false},
		{1 << 20, EncodingString, true, true},
	} {
		asText, ok, err := content.fit(c.limit, c.encoding)
		if asText != c.text || ok != c.ok || err != nil {
			t.Errorf("%+v: text %v, ok %v, %v", c, asText, ok, err)
		}
	}
}

func TestGoldenMessages(t *testing.T) {
	l, state := table(t, `{"data":{"q":"\"é"},"n":1}`)
	one := &states{ledger: l, tables: []ipc.Table{state}}
	why := reason("fail", "JobError", "no such patient")
	for _, c := range []struct {
		name    string
		fields  any
		key     string
		content *states
		asText  bool
		want    string
	}{
		{"step:complete", stepComplete{StepID: "s", JobID: "j", Memory: memory{1, 2}, Duration: 3, Thread: 4, Timestamp: "5", Reason: success, OutputID: "d"},
			"output_dataclip", one, true,
			`{"step_id":"s","job_id":"j","mem":{"job":1,"system":2},"duration":3,"thread_id":4,"timestamp":"5","reason":"success","error_type":null,"error_message":null,"output_dataclip_id":"d","output_dataclip":"{\"data\":{\"q\":\"\\\"é\"},\"n\":1}"}`},
		{"step:complete, too large", stepComplete{StepID: "s", JobID: "j", Timestamp: "5", Reason: why, OutputError: dataclipTooLarge, WebhookResponse: json.RawMessage(`{"status":201}`)},
			"", &states{}, false,
			`{"step_id":"s","job_id":"j","mem":{"job":0,"system":0},"duration":0,"thread_id":0,"timestamp":"5","reason":"fail","error_type":"JobError","error_message":"no such patient","output_dataclip_error":"DATACLIP_TOO_LARGE","webhook_response":{"status":201}}`},
		{"run:complete", runComplete{Timestamp: "5", FinalID: "d", Reason: success}, "final_state", one, false,
			`{"timestamp":"5","final_dataclip_id":"d","reason":"success","error_type":null,"error_message":null,"final_state":{"data":{"q":"\"é"},"n":1}}`},
		{"run:complete, several leaves", runComplete{Timestamp: "5", Reason: success}, "final_state", &states{ledger: l, names: []string{"a", "a-1"}, tables: []ipc.Table{state, state}}, false,
			`{"timestamp":"5","reason":"success","error_type":null,"error_message":null,"final_state":{"a":{"data":{"q":"\"é"},"n":1},"a-1":{"data":{"q":"\"é"},"n":1}}}`},
		{"run:complete, no leaf that holds anything", runComplete{Timestamp: "5", Reason: success}, "final_state", &states{ledger: l, names: []string{}}, false,
			`{"timestamp":"5","reason":"success","error_type":null,"error_message":null,"final_state":{}}`},
	} {
		m := withFields(payload.New(c.content.ledger), c.fields)
		if c.key != "" {
			c.content.put(m, c.key, c.asText)
		}
		var got bytes.Buffer
		if err := m.WriteJSON(&got); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c.want, got.String()); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
		if n, err := m.Size(); n != int64(got.Len()) || err != nil {
			t.Errorf("%s: size %d of %d: %v", c.name, n, got.Len(), err)
		}
	}
	if isEmpty(l, state) || !isEmpty(l, ipc.Table{Kind: ipc.KindObject}) || !isEmpty(l, ipc.Table{}) {
		t.Error("isEmpty")
	}
	ol, o := table(t, `{"data": { } }`)
	if !isEmpty(ol, o) {
		t.Error(`{"data": { } } is not empty`)
	}
}
