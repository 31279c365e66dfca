//! Which line shows what: [`FAMILIES`].

use super::*;
use crate::kernel::maps;

/// The label of all that did not fit.
pub(super) const OTHER: &str = "other";

pub(super) const PEER: &[&str] = &[
    "direction",
    "src_ip",
    "dst_ip",
    "src_port",
    "dst_port",
    "proto",
];
pub(super) const LATENCY: &[&str] = &[
    "direction",
    "src_ip",
    "dst_ip",
    "dst_port",
    "protocol",
    "status_class",
    "route",
];
pub(super) const DNS: &[&str] = &["direction", "dst_ip"];
pub(super) const HANDSHAKE: &[&str] = &["direction", "src_ip", "dst_ip", "dst_port"];

pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: MetricType,
    pub(super) rows: Rows,
}

/// Where the lines of a family come from.
pub(super) enum Rows {
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

pub(super) type Samples = Vec<(&'static str, f64)>;

/// What the answers' codes are called: IANA's DNS RCODEs.
pub(super) const RCODES: [&str; DNS_RCODES] = [
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
pub(super) fn happened(samples: &mut Samples, label: &'static str, count: u64) {
    if count > 0 {
        samples.push((label, count as f64));
    }
}

/// A gauge that another CPU is about to bring back from below zero is shown as what it is.
pub(super) fn gauge(value: u64) -> f64 {
    value as i64 as f64
}

pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "linkerd_ebpf_up",
        help: "Whether the pinned maps can be read. If it is 0, the label says the \
               reason, and nothing of this pod is counted: see docs/checks.md.",
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
        help: "Connections whose requests were not followed from some point on, by \
               reason: their bytes still count, their requests do not. \
               docs/principles.md has the bounds.",
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
        help: "What did not fit into a map and was added to the series whose labels are \
               other: totals stay right, peers are missing. Raise the map size, or keep \
               less detail.",
        kind: COUNTER,
        rows: Rows::Snapshot(&["map"], |snapshot, lines| {
            let counters = &snapshot.counters;
            for (map, count) in [
                (maps::METRICS, counters.metrics_overflow),
                (maps::REQUESTS, counters.requests_overflow),
                (maps::LATENCY, counters.latency_overflow),
                (maps::HANDSHAKE, counters.handshake_overflow),
                (maps::DNS, counters.dns_overflow),
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
                (maps::METRICS, entries.metrics),
                (maps::REQUESTS, entries.requests),
                (maps::LATENCY, entries.latency),
                (maps::HANDSHAKE, entries.handshake),
                (maps::DNS, entries.dns),
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
                (maps::METRICS, info.metrics_capacity),
                (maps::REQUESTS, info.requests_capacity),
                (maps::LATENCY, info.latency_capacity),
                (maps::HANDSHAKE, info.handshake_capacity),
                (maps::DNS, info.dns_capacity),
            ] {
                lines.label(0, map);
                lines.value(f64::from(capacity));
            }
        }),
    },
    Family {
        name: "linkerd_ebpf_connections_untracked_total",
        help: "New connections that are counted as packets and bytes alone, because all \
               slots were taken: raise --connections.",
        kind: COUNTER,
        rows: Rows::Snapshot(&[], |snapshot, lines| {
            lines.value(snapshot.counters.untracked as f64);
        }),
    },
    Family {
        name: "linkerd_ebpf_contended_packets_total",
        help: "Packets that waited in vain for another CPU to finish an earlier packet \
               of their connection. Their requests are not followed; more than a few \
               point at a CPU that is held up.",
        kind: COUNTER,
        rows: Rows::Snapshot(&[], |snapshot, lines| {
            lines.value(snapshot.counters.contended as f64);
        }),
    },
    Family {
        name: "linkerd_ebpf_truncated_packets_total",
        help: "Packets that are cut short within their headers. They count as packets \
               and bytes, without ports.",
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
