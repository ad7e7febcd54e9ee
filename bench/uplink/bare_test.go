package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// TestBareLoop: the baseline sends what the client would, so that the two can be
// compared.
func TestBareLoop(t *testing.T) {
	doc := `{"data":["` + strings.Repeat(`quote \" backslash \\ tab \t, and ä; `, 20_000) + "\"],\n\"end\":\t{}}"
	for _, deflate := range []bool{false, true} {
		received := make(chan []byte, 2)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mode := websocket.CompressionDisabled
			if deflate {
				mode = websocket.CompressionContextTakeover
			}
			ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: mode})
			if err != nil {
				return
			}
			defer ws.CloseNow()
			ws.SetReadLimit(-1)
			for {
				_, b, err := ws.Read(context.Background())
				if err != nil || ws.Write(context.Background(), websocket.MessageText, []byte(`{"status":"ok"}`)) != nil {
					return
				}
				received <- b
			}
		}))
		b, err := dialBare(strings.TrimPrefix(server.URL, "http://"), "", deflate)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := b.sendEscaped([]byte(doc)); err != nil {
				t.Fatal(err)
			}
			var message []json.RawMessage
			var payload struct {
				Output string `json:"output_dataclip"`
			}
			err := json.Unmarshal(<-received, &message)
			if err == nil {
				err = json.Unmarshal(message[4], &payload)
			}
			if err != nil || payload.Output != doc {
				t.Errorf("deflate=%t: %d bytes arrived of %d, %v", deflate, len(payload.Output), len(doc), err)
			}
		}
		b.conn.Close()
		server.Close()
	}
}
