//! Packets through BPF_PROG_TEST_RUN.

mod concurrency;
mod dns;
mod flow;
mod frame;
mod garbage;
mod http1;
mod http1_property;
mod http2;
mod kernel;
mod l4;
mod listen;
mod model;
mod routes;
mod tap;
mod verifier;
