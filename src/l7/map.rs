//! A table in a pinned map (`linkerd_l7_map`), for processes that may call `bpf()`. Those that may not
//! read it as text, or, where the kernel takes iterators, by one that is pinned beside it.

use std::ffi::OsString;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, anyhow, bail};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType, OpenObject};

use super::layout::{ELEMENT, ELEMENT_SIZE, Header};
use crate::kernel::iterators::Iterators;
use crate::kernel::load::log_libbpf;
use crate::kernel::pin_dir::{self, MAP_MODE};
use crate::kernel::pins;
use crate::kernel::sys::SharedWords;
use crate::l7_skel::{L7Skel, L7SkelBuilder};

/// What the map is called in the kernel.
pub const MAP: &str = "linkerd_l7_map";

/// Where the iterator of the map at `path` is pinned.
pub fn iter_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push("_iter");
    name.into()
}

/// Makes an empty table and gives it its name when it is whole, unless another process has done so
/// first.
pub fn make(path: &Path, slots: usize) -> Result<()> {
    let header = Header::new(slots);
    let mut object = MaybeUninit::uninit();
    let skel = load(&mut object, header.elements())
        .with_context(|| format!("make {} to record requests", path.display()))?;
    let map = &skel.maps.linkerd_l7_map;
    let bytes = header.words().map(u64::to_ne_bytes);
    map.update(&0u32.to_ne_bytes(), bytes.as_flattened(), MapFlags::ANY)
        .with_context(|| format!("write the header of {}", path.display()))?;
    match pins::pin(map.as_fd(), path) {
        Err(_) if path.exists() => Ok(()),
        result => result,
    }
}

/// Maps the table at `path` into memory.
pub fn open(path: &Path) -> Result<(SharedWords, Header)> {
    let look = || format!("open {} to record requests", path.display());
    let map = MapHandle::from_pinned_path(path)
        .context("it takes CAP_BPF, and a pinned map")
        .with_context(look)?;
    let capacity = map.info().with_context(look)?.info.max_entries as usize;
    if map.map_type() != MapType::Array || map.value_size() as usize != ELEMENT_SIZE {
        bail!(
            "{} is not a table of requests: name another pin",
            path.display()
        );
    }
    let words = SharedWords::map(map.as_fd(), capacity * ELEMENT)
        .with_context(|| format!("map {} into memory", path.display()))?;
    let first: Vec<u64> = words[..ELEMENT]
        .iter()
        .map(|word| word.load(Ordering::Relaxed))
        .collect();
    let header = Header::parse(&first)
        .map_err(|problem| anyhow!("{} {problem}: name another pin", path.display()))?;
    if header.elements() != capacity {
        bail!(
            "{} is a damaged table of requests: remove it",
            path.display()
        );
    }
    let_read(map.as_fd(), path)?;
    Ok((words, header))
}

/// Lets the group of the pins' folder read the map, unless it can already: who made the map may have
/// been killed before it was done.
fn let_read(map: BorrowedFd, path: &Path) -> Result<()> {
    let reader = path.parent().and_then(pin_dir::reader).unwrap_or_default();
    let mode = path
        .metadata()
        .map(|metadata| metadata.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o777 != MAP_MODE) {
        pin_dir::let_read(path, reader, MAP_MODE)?;
    }
    let iter = iter_path(path);
    if !iter.exists()
        && let Err(error) = pin_iterator(map, &iter, reader)
        && !iter.exists()
    {
        tracing::debug!("{} is read as text: {error:#}", path.display());
    }
    Ok(())
}

fn pin_iterator(map: BorrowedFd, iter: &Path, reader: u32) -> Result<()> {
    let mut object = MaybeUninit::uninit();
    Iterators::load(&mut object)?.pin(MAP, map, iter, reader)
}

fn load(object: &mut MaybeUninit<OpenObject>, elements: usize) -> Result<L7Skel<'_>> {
    log_libbpf();
    let mut open = L7SkelBuilder::default().open(object)?;
    open.maps.linkerd_l7_map.set_max_entries(elements as u32)?;
    open.load()
        .context("it takes CAP_BPF and CAP_PERFMON; without them, record into a file")
}
