//! Many requests both ways, of which each must count once.

use std::collections::BTreeMap;
use std::process::Command;

use crate::load::{check, requests};
use crate::server::{HTTP, HTTP2, HTTPS};
use crate::world::{Mesh, Way, World, assert_nothing_is_left, borrowed};

/// Each is at the path of its name.
const STATUSES: [&str; 4] = ["200", "204", "404", "503"];

/// How a client asks.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// HTTP/1.1 over connections that are kept.
    Kept,
    /// HTTP/1.1, a connection for each request.
    Short,
    Http2,
}

/// Asks so many times. How many answers of each status there must be: equal shares, but a connection
/// begins with the first.
fn ask(way: &Way, kind: Kind, requests: u64) -> Vec<(&'static str, u64)> {
    let mut h2load = Command::new("h2load");
    h2load.args(["-n", &requests.to_string()]);
    let urls = STATUSES.map(|status| way.url(status));
    match kind {
        Kind::Kept => h2load.args(["--h1", "-c", "20"]),
        Kind::Short => h2load.args(["--h1", "-c", &requests.to_string()]),
        Kind::Http2 => h2load.args(["-c", "10", "-m", "20"]),
    };
    check(&way.from.run(h2load.args(urls)), requests);
    match kind {
        Kind::Short => vec![(STATUSES[0], requests)],
        _ => STATUSES.map(|status| (status, requests / 4)).into(),
    }
}

/// Where a server listens for such requests, if one does.
fn port(world: &World, way: &Way, kind: Kind) -> Option<u16> {
    match (kind, way.direction, world.tls) {
        (Kind::Http2, "outbound", true) => None,
        (Kind::Http2, ..) => Some(HTTP2),
        (_, "outbound", true) => Some(HTTPS),
        _ => Some(HTTP),
    }
}

fn each_request_counts_once(mesh: Mesh, tls: bool) {
    let world = World::new(mesh, tls, &[]);
    // For each connection as many of each status.
    let share = requests() / 3200 * 40;
    // By the labels of what is counted.
    let mut expected: BTreeMap<_, BTreeMap<String, u64>> = BTreeMap::new();
    let mut totals: BTreeMap<_, u64> = BTreeMap::new();
    for kind in [Kind::Kept, Kind::Short, Kind::Http2] {
        let number = match kind {
            // At once, so that they and the proxy's find room in the table.
            Kind::Short => (share / 4).min(300),
            _ => 2 * share,
        };
        for mut way in world.ways(HTTP) {
            let Some(port) = port(&world, &way, kind) else {
                continue;
            };
            way.at.set_port(port);
            let statuses = expected.entry(way.labels()).or_default();
            for (status, answers) in ask(&way, kind, number) {
                *statuses.entry(status.to_owned()).or_default() += answers;
            }
            *totals.entry(way.direction).or_default() += number;
        }
    }
    let sum = |counts: BTreeMap<String, u64>| counts.values().sum::<u64>();
    for (nginx, direction) in [
        (&world.application, "inbound"),
        (&world.outside, "outbound"),
    ] {
        let total = totals[direction];
        assert_eq!(sum(nginx.responses(total)), total, "{direction}");
    }

    let scrape = world.pod.ended();
    for (labels, statuses) in expected {
        let labels = borrowed(&labels);
        let responses = scrape.by("status", "linkerd_ebpf_responses_total", &labels);
        assert_eq!(responses, statuses, "{labels:?}\n{}", scrape.text);
        let requests = scrape.sum("linkerd_ebpf_requests_total", &labels);
        assert_eq!(requests, sum(statuses), "{labels:?}");
    }
    // That is all there is.
    for (direction, total) in totals {
        let labels = [("direction", direction)];
        let all = scrape.by("dst_port", "linkerd_ebpf_requests_total", &labels);
        assert_eq!(sum(all.clone()), total, "{direction} {all:?}");
    }
    assert_nothing_is_left(&scrape);
}

#[test]
fn by_linkerds_rules() {
    each_request_counts_once(Mesh::Linkerd, false);
}

#[test]
fn by_linkerds_rules_with_tls_outside() {
    each_request_counts_once(Mesh::Linkerd, true);
}

#[test]
fn by_istios_rules() {
    each_request_counts_once(Mesh::Istio, false);
}

#[test]
fn by_istios_rules_with_tls_outside() {
    each_request_counts_once(Mesh::Istio, true);
}

#[test]
fn by_our_redirection() {
    each_request_counts_once(Mesh::Redirection, false);
}

#[test]
fn by_our_redirection_with_tls_outside() {
    each_request_counts_once(Mesh::Redirection, true);
}
