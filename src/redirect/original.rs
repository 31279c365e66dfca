//! The program that answers SO_ORIGINAL_DST, attached to a cgroup (kernel 5.7).

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use libbpf_rs::Link;

use crate::kernel::sys;

/// The pin of the link, which goes with the other pinned links.
fn path(dir: &Path) -> PathBuf {
    dir.join("linkerd_redirect_original_link_cgroup")
}

/// Whether the program is attached.
pub fn exists(dir: &Path) -> bool {
    path(dir).exists()
}

/// Lets the program answer to the processes of a cgroup, in the place of one that does.
///
/// # Errors
/// With what was tried on what.
pub fn attach(dir: &Path, cgroup: &Path, program: BorrowedFd) -> Result<()> {
    let path = path(dir);
    // The link of another cgroup goes with its pin.
    let _ = fs::remove_file(&path);
    let context = || format!("answer SO_ORIGINAL_DST in cgroup {}", cgroup.display());
    let folder = File::open(cgroup).with_context(context)?;
    let link = sys::cgroup_attach(program, folder.as_fd())
        .with_context(|| format!("{} (it must be of a cgroup2 file system)", context()))?;
    sys::pin(link.as_fd(), &path).with_context(|| format!("pin the link as {}", path.display()))
}

/// Lets another program answer in the place of the one that is attached.
///
/// # Errors
/// With what was tried.
pub fn switch(dir: &Path, program: BorrowedFd) -> Result<()> {
    let path = path(dir);
    let link = Link::open(&path).with_context(|| format!("open {}", path.display()))?;
    sys::link_update(link.as_fd(), program).context("switch what answers SO_ORIGINAL_DST")
}
