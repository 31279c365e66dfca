//! Packets through BPF_PROG_TEST_RUN.

mod concurrency;
mod dns;
mod garbage;
mod http1;
mod http1_property;
mod http2;
mod l4;
mod listen;
mod routes;
mod tap;
mod verifier;

// Of the kit, for all files of this test.
use kit::packets::{flow, frame, kernel, model};
