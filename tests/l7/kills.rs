//! Many processes record into one file, and are killed at any moment.

use std::env;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use metricd_l7::{Key, Protocol, Recorder, Request, Series, Snapshot};

use crate::load::from_environment;
use crate::process::TempDir;

const SLOTS: usize = 8192;
/// Which of them a process is; not set, there is nothing to do.
const NUMBER: &str = "METRICD_TEST_L7_CHILD";
const FOLDER: &str = "METRICD_TEST_L7_FOLDER";
const BYTES: u64 = 7;
/// At a time.
const PROCESSES: u32 = 6;
/// Ports that all processes come to, in the same order, so that they meet where nothing is claimed.
const SHARED: u16 = 400;
const OWN: u16 = 40;

/// The client of what only one process records; number 0 is all.
fn client(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + number).into()
}

fn request(number: u32, port: u16) -> Request {
    Request {
        src: client(number),
        dst: (Ipv4Addr::new(10, 9, 0, 2), port).into(),
        protocol: Protocol::Http1,
        status: 200,
        grpc_status: None,
        duration: Duration::from_millis(2),
        sent: BYTES,
        received: 0,
    }
}

/// Says, after each request, how many it has recorded: of its own, and of the shared ones.
#[test]
#[ignore = "a process of the test below"]
fn child() {
    let (Ok(number), Ok(folder)) = (env::var(NUMBER), env::var(FOLDER)) else {
        return;
    };
    let number: u32 = number.parse().unwrap();
    let folder = Path::new(&folder);
    let recorder = Recorder::open(folder.join("l7"), SLOTS).unwrap();
    let counts = File::create(folder.join(number.to_string())).unwrap();
    let mut recorded = [0u64; 2];
    for n in 0u64.. {
        let shared = n % 2 == 1;
        recorder.record(&match shared {
            true => request(0, (n / 2 % u64::from(SHARED)) as u16),
            false => request(number, (n / 2 % u64::from(OWN)) as u16),
        });
        recorded[usize::from(shared)] += 1;
        let bytes = recorded.map(u64::to_ne_bytes);
        counts.write_all_at(bytes.as_flattened(), 0).unwrap();
    }
}

struct Running(Child);

impl Running {
    fn start(folder: &Path, number: u32) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "kills::child", "--ignored", "--nocapture"]);
        command.env(NUMBER, number.to_string()).env(FOLDER, folder);
        Self(command.stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a process has said that it recorded; nothing if it did not come so far.
fn said(folder: PathBuf) -> [u64; 2] {
    let mut bytes = [[0; 8]; 2];
    if let Ok(file) = File::open(folder) {
        let _ = file.read_exact_at(bytes.as_flattened_mut(), 0);
    }
    bytes.map(u64::from_ne_bytes)
}

#[test]
fn killed_at_any_moment() {
    let tmp = TempDir::new();
    let kills = from_environment("METRICD_TEST_L7_KILLS", 60) as u32;
    let mut running: Vec<Running> = (1..=PROCESSES)
        .map(|number| Running::start(tmp.path(), number))
        .collect();
    let last = PROCESSES + kills;
    for number in PROCESSES + 1..=last {
        // At another point of its life each time: also while it makes the file.
        thread::sleep(Duration::from_micros(u64::from(number * 7919 % 40_000)));
        let victim = (number * 31 % PROCESSES) as usize;
        running[victim] = Running::start(tmp.path(), number);
    }
    thread::sleep(Duration::from_millis(300));
    drop(running);

    let snapshot = Snapshot::read(&tmp.file("l7")).unwrap();
    let said: Vec<[u64; 2]> = (1..=last)
        .map(|number| said(tmp.file(&number.to_string())))
        .collect();
    assert_eq!(snapshot.overflow(), 0);
    assert_eq!(snapshot.missed, 0);
    let of = |number| snapshot.series.iter().filter(move |s| is_of(s, number));
    for (number, [own, _]) in (1..).zip(&said) {
        assert!(of(number).count() <= usize::from(OWN));
        assert_recorded(of(number), *own, 1);
    }
    assert_eq!(of(0).count(), usize::from(SHARED));
    let shared = said.iter().map(|[_, shared]| shared).sum();
    assert_recorded(of(0), shared, u64::from(last));
    // Nobody else's, and nothing that nobody has asked for.
    for series in &snapshot.series {
        let key = series.key.expect("what did not fit is nothing");
        assert!((0..=last).any(|number| is_of(series, number)), "{key:?}");
        assert_eq!((key.status, key.grpc_status), (200, u8::MAX));
        assert!(key.dst_port < SHARED);
    }
    println!(
        "{kills} kills, {} requests in {} series, {} slots",
        snapshot.series.iter().map(|s| s.requests).sum::<u64>(),
        snapshot.series.len(),
        snapshot.used
    );
}

fn is_of(series: &Series, number: u32) -> bool {
    let of = |key: Key| key.src == Key::of(&request(number, 0)).src;
    series.key.is_some_and(of)
}

/// What was said, or one more for each of the processes that was killed before it could say so.
#[track_caller]
fn assert_recorded<'a>(series: impl Iterator<Item = &'a Series>, said: u64, killed: u64) {
    let (mut requests, mut sent) = (0, 0);
    for series in series {
        requests += series.requests;
        sent += series.sent;
    }
    assert!(
        (said..=said + killed).contains(&requests),
        "{requests}, {said} said"
    );
    // The bytes come before the count.
    let most = (requests + killed) * BYTES;
    assert!(
        (requests * BYTES..=most).contains(&sent),
        "{sent} bytes of {requests}"
    );
}
