//! For a proxy that ends TLS, and so sees what the kernel can't: it records each request by itself,
//! and metricd exports them beside its own metrics.
//!
//! ```no_run
//! use metricd_l7::{Protocol, Recorder, Request};
//! use std::time::Duration;
//!
//! let recorder = Recorder::from_env();
//! recorder.sync_in_background().unwrap();
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
//! ```
//!
//! Requests are added up in memory that is shared with the sidecar (`layout` says how it is laid
//! out, `table` by which rule it is written): there is no sending, nothing to lose when a process
//! ends, and any number of threads and processes may record into one file.
//!
//! The memory is a file's. If somebody cuts that file short, the process goes on: what is recorded after
//! that is counted as missed, and [`Recorder::sync`] says what is wrong until there is a whole file
//! again. `sys` says how.
//!
//! Features: `tokio` has [`Recorder::run_sync_loop`], `map` has tables in pinned BPF maps and takes
//! clang to build.

#![deny(unsafe_code)]

mod error;
pub mod layout;
#[cfg(feature = "map")]
mod map;
mod place;
mod recorder;
pub mod snapshot;
#[allow(unsafe_code)]
mod sys;
mod table;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub use error::{Error, FILE, SLOTS};
pub use layout::Key;
pub use recorder::{DEFAULT_SLOTS, Recorder};
pub use snapshot::{DurationKey, Histogram, Series, Snapshot, Unreadable};

/// The skeleton that build.rs generates from bpf/map.bpf.c.
#[cfg(feature = "map")]
#[allow(unsafe_code, clippy::all)]
mod map_skel {
    include!(concat!(env!("OUT_DIR"), "/map.skel.rs"));
}

/// The skeleton of bpf/iterator.bpf.c.
#[cfg(feature = "map")]
#[allow(unsafe_code, clippy::all)]
mod iterator_skel {
    include!(concat!(env!("OUT_DIR"), "/iterator.skel.rs"));
}

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
    /// The status as it came in the trailers (or headers) of gRPC.
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
