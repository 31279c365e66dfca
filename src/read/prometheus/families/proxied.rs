//! What a proxy has recorded by the library: the families of [`crate::l7`].

use prometheus::proto::MetricType::{COUNTER, GAUGE, HISTOGRAM};

use crate::abi::{GRPC_STATUS_NONE, protocol};
use crate::read::prometheus::family::{Family, Rows};
use crate::read::prometheus::labels::{OTHER, label_ip, label_port};
use crate::read::prometheus::lines::Lines;
use crate::read::proxy;
use metricd_l7::{DurationKey, Key};

const REQUEST: &[&str] = &[
    "src_ip",
    "dst_ip",
    "dst_port",
    "protocol",
    "status",
    "grpc_status",
];
/// [`REQUEST`], then the direction.
const REQUEST_BYTES: &[&str] = &[
    "src_ip",
    "dst_ip",
    "dst_port",
    "protocol",
    "status",
    "grpc_status",
    "direction",
];
const SERVER: &[&str] = &["dst_ip", "dst_port", "protocol", "status_class"];

pub const FAMILIES: &[Family] = &[
    Family {
        name: "linkerd_proxy_l7_up",
        help: "Whether what the proxy records can be read; if not, the reason.",
        kind: GAUGE,
        rows: Rows::Once(&["reason"], |scrape, lines| match &scrape.proxied {
            None => {}
            Some(Ok(_)) => {
                lines.no_labels();
                lines.value(1.0);
            }
            Some(Err(reason)) => {
                lines.label(0, reason);
                lines.value(0.0);
            }
        }),
    },
    Family {
        name: "linkerd_proxy_requests_total",
        help: "Requests that a proxy has recorded, by the response's status.",
        kind: COUNTER,
        rows: Rows::Proxied(REQUEST, |proxied, row, lines| {
            let Some(series) = proxied.series.get(row) else {
                return false;
            };
            label_request(lines, series.key.as_ref());
            lines.value(series.requests as f64);
            true
        }),
    },
    Family {
        name: "linkerd_proxy_request_duration_seconds",
        help: "From the request's beginning to the response's last byte, as a proxy has recorded it.",
        kind: HISTOGRAM,
        rows: Rows::Proxied(SERVER, |proxied, row, lines| {
            let Some((key, histogram)) = proxied.durations.get(row) else {
                return false;
            };
            label_server(lines, key.as_ref());
            lines.histogram(&proxy::histogram(histogram), &proxied.bounds_ns);
            true
        }),
    },
    Family {
        name: "linkerd_proxy_bytes_total",
        help: "Bytes that a proxy has sent to and received from who asked, as it has recorded them.",
        kind: COUNTER,
        rows: Rows::Proxied(REQUEST_BYTES, |proxied, row, lines| {
            let Some(series) = proxied.series.get(row) else {
                return false;
            };
            label_request(lines, series.key.as_ref());
            for (direction, bytes) in [("recv", series.received), ("sent", series.sent)] {
                lines.label(REQUEST.len(), direction);
                lines.value(bytes as f64);
            }
            true
        }),
    },
    Family {
        name: "linkerd_proxy_l7_overflow_total",
        help: "Requests that found no slot and were added to the series whose labels are \
           other: raise METRICD_L7_SLOTS.",
        kind: COUNTER,
        rows: Rows::Proxied(&[], |proxied, row, lines| {
            once(row, lines, proxied.overflow())
        }),
    },
    Family {
        name: "linkerd_proxy_l7_missed_total",
        help: "Requests that were not recorded because the proxy had nothing to record into: \
           see whether it and metricd share the file METRICD_L7_FILE.",
        kind: COUNTER,
        rows: Rows::Proxied(&[], |proxied, row, lines| once(row, lines, proxied.missed)),
    },
    Family {
        name: "linkerd_proxy_l7_slots",
        help: "Series that there is room for.",
        kind: GAUGE,
        rows: Rows::Proxied(&[], |proxied, row, lines| {
            once(row, lines, proxied.slots as u64)
        }),
    },
    Family {
        name: "linkerd_proxy_l7_slots_used",
        help: "Slots that are taken.",
        kind: GAUGE,
        rows: Rows::Proxied(&[], |proxied, row, lines| {
            once(row, lines, proxied.used as u64)
        }),
    },
];

/// A line without labels, and no other.
fn once(row: usize, lines: &mut Lines, value: u64) -> bool {
    if row == 0 {
        lines.value(value as f64);
    }
    false
}

/// The labels of [`REQUEST`].
fn label_request(lines: &mut Lines, key: Option<&Key>) {
    let Some(key) = key else {
        (0..REQUEST.len()).for_each(|number| lines.label(number, OTHER));
        return;
    };
    label_ip(lines, 0, &key.src);
    label_ip(lines, 1, &key.dst);
    label_port(lines, 2, key.dst_port);
    lines.label(3, protocol::label(key.protocol));
    match key.status {
        0 => lines.label(4, "unknown"),
        status => lines.show(4, status),
    }
    match key.grpc_status {
        GRPC_STATUS_NONE => lines.label(5, ""),
        status => lines.show(5, status),
    }
}

/// The labels of [`SERVER`].
fn label_server(lines: &mut Lines, key: Option<&DurationKey>) {
    let Some(key) = key else {
        (0..SERVER.len()).for_each(|number| lines.label(number, OTHER));
        return;
    };
    label_ip(lines, 0, &key.dst);
    label_port(lines, 1, key.dst_port);
    lines.label(2, protocol::label(key.protocol));
    match key.status_class {
        0 => lines.label(3, "unknown"),
        class => lines.show(3, format_args!("{class}xx")),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::read::snapshot::fixture::v4;
    use metricd_l7::{Series, Snapshot};

    /// Of every kind something.
    pub fn snapshot() -> Snapshot {
        let key = Key {
            src: v4([10, 0, 0, 2]),
            dst: v4([127, 0, 0, 1]),
            dst_port: 8080,
            status: 200,
            protocol: protocol::HTTP2,
            grpc_status: GRPC_STATUS_NONE,
        };
        let grpc = Key {
            protocol: protocol::GRPC,
            grpc_status: 14,
            ..key
        };
        let unanswered = Key { status: 0, ..key };
        let series = |key, requests| Series {
            key,
            requests,
            sent: 100 * requests,
            received: 10 * requests,
        };
        let server = DurationKey {
            dst: key.dst,
            dst_port: key.dst_port,
            protocol: key.protocol,
            status_class: 2,
        };
        let mut histogram = metricd_l7::Histogram::default();
        histogram.buckets[..3].copy_from_slice(&[1, 2, 3]);
        histogram.sum_ns = 1_500_000_000;
        Snapshot {
            series: vec![
                series(Some(key), 3),
                series(Some(grpc), 2),
                series(Some(unanswered), 1),
                series(None, 7),
            ],
            bounds_ns: vec![1_000_000, 250_000_000],
            durations: vec![(Some(server), histogram), (None, histogram)],
            slots: 1024,
            used: 3,
            missed: 5,
        }
    }
}
