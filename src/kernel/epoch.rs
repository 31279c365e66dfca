//! Pinning maps and their iterators: maps that stay, and maps of an epoch.

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use libbpf_rs::MapCore;
use libbpf_rs::skel::Skel;

use crate::abi::{FIRST_AS_TEXT, LAYOUT_VERSION};
use crate::kernel::iterators::{self, Iterators};
use crate::kernel::maps::{self, EPOCH_MAPS, EXPORTED, STATE_MAPS, iter_path, text_path};
use crate::kernel::options::{READER_GID, ReadBy};
use crate::kernel::pin_dir::{self, MAP_MODE};
use crate::kernel::pinned;
use crate::kernel::pins;
use crate::skel::MetricdSkel;

/// Pins [`STATE_MAPS`], by which connections are followed.
///
/// # Errors
/// With the path that can't be pinned.
pub fn pin_state(skel: &MetricdSkel, dir: &Path) -> Result<()> {
    pin_maps(skel, &STATE_MAPS, dir)
}

/// Pins those of [`STATE_MAPS`] that an earlier version did not have.
///
/// # Errors
/// With the path that can't be pinned.
pub fn pin_added(skel: &MetricdSkel, dir: &Path) -> Result<()> {
    let is_new = |name: &&str| !dir.join(name).exists();
    let added: Vec<&str> = STATE_MAPS.into_iter().filter(is_new).collect();
    pin_maps(skel, &added, dir)
}

/// Pins [`EPOCH_MAPS`] into a folder of their own, which readers then see as a whole. The maps of
/// [`EXPORTED`] can be read by the group `reader_gid`, and have iterators unless `by` or the kernel
/// says otherwise: a sidecar of an earlier version reads by iterators alone.
///
/// # Errors
/// With the path that can't be made, pinned, given to the group or renamed; also if iterators are
/// asked for and the kernel refuses them.
pub fn publish(
    skel: &MetricdSkel,
    dir: &Path,
    number: u32,
    by: ReadBy,
    reader_gid: u32,
) -> Result<()> {
    let (next, epoch) = (pins::next_epoch(dir), pins::epoch(dir, number));
    if next.exists() {
        pins::remove_folder(&next)?;
    }
    pin_dir::make_readable(&next, reader_gid)?;
    pin_maps(skel, &EPOCH_MAPS, &next)?;
    for map in EXPORTED {
        pin_dir::let_read(&text_path(&next, map), reader_gid, MAP_MODE)?;
    }
    if by != ReadBy::Text
        && let Err(error) = pin_iterators(&[&next], Some(reader_gid))
    {
        if by == ReadBy::Iterator {
            return Err(error);
        }
        iterators::remove(&next)?;
    }
    fs::rename(&next, &epoch)
        .with_context(|| format!("rename {} to {}", next.display(), epoch.display()))
}

/// Pins iterators beside the maps of every epoch that has none, or takes iterators away, as `by`
/// says. Without iterators, maps are read as text. Returns a line that says how maps are read.
///
/// # Errors
/// If iterators are asked for and the kernel refuses them, or what is to go does not.
pub fn settle(dir: &Path, by: ReadBy, reader_gid: Option<u32>) -> Result<String> {
    let epochs = pins::epochs(dir).with_context(|| format!("list {}", dir.display()))?;
    let mut without = Vec::new();
    for (_, epoch) in &epochs {
        let layout = pinned::info(epoch)?.layout;
        let has_iterators = maps::has_iterators(epoch);
        if by == ReadBy::Text && has_iterators && layout >= FIRST_AS_TEXT {
            iterators::remove(epoch)?;
        } else if by != ReadBy::Text && !has_iterators && layout == LAYOUT_VERSION {
            without.push(epoch);
        }
    }
    match pin_iterators(&without, reader_gid) {
        Err(error) if by == ReadBy::Auto => {
            for epoch in without {
                iterators::remove(epoch)?;
            }
            Ok(format!("maps are read as text: {error:#}"))
        }
        Err(error) => Err(error),
        Ok(()) => Ok(match by {
            ReadBy::Text => "maps are read as text, as asked for".into(),
            _ => "maps are read by iterators".into(),
        }),
    }
}

fn pin_iterators(epochs: &[&PathBuf], reader_gid: Option<u32>) -> Result<()> {
    if epochs.is_empty() {
        return Ok(());
    }
    let mut object = MaybeUninit::uninit();
    let iterators = Iterators::load(&mut object)?;
    for epoch in epochs {
        // A run that was interrupted may have left some iterators.
        iterators::remove(epoch)?;
        let reader = reader_gid
            .or_else(|| pin_dir::reader(epoch))
            .unwrap_or(READER_GID);
        // The iterator of INFO comes last: readers go by it.
        for name in EXPORTED.into_iter().rev() {
            let map = pinned::open_map(&text_path(epoch, name))?;
            iterators.pin(name, map.as_fd(), &iter_path(epoch, name), reader)?;
        }
    }
    Ok(())
}

fn pin_maps(skel: &MetricdSkel, names: &[&str], dir: &Path) -> Result<()> {
    for map in skel.object().maps() {
        let name = map.name().to_string_lossy();
        let name = maps::pin_name(&name);
        if names.contains(&name) {
            pins::pin(map.as_fd(), &dir.join(name))?;
        }
    }
    Ok(())
}
