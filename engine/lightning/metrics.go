package lightning

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/engine/uplink/phoenix"
)

// metrics are the worker's figures, by their Prometheus names.
type metrics struct {
	all      []prometheus.Collector
	claims   *prometheus.CounterVec // by outcome: run, none, error
	runs     *prometheus.CounterVec // ended, by reason
	events   *prometheus.CounterVec // by event and outcome
	latency  *prometheus.HistogramVec
	lines    prometheus.Counter
	clips    prometheus.Counter
	tooLarge prometheus.Counter
}

func newMetrics() *metrics {
	m := &metrics{}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "millrace_lightning_" + name, Help: help})
		m.all = append(m.all, c)
		return c
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "millrace_lightning_" + name, Help: help}, labels)
		m.all = append(m.all, c)
		return c
	}
	m.claims = vec("claims_total", "Claims answered, by outcome: run, none, error.", "outcome")
	m.runs = vec("runs_total", "Runs ended, by exit reason; lost: they could not be joined.", "reason")
	m.events = vec("events_total", "Events sent, by event and outcome: ok, error, timeout, lost.", "event", "outcome")
	m.lines = counter("log_lines_total", "Log lines sent.")
	m.clips = counter("dataclips_total", "Dataclips sent with a step's end.")
	m.tooLarge = counter("dataclips_too_large_total", "Dataclips and final states that were over the payload limit.")
	m.latency = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "millrace_lightning_event_seconds", Help: "Time from an event's push to its acknowledgement.",
		Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
	}, []string{"event"})
	m.all = append(m.all, m.latency)
	return m
}

// sent counts an event and how it went.
func (m *metrics) sent(event string, took time.Duration, err error) {
	outcome := "ok"
	var refused *phoenix.ReplyError
	var late *phoenix.TimeoutError
	switch {
	case err == nil:
		m.latency.WithLabelValues(event).Observe(took.Seconds())
	case errors.As(err, &refused):
		outcome = "error"
	case errors.As(err, &late), errors.Is(err, context.DeadlineExceeded):
		outcome = "timeout"
	default:
		outcome = "lost"
	}
	m.events.WithLabelValues(event, outcome).Inc()
}

// Collectors returns the worker's figures and those of its engine and socket.
func (w *Worker) Collectors() []prometheus.Collector {
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "millrace_" + name, Help: help}, f)
	}
	counter := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "millrace_" + name, Help: help}, f)
	}
	host, socket := w.o.Engine.Host, w.socketStats
	return append([]prometheus.Collector{
		gauge("runs", "Runs in the engine now.", func() float64 { return float64(host().Runs) }),
		gauge("executors", "Executors alive.", func() float64 { return float64(host().Executors) }),
		gauge("executors_idle", "Executors that wait for work.", func() float64 { return float64(host().Idle) }),
		gauge("state_bytes", "State of all runs in shared memory.", func() float64 { return float64(host().StateBytes) }),
		gauge("segments", "Shared-memory segments held.", func() float64 { return float64(host().Segments) }),
		counter("control_bytes_total", "Bytes that crossed control channels.", func() float64 { return float64(host().ControlBytes) }),
		gauge("lightning_runs", "Runs claimed and not over.", func() float64 { return float64(w.Active()) }),
		gauge("lightning_capacity", "Runs that the worker may have at once.", func() float64 { return float64(capacity(w.o.Workloops)) }),
		gauge("lightning_connected", "1 while there is a connection to Lightning.", func() float64 {
			if w.Connected() {
				return 1
			}
			return 0
		}),
		counter("lightning_connects_total", "Connections made to Lightning.", func() float64 { return float64(socket().Connects) }),
		counter("lightning_messages_total", "Messages sent, heartbeats included.", func() float64 { return float64(socket().Messages) }),
		counter("lightning_resent_total", "Messages sent again after a reconnect.", func() float64 { return float64(socket().Resent) }),
		counter("lightning_sent_bytes_total", "Bytes of messages sent, before compression.", func() float64 { return float64(socket().Bytes) }),
		counter("lightning_unmatched_replies_total", "Replies to nothing that waited.", func() float64 { return float64(socket().Unmatched) }),
		counter("lightning_garbage_total", "Frames that were no Phoenix message.", func() float64 { return float64(socket().Garbage) }),
		gauge("lightning_outbox", "Messages that wait to be sent or acknowledged.", func() float64 { return float64(socket().Outbox) }),
	}, w.metrics.all...)
}

// installer has adaptors installed, one installation at a time, and remembers
// what was.
type installer struct {
	f    func(ctx context.Context, adaptors []string) error
	mu   sync.Mutex
	done map[string]time.Time
}

// installedFor is how long an installation counts of a version that may move,
// such as "latest".
const installedFor = time.Hour

func (i *installer) install(ctx context.Context, adaptors []string) error {
	if i.f == nil || len(adaptors) == 0 {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	var missing []string
	for _, a := range adaptors {
		if at, ok := i.done[a]; !ok || time.Since(at) > installedFor {
			missing = append(missing, a)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if err := i.f(ctx, missing); err != nil {
		return err
	}
	if i.done == nil {
		i.done = make(map[string]time.Time)
	}
	for _, a := range missing {
		i.done[a] = time.Now()
	}
	return nil
}
