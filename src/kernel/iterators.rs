//! Iterators over the exported maps: programs of the type TRACING, which some kernels refuse.

use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use anyhow::{Context, Result};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Link, OpenObject, ProgramMut};

use crate::iterators_skel::{IteratorsSkel, IteratorsSkelBuilder};
use crate::kernel::load::log_libbpf;
use crate::kernel::maps;

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

    /// Makes an iterator over a map of that name.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn attach(&self, name: &str, map: BorrowedFd) -> Result<Link> {
        self.program(name)
            .attach_iter(map)
            .with_context(|| format!("attach an iterator to {name}"))
    }

    /// The program for a map of that name.
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
