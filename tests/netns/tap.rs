//! `linkerd-metricd tap` beside real traffic: what it shows, and what it says that it has not shown,
//! is what the clients have asked for.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::fixture::{Family, Pod, Shape, binary};
use crate::load::{h2load, h2load_streams, requests, wrk};
use crate::peers::{self, PORT, nghttpd, python};
use crate::process::{PATIENCE, Process, eventually, output, run};
use crate::server::{HTTP, Nginx, urls};

/// A buffer that holds all events of a test, should tap not run for a moment.
const LARGE: [&str; 2] = ["--perf-buffer-size", "4194304"];

fn command(pod: &Pod, flags: &[&str]) -> Command {
    let mut command = binary(env!("CARGO_BIN_EXE_linkerd-metricd"));
    command.arg("tap").arg("--pin-dir").arg(pod.pins.path());
    command.args(flags);
    command
}

struct Tap(Process);

/// What the last line says.
#[derive(Debug, PartialEq, Eq)]
struct Summary {
    shown: u64,
    dropped: u64,
}

impl Tap {
    /// Returns when it listens.
    fn start(pod: &Pod, flags: &[&str]) -> Self {
        let log = pod.tmp.file(&crate::netns::unique("tap"));
        let tap = Process::start(&pod.client, command(pod, flags), log);
        let listens = eventually(PATIENCE, || tap.said().contains("listening"));
        assert!(listens, "it does not listen: {}", tap.said());
        Self(tap)
    }

    /// Ends it as Ctrl-C does. Returns what it has shown as JSON, and its last line.
    fn end(mut self) -> (Vec<Value>, Summary) {
        let pid = Pid::from_raw(self.0.id() as i32);
        kill(pid, Signal::SIGINT).expect("kill");
        let mut code = None;
        let has_ended = eventually(PATIENCE, || {
            code = self.0.exit_code();
            code.is_some()
        });
        assert!(has_ended && code == Some(0), "it ended by {code:?}");
        let said = self.0.said();
        let shown = said.lines().filter(|line| line.starts_with('{'));
        let shown = shown.map(|line| serde_json::from_str(line).expect("JSON"));
        let last = said.lines().last().unwrap_or_default();
        (shown.collect(), Summary::parse(last))
    }
}

impl Summary {
    fn parse(line: &str) -> Self {
        let before = |word: &str| {
            let (number, _) = line.split_once(word)?;
            number.rsplit(' ').next()?.parse().ok()
        };
        let number = |word| before(word).unwrap_or_else(|| panic!("no summary: {line}"));
        Self {
            shown: number(" requests shown"),
            dropped: number(" dropped"),
        }
    }
}

/// `METHOD PATH STATUS`, counted.
fn seen(shown: &[Value]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for request in shown {
        let asked = &request["requestInitEvent"];
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let status = &request["responseInitEvent"]["httpStatus"];
        let line = [
            text(&asked["method"]),
            text(&asked["path"]),
            status.to_string(),
        ];
        *counts.entry(line.join(" ")).or_default() += 1;
    }
    counts
}

fn expected(lines: &[(&str, u64)]) -> BTreeMap<String, u64> {
    lines
        .iter()
        .map(|(line, n)| ((*line).to_owned(), *n))
        .collect()
}

/// 1,000 requests, the URLs in turn, whose events the large buffer holds.
fn a_thousand(pod: &Pod, flags: &[&str], urls: &[String]) {
    let mut h2load = Command::new("h2load");
    h2load.args(["-n", "1000", "-c", "10"]);
    pod.client.run(h2load.args(flags).args(urls));
}

#[test]
fn http1_is_shown_whole() {
    let pod = Pod::measured(Shape::Plain, &LARGE);
    let _nginx = Nginx::start(&pod);
    let tap = Tap::start(&pod, &["-o", "json"]);
    a_thousand(&pod, &["--h1"], &urls(&pod, Family::V4, &["200", "404"]));
    pod.ended();
    let (shown, summary) = tap.end();
    let both = [("GET /200 200", 500), ("GET /404 404", 500)];
    assert_eq!(seen(&shown), expected(&both));
    assert_eq!(
        summary,
        Summary {
            shown: 1000,
            dropped: 0
        }
    );
    let request = &shown[0];
    assert_eq!(request["protocol"], "http1");
    assert_eq!(request["proxyDirection"], "INBOUND");
    let [from, to] = [pod.client_ip(Family::V4), pod.server_ip(Family::V4)];
    assert_eq!(request["source"]["ip"], from.to_string());
    assert_eq!(request["destination"]["ip"], to.to_string());
    assert_eq!(request["destination"]["port"], HTTP);
    assert!(request["responseEndEvent"]["sinceRequestInitNanos"].as_u64() > Some(0));
}

#[test]
fn http2_is_shown_whole() {
    let pod = Pod::measured(Shape::Plain, &LARGE);
    let _nghttpd = nghttpd(&pod, pod.server(), &[]);
    let tap = Tap::start(&pod, &["-o", "json"]);
    a_thousand(&pod, &[], &peers::urls(&pod, Family::V6, &["4k", "none"]));
    pod.ended();
    let (shown, summary) = tap.end();
    let both = [("GET /4k 200", 500), ("GET /none 404", 500)];
    assert_eq!(seen(&shown), expected(&both));
    assert_eq!(
        summary,
        Summary {
            shown: 1000,
            dropped: 0
        }
    );
    assert!(shown.iter().all(|request| request["protocol"] == "http2"));
}

#[test]
fn grpc_is_shown_whole() {
    let pod = Pod::measured(Shape::Plain, &LARGE);
    let mut server = python("grpc_server.py");
    server.arg(PORT.to_string());
    let _server = peers::start(&pod, server);
    let tap = Tap::start(&pod, &["-o", "json"]);
    let mut client = python("grpc_client.py");
    let at = pod.server_at(Family::V4, PORT).to_string();
    // 15 of each of 4 kinds of call with each of 17 statuses.
    let said = pod.client.run(client.args([&at, "15", "statuses"]));
    pod.ended();
    let (shown, summary) = tap.end();
    let kind = |name: &str| (format!("POST /test.Counts/{name} 200"), 15 * 17);
    let kinds = ["Unary", "Upload", "Download", "Both"].map(kind);
    assert_eq!(seen(&shown), BTreeMap::from(kinds));
    assert_eq!(
        summary,
        Summary {
            shown: 1020,
            dropped: 0
        }
    );
    let mut statuses = BTreeMap::new();
    for request in &shown {
        assert_eq!(request["protocol"], "grpc");
        let status = request["responseEndEvent"]["grpcStatusCode"].to_string();
        *statuses.entry(status).or_insert(0) += 1;
    }
    let clients = said.lines().filter_map(|line| line.split_once(' '));
    let clients = clients.map(|(status, n)| (status.to_owned(), n.parse().expect("a count")));
    assert_eq!(statuses, clients.collect());
}

/// What is shown and what is dropped are all requests; a part of each.
fn at_saturation(pod: &Pod, load: impl FnOnce()) {
    let tap = Tap::start(pod, &[]);
    load();
    let scrape = pod.ended();
    let (_, summary) = tap.end();
    assert_eq!(summary.shown + summary.dropped, requests(), "{summary:?}");
    assert!(summary.shown > 0 && summary.dropped > 0, "{summary:?}");
    let ends = [("event", "end")];
    assert_eq!(
        scrape.sum("linkerd_ebpf_events_dropped_total", &ends),
        summary.dropped
    );
}

#[test]
fn at_saturation_of_http1_the_rest_is_counted() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let _nginx = Nginx::start(&pod);
    at_saturation(&pod, || {
        h2load(&pod, requests(), &urls(&pod, Family::V4, &["200"]));
    });
}

/// By wrk, with nginx's own count.
#[test]
fn at_saturation_all_are_those_that_nginx_has_had() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let nginx = Nginx::start(&pod);
    let tap = Tap::start(&pod, &[]);
    let before = nginx.requests(&pod);
    let answered = wrk(
        &pod,
        16,
        requests() / 16,
        &urls(&pod, Family::V4, &["200"])[0],
    );
    // The question itself is one.
    let served = nginx.requests(&pod) - before - 1;
    let scrape = pod.ended();
    let (_, summary) = tap.end();
    assert_eq!(
        (served, summary.shown + summary.dropped),
        (answered, served)
    );
    assert!(summary.shown > 0 && summary.dropped > 0, "{summary:?}");
    let dropped = scrape.sum("linkerd_ebpf_events_dropped_total", &[("event", "end")]);
    assert_eq!(dropped, summary.dropped);
}

#[test]
fn at_saturation_of_http2_the_rest_is_counted() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let _nghttpd = nghttpd(&pod, pod.server(), &[]);
    at_saturation(&pod, || {
        let urls = peers::urls(&pod, Family::V4, &["4k"]);
        h2load_streams((&pod, &pod.client), requests(), &[], &urls);
    });
}

#[test]
fn after_a_kill_the_programs_stop() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let _nginx = Nginx::start(&pod);
    let mut tap = Tap::start(&pod, &[]);
    tap.0.kill();
    let since = Instant::now();
    let dropped = || {
        pod.scrape()
            .sum("linkerd_ebpf_events_dropped_total", &[("event", "end")])
    };
    let urls = urls(&pod, Family::V4, &["200"]);
    // Until then nobody reads what is written.
    h2load(&pod, 2000, &urls);
    let meanwhile = since.elapsed() < Duration::from_secs(4);
    assert!(dropped() > 0 || !meanwhile, "tap was not heard of");
    std::thread::sleep(Duration::from_secs(5).saturating_sub(since.elapsed()));
    h2load(&pod, 1000, &urls);
    let before = dropped();
    h2load(&pod, 2000, &urls);
    assert_eq!(dropped(), before);
    let mut dump = Command::new("bpftool");
    dump.args(["-j", "map", "dump", "pinned"]);
    dump.arg(pod.pins.path().join("linkerd_tap_map"));
    let said = run(&mut dump);
    let dump: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(
        dump[0]["formatted"]["value"][".data.tap"][0]["tap_until"], 0,
        "{said}"
    );
}

#[test]
fn one_at_a_time_and_only_where_something_is_attached() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let tap = Tap::start(&pod, &[]);
    let second = output(&mut command(&pod, &[]));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    let holder = format!("process {} listens there already", tap.0.id());
    assert!(!second.status.success() && said.contains(&holder), "{said}");
    tap.end();
    let nowhere = output(&mut command(&pod, &["--pin-dir", "/sys/fs/bpf"]));
    let said = String::from_utf8_lossy(&nowhere.stderr);
    assert!(!nowhere.status.success(), "{said}");
}

#[test]
fn only_what_is_asked_for_until_there_is_enough() {
    let pod = Pod::measured(Shape::Plain, &LARGE);
    let _nginx = Nginx::start(&pod);
    let peer = pod.client_ip(Family::V4).to_string();
    let flags = [
        "-o", "json", "--status", "4xx", "--path", "/40", "--peer", &peer,
    ];
    let tap = Tap::start(
        &pod,
        &[&flags[..], &["--method", "GET", "--max", "3"]].concat(),
    );
    let urls = urls(&pod, Family::V4, &["200", "404"]);
    h2load(&pod, 200, &urls);
    let mut tap = tap;
    assert!(
        eventually(PATIENCE, || tap.0.exit_code() == Some(0)),
        "{}",
        tap.0.said()
    );
    let said = tap.0.said();
    assert_eq!(said.matches("\"/404\"").count(), 3, "{said}");
    assert!(said.contains("3 requests shown, "), "{said}");
}

#[test]
fn other_maps_are_followed() {
    let pod = Pod::measured(Shape::Plain, &LARGE);
    let _nginx = Nginx::start(&pod);
    let tap = Tap::start(&pod, &["-o", "json"]);
    let urls = urls(&pod, Family::V4, &["200"]);
    h2load(&pod, 100, &urls);
    pod.attach(&["--perf-buffer-size", "1048576"]);
    let again = eventually(PATIENCE, || tap.0.said().matches("listening").count() == 2);
    assert!(again, "{}", tap.0.said());
    h2load(&pod, 100, &urls);
    pod.ended();
    let (shown, _) = tap.end();
    assert_eq!(seen(&shown), expected(&[("GET /200 200", 200)]));
}
