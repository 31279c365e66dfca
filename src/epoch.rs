//! Pinning maps and their iterators: those that stay, and those of an epoch.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result};
use libbpf_rs::MapCore;
use libbpf_rs::skel::Skel;

use crate::loader::{self, EPOCH_MAPS, STATE_MAPS};
use crate::maps;
use crate::pins;
use crate::skel::MetricdSkel;

/// Pins what connections are followed by.
///
/// # Errors
/// With the path that it failed at; likewise below.
pub fn pin_state(skel: &MetricdSkel, dir: &Path) -> Result<()> {
    pin_maps(skel, &STATE_MAPS, dir)
}

/// Pins what an earlier version did not have of it.
pub fn pin_added(skel: &MetricdSkel, dir: &Path) -> Result<()> {
    let is_new = |name: &&str| !dir.join(name).exists();
    let added: Vec<&str> = STATE_MAPS.into_iter().filter(is_new).collect();
    pin_maps(skel, &added, dir)
}

/// Pins what is exported, with an iterator for each map that is read by a group, into a folder of
/// its own, which readers then see as a whole.
pub fn publish(skel: &mut MetricdSkel, dir: &Path, number: u32, reader_gid: u32) -> Result<()> {
    let (next, epoch) = (pins::next_epoch(dir), pins::epoch(dir, number));
    if next.exists() {
        pins::remove_folder(&next)?;
    }
    pins::make_readable(&next, reader_gid)?;
    pin_maps(skel, &EPOCH_MAPS, &next)?;
    let (progs, maps) = (&skel.progs, &skel.maps);
    for (program, map) in [
        (&progs.iter_metrics, &maps.linkerd_metrics_map),
        (&progs.iter_metrics, &maps.linkerd_metrics_more_map),
        (&progs.iter_requests, &maps.linkerd_requests_map),
        (&progs.iter_requests, &maps.linkerd_requests_more_map),
        (&progs.iter_route, &maps.linkerd_route_map),
        (&progs.iter_latency, &maps.linkerd_latency_map),
        (&progs.iter_latency, &maps.linkerd_latency_more_map),
        (&progs.iter_handshake, &maps.linkerd_handshake_map),
        (&progs.iter_dns, &maps.linkerd_dns_map),
        (&progs.iter_counters, &maps.linkerd_counters_map),
        (&progs.iter_info, &maps.linkerd_info_map),
    ] {
        let name = map.name().to_string_lossy();
        let path = maps::iter_path(&next, &name);
        program
            .attach_iter(map.as_fd())
            .and_then(|mut link| link.pin(&path))
            .with_context(|| format!("pin the iterator of {name} as {}", path.display()))?;
        pins::let_read(&path, reader_gid)?;
    }
    fs::rename(&next, &epoch)
        .with_context(|| format!("rename {} to {}", next.display(), epoch.display()))
}

fn pin_maps(skel: &MetricdSkel, names: &[&str], dir: &Path) -> Result<()> {
    for map in skel.object().maps() {
        let name = map.name().to_string_lossy();
        let name = loader::pin_name(&name);
        if names.contains(&name) {
            pins::pin(map.as_fd(), &dir.join(name))?;
        }
    }
    Ok(())
}
