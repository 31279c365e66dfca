//! Pin directories, and what is left of runs that were killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use crate::machine::netns::unique;
use crate::machine::process::run;

const BPFFS: &str = "/sys/fs/bpf";
const PINS: &str = "metricd-test";

/// A pin directory that is gone, with all pins, when the test is.
pub struct PinDir(PathBuf);

impl PinDir {
    pub fn new() -> Self {
        static MOUNT: Once = Once::new();
        MOUNT.call_once(|| {
            let mounts = fs::read_to_string("/proc/mounts").expect("/proc/mounts");
            let is_mounted = |line: &str| line.split(' ').skip(1).take(2).eq([BPFFS, "bpf"]);
            if !mounts.lines().any(is_mounted) {
                run(Command::new("mount").args(["-t", "bpf", "bpf", BPFFS]));
            }
        });
        Self(Path::new(BPFFS).join(unique(PINS)))
    }

    /// Somewhere else.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The names of the pins, in order; none if there is no folder.
    pub fn list(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.0) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into()
            })
            .collect();
        names.sort();
        names
    }
}

impl Drop for PinDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes what a run of the tests that was killed has left behind.
pub fn sweep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (folder, prefix) in [("/run/netns", "metricd-"), (BPFFS, "metricd-test-")] {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let Some(rest) = name.strip_prefix(prefix) else {
                    continue;
                };
                let pid = rest.split('-').next().unwrap_or_default();
                let is_ours = pid.parse::<u32>().is_ok();
                if !is_ours || Path::new("/proc").join(pid).exists() {
                    continue;
                }
                if folder == BPFFS {
                    let _ = fs::remove_dir_all(entry.path());
                } else {
                    let _ = Command::new("ip").args(["netns", "del", &name]).status();
                }
            }
        }
    });
}
