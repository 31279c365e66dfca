//! What a run leaves outside of its process: pins, programs at the hooks, and what is noted in maps.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::attach::{Attached, attached, qdiscs};
use crate::fixture::Pod;

/// What the next run goes by. The others are the programs'.
const NOTES: [&str; 2] = ["linkerd_attachment_map", "linkerd_info_map"];

pub struct Left {
    /// The inode of each, and what else there is to say of it.
    pins: BTreeMap<PathBuf, (u64, String)>,
    /// Where each program is, and its id.
    programs: Vec<(String, u32)>,
    qdiscs: String,
}

impl Left {
    pub fn of(pod: &Pod) -> Self {
        let dir = pod.pins.path();
        let mut next = dir.as_os_str().to_owned();
        next.push("_next");
        let mut pins = BTreeMap::new();
        list(dir, &mut pins);
        list(Path::new(&next), &mut pins);
        Self {
            pins,
            programs: programs(&attached(pod)),
            qdiscs: qdiscs(pod),
        }
    }

    /// All of it, in words that are the same for runs that begin alike: inodes and ids differ, so
    /// there is but whether they have been there before.
    pub fn since(&self, before: &Self) -> Vec<String> {
        let mark = |is_old| if is_old { "old" } else { "new" };
        let pins = self.pins.iter().map(|(path, (inode, what))| {
            let is_old = before.pins.values().any(|(old, _)| old == inode);
            format!("{} {what} {}", path.display(), mark(is_old))
        });
        let programs = self.programs.iter().map(|(place, id)| {
            let is_old = before.programs.iter().any(|(_, old)| old == id);
            format!("{place} {}", mark(is_old))
        });
        let qdiscs = self.qdiscs.lines().map(str::to_owned);
        pins.chain(programs).chain(qdiscs).collect()
    }
}

/// Adds a folder, if there is one, and all that is in it.
fn list(folder: &Path, pins: &mut BTreeMap<PathBuf, (u64, String)>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    pins.insert(folder.into(), describe(folder));
    for entry in entries {
        let path = entry.expect("an entry").path();
        pins.insert(path.clone(), describe(&path));
        if !path.is_symlink() {
            list(&path, pins);
        }
    }
}

fn describe(path: &Path) -> (u64, String) {
    let about = fs::symlink_metadata(path).expect("a pin");
    let mut what = format!("{:o} {}:{}", about.mode(), about.uid(), about.gid());
    if let Ok(target) = fs::read_link(path) {
        what += &format!(" to {}", target.display());
    } else if NOTES.iter().any(|name| path.ends_with(name)) {
        let map = MapHandle::from_pinned_path(path).expect("a map");
        let value = |key: &[u8]| map.lookup(key, MapFlags::ANY).expect("a map");
        let entries: BTreeMap<_, _> = map.keys().map(|key| (key.clone(), value(&key))).collect();
        what += &format!(" {entries:?}");
    }
    (about.ino(), what)
}

fn programs(attached: &Attached) -> Vec<(String, u32)> {
    let tcx = (attached.tcx.iter().zip(["ingress", "egress"]))
        .flat_map(|(ids, hook)| ids.iter().map(move |id| (format!("tcx {hook}"), *id)));
    let filters = attached.filters.iter().flat_map(|text| {
        text.lines().filter_map(|line| {
            let (place, id) = line.split_once(" id ")?;
            let id = id.split(' ').next()?.parse().ok()?;
            // The filter's name has it too: linkerd_ingress:[7].
            Some((place.replace(&format!(":[{id}]"), ""), id))
        })
    });
    let programs: Vec<_> = tcx.chain(filters).collect();
    let all: usize = attached.count().iter().sum();
    assert_eq!(programs.len(), all, "{attached:?}");
    programs
}
