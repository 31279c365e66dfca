//! What a proxy records by the library, end to end: examples/proxy in a network namespace, real
//! clients with TLS in front of it, nginx behind it, and metricd, which must say exactly what the
//! clients have counted.
//!
//! Needs root, the Debian packages iproute2, ethtool, nginx-light, nghttp2-client, wrk and openssl,
//! what `make setup-python` puts into target/python, and `cargo build --example proxy`, which the
//! tests do themselves.

#[path = "../netns/exposition.rs"]
#[allow(dead_code)]
mod exposition;
#[path = "../netns/fixture.rs"]
#[allow(dead_code)]
mod fixture;
#[path = "../netns/kernel.rs"]
#[allow(dead_code)]
mod kernel;
#[path = "../netns/load.rs"]
#[allow(dead_code)]
mod load;
#[path = "../netns/metrics.rs"]
mod metrics;
#[path = "../netns/netns.rs"]
#[allow(dead_code)]
mod netns;
#[path = "../netns/peers.rs"]
#[allow(dead_code)]
mod peers;
#[path = "../netns/pins.rs"]
#[allow(dead_code)]
mod pins;
#[path = "../netns/process.rs"]
#[allow(dead_code)]
mod process;
#[path = "../netns/server.rs"]
#[allow(dead_code)]
mod server;
#[path = "../netns/wire.rs"]
#[allow(dead_code)]
mod wire;

mod clients;
mod diagnose;
mod exact;
mod grpc;
mod kills;
mod map;
mod proxy;
