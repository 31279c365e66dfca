//! Entering the pod's network namespace, and what is in it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sched::{CloneFlags, setns};

/// Where the network namespace of a process is.
pub fn of_pid(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/net"))
}

/// Moves the calling thread into the network namespace at `path`.
///
/// # Errors
/// If there is none, or the right (CAP_SYS_ADMIN) is missing.
pub fn enter(path: &Path) -> Result<()> {
    let file =
        File::open(path).with_context(|| format!("open network namespace {}", path.display()))?;
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

/// An interface of the namespace that the thread is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub index: u32,
}

/// The interfaces called `names`, or, if none are named, all that are up but the loopback.
///
/// # Errors
/// If a named one does not exist, or none is up.
pub fn interfaces(names: &[String]) -> Result<Vec<Interface>> {
    let mut all = BTreeMap::new();
    for address in getifaddrs().context("list the interfaces")? {
        all.insert(address.interface_name, address.flags);
    }
    let chosen: Vec<String> = if names.is_empty() {
        all.iter()
            .filter(|(_, flags)| {
                flags.contains(InterfaceFlags::IFF_UP)
                    && !flags.contains(InterfaceFlags::IFF_LOOPBACK)
            })
            .map(|(name, _)| name.clone())
            .collect()
    } else {
        names.to_vec()
    };
    if chosen.is_empty() {
        bail!("no interface is up in this network namespace, name one by --interface");
    }
    chosen
        .into_iter()
        .map(|name| {
            let index = if_nametoindex(name.as_str()).with_context(|| {
                let known: Vec<&str> = all.keys().map(String::as_str).collect();
                format!("find interface {name}, there are: {}", known.join(", "))
            })?;
            Ok(Interface { name, index })
        })
        .collect()
}
