//! The program that the kernel asks when it looks for a listener, attached to the network namespace
//! (`BPF_SK_LOOKUP`, kernel 5.9).

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use libbpf_rs::Link;
use libbpf_rs::query::LinkTypeInfo;

use crate::netns;
use crate::sys;

/// Goes with the others that are pinned so.
fn path(dir: &Path) -> PathBuf {
    dir.join("linkerd_redirect_listener_link_netns")
}

/// Lets it run in the namespace that the thread is in, in the place of the one there.
///
/// # Errors
/// With what was tried.
pub fn attach(dir: &Path, program: BorrowedFd) -> Result<()> {
    let path = path(dir);
    if let Some(link) = running(&path)? {
        return sys::link_update(link.as_fd(), program)
            .context("switch the program that the kernel asks for listeners");
    }
    // Of an earlier sandbox of the same pod.
    let _ = fs::remove_file(&path);
    let netns = File::open(netns::CURRENT).with_context(|| format!("open {}", netns::CURRENT))?;
    let link = sys::netns_attach(program, netns.as_fd())
        .context("let the kernel ask a program for listeners")?;
    sys::pin(link.as_fd(), &path).with_context(|| format!("pin the link as {}", path.display()))
}

fn running(path: &Path) -> Result<Option<Link>> {
    if !path.exists() {
        return Ok(None);
    }
    let open = || format!("open the pinned link {}", path.display());
    let link = Link::open(path).with_context(open)?;
    let info = link.info().with_context(open)?;
    let here = netns::inode()?;
    let is_here = matches!(info.info, LinkTypeInfo::NetNs(info) if u64::from(info.ino) == here);
    Ok(is_here.then_some(link))
}
