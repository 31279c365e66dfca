# `make help` lists the targets. Everything needs root, for BPF and network namespaces.

SUDO := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env=PATH,HOME,CARGO_HOME,RUSTUP_HOME,CI)
BIN := target/release
PYTHON := target/python
BPFFS := /sys/fs/bpf

BUILD_PACKAGES := clang llvm clang-format libelf-dev zlib1g-dev pkg-config linux-libc-dev make gcc
DEMO_PACKAGES := iproute2 nginx-light curl util-linux
TEST_PACKAGES := $(DEMO_PACKAGES) bpftool nghttp2-client nghttp2-server nodejs caddy python3-venv wrk prometheus ethtool jq procps \
	busybox-static cpio kmod qemu-system-x86 xz-utils iputils-ping openssl podman containerd runc catatonit strace apparmor

.DEFAULT_GOAL := help
.PHONY: help setup setup-demo setup-test setup-python bpffs build run demo test test-long test-kernels fuzz lint bench clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: setup build bpffs ## Observe this machine's own interfaces and lo, and serve their metrics
	$(SUDO) $(BIN)/linkerd-metricd run --interface lo $(shell \
		ip -o link show up 2>/dev/null | awk -F': ' '$$2 !~ /^lo/{sub(/@.*/, "", $$2); print "--interface " $$2}')

demo: setup setup-demo build bpffs ## The shape of a pod: nginx in a namespace, init, sidecar, some traffic
	$(SUDO) examples/demo $(BIN)

build: setup ## The release binaries, in target/release
	cargo build --release --locked

test: setup setup-test setup-python build bpffs ## All tests, with everything they need (about 10 minutes)
	$(SUDO) env FUZZ_SECONDS=60 cargo test --locked
	$(SUDO) BIN_DIR=$(BIN) tests/pods/run
	$(SUDO) BIN_DIR=$(BIN) tests/pods/containerd
	BIN_DIR=$(BIN) tests/kernels/run 5.10 newest

test-long: setup setup-test setup-python build bpffs ## The tests at a larger size, and all kernels
	$(SUDO) env METRICD_TEST_REQUESTS=1000000 METRICD_TEST_PAIRS=1000000 PROPTEST_CASES=10000 \
		METRICD_TEST_UPGRADES=20 METRICD_TEST_KILLS=all METRICD_TEST_RANDOM_KILLS=300 METRICD_TEST_PODS=1000 \
		cargo test --locked -- --include-ignored
	BIN_DIR=$(BIN) tests/kernels/run 5.10 6.1 6.12 newest

test-kernels: setup setup-test build ## The binaries on other kernels, under QEMU: KERNELS="5.10 6.1 6.12 newest"
	BIN_DIR=$(BIN) tests/kernels/run $(KERNELS)

fuzz: setup ## Fuzz what is fed to the programs and what user space decodes: FUZZ_SECONDS=1800
	$(SUDO) env FUZZ_SECONDS=$(or $(FUZZ_SECONDS),1800) $(if $(FUZZ_SEED),FUZZ_SEED=$(FUZZ_SEED)) \
		$(if $(FUZZ_REPLAY),FUZZ_REPLAY=$(abspath $(FUZZ_REPLAY))) \
		cargo test --locked --profile fuzz --test fuzz

lint: setup ## Formatting and lints of both languages
	clang-format --dry-run --Werror bpf/*.h bpf/*.c
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

bench: setup setup-test build bpffs ## What it costs: per packet, per request, per scrape
	$(SUDO) cargo bench --locked
	$(SUDO) benches/request http1 $(BIN)
	$(SUDO) benches/request http2 $(BIN)

# Installs those of the packages that are missing.
define install
	@missing=$$(for p in $(1); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	[ -z "$$missing" ] || { $(SUDO) apt-get update -q && $(SUDO) env \
		DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends $$missing; }
endef

setup:
	$(call install,$(BUILD_PACKAGES))

setup-demo:
	$(call install,$(DEMO_PACKAGES))

setup-test:
	$(call install,$(TEST_PACKAGES))

setup-python: $(PYTHON)/requirements.txt

$(PYTHON)/requirements.txt: tests/netns/peers/requirements.txt
	python3 -m venv $(PYTHON)
	$(PYTHON)/bin/pip install -q -r $<
	cp $< $@

bpffs:
	@mountpoint -q $(BPFFS) || $(SUDO) mount -t bpf bpf $(BPFFS)

clean: ## Remove what was built
	cargo clean
