//! A single pin: how it is made, opened and given to a group.

use std::fs::{self, Permissions};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use anyhow::{Context, Result, bail};
use libbpf_rs::{MapCore, MapHandle, Program};

use crate::kernel::sys;

/// The mode of an iterator that a group may read: nobody writes to it.
pub const ITERATOR_MODE: u32 = 0o440;
/// The mode of a map that a group may read: the owner writes to the map, who need not be almighty
/// in a container.
pub const MAP_MODE: u32 = 0o640;

/// Pins a map or program.
pub fn pin(object: BorrowedFd, path: &Path) -> Result<()> {
    sys::pin(object, path).with_context(|| format!("pin {}", path.display()))
}

/// Lets a group read a pin, and nobody else but root.
pub fn let_read(path: &Path, gid: u32, mode: u32) -> Result<()> {
    chown(path, None, Some(gid))
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .with_context(|| format!("let group {gid} read {}", path.display()))
}

/// Opens a pinned program.
pub fn program(path: &Path) -> Result<OwnedFd> {
    Program::fd_from_pinned_path(path)
        .with_context(|| format!("open the pinned program {}", path.display()))
}

/// Opens a pinned map of ours.
pub fn map(path: &Path) -> Result<MapHandle> {
    let map = any_map(path)?;
    let called = map.name().to_string_lossy();
    if !is_ours(path, &called) {
        bail!(
            "{} is not ours but a map called {called}: remove it, or name another --pin-dir",
            path.display()
        );
    }
    Ok(map)
}

/// Opens a pinned map, whatever it is called.
pub fn any_map(path: &Path) -> Result<MapHandle> {
    MapHandle::from_pinned_path(path)
        .with_context(|| format!("open the pinned map {}", path.display()))
}

/// Whether a pinned object has the name that its pin says, of which the kernel keeps 15 bytes.
fn is_ours(path: &Path, called: &str) -> bool {
    let pin = path.file_name().unwrap_or_default().to_string_lossy();
    called.len() >= 15 && pin.starts_with(&called[..15])
}

/// Removes a folder of pins. Returns how many pins were in it.
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
