//! The layout shared with the kernel side: bpf/layout/abi.h, whose names are kept.
//!
//! The kernel writes these structs as they lie in its memory, so a record is read field by field in
//! native byte order. No struct has padding (asserted below). So reading field by field, and
//! writing what user space hands to the kernel in this way, is no different from copying memory.

#![forbid(unsafe_code)]

#[macro_use]
mod layout;
mod dns;
mod histograms;
mod info;
mod names;
mod records;
mod responses;
mod series;
mod tap;
mod values;

pub use dns::{DnsKey, DnsUnanswered, DnsValue};
pub use histograms::{
    HandshakeKey, HandshakeValue, Histogram, LatencyEntry, LatencyKey, LatencyPair, LatencyValue,
};
pub use info::{Info, PROOF, Proof};
pub use layout::{Declared, Latest, Layout, Merge};
pub use names::{abort_reason, detail, direction, origin, protocol, route, series_kind};
pub use records::{Truncated, decode, read_grown, read_records};
pub use responses::{RequestEntry, RequestKey, RequestValue, RouteEntry};
pub use series::{
    AbortedOther, AbortedValue, ClosedValue, DecidedValue, IoValue, LostValue, MetricEntry,
    MetricKey, MetricValue, RequestsValue,
};
pub use tap::{TapEnd, TapHead, tap_kind};

/// What the kernel side defines: the names and numbers of bpf/layout/abi.h and bpf/net/state.h.
pub mod constants {
    include!(concat!(env!("OUT_DIR"), "/constants.rs"));
}

/// The version of the layout that this build writes. A reader finds what it knows in every layout
/// from [`FIRST_LAYOUT`] on.
pub const LAYOUT_VERSION: u32 = constants::LAYOUT_VERSION as u32;

/// The first layout with entries of [`STATUS_ABORTED`].
pub const FIRST_WITH_ABORTED: u32 = 11;
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
/// [`RequestKey::status`] of entries that count requests that never got their whole response, for the
/// [`abort_reason`] that is their `grpc_status`.
pub const STATUS_ABORTED: u16 = constants::STATUS_ABORTED as u16;
/// [`LatencyKey::status_class`] of requests that never got their whole response.
pub const CLASS_ABORTED: u8 = constants::CLASS_ABORTED as u8;
/// [`RequestKey::grpc_status`] where there is none.
pub const GRPC_STATUS_NONE: u8 = constants::GRPC_STATUS_NONE as u8;
/// What a [`RequestKey::grpc_status`] has beside a status that is made of HTTP's.
pub const GRPC_STATUS_DERIVED: u8 = constants::GRPC_STATUS_DERIVED as u8;

/// The status in a `grpc_status`, if there is one, and whether it is made of HTTP's.
#[must_use]
pub fn grpc_status(kept: u8) -> (Option<u8>, bool) {
    match kept {
        GRPC_STATUS_NONE => (None, false),
        kept => (
            Some(kept & !GRPC_STATUS_DERIVED),
            kept & GRPC_STATUS_DERIVED != 0,
        ),
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
        /// Connections whose requests could be followed again.
        resumed: u64,
        /// Requests that never got their whole response, of what did not fit.
        aborted: AbortedOther,
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
