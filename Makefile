# What one does with depesche. `make` alone lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
export CGO_ENABLED := 1
PACKAGES := ./...
TOOLS := go tool -modfile=.ci/tools/go.mod

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build the binary: ./depesche
	go build -o depesche ./cmd/depesche

.PHONY: demo
demo: build ## the whole job with a made-up paper: three readers, one morning, a mailbox to look at
	./depesche demo

.PHONY: test
test: setup ## everything but the mail chain, with the race detector; sets up PostgreSQL and Chromium when root
	go vet $(PACKAGES)
	go test -race -timeout 20m $(PACKAGES)

.PHONY: test-chain
test-chain: ## the mail chain: a digest for 1,000 readers through a real Postfix into real Dovecot mailboxes (root, Debian)
	.ci/setup chain
	DEPESCHE_CHAIN=1 go test -race -count=1 -timeout 15m -run TestChain ./cmd/depesche

.PHONY: exam-chain
exam-chain: ## the same for DEPESCHE_CHAIN_READERS, by default 20,000
	.ci/setup chain
	DEPESCHE_CHAIN=1 DEPESCHE_CHAIN_READERS=$${DEPESCHE_CHAIN_READERS:-20000} \
		go test -count=1 -v -timeout 60m -run TestChain ./cmd/depesche

.PHONY: setup
setup:
	@.ci/setup

.PHONY: lint
lint: ## gofumpt, go vet, staticcheck
	test -z "$$($(TOOLS) gofumpt -l cmd newsletter subscribers templates migrations | tee /dev/stderr)"
	go vet $(PACKAGES)
	$(TOOLS) staticcheck $(PACKAGES)

# The folder with the programs rawsink and delayproxy.
bench exam: export DEPESCHE_TOOLS ?= $(wildcard $(CURDIR)/../shared/tools)

.PHONY: bench
bench: ## sending against other senders and the marks, in one table; then ingest, compose, render, splice, plan
	.ci/setup bench
	DEPESCHE_BENCH=1 go test -count=1 -timeout 60m -v -run '^TestBench' ./cmd/depesche
	go test -run '^$$' -bench . -benchmem $(PACKAGES)

.PHONY: exam
exam: ## builds depesche broken on purpose, a fault at a time; then kills, power cuts, a million readers
	.ci/setup exam
	.ci/exam
	DEPESCHE_EXAM=1 go test -count=1 -timeout 120m -v -run '^TestExam' ./cmd/depesche

.PHONY: fuzz
fuzz: ## every fuzz target for ten seconds
	@set -e; for package in $$(go list $(PACKAGES)); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime 10s $$package; \
		done; \
	done

.PHONY: clean
clean: ## remove what build and demo made
	rm -f depesche
