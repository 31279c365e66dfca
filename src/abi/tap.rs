//! What is written to `linkerd_perf_map` while somebody listens.

use super::layout::{Declared, Layout};

/// What an event in `linkerd_perf_map` is: its first byte.
pub mod tap_kind {
    /// A [`super::TapHead`], and what there is of the head.
    pub const HEAD: u8 = crate::abi::constants::TAP_HEAD as u8;
    /// A [`super::TapHead`], and what came of the head in a later packet.
    pub const REST: u8 = crate::abi::constants::TAP_REST as u8;
    /// A [`super::TapEnd`].
    pub const END: u8 = crate::abi::constants::TAP_END as u8;
}

layout! {
    /// A request's head, as it came: a request line, or the payload of a HEADERS frame.
    TapHead = tap_head {
        /// See [`tap_kind`].
        kind: u8,
        /// See [`protocol`]; gRPC is not told from HTTP/2.
        protocol: u8,
        /// The flags of a frame of HTTP/2, RFC 9113 section 6.2.
        flags: u8,
        /// 1 if the head is a request's, 0 if it is trailers.
        is_new: u8,
        /// The request's stream, or for HTTP/1 the request's number in the connection.
        request: u32,
        /// When the connection was opened, in nanoseconds; with the slot it tells connections apart.
        opened_ns: u64,
        slot: u32,
        /// Entries inserted into HPACK's dynamic table before this head.
        inserted: u32,
        /// Bytes of the line or payload; 0 if the line goes on.
        len: u32,
        /// Bytes of the line or payload in the packet, of which as many follow as there is room
        /// for.
        there: u32,
    }
}

layout! {
    /// The end of a request, or of several of one connection at once.
    TapEnd = tap_end {
        /// See [`tap_kind`].
        kind: u8,
        /// See [`protocol`].
        protocol: u8,
        /// See [`direction`].
        direction: u8,
        /// Why there is no whole answer, in the order of [`AbortedValue`], plus one; 0 if there is
        /// one.
        aborted: u8,
        /// 0 is unknown.
        status: u16,
        /// See [`grpc_status`](crate::abi::grpc_status).
        grpc_status: u8,
        pad: u8,
        /// When the connection was opened, in nanoseconds, as in [`TapHead`].
        opened_ns: u64,
        slot: u32,
        /// The first of the requests; for HTTP/2 0 if it is not known which.
        request: u32,
        /// The client's, as in [`MetricKey`].
        src: [u8; 16],
        dst: [u8; 16],
        src_port: u16,
        dst_port: u16,
        /// See [`route`].
        route: u16,
        pad2: u16,
        /// How many requests have ended.
        count: u32,
        pad3: u32,
        /// CLOCK_MONOTONIC, nanoseconds.
        end_ns: u64,
        /// Nanoseconds to the last byte of the answer; 0 is unknown.
        duration_ns: u64,
        /// Nanoseconds to the first byte of the answer; 0 is unknown.
        ttfb_ns: u64,
    }
}
