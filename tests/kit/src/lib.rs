//! What the integration tests and the benches share. `pod` is built on `machine` and on `scrape`, and these
//! know nothing of it.

// What is new here is a folder or a namespace of its own, which nobody wants by default.
#![allow(clippy::new_without_default)]

pub mod machine;
pub mod pod;
pub mod scrape;
