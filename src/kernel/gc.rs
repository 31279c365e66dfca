//! Pins of pods that are gone: pins outlive their pods in the host's bpffs.
//!
//! Pins are in use as long as a program runs that they hold: at a TCX link, which knows whether its
//! device is still there, or as a clsact filter in a network namespace that is still there. A run
//! that is under way, also one that has attached nothing yet, holds the folder's lock.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use libbpf_rs::Link;
use libbpf_rs::query::LinkTypeInfo;

use crate::kernel::hook::Owner;
use crate::kernel::netns;
use crate::kernel::pin_dir::{LockedPinDir, PinDir};
use crate::kernel::pinned::Installed;
use crate::kernel::target::PODS;

/// What a folder of pins is good for.
enum State {
    InUse(String),
    Gone,
}

/// Removes the pins of pods that are gone from below `root`, which has a folder for each pod.
/// Returns a line for each folder that is or would be removed, or about which nothing can be said.
///
/// # Errors
/// If `root` can't be listed, or pins can't be removed. A `root` that is not there holds no pins.
pub fn collect(root: &Path, dry_run: bool) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut kept = 0;
    let mut removed = 0;
    for dir in folders(root)? {
        let state = match dir.lock(Duration::ZERO) {
            Ok(None) => continue,
            Ok(Some(locked)) => state(&locked).map(|state| (state, locked)),
            Err(error) => Err(error),
        };
        match state {
            Ok((State::Gone, locked)) => {
                removed += 1;
                if dry_run {
                    lines.push(format!("{dir}: would be removed"));
                } else {
                    let pins = locked.remove_all()?;
                    lines.push(format!("{dir}: {pins} pins removed"));
                }
            }
            Ok((State::InUse(by), _)) => {
                kept += 1;
                tracing::debug!("{dir}: {by}");
            }
            Err(error) => {
                kept += 1;
                lines.push(format!("{dir}: kept: {error:#}"));
            }
        }
    }
    let verb = if dry_run { "to remove" } else { "removed" };
    lines.push(format!(
        "{}: {removed} {verb}, {kept} in use",
        root.display()
    ));
    Ok(lines)
}

/// Removes what lies beside a pod's pin directory and belongs to pods whose devices are gone. Needs
/// no rights but those to attach. What can't be removed is left for [`collect`].
pub fn collect_beside(pin_dir: &PinDir) {
    let Some(root) = pin_dir.path().parent().filter(|root| root.ends_with(PODS)) else {
        return;
    };
    for dir in folders(root).unwrap_or_default() {
        if dir == *pin_dir {
            continue;
        }
        let Ok(Some(locked)) = dir.lock(Duration::ZERO) else {
            continue;
        };
        let links = links(&locked).unwrap_or_default();
        if links.is_empty() || links.iter().any(|(_, is_alive)| *is_alive) {
            continue;
        }
        match locked.remove_all() {
            Ok(pins) => tracing::info!("{dir}: its pod is gone, {pins} pins removed"),
            Err(error) => tracing::debug!("{error:#}"),
        }
    }
}

fn folders(root: &Path) -> Result<Vec<PinDir>> {
    let list = || format!("list the pin directories in {}", root.display());
    let entries = match fs::read_dir(root) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(list)?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry.with_context(list)?;
        if entry.file_type().with_context(list)?.is_dir() {
            folders.push(entry.path());
        }
    }
    folders.sort();
    Ok(folders.into_iter().map(PinDir::new).collect())
}

/// The pinned TCX links, and whether their devices are still there.
fn links(dir: &PinDir) -> Result<Vec<(String, bool)>> {
    let mut links = Vec::new();
    for (name, path) in dir.links(Owner::Observer)? {
        let info = Link::open(&path)
            .and_then(|link| link.info())
            .with_context(|| format!("open the pinned link {}", path.display()))?;
        let is_alive = matches!(info.info, LinkTypeInfo::Tcx(tcx) if tcx.ifindex != 0);
        links.push((name, is_alive));
    }
    Ok(links)
}

/// Whether a folder's pins are in use.
fn state(dir: &LockedPinDir) -> Result<State> {
    for (pin, is_alive) in links(dir)? {
        if is_alive {
            return Ok(State::InUse(format!("{pin} is attached")));
        }
    }
    let Some(installed) = Installed::open(dir)? else {
        // Nothing was attached, and whoever was about to is not at it any more.
        return Ok(State::Gone);
    };
    // The namespaces are listed under the lock: one that is not there now will not attach under
    // these pins either.
    let namespaces = netns::all();
    for inode in installed.records.filtered_namespaces() {
        if let Some(namespace) = namespaces.find(inode)?
            && runs_in(&installed, &namespace)?
        {
            let path = namespace.path.display();
            return Ok(State::InUse(format!("attached in {path}")));
        }
    }
    Ok(State::Gone)
}

/// Whether a program of ours is attached in that namespace.
fn runs_in(installed: &Installed, namespace: &netns::Found) -> Result<bool> {
    thread::scope(|scope| {
        let look = || -> Result<bool> {
            namespace.enter()?;
            Ok(!installed.hooks()?.all().is_empty())
        };
        scope.spawn(look).join().expect("it does not panic")
    })
}
