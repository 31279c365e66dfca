//! What operators look at on a terminal: [`stat`], [`top`] and [`diagnose`].
//!
//! They read what Prometheus reads, from wherever it is to be had ([`source`]), so that they show
//! what is exported and nothing else.

pub mod diagnose;
pub mod quantile;
mod source;
pub mod stat;
mod success;
mod table;
pub mod top;
mod traffic;
