//! Request metrics for every pod, collected in the kernel.
//!
//! Two TC programs (`bpf/`) count connections and requests in maps. [`init`] loads, pins and
//! attaches them; [`server`] reads the pinned maps at each scrape. `unsafe` is in [`sys`] alone.

#![deny(unsafe_code)]

pub mod abi;
pub mod attach;
pub mod check;
pub mod cluster;
pub mod diagnose;
mod epoch;
pub mod extension;
pub mod gc;
pub mod init;
pub mod inject;
pub mod injector;
pub mod install;
mod installed;
mod iterators;
pub mod l7;
pub mod loader;
pub mod logging;
pub mod maps;
pub mod metrics;
pub mod netns;
pub mod options;
pub mod pins;
pub mod records;
pub mod redirect;
pub mod remote;
pub mod run;
mod samples;
pub mod server;
#[allow(unsafe_code)]
pub mod sys;
pub mod tap;
pub mod target;
pub mod text;
pub mod view;
pub mod work;

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

/// The same from bpf/l7.bpf.c.
#[allow(unsafe_code, clippy::all)]
mod l7_skel {
    include!(concat!(env!("OUT_DIR"), "/l7.skel.rs"));
}

/// The one from bpf/redirect.bpf.c.
#[allow(unsafe_code, clippy::all)]
mod redirect_skel {
    include!(concat!(env!("OUT_DIR"), "/redirect.skel.rs"));
}
