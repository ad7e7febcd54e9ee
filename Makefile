# Everything a person does here. `make help` lists it.
GO        ?= go
BIN       := bin
DATA      := data
EXAMPLES  := $(BIN)/delays $(BIN)/arrow-delays
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo development)

.DEFAULT_GOAL := help
.PHONY: help build examples deps demo test test-short check fmt lint fuzz soak differential data bench bench-quick bench-openfn bench-flow bench-uplink install clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

deps: # what the examples and tests need beside Go: jq, Node.js' packages
	@scripts/deps

build: ## build millrace, and its executor of source steps, into bin/
	$(GO) build -trimpath -ldflags "-X main.version=$(VERSION)" -o $(BIN)/ ./cmd/...

examples: build ## build the example workers into bin/
	$(GO) build -o $(BIN)/ ./examples/...

demo: deps examples ## run the main job on real data: flight records through commands and Go workers
	@scripts/demo

test: deps ## run all tests, race detector on, and the libraries' own in Node.js and Python
	@scripts/test-languages
	$(GO) test -race -timeout 20m ./...

test-short: ## run the quick tests, without the race detector
	$(GO) test -short ./...

check: fmt lint test ## format, lint and test; fails when the tree is not clean afterwards
	@git diff --exit-code

fmt: ## format the code
	gofmt -w $$(git ls-files '*.go')

lint: ## go vet and staticcheck
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

FUZZTIME ?= 30s
fuzz: ## run each fuzz target for FUZZTIME (30s)
	@scripts/fuzz $(FUZZTIME)

soak: ## the long tests: processes killed at random, random workflows
	MILLRACE_SOAK=1 $(GO) test -race -timeout 60m -run 'Kill|Soak|Random' -v ./engine/...

CASES ?= 20000
differential: deps ## compare CASES generated OpenFn workflows (20000) with @openfn/runtime
	MILLRACE_DIFFERENTIAL_CASES=$(CASES) $(GO) test -timeout 60m ./engine/differential

data: ## fetch the large real data sets (vega-datasets from npm) into data/
	@scripts/data $(DATA)

bench: build ## measure against pipes, sockets and shmipc-go; tables, plots and results in bench/results
	$(GO) run ./bench/cmd/millrace-bench -out bench/results

bench-quick: build ## the same in under two minutes
	$(GO) run ./bench/cmd/millrace-bench -quick -out $(BIN)/bench-quick

bench-openfn: deps ## measure OpenFn workflows against @openfn/runtime and its worker's hops
	$(GO) run ./bench/openfn

bench-flow: data deps ## measure calls, pages, streams and shard builders under limits; results in bench/results
	$(GO) run ./bench/flow -data $(DATA) -out bench/results

bench-uplink: deps engine/differential/node_modules ## measure uploads, the raw uplink and a Lightning worker; results in bench/results
	$(GO) run ./bench/uplink -out bench/results

engine/differential/node_modules:
	cd engine/differential && npm ci --silent --no-audit --no-fund --ignore-scripts

install: ## install millrace, and its executor of source steps, into GOBIN
	$(GO) install -trimpath -ldflags "-X main.version=$(VERSION)" ./cmd/...

clean: ## remove what was built
	rm -rf $(BIN)
