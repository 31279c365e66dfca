//! Loading the programs, and pinning them.

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, ProgramAttachType};

use super::config::RedirectConfig;
use super::programs::{self, CONFIG, ORIGINAL, PROGRAMS, SUBNETS};
use crate::abi::Layout;
use crate::kernel::pins;
use crate::redirect_skel::RedirectSkelBuilder;

/// The map that knows which sockets' connections the proxy has taken: programs take the map over
/// from each other.
const SOCKETS: &str = "linkerd_redirect_map";

/// Loads programs for a configuration, with the one for cgroups or not, and pins them in a folder of
/// their own, which appears as a whole.
///
/// # Errors
/// If the kernel refuses: with what to do about it.
pub fn publish(dir: &Path, number: u32, config: &RedirectConfig, original: bool) -> Result<()> {
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
    let sockets = dir.join(SOCKETS);
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
        pins::pin(maps.linkerd_redirect_map.as_fd(), &sockets)?;
    }
    let next = pins::next_redirect(dir);
    if next.exists() {
        pins::remove_folder(&next)?;
    }
    fs::create_dir(&next).with_context(|| format!("make {}", next.display()))?;
    for program in skel.object().progs() {
        let name = program.name().to_string_lossy();
        if PROGRAMS.contains(&name.as_ref()) || (original && name == ORIGINAL) {
            pins::pin(program.as_fd(), &next.join(name.as_ref()))?;
        }
    }
    pins::pin(maps.rodata.as_fd(), &next.join(CONFIG))?;
    pins::pin(
        maps.linkerd_redirect_subnets_map.as_fd(),
        &next.join(SUBNETS),
    )?;
    let folder = pins::redirect(dir, number);
    fs::rename(&next, &folder)
        .with_context(|| format!("rename {} to {}", next.display(), folder.display()))
}
