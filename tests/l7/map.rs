//! The same table in a pinned map: written by who may call `bpf()`, read by who may not.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use metricd::kernel::options::ReadBy;
use metricd::read::proxy;
use metricd_l7::{Protocol, Recorder, Request};

use crate::fixture::{Pod, Shape};
use crate::pins::PinDir;
use crate::proxy::start_metricd;

const MAP: &str = "linkerd_l7_map";

/// A folder as metricd-init makes it, for the sidecar's group to search.
fn pin_dir() -> (PinDir, PathBuf) {
    let dir = PinDir::new();
    fs::create_dir(dir.path()).unwrap();
    chown(dir.path(), None, Some(65534)).unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o750)).unwrap();
    let path = dir.path().join(MAP);
    (dir, path)
}

fn request(status: u16) -> Request {
    Request {
        src: "10.1.0.1".parse().unwrap(),
        dst: "[fd00::2]:443".parse().unwrap(),
        protocol: Protocol::Grpc,
        status,
        grpc_status: Some(0),
        duration: Duration::from_millis(1),
        sent: 1,
        received: 2,
    }
}

fn record(path: &Path, slots: usize, requests: u64) {
    let recorder = Recorder::open(path, slots).unwrap();
    (0..requests).for_each(|_| recorder.record(&request(200)));
}

#[test]
fn many_write_and_nobody_reads() {
    let (_dir, path) = pin_dir();
    // At once: who makes it, and pins the iterator, is any of them.
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| record(&path, 100, 1000));
        }
    });
    // One that was killed before it had pinned that, or let anybody read the map.
    let iter = path.with_file_name(format!("{MAP}_iter"));
    if fs::remove_file(iter).is_err() {
        println!("this kernel refuses iterators");
    }
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    record(&path, 5, 1000);

    let mut pod = Pod::new(Shape::Plain);
    start_metricd(&mut pod, &path);
    let scrape = pod.scrape();
    let labels = [
        ("src_ip", "10.1.0.1"),
        ("dst_ip", "fd00::2"),
        ("dst_port", "443"),
        ("protocol", "grpc"),
        ("status", "200"),
        ("grpc_status", "0"),
    ];
    assert_eq!(scrape.sum("linkerd_proxy_requests_total", &labels), 5000);
    assert_eq!(scrape.sum("linkerd_proxy_requests_total", &[]), 5000);
    assert_eq!(scrape.sum("linkerd_proxy_l7_slots", &[]), 100);
}

/// As after `--detach`, which takes all pins.
#[test]
fn a_map_that_is_replaced_is_found() {
    let (dir, path) = pin_dir();
    let recorder = Recorder::open(&path, 10).unwrap();
    recorder.record(&request(200));
    fs::remove_dir_all(dir.path()).unwrap();
    let error = recorder.sync().unwrap_err().to_string();
    assert!(error.contains("there is no folder"), "{error}");
    recorder.record(&request(200));
    fs::create_dir(dir.path()).unwrap();
    recorder.sync().unwrap();
    recorder.record(&request(404));
    let snapshot = proxy::read(&path, ReadBy::Auto).unwrap();
    assert_eq!(snapshot.series.len(), 1);
    assert_eq!((snapshot.series[0].requests, snapshot.missed), (1, 1));
}
