//! Loading the programs, and pinning them.

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, ProgramAttachType};

use super::config::Config;
use super::programs::{CONFIG, PROGRAMS, SUBNETS};
use crate::abi::Layout;
use crate::pins;
use crate::redirect_skel::RedirectSkelBuilder;

/// What programs take over from each other: which sockets' connections the proxy has taken, and what
/// one program notes for another.
const SHARED: [&str; 3] = [
    "linkerd_redirect_map",
    "linkerd_redirect_note_map",
    "linkerd_redirect_listeners_map",
];

/// A hash of this build's programs.
pub fn object() -> u64 {
    env!("METRICD_REDIRECT_OBJECT")
        .parse()
        .expect("build.rs makes it")
}

/// Loads programs for a configuration and pins them in a folder of their own, which appears as a
/// whole.
///
/// # Errors
/// If the kernel refuses: with what to do about it.
pub fn publish(dir: &Path, number: u32, config: &Config) -> Result<()> {
    let mut object = MaybeUninit::uninit();
    let mut open = RedirectSkelBuilder::default()
        .open(&mut object)
        .context("open the BPF object of redirection")?;
    let rodata = open.maps.rodata_data.as_deref_mut();
    let to = &mut rodata.context("it has no configuration")?.redirect_config;
    to.object = self::object();
    to.proxy_uid = config.kernel.proxy_uid;
    to.inbound_port = config.kernel.inbound_port;
    to.outbound_port = config.kernel.outbound_port;
    to.fallback = config.kernel.fallback;
    to.inbound = config.kernel.inbound;
    to.outbound = config.kernel.outbound;
    for mut map in open.open_object_mut().maps_mut() {
        let path = dir.join(map.name());
        if SHARED.iter().any(|name| map.name() == *name) && path.exists() {
            map.reuse_pinned_map(&path)
                .with_context(|| format!("take over the pinned map {}", path.display()))?;
        }
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
    for map in skel.object().maps() {
        let path = dir.join(map.name());
        if SHARED.iter().any(|name| map.name() == *name) && !path.exists() {
            pins::pin(map.as_fd(), &path)?;
        }
    }
    let next = pins::next_redirect(dir);
    if next.exists() {
        pins::remove_folder(&next)?;
    }
    fs::create_dir(&next).with_context(|| format!("make {}", next.display()))?;
    for program in skel.object().progs() {
        let name = program.name().to_string_lossy();
        debug_assert!(PROGRAMS.contains(&name.as_ref()));
        pins::pin(program.as_fd(), &next.join(name.as_ref()))?;
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
