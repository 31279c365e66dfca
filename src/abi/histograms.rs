//! How long requests and connections took.

use super::*;

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
        /// The first digit of the status, or [`CLASS_ABORTED`]; 0 is unknown.
        status_class: u8,
        /// See [`series_kind`].
        kind: u8,
        /// See [`route`].
        route: u16,
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
        /// See [`HandshakeKey::direction`] and [`HandshakeKey::origin`].
        direction_and_origin: u8,
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
