//! Redirection, end to end: HAProxy in the pod gets what `metricd-init` is told to give it, and its
//! log says where each connection was to go.
//!
//! Needs root, and the Debian packages that tests/netns needs, with haproxy, iptables and python3, and
//! `cargo build --example proxy`, which the tests do themselves.
//!
//! METRICD_TEST_REQUESTS and METRICD_TEST_UPGRADES make the load tests shorter or longer.

#[path = "../netns/client.rs"]
#[allow(dead_code)]
mod client;
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
#[allow(dead_code)]
mod metrics;
#[path = "../netns/netns.rs"]
#[allow(dead_code)]
mod netns;
#[path = "../netns/observed.rs"]
#[allow(dead_code)]
mod observed;
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

mod both_ways;
mod counted;
mod fallback;
mod lifecycle;
mod nginx;
mod original;
mod playbook;
mod proxy;
mod security;
mod transparent;
mod unchanged;
mod world;
