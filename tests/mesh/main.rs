//! A pod of a mesh, end to end: each request counts once, with the direction that it has for the application.
//!
//! The proxy (proxy.py) gets its connections as Linkerd's rules, Istio's, or our own redirection give them to it.
//! The truth is what h2load has asked for and what nginx, as the application and as what is outside, has logged.
//!
//! Needs root, and the Debian packages that tests/netns needs, with iptables and python3.
//!
//! METRICD_TEST_REQUESTS makes the load tests shorter or longer.

mod bypass;
mod grpc;
mod lifecycle;
mod once;
mod world;

// Of the kit, for all files of this test.
use kit::machine::{netns, process};
use kit::pod::{fixture, load, server};
use kit::scrape::exposition;
