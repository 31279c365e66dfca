//! What lies in the pin directory, and the directory itself.

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::sys::statfs::{FsType, statfs};

use crate::sys::Hook;

/// linux/magic.h
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// The pin of a program.
pub fn program(hook: Hook) -> String {
    format!("linkerd_{}", hook.name())
}

/// The pin of a TCX link: by index, for bpffs allows no dot in a name and interfaces may have one.
pub fn link(hook: Hook, ifindex: u32) -> String {
    format!("linkerd_{}_link_{ifindex}", hook.name())
}

/// Whether a name in the pin directory is one of ours.
pub fn is_ours(name: &str) -> bool {
    name.starts_with("linkerd_")
        && (name.ends_with("_map")
            || name.ends_with("_map_iter")
            || Hook::BOTH.iter().any(|&hook| {
                name == program(hook) || name.starts_with(&format!("linkerd_{}_link_", hook.name()))
            }))
}

/// Makes the pin directory, for the reader's group to search. One that is there stays as it is.
///
/// # Errors
/// If it is not on a bpffs, or can't be given to the group.
pub fn prepare(dir: &Path, reader_gid: u32) -> Result<()> {
    let existing = dir
        .ancestors()
        .find(|ancestor| ancestor.exists())
        .unwrap_or(Path::new("/"));
    let kind = statfs(existing)
        .with_context(|| format!("look at the file system of {}", existing.display()))?
        .filesystem_type();
    if kind != FsType(BPF_FS_MAGIC) {
        bail!(
            "pin directory {} is not on a bpffs: mount one (mount -t bpf bpf /sys/fs/bpf), or name \
             another by --pin-dir",
            dir.display()
        );
    }
    if existing == dir {
        return Ok(());
    }
    // Folders above are shared by pods whose readers may differ; only the last is the reader's.
    let parent = dir.parent().unwrap_or(existing);
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(parent)
        .and_then(|()| DirBuilder::new().mode(0o750).create(dir))
        .with_context(|| format!("make pin directory {}", dir.display()))?;
    chown(dir, None, Some(reader_gid)).with_context(|| {
        // Nothing is in it yet: another start makes it anew.
        let _ = fs::remove_dir(dir);
        format!(
            "give {} to group {reader_gid} (run as that group, or with CAP_CHOWN)",
            dir.display()
        )
    })
}

/// Lets a group read an iterator, and nobody else but root.
pub fn let_read(path: &Path, gid: u32) -> Result<()> {
    chown(path, None, Some(gid))
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o440)))
        .with_context(|| format!("let group {gid} read {}", path.display()))
}

/// Removes all pins of ours, and the directory if that leaves it empty. Returns how many.
pub fn remove_all(dir: &Path) -> Result<usize> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(0),
        entries => entries.with_context(|| format!("list pin directory {}", dir.display()))?,
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(is_ours) {
            let path = entry.path();
            fs::remove_file(&path).with_context(|| format!("remove pin {}", path.display()))?;
            removed += 1;
        }
    }
    // A mount point, or a folder with pins of others, stays.
    let _ = fs::remove_dir(dir);
    Ok(removed)
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
            "linkerd_egress_link_2",
        ] {
            assert!(is_ours(ours), "{ours}");
        }
        for other in ["tc", "cilium_lxc", "linkerd_ingress.old", "metrics_map"] {
            assert!(!is_ours(other), "{other}");
        }
    }
}
