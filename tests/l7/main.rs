//! What a proxy records by the library, end to end: examples/proxy in a network namespace, real
//! clients with TLS in front of it, nginx behind it, and metricd, which must say exactly what the
//! clients have counted.
//!
//! Needs root, the Debian packages iproute2, ethtool, nginx-light, nghttp2-client, wrk and openssl,
//! what `make setup-python` puts into target/python, and `cargo build --example proxy`, which the
//! tests do themselves.

mod clients;
mod diagnose;
mod exact;
mod grpc;
mod kills;
mod map;
mod proxy;

// Of the kit, for all files of this test.
use kit::machine::{netns, pins, process};
use kit::pod::{fixture, load, peers, server};
use kit::scrape::exposition;
