//! The folder of an epoch: a set of exported maps and their iterators.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use super::{names, pin};
use crate::abi::{Info, read_grown};
use crate::kernel::maps::{INFO, ROUTES};

/// The folder of an epoch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EpochDir {
    pub number: u32,
    path: PathBuf,
}

impl EpochDir {
    pub(super) fn new(number: u32, path: PathBuf) -> Self {
        Self { number, path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a map is pinned. The map of routes is that of all epochs, and lies above.
    pub fn map_path(&self, map: &str) -> PathBuf {
        let folder = match map {
            ROUTES => self.path.parent().unwrap_or(&self.path),
            _ => &self.path,
        };
        folder.join(map)
    }

    /// Where the iterator over a map is pinned.
    pub fn iterator_path(&self, map: &str) -> PathBuf {
        self.path.join(names::iterator(map))
    }

    /// Whether there are iterators. The one over the info map is there only while all are.
    pub fn has_iterators(&self) -> bool {
        self.iterator_path(INFO).exists()
    }

    /// The group that may read what is in the folder.
    pub fn reader(&self) -> Option<u32> {
        Some(fs::metadata(&self.path).ok()?.gid())
    }

    /// The map that says what a reader must know.
    ///
    /// # Errors
    /// If the info map can't be opened, or is not ours.
    pub fn info_map(&self) -> Result<MapHandle> {
        pin::map(&self.map_path(INFO))
    }

    /// What the maps say of themselves.
    ///
    /// # Errors
    /// If the info map can't be read, or is not ours.
    pub fn info(&self) -> Result<Info> {
        let bytes = self
            .info_map()?
            .lookup(&0u32.to_ne_bytes(), MapFlags::ANY)
            .context("read the pinned info map")?;
        Ok(read_grown(&bytes.unwrap_or_default()))
    }
}
