//! End to end, with real servers and clients: every test builds its own network namespaces, lets
//! `metricd-init` attach there, makes traffic, and compares what `metricd` serves with what the
//! traffic's own ends have counted.
//!
//! Needs root, the Debian packages iproute2, iputils-ping, ethtool, nginx-light, nghttp2-client,
//! nghttp2-server, nodejs, caddy, bind9-dnsutils, dnsmasq-base, dnsperf, bpftool, curl, openssl, prometheus and strace, and what `make setup-python` puts
//! into target/python and `make setup-prometheus` into target/prometheus. A missing one fails the tests that use it.
//!
//! METRICD_TEST_REQUESTS and METRICD_TEST_CONNECTIONS make the load tests shorter or longer;
//! METRICD_TEST_SEED makes other faults and other kills.

mod attach;
mod beside;
mod broken;
mod diagnose;
mod dns;
mod faults;
mod frames;
mod gc;
mod grpc;
mod http1;
mod http2;
mod http2_faults;
mod idle;
mod interfaces;
mod kills;
mod l4;
mod left;
mod lifecycle;
mod memory;
mod messages;
mod overflow;
mod prometheus;
mod storm;
mod strace;
mod streams;
mod tap;
mod timing;
mod tunnel;
mod upgrade;

// Of the kit, for all files of this test.
use kit::machine::{kernel, netns, pins, process, wire};
use kit::pod::{client, fixture, load, observed, peers, server};
use kit::scrape::exposition;
