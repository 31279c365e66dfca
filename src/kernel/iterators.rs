//! Iterators over the exported maps: programs of the type TRACING, which some kernels refuse.

use std::fs;
use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::path::Path;

use anyhow::{Context, Result};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{OpenObject, ProgramMut};

use crate::iterators_skel::{IteratorsSkel, IteratorsSkelBuilder};
use crate::kernel::load::log_libbpf;
use crate::kernel::maps::{self, EXPORTED, INFO, iter_path};
use crate::kernel::pin_dir::{self, ITERATOR_MODE};

/// The iterator programs, loaded.
pub struct Iterators<'a>(IteratorsSkel<'a>);

impl<'a> Iterators<'a> {
    /// Loads the iterator programs.
    ///
    /// # Errors
    /// If the kernel refuses, which is nothing unusual: hardened ones do, and so do those without
    /// CONFIG_BPF_EVENTS or BTF.
    pub fn load(object: &'a mut MaybeUninit<OpenObject>) -> Result<Self> {
        log_libbpf();
        let open = IteratorsSkelBuilder::default()
            .open(object)
            .context("open the iterators' BPF object")?;
        let skel = open.load().context(
            "load iterators (needs a kernel that takes BPF programs of the type TRACING, with BTF, \
             and CAP_BPF and CAP_PERFMON)",
        )?;
        Ok(Self(skel))
    }

    /// Pins an iterator over a map at `path`, for a group to read.
    ///
    /// # Errors
    /// With the path, also if something is pinned there already.
    pub fn pin(&self, name: &str, map: BorrowedFd, path: &Path, reader_gid: u32) -> Result<()> {
        let mut link = self
            .program(name)
            .attach_iter(map)
            .with_context(|| format!("attach an iterator to {name}"))?;
        link.pin(path)
            .with_context(|| format!("pin the iterator of {name} as {}", path.display()))?;
        pin_dir::let_read(path, reader_gid, ITERATOR_MODE)
    }

    /// The iterator for a map of that name.
    fn program(&self, map: &str) -> &ProgramMut<'a> {
        let programs = &self.0.progs;
        match map {
            maps::METRICS | maps::METRICS_MORE => &programs.iter_metrics,
            maps::REQUESTS | maps::REQUESTS_MORE => &programs.iter_requests,
            maps::LATENCY | maps::LATENCY_MORE => &programs.iter_latency,
            maps::HANDSHAKE => &programs.iter_handshake,
            maps::DNS => &programs.iter_dns,
            maps::ROUTES => &programs.iter_route,
            maps::COUNTERS => &programs.iter_counters,
            maps::INFO => &programs.iter_info,
            _ => unreachable!("{map} is not exported"),
        }
    }
}

/// Removes the iterators of an epoch, which is read as text from then on.
///
/// # Errors
/// With the path of an iterator that stays.
pub fn remove(epoch: &Path) -> Result<()> {
    // The iterator of INFO goes first: readers go by it.
    debug_assert_eq!(EXPORTED[0], INFO);
    for map in EXPORTED {
        let path = iter_path(epoch, map);
        match fs::remove_file(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            result => result.with_context(|| format!("remove {}", path.display()))?,
        }
    }
    Ok(())
}
