//! What pods leave behind, and its removal.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use libbpf_rs::query::{LinkInfoIter, MapInfoIter, ProgInfoIter};
use libbpf_rs::{Link, MapCore, MapHandle, Program};
use nix::fcntl::{Flock, FlockArg};

use crate::attach::{WAYS, attached};
use crate::fixture::{Pod, Shape, binary};
use crate::load::from_environment;
use crate::pins::PinDir;
use crate::process::{PATIENCE, eventually, output};

/// Where a node's pods have their pins.
struct Node(PinDir);

impl Node {
    fn new() -> Self {
        Self(PinDir::new())
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("linkerd-metricd")
    }

    /// A pod of this node, attached.
    fn pod(&self, uid: &str, way: &str) -> Pod {
        let mut pod = Pod::new(Shape::Plain);
        pod.pins = PinDir::at(self.root().join(uid));
        pod.attach(&["--attach", way, "--map-size", "10"]);
        pod
    }

    fn gc(&self, flags: &[&str]) -> String {
        let mut command = binary(env!("CARGO_BIN_EXE_linkerd-metricd"));
        command.arg("gc").arg("--pin-root").arg(self.root());
        let done = output(command.args(flags));
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{said}");
        said
    }

    fn pods(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.root()).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    }
}

/// What the kernel holds for pins: ids of programs, maps and links.
#[derive(Debug, Default, PartialEq, Eq)]
struct Held {
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
    links: BTreeSet<u32>,
}

impl Held {
    fn by(folder: &Path, held: &mut Self) {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            let kind = entry.file_type().expect("a kind");
            if kind.is_dir() {
                Self::by(&path, held);
            } else if kind.is_file() {
                if let Ok(map) = MapHandle::from_pinned_path(&path) {
                    held.maps.insert(map.info().expect("info").info.id);
                } else if let Ok(program) = Program::fd_from_pinned_path(&path) {
                    let id = Program::id_from_fd(program.as_fd()).expect("an id");
                    held.programs.insert(id);
                } else {
                    let link = Link::open(&path).expect("a link");
                    let info = link.info().expect("info");
                    held.programs.insert(info.prog_id);
                    held.links.insert(info.id);
                }
            }
        }
    }

    /// Those of them that the kernel still has.
    fn left(&self) -> Self {
        Self {
            programs: ProgInfoIter::default()
                .map(|program| program.id)
                .filter(|id| self.programs.contains(id))
                .collect(),
            maps: MapInfoIter::default()
                .map(|map| map.id)
                .filter(|id| self.maps.contains(id))
                .collect(),
            links: LinkInfoIter::default()
                .map(|link| link.id)
                .filter(|id| self.links.contains(id))
                .collect(),
        }
    }
}

/// METRICD_TEST_PODS of them, started and deleted in turn. Some are found by those that come after
/// them, the rest by gc; and the kernel holds nothing of any.
#[test]
fn pods_that_are_gone_leave_nothing() {
    let node = Node::new();
    let mut held = Held::default();
    for number in 0..from_environment("METRICD_TEST_PODS", 50) {
        let uid = format!("uid-{number}");
        let pod = node.pod(&uid, WAYS[number as usize % 2]);
        Held::by(&node.root().join(uid), &mut held);
        // Its namespace goes, its pins stay.
        let Pod { pins, .. } = pod;
        std::mem::forget(pins);
    }
    let gone = || {
        let said = node.gc(&["--dry-run"]);
        said.contains(" 0 in use")
    };
    assert!(eventually(PATIENCE, gone), "{}", node.gc(&["--dry-run"]));
    let before = node.pods();
    assert!(!before.is_empty(), "none is left to gc");
    let said = node.gc(&[]);
    let line = format!("{} removed, 0 in use", before.len());
    assert!(said.contains(&line), "{said}");
    assert_eq!(node.pods(), BTreeSet::new());
    let freed = eventually(PATIENCE, || held.left() == Held::default());
    assert!(freed, "{:?}", held.left());
}

/// Those that live, and those that are just being started.
#[test]
fn pins_in_use_are_not_touched() {
    let node = Node::new();
    let pods: Vec<Pod> = WAYS.map(|way| node.pod(way, way)).into();
    let starting = node.root().join("starting");
    fs::create_dir(&starting).expect("a folder");
    let file = File::open(&starting).expect("the folder");
    let lock = Flock::lock(file, FlockArg::LockExclusive).expect("a lock");
    let before: Vec<_> = pods.iter().map(attached).collect();
    let said = node.gc(&[]);
    assert!(said.contains("0 removed, 3 in use"), "{said}");
    let said = node.gc(&["--dry-run"]);
    assert!(said.contains("0 to remove, 3 in use"), "{said}");
    let after: Vec<_> = pods.iter().map(attached).collect();
    assert_eq!(before, after);
    // Whoever was about to start something there has died.
    drop(lock);
    let said = node.gc(&[]);
    assert!(said.contains("1 removed, 2 in use"), "{said}");
    // Detached by hand, too, and then there is nothing to do.
    pods.iter().for_each(|pod| drop(pod.attach(&["--detach"])));
    let said = node.gc(&[]);
    assert!(said.contains("0 removed, 0 in use"), "{said}");
}

/// A node without any, and a folder of something else.
#[test]
fn what_is_not_ours_stays() {
    let node = Node::new();
    assert!(node.gc(&[]).contains("0 removed, 0 in use"));
    let other = node.root().join("other");
    fs::create_dir_all(&other).expect("a folder");
    let pod = Pod::measured(Shape::Plain, &[]);
    let map = MapHandle::from_pinned_path(pod.pins.path().join("linkerd_connection_map"));
    pin(map.expect("a map"), &other.join("cilium_map"));
    node.gc(&[]);
    assert!(other.join("cilium_map").exists());
}

/// Pins a map under another name, as another program would.
fn pin(map: MapHandle, path: &Path) {
    let mut map = map;
    map.pin(path).expect("pin");
}
