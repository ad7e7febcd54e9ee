package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/coder/websocket"

	"github.com/millrace/millrace/bench/child"
)

const drainRole = "uplink-drain"

func init() { child.Register(drainRole, drain) }

// drained says where a drain listens.
type drained struct {
	// Plain and Deflate are bases of Phoenix sockets without and with
	// permessage-deflate.
	Plain, Deflate string
	Host           string // of both
	Unix, TCP      string
}

// drain reads and throws away: messages of Phoenix sockets, which it
// acknowledges, and bytes of raw sockets.
func drain(c *child.Control) error {
	var dir string
	if err := c.Spec(&dir); err != nil {
		return err
	}
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer web.Close()
	mux := http.NewServeMux()
	mux.Handle("/plain/websocket", phoenixDrain(websocket.CompressionDisabled))
	mux.Handle("/deflate/websocket", phoenixDrain(websocket.CompressionContextTakeover))
	go func() { _ = http.Serve(web, mux) }() // it ends with the process
	host := web.Addr().String()
	at := drained{Plain: "ws://" + host + "/plain", Deflate: "ws://" + host + "/deflate", Host: host}
	for network, address := range map[string]*string{"unix": &at.Unix, "tcp": &at.TCP} {
		*address = "127.0.0.1:0"
		if network == "unix" {
			*address = filepath.Join(dir, "drain")
		}
		l, err := net.Listen(network, *address)
		if err != nil {
			return err
		}
		defer l.Close()
		*address = l.Addr().String()
		go drainRaw(l)
	}
	return c.Serve(map[string]child.Handler{"addresses": func(json.RawMessage) (any, error) { return at, nil }})
}

func drainRaw(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			// Without ReadFrom and WriteTo, which would choose another buffer.
			_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{conn}, make([]byte, 1<<20))
		}()
	}
}

// phoenixDrain acknowledges every message, of which it looks at the beginning
// only.
func phoenixDrain(mode websocket.CompressionMode) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: mode})
		if err != nil {
			return
		}
		defer ws.CloseNow()
		ws.SetReadLimit(-1)
		ctx, buf := context.Background(), make([]byte, 256<<10)
		for {
			_, in, err := ws.Reader(ctx)
			if err != nil {
				return
			}
			n, _ := io.ReadFull(in, buf[:64]) // a short message ends early
			head := strings.Split(string(buf[:n]), `"`)
			if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, in, buf); err != nil || len(head) < 6 {
				return
			}
			reply := fmt.Sprintf(`["%s","%s","%s","phx_reply",{"response":{},"status":"ok"}]`, head[1], head[3], head[5])
			if ws.Write(ctx, websocket.MessageText, []byte(reply)) != nil {
				return
			}
		}
	}
}
