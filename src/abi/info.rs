//! What an epoch says of itself.

use super::*;

layout! {
    /// Known values in every form that exported maps have. Who reads maps as text finds [`PROOF`] in
    /// the info map, or the kernel writes another form of text than this reader knows.
    Proof = proof {
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
    Info = info {
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
        /// 1 if IPv6 packets are looked into.
        ipv6: u32,
        metrics_capacity: u32,
        requests_capacity: u32,
        latency_capacity: u32,
        handshake_capacity: u32,
        connections_capacity: u32,
        http2_capacity: u32,
        /// How many of `bounds_ns` are set.
        bounds: u32,
        /// How many routes are told apart; 0 if none are.
        routes: u32,
        /// Upper, inclusive; the rest `u64::MAX`.
        bounds_ns: [u64; BUCKETS],
        /// The version of metricd-init, NUL-terminated.
        version: [u8; 32],
        /// A hash of the programs; 0 until they run.
        object: u64,
        /// Bytes of `linkerd_perf_map`, as asked for.
        perf_buffer_size: u32,
        /// Bytes of a value of `linkerd_dns_map`; 0 in layouts without that map.
        dns_size: u32,
        dns_capacity: u32,
        /// The uid of the pod's proxy, plus one; 0 if there is none that is known.
        proxy_user: u32,
        /// [`PROOF`]; zero in layouts before [`FIRST_AS_TEXT`].
        proof: Proof,
        /// Ports of servers of DNS, four of 16 bits; 0 is none.
        dns_ports: u64,
    }
}

impl Info {
    /// The bounds that are set, in nanoseconds. One bucket is always left for +Inf, whatever
    /// `bounds` says.
    pub fn bounds_ns(&self) -> &[u64] {
        &self.bounds_ns[..(self.bounds as usize).min(BUCKETS - 1)]
    }

    /// The info of the layout that this version writes, with its sizes.
    pub fn current() -> Self {
        let mut version = [0; 32];
        let name = env!("CARGO_PKG_VERSION").as_bytes();
        version[..name.len()].copy_from_slice(name);
        Self {
            layout: LAYOUT_VERSION,
            state: STATE_VERSION,
            info_size: Self::SIZE as u32,
            // Of the field that the next layout has more, the Rust side knows only that it is
            // there.
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
