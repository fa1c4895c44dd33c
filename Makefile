# How to work on zketcd. Every target installs what it needs and is not there yet.

SHELL := /bin/bash
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)
# what is built is looked for in ./target
unexport CARGO_TARGET_DIR

install := tests/tools/install.sh

# where `make run` listens
LISTEN ?= 127.0.0.1:2181
# flags for cargo test, such as FLAGS="--test store_contract", for flink and for bench
FLAGS ?=
# where the servers of clients and suites keep everything: embedded, etcd, or zookeeper for ZooKeeper itself
STORE ?= embedded
# one of the clients: c, kazoo, go, rust, node
CLIENT ?=
# of bench's workloads and shapes, those given (WORKLOADS=get,create SHAPES=1x1,64x1)
WORKLOADS ?=
SHAPES ?=
# anything: let `make instructions` record what it counts
ACCEPT ?=
# cases of make differential, and where it draws them from
SEQUENCES ?= 20000
SEED ?=
# seconds for each fuzz target
FUZZ_SECONDS ?= 60
# one of the suites, flink or curator; how many of its classes at a time
SUITE ?=
JOBS ?= 4
# how often suites (1) and bench (3) run
ROUNDS ?=

.PHONY: help run release test reference corpus tools differential flink clients fuzz java suites suites-ci bench instructions results lint fmt clippy doc deny advisories

help: ## say what the targets do
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "make %-12s %s\n", $$1, $$2 }'

run: release ## serve ZooKeeper clients on 127.0.0.1:2181, data kept in ./zketcd-data
	@echo 'Connect ZooKeeper clients to $(LISTEN), for example: zkCli.sh -server $(LISTEN)'
	@echo 'The data is kept in ./zketcd-data. Ctrl-C ends the server.'
	@exec target/release/zketcd serve --listen $(LISTEN) --store embedded

release: ## build target/release/zketcd
	$(install) rust protoc
	cargo build --release --locked

# etcd's fsyncs and the embedded store's stall tests on a busy disk for seconds: their files go to memory where it can be
test: tools ## run all tests but Flink's
	$(install) zookeeper
	TMPDIR=$(firstword $(wildcard /dev/shm) $(TMPDIR) /tmp) cargo test --locked --no-fail-fast $(FLAGS)

reference: tools ## run the tests that a real ZooKeeper passes too against one: its own, or ZOOKEEPER=host:port
	$(install) zookeeper
	cargo test --locked --features zookeeper zookeeper
	cargo test --locked --features zookeeper --test reference

corpus: tools ## record anew what a real ZooKeeper answers to the conversations of tests/conversations
	$(install) zookeeper
	CORPUS=write cargo test --locked --features zookeeper --test conversations the_record
	git diff --stat -- tests/corpus

tools: ## install what the tests need, etcd 3.4 and 3.6 among it
	$(install) rust protoc etcd-3.4 etcd-3.6

# so that the cases are counted, and not the two tests that play them
differential: ## play SEQUENCES=20000 cases to zketcd on STORE (embedded, etcd, etcd-3.4) and to ZooKeeper; SEED=1
	$(install) rust protoc zookeeper etcd-3.4 etcd-3.6
	@rm -f target/differential.txt
	@set -o pipefail; TMPDIR=$(firstword $(wildcard /dev/shm) $(TMPDIR) /tmp) \
	  DIFFERENTIAL_STORE=$(STORE) DIFFERENTIAL_SEQUENCES=$(SEQUENCES) DIFFERENTIAL_SEED=$(SEED) \
	  cargo test --locked --profile quick --test differential -- --nocapture --test-threads=1 $(FLAGS) | \
	  grep -v '^test result: '; status=$$?; cat target/differential.txt; exit $$status

flink: release ## run Flink on two zketcd and an etcd, and kill each of them
	$(install) etcd-3.6
	tests/flink/run.sh $(FLAGS)

clients: $(if $(filter zookeeper,$(STORE)),,release) ## run clients of other languages: STORE=etcd or zookeeper, CLIENT=go for one
	tests/clients/run.sh --store $(STORE) $(if $(CLIENT),--client $(CLIENT)) $(FLAGS)

fuzz: fuzz-frame fuzz-requests ## run each fuzz target for FUZZ_SECONDS

fuzz-%:
	$(install) rust protoc cargo-fuzz
	RUSTC_BOOTSTRAP=1 cargo fuzz run $* -- -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1

java: release ## test java/zketcd-test, curator-test's TestingServer on zketcd, on both stores
	java/test.sh

bench: release ## compare with ZooKeeper: writes docs/BENCHMARKS.md, or prints what WORKLOADS and SHAPES say
	$(install) etcd-3.6 zookeeper
	python3 -m unittest discover -q -s benches
	benches/bench.py --rounds $(or $(ROUNDS),3) $(if $(WORKLOADS),--workloads $(WORKLOADS)) $(if $(SHAPES),--shapes $(SHAPES)) \
	  $(if $(WORKLOADS)$(SHAPES)$(FLAGS),,--page docs/BENCHMARKS.md) $(FLAGS)

instructions: ## count what each kind of request costs, against benches/instructions.txt (ACCEPT=1: write it)
	$(install) rust protoc valgrind
	python3 -m unittest discover -q -s benches
	benches/instructions.py $(if $(ACCEPT),--accept)

suites: release ## run Flink's and Curator's own tests (STORE=embedded|etcd|zookeeper SUITE=flink|curator JOBS=4 ROUNDS=1)
	tests/suites/run.sh $(if $(SUITE),--suite $(SUITE)) --store $(STORE) --jobs $(JOBS) --rounds $(or $(ROUNDS),1)

suites-ci: release ## run what of that fits into CI: Flink's tests and a part of Curator's, on etcd
	tests/suites/run.sh --part ci --store etcd --jobs $(JOBS)

results: ## write docs/COMPATIBILITY.md's table of results from target/results
	tests/results.py

lint: fmt clippy doc deny advisories ## all that CI checks without running anything

fmt:
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo fmt --check --manifest-path tests/clients/rust/Cargo.toml

clippy:
	$(install) rust protoc
	cargo clippy --locked --all-targets -- -D warnings

# For those who work on zketcd: private items are in it, so links to them are right.
doc:
	$(install) rust protoc
	RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc --locked --no-deps --document-private-items

deny:
	$(install) rust cargo-deny
	cargo deny --locked check bans licenses sources

advisories:
	$(install) rust cargo-deny
	@if timeout 120 cargo deny --locked fetch db; then \
	  cargo deny --locked check --disable-fetch advisories; \
	else \
	  echo 'advisories: not checked, their database cannot be reached from here'; \
	fi
