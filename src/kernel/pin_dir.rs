//! The pin directory itself: where it may lie, who may look into it, and that one run at a time changes
//! what is in it.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statfs::{FsType, statfs};

use crate::kernel::pins::NEXT;

/// The magic number of bpffs, from linux/magic.h.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// Nobody else changes what is in a pin directory while this lives.
pub struct Lock(#[allow(dead_code)] Flock<File>);

/// How long another run may hold the lock: an attach takes a second, under emulation a minute.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Makes the pin directory, for the reader's group to search, and locks it. A directory that is
/// there already stays as it is.
///
/// # Errors
/// If the directory is not on a bpffs, can't be given to the group, or another run does not end.
pub fn prepare(dir: &Path, reader_gid: u32) -> Result<Lock> {
    loop {
        make(dir, reader_gid)?;
        // Another run may have removed the directory before it was locked.
        if let Some(lock) = lock(dir, PATIENCE)? {
            return Ok(lock);
        }
    }
}

/// Locks the pin directory. `None` if there is no such directory.
///
/// # Errors
/// If another run holds the lock for longer than `patience`.
pub fn lock(dir: &Path, patience: Duration) -> Result<Option<Lock>> {
    let context = || format!("lock pin directory {}", dir.display());
    let mut file = match File::open(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.with_context(context)?,
    };
    let inode = file.metadata().with_context(context)?.ino();
    let deadline = Instant::now() + patience;
    let lock = loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => break lock,
            Err((_, errno)) if errno != Errno::EWOULDBLOCK => {
                return Err(errno).with_context(context);
            }
            Err(_) if Instant::now() > deadline => {
                return Err(anyhow!(
                    "another metricd-init or linkerd-metricd is at work in it"
                ))
                .with_context(context);
            }
            Err((back, _)) => file = back,
        }
        thread::sleep(Duration::from_millis(20));
    };
    match fs::metadata(dir) {
        Ok(there) if there.ino() == inode => Ok(Some(Lock(lock))),
        _ => Ok(None),
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

fn make(dir: &Path, reader_gid: u32) -> Result<()> {
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

/// The group that may read what is in a folder.
pub fn reader(dir: &Path) -> Option<u32> {
    Some(fs::metadata(dir).ok()?.gid())
}

/// The mode of an iterator that a group may read: nobody writes to it.
pub const ITERATOR_MODE: u32 = 0o440;
/// The mode of a map that a group may read: the owner writes to the map, who need not be almighty
/// in a container.
pub const MAP_MODE: u32 = 0o640;

/// Lets a group read a pin, and nobody else but root.
pub fn let_read(path: &Path, gid: u32, mode: u32) -> Result<()> {
    chown(path, None, Some(gid))
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .with_context(|| format!("let group {gid} read {}", path.display()))
}
