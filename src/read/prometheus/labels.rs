//! The labels of lines.

use std::net::{IpAddr, Ipv6Addr};

use super::lines::Lines;
use crate::abi::{
    CLASS_ABORTED, DnsKey, GRPC_STATUS_NONE, HandshakeKey, LatencyKey, MetricKey, RequestKey,
    STATUS_OTHER, abort_reason, direction, origin, protocol, route, series_kind,
};
use crate::read::snapshot::Snapshot;

/// The value of every label of what did not fit.
pub const OTHER: &str = "other";

pub const PEER: &[&str] = &[
    "direction",
    "src_ip",
    "dst_ip",
    "src_port",
    "dst_port",
    "proto",
];
/// [`PEER`] goes before.
pub const REQUEST: &[&str] = &["protocol", "route"];
/// [`PEER`] goes before.
pub const RESPONSE: &[&str] = &["protocol", "status", "grpc_status", "route"];
/// [`PEER`] goes before.
pub const ABORTED: &[&str] = &["protocol", "route", "reason"];
pub const LATENCY: &[&str] = &[
    "direction",
    "src_ip",
    "dst_ip",
    "dst_port",
    "protocol",
    "status_class",
    "route",
];
pub const DNS: &[&str] = &["direction", "dst_ip"];
pub const HANDSHAKE: &[&str] = &["direction", "src_ip", "dst_ip", "dst_port"];

/// An address; empty if all zero, which stands for "not kept".
pub fn label_ip(lines: &mut Lines, number: usize, address: &[u8; 16]) {
    if *address == [0; 16] {
        lines.label(number, "");
        return;
    }
    match Ipv6Addr::from(*address).to_canonical() {
        IpAddr::V4(ip) => lines.show(number, ip),
        IpAddr::V6(ip) => lines.show(number, ip),
    }
}

/// A port; empty if 0, which stands for "not kept" or "has none".
pub fn label_port(lines: &mut Lines, number: usize, port: u16) {
    match port {
        0 => lines.label(number, ""),
        port => lines.show(number, port),
    }
}

/// The labels of [`PEER`].
pub fn label_peer(lines: &mut Lines, key: &MetricKey) {
    lines.origin(origin::label(key.origin));
    if key.kind == series_kind::OTHER {
        (0..PEER.len()).for_each(|number| lines.label(number, OTHER));
        return;
    }
    lines.label(0, direction::label(key.direction));
    label_ip(lines, 1, &key.src);
    label_ip(lines, 2, &key.dst);
    label_port(lines, 3, key.src_port);
    label_port(lines, 4, key.dst_port);
    match (key.kind, key.proto) {
        (series_kind::NON_IP, _) => lines.label(5, "non-ip"),
        (series_kind::IPV6_OFF, _) => lines.label(5, "ipv6"),
        (_, 6) => lines.label(5, "tcp"),
        (_, 17) => lines.label(5, "udp"),
        (_, number) => lines.show(5, number),
    }
}

/// The value of the label `route`.
fn route(snapshot: &Snapshot, number: u16) -> &str {
    match number {
        route::NONE => "",
        route::OTHER => OTHER,
        number => snapshot.routes.get(&number).map_or("unknown", |r| r),
    }
}

/// The labels of [`REQUEST`].
pub fn label_request(lines: &mut Lines, snapshot: &Snapshot, key: &RequestKey) {
    let first = PEER.len();
    if key.series.kind == series_kind::OTHER {
        (first..first + REQUEST.len()).for_each(|number| lines.label(number, OTHER));
        return;
    }
    lines.label(first, protocol::label(key.protocol));
    lines.label(first + 1, route(snapshot, key.route));
}

/// The labels of [`RESPONSE`].
pub fn label_response(lines: &mut Lines, snapshot: &Snapshot, key: &RequestKey) {
    let first = PEER.len();
    if key.series.kind == series_kind::OTHER {
        (first..first + RESPONSE.len()).for_each(|number| lines.label(number, OTHER));
        return;
    }
    lines.label(first, protocol::label(key.protocol));
    match key.status {
        0 => lines.label(first + 1, "unknown"),
        STATUS_OTHER => lines.label(first + 1, OTHER),
        status => lines.show(first + 1, status),
    }
    match key.grpc_status {
        GRPC_STATUS_NONE => lines.label(first + 2, ""),
        status => lines.show(first + 2, status),
    }
    lines.label(first + 3, route(snapshot, key.route));
}

/// The labels of [`ABORTED`].
pub fn label_aborted(lines: &mut Lines, snapshot: &Snapshot, key: &RequestKey) {
    label_request(lines, snapshot, key);
    let reason = PEER.len() + REQUEST.len();
    lines.label(reason, abort_reason::label(key.grpc_status));
}

/// The labels of [`LATENCY`].
pub fn label_latency(lines: &mut Lines, snapshot: &Snapshot, key: &LatencyKey) {
    if key.kind == series_kind::OTHER {
        (0..LATENCY.len()).for_each(|number| lines.label(number, OTHER));
        return;
    }
    label_server(lines, key.direction, &key.peer, key.port);
    lines.label(4, protocol::label(key.protocol));
    match key.status_class {
        0 => lines.label(5, "unknown"),
        CLASS_ABORTED => lines.label(5, "aborted"),
        class => lines.show(5, format_args!("{class}xx")),
    }
    lines.label(6, route(snapshot, key.route));
}

/// The labels of [`HANDSHAKE`].
pub fn label_handshake(lines: &mut Lines, key: &HandshakeKey) {
    lines.origin(origin::label(key.origin()));
    if key.kind == series_kind::OTHER {
        (0..HANDSHAKE.len()).for_each(|number| lines.label(number, OTHER));
        return;
    }
    label_server(lines, key.direction(), &key.peer, key.port);
}

/// The labels of [`DNS`].
pub fn label_dns(lines: &mut Lines, key: &DnsKey) {
    if key.kind == series_kind::OTHER {
        (0..DNS.len()).for_each(|number| lines.label(number, OTHER));
        return;
    }
    lines.label(0, direction::label(key.direction));
    label_ip(lines, 1, &key.server);
}

/// The labels that [`LATENCY`] and [`HANDSHAKE`] begin with. The peer, where it is kept, is the
/// client of what comes in and the server of what goes out.
fn label_server(lines: &mut Lines, direction: u8, peer: &[u8; 16], port: u16) {
    let (src, dst) = match direction {
        direction::OUTBOUND => (&[0; 16], peer),
        _ => (peer, &[0; 16]),
    };
    lines.label(0, direction::label(direction));
    label_ip(lines, 1, src);
    label_ip(lines, 2, dst);
    label_port(lines, 3, port);
}
