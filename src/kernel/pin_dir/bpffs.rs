//! Where a pin directory may lie, and how it is made.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::sys::statfs::{FsType, statfs};

use super::names::NEXT;

/// The magic number of bpffs, from linux/magic.h.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// Whether a path lies on a bpffs.
///
/// # Errors
/// If there is no such path.
pub fn is_bpffs(path: &Path) -> Result<bool> {
    let kind = statfs(path)
        .with_context(|| format!("look at the file system of {}", path.display()))?
        .filesystem_type();
    Ok(kind == FsType(BPF_FS_MAGIC))
}

/// Makes a pin directory, for a group to search. A directory that is there already stays as it is.
pub fn make(dir: &Path, reader_gid: u32) -> Result<()> {
    if !on_bpffs(dir)? {
        bail!(
            "pin directory {} is not on a bpffs: mount one (mount -t bpf bpf /sys/fs/bpf), or name \
             another by --pin-dir",
            dir.display()
        );
    }
    if dir.exists() {
        return Ok(());
    }
    // Folders above are shared by pods whose readers may differ; only the last is the reader's.
    if let Some(parent) = dir.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(parent)
            .with_context(|| format!("make {} for pins", parent.display()))?;
    }
    // The directory is made under another name first: a run that is killed in between must not
    // leave one that is not the reader's.
    let mut next = dir.as_os_str().to_owned();
    next.push(NEXT);
    let next = Path::new(&next);
    let _ = fs::remove_dir(next);
    let made = make_readable(next, reader_gid).and_then(|()| {
        fs::rename(next, dir).with_context(|| format!("make pin directory {}", dir.display()))
    });
    match made {
        // Another run has made the directory just now.
        Err(_) if dir.exists() => Ok(()),
        result => result,
    }
}

/// Whether `dir`, or the nearest folder above it that there is, lies on a bpffs.
fn on_bpffs(dir: &Path) -> Result<bool> {
    let existing = dir
        .ancestors()
        .find(|ancestor| ancestor.exists())
        .unwrap_or(Path::new("/"));
    is_bpffs(existing)
}

/// Makes a folder that a group may list and search.
pub fn make_readable(dir: &Path, gid: u32) -> Result<()> {
    DirBuilder::new().mode(0o750).create(dir).map_err(|e| {
        // Seen in a guest: docker-default and its like let nobody write below /sys/fs/ but cgroups.
        let confined = e.kind() == ErrorKind::PermissionDenied && dir.starts_with("/sys");
        let hint = match confined {
            true => {
                " (containers' AppArmor profiles deny it below /sys: mount the bpffs elsewhere)"
            }
            false => "",
        };
        anyhow::Error::from(e).context(format!("make pin directory {}{hint}", dir.display()))
    })?;
    chown(dir, None, Some(gid)).with_context(|| {
        // Nothing is in it yet: another start makes it anew.
        let _ = fs::remove_dir(dir);
        format!(
            "give {} to group {gid} (run as that group, or with CAP_CHOWN)",
            dir.display()
        )
    })
}
