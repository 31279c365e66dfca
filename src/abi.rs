//! The layout shared with the kernel side: bpf/layout/abi.h, under the same names.
//!
//! The kernel writes these structs as they lie in its memory, so a record is read field by field in
//! native byte order. No struct has padding (asserted below), which is what makes that reading, and
//! the writing of what user space hands to the kernel, the same as a copy of memory.

#![forbid(unsafe_code)]

use std::fmt;

/// Of bpf/layout/abi.h: a reader finds what it knows in every layout from [`FIRST_LAYOUT`] on.
pub const LAYOUT_VERSION: u32 = if NEXT_LAYOUT { 8 } else { 7 };
/// Built as another version would be, for tests of an upgrade to that.
const NEXT_LAYOUT: bool = cfg!(feature = "next-layout");
/// The first that tells its own sizes.
pub const FIRST_LAYOUT: u32 = 4;
/// The first that has maps behind those of elements.
pub const FIRST_WITH_MORE: u32 = 6;
/// The first whose maps can be read as text: it has no arrays of bytes, and [`PROOF`].
pub const FIRST_AS_TEXT: u32 = 7;
/// Of bpf/layout/abi.h: programs of the same version take connections over from each other.
pub const STATE_VERSION: u32 = 5;
/// Slots of a [`Histogram`].
pub const BUCKETS: usize = 32;
/// Response codes of DNS that are told apart.
pub const DNS_RCODES: usize = 32;
/// [`RequestKey::status`] of what did not fit.
pub const STATUS_OTHER: u16 = 0xffff;
/// [`RequestKey::status`] of entries that count requests, not responses.
pub const STATUS_REQUESTS: u16 = 0xfffe;
/// [`RequestKey::grpc_status`] where there is none.
pub const GRPC_STATUS_NONE: u8 = 0xff;

/// What a series is about: [`MetricKey::kind`] and its like.
pub mod series_kind {
    pub const IP: u8 = 0;
    /// ARP and the like.
    pub const NON_IP: u8 = 1;
    /// IPv6 while `--ipv6=false`.
    pub const IPV6_OFF: u8 = 2;
    /// What did not fit.
    pub const OTHER: u8 = 3;
}

/// Who opened the connection: [`MetricKey::direction`] and its like.
pub mod direction {
    pub const NONE: u8 = 0;
    /// The pod is the server.
    pub const INBOUND: u8 = 1;
    /// The pod is the client.
    pub const OUTBOUND: u8 = 2;

    /// The value of the label `direction`.
    pub fn label(direction: u8) -> &'static str {
        match direction {
            NONE => "",
            INBOUND => "inbound",
            OUTBOUND => "outbound",
            _ => "unknown",
        }
    }
}

/// What is spoken: [`RequestKey::protocol`] and its like, in the order of [`RequestsValue`].
pub mod protocol {
    pub const UNKNOWN: u8 = 0;
    pub const HTTP1: u8 = 1;
    pub const HTTP2: u8 = 2;
    pub const GRPC: u8 = 3;

    /// The value of the label `protocol`.
    pub fn label(protocol: u8) -> &'static str {
        match protocol {
            HTTP1 => "http1",
            HTTP2 => "http2",
            GRPC => "grpc",
            _ => "unknown",
        }
    }
}

/// Numbers of `linkerd_route_map`, and what is none: [`RequestKey::route`] and its like.
pub mod route {
    /// Routes are not told apart.
    pub const NONE: u16 = 0;
    /// The path was not in one packet.
    pub const UNKNOWN: u16 = 0x3ffe;
    /// More than `--routes`, or too long.
    pub const OTHER: u16 = 0x3fff;
    /// The most that there can be.
    pub const MAX: u32 = 0x3ff0;
}

/// Which addresses and ports a series keeps: [`Info::detail`].
pub mod detail {
    pub const POD: u32 = 0;
    pub const SERVICE: u32 = 1;
    pub const FULL: u32 = 2;
}

/// Something that lies in the kernel's maps.
pub trait Layout: Sized {
    /// In bytes, without padding.
    const SIZE: usize;

    /// Takes [`Self::SIZE`] bytes off the front; `None` if there are fewer.
    fn read(bytes: &mut &[u8]) -> Option<Self>;

    /// Appends [`Self::SIZE`] bytes.
    fn write(&self, out: &mut Vec<u8>);

    /// The same in a vector of its own: what libbpf takes for a key or a value.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::SIZE);
        self.write(&mut out);
        out
    }
}

/// Something of which bpf/layout/abi.h declares each integer, so that it can be told from others in text.
pub trait Declared: Layout {
    /// Appends how many bytes each integer has, in the order of their declaration.
    fn widths(out: &mut Vec<usize>);

    /// Appends the same of an array of `n`.
    fn array_widths(n: usize, out: &mut Vec<usize>) {
        for _ in 0..n {
            Self::widths(out);
        }
    }
}

/// Values that add up: two readings of different entries make one.
pub trait Merge {
    fn merge(&mut self, other: &Self);
}

macro_rules! integers {
    ($($int:ty $({ $($more:tt)* })?),*) => {$(
        impl Layout for $int {
            const SIZE: usize = size_of::<$int>();

            fn read(bytes: &mut &[u8]) -> Option<Self> {
                let (head, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                Some(<$int>::from_ne_bytes(*head))
            }

            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_ne_bytes());
            }
        }

        impl Declared for $int {
            fn widths(out: &mut Vec<usize>) {
                out.push(Self::SIZE);
            }

            $($($more)*)?
        }
    )*};
}

integers!(
    u8 {
        /// On the kernel's side they are arrays of __u64.
        fn array_widths(n: usize, out: &mut Vec<usize>) {
            u64::array_widths(n / u64::SIZE, out);
        }
    },
    u16, u32, u64
);

impl Merge for u64 {
    /// Wraps, as the kernel's own addition does.
    fn merge(&mut self, other: &Self) {
        *self = self.wrapping_add(*other);
    }
}

impl<T: Layout + Copy + Default, const N: usize> Layout for [T; N] {
    const SIZE: usize = N * T::SIZE;

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let mut array = [T::default(); N];
        for item in &mut array {
            *item = T::read(bytes)?;
        }
        Some(array)
    }

    fn write(&self, out: &mut Vec<u8>) {
        for item in self {
            item.write(out);
        }
    }
}

impl<T: Declared + Copy + Default, const N: usize> Declared for [T; N] {
    fn widths(out: &mut Vec<usize>) {
        T::array_widths(N, out);
    }
}

impl<T: Merge, const N: usize> Merge for [T; N] {
    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.iter_mut().zip(other) {
            mine.merge(theirs);
        }
    }
}

/// A struct of bpf/layout/abi.h with its size there.
macro_rules! layout {
    (
        $(#[$meta:meta])*
        $name:ident: $size:literal {
            $($(#[$field_meta:meta])* $field:ident: $ty:ty,)*
        }
    ) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $ty,)*
        }

        const _: () = assert!(size_of::<$name>() == $size);
        const _: () = assert!(<$name as Layout>::SIZE == $size, "padding");

        impl Layout for $name {
            const SIZE: usize = 0 $(+ <$ty as Layout>::SIZE)*;

            fn read(bytes: &mut &[u8]) -> Option<Self> {
                Some(Self { $($field: Layout::read(bytes)?,)* })
            }

            fn write(&self, out: &mut Vec<u8>) {
                $(self.$field.write(out);)*
            }
        }

        impl Declared for $name {
            fn widths(out: &mut Vec<usize>) {
                $(<$ty as Declared>::widths(out);)*
            }
        }
    };
}

/// A struct of bpf/layout/abi.h whose fields all add up.
macro_rules! counters {
    (
        $(#[$meta:meta])*
        $name:ident: $size:literal {
            $($(#[$field_meta:meta])* $field:ident: $ty:ty,)*
        }
    ) => {
        layout! {
            $(#[$meta])*
            $name: $size {
                $($(#[$field_meta])* $field: $ty,)*
            }
        }

        impl Merge for $name {
            fn merge(&mut self, other: &Self) {
                $(self.$field.merge(&other.$field);)*
            }
        }
    };
}

layout! {
    /// A series: who talks to whom. `src` is the client, `dst` the server; ports in host order.
    MetricKey: 40 {
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
    IoValue: 24 {
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
    ClosedValue: 40 {
        fin: u64,
        rst: u64,
        /// RST in answer to the SYN.
        refused: u64,
        /// Silent for longer than the idle time, or replaced by a new SYN.
        idle: u64,
        /// Its place was needed.
        evicted: u64,
    }
}

counters! {
    /// Requests that never got their whole response, by why.
    AbortedValue: 56 {
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
    LostValue: 48 {
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
    RequestsValue: 32 {
        unknown: u64,
        http1: u64,
        http2: u64,
        grpc: u64,
    }
}

counters! {
    /// The counters of a series; `active` is a gauge.
    MetricValue: 264 {
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
    MetricEntry: 320 {
        key: MetricKey,
        value: MetricValue,
        pad: u64,
        pad2: u32,
        /// See [`key_check`].
        check: u32,
    }
}

layout! {
    RequestKey: 48 {
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
    RequestValue: 8 {
        responses: u64,
    }
}

layout! {
    /// An element of `linkerd_requests_map`.
    RequestEntry: 64 {
        key: RequestKey,
        /// Element of `linkerd_latency_map`.
        latency: u32,
        /// See [`key_check`].
        check: u32,
        /// Of requests, if the key's status is [`STATUS_REQUESTS`].
        value: RequestValue,
    }
}

counters! {
    Histogram: 264 {
        /// Not cumulative: one per bound of [`Info::bounds_ns`], then +Inf, then unused.
        buckets: [u64; BUCKETS],
        /// Nanoseconds.
        sum_ns: u64,
    }
}

layout! {
    LatencyKey: 24 {
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
    RouteEntry: 128 {
        /// The bytes of a path, filled up with NUL.
        text: [u64; 16],
    }
}

counters! {
    /// Of two histograms, side by side.
    LatencyPair: 16 {
        duration: u64,
        /// Time to first byte.
        ttfb: u64,
    }
}

counters! {
    LatencyValue: 528 {
        /// As in [`Histogram`].
        buckets: [LatencyPair; BUCKETS],
        sum_ns: LatencyPair,
    }
}

layout! {
    /// An element of `linkerd_latency_map`.
    LatencyEntry: 560 {
        key: LatencyKey,
        pad: u32,
        /// See [`key_check`].
        check: u32,
        value: LatencyValue,
    }
}

layout! {
    HandshakeKey: 20 {
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
    HandshakeValue: 528 {
        /// Of the connection.
        duration: Histogram,
        rtt: Histogram,
    }
}

layout! {
    /// DNS over UDP: whom is asked.
    DnsKey: 24 {
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
    /// Queries without an answer, by why none is waited for.
    DnsUnanswered: 24 {
        timeout: u64,
        /// The same was asked again.
        retried: u64,
        /// Its place was needed.
        evicted: u64,
    }
}

counters! {
    DnsValue: 568 {
        queries: u64,
        /// By response code, RFC 6895 section 2.3; the last are those above, too.
        answers: [u64; DNS_RCODES],
        unanswered: DnsUnanswered,
        /// Answers that no query waits for.
        unsolicited: u64,
        /// Answers with the TC bit.
        truncated: u64,
        /// Of those that were answered.
        duration: Histogram,
    }
}

counters! {
    /// What the programs count about themselves.
    Counters: 80 {
        /// Series that did not fit; the next three likewise.
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
        /// Heads of requests, likewise.
        heads_dropped: u64,
        /// Servers of DNS that did not fit.
        dns_overflow: u64,
    }
}

layout! {
    /// Known values in every form that exported maps have. Who reads maps as text finds [`PROOF`] in
    /// the info map, or the kernel writes another form of text than this reader knows.
    Proof: 80 {
        byte: u8,
        most_byte: u8,
        half: u16,
        word: u32,
        zero: u64,
        most: u64,
        words: [u64; 2],
        pairs: [LatencyPair; 2],
        most_half: u16,
        zero_half: u16,
        most_word: u32,
    }
}

/// The least and the greatest integers of each size, and ones whose digits would be others, or
/// letters, in another base.
pub const PROOF: Proof = Proof {
    byte: 10,
    most_byte: u8::MAX,
    half: 4096,
    word: 1_000_000,
    zero: 0,
    most: u64::MAX,
    words: [1 << 63, 12_345_678_901_234_567_890],
    pairs: [
        LatencyPair {
            duration: 11,
            ttfb: 0,
        },
        LatencyPair {
            duration: 0,
            ttfb: 1 << 32,
        },
    ],
    most_half: u16::MAX,
    zero_half: 0,
    most_word: u32::MAX,
};

layout! {
    /// What a reader must know of an epoch; written by metricd-init.
    Info: 464 {
        /// [`LAYOUT_VERSION`] of the writer; 0 until it has written.
        layout: u32,
        /// [`STATE_VERSION`] of the writer.
        state: u32,
        /// Bytes of this struct, and of a value of each map.
        info_size: u32,
        metrics_size: u32,
        requests_size: u32,
        latency_size: u32,
        handshake_size: u32,
        counters_size: u32,
        /// See [`detail`].
        detail: u32,
        /// 1 if it is looked into.
        ipv6: u32,
        metrics_capacity: u32,
        requests_capacity: u32,
        latency_capacity: u32,
        handshake_capacity: u32,
        connections_capacity: u32,
        http2_capacity: u32,
        /// How many of `bounds_ns` are set.
        bounds: u32,
        /// How many routes are told apart; 0 is that they are not.
        routes: u32,
        /// Upper, inclusive; the rest `u64::MAX`.
        bounds_ns: [u64; BUCKETS],
        /// Of metricd-init, NUL-terminated.
        version: [u8; 32],
        /// A hash of the programs; 0 until they run.
        object: u64,
        /// Bytes of `linkerd_perf_map`, as they were asked for.
        perf_buffer_size: u32,
        /// As for the others; 0 in layouts without it.
        dns_size: u32,
        dns_capacity: u32,
        pad: u32,
        /// [`PROOF`]; zero in layouts before [`FIRST_AS_TEXT`].
        proof: Proof,
    }
}

/// What an event in `linkerd_perf_map` is: its first byte.
pub mod tap_kind {
    /// A [`super::TapHead`] and what there is of the head, likewise the next.
    pub const HEAD: u8 = 1;
    /// What came of it in a later packet.
    pub const REST: u8 = 2;
    /// A [`super::TapEnd`].
    pub const END: u8 = 3;
}

layout! {
    /// A request's head, as it came: a request line, or the payload of a HEADERS frame.
    TapHead: 32 {
        /// See [`tap_kind`].
        kind: u8,
        /// See [`protocol`]; of HTTP/2 gRPC is not told.
        protocol: u8,
        /// Of a frame of HTTP/2, RFC 9113 section 6.2.
        flags: u8,
        /// 1 if it is a request's, 0 if it is trailers.
        is_new: u8,
        /// Its stream, or of HTTP/1 its number in the connection.
        request: u32,
        /// When the connection was opened, in nanoseconds; with the slot it tells connections apart.
        opened_ns: u64,
        slot: u32,
        /// Into HPACK's dynamic table before this.
        inserted: u32,
        /// Bytes of the line or payload; 0 if the line goes on.
        len: u32,
        /// Bytes of it in the packet, of which as many as there is room for follow.
        there: u32,
    }
}

layout! {
    /// The end of a request, or of several of one connection at once.
    TapEnd: 96 {
        /// See [`tap_kind`].
        kind: u8,
        /// See [`protocol`].
        protocol: u8,
        /// See [`direction`].
        direction: u8,
        /// Why there is no whole answer, in the order of [`AbortedValue`], plus one; 0 if there is.
        aborted: u8,
        /// 0 is unknown.
        status: u16,
        /// Or [`GRPC_STATUS_NONE`].
        grpc_status: u8,
        pad: u8,
        /// As in [`TapHead`], likewise the next two.
        opened_ns: u64,
        slot: u32,
        /// The first of them; of HTTP/2 0 if it is not known which.
        request: u32,
        /// The client's, as in [`MetricKey`].
        src: [u8; 16],
        dst: [u8; 16],
        src_port: u16,
        dst_port: u16,
        /// See [`route`].
        route: u16,
        pad2: u16,
        /// Requests.
        count: u32,
        pad3: u32,
        /// CLOCK_MONOTONIC, nanoseconds.
        end_ns: u64,
        /// Nanoseconds; 0 is unknown, likewise the next.
        duration_ns: u64,
        /// To the first byte of the answer.
        ttfb_ns: u64,
    }
}

layout! {
    /// What metricd-init has attached.
    AttachmentKey: 8 {
        ifindex: u32,
        egress: u32,
    }
}

layout! {
    AttachmentValue: 16 {
        /// Inode of the network namespace: another's may have the same indexes.
        netns: u64,
        /// Of the clsact filter; 0 is TCX.
        priority: u32,
        /// The clsact qdisc is ours too.
        made_qdisc: u32,
    }
}

impl DnsValue {
    /// Queries that have not ended. Negative for a moment, as two's complement, when another CPU is
    /// about to count.
    pub fn in_flight(&self) -> u64 {
        let unanswered = self.unanswered;
        let unanswered = [unanswered.timeout, unanswered.retried, unanswered.evicted];
        let ended = self.answers.into_iter().chain(unanswered);
        ended.fold(self.queries, u64::wrapping_sub)
    }
}

impl Info {
    /// The bounds that are set, in nanoseconds. One bucket is always left for +Inf, whatever
    /// `bounds` says.
    pub fn bounds_ns(&self) -> &[u64] {
        &self.bounds_ns[..(self.bounds as usize).min(BUCKETS - 1)]
    }

    /// The layout that this version writes.
    pub fn current() -> Self {
        let mut version = [0; 32];
        let name = env!("CARGO_PKG_VERSION").as_bytes();
        version[..name.len()].copy_from_slice(name);
        Self {
            layout: LAYOUT_VERSION,
            state: STATE_VERSION,
            info_size: Self::SIZE as u32,
            // Of the field that it has more, the Rust side knows only that it is there.
            metrics_size: MetricValue::SIZE as u32 + if NEXT_LAYOUT { 8 } else { 0 },
            requests_size: RequestValue::SIZE as u32,
            latency_size: LatencyValue::SIZE as u32,
            handshake_size: HandshakeValue::SIZE as u32,
            counters_size: Counters::SIZE as u32,
            dns_size: DnsValue::SIZE as u32,
            version,
            proof: PROOF,
            ..Self::default()
        }
    }

    /// What to say if there may be more in the maps than this version knows.
    pub fn news(&self) -> Option<String> {
        (self.layout > LAYOUT_VERSION).then(|| {
            format!(
                "the pinned maps have layout {}, this metricd knows {LAYOUT_VERSION}: it shows what \
                 it knows; for what is new run metricd {}",
                self.layout,
                self.version()
            )
        })
    }

    /// The version of metricd-init, up to the NUL.
    pub fn version(&self) -> String {
        let text = self.version.split(|byte| *byte == 0).next();
        String::from_utf8_lossy(text.unwrap_or_default()).into_owned()
    }
}

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

impl RouteEntry {
    /// The path, up to the NUL.
    pub fn path(&self) -> String {
        let text = self.text.map(u64::to_ne_bytes);
        let text = text.as_flattened().split(|byte| *byte == 0).next();
        String::from_utf8_lossy(text.unwrap_or_default()).into_owned()
    }
}

impl From<&str> for RouteEntry {
    /// What is beyond the entry's size is left out.
    fn from(path: &str) -> Self {
        let mut text = [[0; 8]; 16];
        for (to, from) in text.as_flattened_mut().iter_mut().zip(path.bytes()) {
            *to = from;
        }
        Self {
            text: text.map(u64::from_ne_bytes),
        }
    }
}

impl MetricValue {
    /// Requests that have begun and not ended. Its two counters are not read at the same moment, so
    /// it can be negative.
    pub fn in_flight(&self) -> i64 {
        self.requests.total().wrapping_sub(self.ended).cast_signed()
    }
}

impl RequestsValue {
    /// The requests of all protocols.
    pub fn total(&self) -> u64 {
        [self.http1, self.http2, self.grpc]
            .into_iter()
            .fold(self.unknown, u64::wrapping_add)
    }
}

impl LatencyValue {
    /// From the first byte of the request to the last of the response.
    pub fn duration(&self) -> Histogram {
        self.histogram(|pair| pair.duration)
    }

    /// From the first byte of the request to the first of the response.
    pub fn ttfb(&self) -> Histogram {
        self.histogram(|pair| pair.ttfb)
    }

    fn histogram(&self, which: fn(&LatencyPair) -> u64) -> Histogram {
        Histogram {
            buckets: std::array::from_fn(|i| which(&self.buckets[i])),
            sum_ns: which(&self.sum_ns),
        }
    }
}

impl Histogram {
    /// How many samples there are: the sum of the buckets, so that it always equals +Inf's.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, n| sum.wrapping_add(*n))
    }
}

/// Bytes that end within a record.
#[derive(Debug, PartialEq, Eq)]
pub struct Truncated {
    /// Of a record: key and value.
    pub record: usize,
    /// How many bytes were left after the last whole record.
    pub left: usize,
}

impl fmt::Display for Truncated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { record, left } = self;
        write!(
            f,
            "expected whole records of {record} bytes, found {left} bytes after the last one"
        )
    }
}

impl std::error::Error for Truncated {}

/// Takes what is known of a value off the front of bytes that may be another version's: values grow
/// at their end, and what one does not have is 0.
pub fn read_grown<V: Layout>(bytes: &[u8]) -> V {
    let mut known = vec![0; V::SIZE];
    let n = bytes.len().min(V::SIZE);
    known[..n].copy_from_slice(&bytes[..n]);
    V::read(&mut known.as_slice()).expect("all bytes of it")
}

/// Appends the records at the front of `bytes`, each a key and a value of `value_size` bytes with
/// nothing between, and returns the bytes left over, fewer than a record.
pub fn read_records<'a, K: Layout, V: Layout>(
    bytes: &'a [u8],
    value_size: usize,
    records: &mut Vec<(K, V)>,
) -> &'a [u8] {
    let whole = bytes.chunks_exact(K::SIZE + value_size);
    let left = whole.remainder();
    records.extend(whole.filter_map(|mut record| {
        let key = K::read(&mut record)?;
        let value = match value_size {
            n if n < V::SIZE => read_grown(record),
            _ => V::read(&mut record)?,
        };
        Some((key, value))
    }));
    left
}

/// All records of `bytes`, which must hold nothing else.
///
/// # Errors
///
/// [`Truncated`] when a part of a record is left over.
pub fn decode<K: Layout, V: Layout>(bytes: &[u8]) -> Result<Vec<(K, V)>, Truncated> {
    let record = K::SIZE + V::SIZE;
    let mut records = Vec::with_capacity(bytes.len() / record);
    match read_records(bytes, V::SIZE, &mut records) {
        [] => Ok(records),
        rest => Err(Truncated {
            record,
            left: rest.len(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(value: &impl Layout) -> Vec<u8> {
        let mut out = Vec::new();
        value.write(&mut out);
        out
    }

    /// 0, 1, 2 … so that every byte of a field tells where it came from.
    fn ramp<T: Layout>() -> T {
        let bytes: Vec<u8> = (0..T::SIZE).map(|i| i as u8).collect();
        T::read(&mut bytes.as_slice()).unwrap()
    }

    fn at(offset: usize) -> u64 {
        u64::from_ne_bytes(std::array::from_fn(|i| (offset + i) as u8))
    }

    #[test]
    fn fields_lie_where_abi_h_puts_them() {
        let key: MetricKey = ramp();
        assert_eq!(key.dst[0], 16);
        assert_eq!(key.src_port, u16::from_ne_bytes([32, 33]));
        assert_eq!(key.dst_port, u16::from_ne_bytes([34, 35]));
        assert_eq!(
            (key.proto, key.direction, key.kind, key.pad),
            (36, 37, 38, 39)
        );

        let value: MetricValue = ramp();
        assert_eq!(value.opened, at(0));
        assert_eq!(value.active, at(8));
        assert_eq!(value.tls, at(16));
        assert_eq!(value.recv.packets, at(24));
        assert_eq!(value.requests.http1, at(56));
        assert_eq!(value.untimed, at(80));
        assert_eq!(value.sent.packets, at(88));
        assert_eq!(value.ended, at(112));
        assert_eq!(value.aborted.fin, at(120));
        assert_eq!(value.closed.evicted, at(208));
        assert_eq!(value.lost.gap, at(216));

        let key: RequestKey = ramp();
        assert_eq!(key.status, u16::from_ne_bytes([40, 41]));
        assert_eq!((key.protocol, key.grpc_status), (42, 43));
        assert_eq!(key.route, u16::from_ne_bytes([44, 45]));

        let info: Info = ramp();
        assert_eq!(info.bounds, u32::from_ne_bytes([64, 65, 66, 67]));
        assert_eq!(info.bounds_ns[0], at(72));
        assert_eq!(info.version[0], 328usize as u8);
        assert_eq!(info.object, at(360));
    }

    #[test]
    fn writing_undoes_reading() {
        fn check<T: Layout>() {
            let bytes: Vec<u8> = (0..T::SIZE).map(|i| (i * 7) as u8).collect();
            assert_eq!(bytes_of(&T::read(&mut bytes.as_slice()).unwrap()), bytes);
        }
        check::<MetricKey>();
        check::<MetricValue>();
        check::<MetricEntry>();
        check::<RequestKey>();
        check::<RequestEntry>();
        check::<LatencyKey>();
        check::<LatencyEntry>();
        check::<HandshakeKey>();
        check::<HandshakeValue>();
        check::<Counters>();
        check::<Info>();
        check::<AttachmentKey>();
        check::<AttachmentValue>();
    }

    #[test]
    fn records_follow_each_other_without_padding() {
        let mut bytes = Vec::new();
        for (status, responses) in [(200u16, 7u64), (404, 9)] {
            let key = RequestKey {
                status,
                ..RequestKey::default()
            };
            key.write(&mut bytes);
            RequestValue { responses }.write(&mut bytes);
        }
        assert_eq!(bytes.len(), 2 * (48 + 8));
        let records = decode::<RequestKey, RequestValue>(&bytes).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!((records[1].0.status, records[1].1.responses), (404, 9));
    }

    #[test]
    fn a_part_of_a_record_is_an_error_that_says_what_was_expected() {
        for length in [1, 547, 549] {
            let error = decode::<HandshakeKey, HandshakeValue>(&vec![0; length]).unwrap_err();
            assert_eq!(
                error,
                Truncated {
                    record: 548,
                    left: length % 548
                }
            );
            assert!(error.to_string().contains("whole records of 548 bytes"));
        }
        assert_eq!(decode::<HandshakeKey, HandshakeValue>(&[]), Ok(vec![]));
    }

    #[test]
    fn values_add_up_field_by_field() {
        let mut sum: LatencyValue = ramp();
        sum.merge(&ramp());
        assert_eq!(sum.duration().buckets[1], at(16).wrapping_mul(2));
        assert_eq!(sum.ttfb().sum_ns, at(520).wrapping_mul(2));
    }

    #[test]
    fn info_is_read_defensively() {
        let mut info = Info {
            bounds: u32::MAX,
            version: [b'x'; 32],
            ..Info::default()
        };
        assert_eq!(info.bounds_ns().len(), BUCKETS - 1);
        assert_eq!(info.version(), "x".repeat(32));
        info.version[5] = 0;
        assert_eq!(info.version(), "xxxxx");
    }
}
