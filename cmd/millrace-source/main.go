// Command millrace-source is the executor of source steps: it reads NDJSON, CSV,
// Parquet and Arrow files into streams. The engine starts it where a workflow has
// such a step.
//
// It is a program of its own so that the readers of these formats, half of it in
// bytes, are in no supervisor and in no other executor.
package main

import (
	"fmt"
	"os"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/worker/source"
)

// version is set by the build.
var version = "development"

func main() {
	if os.Getenv(ipc.FDVariable) == "" {
		fmt.Fprintf(os.Stderr, "millrace-source %s serves source steps and is started by millrace, not by hand: millrace run flow.yaml\n", version)
		os.Exit(2)
	}
	source.Main()
}
