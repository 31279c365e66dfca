//! Packets through BPF_PROG_TEST_RUN.

mod concurrency;
mod flow;
mod frame;
mod http1;
mod kernel;
mod l4;
mod model;
mod verifier;
