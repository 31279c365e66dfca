//! h2load, and what it says of itself.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use crate::fixture::Pod;
use crate::netns::{Netns, unique};

/// Requests of a load test; METRICD_TEST_REQUESTS makes it shorter or longer.
pub fn requests() -> u64 {
    from_environment("METRICD_TEST_REQUESTS", 100_000)
}

pub fn from_environment(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|e| panic!("{name}={text}: {e}")),
        Err(_) => default,
    }
}

/// Sends this many requests over 50 connections, HTTP/1.1, one outstanding on each, the URLs in
/// turn. The client must not have seen a single failure.
pub fn h2load(pod: &Pod, requests: u64, urls: &[String]) {
    let said = pod.client.run(&mut command(requests, urls));
    check(&said, requests);
}

pub fn command(requests: u64, urls: &[String]) -> Command {
    let mut command = Command::new("h2load");
    command.args(["--h1", "-c", "50", "-n", &requests.to_string()]);
    // The location that knows about it answers 304.
    command.args(["-H", "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT"]);
    command.args(urls);
    command
}

/// Connections of [`h2load_streams`].
pub const SESSIONS: u64 = 10;

/// Sends this many requests by HTTP/2 from there, 100 outstanding on each connection, the URLs in
/// turn. The client must not have seen a single failure. How many were answered with which status.
pub fn h2load_streams(
    (pod, from): (&Pod, &Netns),
    requests: u64,
    flags: &[&str],
    urls: &[String],
) -> BTreeMap<String, u64> {
    let log = pod.tmp.file(&unique("h2load"));
    let mut command = Command::new("h2load");
    command.args(["-c", &SESSIONS.to_string(), "-m", "100"]);
    command.args(["-n", &requests.to_string()]);
    command.arg("--log-file").arg(&log);
    let said = from.run(command.args(flags).args(urls));
    check(&said, requests);
    let mut statuses = BTreeMap::new();
    for line in fs::read_to_string(&log).expect("the log").lines() {
        let status = line.split('\t').nth(1).expect("a status");
        *statuses.entry(status.to_owned()).or_default() += 1;
    }
    assert_eq!(statuses.values().sum::<u64>(), requests);
    statuses
}

/// All requests were answered. What h2load calls failed are those answered with 4xx or 5xx.
pub fn check(said: &str, requests: u64) {
    let numbers = |line: &str| -> Vec<u64> {
        let line = said
            .lines()
            .find_map(|own| own.strip_prefix(line))
            .unwrap_or_else(|| panic!("no {line} in:\n{said}"));
        line.split(' ')
            .filter_map(|word| word.parse().ok())
            .collect()
    };
    let statuses: u64 = numbers("status codes: ").iter().sum();
    let [total, started, done, succeeded, failed, errored, timeout] = numbers("requests: ")[..]
    else {
        panic!("not what h2load 1.52 says:\n{said}");
    };
    assert!(
        [total, started, done, succeeded + failed, statuses] == [requests; 5]
            && [errored, timeout] == [0, 0],
        "h2load had errors:\n{said}"
    );
}
