//! What redirection has in the pin directory: a folder of programs and what they are configured by,
//! the map that these take over from each other, and a note.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Context, Result};
use libbpf_rs::MapHandle;

use super::lock::LockedPinDir;
use super::look::PinDir;
use super::{names, pin};

/// The pins of the programs, which are called as the programs are: for what comes from outside, for
/// what goes there, and for what is led to the loopback.
pub const PROGRAMS: [&str; 3] = [
    "linkerd_redirect_inbound",
    "linkerd_redirect_outbound",
    "linkerd_redirect_loopback",
];
/// The program for cgroups, where it is asked for.
pub const ORIGINAL: &str = "linkerd_redirect_original";
/// The configuration, which has another name where the compiler puts it.
pub const CONFIG: &str = "linkerd_redirect_config_map";
/// The subnets that are skipped.
pub const SUBNETS: &str = "linkerd_redirect_subnets_map";
/// The map that knows which sockets' connections the proxy has taken: programs take the map over
/// from each other.
const SOCKETS: &str = "linkerd_redirect_map";

/// A folder of programs that redirect, and of what they are configured by.
#[derive(Clone, Debug)]
pub struct RedirectDir {
    pub number: u32,
    path: PathBuf,
}

impl RedirectDir {
    /// Opens one of [`PROGRAMS`].
    ///
    /// # Errors
    /// If the program can't be opened.
    pub fn program(&self, name: &str) -> Result<OwnedFd> {
        pin::program(&self.path.join(name))
    }

    /// Opens the program for cgroups, if there is one.
    ///
    /// # Errors
    /// If the program can't be opened.
    pub fn original(&self) -> Result<Option<OwnedFd>> {
        let path = self.path.join(ORIGINAL);
        path.exists().then(|| pin::program(&path)).transpose()
    }

    /// Where [`CONFIG`] or [`SUBNETS`] is pinned.
    pub fn map_path(&self, map: &str) -> PathBuf {
        self.path.join(map)
    }

    /// Opens [`CONFIG`] or [`SUBNETS`].
    ///
    /// # Errors
    /// If the map can't be opened.
    pub fn map(&self, map: &str) -> Result<MapHandle> {
        pin::any_map(&self.map_path(map))
    }
}

impl PinDir {
    /// The folders of programs that redirect, by number: more than one after a run that was
    /// interrupted.
    ///
    /// # Errors
    /// If the directory can't be listed.
    pub fn redirects(&self) -> io::Result<Vec<RedirectDir>> {
        let folders = match self.numbered(names::redirect_number) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            folders => folders?,
        };
        let redirect = |(number, path)| RedirectDir { number, path };
        Ok(folders.into_iter().map(redirect).collect())
    }

    /// Where the map is pinned that knows which sockets' connections the proxy has taken.
    pub fn sockets_path(&self) -> PathBuf {
        self.join(SOCKETS)
    }

    /// Whether there is a note that the loopback accepts local addresses because redirection needs
    /// that.
    pub fn has_redirect_note(&self) -> bool {
        self.join(names::REDIRECT_NOTE).is_symlink()
    }
}

impl LockedPinDir {
    /// Pins the map that knows which sockets' connections the proxy has taken.
    ///
    /// # Errors
    /// With the path that can't be pinned.
    pub fn pin_sockets(&self, map: BorrowedFd) -> Result<()> {
        pin::pin(map, &self.sockets_path())
    }

    /// Pins programs and maps by their names in a folder of their own, which appears as a whole.
    ///
    /// # Errors
    /// With the path that can't be made, pinned or renamed.
    pub fn publish_redirect(&self, number: u32, objects: &[(&str, BorrowedFd)]) -> Result<()> {
        let next = self.join(&names::next_redirect());
        if next.exists() {
            pin::remove_folder(&next)?;
        }
        fs::create_dir(&next).with_context(|| format!("make {}", next.display()))?;
        for (name, object) in objects {
            pin::pin(*object, &next.join(name))?;
        }
        let folder = self.join(&names::redirect(number));
        fs::rename(&next, &folder)
            .with_context(|| format!("rename {} to {}", next.display(), folder.display()))
    }

    /// Removes the folder of a number.
    ///
    /// # Errors
    /// If something in it can't be removed.
    pub fn remove_redirect_folder(&self, number: u32) -> Result<()> {
        pin::remove_folder(&self.join(&names::redirect(number))).map(drop)
    }

    /// Leaves a note that the loopback accepts local addresses because redirection needs that: a
    /// symbolic link.
    ///
    /// # Errors
    /// If the note can't be left.
    pub fn leave_redirect_note(&self) -> Result<()> {
        symlink("0", self.join(names::REDIRECT_NOTE))
            .with_context(|| format!("leave a note in {self}"))
    }
}
