//! The program that answers SO_ORIGINAL_DST, attached to a cgroup (kernel 5.7).

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use anyhow::{Context, Result};
use libbpf_rs::Link;

use crate::kernel::pin_dir::{LinkPin, LockedPinDir};
use crate::kernel::sys;

/// Whether the program is attached.
pub fn exists(dir: &LockedPinDir) -> bool {
    dir.link_path(LinkPin::Original).exists()
}

/// Lets the program answer to the processes of a cgroup, in the place of one that does.
///
/// # Errors
/// With what was tried on what.
pub fn attach(dir: &LockedPinDir, cgroup: &Path, program: BorrowedFd) -> Result<()> {
    // The link of another cgroup goes with its pin.
    dir.remove_link(LinkPin::Original);
    let context = || format!("answer SO_ORIGINAL_DST in cgroup {}", cgroup.display());
    let folder = File::open(cgroup).with_context(context)?;
    let link = sys::cgroup_attach(program, folder.as_fd())
        .with_context(|| format!("{} (it must be of a cgroup2 file system)", context()))?;
    dir.pin_link(LinkPin::Original, link.as_fd())
}

/// Lets another program answer in the place of the one that is attached.
///
/// # Errors
/// With what was tried.
pub fn switch(dir: &LockedPinDir, program: BorrowedFd) -> Result<()> {
    let path = dir.link_path(LinkPin::Original);
    let link = Link::open(&path).with_context(|| format!("open {}", path.display()))?;
    sys::link_update(link.as_fd(), program).context("switch what answers SO_ORIGINAL_DST")
}
