//! A table's file is cut short while a process records into it.

use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::Duration;

use metricd_l7::{Protocol, Recorder, Request, Snapshot};

fn request(client: u32) -> Request {
    Request {
        src: std::net::Ipv4Addr::from_bits(0x0a00_0000 + client).into(),
        dst: "10.0.0.1:80".parse().unwrap(),
        protocol: Protocol::Http1,
        status: 200,
        grpc_status: None,
        duration: Duration::from_millis(3),
        sent: 1000,
        received: 10,
    }
}

fn record(recorder: &Recorder, clients: u32) {
    (0..clients).for_each(|client| recorder.record(&request(client)));
}

fn total(path: &Path) -> u64 {
    let snapshot = Snapshot::read(path).unwrap();
    snapshot.series.iter().map(|series| series.requests).sum()
}

/// To nothing, and within its slots.
#[test]
fn the_process_goes_on() {
    for length in [0, 4096] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l7");
        let recorder = Recorder::open(&path, 1024).unwrap();
        record(&recorder, 1000);
        assert_eq!(total(&path), 1000);

        let cut = File::options().write(true).open(&path).unwrap();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..50).for_each(|_| record(&recorder, 1000)));
            }
            cut.set_len(length).unwrap();
        });
        // Some have found it gone by now.
        record(&recorder, 1000);
        assert!(!recorder.is_recording());
        let error = recorder.sync().unwrap_err().to_string();
        let problem = match length {
            0 => "is too short for a table",
            _ => "is a damaged table of requests: it has 4096 bytes",
        };
        assert!(error.contains(problem), "{error}");

        fs::remove_file(&path).unwrap();
        recorder.sync().unwrap();
        assert!(recorder.is_recording());
        record(&recorder, 10);
        let snapshot = Snapshot::read(&path).unwrap();
        assert_eq!(total(&path), 10);
        assert!(snapshot.missed > 0, "what came meanwhile was missed");
    }
}

/// A fault that is none of ours ends the process as it would have without us.
#[test]
fn other_faults_are_handed_on() {
    const CHILD: &str = "METRICD_L7_TEST_FAULT";
    if std::env::var_os(CHILD).is_some() {
        let folder = tempfile::tempdir().unwrap();
        let _recorder = Recorder::open(folder.path().join("l7"), 10).unwrap();
        let path = folder.path().join("other");
        fs::write(&path, [1; 4096]).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        // SAFETY: no address is asked for. What is read through the pointer ends the process.
        unsafe {
            use std::os::fd::AsRawFd;
            let (protection, fd) = (libc::PROT_READ, file.as_raw_fd());
            let null = std::ptr::null_mut();
            let mapped = libc::mmap(null, 4096, protection, libc::MAP_SHARED, fd, 0);
            assert_ne!(mapped, libc::MAP_FAILED);
            file.set_len(0).unwrap();
            std::ptr::read_volatile(mapped.cast::<u8>());
        }
        unreachable!("there was something to read");
    }
    use std::os::unix::process::ExitStatusExt;
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "other_faults_are_handed_on"])
        .env(CHILD, "1")
        .spawn()
        .unwrap();
    let mut waited = 0;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        waited += 1;
        if waited > 90 {
            child.kill().unwrap();
        }
        thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(status.signal(), Some(7), "{status}");
}
