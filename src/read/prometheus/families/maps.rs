//! How full the maps are, and what they or the programs had no room for.

use prometheus::proto::MetricType::{COUNTER, GAUGE};

use crate::kernel::maps;
use crate::read::prometheus::family::{Family, Rows};

pub const FAMILIES: &[Family] = &[
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
        name: "linkerd_ebpf_series_idle",
        help: "Entries of the maps that this page leaves out, since they have not changed for as long as \
               --show-idle says. They come back with all that they have counted, and the linkerd_ebpf_pod_ \
               totals never leave them out.",
        kind: GAUGE,
        rows: Rows::Once(&[], |scrape, lines| {
            if let Ok(snapshot) = &scrape.reading {
                let idle = match scrape.without_idle {
                    true => snapshot.ages.idle(),
                    false => 0,
                };
                lines.value(idle as f64);
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
];
