//! What asks the proxy, by HTTPS, and knows how often.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use crate::fixture::Family;
use crate::load::{self, check};
use crate::netns::unique;
use crate::peers::python;
use crate::proxy::{Mesh, PORT};

/// h2load: so many requests by the flags' HTTP, the URLs in turn, none failed. How many were
/// answered with which status.
pub fn h2load(mesh: &Mesh, requests: u64, flags: &[&str], paths: &[&str]) -> BTreeMap<String, u64> {
    let pod = &mesh.pod;
    let log = pod.tmp.file(&unique("h2load"));
    let mut command = Command::new("h2load");
    command.args(["-c", "20", "-n", &requests.to_string()]);
    command.arg("--log-file").arg(&log);
    let said = pod.client.run(command.args(flags).args(mesh.urls(paths)));
    check(&said, requests);
    let mut statuses = BTreeMap::new();
    for line in fs::read_to_string(&log).expect("the log").lines() {
        let status = line.split('\t').nth(1).expect("a status");
        *statuses.entry(status.to_owned()).or_default() += 1;
    }
    assert_eq!(statuses.values().sum::<u64>(), requests);
    statuses
}

/// wrk: so many requests by each of 4 connections. How many it says that were answered.
pub fn wrk(mesh: &Mesh, each: u64, path: &str) -> u64 {
    load::wrk(&mesh.pod, 4, each, &mesh.urls(&[path])[0])
}

fn grpc_client(mesh: &Mesh, rounds: u64, what: &str) -> Command {
    let pod = &mesh.pod;
    let at = pod.server_at(Family::V4, PORT).to_string();
    let mut client = python("grpc_client.py");
    client.args([&at, &rounds.to_string(), what]);
    client.arg(pod.tmp.file("cert.pem"));
    client
}

/// grpc_client.py: calls in so many rounds. How many it says that ended how, by status.
pub fn grpc(mesh: &Mesh, rounds: u64, what: &str) -> BTreeMap<String, u64> {
    counts(&mesh.pod.client.run(&mut grpc_client(mesh, rounds, what)))
}

/// As `grpc`, of calls that are given up once the condition holds.
pub fn grpc_given_up(
    mesh: &Mesh,
    rounds: u64,
    holds: impl FnMut() -> bool,
) -> BTreeMap<String, u64> {
    let mut client = grpc_client(mesh, rounds, "cancel");
    counts(&mesh.pod.client.run_until(&mut client, holds))
}

fn counts(said: &str) -> BTreeMap<String, u64> {
    let counts = said.lines().filter_map(|line| line.split_once(' '));
    let counts = counts.map(|(status, n)| (status.to_owned(), n.parse().expect("a count")));
    counts.collect()
}

/// nghttp: one unary call. What it says about frames.
pub fn nghttp(mesh: &Mesh, message: &str) -> String {
    let pod = &mesh.pod;
    let body = pod.tmp.file("message");
    let length = u32::try_from(message.len()).expect("a short one");
    // Not compressed, then how long it is.
    let head = [&[0][..], &length.to_be_bytes()].concat();
    fs::write(&body, [&head, message.as_bytes()].concat()).expect("a file");
    let mut command = Command::new("nghttp");
    command.args(["-nv", "-H", "content-type: application/grpc"]);
    command.args(["-H", "te: trailers", "-d"]).arg(body);
    pod.client
        .run(command.args(mesh.urls(&["test.Counts/Unary"])))
}
