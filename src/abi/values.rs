//! What follows from values.

use super::*;

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

impl RouteEntry {
    /// The path, up to the NUL.
    pub fn path(&self) -> String {
        let text = self.text.map(u64::to_ne_bytes);
        let text = text.as_flattened().split(|byte| *byte == 0).next();
        String::from_utf8_lossy(text.unwrap_or_default()).into_owned()
    }
}

impl From<&str> for RouteEntry {
    /// The entry of a path. What is beyond the entry's size is left out.
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
    /// Requests that have begun and not ended. The counters of these are not read at one moment, so
    /// the difference can be negative.
    pub fn in_flight(&self) -> i64 {
        self.requests.total().wrapping_sub(self.ended).cast_signed()
    }
}

impl AbortedValue {
    /// The counters by [`abort_reason`].
    pub fn by_reason(&self) -> [u64; 7] {
        [
            self.fin,
            self.rst,
            self.idle,
            self.evicted,
            self.cancelled,
            self.refused,
            self.reset,
        ]
    }
}

impl AbortedOther {
    /// The counters by [`abort_reason`].
    pub fn by_reason(&self) -> [u64; abort_reason::LABELS.len()] {
        [
            self.fin,
            self.rst,
            self.idle,
            self.evicted,
            self.cancelled,
            self.refused,
            self.reset,
            self.timeout,
            self.stopped,
        ]
    }
}

impl DecidedValue {
    /// The connections of which it is known what they carry, but for those of TLS.
    pub fn total(&self) -> u64 {
        let followed = self.http1 + self.http2;
        let other = self.server_first + self.not_http + self.never;
        followed + other + self.bound + self.midstream + self.passed_over
    }
}

impl RequestsValue {
    /// The requests of all protocols.
    pub fn total(&self) -> u64 {
        self.http1.wrapping_add(self.http2).wrapping_add(self.grpc)
    }
}

impl HandshakeKey {
    /// See [`direction`].
    pub fn direction(&self) -> u8 {
        self.direction_and_origin & ((1 << constants::HANDSHAKE_ORIGIN) - 1)
    }

    /// See [`origin`].
    pub fn origin(&self) -> u8 {
        self.direction_and_origin >> constants::HANDSHAKE_ORIGIN
    }
}

impl LatencyValue {
    /// The histogram of times from the first byte of the request to the last of the response.
    pub fn duration(&self) -> Histogram {
        self.histogram(|pair| pair.duration)
    }

    /// The histogram of times from the first byte of the request to the first of the response.
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
    /// How many samples there are: the sum of the buckets, so that the count always equals that of
    /// +Inf.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, n| sum.wrapping_add(*n))
    }

    /// Each bound, with how many samples are no greater.
    pub fn cumulative(&self, bounds_ns: &[u64]) -> impl Iterator<Item = (u64, u64)> {
        let mut sum = 0u64;
        bounds_ns.iter().zip(&self.buckets).map(move |(bound, n)| {
            sum = sum.wrapping_add(*n);
            (*bound, sum)
        })
    }
}
