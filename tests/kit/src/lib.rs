//! What the integration tests and the benches share.
//!
//! Traffic through real interfaces needs a [`pod`]. It is built on [`machine`], which has namespaces and
//! processes, and on [`scrape`]. [`packets`] feeds the programs without a pod, [`filled`] fills their maps
//! without packets. [`admission`] has the injector.

// What is new here is a folder or a namespace of its own, which nobody wants by default.
#![allow(clippy::new_without_default)]

pub mod admission;
pub mod filled;
pub mod machine;
pub mod packets;
pub mod pod;
pub mod scrape;
