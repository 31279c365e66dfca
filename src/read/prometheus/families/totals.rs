//! What all series add up to, without peers, ports and routes: few lines, which are there from the first
//! scrape, at 0. A rate of a series misses the value that it begins with, since nobody has scraped it at
//! 0; one of these misses nothing.

use std::collections::BTreeMap;

use prometheus::proto::MetricType::COUNTER;

use crate::abi::{
    GRPC_STATUS_NONE, MetricKey, MetricValue, RequestKey, STATUS_OTHER, direction, origin,
    protocol, series_kind,
};
use crate::read::prometheus::family::{Family, Rows};
use crate::read::prometheus::labels::OTHER;
use crate::read::prometheus::lines::Lines;
use crate::read::snapshot::Snapshot;

pub const FAMILIES: &[Family] = &[
    Family {
        name: "linkerd_ebpf_pod_requests_total",
        help: "Requests that began, of all peers: linkerd_ebpf_requests_total without peers and routes.",
        kind: COUNTER,
        rows: Rows::Snapshot(&["direction", "protocol"], |snapshot, lines| {
            let mut totals = Totals::of(&PROTOCOLS);
            for (key, value) in &snapshot.metrics {
                let requests = &value.requests;
                if key.kind == series_kind::OTHER {
                    totals.add(key, OTHER, requests.total());
                    continue;
                }
                totals.add(key, "http1", requests.http1);
                totals.add(key, "http2", requests.http2);
                totals.add(key, "grpc", requests.grpc);
            }
            totals.write(lines);
        }),
    },
    Family {
        name: "linkerd_ebpf_pod_responses_total",
        help: "Responses that ended, of all peers, by the class of their status; for gRPC ok and error.",
        kind: COUNTER,
        rows: Rows::Snapshot(
            &["direction", "protocol", "status_class"],
            |snapshot, lines| {
                for (at, of) in PROTOCOLS.iter().enumerate() {
                    let mut totals = Totals::of(if *of == "grpc" { &GRPC } else { &CLASSES });
                    for (key, value) in &snapshot.requests {
                        if protocol_of(key) == *of || (at == 0 && protocol_of(key) == OTHER) {
                            totals.add(&key.series, class(key), value.responses);
                        }
                    }
                    totals.write_of(lines, Some(of));
                }
            },
        ),
    },
    Family {
        name: "linkerd_ebpf_pod_requests_aborted_total",
        help: "Requests that never got their whole response, of all peers, by why.",
        kind: COUNTER,
        rows: Rows::Snapshot(&["direction", "reason"], |snapshot, lines| {
            of_series(snapshot, lines, &ABORTED, |value| {
                let a = &value.aborted;
                [
                    a.fin,
                    a.rst,
                    a.idle,
                    a.evicted,
                    a.cancelled,
                    a.refused,
                    a.reset,
                ]
            });
        }),
    },
    Family {
        name: "linkerd_ebpf_pod_connections_opened_total",
        help: "Connections that began, of all peers.",
        kind: COUNTER,
        rows: Rows::Snapshot(&["direction"], |snapshot, lines| {
            of_series(snapshot, lines, &[""], |value| [value.opened]);
        }),
    },
    Family {
        name: "linkerd_ebpf_pod_connections_closed_total",
        help: "Connections that ended, of all peers, by how.",
        kind: COUNTER,
        rows: Rows::Snapshot(&["direction", "reason"], |snapshot, lines| {
            of_series(snapshot, lines, &CLOSED, |value| {
                let c = &value.closed;
                [c.fin, c.rst, c.refused, c.idle, c.evicted]
            });
        }),
    },
];

const PROTOCOLS: [&str; 3] = ["http1", "http2", "grpc"];
/// Of the status of HTTP.
const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", UNKNOWN];
/// Of the status of gRPC.
const GRPC: [&str; 3] = ["ok", "error", UNKNOWN];
const UNKNOWN: &str = "unknown";
const ABORTED: [&str; 7] = [
    "fin",
    "rst",
    "idle",
    "evicted",
    "cancelled",
    "refused",
    "reset",
];
const CLOSED: [&str; 5] = ["fin", "rst", "refused", "idle", "evicted"];

/// Sums by the label `origin`, the direction, and a further label.
struct Totals(BTreeMap<(&'static str, &'static str, &'static str), u64>);

impl Totals {
    /// With 0 for each of these values, both ways.
    fn of(values: &[&'static str]) -> Self {
        let ways = [direction::INBOUND, direction::OUTBOUND].map(direction::label);
        let all = ways
            .into_iter()
            .flat_map(|way| values.iter().map(move |value| (("", way, *value), 0)));
        Self(all.collect())
    }

    /// What is not there at 0 comes with its first value.
    fn add(&mut self, key: &MetricKey, label: &'static str, count: u64) {
        let way = match key.kind {
            series_kind::OTHER => OTHER,
            _ => direction::label(key.direction),
        };
        let at = (origin::label(key.origin), way, label);
        if count > 0 || self.0.contains_key(&at) {
            let sum = self.0.entry(at).or_default();
            *sum = sum.wrapping_add(count);
        }
    }

    fn write(&self, lines: &mut Lines) {
        self.write_of(lines, None);
    }

    /// With a label between the direction and the further one, if there is one.
    fn write_of(&self, lines: &mut Lines, between: Option<&str>) {
        for ((origin, way, label), sum) in &self.0 {
            lines.origin(origin);
            lines.label(0, way);
            if let Some(between) = between {
                let is_other = *label == OTHER && *way == OTHER;
                lines.label(1, if is_other { OTHER } else { between });
            }
            lines.label(1 + usize::from(between.is_some()), label);
            lines.value(*sum as f64);
        }
        lines.origin("");
    }
}

/// Sums of counters that each series has, under these values of the further label.
fn of_series<const N: usize>(
    snapshot: &Snapshot,
    lines: &mut Lines,
    labels: &[&'static str; N],
    counts: fn(&MetricValue) -> [u64; N],
) {
    let mut totals = Totals::of(labels);
    for (key, value) in &snapshot.metrics {
        for (label, count) in labels.iter().zip(counts(value)) {
            totals.add(key, label, count);
        }
    }
    totals.write(lines);
}

/// The value of the label `protocol`.
fn protocol_of(key: &RequestKey) -> &'static str {
    match key.series.kind {
        series_kind::OTHER => OTHER,
        _ => protocol::label(key.protocol),
    }
}

/// The class of a response's status.
fn class(key: &RequestKey) -> &'static str {
    if key.series.kind == series_kind::OTHER {
        return OTHER;
    }
    match (key.protocol, key.grpc_status, key.status) {
        (protocol::GRPC, 0, _) => "ok",
        (protocol::GRPC, GRPC_STATUS_NONE, _) => UNKNOWN,
        (protocol::GRPC, ..) => "error",
        (_, _, STATUS_OTHER) => UNKNOWN,
        (_, _, status) => CLASSES
            .get((usize::from(status) / 100).wrapping_sub(1))
            .copied()
            .unwrap_or(UNKNOWN),
    }
}
