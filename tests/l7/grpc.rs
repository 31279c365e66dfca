//! gRPC through the proxy, between gRPC's own client and server (grpcio): what the proxy counts is
//! what the client has seen.

use std::collections::BTreeMap;

use crate::clients::{grpc, grpc_given_up, nghttp};
use crate::exposition::Scrape;
use crate::peers::{PORT, python, start};
use crate::process::Process;
use crate::proxy::Mesh;

const REQUESTS: &str = "linkerd_proxy_requests_total";
const KINDS: u64 = 4;
const STATUSES: u64 = 17;

type Counts = BTreeMap<String, u64>;

fn server(mesh: &Mesh) -> Process {
    let mut server = python("grpc_server.py");
    server.arg(PORT.to_string());
    start(&mesh.pod, server)
}

/// Of gRPC's requests, which are all there are.
fn by(scrape: &Scrape, label: &str) -> Counts {
    let of_grpc = scrape.by(label, REQUESTS, &[("protocol", "grpc")]);
    assert_eq!(of_grpc, scrape.by(label, REQUESTS, &[]), "another protocol");
    of_grpc
}

/// Unary calls and streams, with messages and without, so with the status in trailers and in the
/// only headers.
#[test]
fn statuses_are_the_clients() {
    let mesh = Mesh::new(1024);
    let _server = server(&mesh);
    let _proxy = mesh.proxy_to(PORT, &["--h2c", "--workers", "4"]);
    let rounds = 15;
    let calls = rounds * STATUSES * KINDS;
    let seen = grpc(&mesh, rounds, "statuses");
    let each = (0..STATUSES).map(|status| (status.to_string(), rounds * KINDS));
    assert_eq!(seen, each.collect());
    let scrape = mesh.scrape(calls);
    assert_eq!(by(&scrape, "grpc_status"), seen);
    assert_eq!(by(&scrape, "status"), Counts::from([("200".into(), calls)]));
    let count = "linkerd_proxy_request_duration_seconds_count";
    assert_eq!(scrape.sum(count, &[("protocol", "grpc")]), calls);
}

/// That both ways of sending a status come through as they are, and are counted, frame by frame.
#[test]
fn trailers_and_trailers_only() {
    let mesh = Mesh::new(1024);
    let _server = server(&mesh);
    let _proxy = mesh.proxy_to(PORT, &["--h2c"]);
    for (message, status, frames) in [("0 1 plain", "0", 2), ("14 0 plain", "14", 1)] {
        let said = nghttp(&mesh, message);
        assert_eq!(said.matches("recv HEADERS frame").count(), frames, "{said}");
        let line = format!("grpc-status: {status}\n");
        assert!(said.contains(&line), "{said}");
    }
    let one_each = [("0".to_owned(), 1), ("14".to_owned(), 1)];
    let scrape = mesh.scrape(2);
    assert_eq!(by(&scrape, "grpc_status"), Counts::from(one_each));
}

/// The client gives up what the server would never end: half of it has got an answer that begun.
#[test]
fn cancelled_calls_have_no_status() {
    let mesh = Mesh::new(1024);
    let server = server(&mesh);
    let _proxy = mesh.proxy_to(PORT, &["--h2c"]);
    // The server holds at most 32 calls at a time.
    let rounds = 5;
    let calls = rounds * KINDS;
    let all_held = || server.said().matches("held").count() as u64 == calls;
    let seen = grpc_given_up(&mesh, rounds, all_held);
    assert_eq!(seen, Counts::from([("1".into(), calls)]));
    let scrape = mesh.scrape(calls);
    assert_eq!(
        by(&scrape, "grpc_status"),
        Counts::from([("".into(), calls)])
    );
    let half = [
        ("200".to_owned(), calls / 2),
        ("unknown".to_owned(), calls / 2),
    ];
    assert_eq!(by(&scrape, "status"), Counts::from(half));
}
