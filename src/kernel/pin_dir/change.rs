//! How what lies in a pin directory comes and goes, by whoever holds its lock.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};
use libbpf_rs::skel::Skel;
use libbpf_rs::{Link, MapCore};

use super::epoch::EpochDir;
use super::lock::LockedPinDir;
use super::look::Observed;
use super::names::{self, LinkPin};
use super::pin::{self, ITERATOR_MODE, MAP_MODE};
use super::{bpffs, look};
use crate::kernel::hook::Hook;
use crate::kernel::maps::{EPOCH_MAPS, EXPORTED, INFO, STATE_MAPS, pin_name};
use crate::kernel::sys;
use crate::skel::MetricdSkel;

impl LockedPinDir {
    /// Pins [`STATE_MAPS`], by which connections are followed.
    ///
    /// # Errors
    /// With the path that can't be pinned.
    pub fn pin_state(&self, skel: &MetricdSkel) -> Result<()> {
        pin_maps(skel, &STATE_MAPS, self.path())
    }

    /// Pins those of [`STATE_MAPS`] that an earlier version did not have.
    ///
    /// # Errors
    /// With the path that can't be pinned.
    pub fn pin_added(&self, skel: &MetricdSkel) -> Result<()> {
        let is_new = |name: &&str| !self.map_path(name).exists();
        let added: Vec<&str> = STATE_MAPS.into_iter().filter(is_new).collect();
        pin_maps(skel, &added, self.path())
    }

    /// Pins [`EPOCH_MAPS`] into a folder of their own, where those of [`EXPORTED`] can be read by a
    /// group. The folder is no epoch before [`Self::publish`] makes it one.
    ///
    /// # Errors
    /// With the path that can't be made, pinned or given to the group.
    pub fn pin_epoch(&self, skel: &MetricdSkel, number: u32, reader_gid: u32) -> Result<EpochDir> {
        let next = EpochDir::new(number, self.join(&names::next_epoch()));
        if next.path().exists() {
            pin::remove_folder(next.path())?;
        }
        bpffs::make_readable(next.path(), reader_gid)?;
        pin_maps(skel, &EPOCH_MAPS, next.path())?;
        for map in EXPORTED {
            pin::let_read(&next.map_path(map), reader_gid, MAP_MODE)?;
        }
        Ok(next)
    }

    /// Lets readers see an epoch, as a whole.
    ///
    /// # Errors
    /// If the epoch's folder can't be renamed.
    pub fn publish(&self, next: &EpochDir) -> Result<EpochDir> {
        let epoch = self.epoch(next.number);
        let (from, to) = (next.path(), epoch.path());
        fs::rename(from, to)
            .with_context(|| format!("rename {} to {}", from.display(), to.display()))?;
        Ok(epoch)
    }

    /// Pins iterators beside an epoch's maps, for a group to read. `attach` makes the iterator over a
    /// map of a name.
    ///
    /// # Errors
    /// With the path, also if something is pinned there already.
    pub fn pin_iterators(
        &self,
        epoch: &EpochDir,
        reader_gid: u32,
        attach: impl Fn(&str, BorrowedFd) -> Result<Link>,
    ) -> Result<()> {
        // The iterator of INFO comes last: readers go by it.
        for name in EXPORTED.into_iter().rev() {
            let map = pin::any_map(&epoch.map_path(name))?;
            let path = epoch.iterator_path(name);
            let mut link = attach(name, map.as_fd())?;
            link.pin(&path)
                .with_context(|| format!("pin the iterator of {name} as {}", path.display()))?;
            pin::let_read(&path, reader_gid, ITERATOR_MODE)?;
        }
        Ok(())
    }

    /// Removes the iterators of an epoch, which is read as text from then on.
    ///
    /// # Errors
    /// With the path of an iterator that stays.
    pub fn remove_iterators(&self, epoch: &EpochDir) -> Result<()> {
        // The iterator of INFO goes first: readers go by it.
        debug_assert_eq!(EXPORTED[0], INFO);
        for map in EXPORTED {
            let path = epoch.iterator_path(map);
            match fs::remove_file(&path) {
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                result => result.with_context(|| format!("remove {}", path.display()))?,
            }
        }
        Ok(())
    }

    /// Makes names in the directory lead to the pins with these names in an epoch's folder, wherever
    /// they led before.
    ///
    /// # Errors
    /// With the name that can't be led there.
    pub fn point(&self, epoch: &EpochDir) -> Result<()> {
        let next = self.join(&names::next_pointer());
        let folder = Path::new(epoch.path().file_name().unwrap_or_default());
        for (name, _) in look::ours(epoch.path())? {
            let target = folder.join(&name);
            let _ = fs::remove_file(&next);
            symlink(&target, &next)
                .and_then(|()| fs::rename(&next, self.join(&name)))
                .with_context(|| format!("point {name} in {self} to {}", target.display()))?;
        }
        Ok(())
    }

    /// Pins the programs, of which the egress program must come last.
    ///
    /// # Errors
    /// With the path that can't be pinned.
    pub fn pin_programs(&self, programs: [(Hook, BorrowedFd); 2]) -> Result<()> {
        for (hook, program) in programs {
            pin::pin(program, &self.join(&names::program(hook)))?;
        }
        Ok(())
    }

    /// Pins programs beside those that run. Returns the number by which they are known.
    ///
    /// # Errors
    /// With the path that can't be pinned.
    pub fn pin_next(&self, programs: [(Hook, BorrowedFd); 2]) -> Result<u32> {
        let path = |hook, number| self.join(&names::next_program(hook, number));
        let is_free = |number: &u32| !Hook::BOTH.iter().any(|&hook| path(hook, *number).exists());
        let number = (0..).find(is_free).context("no name is free")?;
        for (hook, program) in programs {
            pin::pin(program, &path(hook, number))?;
        }
        Ok(number)
    }

    /// Gives programs that [`Self::pin_next`] has pinned the place of those before.
    ///
    /// # Errors
    /// With the name that can't be changed.
    pub fn rename_next(&self, number: u32) -> Result<()> {
        for hook in Hook::BOTH {
            let (from, to) = (names::next_program(hook, number), names::program(hook));
            fs::rename(self.join(&from), self.join(&to))
                .with_context(|| format!("rename {from} to {to} in {self}"))?;
        }
        Ok(())
    }

    /// Pins a link.
    ///
    /// # Errors
    /// With the path that can't be pinned.
    pub fn pin_link(&self, which: LinkPin, link: BorrowedFd) -> Result<()> {
        let path = self.link_path(which);
        sys::pin(link, &path).with_context(|| format!("pin the link as {}", path.display()))
    }

    /// Removes a link's pin, if there is one.
    pub fn remove_link(&self, which: LinkPin) {
        let _ = fs::remove_file(self.link_path(which));
    }

    /// Removes what an interrupted run has left on its way to something else, when none of its
    /// programs runs any more.
    ///
    /// # Errors
    /// If a pin can't be removed.
    pub fn remove_next(&self) -> Result<()> {
        for (name, path) in self.next()? {
            remove(&name, &path)?;
        }
        Ok(())
    }

    /// Removes all pins of ours. Returns how many pins were removed.
    ///
    /// # Errors
    /// If a pin can't be removed.
    pub fn remove_pins(&self) -> Result<usize> {
        // Without this pin nothing counts as attached: see [`crate::lifecycle`].
        let first = self.join(&names::program(Hook::Egress));
        let mut removed = usize::from(fs::remove_file(first).is_ok());
        for (name, path) in self.ours()? {
            removed += remove(&name, &path)?;
        }
        Ok(removed)
    }

    /// Removes all pins of ours, and the directory if that leaves it empty. Returns how many pins were
    /// removed.
    ///
    /// # Errors
    /// If a pin can't be removed.
    pub fn remove_all(&self) -> Result<usize> {
        let removed = self.remove_pins()?;
        // A mount point, or a folder with pins of others, stays.
        let _ = fs::remove_dir(self.path());
        Ok(removed)
    }

    /// Removes all that redirection has pinned.
    ///
    /// # Errors
    /// If a pin can't be removed.
    pub fn remove_redirect(&self) -> Result<()> {
        for (name, path) in self.ours()? {
            if names::is_redirects(&name) {
                remove(&name, &path)?;
            }
        }
        Ok(())
    }

    /// Leaves word of why nothing is attached, for the sidecar: a symbolic link whose target is the
    /// text, since a bpffs has no other files.
    ///
    /// # Errors
    /// If the word can't be left.
    pub fn say_failure(&self, reason: &str) -> io::Result<()> {
        // The longest target that there can be, less the NUL: symlink(2).
        let mut end = reason.len().min(4095);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        self.clear_failure();
        symlink(&reason[..end], self.join(names::FAILURE))
    }

    /// Leaves word of what is observed, for the sidecar, as [`Self::say_failure`] does of a failure.
    ///
    /// # Errors
    /// If the word can't be left.
    pub fn say_observed(&self, observed: &Observed) -> io::Result<()> {
        let path = self.join(names::OBSERVED);
        if self.observed().as_ref() == Some(observed) {
            return Ok(());
        }
        let _ = fs::remove_file(&path);
        symlink(serde_json::to_string(observed)?, path)
    }

    /// Removes the word that [`Self::say_failure`] has left.
    pub fn clear_failure(&self) {
        let _ = fs::remove_file(self.join(names::FAILURE));
    }
}

fn pin_maps(skel: &MetricdSkel, names: &[&str], folder: &Path) -> Result<()> {
    for map in skel.object().maps() {
        let name = map.name().to_string_lossy();
        let name = pin_name(&name);
        if names.contains(&name) {
            pin::pin(map.as_fd(), &folder.join(name))?;
        }
    }
    Ok(())
}

/// Removes a pin, or a folder of pins. Returns how many pins were removed.
fn remove(name: &str, path: &Path) -> Result<usize> {
    if names::is_epoch(name) || (names::is_redirects(name) && path.is_dir()) {
        return pin::remove_folder(path);
    }
    fs::remove_file(path).with_context(|| format!("remove {}", path.display()))?;
    Ok(1)
}
