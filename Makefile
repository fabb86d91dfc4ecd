# What people and CI run. Everything builds with the release profile: heavy dependencies compile once.
#
#   make demo          run the flights example on real data and show a readable result
#   make test          format, lints, tests, examples
#   make bench ARGS=…  one benchmark: make -s bench ARGS="keyed --parallelism 1 --rows 20000000 --keys 100000"
#   make simulate SEEDS=0..100000   checkpoints under random failures, in virtual time
#   make jobctl        build target/release/jobctl
#   make setup         install the missing commands for native builds; setup-rocksdb: for all of jobctl; setup-guest:
#                      for pipelines; setup-s3, setup-postgres, setup-redis and setup-duckdb: for tests

SHELL := /bin/sh
TARGET := $(or $(CARGO_TARGET_DIR),target)
CACHE := $(or $(MILLRACE_CACHE),$(HOME)/.cache/millrace)

# CI starts from a clean clone each time; what was compiled before is worth keeping.
ifeq ($(CI),true)
export CARGO_TARGET_DIR := $(CACHE)/target
TARGET := $(CARGO_TARGET_DIR)
endif

SEEDS ?= 0..100000

# In this order, also with -j: what is missing is installed first, while someone is there to be asked for a password.
# cargo uses all cores by itself.
.NOTPARALLEL:

.PHONY: help jobctl demo test simulate lint format bench examples setup setup-guest setup-lint setup-postgres setup-redis setup-rocksdb setup-s3 setup-duckdb

help:
	@sed --quiet 's/^#   //p' Makefile

jobctl: setup setup-rocksdb
	cargo build --release --locked --package jobctl

# Without connectors and stores that it does not use, it is built sooner.
demo: setup-guest
	cargo build --release --locked --package jobctl --no-default-features
	scripts/demo

test: setup-lint setup-guest setup-postgres setup-redis setup-s3 setup-duckdb lint
	cargo test --release --locked --workspace
	cargo build --release --locked --workspace --bin jobctl
	cargo test --locked --manifest-path examples/Cargo.toml
	scripts/check-examples
	examples/nexmark/verify

simulate: setup setup-rocksdb
	SEEDS=$(SEEDS) cargo test --release --locked --workspace --test sim -- --ignored --nocapture more_seeds

lint: setup-lint
	cargo fmt --all --check
	cd examples && cargo fmt --check
	for guest in benches/guest tests/guests/*; do (cd $$guest && cargo fmt --check) || exit 1; done
	cargo clippy --release --locked --workspace --all-targets -- --deny warnings
	cargo clippy --release --locked --package jobctl --no-default-features -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" cargo doc --release --locked --workspace --no-deps
	cargo clippy --locked --manifest-path examples/Cargo.toml --all-targets -- --deny warnings

format:
	cargo fmt --all
	cd examples && cargo fmt
	for guest in benches/guest tests/guests/*; do (cd $$guest && cargo fmt) || exit 1; done

examples: setup-guest setup-duckdb jobctl
	scripts/check-examples
	examples/nexmark/verify

bench: setup-guest jobctl
	@cargo build --quiet --release --locked --package millrace-benches
	@for guest in benches/guest examples/nexmark; do \
		$(TARGET)/release/jobctl build --locked $$guest >/dev/null 2>&1 || $(TARGET)/release/jobctl build --locked $$guest || exit 1; \
	done
	@$(TARGET)/release/millrace-benches $(ARGS)

setup:
	@scripts/setup-native

setup-lint: setup setup-rocksdb
	@scripts/setup-native lint

setup-guest: setup
	@scripts/setup-guest

setup-rocksdb: setup
	@scripts/setup-rocksdb

setup-postgres: setup
	@scripts/setup-postgres

setup-redis: setup
	@scripts/setup-redis

setup-s3: setup
	@scripts/setup-s3

setup-duckdb: setup
	@scripts/setup-duckdb
