//! gRPC by two implementations that share no code: grpcio, which is gRPC's own core in C++, and the
//! crate h2. Either is client and server; what the client has seen is the truth.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use h2::Reason;
use tokio::task::JoinSet;

use crate::exposition::Scrape;
use crate::fixture::{Family, Pod, Shape};
use crate::observed::{Connections, Http, assert_timed};
use crate::peers::{PORT, python, start};
use crate::process::{PATIENCE, Process, eventually};
use crate::streams::{self, Counts, KINDS, Server};

/// Of every kind of call with every status.
const ROUNDS: u64 = 5;
const CALLS: u64 = ROUNDS * 17 * 4;

fn grpcio(pod: &Pod) -> Process {
    let mut command = python("grpc_server.py");
    command.arg(PORT.to_string());
    start(pod, command)
}

fn h2(pod: &Pod) -> Server {
    Server::start(pod.server(), pod.server_at(Family::V4, PORT))
}

fn grpcio_client(pod: &Pod, rounds: u64, what: &str) -> Command {
    let mut client: Command = python("grpc_client.py");
    let at = pod.server_at(Family::V4, PORT).to_string();
    client.args([at, rounds.to_string(), what.to_owned()]);
    client
}

/// What grpc_client.py says about its calls. Its process has ended, and so have its connections.
fn grpcio_calls(pod: &Pod, rounds: u64, what: &str) -> Counts {
    grpcio_counts(&pod.client.run(&mut grpcio_client(pod, rounds, what)))
}

fn grpcio_counts(said: &str) -> Counts {
    let line = |line: &str| {
        let (status, count) = line.split_once(' ').expect("two words");
        (status.to_owned(), count.parse().expect("a count"))
    };
    said.lines().map(line).collect()
}

/// As grpc_client.py does it, over two connections one after the other.
fn h2_calls(pod: &Pod) -> Counts {
    let mut seen = Counts::new();
    for connection in 0..2 {
        let at = pod.server_at(Family::V4, PORT);
        let statuses = streams::client(&pod.client, at, async |requests| {
            let mut calls = JoinSet::new();
            for number in (0..CALLS / 4).filter(|number| number % 2 == connection) {
                let mode = if number % 5 == 0 { "early" } else { "plain" };
                let text = format!("{} {} {mode}", number % 17, number % 3);
                for kind in KINDS {
                    let (requests, text) = (requests.clone(), text.clone());
                    calls.spawn(async move { streams::call(requests, kind, &text).await });
                }
            }
            calls.join_all().await
        });
        for status in statuses {
            *seen.entry(status).or_default() += 1;
        }
    }
    seen
}

/// As grpc_client.py does it with "cancel": calls that are given up once the condition holds.
fn h2_gives_up(pod: &Pod, rounds: u64, holds: impl Fn() -> bool + Sync) {
    let at = pod.server_at(Family::V4, PORT);
    streams::client(&pod.client, at, async |requests| {
        let mut calls = Vec::new();
        for _ in 0..rounds {
            for kind in KINDS {
                calls.push(streams::held(requests.clone(), kind).await);
            }
        }
        let all_hold = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, all_hold).await;
        waited.expect("the server holds all calls");
        for mut call in calls {
            call.send_reset(Reason::CANCEL);
        }
    });
}

/// What a server has said of its calls, once it has been this many.
fn ended(counts: impl Fn() -> Counts, expected: u64) -> Counts {
    eventually(PATIENCE, || counts().values().sum::<u64>() >= expected);
    counts()
}

fn ended_of(server: &Process) -> Counts {
    let mut counts = Counts::new();
    for line in server.said().lines() {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    counts
}

/// Every call has ended, these with a status.
fn http(statuses: &Counts) -> Http {
    let total = statuses.values().sum();
    let mut http = Http::requests(total).response("200", total);
    http.grpc = statuses.clone();
    http
}

/// Each of the 17 statuses as often as the others, and so counted.
fn assert_statuses(seen: &Counts, server: &Counts, scrape: &Scrape) {
    let each = (0..17).map(|status: u64| (status.to_string(), CALLS / 17));
    assert_eq!(seen, &BTreeMap::from_iter(each));
    assert_eq!(seen, server);
    http(seen).assert_as("grpc", scrape, PORT);
    assert_timed("grpc", scrape, PORT, CALLS);
    // An end that has closed and is sent something more, as a slow peer does, answers with RST.
    let mut connections = Connections::of(scrape, PORT);
    let reset = connections.closed.remove("rst").unwrap_or_default();
    *connections.closed.entry("fin".into()).or_default() += reset;
    connections.assert_ended(2);
    // Each method, too.
    let methods: Vec<String> = KINDS.iter().map(|k| format!("/test.Counts/{k}")).collect();
    let each = |count: u64| BTreeMap::from_iter(methods.iter().map(|m| (m.clone(), count)));
    for name in [
        "linkerd_ebpf_requests_total",
        "linkerd_ebpf_request_duration_seconds_count",
    ] {
        let of_grpc = [("protocol", "grpc")];
        assert_eq!(scrape.by("route", name, &of_grpc), each(CALLS / 4));
    }
    for status in 0..17 {
        let of_status = [("grpc_status", &*status.to_string())];
        let responses = scrape.by("route", "linkerd_ebpf_responses_total", &of_status);
        assert_eq!(responses, each(CALLS / 4 / 17), "grpc_status {status}");
    }
}

#[test]
fn statuses_between_grpcio_and_grpcio() {
    let pod = Pod::measured(Shape::Plain, &["--routes", "4"]);
    let server = grpcio(&pod);
    let seen = grpcio_calls(&pod, ROUNDS, "statuses");
    let scrape = pod.ended();
    assert_statuses(&seen, &ended(|| ended_of(&server), CALLS), &scrape);
}

#[test]
fn statuses_between_grpcio_and_h2() {
    let pod = Pod::measured(Shape::Plain, &["--routes", "4"]);
    let server = h2(&pod);
    let seen = grpcio_calls(&pod, ROUNDS, "statuses");
    let scrape = pod.ended();
    assert_statuses(&seen, &ended(|| server.ended(), CALLS), &scrape);
}

#[test]
fn statuses_between_h2_and_grpcio() {
    let pod = Pod::measured(Shape::Plain, &["--routes", "4"]);
    let server = grpcio(&pod);
    let seen = h2_calls(&pod);
    let scrape = pod.ended();
    assert_statuses(&seen, &ended(|| ended_of(&server), CALLS), &scrape);
}

#[test]
fn statuses_between_h2_and_h2() {
    let pod = Pod::measured(Shape::Plain, &["--routes", "4"]);
    let server = h2(&pod);
    let seen = h2_calls(&pod);
    let scrape = pod.ended();
    assert_statuses(&seen, &ended(|| server.ended(), CALLS), &scrape);
}

/// The client gives up what the server would never end: before there is any answer, or in the midst of one,
/// as who watches something does.
#[test]
fn cancelled_calls() {
    let count = 4 * ROUNDS;
    let held = BTreeMap::from([("held".to_owned(), count)]);
    let half = Http::requests(count).aborted("cancelled", count / 2);
    let half = half.aborted("stopped", count / 2);
    let all = Http::requests(count).aborted("stopped", count);
    for (by_grpcio, grpcio_server) in [(true, true), (true, false), (false, true), (false, false)] {
        let pod = Pod::measured(Shape::Plain, &[]);
        let servers = (
            grpcio_server.then(|| grpcio(&pod)),
            (!grpcio_server).then(|| h2(&pod)),
        );
        let said = || match &servers {
            (Some(server), _) => ended_of(server),
            (_, Some(server)) => server.ended(),
            _ => unreachable!("one of them"),
        };
        let all_held = || said() == held;
        if by_grpcio {
            let mut client = grpcio_client(&pod, ROUNDS, "cancel");
            let said = pod.client.run_until(&mut client, all_held);
            let seen = grpcio_counts(&said);
            assert_eq!(seen, BTreeMap::from([("1".to_owned(), count)]));
        } else {
            h2_gives_up(&pod, ROUNDS, all_held);
        }
        // This server begins each answer at once.
        let expected = if grpcio_server { &half } else { &all };
        expected.assert_as("grpc", &pod.ended(), PORT);
    }
}

/// The deadline passes on the client's side; this server does not look at it.
#[test]
fn deadlines_that_the_server_ignores() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let _server = h2(&pod);
    let seen = grpcio_calls(&pod, ROUNDS, "deadline");
    let count = 4 * ROUNDS;
    assert_eq!(seen, BTreeMap::from([("4".to_owned(), count)]));
    let expected = Http::requests(count).aborted("timeout", count);
    expected.assert_as("grpc", &pod.ended(), PORT);
}

/// It passes on both sides: who is first says how the call ended.
#[test]
fn deadlines_on_both_sides() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let _server = grpcio(&pod);
    let seen = grpcio_calls(&pod, ROUNDS, "deadline");
    let count = 4 * ROUNDS;
    assert_eq!(seen, BTreeMap::from([("4".to_owned(), count)]));
    let shown = Http::of_protocol("grpc", &pod.ended(), PORT);
    let by_server = shown.grpc.get("4").copied().unwrap_or(0);
    let by_client = shown.aborted.get("timeout").copied().unwrap_or(0);
    assert_eq!((shown.requests, by_server + by_client), (count, count));
    assert_eq!(
        shown.grpc.len() + shown.aborted.len(),
        1 + usize::from(by_server * by_client > 0)
    );
    assert_eq!(shown.in_flight, 0);
    assert_eq!(shown.lost, Counts::new());
}

/// What is gRPC is so by its content type, on whichever connection.
#[test]
fn beside_other_requests_on_one_connection() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let at = pod.server_at(Family::V4, PORT);
    let _server = h2(&pod);
    streams::client(&pod.client, at, async |requests| {
        for number in 0..50 {
            let get = streams::get(requests.clone(), "/404".to_owned());
            let text = format!("{} 1 plain", number % 5);
            let call = streams::call(requests.clone(), "Both", &text);
            let (got, called) = tokio::join!(get, call);
            assert_eq!((got, called), (Ok(404), (number % 5).to_string()));
        }
    });
    let scrape = pod.ended();
    let by_protocol = |name: &str| {
        let labels = [("dst_port", "8080")];
        scrape.by("protocol", &format!("linkerd_ebpf_{name}_total"), &labels)
    };
    let expected = Counts::from([("http2".to_owned(), 50), ("grpc".to_owned(), 50)]);
    assert_eq!(by_protocol("requests"), expected);
    assert_eq!(by_protocol("responses"), expected);
    let all = Http::of_port(&scrape, PORT);
    assert_eq!(
        all.responses,
        Counts::from([("200".to_owned(), 50), ("404".to_owned(), 50)])
    );
    let each = (0..5).map(|status| (status.to_string(), 10));
    assert_eq!(all.grpc, Counts::from_iter(each));
    assert_timed("http2", &scrape, PORT, 50);
    assert_timed("grpc", &scrape, PORT, 50);
}
