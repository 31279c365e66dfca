//! Both ways of reading pinned maps, of the kernel that this runs on: by iterators where it takes
//! them, and as the text that bpffs makes of the maps. tests/kernels runs this in its guests, where
//! iterators can be had.

use std::fmt::Debug;
use std::fs;
use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kit::filled::{Filled, Size, metric, pin_dir, put, series};
use libbpf_rs::MapCore;
use metricd::abi::{Info, Layout, MetricEntry, MetricValue, PROOF};
use metricd::kernel::maps::{self, INFO};
use metricd::kernel::options::ReadBy;
use metricd::kernel::pin_dir::EpochDir;
use metricd::read::proxy;
use metricd::read::records::Way;
use metricd::read::snapshot::Snapshot;
use metricd_l7::{Protocol, Recorder, Request};

/// More than any pod has, so that all maps go on in the second of their two parts.
const LARGE: Size = Size {
    room: 0,
    series: 10_000,
    routes: 100,
    histograms: 1000,
    servers: 60,
};
const SMALL: Size = Size {
    room: 0,
    series: 3,
    routes: 2,
    histograms: 2,
    servers: 2,
};

/// Says so when it goes, also with a test that fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whether iterators were pinned; says so where the kernel refuses them, since this is not the whole
/// test then.
fn has_iterators(epoch: &EpochDir) -> bool {
    let has = epoch.has_iterators();
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
    let ways = the_way_changes(&filled);
    println!(
        "both ways read {} series as written, in {:.0?} by iterators and {:.0?} as text, {ways:?} \
         times while it changed",
        text.metrics.len(),
        iterators.took,
        text.took
    );
}

/// Iterators come and go beside maps, and whoever reads meanwhile misses nothing. Returns how often
/// they were read by iterators and as text.
fn the_way_changes(filled: &Filled) -> [u32; 2] {
    let stop = AtomicBool::new(false);
    // A reading takes half a minute in a guest that shares its CPU.
    let deadline = Instant::now() + Duration::from_secs(300);
    let readings = AtomicU32::new(0);
    let mut ways = [0; 2];
    thread::scope(|scope| {
        scope.spawn(|| {
            for read in [ReadBy::Text, ReadBy::Auto].into_iter().cycle() {
                filled.attach(read);
                // In the middle of the one after the next.
                let enough = readings.load(Ordering::Relaxed) + 2;
                while readings.load(Ordering::Relaxed) < enough {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    thread::sleep(Duration::from_millis(5));
                }
            }
        });
        let _stop = Stop(&stop);
        while ways.contains(&0) && Instant::now() < deadline {
            let snapshot = Snapshot::read(&filled.pin_dir, ReadBy::Auto).unwrap();
            compare(&snapshot, &filled.written);
            ways[(snapshot.way == Way::Text) as usize] += 1;
            readings.fetch_add(1, Ordering::Relaxed);
        }
    });
    assert!(!ways.contains(&0), "{ways:?}");
    filled.attach(ReadBy::Auto);
    // As a run leaves it that is killed while it pins them: the last one is missing.
    fs::remove_file(filled.epoch().iterator_path(INFO)).unwrap();
    let snapshot = Snapshot::read(&filled.pin_dir, ReadBy::Auto).unwrap();
    assert_eq!(snapshot.way, Way::Text);
    filled.attach(ReadBy::Auto);
    let is_iterator = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().ends_with("_iter");
    let pins = fs::read_dir(filled.epoch().path()).unwrap().flatten();
    assert_eq!(pins.filter(is_iterator).count(), maps::EXPORTED.len());
    ways
}

#[test]
fn both_ways_read_a_proxys_map() {
    let dir = pin_dir("proxy");
    let dir = dir.path();
    fs::create_dir(dir).unwrap();
    let _gone = Gone(dir);
    let path = dir.join("linkerd_l7_map");
    let recorder = Recorder::open(&path, 100).unwrap();
    for number in 0..60u16 {
        recorder.record(&Request {
            src: Ipv6Addr::from(u128::MAX - u128::from(number)).into(),
            dst: "10.1.0.2:443".parse().unwrap(),
            protocol: Protocol::Grpc,
            status: 200,
            grpc_status: Some(0),
            duration: Duration::from_micros(u64::from(number)),
            sent: u64::MAX >> 1,
            received: 1,
        });
    }
    let text = proxy::read(&path, ReadBy::Text).unwrap();
    assert_eq!((text.series.len(), text.used, text.slots), (60, 60, 100));
    assert_eq!(text.series[0].sent, u64::MAX >> 1);
    if !dir.join("linkerd_l7_map_iter").exists() {
        println!("this kernel refuses iterators: text alone was read, see tests/kernels");
        return;
    }
    let iterators = proxy::read(&path, ReadBy::Iterator).unwrap();
    assert_eq!(format!("{iterators:?}"), format!("{text:?}"));
    println!("both ways read a proxy's map alike");
}

/// A folder that goes with its owner.
struct Gone<'a>(&'a Path);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0);
    }
}

#[test]
fn what_is_asked_for_is_what_is_pinned() {
    let dir = pin_dir("asked");
    let filled = Filled::new(&dir, &SMALL, ReadBy::Text);
    assert!(!filled.epoch().has_iterators());
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

/// Programs write a key while others read the map. Here elements are written whole, again and again,
/// far more often than any program does.
#[test]
fn a_key_that_is_being_written_is_not_read() {
    let dir = pin_dir("torn");
    let filled = Filled::new(&dir, &SMALL, ReadBy::Text);
    let map = filled.map(maps::METRICS);
    let number = map.max_entries() - 1;
    let keys = [series(1_000_001), series(1_000_002)];
    let entries = keys.map(|key| metric(key, MetricValue::default()));
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
