//! Packets for the programs, by BPF_PROG_TEST_RUN: what is said in them, and what is to be counted.

pub mod flow;
pub mod frame;
pub mod http1;
pub mod http2;
pub mod kernel;
pub mod model;
#[cfg(test)]
mod two_cpus;
