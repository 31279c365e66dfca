//! Loading the programs, and pinning them.

use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, ProgramAttachType};

use super::config::RedirectConfig;
use super::programs;
use crate::abi::Layout;
use crate::kernel::pin_dir::LockedPinDir;
use crate::kernel::pin_dir::redirect::{CONFIG, ORIGINAL, PROGRAMS, SUBNETS};
use crate::redirect_skel::RedirectSkelBuilder;

/// Loads programs for a configuration, with the one for cgroups or not, and pins them in a folder of
/// their own, which appears as a whole.
///
/// # Errors
/// If the kernel refuses: with what to do about it.
pub fn publish(
    dir: &LockedPinDir,
    number: u32,
    config: &RedirectConfig,
    original: bool,
) -> Result<()> {
    let mut object = MaybeUninit::uninit();
    let mut open = RedirectSkelBuilder::default()
        .open(&mut object)
        .context("open the BPF object of redirection")?;
    let rodata = open.maps.rodata_data.as_deref_mut();
    let to = &mut rodata.context("it has no configuration")?.redirect_config;
    to.object = programs::object();
    to.proxy_uid = config.kernel.proxy_uid;
    to.inbound_port = config.kernel.inbound_port;
    to.outbound_port = config.kernel.outbound_port;
    to.fallback = config.kernel.fallback;
    to.inbound = config.kernel.inbound;
    to.outbound = config.kernel.outbound;
    let sockets = dir.sockets_path();
    let known = sockets.exists();
    if known {
        open.maps
            .linkerd_redirect_map
            .reuse_pinned_map(&sockets)
            .with_context(|| format!("take over the pinned map {}", sockets.display()))?;
    }
    // TCX wants it at load; clsact and kernels without TCX don't look at it.
    let programs = &mut open.progs;
    for program in [
        &mut programs.linkerd_redirect_inbound,
        &mut programs.linkerd_redirect_loopback,
    ] {
        program.set_attach_type(ProgramAttachType::TcxIngress);
    }
    let outbound = &mut programs.linkerd_redirect_outbound;
    outbound.set_attach_type(ProgramAttachType::TcxEgress);
    open.progs.linkerd_redirect_original.set_autoload(original);
    let skel = open.load().context(
        "load the programs of redirection (needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, before \
         5.11 also CAP_SYS_RESOURCE, and a seccomp profile that allows bpf())",
    )?;

    let maps = &skel.maps;
    for (subnet, ways) in &config.subnets {
        let key = [&subnet.bits.to_ne_bytes()[..], &subnet.address].concat();
        maps.linkerd_redirect_subnets_map
            .update(&key, &ways.to_bytes(), MapFlags::ANY)
            .context("write the subnets that are skipped")?;
    }
    if !known {
        dir.pin_sockets(maps.linkerd_redirect_map.as_fd())?;
    }
    let programs: Vec<_> = skel.object().progs().collect();
    let mut objects = Vec::new();
    for program in &programs {
        let name = program.name().to_str().unwrap_or_default();
        if PROGRAMS.contains(&name) || (original && name == ORIGINAL) {
            objects.push((name, program.as_fd()));
        }
    }
    objects.push((CONFIG, maps.rodata.as_fd()));
    objects.push((SUBNETS, maps.linkerd_redirect_subnets_map.as_fd()));
    dir.publish_redirect(number, &objects)
}
