//! Both ways of reading pinned maps, of the kernel that this runs on: by iterators where it takes
//! them, and as the text that bpffs makes of the maps. tests/kernels runs this in its guests, where
//! iterators can be had.

mod filled;

use std::fmt::Debug;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use libbpf_rs::MapCore;
use metricd::abi::{Info, Layout, MetricEntry, PROOF, key_check};
use metricd::maps::Snapshot;
use metricd::options::ReadBy;
use metricd::records::{self, INFO, Way, iter_path};

use filled::{Filled, Size, pin_dir, put, series};

/// More than any pod has, so that all maps go on in the second of their two parts.
const LARGE: Size = Size {
    series: 10_000,
    routes: 100,
    histograms: 1000,
    servers: 60,
};
const SMALL: Size = Size {
    series: 3,
    routes: 2,
    histograms: 2,
    servers: 2,
};

/// Whether iterators were pinned; says so where the kernel refuses them, since this is not the whole
/// test then.
fn has_iterators(epoch: &Path) -> bool {
    let has = iter_path(epoch, INFO).exists();
    if !has {
        println!("this kernel refuses iterators: text alone is compared, see tests/kernels");
    }
    has
}

fn same<T: PartialEq + Debug>(what: &str, read: &[T], written: &[T]) {
    assert_eq!(read.len(), written.len(), "{what}");
    for (read, written) in read.iter().zip(written) {
        assert_eq!(read, written, "{what}");
    }
}

fn compare(read: &Snapshot, written: &Snapshot) {
    same("metrics", &read.metrics, &written.metrics);
    same("requests", &read.requests, &written.requests);
    same("asked", &read.asked, &written.asked);
    same("latency", &read.latency, &written.latency);
    same("handshake", &read.handshake, &written.handshake);
    same("dns", &read.dns, &written.dns);
    assert_eq!(read.routes, written.routes);
    assert_eq!(read.counters, written.counters);
}

#[test]
fn both_ways_read_what_was_written() {
    let filled = Filled::new(&pin_dir("both"), &LARGE, ReadBy::Auto);
    let text = Snapshot::read(&filled.pin_dir, ReadBy::Text).unwrap();
    assert_eq!(text.way, Way::Text);
    compare(&text, &filled.written);
    if !has_iterators(&filled.epoch()) {
        return;
    }
    let iterators = Snapshot::read(&filled.pin_dir, ReadBy::Auto).unwrap();
    assert_eq!(iterators.way, Way::Iterator);
    compare(&iterators, &filled.written);
    assert_eq!(text.info, iterators.info);
    assert_eq!(text.entries, iterators.entries);
    println!("both ways read {} series as written", text.metrics.len());
}

#[test]
fn what_is_asked_for_is_what_is_pinned() {
    let dir = pin_dir("asked");
    let filled = Filled::new(&dir, &SMALL, ReadBy::Text);
    assert!(!iter_path(&filled.epoch(), INFO).exists());
    assert_eq!(Snapshot::read(&dir, ReadBy::Auto).unwrap().way, Way::Text);
    let error = Snapshot::read(&dir, ReadBy::Iterator).unwrap_err();
    assert_eq!(error.reason(), "no iterators are pinned");
    compare(
        &Snapshot::read(&dir, ReadBy::Auto).unwrap(),
        &filled.written,
    );
}

#[test]
fn a_proof_that_does_not_hold_is_no_snapshot() {
    let dir = pin_dir("proof");
    let filled = Filled::new(&dir, &SMALL, ReadBy::Text);
    let map = filled.map(INFO);
    let bytes = map
        .lookup(&[0; 4], libbpf_rs::MapFlags::ANY)
        .unwrap()
        .unwrap();
    let mut info = Info::read(&mut bytes.as_slice()).unwrap();
    assert_eq!(info.proof, PROOF);
    info.proof.words[1] += 1;
    put(&map, &0u32, &info);
    let error = Snapshot::read(&dir, ReadBy::Text).unwrap_err();
    assert_eq!(
        error.reason(),
        "this kernel shows pinned maps in an unknown form"
    );
}

/// Says so when it goes, also with a test that fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Programs write a key while others read the map. Here elements are written whole, again and again,
/// far more often than any program does.
#[test]
fn a_key_that_is_being_written_is_not_read() {
    let dir = pin_dir("torn");
    let filled = Filled::new(&dir, &SMALL, ReadBy::Text);
    let map = filled.map(records::METRICS);
    let number = map.max_entries() - 1;
    let keys = [series(1_000_001), series(1_000_002)];
    let entries = keys.map(|key| MetricEntry {
        key,
        check: key_check(&key.to_bytes()),
        ..MetricEntry::default()
    });
    let stop = AtomicBool::new(false);
    let (mut read, mut torn, mut seen) = (0, 0, [false; 2]);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for entry in entries.iter().chain([&MetricEntry::default()]) {
                    put(&map, &number, entry);
                }
            }
        });
        let _stop = Stop(&stop);
        for _ in 0..100 {
            match Snapshot::read(&dir, ReadBy::Text) {
                Ok(snapshot) => {
                    read += 1;
                    for (key, _) in &snapshot.metrics {
                        let known = filled.written.metrics.iter().any(|(other, _)| other == key);
                        let at = keys.iter().position(|other| other == key);
                        assert!(known || at.is_some(), "{key:?} was never written");
                        at.into_iter().for_each(|at| seen[at] = true);
                    }
                }
                // With luck on no try.
                Err(error) => {
                    torn += 1;
                    assert!(error.to_string().contains("keys do not belong"), "{error}");
                }
            }
        }
    });
    println!("{read} readings, {torn} given up");
    assert_eq!(seen, [true; 2]);
}

/// Iterators come and go beside the same maps, and whoever reads meanwhile misses nothing.
#[test]
fn the_way_changes_while_somebody_reads() {
    let dir = pin_dir("changes");
    let filled = Filled::new(&dir, &SMALL, ReadBy::Auto);
    if !has_iterators(&filled.epoch()) {
        return;
    }
    let stop = AtomicBool::new(false);
    let mut ways = [0; 2];
    thread::scope(|scope| {
        scope.spawn(|| {
            let _stop = Stop(&stop);
            for _ in 0..5 {
                for read in [ReadBy::Text, ReadBy::Auto] {
                    filled.attach(read);
                    thread::sleep(Duration::from_millis(20));
                }
            }
        });
        while !stop.load(Ordering::Relaxed) {
            let snapshot = Snapshot::read(&dir, ReadBy::Auto).unwrap();
            compare(&snapshot, &filled.written);
            ways[(snapshot.way == Way::Text) as usize] += 1;
        }
    });
    println!("{ways:?} readings by iterators and as text");
    assert!(ways.iter().all(|way| *way > 0), "{ways:?}");
    let iterators = fs::read_dir(filled.epoch()).unwrap();
    let is_iterator = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().ends_with("_iter");
    let iterators = iterators.flatten().filter(is_iterator).count();
    assert_eq!(iterators, records::EXPORTED.len());
}
