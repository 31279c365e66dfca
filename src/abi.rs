//! The layout shared with the kernel side: bpf/layout/abi.h, whose names are kept.
//!
//! The kernel writes these structs as they lie in its memory, so a record is read field by field in
//! native byte order. No struct has padding (asserted below). So reading field by field, and
//! writing what user space hands to the kernel in this way, is no different from copying memory.

#![forbid(unsafe_code)]

#[macro_use]
mod layout;
mod info;
mod names;
mod records;
mod tap;
mod values;

pub use info::{Info, PROOF, Proof};
pub use layout::{Declared, Layout, Merge};
pub use names::{detail, direction, protocol, route, series_kind};
pub use records::{Truncated, decode, read_grown, read_records};
pub use tap::{TapEnd, TapHead, tap_kind};

/// What the kernel side defines: the names and numbers of bpf/layout/abi.h and bpf/net/state.h.
pub mod constants {
    include!(concat!(env!("OUT_DIR"), "/constants.rs"));
}

/// The version of the layout that this build writes. A reader finds what it knows in every layout
/// from [`FIRST_LAYOUT`] on.
pub const LAYOUT_VERSION: u32 = constants::LAYOUT_VERSION as u32;
/// Whether this is built as another version would be, for tests of an upgrade to that version.
const NEXT_LAYOUT: bool = cfg!(feature = "next-layout");
/// The first layout that tells its own sizes.
pub const FIRST_LAYOUT: u32 = 4;
/// The first layout that has maps behind the arrays of elements.
pub const FIRST_WITH_MORE: u32 = 6;
/// The first layout whose maps can be read as text: it has no arrays of bytes, and has [`PROOF`].
pub const FIRST_AS_TEXT: u32 = 7;
/// The version of the connections' state: programs of one version take connections over from each
/// other.
pub const STATE_VERSION: u32 = constants::STATE_VERSION as u32;
/// Slots of a [`Histogram`].
pub const BUCKETS: usize = constants::BUCKETS as usize;
/// Response codes of DNS that are told apart.
pub const DNS_RCODES: usize = constants::DNS_RCODES as usize;
/// [`RequestKey::status`] of what did not fit.
pub const STATUS_OTHER: u16 = constants::STATUS_OTHER as u16;
/// [`RequestKey::status`] of entries that count requests, not responses.
pub const STATUS_REQUESTS: u16 = constants::STATUS_REQUESTS as u16;
/// [`RequestKey::grpc_status`] where there is none.
pub const GRPC_STATUS_NONE: u8 = constants::GRPC_STATUS_NONE as u8;

layout! {
    /// A series: who talks to whom. `src` is the client, `dst` the server; ports in host order.
    MetricKey = metric_key {
        /// IPv4 as ::ffff:a.b.c.d.
        src: [u8; 16],
        dst: [u8; 16],
        /// 0 unless `--detail full`.
        src_port: u16,
        dst_port: u16,
        /// IANA protocol number.
        proto: u8,
        /// See [`direction`].
        direction: u8,
        /// See [`series_kind`].
        kind: u8,
        pad: u8,
    }
}

counters! {
    IoValue = io_value {
        /// As on the wire: GSO segments.
        packets: u64,
        /// As on the wire, with the L2 header.
        bytes: u64,
        /// TCP segments whose bytes had been seen before.
        retransmits: u64,
    }
}

counters! {
    /// Connections by how they ended.
    ClosedValue = closed_value {
        fin: u64,
        rst: u64,
        /// RST in answer to the SYN.
        refused: u64,
        /// Silent for longer than the idle time, or replaced by a new SYN.
        idle: u64,
        /// The slot was needed for a new connection.
        evicted: u64,
    }
}

counters! {
    /// Requests that never got their whole response, by why.
    AbortedValue = aborted_value {
        /// The connection ended in order, without the rest.
        fin: u64,
        rst: u64,
        idle: u64,
        evicted: u64,
        /// HTTP/2: by the client, or by the server with CANCEL.
        cancelled: u64,
        /// HTTP/2: not processed, by REFUSED_STREAM or GOAWAY.
        refused: u64,
        /// HTTP/2: by the server for another reason.
        reset: u64,
    }
}

counters! {
    /// Connections whose requests could not be followed any further, by why.
    LostValue = lost_value {
        /// Bytes that the parser needed were never seen in order.
        gap: u64,
        malformed: u64,
        /// Beyond what is followed in one packet, or what the maps hold.
        bound: u64,
        /// More outstanding requests than are remembered.
        pipeline: u64,
        /// A response that no request asked for.
        unsolicited: u64,
        /// The connection was older than the programs.
        midstream: u64,
    }
}

counters! {
    /// By [`protocol`].
    RequestsValue = requests_value {
        unknown: u64,
        http1: u64,
        http2: u64,
        grpc: u64,
    }
}

counters! {
    /// The counters of a series; `active` is a gauge.
    MetricValue = metric_value {
        opened: u64,
        active: u64,
        tls: u64,
        /// As the pod sees it.
        recv: IoValue,
        requests: RequestsValue,
        /// Responses whose duration could not be known.
        untimed: u64,
        sent: IoValue,
        /// Requests, in whatever way.
        ended: u64,
        aborted: AbortedValue,
        closed: ClosedValue,
        lost: LostValue,
    }
}

layout! {
    /// An element of `linkerd_metrics_map`.
    MetricEntry = metric_entry {
        key: MetricKey,
        value: MetricValue,
        pad: u64,
        pad2: u32,
        /// See [`key_check`].
        check: u32,
    }
}

layout! {
    RequestKey = request_key {
        series: MetricKey,
        /// 0 is unknown, [`STATUS_OTHER`] what did not fit.
        status: u16,
        /// See [`protocol`].
        protocol: u8,
        /// Or [`GRPC_STATUS_NONE`].
        grpc_status: u8,
        /// See [`route`].
        route: u16,
        pad: u16,
    }
}

counters! {
    RequestValue = request_value {
        responses: u64,
    }
}

layout! {
    /// An element of `linkerd_requests_map`.
    RequestEntry = request_entry {
        key: RequestKey,
        /// Element of `linkerd_latency_map`.
        latency: u32,
        /// See [`key_check`].
        check: u32,
        /// Counts requests, if the key's status is [`STATUS_REQUESTS`], and responses otherwise.
        value: RequestValue,
    }
}

counters! {
    Histogram = histogram {
        /// Not cumulative: one per bound of [`Info::bounds_ns`], then +Inf, then unused.
        buckets: [u64; BUCKETS],
        /// Nanoseconds.
        sum_ns: u64,
    }
}

layout! {
    LatencyKey = latency_key {
        /// Zero unless `--detail full`.
        peer: [u8; 16],
        /// The server's.
        port: u16,
        /// See [`direction`].
        direction: u8,
        /// See [`protocol`].
        protocol: u8,
        /// 1 to 5; 0 is unknown.
        status_class: u8,
        /// See [`series_kind`].
        kind: u8,
        /// See [`route`].
        route: u16,
    }
}

layout! {
    /// An element of `linkerd_route_map`.
    RouteEntry = route_entry {
        /// The bytes of a path, filled up with NUL.
        text: [u64; 16],
    }
}

counters! {
    /// A bucket of the histogram of durations, and the bucket with these bounds of that of times to
    /// the first byte.
    LatencyPair = latency_pair {
        duration: u64,
        /// Time to first byte.
        ttfb: u64,
    }
}

counters! {
    LatencyValue = latency_value {
        /// As in [`Histogram`].
        buckets: [LatencyPair; BUCKETS],
        sum_ns: LatencyPair,
    }
}

layout! {
    /// An element of `linkerd_latency_map`.
    LatencyEntry = latency_entry {
        key: LatencyKey,
        pad: u32,
        /// See [`key_check`].
        check: u32,
        value: LatencyValue,
    }
}

layout! {
    HandshakeKey = handshake_key {
        /// Zero unless `--detail full`.
        peer: [u8; 16],
        /// The server's.
        port: u16,
        /// See [`direction`].
        direction: u8,
        /// See [`series_kind`].
        kind: u8,
    }
}

counters! {
    HandshakeValue = handshake_value {
        /// Durations of connections.
        duration: Histogram,
        rtt: Histogram,
    }
}

layout! {
    /// The server that is asked by DNS over UDP.
    DnsKey = dns_key {
        /// Zero with `--detail pod`.
        server: [u8; 16],
        /// See [`direction`].
        direction: u8,
        /// See [`series_kind`].
        kind: u8,
        pad: [u16; 3],
    }
}

counters! {
    /// Queries without an answer, by why an answer is not waited for any more.
    DnsUnanswered = dns_unanswered {
        timeout: u64,
        /// The query was sent again.
        retried: u64,
        /// The place was needed for another query.
        evicted: u64,
    }
}

counters! {
    DnsValue = dns_value {
        queries: u64,
        /// Answers by response code, RFC 6895 section 2.3; the last one counts all codes above,
        /// too.
        answers: [u64; DNS_RCODES],
        unanswered: DnsUnanswered,
        /// Answers that no query waits for.
        unsolicited: u64,
        /// Answers with the TC bit.
        truncated: u64,
        /// The time to the answer, of queries that were answered.
        duration: Histogram,
    }
}

counters! {
    /// What the programs count about themselves.
    Counters = counters {
        /// Series that did not fit. The next three fields count what did not fit into their maps.
        metrics_overflow: u64,
        requests_overflow: u64,
        latency_overflow: u64,
        handshake_overflow: u64,
        /// New connections for which there was no slot.
        untracked: u64,
        /// Packets that waited in vain for another of their direction.
        contended: u64,
        /// Headers that could not be read.
        truncated: u64,
        /// Ends of requests for which `linkerd_perf_map` had no room.
        events_dropped: u64,
        /// Heads of requests for which `linkerd_perf_map` had no room.
        heads_dropped: u64,
        /// Servers of DNS that did not fit.
        dns_overflow: u64,
    }
}

layout! {
    /// What metricd-init has attached.
    AttachmentKey = attachment_key {
        ifindex: u32,
        egress: u32,
    }
}

layout! {
    AttachmentValue = attachment_value {
        /// Inode of the network namespace in which the interface's index is one.
        netns: u64,
        /// The priority of the clsact filter; 0 is TCX.
        priority: u32,
        /// 1 if metricd-init has made the clsact qdisc.
        made_qdisc: u32,
    }
}

// Of all that maps hold, nothing is left out.
#[cfg(not(feature = "next-layout"))]
const _: () = {
    use crate::skel::types;

    assert!(size_of::<MetricEntry>() == size_of::<types::metric_entry>());
    assert!(size_of::<RequestEntry>() == size_of::<types::request_entry>());
    assert!(size_of::<LatencyEntry>() == size_of::<types::latency_entry>());
    assert!(size_of::<HandshakeKey>() == size_of::<types::handshake_key>());
    assert!(size_of::<HandshakeValue>() == size_of::<types::handshake_value>());
    assert!(size_of::<DnsKey>() == size_of::<types::dns_key>());
    assert!(size_of::<DnsValue>() == size_of::<types::dns_value>());
    assert!(size_of::<RouteEntry>() == size_of::<types::route_entry>());
    assert!(size_of::<Counters>() == size_of::<types::counters>());
    assert!(size_of::<Info>() == size_of::<types::info>());
    assert!(size_of::<TapEnd>() == size_of::<types::tap_end>());
    assert!(size_of::<AttachmentKey>() == size_of::<types::attachment_key>());
    assert!(size_of::<AttachmentValue>() == size_of::<types::attachment_value>());
};

/// What the programs write behind a key when it is whole, never 0: key_check() of bpf/count/series.h. Its
/// size is a multiple of 8 bytes.
pub fn key_check(key: &[u8]) -> u32 {
    let mut hash = 0;
    for word in key.as_chunks().0 {
        hash = (hash ^ u64::from_ne_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 29;
    }
    hash as u32 | 1
}

#[cfg(test)]
mod tests;
