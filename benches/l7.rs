//! What it costs a proxy to record a request by the library. Prints the median of the rounds in
//! nanoseconds, and the spread.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use metricd_l7::{Protocol, Recorder, Request};

const ROUNDS: usize = 200;
/// Requests a round.
const REQUESTS: u32 = 20_000;
const SLOTS: usize = 1024;

fn main() {
    println!("nanoseconds a request            median   10%   90%");
    let recorder = |slots| {
        let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
        // The file lives on in the mapping.
        Recorder::open(folder.path().join("l7"), slots).expect("something to record into")
    };
    measure("nowhere to record", &Recorder::disabled(), 1, 1);
    measure("one series", &recorder(SLOTS), 1, 1);
    measure("100 series in turn", &recorder(SLOTS), 100, 1);
    measure("700 series in turn", &recorder(SLOTS), 700, 1);
    let full = recorder(SLOTS);
    fill(&full);
    measure("no slot free", &full, 1000, 1);
    measure("two threads, one series", &recorder(SLOTS), 1, 2);
    measure("two threads, 100 series", &recorder(SLOTS), 100, 2);
    measure("two threads, no slot free", &full, 1000, 2);
}

/// Takes all slots for series that are not measured.
fn fill(recorder: &Recorder) {
    for n in 0..100 * SLOTS as u32 {
        recorder.record(&Request {
            dst: "10.9.0.3:8080".parse().expect("an address"),
            ..request(n, u32::MAX)
        });
    }
}

fn request(n: u32, series: u32) -> Request {
    Request {
        src: Ipv4Addr::from_bits(0x0a00_0000 + n % series).into(),
        dst: "10.9.0.2:8080".parse().expect("an address"),
        protocol: Protocol::Http2,
        status: 200,
        grpc_status: None,
        duration: Duration::from_micros(100 + u64::from(n % 1000)),
        sent: 1024,
        received: 77,
    }
}

/// Each thread goes through the series from a place of its own.
fn measure(name: &str, recorder: &Recorder, series: u32, threads: u32) {
    let mut rounds: Vec<u64> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || record(recorder, series, thread * series / 2)))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("no panic"))
            .collect()
    });
    rounds.sort_unstable();
    let at = |percent: usize| rounds[rounds.len() * percent / 100];
    println!("{name:<32} {:>6} {:>5} {:>5}", at(50), at(10), at(90));
}

/// Nanoseconds a request, of each round.
fn record(recorder: &Recorder, series: u32, first: u32) -> Vec<u64> {
    let requests: Vec<Request> = (first..first + 1000).map(|n| request(n, series)).collect();
    (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            for request in requests.iter().cycle().take(REQUESTS as usize) {
                recorder.record(black_box(request));
            }
            begun.elapsed().as_nanos() as u64 / u64::from(REQUESTS)
        })
        .collect()
}
