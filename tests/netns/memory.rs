//! The kernel memory that the injector adds to a pod's resources for the maps is what they take.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use metricd::cluster::inject::{InjectConfig, memory};
use serde_json::Value;

use crate::fixture::{Pod, Shape};
use crate::process::output;

/// All pinned maps.
fn maps(pod: &Pod) -> Vec<PathBuf> {
    let pins = pod.pins.list();
    let folders = pins.iter().filter(|name| name.starts_with("linkerd_epoch"));
    let folders = folders.map(|name| pod.pins.path().join(name));
    let entries = folders.chain([pod.pins.path().into()]).flat_map(|folder| {
        let entries = fs::read_dir(folder).expect("a folder");
        entries.map(|entry| entry.expect("an entry").path())
    });
    let is_map = |name: &str| name.ends_with("_map");
    let maps = entries.filter(|path| !path.is_symlink() && path.to_str().is_some_and(is_map));
    maps.collect()
}

/// Makes all elements of the maps that grow and whose keys are numbers.
fn fill(pod: &Pod) {
    let grows = |name: &str| name.ends_with("_more_map") || name.ends_with("_early_bytes_map");
    let maps = maps(pod).into_iter();
    for path in maps.filter(|path| path.to_str().is_some_and(grows)) {
        let map = MapHandle::from_pinned_path(&path).expect("a pinned map");
        let value = vec![0; map.value_size() as usize];
        for number in 0..map.max_entries() {
            map.update(&number.to_ne_bytes(), &value, MapFlags::ANY)
                .expect("room for an element");
        }
    }
}

/// Bytes of all pinned maps, as the kernel counts them.
pub fn taken(pod: &Pod) -> u64 {
    let maps = maps(pod).into_iter();
    maps.map(|path| {
        let mut bpftool = Command::new("bpftool");
        let shown = output(bpftool.args(["-j", "map", "show", "pinned"]).arg(&path));
        let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
        shown["bytes_memlock"].as_u64().expect("bytes")
    })
    .sum()
}

#[test]
fn what_is_added_for_the_maps_is_what_they_take() {
    let config = InjectConfig::default;
    for (flags, config) in [
        (vec![], config()),
        (
            vec!["--map-size=100000"],
            InjectConfig {
                map_size: 100_000,
                ..config()
            },
        ),
        (
            vec!["--map-size=1"],
            InjectConfig {
                map_size: 1,
                ..config()
            },
        ),
        (
            vec!["--connections=100000", "--http2-connections=2000"],
            InjectConfig {
                connections: 100_000,
                http2_connections: 2000,
                ..config()
            },
        ),
        (
            vec!["--routes=10000"],
            InjectConfig {
                routes: 10_000,
                ..config()
            },
        ),
    ] {
        let pod = Pod::new(Shape::Plain);
        pod.attach(&flags);
        let compare = |added: u64| {
            let taken = taken(&pod);
            let both = format!("{flags:?}: {added} added, {taken} taken");
            assert!(added >= taken && added <= 2 * taken, "{both}");
        };
        compare(memory::at_first(&config));
        fill(&pod);
        // Other hashes are empty as yet, and grow.
        compare(memory::at_most(&config));
    }
}
