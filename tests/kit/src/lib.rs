//! What the integration tests and the benches share. `pod` is built on `machine` and on `scrape`, and these
//! know nothing of it. `packets` needs no pod.

// What is new here is a folder or a namespace of its own, which nobody wants by default.
#![allow(clippy::new_without_default)]

pub mod admission;
pub mod filled;
pub mod machine;
pub mod packets;
pub mod pod;
pub mod scrape;
