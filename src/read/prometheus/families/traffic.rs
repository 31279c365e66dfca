//! Bytes, packets and connections.

use prometheus::proto::MetricType::{COUNTER, GAUGE, HISTOGRAM};

use crate::abi::origin;
use crate::read::prometheus::family::{Family, Rows, gauge, happened};

pub const FAMILIES: &[Family] = &[
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
        help: "Connections that opened, or were given up before: TCP, and of other protocols who first spoke with whom.",
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
        name: "linkerd_ebpf_connections_classified_total",
        help: "TCP connections that turned out to carry HTTP or DNS, by protocol; gRPC is http2.",
        kind: COUNTER,
        rows: Rows::Series(&["protocol"], |_, value, samples| {
            happened(samples, "http1", value.decided.http1);
            happened(samples, "http2", value.decided.http2);
            happened(samples, "dns", value.dns);
        }),
    },
    Family {
        name: "linkerd_ebpf_connections_opaque_total",
        help: "TCP connections whose requests are not counted, by why. With linkerd_ebpf_connections_classified_total as many as were opened, once all have ended.",
        kind: COUNTER,
        rows: Rows::Series(&["reason"], |key, value, samples| {
            happened(samples, "tls", value.tls);
            happened(samples, "server_first", value.decided.server_first);
            happened(samples, "not_http", value.decided.not_http);
            happened(samples, "bound", value.decided.bound);
            happened(samples, "midstream", value.decided.midstream);
            let is_proxys = key.origin == origin::PROXY;
            let passed_over = if is_proxys { "proxy" } else { "mptcp" };
            happened(samples, passed_over, value.decided.passed_over);
            happened(samples, "undecided", value.decided.never);
        }),
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
];
