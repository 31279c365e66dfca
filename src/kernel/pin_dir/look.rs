//! A pin directory as anyone may look at it.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use libbpf_rs::{MapHandle, Program};
use serde::{Deserialize, Serialize};

use super::epoch::EpochDir;
use super::names::{self, LinkPin};
use super::pin;
use crate::kernel::hook::{Hook, Owner};

/// A pin directory, which need not be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinDir(PathBuf);

/// What is observed in a network namespace, as metricd-init leaves word of it for the sidecar, which has
/// no right to look at what is attached.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// The namespace, by [`crate::kernel::netns::inode`].
    pub netns: u64,
    /// The interfaces that programs are attached to, by their indexes.
    pub attached: BTreeSet<u32>,
    /// The interfaces that were named; if none, all are to be observed.
    pub named: Vec<String>,
}

impl PinDir {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Whether programs are pinned. The egress program's pin comes last and goes first, and without
    /// it nothing is attached.
    ///
    /// # Errors
    /// If that can't be seen.
    pub fn has_programs(&self) -> Result<bool> {
        fs::exists(self.join(&names::program(Hook::Egress)))
            .with_context(|| format!("look into pin directory {self}"))
    }

    /// Opens the pinned program of a hook.
    ///
    /// # Errors
    /// If the program can't be opened.
    pub fn program(&self, hook: Hook) -> Result<OwnedFd> {
        pin::program(&self.join(&names::program(hook)))
    }

    /// The ids of programs that an interrupted run has left on their way to others' places. `None` if
    /// it has left nothing at all on its way.
    ///
    /// # Errors
    /// If the directory can't be listed, or a program can't be opened.
    pub fn left(&self) -> Result<Option<Vec<u32>>> {
        let left = self.next()?;
        let mut ids = Vec::new();
        for (name, path) in &left {
            if names::is_next_program(name) {
                ids.push(Program::id_from_fd(pin::program(path)?.as_fd())?);
            }
        }
        Ok((!left.is_empty()).then_some(ids))
    }

    /// Where a map that stays is pinned.
    pub fn map_path(&self, map: &str) -> PathBuf {
        self.join(map)
    }

    /// Opens a pinned map that stays.
    ///
    /// # Errors
    /// If the map can't be opened, or is not ours.
    pub fn map(&self, map: &str) -> Result<MapHandle> {
        pin::map(&self.map_path(map))
    }

    /// Makes sure that maps with names of ours are ours, before they are removed. Maps in folders of
    /// their own are not looked at.
    ///
    /// # Errors
    /// If a map is not ours.
    pub fn check_maps(&self) -> Result<()> {
        let mut maps = self.ours()?;
        maps.retain(|(name, path)| names::is_map(name) && !path.is_symlink());
        maps.iter()
            .try_for_each(|(_, path)| pin::map(path).map(drop))
    }

    /// The folder of an epoch, whether it is there or not.
    pub fn epoch(&self, number: u32) -> EpochDir {
        EpochDir::new(number, self.join(&names::epoch(number)))
    }

    /// The folders of all epochs, the newest last.
    ///
    /// # Errors
    /// If the directory can't be listed.
    pub fn epochs(&self) -> io::Result<Vec<EpochDir>> {
        let folders = self.numbered(names::epoch_number)?;
        let epoch = |(number, path)| EpochDir::new(number, path);
        Ok(folders.into_iter().map(epoch).collect())
    }

    /// Where a link is pinned.
    pub fn link_path(&self, link: LinkPin) -> PathBuf {
        self.join(&link.name())
    }

    /// Names and paths of an owner's pinned links.
    ///
    /// # Errors
    /// If the directory can't be listed.
    pub fn links(&self, owner: Owner) -> Result<Vec<(String, PathBuf)>> {
        let mut links = self.ours()?;
        links.sort();
        links.retain(|(name, _)| names::is_link(name, owner));
        Ok(links)
    }

    /// The word that a failed run has left of why nothing is attached.
    pub fn failure(&self) -> Option<String> {
        let reason = fs::read_link(self.join(names::FAILURE)).ok()?;
        Some(reason.to_string_lossy().into_owned())
    }

    /// The word of what is observed, if there is one that this version understands.
    pub fn observed(&self) -> Option<Observed> {
        let word = fs::read_link(self.join(names::OBSERVED)).ok()?;
        serde_json::from_slice(word.as_os_str().as_encoded_bytes()).ok()
    }

    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Names and paths of what an interrupted run has left on its way to something else.
    pub(super) fn next(&self) -> Result<Vec<(String, PathBuf)>> {
        let mut next = self.ours()?;
        next.retain(|(name, _)| names::is_next(name));
        Ok(next)
    }

    /// Names and paths of what is ours.
    pub(super) fn ours(&self) -> Result<Vec<(String, PathBuf)>> {
        ours(&self.0)
    }

    /// The folders whose names have a number, by number.
    pub(super) fn numbered(
        &self,
        number: impl Fn(&str) -> Option<u32>,
    ) -> io::Result<Vec<(u32, PathBuf)>> {
        let mut folders = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            if let Some(number) = entry.file_name().to_str().and_then(&number) {
                folders.push((number, entry.path()));
            }
        }
        folders.sort();
        Ok(folders)
    }
}

impl fmt::Display for PinDir {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// Names and paths of what is ours in a folder.
pub fn ours(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let list = || format!("list pin directory {}", folder.display());
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(list)?,
    };
    let mut ours = Vec::new();
    for entry in entries {
        let entry = entry.with_context(list)?;
        if let Ok(name) = entry.file_name().into_string()
            && names::is_ours(&name)
        {
            ours.push((name, entry.path()));
        }
    }
    Ok(ours)
}
