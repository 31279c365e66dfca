//! What all series add up to, without peers, ports and routes: few lines, which are there from the first
//! scrape, at 0. A rate of a series misses the value that it begins with, since nobody has scraped it at
//! 0; one of these misses nothing.

use prometheus::proto::MetricType::COUNTER;

use crate::abi::{MetricValue, abort_reason};
use crate::read::prometheus::family::{Family, Rows};
use crate::read::prometheus::labels::OTHER;
use crate::read::prometheus::lines::Lines;
use crate::read::prometheus::totals::{CLASSES, PROTOCOLS, Sums, has_class};

pub const FAMILIES: &[Family] = &[
    Family {
        name: "linkerd_ebpf_pod_requests_total",
        help: "Requests that began: linkerd_ebpf_requests_total without peers and routes.",
        kind: COUNTER,
        rows: Rows::Totals(&["direction", "protocol"], |sums, lines| {
            let requests = &sums.metrics.requests;
            if sums.is_other() {
                return by_label(sums, lines, &[OTHER], [requests.total()]);
            }
            let counts = [requests.http1, requests.http2, requests.grpc];
            by_label(sums, lines, &PROTOCOLS, counts);
        }),
    },
    Family {
        name: "linkerd_ebpf_pod_responses_total",
        help: "Responses that ended, by the class of their status: linkerd_ebpf_responses_total without peers \
               and routes. For gRPC an error is a status of 2, 4, 13, 14 or 15, or HTTP's of 500 and above, \
               and any other status is ok.",
        kind: COUNTER,
        rows: Rows::Totals(&["direction", "protocol", "status_class"], |sums, lines| {
            for (protocol, counts) in sums.responses.iter().enumerate() {
                lines.label(1, PROTOCOLS[protocol]);
                for (class, count) in counts.iter().enumerate() {
                    if *count > 0 || (sums.is_always_there() && has_class(protocol, class)) {
                        lines.label(2, CLASSES[class]);
                        lines.value(*count as f64);
                    }
                }
            }
        }),
    },
    Family {
        name: "linkerd_ebpf_pod_requests_aborted_total",
        help: "Requests that never got their whole response, by why: linkerd_ebpf_requests_aborted_total \
               without peers, protocols and routes.",
        kind: COUNTER,
        rows: Rows::Totals(&["direction", "reason"], |sums, lines| {
            by_label(sums, lines, &abort_reason::LABELS, sums.aborted);
        }),
    },
    Family {
        name: "linkerd_ebpf_pod_connections_opened_total",
        help: "Connections that opened, or were given up before: linkerd_ebpf_connections_opened_total \
               without peers.",
        kind: COUNTER,
        rows: Rows::Totals(&["direction"], |sums, lines| {
            alone(sums, lines, sums.metrics.opened);
        }),
    },
    Family {
        name: "linkerd_ebpf_pod_connections_closed_total",
        help: "Connections that ended, by how: linkerd_ebpf_connections_closed_total without peers.",
        kind: COUNTER,
        rows: Rows::Totals(&["direction", "reason"], |sums, lines| {
            let c = &sums.metrics.closed;
            let counts = [c.fin, c.rst, c.refused, c.idle, c.evicted];
            by_label(sums, lines, &CLOSED, counts);
        }),
    },
    Family {
        name: "linkerd_ebpf_pod_connections_opaque_total",
        help: "TCP connections whose requests can't be counted: linkerd_ebpf_connections_opaque_total without \
               peers and reasons, and without those of the reasons undecided and midstream.",
        kind: COUNTER,
        rows: Rows::Totals(&["direction"], |sums, lines| {
            alone(sums, lines, opaque(&sums.metrics));
        }),
    },
    Family {
        name: "linkerd_ebpf_pod_state_lost_total",
        help: "Connections whose requests were not followed from some point on: linkerd_ebpf_state_lost_total \
               without peers and reasons, and without those of the reason midstream.",
        kind: COUNTER,
        rows: Rows::Totals(&["direction"], |sums, lines| {
            let lost = &sums.metrics.lost;
            let bytes = [lost.gap, lost.malformed, lost.bound];
            let requests = [lost.pipeline, lost.unsolicited];
            let all = bytes.into_iter().chain(requests);
            alone(sums, lines, all.fold(0, u64::wrapping_add));
        }),
    },
];

const CLOSED: [&str; 5] = ["fin", "rst", "refused", "idle", "evicted"];

/// Writes a line for each value of the label behind the direction.
fn by_label<const N: usize>(
    sums: &Sums,
    lines: &mut Lines,
    labels: &[&'static str],
    counts: [u64; N],
) {
    for (label, count) in labels.iter().zip(counts) {
        lines.label(1, label);
        alone(sums, lines, count);
    }
}

/// Writes a line. One that need not be there comes with its first value.
fn alone(sums: &Sums, lines: &mut Lines, count: u64) {
    if count > 0 || sums.is_always_there() {
        lines.value(count as f64);
    }
}

/// Connections of TCP whose requests can't be counted. Who has ended without a word has no requests, and what is
/// older than the programs says nothing of what is to come.
fn opaque(value: &MetricValue) -> u64 {
    let d = &value.decided;
    let others = [d.server_first, d.not_http, d.bound, d.passed_over];
    others.into_iter().fold(value.tls, u64::wrapping_add)
}
