package main

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// serveFlags are the flags of `millrace serve`. Where there is a variable, it is
// named in the table of register.
type serveFlags struct {
	url, secret, publicKey string
	port                   int
	repoDir, monorepoDir   string

	capacity                     int
	workloops, backoff           string
	loop, noLoop                 bool
	messageTimeout, claimTimeout float64
	socketTimeout                float64

	runMemory, payloadMemory, logPayloadMemory float64
	maxRunDuration                             float64
	stateProps                                 []string

	batchLogs                          bool
	batchInterval, batchLimit          int
	collectionsURL, collectionsVersion string
	logLevel, logFormat                string

	encoding, framing           string
	sendFinalState, compress    bool
	heartbeat                   time.Duration
	heartbeatTolerance          int
	maxExecutors, warm          int
	memory, runState            string
	node, python                string
	noInstall                   bool
	ignoredText                 string
	ignoredNumber               float64
	ignoredBool, ignoredProfile bool
}

// without are the flags of ws-worker that mean nothing here.
var without = []string{
	"engine-validation-timeout-ms", "engine-validation-retries", "profile", "profile-poll-interval-ms",
	"timeout-retry-count", "timeout-retry-delay", "sentry-dsn", "sentry-env",
}

const (
	groupAnnotation       = "millrace-group"
	environmentAnnotation = "millrace-environment"
)

// groups of flags, in the order of the help.
var serveGroups = []string{"Connection", "Claims", "Limits", "Runs", "Logs", "Millrace's own", "Accepted, without a meaning here"}

func (f *serveFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.SortFlags = false
	group := ""
	// put notes the group and the variable of the flag defined last.
	put := func(name, variable string) {
		flag := flags.Lookup(name)
		flag.Annotations = map[string][]string{groupAnnotation: {group}}
		if variable != "" {
			flag.Annotations[environmentAnnotation] = []string{variable}
			flag.Usage += " (env " + variable + ")"
		}
	}
	group = "Connection"
	flags.StringVarP(&f.url, "lightning", "l", "ws://localhost:4000/worker", "base `URL` of Lightning's websocket")
	put("lightning", "WORKER_LIGHTNING_SERVICE_URL")
	flags.StringVarP(&f.secret, "secret", "s", "", "secret shared with Lightning; the variable keeps it out of the process list")
	put("secret", "WORKER_SECRET")
	flags.StringVar(&f.publicKey, "lightning-public-key", "", "public key in base64 that the tokens of runs are checked with")
	put("lightning-public-key", "WORKER_LIGHTNING_PUBLIC_KEY")
	flags.Float64Var(&f.messageTimeout, "message-timeout", 30, "`seconds` that an acknowledgement may take")
	put("message-timeout", "WORKER_MESSAGE_TIMEOUT_SECONDS")
	flags.Float64Var(&f.claimTimeout, "claim-timeout", 3600, "`seconds` that the answer to a claim may take")
	put("claim-timeout", "WORKER_CLAIM_TIMEOUT_SECONDS")
	flags.Float64Var(&f.socketTimeout, "socket-timeout", 0, "deprecated: as --message-timeout")
	put("socket-timeout", "WORKER_SOCKET_TIMEOUT_SECONDS")
	flags.IntVarP(&f.port, "port", "p", 2222, "`port` for /livez, /metrics and POST /claim")
	put("port", "WORKER_PORT")

	group = "Claims"
	flags.IntVar(&f.capacity, "capacity", 5, "how many `runs` at once")
	put("capacity", "WORKER_CAPACITY")
	flags.StringVar(&f.workloops, "workloops", "", "`queues` and capacities instead, such as 'fast_lane:1 manual>*:4'")
	put("workloops", "WORKER_WORKLOOPS")
	flags.StringVar(&f.backoff, "backoff", "1/10", "least and most seconds between claims, `MIN/MAX`")
	put("backoff", "WORKER_BACKOFF")
	flags.BoolVar(&f.loop, "loop", true, "claim by itself; else only when told by POST /claim or the server")
	put("loop", "")
	flags.BoolVar(&f.noLoop, "no-loop", false, "the opposite of --loop")
	put("no-loop", "")

	group = "Limits"
	flags.Float64Var(&f.runMemory, "run-memory", 500, "`MB` that each executor of a run may use, where the plan sets none")
	put("run-memory", "WORKER_MAX_RUN_MEMORY_MB")
	flags.Float64Var(&f.payloadMemory, "payload-memory", 10, "`MB` on the wire of the largest dataclip, where the plan sets none")
	put("payload-memory", "WORKER_MAX_PAYLOAD_MB")
	flags.Float64Var(&f.logPayloadMemory, "log-payload-memory", 1, "`MB` of the largest log message, where the plan sets none")
	put("log-payload-memory", "WORKER_MAX_LOG_PAYLOAD_MB")
	flags.Float64VarP(&f.maxRunDuration, "max-run-duration-seconds", "t", 300, "`seconds` that a run may take, where the plan sets none")
	put("max-run-duration-seconds", "WORKER_MAX_RUN_DURATION_SECONDS")

	group = "Runs"
	flags.StringVarP(&f.repoDir, "repo-dir", "d", defaultAdaptorRepo(), "`folder` in which adaptors are installed")
	put("repo-dir", "WORKER_REPO_DIR")
	flags.StringVarP(&f.monorepoDir, "monorepo-dir", "m", "", "`folder` of the adaptors monorepo, for adaptors @local")
	put("monorepo-dir", "OPENFN_ADAPTORS_REPO")
	flags.StringSliceVar(&f.stateProps, "state-props-to-remove", []string{"configuration", "response"}, "`keys` removed from the state after each step")
	put("state-props-to-remove", "WORKER_STATE_PROPS_TO_REMOVE")
	flags.StringVarP(&f.collectionsURL, "collections-url", "c", "", "`URL` of the collections service; without it there is none")
	put("collections-url", "WORKER_COLLECTIONS_URL")
	flags.StringVar(&f.collectionsVersion, "collections-version", "latest", "`version` of the collections adaptor")
	put("collections-version", "WORKER_COLLECTIONS_VERSION")

	group = "Logs"
	flags.StringVar(&f.logLevel, "log", "info", "least severe line of this program's own log: debug, info, warn, error, none")
	put("log", "WORKER_LOG_LEVEL")
	flags.StringVar(&f.logFormat, "log-format", "text", "text or json")
	put("log-format", "WORKER_LOG_FORMAT")
	flags.BoolVar(&f.batchLogs, "batch-logs", false, "send log lines of runs together")
	put("batch-logs", "WORKER_BATCH_LOGS")
	flags.IntVar(&f.batchInterval, "batch-interval", 10, "`ms` that a line waits for others")
	put("batch-interval", "WORKER_BATCH_INTERVAL")
	flags.IntVar(&f.batchLimit, "batch-limit", 50, "most `lines` together")
	put("batch-limit", "WORKER_BATCH_LIMIT")

	group = "Millrace's own"
	flags.StringVar(&f.encoding, "dataclip-encoding", "string", "how outputs are written: string (JSON in a string, as ws-worker), object (inline), auto (inline where only that fits)")
	put("dataclip-encoding", "MILLRACE_DATACLIP_ENCODING")
	flags.BoolVar(&f.sendFinalState, "send-final-state", true, "send the final state with the run's end, also where its dataclip was sent")
	put("send-final-state", "MILLRACE_SEND_FINAL_STATE")
	flags.BoolVar(&f.compress, "compress", true, "compress large messages when the server can read that; a server on this host only if asked to")
	put("compress", "MILLRACE_COMPRESS")
	flags.StringVar(&f.framing, "framing", "fragmented", "how messages are cut into websocket frames: fragmented or whole")
	put("framing", "MILLRACE_FRAMING")
	flags.DurationVar(&f.heartbeat, "heartbeat", 30*time.Second, "time between heartbeats")
	put("heartbeat", "MILLRACE_HEARTBEAT")
	flags.IntVar(&f.heartbeatTolerance, "heartbeat-tolerance", 0, "how many `heartbeats` may be unanswered; -1: all")
	put("heartbeat-tolerance", "MILLRACE_HEARTBEAT_TOLERANCE")
	flags.IntVar(&f.maxExecutors, "max-executors", 0, "how many steps work at once and how many claimed runs are started (default: the capacity)")
	put("max-executors", "MILLRACE_MAX_EXECUTORS")
	flags.IntVar(&f.warm, "warm", 1, "how many `executors` are kept ready for the next run")
	put("warm", "MILLRACE_WARM")
	flags.StringVar(&f.memory, "memory", "", "budget of state in memory of all runs, such as 2GB; above it steps wait")
	put("memory", "MILLRACE_MEMORY")
	flags.StringVar(&f.runState, "run-state", "", "budget of state in memory of each run; a step that passes it is killed")
	put("run-state", "MILLRACE_RUN_STATE")
	flags.StringVar(&f.node, "node", "node", "Node.js `binary`")
	put("node", "MILLRACE_NODE")
	flags.StringVar(&f.python, "python", "python3", "Python `binary`")
	put("python", "MILLRACE_PYTHON")
	flags.BoolVar(&f.noInstall, "no-install", false, "do not install adaptors that are missing")
	put("no-install", "MILLRACE_NO_INSTALL")

	group = "Accepted, without a meaning here"
	flags.Float64Var(&f.ignoredNumber, "engine-validation-timeout-ms", 5000, "there is no validation to time out")
	put("engine-validation-timeout-ms", "WORKER_VALIDATION_TIMEOUT_MS")
	flags.Float64Var(&f.ignoredNumber, "engine-validation-retries", 3, "the same")
	put("engine-validation-retries", "WORKER_VALIDATION_RETRIES")
	flags.BoolVar(&f.ignoredProfile, "profile", false, "every run is measured: see /metrics")
	put("profile", "WORKER_PROFILE")
	flags.Float64Var(&f.ignoredNumber, "profile-poll-interval-ms", 10, "the same")
	put("profile-poll-interval-ms", "WORKER_PROFILE_POLL_INTERVAL_MS")
	flags.Float64Var(&f.ignoredNumber, "timeout-retry-count", 10, "events are sent again after a reconnect only")
	put("timeout-retry-count", "WORKER_TIMEOUT_RETRY_COUNT")
	flags.Float64Var(&f.ignoredNumber, "timeout-retry-delay", 30000, "the same")
	put("timeout-retry-delay", "WORKER_TIMEOUT_RETRY_DELAY_MS")
	flags.StringVar(&f.ignoredText, "sentry-dsn", "", "errors are in the log and in /metrics")
	put("sentry-dsn", "WORKER_SENTRY_DSN")
	flags.StringVar(&f.ignoredText, "sentry-env", "dev", "the same")
	put("sentry-env", "WORKER_SENTRY_ENV")

	flags.BoolVar(&f.ignoredBool, "debug", false, "")
	flags.Lookup("debug").Hidden = true
	flags.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		switch name {
		case "lightning-service-url":
			name = "lightning"
		case "dsn":
			name = "sentry-dsn"
		}
		return pflag.NormalizedName(name)
	})
	cmd.SetUsageFunc(func(cmd *cobra.Command) error { return groupedUsage(cmd.OutOrStderr(), cmd) })
}

// groupedUsage prints the flags by theme.
func groupedUsage(w io.Writer, cmd *cobra.Command) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage:\n  %s\n\nExamples:\n%s\n", cmd.UseLine(), cmd.Example)
	for _, group := range serveGroups {
		set := pflag.NewFlagSet(group, pflag.ContinueOnError)
		set.SortFlags = false
		cmd.Flags().VisitAll(func(flag *pflag.Flag) {
			if !flag.Hidden && len(flag.Annotations[groupAnnotation]) > 0 && flag.Annotations[groupAnnotation][0] == group {
				set.AddFlag(flag)
			}
		})
		fmt.Fprintf(&b, "\n%s:\n%s", group, set.FlagUsagesWrapped(100))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// fromEnvironment sets the flags that were not given from their variables.
func fromEnvironment(flags *pflag.FlagSet, lookup func(string) (string, bool)) (err error) {
	flags.VisitAll(func(flag *pflag.Flag) {
		names := flag.Annotations[environmentAnnotation]
		if len(names) == 0 || flag.Changed || err != nil {
			return
		}
		value, ok := lookup(names[0])
		if !ok || value == "" {
			return
		}
		if serr := flags.Set(flag.Name, value); serr != nil {
			err = fmt.Errorf("%s=%q: %w", names[0], value, serr)
			if strings.Contains(names[0], "SECRET") || strings.Contains(names[0], "KEY") {
				err = fmt.Errorf("%s cannot be read", names[0])
			}
		}
	})
	return err
}

// logger makes the log of this program.
func (f *serveFlags) logger(w io.Writer) (*slog.Logger, error) {
	name := strings.ToLower(f.logLevel)
	switch name {
	case "default", "success", "always": // ws-worker's
		name = "warn"
	case "trace":
		name = "debug"
	}
	level, err := parseLevel(name)
	if err != nil {
		return nil, err
	}
	o := &slog.HandlerOptions{Level: level}
	switch f.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return nil, fmt.Errorf("--log-format is text or json, not %q", f.logFormat)
}
