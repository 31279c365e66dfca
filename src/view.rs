//! What operators look at on a terminal: [`stat`].
//!
//! They read what Prometheus reads, from wherever it is to be had ([`source`]), so that they show
//! what is exported and nothing else.

mod quantile;
mod source;
pub mod stat;
mod table;
mod traffic;
