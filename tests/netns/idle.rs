//! Series that are not there yet, and series that are not shown any more.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metricd::kernel::options::ReadBy;
use metricd::kernel::pin_dir::PinDir;
use metricd::read::history::{History, Moment};
use metricd::read::snapshot::{Made, Snapshot};
use serde_json::Value;

use crate::client::{connect_from, listen};
use crate::exposition::Scrape;
use crate::fixture::{Family, Pod, Shape};
use crate::process::{eventually, output};
use crate::upgrade::{CLI, operation};

/// ICMP's number among IP's protocols.
const ICMP: u8 = 1;
const PORT: u16 = 9300;
const PEERS: u16 = 1000;
const PATIENCE: Duration = Duration::from_secs(30);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: pod\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

fn peer(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 8, high, low).into()
}

/// A request of each of these peers, on a connection of its own, which the client closes first.
fn ask(pod: &Pod, peers: &[IpAddr]) {
    let at = pod.server_at(Family::V4, PORT);
    let listener = listen(&pod.hook, at);
    let count = peers.len();
    let server = thread::spawn(move || {
        let mut request = [0; REQUEST.len()];
        for _ in 0..count {
            let (mut stream, _) = listener.accept().expect("accept");
            stream.read_exact(&mut request).expect("read");
            stream.write_all(RESPONSE).expect("write");
            assert_eq!(stream.read(&mut request).expect("the end"), 0);
        }
    });
    pod.client.inside(|| {
        for peer in peers {
            let mut stream = connect_from(SocketAddr::new(*peer, 0), at).expect("connect");
            stream.write_all(REQUEST).expect("write");
            let mut response = [0; RESPONSE.len()];
            stream.read_exact(&mut response).expect("read");
        }
    });
    server.join().expect("the server");
}

/// The totals, by name, without those that are 0.
fn totals(scrape: &Scrape) -> BTreeMap<&str, u64> {
    let samples = scrape.samples.iter();
    let totals = samples.filter(|sample| sample.name.starts_with("linkerd_ebpf_pod_"));
    let mut sums = BTreeMap::new();
    for sample in totals {
        *sums.entry(sample.name.as_str()).or_default() += sample.value as u64;
    }
    sums.retain(|_, sum| *sum > 0);
    sums
}

#[test]
fn a_pod_that_has_seen_nothing_shows_every_total_at_0() {
    let mut pod = Pod::quiet(Shape::Plain);
    pod.attach(&[]);
    pod.start();
    let scrape = pod.scrape();
    assert_eq!(totals(&scrape), BTreeMap::new());
    let lines = |name: &str| scrape.select(name, &[]).count();
    let found = [
        "linkerd_ebpf_pod_requests_total",
        "linkerd_ebpf_pod_responses_total",
        "linkerd_ebpf_pod_requests_aborted_total",
        "linkerd_ebpf_pod_connections_opened_total",
        "linkerd_ebpf_pod_connections_closed_total",
        "linkerd_ebpf_pod_connections_opaque_total",
        "linkerd_ebpf_pod_state_lost_total",
    ]
    .map(lines);
    assert_eq!(found, [6, 30, 18, 2, 10, 2, 2]);
}

#[test]
fn a_thousand_peers_leave_the_page_and_one_comes_back() {
    let mut pod = Pod::quiet(Shape::Plain);
    // All addresses of the peers are the client's.
    pod.client.ip("route add local 10.8.0.0/16 dev lo");
    let client = pod.client_ip(Family::V4);
    pod.hook.ip(&format!("route add 10.8.0.0/16 via {client}"));
    pod.attach(&[]);
    pod.start_showing("300ms");
    let peers: Vec<IpAddr> = (1..=PEERS).map(peer).collect();
    ask(&pod, &peers);

    let of_peers = |scrape: &Scrape, name: &str| {
        let lines = scrape.select(name, &[]);
        let lines = lines.filter(|line| line.labels["src_ip"].starts_with("10.8."));
        lines
            .map(|line| (line.labels["src_ip"].clone(), line.value as u64))
            .collect::<Vec<_>>()
    };
    let requests = "linkerd_ebpf_requests_total";
    let responses = "linkerd_ebpf_responses_total";
    let all = u64::from(PEERS);
    let exact = |count| {
        BTreeMap::from([
            ("linkerd_ebpf_pod_requests_total", count),
            ("linkerd_ebpf_pod_responses_total", count),
            ("linkerd_ebpf_pod_connections_opened_total", count),
            ("linkerd_ebpf_pod_connections_closed_total", count),
        ])
    };
    let mut last = None;
    let gone = eventually(PATIENCE, || {
        let scrape = pod.scrape();
        let is_gone = of_peers(&scrape, requests).is_empty() && totals(&scrape) == exact(all);
        last = Some(scrape);
        is_gone
    });
    let text = last.map(|scrape| scrape.text).unwrap_or_default();
    assert!(gone, "{text}");
    let scrape = Scrape::parse(&text);
    // Of each peer what it has said, and its responses of one status.
    assert!(
        scrape.sum("linkerd_ebpf_series_idle", &[]) >= 2 * all,
        "{text}"
    );
    assert_eq!(of_peers(&scrape, responses), []);
    let entries = scrape.sum(
        "linkerd_ebpf_map_entries",
        &[("map", "linkerd_metrics_map")],
    );
    assert!(entries >= all, "{entries} in the map");

    ask(&pod, &peers[499..500]);
    let back = peers[499].to_string();
    let mut last = None;
    let came = eventually(PATIENCE, || {
        let scrape = pod.scrape();
        let shown = [requests, responses, "linkerd_ebpf_connections_closed_total"];
        let shown = shown.map(|name| of_peers(&scrape, name));
        let came = shown.iter().all(|lines| *lines == [(back.clone(), 2)]);
        assert!(
            shown.iter().all(|lines| lines.len() <= 1),
            "{}",
            scrape.text
        );
        last = Some(scrape);
        came && last.as_ref().map(totals) == Some(exact(all + 1))
    });
    assert!(
        came,
        "{}",
        last.map(|scrape| scrape.text).unwrap_or_default()
    );

    // Who looks at it sees all there is.
    let cli = |args: &[&str]| {
        let mut command = Command::new(CLI);
        let url = "http://127.0.0.1:4191";
        pod.hook
            .run(command.args(args).args(["--url", url, "-o", "json"]))
    };
    let stat: Value = serde_json::from_str(&cli(&["stat", "--total"])).expect("JSON");
    let rows = stat["peers"].as_array().expect("peers");
    let of_rows = rows.iter().filter(|row| {
        row["peer"]
            .as_str()
            .is_some_and(|ip| ip.starts_with("10.8."))
    });
    let counts: Vec<f64> = of_rows
        .map(|row| row["requests"].as_f64().expect("a count"))
        .collect();
    assert_eq!((counts.len(), counts.iter().sum::<f64>()), (1000, 1001.0));
    let diagnosis: Value = serde_json::from_str(&cli(&["diagnose"])).expect("JSON");
    assert_eq!(diagnosis["verdict"], "whole: 1001 requests counted");
}

/// What the pins of real maps tell of their age.
#[test]
fn maps_are_as_old_as_their_pins() {
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a date")
    };
    let pod = Pod::quiet(Shape::Plain);
    let dir = PinDir::new(pod.pins.path());
    let read = || Snapshot::read(&dir, ReadBy::Auto).expect("a snapshot");
    let made = || read().oldest.expect("an age");
    // The kernel dates files by its ticks.
    let before = now() - Duration::from_millis(20);
    pod.attach(&[]);
    let after = now();
    let first = made();
    assert!(
        (before..=after).contains(&first.at),
        "{first:?} {before:?} {after:?}"
    );

    let mut history = History::new(Duration::ZERO);
    history.learn(&mut read(), Moment::now());
    pod.client.run(
        Command::new("ping")
            .args(["-c1", "-W5"])
            .arg(pod.server_ip(Family::V4).to_string()),
    );
    let mut snapshot = read();
    history.learn(&mut snapshot, Moment::now());
    let ages = snapshot.metrics.iter().zip(&snapshot.ages.metrics);
    let pinged: Vec<_> = ages.filter(|((key, _), _)| key.proto == ICMP).collect();
    assert!(!pinged.is_empty(), "{:?}", snapshot.metrics);
    for (series, age) in pinged {
        let since = after..=now();
        assert!(
            age.created.is_some_and(|at| since.contains(&at)),
            "{series:?} {age:?}"
        );
    }

    // Further maps count on; others begin anew.
    let operate = |args: &[&str]| {
        output(&mut operation(&pod, CLI.as_ref(), args))
            .status
            .success()
    };
    let resize = ["resize", "--map-size", "2048"];
    assert!(operate(&resize));
    assert_eq!(made(), first);
    assert!(operate(&["detach"]));
    pod.attach(&[]);
    let Made { inode, at } = made();
    assert!(inode != first.inode && at > after, "{at:?}");
}
