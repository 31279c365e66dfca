//! What lies in the pin directory: the names of pins, and in which order they come and go.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::kernel::hook::Hook;
use crate::kernel::hook::Owner;
use crate::kernel::sys;

const EPOCH: &str = "linkerd_epoch_";
const REDIRECT: &str = "linkerd_redirect_";
const FAILURE: &str = "linkerd_failure";
/// What is added to the name of a pin on its way to becoming that name's.
pub const NEXT: &str = "_next";

/// The pin of a program.
pub fn program(hook: Hook) -> String {
    format!("linkerd_{}", hook.name())
}

/// The pin of a program that is about to take the place of [`program`]. Interrupted runs may have
/// left some, and each may run somewhere: `number` tells them apart.
pub fn next_program(hook: Hook, number: u32) -> String {
    format!("{}_{number}{NEXT}", program(hook))
}

/// Whether this is the pin of a program that is about to take another's place.
pub fn is_program(name: &str) -> bool {
    let is_of = |hook| name.starts_with(&program(hook));
    name.ends_with(NEXT) && Hook::BOTH.into_iter().any(is_of)
}

/// The pin of a TCX link: by index, for bpffs allows no dot in a name and interfaces may have one.
pub fn link(owner: Owner, hook: Hook, ifindex: u32) -> String {
    let prefix = match owner {
        Owner::Observer => "linkerd_",
        Owner::Redirect => REDIRECT,
    };
    format!("{prefix}{}_link_{ifindex}", hook.name())
}

/// The folder of a set of exported maps and their iterators.
pub fn epoch(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{EPOCH}{number}"))
}

/// The folders of all epochs, by number.
///
/// # Errors
/// If the pin directory can't be listed.
pub fn epochs(dir: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    numbered(dir, EPOCH)
}

fn numbered(dir: &Path, prefix: &str) -> io::Result<Vec<(u32, PathBuf)>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(prefix));
        if let Some(Ok(number)) = number.map(str::parse) {
            folders.push((number, entry.path()));
        }
    }
    folders.sort();
    Ok(folders)
}

/// The folder of the programs that redirect, and of what they are configured by.
pub fn redirect(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{REDIRECT}{number}"))
}

/// The folders of programs that redirect, by number: more than one after a run that was
/// interrupted.
///
/// # Errors
/// If the pin directory can't be listed.
pub fn redirects(dir: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    match numbered(dir, REDIRECT) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        folders => folders,
    }
}

/// Where a folder of programs that redirect is filled, before it becomes visible as a whole.
pub fn next_redirect(dir: &Path) -> PathBuf {
    dir.join(format!("{REDIRECT}{NEXT}"))
}

/// The note that the loopback accepts local addresses because redirection needs that: a symbolic
/// link.
pub fn redirect_note(dir: &Path) -> PathBuf {
    dir.join(format!("{REDIRECT}accept_local"))
}

/// Removes all that redirection has pinned. Returns how many pins were removed.
///
/// # Errors
/// If one can't be removed.
pub fn remove_redirect(dir: &Path) -> Result<usize> {
    let mut removed = 0;
    for (name, path) in ours(dir)? {
        if name.starts_with(REDIRECT) {
            removed += remove(&name, &path)?;
        }
    }
    Ok(removed)
}

/// Where an epoch's folder is filled, before it becomes visible as a whole.
pub fn next_epoch(dir: &Path) -> PathBuf {
    dir.join(format!("{EPOCH}{NEXT}"))
}

/// Whether a name in the pin directory is one of ours.
pub fn is_ours(name: &str) -> bool {
    name.starts_with(EPOCH)
        || name.starts_with(REDIRECT)
        || name == FAILURE
        || (name.starts_with("linkerd_")
            && (name.ends_with("_map")
                || name.ends_with("_map_iter")
                || name.ends_with(NEXT)
                || Hook::BOTH.iter().any(|&hook| {
                    name == program(hook) || name.starts_with(&format!("{}_link_", program(hook)))
                })))
}

/// Pins a map or program.
pub fn pin(object: BorrowedFd, path: &Path) -> Result<()> {
    sys::pin(object, path).with_context(|| format!("pin {}", path.display()))
}

/// Gives the pin `from` the name `to`. A pin that had this name goes.
pub fn rename(dir: &Path, from: &str, to: &str) -> Result<()> {
    fs::rename(dir.join(from), dir.join(to))
        .with_context(|| format!("rename {from} to {to} in {}", dir.display()))
}

/// Makes names in `dir` lead to the pins with these names in an epoch's folder, wherever they led
/// before.
pub fn point(dir: &Path, epoch: &Path) -> Result<()> {
    let next = dir.join(format!("linkerd_map{NEXT}"));
    let folder = Path::new(epoch.file_name().unwrap_or_default());
    for (name, _) in ours(epoch)? {
        let target = folder.join(&name);
        let _ = fs::remove_file(&next);
        symlink(&target, &next)
            .and_then(|()| fs::rename(&next, dir.join(&name)))
            .with_context(|| {
                format!("point {name} in {} to {}", dir.display(), target.display())
            })?;
    }
    Ok(())
}

/// Removes all pins of ours, and the directory if that leaves it empty. Returns how many pins were
/// removed.
///
/// # Errors
/// If a pin can't be removed.
pub fn remove_all(dir: &Path) -> Result<usize> {
    let removed = remove_pins(dir)?;
    // A mount point, or a folder with pins of others, stays.
    let _ = fs::remove_dir(dir);
    Ok(removed)
}

/// Removes all pins of ours. Returns how many pins were removed.
///
/// # Errors
/// If a pin can't be removed.
pub fn remove_pins(dir: &Path) -> Result<usize> {
    // Without this pin nothing counts as attached: see [`crate::lifecycle`].
    let first = dir.join(program(Hook::Egress));
    let mut removed = usize::from(fs::remove_file(first).is_ok());
    for (name, path) in ours(dir)? {
        removed += remove(&name, &path)?;
    }
    Ok(removed)
}

/// Names and paths of what an interrupted run has left on its way to something else.
///
/// # Errors
/// If the pin directory can't be listed.
pub fn next(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut next = ours(dir)?;
    next.retain(|(name, _)| name.ends_with(NEXT) && !name.starts_with(REDIRECT));
    Ok(next)
}

/// Removes what [`next`] names, when none of its programs runs any more.
///
/// # Errors
/// If a pin can't be removed.
pub fn remove_next(dir: &Path) -> Result<()> {
    for (name, path) in next(dir)? {
        remove(&name, &path)?;
    }
    Ok(())
}

fn remove(name: &str, path: &Path) -> Result<usize> {
    let context = || format!("remove {}", path.display());
    if name.starts_with(EPOCH) || (name.starts_with(REDIRECT) && path.is_dir()) {
        return remove_folder(path);
    }
    fs::remove_file(path).with_context(context)?;
    Ok(1)
}

/// Removes an epoch's folder. Returns how many pins were in it.
///
/// # Errors
/// If something in it can't be removed.
pub fn remove_folder(path: &Path) -> Result<usize> {
    let context = || format!("remove {}", path.display());
    let mut removed = 0;
    for entry in fs::read_dir(path).with_context(context)? {
        fs::remove_file(entry.with_context(context)?.path()).with_context(context)?;
        removed += 1;
    }
    fs::remove_dir(path).with_context(context)?;
    Ok(removed)
}

/// Names and paths of an owner's pinned TCX links.
///
/// # Errors
/// If the pin directory can't be listed.
pub fn links(dir: &Path, owner: Owner) -> Result<Vec<(String, PathBuf)>> {
    let mut links = ours(dir)?;
    links.sort();
    let is_of = |name: &str| name.starts_with(REDIRECT) == (owner == Owner::Redirect);
    links.retain(|(name, _)| name.contains("_link_") && is_of(name));
    Ok(links)
}

/// Leaves word of why nothing is attached, for the sidecar: a symbolic link whose target is the
/// text, since a bpffs has no other files.
///
/// # Errors
/// If there is no folder to leave it in.
pub fn say_failure(dir: &Path, reason: &str) -> io::Result<()> {
    // The longest target that there can be, less the NUL: symlink(2).
    let mut end = reason.len().min(4095);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let path = dir.join(FAILURE);
    let _ = fs::remove_file(&path);
    symlink(&reason[..end], path)
}

/// Removes the word that [`say_failure`] has left.
pub fn clear_failure(dir: &Path) {
    let _ = fs::remove_file(dir.join(FAILURE));
}

/// The text that [`say_failure`] has left, if there is any.
pub fn failure(dir: &Path) -> Option<String> {
    let reason = fs::read_link(dir.join(FAILURE)).ok()?;
    Some(reason.to_string_lossy().into_owned())
}

/// The pinned maps, but for those in folders of their own.
///
/// # Errors
/// If the pin directory can't be listed.
pub fn maps(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut maps = ours(dir)?;
    maps.retain(|(name, path)| name.ends_with("_map") && !path.is_symlink());
    Ok(maps.into_iter().map(|(_, path)| path).collect())
}

/// Names and paths of what is ours in the pin directory.
fn ours(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("list pin directory {}", dir.display()))?,
    };
    let mut ours = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("list pin directory {}", dir.display()))?;
        if let Ok(name) = entry.file_name().into_string()
            && is_ours(&name)
        {
            ours.push((name, entry.path()));
        }
    }
    Ok(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names_are_ours() {
        for ours in [
            "linkerd_metrics_map",
            "linkerd_metrics_map_iter",
            "linkerd_ingress",
            "linkerd_ingress_3_next",
            "linkerd_egress_link_2",
            "linkerd_epoch_7",
            "linkerd_epoch__next",
            "linkerd_redirect_1",
            "linkerd_redirect_map",
            "linkerd_redirect_egress_link_2",
        ] {
            assert!(is_ours(ours), "{ours}");
        }
        for other in ["tc", "cilium_lxc", "linkerd_ingress.old", "metrics_map"] {
            assert!(!is_ours(other), "{other}");
        }
    }
}
