//! HTTP/2 and HPACK, written by hand or at random.

pub mod block;
pub mod script;
pub mod stretches;
pub mod wire;
