//! How many reviews a second metricd-injector answers on one core, and how long they take: h2load
//! on another core posts one review over and over, by HTTP/2 and TLS, on as many connections as
//! API servers of a large cluster would have.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use kit::admission::api::Api;
use kit::admission::fixture::{Injector, review, wanted};
use serde_json::Value;

const CONNECTIONS: usize = 5;
/// Reviews a second that are to be possible.
const RATE: usize = 1000;
const SECONDS: u64 = 10;

fn main() {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        println!("one core for both: the figures are those of h2load, too");
    }
    for (what, review) in [("injected", wanted()), ("not enabled", review())] {
        let api = Api::start();
        api.set_namespace("shop", Value::Null, Value::Null);
        let injector = Injector::start(&api);
        pin(&injector);
        let path = injector.path("review.json");
        fs::write(&path, review.to_string()).unwrap();

        let full = load(&injector, &path, &["-m", "10"]);
        let rate = (RATE / CONNECTIONS).to_string();
        let before = cpu(&injector);
        let steady = load(&injector, &path, &["-m", "10", "--rps", &rate]);
        let busy = (cpu(&injector) - before) as f64 / SECONDS as f64;
        println!(
            "{what}: {} reviews a second, p99 {}",
            full.rate(),
            full.p99()
        );
        println!(
            "{what}: at {} a second p50 {}, p99 {}, longest {}; {busy:.0}% of a core",
            steady.rate(),
            steady.at(0.5),
            steady.p99(),
            steady.at(1.0)
        );
    }
}

/// What h2load noted of each review, in microseconds.
struct Times {
    sorted: Vec<u64>,
    took: Duration,
}

impl Times {
    fn rate(&self) -> u64 {
        (self.sorted.len() as f64 / self.took.as_secs_f64()).round() as u64
    }

    fn p99(&self) -> String {
        self.at(0.99)
    }

    /// The least time that this part of the reviews did not exceed.
    fn at(&self, part: f64) -> String {
        let index = (self.sorted.len() as f64 * part).ceil() as usize - 1;
        format!("{:.2} ms", self.sorted[index] as f64 / 1000.0)
    }
}

fn load(injector: &Injector, review: &Path, args: &[&str]) -> Times {
    let log = injector.path("h2load.log");
    let _ = fs::remove_file(&log);
    let (url, connections) = (injector.url(), CONNECTIONS.to_string());
    let begun = Instant::now();
    let output = Command::new("taskset")
        .args([
            "-c",
            "1",
            "h2load",
            "-c",
            &connections,
            "-D",
            &SECONDS.to_string(),
        ])
        .args(["-H", "content-type: application/json", "-d"])
        .arg(review)
        .arg("--log-file")
        .arg(&log)
        .args(args)
        .arg(url)
        .output()
        .expect("taskset");
    let took = begun.elapsed();
    assert!(output.status.success(), "{output:?}");
    // Of each: when it began, its status, how long it took.
    let log = fs::read_to_string(&log).unwrap();
    let mut sorted: Vec<u64> = log
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            assert_eq!(fields[1], "200", "{line}");
            fields[2].parse().unwrap()
        })
        .collect();
    sorted.sort_unstable();
    Times { sorted, took }
}

fn pin(injector: &Injector) {
    let pid = injector.pid().to_string();
    let status = Command::new("taskset").args(["-acp", "0", &pid]).output();
    assert!(status.expect("taskset").status.success());
}

/// Hundredths of a second that it has worked so far (USER_HZ, see proc(5)).
fn cpu(injector: &Injector) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", injector.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
