# `make help` lists the targets. Everything needs root, for BPF and network namespaces.

SUDO := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env=PATH,HOME,CARGO_HOME,RUSTUP_HOME,CI)
BIN := target/release
PYTHON := target/python
HELM := target/helm
PROMETHEUS := target/prometheus
BPFFS := /sys/fs/bpf
BINARIES := $(basename $(notdir $(wildcard cmd/*.rs)))
IMAGE := target/image

BUILD_PACKAGES := clang llvm clang-format libelf-dev zlib1g-dev pkg-config linux-libc-dev make gcc
DEMO_PACKAGES := iproute2 nginx-light curl util-linux
TEST_PACKAGES := $(DEMO_PACKAGES) bpftool chromium haproxy nghttp2-client nghttp2-server nodejs caddy python3-venv wrk prometheus ethtool jq procps \
	bind9-dnsutils busybox-static cpio dnsmasq-base dnsperf kmod qemu-system-x86 xz-utils iptables iputils-ping openssl podman containerd runc catatonit strace apparmor mmdebstrap
LINT_PACKAGES := shellcheck pyflakes3 nodejs
SHELL_SCRIPTS = $(shell git grep -lE '^#!(/bin/bash|/usr/bin/env bash|/bin/sh|/bin/busybox sh)')
PYTHON_FILES = $(shell git grep -lE '^#!.*python') $(shell git ls-files '*.py')
# As tests/apiserver/run has them; python3-venv for setup-helm.
APISERVER_PACKAGES := curl iproute2 jq openssl util-linux python3-venv

# What every change must pass has the same dice each time, so that a failure is the change's. test-long has
# others each time, and says how to have them again.
SEED := 20
test-long: SEED := $(shell shuf -i 0-999999999 -n 1)
# Tests wait more than they compute, so there are more of them at a time than CPUs.
TEST_ENV = FUZZ_SEED=$(SEED) PROPTEST_RNG_SEED=$(SEED) METRICD_TEST_SEED=$(SEED) RUST_TEST_THREADS=6

# The kernels of tests/kernels, and each as one that has its maps read as text and as one without BTF.
ALL_KERNELS := 5.10 6.1 6.12 newest
ALL_KERNELS += $(ALL_KERNELS:%=%+text) $(ALL_KERNELS:%=%+nobtf)
# From clang 14, the oldest that we compile with, to the newest that this Debian has.
CLANGS = $(shell apt-cache --names-only search '^clang-[0-9]+$$' | awk -F'[- ]' '$$2 >= 14 {print $$1 "-" $$2}' | sort -V)
# The oldest Rust that we compile with.
MSRV := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

.DEFAULT_GOAL := help
.PHONY: help setup setup-lint setup-demo setup-test setup-clangs setup-apiserver setup-python setup-helm setup-prometheus bpffs build image image-root run demo test test-long test-msrv test-clangs test-kernels test-manifests test-view test-apiserver test-image fuzz check lint deny bench bench-short bench-build clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: setup build bpffs ## Observe this machine's own interfaces and lo, and serve their metrics
	$(SUDO) $(BIN)/linkerd-metricd run --interface lo $(shell \
		ip -o link show up 2>/dev/null | awk -F': ' '$$2 !~ /^lo/{sub(/@.*/, "", $$2); print "--interface " $$2}')

demo: setup setup-demo build bpffs ## The shape of a pod: nginx in a namespace, init, sidecar, some traffic
	$(SUDO) examples/demo $(BIN)

build: setup ## The release binaries, in target/release
	cargo build --release --locked

image: build image-root ## The image of what was built here, by podman
	podman build --target prebuilt -t linkerd-metricd:$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml) .

# What is in the image: the binaries, and the libraries that they are linked to.
image-root:
	@rm -rf $(IMAGE) && install -d $(IMAGE)
	@install $(BINARIES:%=$(BIN)/%) $(IMAGE)
	@ldd $(BINARIES:%=$(BIN)/%) | sed -nE 's|.*\s(/\S+) \(.*|\1|p' | sort -u | while read -r library; do \
		install -D "$$library" "$(IMAGE)$$library"; done

test: setup setup-test setup-python setup-helm setup-prometheus build bpffs ## What every change must pass, with everything it needs and fixed seeds (21 minutes)
	$(SUDO) env $(TEST_ENV) FUZZ_SECONDS=60 cargo test --locked --workspace --features benches
	$(SUDO) BIN_DIR=$(BIN) PYTHON=$(PYTHON)/bin/python tests/pods/run
	$(SUDO) BIN_DIR=$(BIN) tests/pods/containerd
	$(PYTHON)/bin/python tests/manifests/run $(BIN) $(HELM)
	tests/manifests/prometheus $(PYTHON)/bin/python
	$(SUDO) tests/manifests/fleet $(BIN)
	cargo build --locked --workspace --features benches --example proxy
	$(SUDO) $(PYTHON)/bin/python tests/view/run $(BIN) target/debug/examples/proxy
	BIN_DIR=$(BIN) tests/kernels/run 5.10 newest 5.10+nobtf newest+text

test-long: setup setup-test setup-python setup-prometheus build bpffs ## Hours: other seeds each time (SEED=17), larger sizes, every kill, all kernels and compilers
	@echo "once more with the same seeds: make test-long SEED=$(SEED)"
	$(MAKE) test-msrv
	$(SUDO) env $(TEST_ENV) FUZZ_SECONDS=1800 METRICD_TEST_REQUESTS=1000000 METRICD_TEST_PAIRS=1000000 \
		METRICD_TEST_CONNECTIONS=1000000 PROPTEST_CASES=10000 METRICD_TEST_UPGRADES=20 METRICD_TEST_KILLS=all \
		METRICD_TEST_RANDOM_KILLS=300 METRICD_TEST_PODS=1000 METRICD_TEST_L7_KILLS=1000 \
		cargo test --no-fail-fast --locked --workspace --features benches -- --include-ignored
	$(SUDO) env $(TEST_ENV) METRICD_TEST_UNORDERED=1 cargo test --locked --workspace --features benches --test packets
	$(MAKE) test-kernels KERNELS="$(ALL_KERNELS)"
	$(MAKE) test-clangs

test-msrv: setup ## That it compiles with the oldest Rust that Cargo.toml promises, which rustup gets
	@command -v rustup >/dev/null || { echo "install rustup, for Rust $(MSRV)" >&2; exit 1; }
	@rustup run $(MSRV) rustfmt --version >/dev/null 2>&1 || \
		rustup toolchain install --profile minimal --component rustfmt $(MSRV)
	cargo +$(MSRV) check --locked --workspace --all-targets --features benches --target-dir target/msrv

test-clangs: setup setup-test setup-clangs ## The programs by other compilers, on old kernels under QEMU: CLANGS="clang-14 clang-16"
	tests/clang/run $(CLANGS)

test-kernels: setup setup-test build ## The binaries on other kernels, under QEMU: KERNELS="5.10 6.1 6.12 newest"
	cargo build --locked --workspace --features benches --example proxy
	cargo test --locked --workspace --features benches --test reading --no-run
	BIN_DIR=$(BIN) tests/kernels/run $(KERNELS)

test-manifests: setup setup-test setup-python setup-helm build bpffs ## The chart, install and the rules for Prometheus
	$(PYTHON)/bin/python tests/manifests/run $(BIN) $(HELM)
	tests/manifests/prometheus $(PYTHON)/bin/python
	$(SUDO) tests/manifests/fleet $(BIN)

test-view: setup setup-test setup-python build bpffs ## The sidecar's page, top and the dashboard, with real traffic
	cargo build --locked --workspace --features benches --example proxy
	$(SUDO) $(PYTHON)/bin/python tests/view/run $(BIN) target/debug/examples/proxy

test-apiserver: setup setup-apiserver $(if $(wildcard $(or $(KUBEBUILDER_ASSETS),/usr/local/kubebuilder/bin)/kubectl),,setup-helm) build ## install and the webhook with a real API server: KUBEBUILDER_ASSETS=folder
	$(SUDO) env BIN_DIR=$(BIN) KUBEBUILDER_ASSETS="$$KUBEBUILDER_ASSETS" tests/apiserver/run

test-image: setup setup-test setup-python ## The Dockerfile as it is, with a base made here (a release build)
	$(SUDO) PYTHON=$(PYTHON)/bin/python tests/image/run

fuzz: setup ## Fuzz what is fed to the programs and what user space decodes: FUZZ_SECONDS=1800
	$(SUDO) env FUZZ_SECONDS=$(or $(FUZZ_SECONDS),1800) $(if $(FUZZ_SEED),FUZZ_SEED=$(FUZZ_SEED)) \
		$(if $(FUZZ_REPLAY),FUZZ_REPLAY=$(abspath $(FUZZ_REPLAY))) \
		cargo test --locked --profile fuzz --test fuzz

# What needs neither root nor the network, once its packages are there.
check: lint deny ## Formatting, lints, licences, unit tests and golden files: without root, in two minutes once built
	cargo test --locked --workspace --features benches --lib
	cargo test --locked --workspace --features benches --test inject

lint: setup setup-lint ## Formatting and lints of all languages
	clang-format --dry-run --Werror $(shell find bpf benches l7/bpf -name "*.[ch]")
	cargo fmt --all --check
	cargo clippy --locked --workspace --features benches --all-targets -- -D warnings
	shellcheck -S warning -x -P SCRIPTDIR $(SHELL_SCRIPTS)
	pyflakes3 $(PYTHON_FILES)
	node --check src/sidecar/page/script.js

deny: ## The licences and sources of what we depend on
	@command -v cargo-deny >/dev/null || cargo install -q --locked cargo-deny
	cargo deny --log-level error check licenses bans sources

bench: setup setup-test setup-python build bench-build bpffs ## What it costs: per packet, per scrape, and side by side with others (hours; PAIRS=20): docs/benchmarks.md
	$(SUDO) cargo bench --locked --features benches
	$(SUDO) benches/request http1 $(BIN)
	$(SUDO) benches/request http2 $(BIN)
	$(SUDO) benches/request http2-nghttpd $(BIN)
	$(SUDO) $(PYTHON)/bin/python benches/compare --bin $(BIN) --pairs $(or $(PAIRS),20)

bench-short: setup setup-test setup-python bpffs ## That the side-by-side runs work, and what everyone counts
	cargo build --locked --workspace --features benches --bins --examples
	$(SUDO) $(PYTHON)/bin/python benches/compare check --bin target/debug

bench-build:
	cargo build --profile bench --locked --features benches --example bench-load --example bench-article

# Installs those of the packages that are missing.
define install
	@missing=$$(for p in $(1); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	[ -z "$$missing" ] || { $(SUDO) apt-get update -q && $(SUDO) env \
		DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends $$missing; }
endef

setup:
	$(call install,$(BUILD_PACKAGES))

setup-lint:
	$(call install,$(LINT_PACKAGES))

setup-demo:
	$(call install,$(DEMO_PACKAGES))

setup-test:
	$(call install,$(TEST_PACKAGES))

setup-clangs:
	$(call install,$(CLANGS))

setup-apiserver:
	$(call install,$(APISERVER_PACKAGES))

setup-python: $(PYTHON)/requirements.txt

REQUIREMENTS := $(wildcard tests/*/requirements.txt tests/kit/peers/requirements.txt benches/compare/requirements.txt)

$(PYTHON)/requirements.txt: $(REQUIREMENTS)
	python3 -m venv $(PYTHON)
	$(PYTHON)/bin/python -m pip install -q $(addprefix -r ,$(REQUIREMENTS))
	cat $(REQUIREMENTS) >$@

setup-helm: $(HELM)/helm

$(HELM)/helm: tests/manifests/tools.txt tests/manifests/tools $(PYTHON)/requirements.txt
	$(PYTHON)/bin/python -m pip download -q --no-deps -d $(HELM) -r $<
	$(PYTHON)/bin/python tests/manifests/tools $(HELM)

setup-prometheus: $(PROMETHEUS)/prometheus

$(PROMETHEUS)/prometheus: tests/kit/prometheus
	tests/kit/prometheus $(PROMETHEUS)

bpffs:
	@mountpoint -q $(BPFFS) || $(SUDO) mount -t bpf bpf $(BPFFS)

clean: ## Remove what was built
	cargo clean
