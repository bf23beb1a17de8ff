# `make run` brings everything up; `make test` passes every test. Both do their own set-up.
SHELL := /bin/bash
ARCH ?= amd64
HYPERVISOR ?= qemu
export PATH := $(CURDIR)/target/tools/bin:$(PATH)

# The static build of the guest agent: what the VM's /init is, and what the native tests drive.
GUEST_TARGET := x86_64-unknown-linux-gnu
GUEST_AGENT := target/$(GUEST_TARGET)/release/guest-agent

.PHONY: help run test bench app check-macos lint deny vm-image guest-agent sampan hello clean

help: ## What can be made.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

run: ## Boots the VM (HYPERVISOR=native: without one), runs a first container. With a display, opens the app.
	@.make/setup run && .make/run $(HYPERVISOR)

test: ## Every test: lints, units, the engine, the VM, the window, the macOS checks.
	@.make/setup test && .make/test

bench: ## Every benchmark, as ratios in one run.
	@.make/setup test && $(MAKE) --no-print-directory vm-image sampan && cargo run --quiet --release -p bench

app: ## The desktop app, built with its front end inside.
	@.make/setup app && npm --prefix ui run --silent build && \
	  cargo build --release -p sampan-app --features custom-protocol && .make/sign target/release/sampan-app

check-macos: ## Type-checks and links the macOS-only code.
	@src-tauri/vz/check-macos.sh --app

lint: ## Formatting and clippy, as errors.
	cargo fmt --all --check
	cargo clippy --quiet --all-targets -- -D warnings

deny: ## Licences and sources of every dependency.
	cargo deny check licenses bans sources

vm-image: ## Kernel and initramfs (ARCH=amd64|arm64) under vm-image/out.
	@vm-image/build.sh $(ARCH)

guest-agent: ## The engine as a static binary.
	@RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static" \
	  cargo build --quiet --release --target $(GUEST_TARGET) -p guest-agent -p hello-image --bin guest-agent --bin hello

sampan: ## The `sampan` command.
	@cargo build --quiet --release -p sampan && .make/sign target/release/sampan

clean: ## Removes what was built (not the tools).
	cargo clean --release
	rm -rf vm-image/out ui/dist
