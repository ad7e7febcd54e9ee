package lightning

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/uplink/phoenix"
)

// Encoding says how a dataclip is written into a step:complete.
type Encoding string

// The encodings of dataclips.
const (
	// EncodingString is a JSON string that contains JSON, as OpenFn's worker
	// sends it and every server reads it. It makes records about a sixth longer.
	EncodingString Encoding = "string"
	// EncodingObject is the JSON itself, which newer servers read.
	EncodingObject Encoding = "object"
	// EncodingAuto is a string where that fits the payload limit, else the JSON
	// itself where that does.
	EncodingAuto Encoding = "auto"
)

// ParseEncoding reads the name of an encoding.
func ParseEncoding(s string) (Encoding, error) {
	switch e := Encoding(s); e {
	case EncodingString, EncodingObject, EncodingAuto:
		return e, nil
	}
	return "", fmt.Errorf("the encoding of dataclips is string, object or auto, not %q", s)
}

// Options configure a Worker. Zero values mean the defaults named.
type Options struct {
	// Engine runs the workflows. It is the caller's, and closed by it after the
	// worker has ended.
	Engine *engine.Engine
	// URL is the base of Lightning's websocket. Default ws://localhost:4000/worker.
	URL string
	// Secret is shared with Lightning. It must not be empty.
	Secret string
	// RunKey checks the tokens of runs; nil: they are not checked.
	RunKey *RunKey
	// ID names this worker in its token. Default: a random readable one.
	ID string
	// Name is sent with claims, such as the name of a pod. Default: none.
	Name string
	// Version and NodeVersion are told to the server and to users.
	Version, NodeVersion string
	// Workloops are where runs are claimed. Default: DefaultWorkloops of
	// DefaultCapacity.
	Workloops []Workloop
	// MaxStarted is how many claimed runs are started at once; the others wait
	// before their dataclip is fetched and their time begins. 0: all are.
	MaxStarted int
	// NoLoop claims only when Claim is called or the server says that there is
	// work.
	NoLoop bool
	// MinBackoff and MaxBackoff bound the pause between two claims. Defaults 1 s
	// and 10 s.
	MinBackoff, MaxBackoff time.Duration
	// MessageTimeout is how long an acknowledgement may take, and ClaimTimeout
	// the answer to a claim. Defaults 30 s and 1 h.
	MessageTimeout, ClaimTimeout time.Duration
	// Limits of runs whose plan sets none.
	Limits Limits
	// RunState bounds the state that a run may hold in memory, in bytes; 0:
	// none.
	RunState uint64
	// StatePropsToRemove are removed from the state after each step. nil:
	// OpenFn's; empty: none.
	StatePropsToRemove []string
	// MonorepoDir is where adaptors with the version "local" are.
	MonorepoDir string
	// CollectionsURL is the endpoint of collections, which the expressions of
	// jobs use through the collections adaptor; "": there is none.
	CollectionsURL, CollectionsVersion string
	// Encoding of dataclips. Default EncodingString.
	Encoding Encoding
	// NoFinalState leaves the final state out of a run's end where its dataclip
	// was sent with the last step.
	NoFinalState bool
	// BatchLogs sends log lines together: at most BatchLimit (default 50) that
	// came within BatchInterval (default 10 ms).
	BatchLogs     bool
	BatchInterval time.Duration
	BatchLimit    int
	// Install has adaptors installed that are missing. nil: nothing is.
	Install func(ctx context.Context, adaptors []string) error
	// Socket are the settings of the connection; URL, Query, timeouts, Logger
	// and callbacks are the worker's.
	Socket phoenix.Options
	TLS    *tls.Config
	// Logger gets what operators want to know. Default: discarded.
	Logger *slog.Logger
}

func (o *Options) setDefaults() {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	if o.URL == "" {
		o.URL = "ws://localhost:4000/worker"
	}
	if o.ID == "" {
		o.ID = readableName()
	}
	if o.Version == "" {
		o.Version = "unknown"
	}
	if o.NodeVersion == "" {
		o.NodeVersion = "unknown"
	}
	if len(o.Workloops) == 0 {
		o.Workloops = DefaultWorkloops(DefaultCapacity)
	}
	def(&o.MinBackoff, time.Second)
	def(&o.MaxBackoff, 10*time.Second)
	o.MaxBackoff = max(o.MaxBackoff, o.MinBackoff)
	def(&o.MessageTimeout, 30*time.Second)
	def(&o.ClaimTimeout, time.Hour)
	if o.Encoding == "" {
		o.Encoding = EncodingString
	}
	def(&o.BatchInterval, 10*time.Millisecond)
	if o.BatchLimit <= 0 {
		o.BatchLimit = 50
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// readableName makes a name that people can tell apart in a list of workers.
func readableName() string {
	words := func(s string) []string { return strings.Fields(s) }
	first := words("brave calm clear deep early fair fast gentle grand keen light lively merry mild plain proud quick quiet round sharp smooth steady strong swift tall warm wide wise")
	second := words("beck bridge brook canal creek current dam eddy ferry flood flume ford gate leat mill millpond oar pond race rapid reach river sluice spring stream tide trout weir wheel")
	id := newID()
	pick := func(list []string, hex string) string {
		n := 0
		for _, c := range hex {
			n = n*31 + int(c)
		}
		return list[n%len(list)]
	}
	return pick(first, id[:8]) + "-" + pick(second, id[9:13]) + "-" + id[len(id)-4:]
}
