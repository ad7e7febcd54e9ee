package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/millrace/millrace/engine/lightning"
)

// httpServer answers those who watch the worker.
type httpServer struct {
	server http.Server
	port   int
	ended  chan struct{}
}

// startHTTP listens on the port; 0 chooses one.
func startHTTP(port int, worker *lightning.Worker, log *slog.Logger) (*httpServer, error) {
	listener, err := net.Listen("tcp", ":"+strconv.Itoa(port))
	if err != nil {
		return nil, fmt.Errorf("--port: %w", err)
	}
	s := &httpServer{ended: make(chan struct{})}
	s.server = http.Server{
		Handler: serveHandler(worker), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	if address, ok := listener.Addr().(*net.TCPAddr); ok {
		s.port = address.Port
	}
	go func() {
		defer close(s.ended)
		if err := s.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the HTTP server ended", "error", err)
		}
	}()
	return s, nil
}

func (s *httpServer) close() {
	ctx, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	if s.server.Shutdown(ctx) != nil {
		_ = s.server.Close() // those who still wait are let down
	}
	<-s.ended
}

func serveHandler(worker *lightning.Worker) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(worker.Collectors()...)
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	healthy := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "OK\n") // nothing can be done for who does not read
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", healthy)
	mux.HandleFunc("GET /livez", healthy)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("POST /claim", func(w http.ResponseWriter, r *http.Request) {
		if !worker.Claim(r.Context()) {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		_, _ = io.WriteString(w, "complete\n")
	})
	return mux
}
