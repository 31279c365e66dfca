//! HTTP/2 as real servers and clients speak it, without TLS: the client's own counts are the truth.

use std::collections::BTreeMap;
use std::process::Command;

use tokio::task::JoinSet;

use crate::exposition::Scrape;
use crate::fixture::{Family, Pod, Shape};
use crate::load::{SESSIONS, h2load_streams, requests};
use crate::observed::{Connections, Http, assert_timed};
use crate::peers::{
    ANY_STATUS, NGHTTPD_STATUS, PORT, UNMODIFIED, caddy, hypercorn, nghttpd, node, start, urls,
};
use crate::process::Process;
use crate::server::{self, HTTP2, Nginx};
use crate::streams::{self, Server};

/// Nothing in flight, nothing lost, of each status what the client has seen, each with its times.
#[track_caller]
fn assert_as_seen(seen: &BTreeMap<String, u64>, scrape: &Scrape, port: u16) {
    Http::answered(seen.clone()).assert_as("http2", scrape, port);
    assert_timed("http2", scrape, port, seen.values().sum());
}

fn h2load_is_counted(family: Family, attach: &str) {
    let pod = Pod::measured(Shape::Plain, &["--attach", attach]);
    let _nghttpd = nghttpd(&pod, pod.server(), &[]);
    let from = (&pod, &pod.client);
    let seen = h2load_streams(from, requests(), &[], &urls(&pod, family, &["4k"]));
    assert_eq!(seen["200"], requests());
    let scrape = pod.ended();
    assert_as_seen(&seen, &scrape, PORT);
    Connections::of(&scrape, PORT).assert_ended(SESSIONS);
    let client = pod.client_ip(family).to_string();
    let server = pod.server_ip(family).to_string();
    let peer = [
        ("direction", "inbound"),
        ("src_ip", client.as_str()),
        ("dst_ip", server.as_str()),
        ("src_port", ""),
        ("dst_port", "8080"),
        ("proto", "tcp"),
    ];
    let counted = scrape.sum("linkerd_ebpf_requests_total", &peer);
    assert_eq!(counted, requests());
}

#[test]
fn h2load_over_ipv4_by_tcx() {
    h2load_is_counted(Family::V4, "tcx");
}

#[test]
fn h2load_over_ipv6_by_clsact() {
    h2load_is_counted(Family::V6, "clsact");
}

/// Both ends with tables of this size, so that entries are pushed out always, or never.
fn table_size(size: &str) {
    let pod = Pod::measured(Shape::Plain, &[]);
    let sizes = [
        "--header-table-size",
        size,
        "--encoder-header-table-size",
        size,
    ];
    let _nghttpd = nghttpd(&pod, pod.server(), &sizes);
    let flags = [&sizes[..], &UNMODIFIED].concat();
    let urls = urls(&pod, Family::V4, &NGHTTPD_STATUS);
    let seen = h2load_streams((&pod, &pod.client), 20_000, &flags, &urls);
    assert_eq!(Vec::from_iter(seen.keys()), ["301", "304", "404"]);
    assert_as_seen(&seen, &pod.ended(), PORT);
}

#[test]
fn without_dynamic_tables() {
    table_size("0");
}

#[test]
fn with_large_dynamic_tables() {
    table_size("64K");
}

#[test]
fn bodies_of_a_megabyte() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let _nghttpd = nghttpd(&pod, pod.server(), &[]);
    let urls = urls(&pod, Family::V4, &["1m"]);
    let seen = h2load_streams((&pod, &pod.client), 500, &[], &urls);
    assert_as_seen(&seen, &pod.ended(), PORT);
}

/// Requests of many frames, each sent back.
#[test]
fn uploads() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let _nghttpd = nghttpd(&pod, pod.server(), &["--echo-upload", "--trailer", "a: b"]);
    let body = pod.tmp.file("body");
    // Full of what looks like frames of HTTP/2: HEADERS for stream 1, and RST_STREAM.
    let decoy = b"\0\0\x01\x01\x05\0\0\0\x01\x88\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08";
    std::fs::write(&body, decoy.repeat(4000)).expect("a body");
    let data = format!("--data={}", body.display());
    let urls = urls(&pod, Family::V6, &["4k"]);
    let seen = h2load_streams((&pod, &pod.client), 1000, &[&data], &urls);
    assert_as_seen(&seen, &pod.ended(), PORT);
}

/// The statuses of the responses that nghttp has asked for.
fn nghttp(pod: &Pod, flags: &[&str], paths: &[&str]) -> BTreeMap<String, u64> {
    let mut command = Command::new("nghttp");
    command.args(["--null-out", "--stat"]).args(flags);
    let said = pod.client.run(command.args(urls(pod, Family::V4, paths)));
    let mut statuses = BTreeMap::new();
    let (_, table) = said.split_once("request path\n").expect("a table");
    // "13 +1.14ms +347us 795us 404 148 /none", with "*" before the second time of what was pushed.
    for line in table.lines().filter(|line| !line.contains('*')) {
        let status = line.split_whitespace().nth(4).expect("a status");
        *statuses.entry(status.to_owned()).or_default() += 1;
    }
    statuses
}

/// Frames with padding, heads over several frames, and trailers.
#[test]
fn padding_continuation_and_trailers() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let padded = ["--padding", "255", "--trailer", "x-checksum: 0"];
    let _nghttpd = nghttpd(&pod, pod.server(), &padded);
    let flags = ["--continuation", "--padding", "255", "--multiply", "50"];
    let flags = [&flags[..], &UNMODIFIED].concat();
    let seen = nghttp(&pod, &flags, &["4k", "304", "404", "301"]);
    assert_eq!(seen.values().sum::<u64>(), 200, "{seen:?}");
    assert_as_seen(&seen, &pod.ended(), PORT);
}

/// What the server pushes was not asked for, so it is no request; its head is in the table.
#[test]
fn pushed_responses() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let _nghttpd = nghttpd(&pod, pod.server(), &["--push=/4k=/304,/301,/404"]);
    let seen = nghttp(&pod, &["--multiply", "20"], &["4k", "301", "404"]);
    assert_eq!(seen.values().sum::<u64>(), 60, "{seen:?}");
    assert_as_seen(&seen, &pod.ended(), PORT);
}

/// The first request is one of HTTP/1.1, and its response comes on stream 1. The others are new
/// streams.
#[test]
fn upgrades() {
    for client in ["nghttp", "curl"] {
        let pod = Pod::measured(Shape::Plain, &[]);
        let _hypercorn = start(&pod, hypercorn());
        let paths = ["418", "503", "200", "404"];
        match client {
            "nghttp" => {
                let seen = nghttp(&pod, &["--upgrade"], &paths);
                assert_eq!(seen, BTreeMap::from(paths.map(|path| (path.to_owned(), 1))));
            }
            _ => {
                let mut command = Command::new("curl");
                command.args(["-sS", "--http2", "-w", "%{http_code} %{http_version}\n"]);
                for url in urls(&pod, Family::V4, &paths) {
                    command.args(["-o", "/dev/null", &url]);
                }
                let said = pod.client.run(&mut command);
                assert_eq!(said, "418 2\n503 2\n200 2\n404 2\n");
            }
        }
        let scrape = pod.ended();
        // Who closes first may find bytes that the other has not read.
        let connections = Connections::of(&scrape, PORT);
        assert_eq!((connections.opened, connections.active), (1, 0));
        let total = Http::requests(4)
            .response("200", 1)
            .response("404", 1)
            .response("418", 1)
            .response("503", 1);
        assert_eq!(Http::of_port(&scrape, PORT), total, "{client}");
        let responses = |protocol| {
            let labels = [("dst_port", "8080"), ("protocol", protocol)];
            scrape.by("status", "linkerd_ebpf_responses_total", &labels)
        };
        let first = BTreeMap::from([("418".to_owned(), 1)]);
        assert_eq!(responses("http1"), first, "{client}");
        assert_eq!(responses("http2").values().sum::<u64>(), 3, "{client}");
        assert_timed("http1", &scrape, PORT, 1);
        assert_timed("http2", &scrape, PORT, 3);
    }
}

/// An upgrade that the server does not take part in changes nothing.
#[test]
fn a_refused_upgrade() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let nginx = Nginx::start(&pod);
    for url in server::urls(&pod, Family::V4, &["200", "404"]) {
        let mut curl = Command::new("curl");
        pod.client
            .run(curl.args(["-sS", "--http2", "-o", "/dev/null", &url, &url]));
    }
    let scrape = pod.ended();
    Http::answered(nginx.responses(4)).assert_in(&scrape, server::HTTP);
}

/// A server that answers with any status, asked for all of them.
fn any_status(start: impl Fn(&Pod) -> Process, requests: u64) {
    let pod = Pod::measured(Shape::Plain, &[]);
    let _server = start(&pod);
    let urls = urls(&pod, Family::V6, &ANY_STATUS);
    let seen = h2load_streams((&pod, &pod.client), requests, &[], &urls);
    assert_eq!(seen.len(), ANY_STATUS.len(), "{seen:?}");
    assert_as_seen(&seen, &pod.ended(), PORT);
}

#[test]
fn hypercorn_with_any_status() {
    any_status(|pod| start(pod, hypercorn()), 3000);
}

#[test]
fn node_with_any_status() {
    any_status(|pod| start(pod, node()), 10_000);
}

#[test]
fn caddy_with_any_status() {
    any_status(|pod| start(pod, caddy(pod)), 10_000);
}

/// nginx has counted itself.
#[test]
fn nginx_with_any_status() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let nginx = Nginx::start(&pod);
    let at = pod.server_at(Family::V4, HTTP2);
    let urls = ANY_STATUS.map(|status| format!("http://{at}/{status}"));
    let seen = h2load_streams((&pod, &pod.client), 10_000, &UNMODIFIED, &urls);
    assert_eq!(seen, nginx.responses(10_000));
    assert_as_seen(&seen, &pod.ended(), HTTP2);
}

/// By another client too, which like the server puts statuses and paths into its table.
#[test]
fn the_crate_h2_with_any_status() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let at = pod.server_at(Family::V4, PORT);
    let _server = Server::start(pod.server(), at);
    let seen = streams::client(&pod.client, at, async |requests| {
        let mut seen = BTreeMap::<String, u64>::new();
        for _ in 0..100 {
            let get = |status| streams::get(requests.clone(), format!("/{status}"));
            let all = ANY_STATUS.map(get);
            for status in JoinSet::from_iter(all).join_all().await {
                let status = status.expect("a status").to_string();
                *seen.entry(status).or_default() += 1;
            }
        }
        seen
    });
    assert_eq!(seen["418"], 100);
    let urls = urls(&pod, Family::V4, &ANY_STATUS);
    let mut total = h2load_streams((&pod, &pod.client), 10_000, &[], &urls);
    for (status, count) in seen {
        *total.entry(status).or_default() += count;
    }
    assert_as_seen(&total, &pod.ended(), PORT);
}

/// 103 comes before the response and is none.
#[test]
fn interim_responses() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let _node = start(&pod, node());
    let at = pod.server_at(Family::V4, PORT);
    let paths = ["103", "404", "103", "204"];
    let seen = streams::client(&pod.client, at, async |requests| {
        let mut seen = BTreeMap::<String, u64>::new();
        for path in paths.repeat(25) {
            let status = streams::get(requests.clone(), format!("/{path}")).await;
            *seen
                .entry(status.expect("a status").to_string())
                .or_default() += 1;
        }
        seen
    });
    assert_eq!(seen["200"], 50, "{seen:?}");
    assert_as_seen(&seen, &pod.ended(), PORT);
}

/// Streams that end without a response, and why.
#[test]
fn resets_by_the_server() {
    const REFUSED_STREAM: u32 = 7;
    const CANCEL: u32 = 8;
    let pod = Pod::measured(Shape::Plain, &[]);
    let at = pod.server_at(Family::V4, PORT);
    let _server = Server::start(pod.server(), at);
    streams::client(&pod.client, at, async |requests| {
        for (code, count) in [(CANCEL, 3), (REFUSED_STREAM, 5), (0, 2), (2, 4), (11, 1)] {
            for _ in 0..count {
                let path = format!("/reset/{code}");
                let status = streams::get(requests.clone(), path).await;
                assert_eq!(status, Err(code));
                let status = streams::get(requests.clone(), "/404".to_owned()).await;
                assert_eq!(status, Ok(404));
            }
        }
    });
    Http::requests(30)
        .response("404", 15)
        .aborted("cancelled", 3)
        .aborted("refused", 5)
        .aborted("reset", 7)
        .assert_as("http2", &pod.ended(), PORT);
}

/// The pod as a client.
#[test]
fn outbound_requests() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let _nghttpd = nghttpd(&pod, &pod.client, &[]);
    let url = |path| format!("http://{}:{PORT}/{path}", pod.client_ip(Family::V4));
    let urls = NGHTTPD_STATUS.map(url);
    let seen = h2load_streams((&pod, &pod.hook), 20_000, &UNMODIFIED, &urls);
    let scrape = pod.ended();
    assert_as_seen(&seen, &scrape, PORT);
    let peer = [("direction", "outbound"), ("dst_port", "8080")];
    assert_eq!(scrape.sum("linkerd_ebpf_requests_total", &peer), 20_000);
}

/// Each packet passes twice, and counts once.
#[test]
fn requests_over_the_loopback() {
    let pod = Pod::measured_on_loopback();
    let _nghttpd = nghttpd(&pod, pod.server(), &[]);
    let before = Http::of_port(&pod.ended(), PORT);
    assert_eq!(before, Http::default());
    let urls = urls(&pod, Family::V4, &NGHTTPD_STATUS);
    let seen = h2load_streams((&pod, &pod.hook), 20_000, &UNMODIFIED, &urls);
    assert_as_seen(&seen, &pod.ended(), PORT);
}
