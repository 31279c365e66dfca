//! h2load and wrk, and what they say of themselves.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

pub use crate::machine::environment::from_environment;
use crate::machine::netns::{Netns, unique};
use crate::pod::fixture::Pod;

/// Requests of a load test; METRICD_TEST_REQUESTS makes it shorter or longer.
pub fn requests() -> u64 {
    from_environment("METRICD_TEST_REQUESTS", 100_000)
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

/// wrk ends on time, with requests under way that it does not count. So each of its threads has one
/// connection, and ends itself between an answer and the next request; what time is left is slept.
const SCRIPT: &str = r"
local answers = 0
function response()
    answers = answers + 1
    if answers == tonumber(os.getenv('ANSWERS')) then wrk.thread:stop() end
end
";

/// wrk: so many requests by each of so many connections. How many it says that were answered.
pub fn wrk(pod: &Pod, connections: u64, each: u64, url: &str) -> u64 {
    let script = pod.tmp.file("stop.lua");
    fs::write(&script, SCRIPT).expect("a script");
    let mut command = Command::new("wrk");
    let number = connections.to_string();
    command.args(["-t", &number, "-c", &number, "-d", "20", "-s"]);
    command.arg(&script).arg(url);
    command.env("ANSWERS", each.to_string());
    let said = pod.client.run(&mut command);
    assert!(
        !said.contains("Socket errors") && !said.contains("Non-2xx"),
        "{said}"
    );
    let line = said.lines().find(|line| line.contains(" requests in "));
    let line = line.unwrap_or_else(|| panic!("not what wrk 4 says:\n{said}"));
    let count = line.split_whitespace().next().expect("a number");
    count.parse().expect("a number")
}
