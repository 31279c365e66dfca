//! What lies in the pin directory, and the directory itself.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statfs::{FsType, statfs};

use crate::attach::Owner;
use crate::sys::{self, Hook};

/// linux/magic.h
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

const EPOCH: &str = "linkerd_epoch_";
const REDIRECT: &str = "linkerd_redirect_";
const FAILURE: &str = "linkerd_failure";
/// What is added to a name on its way to becoming that name's.
const NEXT: &str = "_next";

/// The pin of a program.
pub fn program(hook: Hook) -> String {
    format!("linkerd_{}", hook.name())
}

/// The pin of a program that is about to take the other's place. Of interrupted runs there may be
/// some, and each may be one that runs somewhere: `number` tells them apart.
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

/// The folders of all such sets, by number.
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

/// All such folders, by number: more than one after a run that was interrupted.
///
/// # Errors
/// If the pin directory can't be listed.
pub fn redirects(dir: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    match numbered(dir, REDIRECT) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        folders => folders,
    }
}

/// Where such a folder is filled, before it becomes visible as a whole.
pub fn next_redirect(dir: &Path) -> PathBuf {
    dir.join(format!("{REDIRECT}{NEXT}"))
}

/// Whether the loopback accepts local addresses since redirection needs it: a symbolic link.
pub fn redirect_note(dir: &Path) -> PathBuf {
    dir.join(format!("{REDIRECT}accept_local"))
}

/// Removes all that redirection has pinned. Returns how many pins that were.
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

/// Nobody else changes what is in a pin directory while this lives.
pub struct Lock(#[allow(dead_code)] Flock<File>);

/// How long another run may hold the lock: an attach takes a second, under emulation a minute.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Makes the pin directory, for the reader's group to search, and locks it. One that is there
/// stays as it is.
///
/// # Errors
/// If it is not on a bpffs, can't be given to the group, or another run does not end.
pub fn prepare(dir: &Path, reader_gid: u32) -> Result<Lock> {
    loop {
        make(dir, reader_gid)?;
        // It may have been removed by another run before it was locked.
        if let Some(lock) = lock(dir, PATIENCE)? {
            return Ok(lock);
        }
    }
}

/// Locks the pin directory. `None` if there is none.
///
/// # Errors
/// If another run has it for longer than `patience`.
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

/// The kind of file system that `dir`, or the nearest folder above it that there is, lies on.
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
    // Beside it first: a run that is killed in between must not leave one that is nobody's.
    let mut next = dir.as_os_str().to_owned();
    next.push(NEXT);
    let next = Path::new(&next);
    let _ = fs::remove_dir(next);
    let made = make_readable(next, reader_gid).and_then(|()| {
        fs::rename(next, dir).with_context(|| format!("make pin directory {}", dir.display()))
    });
    match made {
        // By another run, just now.
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

/// Of an iterator that a group may read: nobody writes to it.
pub const ITERATOR_MODE: u32 = 0o440;
/// Of a map that a group may read: its owner writes to it, who need not be almighty in a container.
pub const MAP_MODE: u32 = 0o640;

/// Lets a group read a pin, and nobody else but root.
pub fn let_read(path: &Path, gid: u32, mode: u32) -> Result<()> {
    chown(path, None, Some(gid))
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .with_context(|| format!("let group {gid} read {}", path.display()))
}

/// Pins a map or program.
pub fn pin(object: BorrowedFd, path: &Path) -> Result<()> {
    sys::pin(object, path).with_context(|| format!("pin {}", path.display()))
}

/// Gives a pin another's name, whose own goes.
pub fn rename(dir: &Path, from: &str, to: &str) -> Result<()> {
    fs::rename(dir.join(from), dir.join(to))
        .with_context(|| format!("rename {from} to {to} in {}", dir.display()))
}

/// Makes the names in `dir` lead to what has them in an epoch's folder, wherever they led before.
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

/// Removes all pins of ours, and the directory if that leaves it empty. Returns how many.
///
/// # Errors
/// If one can't be removed; likewise below.
pub fn remove_all(dir: &Path) -> Result<usize> {
    let removed = remove_pins(dir)?;
    // A mount point, or a folder with pins of others, stays.
    let _ = fs::remove_dir(dir);
    Ok(removed)
}

/// Removes all pins of ours. Returns how many.
pub fn remove_pins(dir: &Path) -> Result<usize> {
    // Without it nothing counts as attached: see init.rs.
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

/// Removes it, when no program of it runs any more.
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

/// Takes it back.
pub fn clear_failure(dir: &Path) {
    let _ = fs::remove_file(dir.join(FAILURE));
}

/// What the last run has left word of.
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
