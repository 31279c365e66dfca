//! What `metricd-init` does: attach to a network namespace's interfaces, say what is there, or
//! take it away again.
//!
//! The order of the pins makes a start that was interrupted recognisable: the egress program comes
//! last, so without it there is nothing attached and everything is made anew.

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use libbpf_rs::{MapCore, MapFlags, MapHandle, Program, ProgramMut};

use crate::abi::{Info, LAYOUT_VERSION, Layout};
use crate::attach::Hooks;
use crate::loader;
use crate::maps;
use crate::netns::{self, Interface};
use crate::options::Options;
use crate::pins;
use crate::skel::MetricdSkel;
use crate::sys::Hook;

const ATTACHMENTS: &str = "linkerd_attachment_map";

/// Attaches to the interfaces of the network namespace that the thread is in, or to those of them
/// that are not attached yet. Returns a line for each hook.
///
/// # Errors
/// With what was tried on what; nothing stays attached that was not before.
pub fn attach(options: &Options) -> Result<Vec<String>> {
    loader::log_libbpf();
    loader::check_kernel()?;
    let interfaces = netns::interfaces(&options.interfaces)?;
    pins::prepare(&options.pin_dir, options.reader_gid)?;
    if let Some(existing) = Existing::open(&options.pin_dir)? {
        existing.check_layout()?;
        return existing.attach(options, &interfaces);
    }
    // Pins without programs are what an interrupted start has left.
    pins::remove_all(&options.pin_dir)?;
    pins::prepare(&options.pin_dir, options.reader_gid)?;
    let result = fresh(options, &interfaces);
    if result.is_err() {
        // What failed is worth more than what fails in cleaning up behind it.
        let _ = detach(&options.pin_dir);
    }
    result
}

fn fresh(options: &Options, interfaces: &[Interface]) -> Result<Vec<String>> {
    let mut object = MaybeUninit::uninit();
    let mut skel = loader::load(&mut object, options, loader::LOOPBACK)?;
    pin(&mut skel, options)?;
    Existing::open(&options.pin_dir)?
        .context("the pins just made are gone")?
        .attach(options, interfaces)
}

fn pin(skel: &mut MetricdSkel, options: &Options) -> Result<()> {
    let dir = &options.pin_dir;
    // Configuration needs no pin, and scratch would tell nobody anything.
    let maps = &skel.maps;
    for map in [
        &maps.linkerd_metrics_map as &dyn NamedMap,
        &maps.linkerd_requests_map,
        &maps.linkerd_latency_map,
        &maps.linkerd_handshake_map,
        &maps.linkerd_route_map,
        &maps.linkerd_counters_map,
        &maps.linkerd_info_map,
        &maps.linkerd_connection_index_map,
        &maps.linkerd_connection_map,
        &maps.linkerd_attachment_map,
    ] {
        let path = dir.join(map.name());
        crate::sys::pin(map.fd(), &path).with_context(|| format!("pin {}", path.display()))?;
    }
    let progs = &skel.progs;
    for (program, map) in [
        (&progs.iter_metrics, &maps.linkerd_metrics_map),
        (&progs.iter_requests, &maps.linkerd_requests_map),
        (&progs.iter_route, &maps.linkerd_route_map),
        (&progs.iter_latency, &maps.linkerd_latency_map),
        (&progs.iter_handshake, &maps.linkerd_handshake_map),
        (&progs.iter_counters, &maps.linkerd_counters_map),
        (&progs.iter_info, &maps.linkerd_info_map),
    ] {
        let name = MapCore::name(map).to_string_lossy();
        let path = maps::iter_path(dir, &name);
        program
            .attach_iter(map.as_fd())
            .and_then(|mut link| link.pin(&path))
            .with_context(|| format!("pin the iterator of {name} as {}", path.display()))?;
        pins::let_read(&path, options.reader_gid)?;
    }
    let pin = |program: &mut ProgramMut, hook| {
        let path = dir.join(pins::program(hook));
        program
            .pin(&path)
            .with_context(|| format!("pin {}", path.display()))
    };
    pin(&mut skel.progs.linkerd_ingress, Hook::Ingress)?;
    pin(&mut skel.progs.linkerd_egress, Hook::Egress)
}

/// Detaches what was attached and removes the pins. Returns a line for each.
///
/// # Errors
/// If a hook could not be cleaned; then its pins stay, for another try.
pub fn detach(pin_dir: &Path) -> Result<Vec<String>> {
    loader::log_libbpf();
    let mut lines = match Existing::open(pin_dir)? {
        Some(existing) => existing.hooks(pin_dir)?.detach_all(&existing.programs())?,
        None => Vec::new(),
    };
    let pins = pins::remove_all(pin_dir)?;
    lines.push(match pins {
        0 => format!("nothing of ours in {}", pin_dir.display()),
        _ => format!("{}: {pins} pins removed", pin_dir.display()),
    });
    Ok(lines)
}

/// What an earlier run has pinned.
struct Existing {
    ingress: OwnedFd,
    egress: OwnedFd,
    records: MapHandle,
    info: MapHandle,
}

impl Existing {
    fn open(dir: &Path) -> Result<Option<Self>> {
        if !fs::exists(dir.join(pins::program(Hook::Egress)))
            .with_context(|| format!("look into pin directory {}", dir.display()))?
        {
            return Ok(None);
        }
        let program = |hook| {
            let path = dir.join(pins::program(hook));
            Program::fd_from_pinned_path(&path)
                .with_context(|| format!("open the pinned program {}", path.display()))
        };
        let map = |name| {
            let path = dir.join(name);
            MapHandle::from_pinned_path(&path)
                .with_context(|| format!("open the pinned map {}", path.display()))
        };
        Ok(Some(Self {
            ingress: program(Hook::Ingress)?,
            egress: program(Hook::Egress)?,
            records: map(ATTACHMENTS)?,
            info: map(maps::INFO)?,
        }))
    }

    fn programs(&self) -> [(Hook, BorrowedFd<'_>); 2] {
        [
            (Hook::Ingress, self.ingress.as_fd()),
            (Hook::Egress, self.egress.as_fd()),
        ]
    }

    fn hooks<'a>(&'a self, pin_dir: &'a Path) -> Result<Hooks<'a>> {
        Ok(Hooks {
            pin_dir,
            records: &self.records,
            netns: netns::inode()?,
        })
    }

    fn check_layout(&self) -> Result<()> {
        let bytes = self
            .info
            .lookup(&0u32.to_ne_bytes(), MapFlags::ANY)
            .context("read the pinned info map")?
            .unwrap_or_default();
        let layout = Info::read(&mut bytes.as_slice()).map(|info| info.layout);
        if layout != Some(LAYOUT_VERSION) {
            bail!(
                "the pinned maps have layout {}, this version writes {LAYOUT_VERSION}: detach first \
                 (--detach)",
                layout.map_or("unknown".to_owned(), |layout| layout.to_string())
            );
        }
        Ok(())
    }

    fn attach(&self, options: &Options, interfaces: &[Interface]) -> Result<Vec<String>> {
        let hooks = self.hooks(&options.pin_dir)?;
        let mut lines = Vec::new();
        for interface in interfaces {
            for (hook, program) in self.programs() {
                // On the loopback each packet comes by both hooks: one is enough.
                if interface.index == loader::LOOPBACK && hook == Hook::Ingress {
                    continue;
                }
                let line = match hooks.find(interface, hook, program) {
                    Some(attached) => format!("already attached ({attached})"),
                    None => {
                        let attached = hooks.attach(interface, hook, program, options.attach)?;
                        format!("attached ({attached})")
                    }
                };
                lines.push(format!("{} {}: {line}", interface.name, hook.name()));
            }
        }
        Ok(lines)
    }
}

/// A map's name and descriptor, whatever its kind of handle.
trait NamedMap {
    fn name(&self) -> &std::ffi::OsStr;
    fn fd(&self) -> BorrowedFd<'_>;
}

impl<T: MapCore> NamedMap for T {
    fn name(&self) -> &std::ffi::OsStr {
        MapCore::name(self)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}
