//! The labels of lines.

use super::families::*;
use super::*;

/// Sets a label to what is formatted.
macro_rules! label {
    ($lines:expr, $scratch:expr, $number:expr, $($format:tt)*) => {{
        $scratch.clear();
        // Writing to a string does not fail.
        let _ = write!($scratch, $($format)*);
        $lines.label($number, $scratch);
    }};
}
pub(super) use label;

/// An address; empty if all zero, which stands for "not kept".
pub(super) fn label_ip(lines: &mut Lines, scratch: &mut String, number: usize, address: &[u8; 16]) {
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
pub(super) fn label_port(lines: &mut Lines, scratch: &mut String, number: usize, port: u16) {
    match port {
        0 => lines.label(number, ""),
        port => label!(lines, scratch, number, "{port}"),
    }
}

/// The labels of [`PEER`].
pub(super) fn label_peer(lines: &mut Lines, scratch: &mut String, key: &MetricKey) {
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
pub(super) fn requests(key: &MetricKey, value: &MetricValue, samples: &mut Samples) {
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
pub(super) fn route(snapshot: &Snapshot, number: u16) -> &str {
    match number {
        route::NONE => "",
        route::OTHER => OTHER,
        number => snapshot.routes.get(&number).map_or("unknown", |r| r),
    }
}

/// The labels after [`PEER`] of a response.
pub(super) fn label_response(
    lines: &mut Lines,
    scratch: &mut String,
    snapshot: &Snapshot,
    key: &RequestKey,
) {
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
pub(super) fn label_latency(
    lines: &mut Lines,
    scratch: &mut String,
    snapshot: &Snapshot,
    key: &LatencyKey,
) {
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
pub(super) fn label_handshake(lines: &mut Lines, scratch: &mut String, key: &HandshakeKey) {
    if key.kind == series_kind::OTHER {
        (0..HANDSHAKE.len()).for_each(|number| lines.label(number, OTHER));
        return;
    }
    label_server(lines, scratch, key.direction, &key.peer, key.port);
}

/// The labels of [`DNS`].
pub(super) fn label_dns(lines: &mut Lines, scratch: &mut String, key: &DnsKey) {
    if key.kind == series_kind::OTHER {
        (0..DNS.len()).for_each(|number| lines.label(number, OTHER));
        return;
    }
    lines.label(0, direction::label(key.direction));
    label_ip(lines, scratch, 1, &key.server);
}

/// The labels that [`LATENCY`] and [`HANDSHAKE`] begin with. The peer, where it is kept, is the
/// client of what comes in and the server of what goes out.
pub(super) fn label_server(
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
