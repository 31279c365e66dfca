//! For a proxy that ends TLS, and so sees what the kernel can't: it records each request by itself,
//! and metricd exports them beside its own metrics.
//!
//! ```no_run
//! use metricd::l7::{Protocol, Recorder, Request};
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let recorder = Recorder::from_env();
//! tokio::spawn(recorder.clone().run_sync_loop());
//! // When a response has ended:
//! recorder.record(&Request {
//!     src: "10.1.2.3".parse().unwrap(),
//!     dst: "127.0.0.1:8080".parse().unwrap(),
//!     protocol: Protocol::Http2,
//!     status: 200,
//!     grpc_status: None,
//!     duration: Duration::from_millis(3),
//!     sent: 1024,
//!     received: 0,
//! });
//! # }
//! ```
//!
//! Requests are added up in memory that is shared with the sidecar (`layout` says how it is laid out,
//! `table` by which rule it is written): there is no sending, nothing to lose when a process ends, and
//! any number of threads and processes may record into the same file.

#![forbid(unsafe_code)]

mod layout;
mod map;
mod place;
mod recorder;
mod snapshot;
mod table;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub use layout::Key;
pub(crate) use map::MAP;
pub use recorder::{DEFAULT_SLOTS, FILE, Recorder, SLOTS};
pub use snapshot::{DurationKey, Series, Snapshot, Unreadable};

/// A request that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who asked. Not from which port: series follow peers, not connections.
    pub src: IpAddr,
    /// Who was asked: where the request was sent on to, as the kernel sees it there.
    pub dst: SocketAddr,
    pub protocol: Protocol,
    /// The response's; 0 if there was none.
    pub status: u16,
    /// As it came in the trailers (or headers) of gRPC.
    pub grpc_status: Option<u8>,
    /// Until the last byte of the response.
    pub duration: Duration,
    /// Bytes of the response, sent to who asked, and of the request, received from there.
    pub sent: u64,
    pub received: u64,
}

/// What was spoken with who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
    Grpc,
}
