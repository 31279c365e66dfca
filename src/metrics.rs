//! A snapshot of the maps as Prometheus text.
//!
//! [`FAMILIES`] says which line shows what. [`Exposition`] goes through it piece by piece, as fast
//! as the reader takes the text: what a scrape needs in memory is the snapshot and one piece.

#![forbid(unsafe_code)]

mod lines;
mod process;
mod proxied;

use std::{
    fmt::Write,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus::proto::MetricType::{self, COUNTER, GAUGE, HISTOGRAM};

use crate::{
    abi::{
        DNS_RCODES, DnsKey, DnsValue, GRPC_STATUS_NONE, HandshakeKey, HandshakeValue, Histogram,
        LatencyKey, LatencyValue, MetricKey, MetricValue, RequestKey, STATUS_OTHER, direction,
        protocol, route, series_kind,
    },
    l7,
    maps::Snapshot,
    records,
};
use lines::Lines;

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is answered to a scrape: the maps, or why they cannot be read.
pub type Reading = Result<Arc<Snapshot>, String>;

/// What a proxy has recorded, or why that cannot be read; nothing where none is looked for.
pub type Proxied = Option<Result<l7::Snapshot, String>>;

/// The label of all that did not fit.
const OTHER: &str = "other";

const PEER: &[&str] = &[
    "direction",
    "src_ip",
    "dst_ip",
    "src_port",
    "dst_port",
    "proto",
];
const LATENCY: &[&str] = &[
    "direction",
    "src_ip",
    "dst_ip",
    "dst_port",
    "protocol",
    "status_class",
    "route",
];
const DNS: &[&str] = &["direction", "dst_ip"];
const HANDSHAKE: &[&str] = &["direction", "src_ip", "dst_ip", "dst_port"];

struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    rows: Rows,
}

/// Where the lines of a family come from.
enum Rows {
    /// From each series: what is pushed, with the value of the further label.
    Series(
        &'static [&'static str],
        fn(&MetricKey, &MetricValue, &mut Samples),
    ),
    /// From each protocol of each series, by route where routes are told apart.
    Requests,
    /// From each status of each series.
    Responses,
    Latency(fn(&LatencyValue) -> Histogram),
    Handshake(fn(&HandshakeValue) -> &Histogram),
    /// From a proxy, if there is one, by row: false if there is none left.
    Proxied(
        &'static [&'static str],
        fn(&l7::Snapshot, usize, &mut Lines, &mut String) -> bool,
    ),
    /// From each server of DNS, as [`Rows::Series`].
    Dns(&'static [&'static str], fn(&DnsValue, &mut Samples)),
    DnsDuration,
    /// Once per scrape.
    Once(&'static [&'static str], fn(&Scrape, &mut Lines)),
    /// Once per scrape, if the maps could be read.
    Snapshot(&'static [&'static str], fn(&Snapshot, &mut Lines)),
}

type Samples = Vec<(&'static str, f64)>;

/// What the answers' codes are called: IANA's DNS RCODEs.
const RCODES: [&str; DNS_RCODES] = [
    "NOERROR",
    "FORMERR",
    "SERVFAIL",
    "NXDOMAIN",
    "NOTIMP",
    "REFUSED",
    "YXDOMAIN",
    "YXRRSET",
    "NXRRSET",
    "NOTAUTH",
    "NOTZONE",
    "DSOTYPENI",
    "12",
    "13",
    "14",
    "15",
    "BADVERS",
    "BADKEY",
    "BADTIME",
    "BADMODE",
    "BADNAME",
    "BADALG",
    "BADTRUNC",
    "BADCOOKIE",
    "24",
    "25",
    "26",
    "27",
    "28",
    "29",
    "30",
    OTHER,
];

/// Pushes what has happened at all.
fn happened(samples: &mut Samples, label: &'static str, count: u64) {
    if count > 0 {
        samples.push((label, count as f64));
    }
}

/// A gauge that another CPU is about to bring back from below zero is shown as what it is.
fn gauge(value: u64) -> f64 {
    value as i64 as f64
}

const FAMILIES: &[Family] = &[
    Family {
        name: "linkerd_ebpf_up",
        help: "Whether the pinned maps can be read; if not, the reason.",
        kind: GAUGE,
        rows: Rows::Once(&["reason"], |scrape, lines| match &scrape.reading {
            Ok(_) => {
                lines.no_labels();
                lines.value(1.0);
            }
            Err(reason) => {
                lines.label(0, reason);
                lines.value(0.0);
            }
        }),
    },
    Family {
        name: "linkerd_ebpf_bytes_total",
        help: "Bytes on the wire, with the L2 header.",
        kind: COUNTER,
        rows: Rows::Series(&["io"], |_, value, samples| {
            samples.push(("recv", value.recv.bytes as f64));
            samples.push(("sent", value.sent.bytes as f64));
        }),
    },
    Family {
        name: "linkerd_ebpf_packets_total",
        help: "Packets on the wire.",
        kind: COUNTER,
        rows: Rows::Series(&["io"], |_, value, samples| {
            samples.push(("recv", value.recv.packets as f64));
            samples.push(("sent", value.sent.packets as f64));
        }),
    },
    Family {
        name: "linkerd_ebpf_connections_opened_total",
        help: "Connections that began: TCP, and of other protocols who first spoke with whom.",
        kind: COUNTER,
        rows: Rows::Series(&[], |_, value, samples| happened(samples, "", value.opened)),
    },
    Family {
        name: "linkerd_ebpf_connections_closed_total",
        help: "Connections that ended, by how.",
        kind: COUNTER,
        rows: Rows::Series(&["reason"], |_, value, samples| {
            happened(samples, "fin", value.closed.fin);
            happened(samples, "rst", value.closed.rst);
            happened(samples, "refused", value.closed.refused);
            happened(samples, "idle", value.closed.idle);
            happened(samples, "evicted", value.closed.evicted);
        }),
    },
    Family {
        name: "linkerd_ebpf_connections_active",
        help: "Connections that have begun and not ended.",
        kind: GAUGE,
        rows: Rows::Series(&[], |_, value, samples| {
            if value.opened > 0 || value.active > 0 {
                samples.push(("", gauge(value.active)));
            }
        }),
    },
    Family {
        name: "linkerd_ebpf_tcp_retransmits_total",
        help: "TCP segments whose bytes had been seen before.",
        kind: COUNTER,
        rows: Rows::Series(&["io"], |_, value, samples| {
            happened(samples, "recv", value.recv.retransmits);
            happened(samples, "sent", value.sent.retransmits);
        }),
    },
    Family {
        name: "linkerd_ebpf_tls_connections_total",
        help: "TCP connections that began with TLS.",
        kind: COUNTER,
        rows: Rows::Series(&[], |_, value, samples| happened(samples, "", value.tls)),
    },
    Family {
        name: "linkerd_ebpf_tcp_rtt_seconds",
        help: "Round trip times of TCP handshakes.",
        kind: HISTOGRAM,
        rows: Rows::Handshake(|value| &value.rtt),
    },
    Family {
        name: "linkerd_ebpf_connection_duration_seconds",
        help: "How long TCP connections lasted.",
        kind: HISTOGRAM,
        rows: Rows::Handshake(|value| &value.duration),
    },
    Family {
        name: "linkerd_ebpf_requests_total",
        help: "Requests that began.",
        kind: COUNTER,
        rows: Rows::Requests,
    },
    Family {
        name: "linkerd_ebpf_responses_total",
        help: "Responses that ended, by status.",
        kind: COUNTER,
        rows: Rows::Responses,
    },
    Family {
        name: "linkerd_ebpf_requests_aborted_total",
        help: "Requests that never got their whole response, by why.",
        kind: COUNTER,
        rows: Rows::Series(&["reason"], |_, value, samples| {
            happened(samples, "fin", value.aborted.fin);
            happened(samples, "rst", value.aborted.rst);
            happened(samples, "idle", value.aborted.idle);
            happened(samples, "evicted", value.aborted.evicted);
            happened(samples, "cancelled", value.aborted.cancelled);
            happened(samples, "refused", value.aborted.refused);
            happened(samples, "reset", value.aborted.reset);
        }),
    },
    Family {
        name: "linkerd_ebpf_requests_in_flight",
        help: "Requests that have begun and neither been answered nor aborted.",
        kind: GAUGE,
        rows: Rows::Series(&[], |_, value, samples| {
            if value.requests.total() > 0 || value.ended > 0 {
                samples.push(("", value.in_flight() as f64));
            }
        }),
    },
    Family {
        name: "linkerd_ebpf_request_duration_seconds",
        help: "From the first byte of the request to the last byte of the response.",
        kind: HISTOGRAM,
        rows: Rows::Latency(LatencyValue::duration),
    },
    Family {
        name: "linkerd_ebpf_time_to_first_byte_seconds",
        help: "From the first byte of the request to the first byte of the response.",
        kind: HISTOGRAM,
        rows: Rows::Latency(LatencyValue::ttfb),
    },
    Family {
        name: "linkerd_ebpf_request_durations_unknown_total",
        help: "Responses whose duration could not be known.",
        kind: COUNTER,
        rows: Rows::Series(&[], |_, value, samples| {
            happened(samples, "", value.untimed)
        }),
    },
    Family {
        name: "linkerd_ebpf_state_lost_total",
        help: "Connections whose requests could not be followed any further, by why.",
        kind: COUNTER,
        rows: Rows::Series(&["reason"], |_, value, samples| {
            happened(samples, "gap", value.lost.gap);
            happened(samples, "malformed", value.lost.malformed);
            happened(samples, "bound", value.lost.bound);
            happened(samples, "pipeline", value.lost.pipeline);
            happened(samples, "unsolicited", value.lost.unsolicited);
            happened(samples, "midstream", value.lost.midstream);
        }),
    },
    proxied::UP,
    proxied::REQUESTS,
    proxied::DURATION,
    proxied::BYTES,
    proxied::OVERFLOW,
    proxied::MISSED,
    proxied::SLOTS,
    proxied::SLOTS_USED,
    Family {
        name: "linkerd_ebpf_dns_queries_total",
        help: "Queries of DNS over UDP that were answered, by the answer's code.",
        kind: COUNTER,
        rows: Rows::Dns(&["rcode"], |value, samples| {
            for (name, count) in RCODES.into_iter().zip(value.answers) {
                happened(samples, name, count);
            }
        }),
    },
    Family {
        name: "linkerd_ebpf_dns_queries_unanswered_total",
        help: "Queries of DNS over UDP without an answer, by why none is waited for any more.",
        kind: COUNTER,
        rows: Rows::Dns(&["reason"], |value, samples| {
            happened(samples, "timeout", value.unanswered.timeout);
            happened(samples, "retried", value.unanswered.retried);
            happened(samples, "evicted", value.unanswered.evicted);
        }),
    },
    Family {
        name: "linkerd_ebpf_dns_queries_in_flight",
        help: "Queries of DNS over UDP that wait for their answer, or for others to come so that it \
               is seen that they have waited for too long.",
        kind: GAUGE,
        rows: Rows::Dns(&[], |value, samples| {
            if value.queries > 0 {
                samples.push(("", gauge(value.in_flight())));
            }
        }),
    },
    Family {
        name: "linkerd_ebpf_dns_answers_unsolicited_total",
        help: "Answers of DNS over UDP that no query waited for.",
        kind: COUNTER,
        rows: Rows::Dns(&[], |value, samples| {
            happened(samples, "", value.unsolicited)
        }),
    },
    Family {
        name: "linkerd_ebpf_dns_answers_truncated_total",
        help: "Answers of DNS over UDP that say to ask again over TCP.",
        kind: COUNTER,
        rows: Rows::Dns(&[], |value, samples| happened(samples, "", value.truncated)),
    },
    Family {
        name: "linkerd_ebpf_dns_duration_seconds",
        help: "From a query of DNS over UDP, when it was first sent, to its answer.",
        kind: HISTOGRAM,
        rows: Rows::DnsDuration,
    },
    Family {
        name: "linkerd_ebpf_events_dropped_total",
        help: "What did not fit into the ring buffer while somebody listened: ends of requests, \
               which are not shown then, and heads, whose method and path are not.",
        kind: COUNTER,
        rows: Rows::Snapshot(&["event"], |snapshot, lines| {
            let counters = &snapshot.counters;
            for (event, count) in [
                ("end", counters.events_dropped),
                ("head", counters.heads_dropped),
            ] {
                lines.label(0, event);
                lines.value(count as f64);
            }
        }),
    },
    Family {
        name: "linkerd_proxy_ebpf_map_overflow_total",
        help: "What did not fit into a map and was added to the series whose labels are other.",
        kind: COUNTER,
        rows: Rows::Snapshot(&["map"], |snapshot, lines| {
            let counters = &snapshot.counters;
            for (map, count) in [
                (records::METRICS, counters.metrics_overflow),
                (records::REQUESTS, counters.requests_overflow),
                (records::LATENCY, counters.latency_overflow),
                (records::HANDSHAKE, counters.handshake_overflow),
                (records::DNS, counters.dns_overflow),
            ] {
                lines.label(0, map);
                lines.value(count as f64);
            }
        }),
    },
    Family {
        name: "linkerd_ebpf_map_entries",
        help: "Entries in a map.",
        kind: GAUGE,
        rows: Rows::Snapshot(&["map"], |snapshot, lines| {
            let entries = &snapshot.entries;
            for (map, count) in [
                (records::METRICS, entries.metrics),
                (records::REQUESTS, entries.requests),
                (records::LATENCY, entries.latency),
                (records::HANDSHAKE, entries.handshake),
                (records::DNS, entries.dns),
            ] {
                lines.label(0, map);
                lines.value(count as f64);
            }
        }),
    },
    Family {
        name: "linkerd_ebpf_map_capacity",
        help: "Entries that a map has room for.",
        kind: GAUGE,
        rows: Rows::Snapshot(&["map"], |snapshot, lines| {
            let info = &snapshot.info;
            for (map, capacity) in [
                (records::METRICS, info.metrics_capacity),
                (records::REQUESTS, info.requests_capacity),
                (records::LATENCY, info.latency_capacity),
                (records::HANDSHAKE, info.handshake_capacity),
                (records::DNS, info.dns_capacity),
            ] {
                lines.label(0, map);
                lines.value(f64::from(capacity));
            }
        }),
    },
    Family {
        name: "linkerd_ebpf_connections_untracked_total",
        help: "New connections for which there was no slot.",
        kind: COUNTER,
        rows: Rows::Snapshot(&[], |snapshot, lines| {
            lines.value(snapshot.counters.untracked as f64);
        }),
    },
    Family {
        name: "linkerd_ebpf_contended_packets_total",
        help: "Packets of a direction that another CPU was busy with.",
        kind: COUNTER,
        rows: Rows::Snapshot(&[], |snapshot, lines| {
            lines.value(snapshot.counters.contended as f64);
        }),
    },
    Family {
        name: "linkerd_ebpf_truncated_packets_total",
        help: "Packets whose headers could not be read.",
        kind: COUNTER,
        rows: Rows::Snapshot(&[], |snapshot, lines| {
            lines.value(snapshot.counters.truncated as f64);
        }),
    },
    Family {
        name: "linkerd_ebpf_build_info",
        help: "The versions of metricd and of the metricd-init that pinned the maps.",
        kind: GAUGE,
        rows: Rows::Once(&["version", "init_version"], |scrape, lines| {
            lines.label(0, env!("CARGO_PKG_VERSION"));
            if let Ok(snapshot) = &scrape.reading {
                lines.label(1, &snapshot.info.version());
            }
            lines.value(1.0);
        }),
    },
    Family {
        name: "linkerd_ebpf_kernel_info",
        help: "The kernel that counts, and how metricd reads its maps: by iterator or as text.",
        kind: GAUGE,
        rows: Rows::Once(&["release", "read"], |scrape, lines| {
            if let Some(release) = process::kernel_release() {
                lines.label(0, &release);
                if let Ok(snapshot) = &scrape.reading {
                    lines.label(1, snapshot.way.label());
                }
                lines.value(1.0);
            }
        }),
    },
    Family {
        name: "linkerd_ebpf_pod_info",
        help: "The pod that is observed, and who made it.",
        kind: GAUGE,
        rows: Rows::Once(&["pod_name", "pod_namespace", "pod_owner"], |_, lines| {
            if let Some(pod) = process::pod() {
                for (i, value) in pod.iter().enumerate() {
                    lines.label(i, value);
                }
                lines.value(1.0);
            }
        }),
    },
    Family {
        name: "process_cpu_seconds_total",
        help: "CPU time of metricd, in user space and in the kernel.",
        kind: COUNTER,
        rows: Rows::Once(&[], |_, lines| {
            if let Some(time) = process::cpu_time() {
                lines.value(time.as_secs_f64());
            }
        }),
    },
    Family {
        name: "process_resident_memory_bytes",
        help: "Resident memory of metricd.",
        kind: GAUGE,
        rows: Rows::Once(&[], |_, lines| {
            if let Some(bytes) = process::resident_memory() {
                lines.value(bytes as f64);
            }
        }),
    },
    // The last one, so that it has seen all others.
    Family {
        name: "linkerd_ebpf_scrape_duration_seconds",
        help: "How long this scrape took: reading the maps and writing all lines above, without \
               waiting for who takes them.",
        kind: GAUGE,
        rows: Rows::Once(&[], |scrape, lines| {
            let reading = match &scrape.reading {
                Ok(snapshot) => snapshot.took,
                Err(_) => Duration::ZERO,
            };
            let writing = scrape.written + scrape.piece.elapsed();
            lines.value((reading + writing).as_secs_f64());
        }),
    },
];

/// What the lines about the scrape itself are made from.
struct Scrape {
    reading: Reading,
    proxied: Proxied,
    /// The time it took to write all pieces before this one.
    written: Duration,
    /// When this piece was begun.
    piece: Instant,
}

/// The text of one scrape, in pieces of about [`Exposition::PIECE`] bytes that end with a line.
pub struct Exposition {
    scrape: Scrape,
    lines: Lines,
    samples: Samples,
    scratch: String,
    /// Where to go on: the number of the family, and of its row.
    family: usize,
    row: usize,
}

impl Exposition {
    /// Bytes; what a histogram's lines take comes on top.
    pub const PIECE: usize = 32 << 10;

    pub fn new(reading: Reading, proxied: Proxied) -> Self {
        Self {
            scrape: Scrape {
                reading,
                proxied,
                written: Duration::ZERO,
                piece: Instant::now(),
            },
            lines: Lines::default(),
            samples: Samples::new(),
            scratch: String::new(),
            family: 0,
            row: 0,
        }
    }

    /// Writes the lines of the next row; false if the family has none left.
    fn write_row(&mut self, family: &Family) -> bool {
        if let Rows::Once(_, write) = family.rows {
            write(&self.scrape, &mut self.lines);
            return false;
        }
        if let Rows::Proxied(_, write) = family.rows {
            let Some(Ok(proxied)) = &self.scrape.proxied else {
                return false;
            };
            self.row += 1;
            return write(proxied, self.row - 1, &mut self.lines, &mut self.scratch);
        }
        let Ok(snapshot) = &self.scrape.reading else {
            return false;
        };
        let (lines, row) = (&mut self.lines, self.row);
        match family.rows {
            Rows::Once(..) | Rows::Proxied(..) => return false,
            Rows::Snapshot(_, write) => {
                write(snapshot, lines);
                return false;
            }
            Rows::Series(_, sample) => {
                let Some((key, value)) = snapshot.metrics.get(row) else {
                    return false;
                };
                self.samples.clear();
                sample(key, value, &mut self.samples);
                if !self.samples.is_empty() {
                    label_peer(lines, &mut self.scratch, key);
                }
                for (label, value) in self.samples.drain(..) {
                    lines.label(PEER.len(), label);
                    lines.value(value);
                }
            }
            Rows::Requests if snapshot.info.routes == 0 => {
                let Some((key, value)) = snapshot.metrics.get(row) else {
                    return false;
                };
                requests(key, value, &mut self.samples);
                if !self.samples.is_empty() {
                    label_peer(lines, &mut self.scratch, key);
                }
                for (label, value) in self.samples.drain(..) {
                    lines.label(PEER.len(), label);
                    lines.label(PEER.len() + 1, if label == OTHER { OTHER } else { "" });
                    lines.value(value);
                }
            }
            Rows::Requests => {
                let Some((key, value)) = snapshot.asked.get(row) else {
                    return false;
                };
                if value.responses > 0 {
                    label_peer(lines, &mut self.scratch, &key.series);
                    if key.series.kind == series_kind::OTHER {
                        lines.label(PEER.len(), OTHER);
                        lines.label(PEER.len() + 1, OTHER);
                    } else {
                        lines.label(PEER.len(), protocol::label(key.protocol));
                        lines.label(PEER.len() + 1, route(snapshot, key.route));
                    }
                    lines.value(value.responses as f64);
                }
            }
            Rows::Responses => {
                let Some((key, value)) = snapshot.requests.get(row) else {
                    return false;
                };
                if value.responses > 0 {
                    label_peer(lines, &mut self.scratch, &key.series);
                    label_response(lines, &mut self.scratch, snapshot, key);
                    lines.value(value.responses as f64);
                }
            }
            Rows::Latency(histogram) => {
                let Some((key, value)) = snapshot.latency.get(row) else {
                    return false;
                };
                let histogram = histogram(value);
                if histogram.count() > 0 {
                    label_latency(lines, &mut self.scratch, snapshot, key);
                    lines.histogram(&histogram, snapshot.info.bounds_ns());
                }
            }
            Rows::Handshake(histogram) => {
                let Some((key, value)) = snapshot.handshake.get(row) else {
                    return false;
                };
                let histogram = histogram(value);
                if histogram.count() > 0 {
                    label_handshake(lines, &mut self.scratch, key);
                    lines.histogram(histogram, snapshot.info.bounds_ns());
                }
            }
            Rows::Dns(_, sample) => {
                let Some((key, value)) = snapshot.dns.get(row) else {
                    return false;
                };
                self.samples.clear();
                sample(value, &mut self.samples);
                label_dns(lines, &mut self.scratch, key);
                for (label, value) in self.samples.drain(..) {
                    lines.label(DNS.len(), label);
                    lines.value(value);
                }
            }
            Rows::DnsDuration => {
                let Some((key, value)) = snapshot.dns.get(row) else {
                    return false;
                };
                if value.duration.count() > 0 {
                    label_dns(lines, &mut self.scratch, key);
                    lines.histogram(&value.duration, snapshot.info.bounds_ns());
                }
            }
        }
        self.row += 1;
        true
    }
}

impl Iterator for Exposition {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        self.scrape.piece = Instant::now();
        while self.lines.len() < Self::PIECE {
            let Some(family) = FAMILIES.get(self.family) else {
                break;
            };
            if self.row == 0 {
                begin(&mut self.lines, family);
            }
            if !self.write_row(family) {
                self.family += 1;
                self.row = 0;
            }
        }
        self.scrape.written += self.scrape.piece.elapsed();
        (self.lines.len() > 0).then(|| self.lines.take())
    }
}

fn begin(lines: &mut Lines, family: &Family) {
    let (common, further): (&[&str], &[&str]) = match family.rows {
        Rows::Series(further, _) => (PEER, further),
        Rows::Requests => (PEER, &["protocol", "route"]),
        Rows::Responses => (PEER, &["protocol", "status", "grpc_status", "route"]),
        Rows::Latency(_) => (LATENCY, &[]),
        Rows::Handshake(_) => (HANDSHAKE, &[]),
        Rows::Dns(further, _) => (DNS, further),
        Rows::DnsDuration => (DNS, &[]),
        Rows::Proxied(further, _) | Rows::Once(further, _) | Rows::Snapshot(further, _) => {
            (&[], further)
        }
    };
    let labels = common.iter().chain(further).copied();
    lines.family(family.name, family.help, family.kind, labels);
}

/// Sets a label to what is formatted.
macro_rules! label {
    ($lines:expr, $scratch:expr, $number:expr, $($format:tt)*) => {{
        $scratch.clear();
        // Writing to a string does not fail.
        let _ = write!($scratch, $($format)*);
        $lines.label($number, $scratch);
    }};
}
use label;

/// An address; empty if all zero, which stands for "not kept".
fn label_ip(lines: &mut Lines, scratch: &mut String, number: usize, address: &[u8; 16]) {
    if *address == [0; 16] {
        lines.label(number, "");
        return;
    }
    match Ipv6Addr::from(*address).to_canonical() {
        IpAddr::V4(ip) => label!(lines, scratch, number, "{ip}"),
        IpAddr::V6(ip) => label!(lines, scratch, number, "{ip}"),
    }
}

/// A port; empty if 0, which stands for "not kept" or "has none".
fn label_port(lines: &mut Lines, scratch: &mut String, number: usize, port: u16) {
    match port {
        0 => lines.label(number, ""),
        port => label!(lines, scratch, number, "{port}"),
    }
}

/// The labels of [`PEER`].
fn label_peer(lines: &mut Lines, scratch: &mut String, key: &MetricKey) {
    if key.kind == series_kind::OTHER {
        (0..PEER.len()).for_each(|number| lines.label(number, OTHER));
        return;
    }
    lines.label(0, direction::label(key.direction));
    label_ip(lines, scratch, 1, &key.src);
    label_ip(lines, scratch, 2, &key.dst);
    label_port(lines, scratch, 3, key.src_port);
    label_port(lines, scratch, 4, key.dst_port);
    match (key.kind, key.proto) {
        (series_kind::NON_IP, _) => lines.label(5, "non-ip"),
        (series_kind::IPV6_OFF, _) => lines.label(5, "ipv6"),
        (_, 6) => lines.label(5, "tcp"),
        (_, 17) => lines.label(5, "udp"),
        (_, number) => label!(lines, scratch, 5, "{number}"),
    }
}

/// The requests of a series by protocol, where routes are not told apart.
fn requests(key: &MetricKey, value: &MetricValue, samples: &mut Samples) {
    let requests = &value.requests;
    if key.kind == series_kind::OTHER {
        happened(samples, OTHER, requests.total());
        return;
    }
    happened(samples, "unknown", requests.unknown);
    happened(samples, "http1", requests.http1);
    happened(samples, "http2", requests.http2);
    happened(samples, "grpc", requests.grpc);
}

/// The value of the label `route`.
fn route(snapshot: &Snapshot, number: u16) -> &str {
    match number {
        route::NONE => "",
        route::OTHER => OTHER,
        number => snapshot.routes.get(&number).map_or("unknown", |r| r),
    }
}

/// The labels after [`PEER`] of a response.
fn label_response(lines: &mut Lines, scratch: &mut String, snapshot: &Snapshot, key: &RequestKey) {
    let first = PEER.len();
    if key.series.kind == series_kind::OTHER {
        (first..first + 4).for_each(|number| lines.label(number, OTHER));
        return;
    }
    lines.label(first, protocol::label(key.protocol));
    match key.status {
        0 => lines.label(first + 1, "unknown"),
        STATUS_OTHER => lines.label(first + 1, OTHER),
        status => label!(lines, scratch, first + 1, "{status}"),
    }
    match key.grpc_status {
        GRPC_STATUS_NONE => lines.label(first + 2, ""),
        status => label!(lines, scratch, first + 2, "{status}"),
    }
    lines.label(first + 3, route(snapshot, key.route));
}

/// The labels of [`LATENCY`].
fn label_latency(lines: &mut Lines, scratch: &mut String, snapshot: &Snapshot, key: &LatencyKey) {
    if key.kind == series_kind::OTHER {
        (0..LATENCY.len()).for_each(|number| lines.label(number, OTHER));
        return;
    }
    label_server(lines, scratch, key.direction, &key.peer, key.port);
    lines.label(4, protocol::label(key.protocol));
    match key.status_class {
        0 => lines.label(5, "unknown"),
        class => label!(lines, scratch, 5, "{class}xx"),
    }
    lines.label(6, route(snapshot, key.route));
}

/// The labels of [`HANDSHAKE`].
fn label_handshake(lines: &mut Lines, scratch: &mut String, key: &HandshakeKey) {
    if key.kind == series_kind::OTHER {
        (0..HANDSHAKE.len()).for_each(|number| lines.label(number, OTHER));
        return;
    }
    label_server(lines, scratch, key.direction, &key.peer, key.port);
}

/// The labels of [`DNS`].
fn label_dns(lines: &mut Lines, scratch: &mut String, key: &DnsKey) {
    if key.kind == series_kind::OTHER {
        (0..DNS.len()).for_each(|number| lines.label(number, OTHER));
        return;
    }
    lines.label(0, direction::label(key.direction));
    label_ip(lines, scratch, 1, &key.server);
}

/// The labels that [`LATENCY`] and [`HANDSHAKE`] begin with. The peer, where it is kept, is the
/// client of what comes in and the server of what goes out.
fn label_server(
    lines: &mut Lines,
    scratch: &mut String,
    direction: u8,
    peer: &[u8; 16],
    port: u16,
) {
    let (src, dst) = match direction {
        direction::OUTBOUND => (&[0; 16], peer),
        _ => (peer, &[0; 16]),
    };
    lines.label(0, direction::label(direction));
    label_ip(lines, scratch, 1, src);
    label_ip(lines, scratch, 2, dst);
    label_port(lines, scratch, 3, port);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        abi::{Counters, LatencyPair, RequestValue},
        maps::{
            Entries,
            fixture::{info, peer, peers, v4},
        },
        records::Way,
    };

    fn text(reading: Reading) -> String {
        text_with(reading, None)
    }

    fn text_with(reading: Reading, proxied: Proxied) -> String {
        let pieces: Vec<u8> = Exposition::new(reading, proxied).flatten().collect();
        String::from_utf8(pieces).unwrap()
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
        overflowed.requests.unknown = 1;
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
        let full = LatencyKey {
            peer: v4([10, 1, 0, 2]),
            direction: direction::OUTBOUND,
            status_class: 0,
            route: 3,
            ..latency
        };
        let handshake = HandshakeKey {
            port: 80,
            direction: direction::INBOUND,
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
            info: info(),
            counters: Counters {
                metrics_overflow: 7,
                untracked: 1,
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
            latency: vec![(latency, both), (full, durations)],
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
            way: Way::Iterator,
            took: Duration::ZERO,
        }
    }

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
        let golden = include_str!("metrics/golden.txt");
        let golden = golden.replace("VERSION", env!("CARGO_PKG_VERSION"));
        for (line, golden) in lines.iter().zip(golden.lines()) {
            assert_eq!(*line, golden);
        }
        assert_eq!(lines.len(), golden.lines().count());
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
        let pieces: Vec<Vec<u8>> = Exposition::new(Ok(snapshot), None).collect();
        assert!(pieces.len() > 20);
        for piece in &pieces {
            assert!(piece.ends_with(b"\n"));
            assert!(piece.len() < Exposition::PIECE + (8 << 10));
        }
        let text = String::from_utf8(pieces.concat()).unwrap();
        for family in FAMILIES {
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
}
