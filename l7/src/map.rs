//! A table in a pinned map (`linkerd_l7_map`), for processes that may call `bpf()`. Processes that
//! may not call it read the table as text, or, where the kernel takes iterators, by an iterator
//! that is pinned beside the map.

use std::fs::{self, Permissions};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::sync::atomic::Ordering;

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};

use crate::error::{Error, io_error};
use crate::iterator_skel::IteratorSkelBuilder;
use crate::layout::{ELEMENT, ELEMENT_SIZE, Header};
use crate::map_skel::MapSkelBuilder;
use crate::snapshot::iter_path;
use crate::sys::SharedWords;

const _: () = assert!(size_of::<crate::map_skel::types::l7_element>() == ELEMENT_SIZE);

/// The mode of an iterator that the group of the pins' folder may read.
const ITERATOR_MODE: u32 = 0o440;
/// The mode of a map that the group of the pins' folder may read.
const MAP_MODE: u32 = 0o640;

fn bpf_error(tried: &'static str, path: &Path) -> impl FnOnce(libbpf_rs::Error) -> Error {
    let path = path.to_owned();
    move |error| Error::Bpf { tried, path, error }
}

/// Makes an empty table, and pins it as `path` when it is whole, unless another process has done so
/// first.
///
/// # Errors
/// If the process lacks a right that making a map takes: CAP_BPF.
pub fn make(path: &Path, slots: usize) -> Result<(), Error> {
    let tried = "(it takes CAP_BPF; without it, record into a file) make";
    let header = Header::new(slots);
    let mut object = MaybeUninit::uninit();
    let mut open = MapSkelBuilder::default()
        .open(&mut object)
        .map_err(bpf_error(tried, path))?;
    let elements = u32::try_from(header.elements()).unwrap_or(u32::MAX);
    let sized = open.maps.linkerd_l7_map.set_max_entries(elements);
    sized.map_err(bpf_error(tried, path))?;
    let mut skel = open.load().map_err(bpf_error(tried, path))?;
    let map = &mut skel.maps.linkerd_l7_map;
    let bytes = header.words().map(u64::to_ne_bytes);
    map.update(&0u32.to_ne_bytes(), bytes.as_flattened(), MapFlags::ANY)
        .map_err(bpf_error("write the header of", path))?;
    match map.pin(path) {
        Err(_) if path.exists() => Ok(()),
        result => result.map_err(bpf_error("pin", path)),
    }
}

/// Maps the table at `path` into memory.
///
/// # Errors
/// If there is no table at `path`, or the process lacks a right that opening a map takes: CAP_BPF.
pub fn open(path: &Path) -> Result<(SharedWords, Header), Error> {
    let tried = "(it takes CAP_BPF, and a pinned map) open";
    let map = MapHandle::from_pinned_path(path).map_err(bpf_error(tried, path))?;
    let info = map.info().map_err(bpf_error(tried, path))?;
    let capacity = info.info.max_entries as usize;
    let foreign = |problem: &str| Error::NotATable {
        path: path.to_owned(),
        problem: problem.to_owned(),
    };
    if map.map_type() != MapType::Array || map.value_size() as usize != ELEMENT_SIZE {
        return Err(foreign("is not a table of requests"));
    }
    let words = SharedWords::map(&map.as_fd(), capacity * ELEMENT)
        .map_err(io_error("map into memory", path))?;
    let first: Vec<u64> = words[..ELEMENT]
        .iter()
        .map(|word| word.load(Ordering::Relaxed))
        .collect();
    let header = Header::parse(&first).map_err(|problem| foreign(&problem))?;
    if header.elements() != capacity {
        return Err(foreign("is a damaged table of requests"));
    }
    let_read(&map, path)?;
    Ok((words, header))
}

/// Lets the group of the pins' folder read the map, unless it can already: who made the map may have
/// been killed before it was done.
fn let_read(map: &MapHandle, path: &Path) -> Result<(), Error> {
    let group = path.parent().and_then(|folder| fs::metadata(folder).ok());
    let group = group.map(|folder| folder.gid());
    let give = |path: &Path, mode| {
        chown(path, None, group)
            .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
    };
    let metadata = fs::metadata(path).map_err(io_error("open", path))?;
    if metadata.permissions().mode() & 0o777 != MAP_MODE {
        give(path, MAP_MODE).map_err(io_error("let the sidecar's group read", path))?;
    }
    let iter = iter_path(path);
    if !iter.exists() {
        match pin_iterator(map, &iter) {
            Ok(()) => give(&iter, ITERATOR_MODE)
                .map_err(io_error("let the sidecar's group read", &iter))?,
            Err(_) if iter.exists() => {}
            Err(error) => tracing::debug!("{} is read as text: {error}", path.display()),
        }
    }
    Ok(())
}

fn pin_iterator(map: &MapHandle, iter: &Path) -> Result<(), libbpf_rs::Error> {
    let mut object = MaybeUninit::uninit();
    let skel = IteratorSkelBuilder::default().open(&mut object)?.load()?;
    skel.progs.iter_l7.attach_iter(map.as_fd())?.pin(iter)
}
