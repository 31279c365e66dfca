mod decoded;
mod formats;

use std::{env, fs, net::Ipv6Addr, sync::Arc, time::Duration};

use prometheus::proto::MetricType;

use super::families::{FAMILIES, proxied};
use super::*;
use crate::abi::{
    CLASS_ABORTED, Counters, DnsKey, DnsValue, GRPC_STATUS_NONE, HandshakeKey, HandshakeValue,
    Histogram, LatencyKey, LatencyPair, LatencyValue, MetricKey, MetricValue, RequestKey,
    RequestValue, STATUS_ABORTED, STATUS_OTHER, abort_reason, direction, protocol, series_kind,
};
use crate::read::diagnose::Tally;
use crate::read::records::Way;
use crate::read::samples;
use crate::read::snapshot::{
    Age, Ages, Entries, Snapshot,
    fixture::{info, peer, peers, v4},
};

fn text(reading: Reading) -> String {
    text_with(reading, None)
}

fn text_with(reading: Reading, proxied: Proxied) -> String {
    String::from_utf8(page(reading, proxied, Format::Text)).unwrap()
}

fn page(reading: Reading, proxied: Proxied, format: Format) -> Vec<u8> {
    Exposition::new(reading, proxied, format)
        .flatten()
        .collect()
}

/// The lines with samples of these families.
fn lines<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.filter(|line| line.starts_with(name)).collect()
}

/// Of every kind something.
fn snapshot() -> Snapshot {
    let inbound = peer(2);
    let mut value = MetricValue {
        opened: 9,
        active: 2,
        tls: 1,
        untimed: 4,
        ..MetricValue::default()
    };
    (value.recv.packets, value.recv.bytes) = (10, 1000);
    (value.sent.packets, value.sent.bytes) = (20, 2000);
    value.sent.retransmits = 3;
    (value.decided.http1, value.decided.http2) = (2, 1);
    value.dns = 4;
    (value.decided.server_first, value.decided.midstream) = (3, 2);
    value.closed.fin = 6;
    value.closed.rst = 1;
    value.requests.http1 = 100;
    value.ended = 99;
    value.aborted.rst = 2;
    value.lost.gap = 1;

    let outbound = MetricKey {
        src: v4([10, 0, 0, 1]),
        dst: "2001:db8::5".parse::<Ipv6Addr>().unwrap().octets(),
        src_port: 40000,
        dst_port: 53,
        proto: 17,
        direction: direction::OUTBOUND,
        ..MetricKey::default()
    };
    let icmp = MetricKey {
        proto: 1,
        dst_port: 0,
        ..inbound
    };
    let arp = MetricKey {
        kind: series_kind::NON_IP,
        ..MetricKey::default()
    };
    let ipv6_off = MetricKey {
        kind: series_kind::IPV6_OFF,
        ..MetricKey::default()
    };
    let other = MetricKey {
        kind: series_kind::OTHER,
        ..MetricKey::default()
    };
    let mut few = MetricValue::default();
    (few.recv.packets, few.recv.bytes) = (1, 60);
    let mut overflowed = few;
    overflowed.requests.grpc = 1;
    overflowed.requests.http1 = 2;
    // Read after the requests, one has ended of those that came between.
    overflowed.ended = 4;

    let response = |series, status, protocol, grpc_status, responses| {
        let key = RequestKey {
            series,
            status,
            protocol,
            grpc_status,
            ..RequestKey::default()
        };
        (key, RequestValue { responses })
    };
    let mut histogram = Histogram::default();
    histogram.buckets[..5].copy_from_slice(&[1, 0, 2, 0, 4]);
    histogram.sum_ns = 61_500_000_000;
    let latency = LatencyKey {
        port: 80,
        direction: direction::INBOUND,
        protocol: protocol::HTTP1,
        status_class: 2,
        ..LatencyKey::default()
    };
    let aborted = LatencyKey {
        status_class: CLASS_ABORTED,
        ..latency
    };
    let full = LatencyKey {
        peer: v4([10, 1, 0, 2]),
        direction: direction::OUTBOUND,
        status_class: 0,
        route: 3,
        ..latency
    };
    let handshake = HandshakeKey {
        port: 80,
        direction_and_origin: direction::INBOUND,
        ..HandshakeKey::default()
    };
    let handshake_other = HandshakeKey {
        kind: series_kind::OTHER,
        ..HandshakeKey::default()
    };
    let pair = |duration, ttfb| LatencyPair { duration, ttfb };
    let both = LatencyValue {
        buckets: histogram.buckets.map(|n| pair(n, n)),
        sum_ns: pair(histogram.sum_ns, histogram.sum_ns),
    };
    let durations = LatencyValue {
        buckets: histogram.buckets.map(|n| pair(n, 0)),
        sum_ns: pair(histogram.sum_ns, 0),
    };
    let resolver = DnsKey {
        server: v4([10, 0, 0, 10]),
        direction: direction::OUTBOUND,
        ..DnsKey::default()
    };
    let servers = DnsKey {
        kind: series_kind::OTHER,
        ..DnsKey::default()
    };
    let few_dns = DnsValue {
        queries: 1,
        unsolicited: 4,
        ..DnsValue::default()
    };
    let mut dns = DnsValue {
        queries: 16,
        unsolicited: 3,
        truncated: 1,
        duration: histogram,
        ..DnsValue::default()
    };
    (
        dns.answers[0],
        dns.answers[3],
        dns.answers[16],
        dns.answers[31],
    ) = (5, 2, 1, 1);
    dns.unanswered.timeout = 2;
    dns.unanswered.retried = 3;
    dns.unanswered.evicted = 1;
    Snapshot {
        unproven: 0,
        grpc_derived: 0,
        info: info(),
        counters: Counters {
            metrics_overflow: 7,
            untracked: 1,
            resumed: 6,
            ..Counters::default()
        },
        metrics: vec![
            (inbound, value),
            (outbound, few),
            (icmp, few),
            (arp, few),
            (ipv6_off, few),
            (other, overflowed),
        ],
        asked: vec![],
        aborted: vec![
            response(
                inbound,
                STATUS_ABORTED,
                protocol::HTTP1,
                abort_reason::RST,
                1,
            ),
            {
                let rst = abort_reason::RST;
                let (key, value) = response(inbound, STATUS_ABORTED, protocol::GRPC, rst, 1);
                (RequestKey { route: 3, ..key }, value)
            },
        ],
        routes: [(3, "/users/{id}".to_string())].into(),
        requests: vec![
            response(inbound, 200, protocol::HTTP1, GRPC_STATUS_NONE, 95),
            response(inbound, 0, protocol::HTTP1, GRPC_STATUS_NONE, 1),
            response(
                inbound,
                STATUS_OTHER,
                protocol::UNKNOWN,
                GRPC_STATUS_NONE,
                1,
            ),
            response(inbound, 200, protocol::GRPC, 14, 1),
            response(inbound, 404, protocol::HTTP1, GRPC_STATUS_NONE, 0),
            response(other, STATUS_OTHER, 0, 0, 3),
        ],
        latency: vec![(latency, both), (aborted, durations), (full, durations)],
        handshake: vec![
            (
                handshake,
                HandshakeValue {
                    rtt: histogram,
                    ..HandshakeValue::default()
                },
            ),
            (
                handshake_other,
                HandshakeValue {
                    duration: histogram,
                    ..HandshakeValue::default()
                },
            ),
        ],
        dns: vec![
            (resolver, dns),
            (DnsKey::default(), DnsValue::default()),
            (servers, few_dns),
        ],
        entries: Entries {
            metrics: 6,
            requests: 6,
            latency: 2,
            handshake: 2,
            dns: 3,
        },
        interfaces: vec![("eth0".into(), true), ("net1".into(), false)],
        way: Way::Iterator,
        oldest: None,
        ages: Ages::default(),
        took: Duration::ZERO,
    }
}

const GOLDEN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/src/read/prometheus/golden.txt"
);

/// METRICD_TEST_GOLDEN=write writes the golden text anew; read it before it is committed.
#[test]
fn golden() {
    let text = text_with(
        Ok(Arc::new(snapshot())),
        Some(Ok(proxied::tests::snapshot())),
    );
    let varies = [
        "process_",
        "linkerd_ebpf_kernel_info{",
        "linkerd_ebpf_scrape_duration_seconds ",
    ];
    let lines = text
        .lines()
        .filter(|line| !varies.iter().any(|name| line.starts_with(name)));
    let lines: Vec<&str> = lines.collect();
    if env::var("METRICD_TEST_GOLDEN").is_ok_and(|value| value == "write") {
        let golden = lines.join("\n") + "\n";
        let version = format!("{:?}", env!("CARGO_PKG_VERSION"));
        let golden = golden.replace(&version, "\"VERSION\"");
        fs::write(GOLDEN, golden).unwrap();
        return;
    }
    let golden = fs::read_to_string(GOLDEN).unwrap();
    let golden = golden.replace("VERSION", env!("CARGO_PKG_VERSION"));
    for (line, golden) in lines.iter().zip(golden.lines()) {
        assert_eq!(*line, golden);
    }
    assert_eq!(lines.len(), golden.lines().count());
}

/// A sidecar counts the lines, the command line counts what it reads of the text.
#[test]
fn lines_say_what_their_text_says() {
    let reading = || Ok(Arc::new(snapshot()));
    let proxied = || Some(Ok(proxied::tests::snapshot()));
    let mut counted = Tally::default();
    let mut walk = Walk::new(reading(), proxied());
    while walk.step(&mut counted) {}
    let mut read = Tally::default();
    samples::each(&text_with(reading(), proxied()), |sample| read.add(sample)).unwrap();
    assert_eq!(format!("{counted:?}"), format!("{read:?}"));
}

#[test]
fn without_maps_it_speaks_of_itself() {
    let text = text(Err("waiting for \"metricd-init\"".into()));
    assert_eq!(
        lines(&text, "linkerd_ebpf_up"),
        [r#"linkerd_ebpf_up{reason="waiting for \"metricd-init\""} 0"#]
    );
    let names: Vec<&str> = lines(&text, "")
        .iter()
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    assert_eq!(
        names,
        [
            "linkerd_ebpf_up",
            "linkerd_ebpf_build_info",
            "linkerd_ebpf_kernel_info",
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "linkerd_ebpf_scrape_duration_seconds",
        ]
    );
}

#[test]
fn a_proxy_is_shown_without_maps_and_the_maps_without_a_proxy() {
    let text = text_with(Err("no".into()), Some(Ok(proxied::tests::snapshot())));
    assert_eq!(
        lines(&text, "linkerd_proxy_l7_up"),
        ["linkerd_proxy_l7_up 1"]
    );
    assert_eq!(lines(&text, "linkerd_proxy_requests_total").len(), 4);
    let text = text_with(Ok(Arc::new(snapshot())), Some(Err("not yet".into())));
    assert_eq!(
        lines(&text, "linkerd_proxy_l7"),
        ["linkerd_proxy_l7_up{reason=\"not yet\"} 0"]
    );
    assert!(text.contains("\nlinkerd_ebpf_up 1\n"));
}

#[test]
fn pieces_end_with_a_line_and_make_up_the_whole() {
    let snapshot = Arc::new(peers(1000));
    let pieces: Vec<Vec<u8>> = Exposition::new(Ok(snapshot), None, Format::Text).collect();
    assert!(pieces.len() > 20);
    for piece in &pieces {
        assert!(piece.ends_with(b"\n"));
        assert!(piece.len() < Exposition::PIECE + (8 << 10));
    }
    let text = String::from_utf8(pieces.concat()).unwrap();
    for family in FAMILIES.iter() {
        let header = format!("# TYPE {} ", family.name);
        assert!(text.matches(&header).count() <= 1, "{header}");
    }
    assert_eq!(lines(&text, "linkerd_ebpf_bytes_total").len(), 2000);
    let mut unique: Vec<&str> = lines(&text, "")
        .iter()
        .filter_map(|line| Some(line.rsplit_once(' ')?.0))
        .collect();
    let all = unique.len();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), all, "a series appears twice");
}

#[test]
fn unknown_enumerators_are_shown_not_fatal() {
    let key = MetricKey {
        direction: 99,
        kind: 99,
        proto: 255,
        ..MetricKey::default()
    };
    let request = RequestKey {
        series: key,
        status: 999,
        protocol: 99,
        grpc_status: 99,
        ..RequestKey::default()
    };
    let mut info = info();
    info.bounds = u32::MAX;
    let latency = LatencyKey {
        status_class: 200,
        kind: 77,
        ..LatencyKey::default()
    };
    let pair = LatencyPair {
        duration: u64::MAX,
        ttfb: u64::MAX,
    };
    let value = LatencyValue {
        buckets: [pair; crate::abi::BUCKETS],
        sum_ns: pair,
    };
    let text = text(Ok(Arc::new(Snapshot {
        info,
        metrics: vec![(key, MetricValue::default())],
        requests: vec![(request, RequestValue { responses: 1 })],
        latency: vec![(latency, value)],
        ..Snapshot::default()
    })));
    assert!(text.contains(r#"direction="unknown",src_ip="",dst_ip="",src_port="",dst_port="",proto="255",protocol="unknown",status="999",grpc_status="99",route=""} 1"#));
}

/// What a sink is told of when lines were created.
#[derive(Default)]
struct Created(Vec<(&'static str, MetricType, Option<Duration>)>);

impl Sink for Created {
    fn value(&mut self, line: &Line, _: f64) {
        self.0.push((line.name, line.kind, line.created));
    }

    fn histogram(&mut self, line: &Line, _: &Histogram, _: &[u64]) {
        self.0.push((line.name, line.kind, line.created));
    }
}

#[test]
fn counters_and_histograms_know_since_when_they_count() {
    let mut snapshot = snapshot();
    let at = |seconds| Some(Duration::from_secs(seconds));
    let age = |seconds| Age {
        created: at(seconds),
        is_idle: false,
    };
    snapshot.ages = Ages {
        made: at(1),
        metrics: vec![age(2); 6],
        requests: vec![age(3); 6],
        aborted: vec![age(8); 2],
        latency: vec![age(4), Age::default(), age(7)],
        handshake: vec![age(5); 2],
        dns: vec![age(6); 3],
        ..Ages::default()
    };
    let mut created = Created::default();
    let mut walk = Walk::new(Ok(Arc::new(snapshot)), Some(Ok(proxied::tests::snapshot())));
    while walk.step(&mut created) {}
    let of = |name: &str| {
        let lines = created.0.iter().filter(|(of, ..)| *of == name);
        lines.map(|(_, _, created)| *created).collect::<Vec<_>>()
    };
    assert_eq!(of("linkerd_ebpf_pod_state_lost_total"), [at(1); 2]);
    assert_eq!(of("linkerd_ebpf_state_resumed_total"), [at(1)]);
    assert_eq!(of("linkerd_ebpf_bytes_total"), [at(2); 12]);
    assert_eq!(of("linkerd_ebpf_requests_total"), [at(2); 2]);
    assert_eq!(of("linkerd_ebpf_responses_total"), [at(3); 5]);
    assert_eq!(of("linkerd_ebpf_requests_aborted_total"), [at(8); 2]);
    let durations = of("linkerd_ebpf_request_duration_seconds");
    assert_eq!(durations, [at(4), None, at(7)]);
    assert_eq!(of("linkerd_ebpf_tcp_rtt_seconds"), [at(5)]);
    assert_eq!(of("linkerd_ebpf_dns_duration_seconds"), [at(6)]);
    assert_eq!(of("linkerd_proxy_requests_total"), [None; 4]);
    assert_eq!(of("process_cpu_seconds_total"), [None]);
    for (name, kind, created) in &created.0 {
        assert!(*kind != MetricType::GAUGE || created.is_none(), "{name}");
    }
}

#[test]
fn what_is_idle_is_left_out_but_for_the_totals() {
    let mut snapshot = peers(3);
    let idle = Age {
        is_idle: true,
        ..Age::default()
    };
    snapshot.ages = Ages {
        metrics: vec![idle, Age::default(), idle],
        requests: vec![Age::default(), idle, idle],
        ..Ages::default()
    };
    let snapshot = Arc::new(snapshot);
    let whole = text(Ok(snapshot.clone()));
    let pieces = Exposition::new(Ok(snapshot), None, Format::Text).without_idle();
    let shown = String::from_utf8(pieces.flatten().collect()).unwrap();
    assert_eq!(
        lines(&whole, "linkerd_ebpf_series_idle"),
        ["linkerd_ebpf_series_idle 0"]
    );
    assert_eq!(
        lines(&shown, "linkerd_ebpf_series_idle"),
        ["linkerd_ebpf_series_idle 4"]
    );
    let of = |name, peer: &str| {
        let lines = lines(&shown, name);
        lines.iter().filter(|line| line.contains(peer)).count()
    };
    for (peer, traffic, responses) in [("10.1.0.0", 0, 1), ("10.1.0.1", 2, 0), ("10.1.0.2", 0, 0)] {
        assert_eq!(of("linkerd_ebpf_bytes_total", peer), traffic, "{peer}");
        assert_eq!(
            of("linkerd_ebpf_responses_total", peer),
            responses,
            "{peer}"
        );
    }
    for name in ["linkerd_ebpf_pod_", "linkerd_ebpf_map_", "linkerd_ebpf_up"] {
        assert_eq!(lines(&shown, name), lines(&whole, name));
    }
}
