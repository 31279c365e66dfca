//! Request metrics for every pod, collected in the kernel.
//!
//! Two TC programs (`bpf/`) count connections and requests in maps. [`kernel`] loads, pins and attaches
//! them; [`sidecar`] serves what [`read`] reads of the pinned maps at each scrape. [`cluster`] puts both
//! into pods. `unsafe` is in [`kernel::sys`] alone.

#![deny(unsafe_code)]

pub mod abi;
pub mod cli;
pub mod cluster;
pub mod duration;
pub mod kernel;
pub mod lifecycle;
pub mod logging;
pub mod read;
pub mod redirect;
pub mod sidecar;
pub mod web;

/// The skeleton that build.rs generates from bpf/metricd.bpf.c.
#[allow(unsafe_code, clippy::all)]
pub mod skel {
    include!(concat!(env!("OUT_DIR"), "/metricd.skel.rs"));
}

/// The skeleton of bpf/iterators.bpf.c.
#[allow(unsafe_code, clippy::all)]
mod iterators_skel {
    include!(concat!(env!("OUT_DIR"), "/iterators.skel.rs"));
}

/// The skeleton of bpf/redirect.bpf.c.
#[allow(unsafe_code, clippy::all)]
mod redirect_skel {
    include!(concat!(env!("OUT_DIR"), "/redirect.skel.rs"));
}
