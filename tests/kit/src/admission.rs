//! The injector as a process, its certificates, and the API server that it asks.

pub mod api;
pub mod fixture;
pub mod pki;
