//! Entering the pod's network namespace, and finding those of this machine.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

/// Where the network namespace of a process is.
pub fn of_pid(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/net"))
}

/// Moves the calling thread into the network namespace at `path`.
///
/// # Errors
/// If there is no namespace at `path`, or the right to enter it (CAP_SYS_ADMIN) is missing.
pub fn enter(path: &Path) -> Result<()> {
    let file =
        File::open(path).with_context(|| format!("open network namespace {}", path.display()))?;
    enter_opened(&file, path)
}

fn enter_opened(file: &File, path: &Path) -> Result<()> {
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| {
        format!(
            "enter network namespace {} (it takes CAP_SYS_ADMIN)",
            path.display()
        )
    })
}

/// What tells the network namespace that the thread is in from all others that there are now.
///
/// # Errors
/// If /proc is not mounted.
pub fn inode() -> Result<u64> {
    let path = "/proc/thread-self/ns/net";
    let metadata = fs::metadata(path).with_context(|| format!("look at {path}"))?;
    Ok(metadata.ino())
}

/// The network namespaces of this machine, as far as they can be seen from here.
pub struct All {
    /// All the paths at which a namespace was seen.
    by_inode: BTreeMap<u64, Vec<PathBuf>>,
    /// Why there may be namespaces that were not found.
    hidden: Option<String>,
}

/// The inode of the first PID namespace, in every kernel (PROC_PID_INIT_INO of linux/proc_ns.h).
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// All network namespaces that a process is in, or that are mounted somewhere, as container
/// runtimes and ip(8) do.
pub fn all() -> All {
    let mut by_inode: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    let mut hidden = None;
    if !fs::metadata("/proc/self/ns/pid").is_ok_and(|ns| ns.ino() == FIRST_PID_NAMESPACE) {
        hidden = Some("this is not the host's PID namespace".to_owned());
    }
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        // The first process is the host's own.
        let Some(Ok(2..)) = entry.file_name().to_str().map(str::parse::<u32>) else {
            continue;
        };
        let path = entry.path().join("ns/net");
        match fs::metadata(&path) {
            Ok(metadata) => {
                by_inode.entry(metadata.ino()).or_default().push(path);
            }
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                hidden = Some(format!("{} can't be read", path.display()));
            }
            // The process has ended meanwhile.
            Err(_) => {}
        }
    }
    for (mounts, root) in [
        ("/proc/self/mountinfo", "/"),
        ("/proc/1/mountinfo", "/proc/1/root"),
    ] {
        for line in fs::read_to_string(mounts).unwrap_or_default().lines() {
            // "55 22 0:4 net:[4026532177] /run/netns/a rw … - nsfs nsfs rw": proc_pid_mountinfo(5).
            let mut words = line.split(' ').skip(3);
            if let (Some(mounted), Some(at)) = (words.next(), words.next())
                && let Some(inode) = mounted.strip_prefix("net:[")
                && let Ok(inode) = inode.trim_end_matches(']').parse()
            {
                let path = Path::new(root).join(at.trim_start_matches('/'));
                by_inode.entry(inode).or_default().push(path);
            }
        }
    }
    All { by_inode, hidden }
}

/// A network namespace, which stays while this lives.
pub struct Found {
    /// Where it was seen.
    pub path: PathBuf,
    file: File,
}

impl Found {
    /// Enters the namespace, with the thread that calls this.
    ///
    /// # Errors
    /// If the right to enter it (CAP_SYS_ADMIN) is missing.
    pub fn enter(&self) -> Result<()> {
        enter_opened(&self.file, &self.path)
    }
}

impl All {
    /// The namespace of this inode; `None` if there is none any more.
    ///
    /// # Errors
    /// If the namespace was not found, and may be where it can't be seen; if it can't be opened.
    pub fn find(&self, inode: u64) -> Result<Option<Found>> {
        let paths = self.by_inode.get(&inode);
        for path in paths.into_iter().flatten() {
            let context = || format!("open network namespace {}", path.display());
            let file = match File::open(path) {
                // The process that was seen in it has ended, or it is mounted there no more.
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                file => file.with_context(context)?,
            };
            if file.metadata().with_context(context)?.ino() == inode {
                let path = path.clone();
                return Ok(Some(Found { path, file }));
            }
        }
        match (paths, &self.hidden) {
            (Some(_), _) | (None, None) => Ok(None),
            (None, Some(why)) => bail!(
                "its network namespace ({inode}) may be one that can't be seen: {why}; run it as \
                 root in the host's PID namespace"
            ),
        }
    }
}
