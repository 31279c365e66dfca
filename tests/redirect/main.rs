//! Redirection, end to end: HAProxy in the pod gets what `metricd-init` is told to give it, and its
//! log says where each connection was to go.
//!
//! Needs root, and the Debian packages that tests/netns needs, with haproxy, iptables and python3, and
//! `cargo build --example proxy`, which the tests do themselves.
//!
//! METRICD_TEST_REQUESTS and METRICD_TEST_UPGRADES make the load tests shorter or longer.

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

// Of the kit, for all files of this test.
use kit::machine::{kernel, netns, process};
use kit::pod::{client, fixture, load, server};
