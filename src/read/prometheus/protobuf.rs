//! Prometheus' protobuf exposition: messages of `io.prometheus.client.MetricFamily`, each behind its
//! length. Histograms have their buckets with fixed bounds; there are no native ones.
//!
//! A message's length comes before it, and a family may have many thousands of lines. Rather than keep
//! a large family, this one writes it twice: once for its length, and once for the wire. What takes
//! memory is two pieces.
//!
//! The few fields are written by hand. Encoders take a family as a whole, and the `prometheus` crate's
//! types have no created timestamps.

use std::time::Duration;

use prometheus::proto::MetricType;

use super::lines::{Line, Sink, seconds};
use super::{Exposition, Page};
use crate::abi::Histogram;

/// The numbers of fields, by `metrics.proto` of Prometheus' client model.
mod field {
    pub mod family {
        pub const NAME: u32 = 1;
        pub const HELP: u32 = 2;
        pub const TYPE: u32 = 3;
        pub const METRIC: u32 = 4;
    }
    pub mod metric {
        pub const LABEL: u32 = 1;
        pub const GAUGE: u32 = 2;
        pub const COUNTER: u32 = 3;
        pub const HISTOGRAM: u32 = 7;
    }
    pub mod label {
        pub const NAME: u32 = 1;
        pub const VALUE: u32 = 2;
    }
    pub mod gauge {
        pub const VALUE: u32 = 1;
    }
    pub mod counter {
        pub const VALUE: u32 = 1;
        pub const CREATED: u32 = 3;
    }
    pub mod histogram {
        pub const COUNT: u32 = 1;
        pub const SUM: u32 = 2;
        pub const BUCKET: u32 = 3;
        pub const CREATED: u32 = 15;
    }
    pub mod bucket {
        pub const COUNT: u32 = 1;
        pub const BOUND: u32 = 2;
    }
    /// `google.protobuf.Timestamp`.
    pub mod timestamp {
        pub const SECONDS: u32 = 1;
        pub const NANOS: u32 = 2;
    }
}

/// Messages in the making.
#[derive(Default)]
pub struct Protobuf {
    /// What is ready for the wire.
    out: Vec<u8>,
    /// What there is of a family whose length is not known as yet, since it was last dropped.
    message: Vec<u8>,
    /// How much of it was dropped.
    dropped: usize,
    /// The name of the family that was begun; empty, if none was.
    family: &'static str,
    /// What is still to be written of the family at hand, whose length is on the wire already.
    announced: Option<usize>,
}

impl Protobuf {
    /// Writes a metric: its labels, and what `fill` writes.
    fn metric(&mut self, line: &Line, fill: impl FnOnce(&mut Vec<u8>)) {
        let to = match self.announced {
            None => &mut self.message,
            Some(_) => &mut self.out,
        };
        let before = to.len();
        if self.family != line.name {
            self.family = line.name;
            bytes(to, field::family::NAME, line.name.as_bytes());
            bytes(to, field::family::HELP, line.help.as_bytes());
            number(to, field::family::TYPE, kind(line.kind));
        }
        nested(to, field::family::METRIC, |metric| {
            for (name, value) in &line.labels {
                label(metric, name, value);
            }
            if !line.origin.is_empty() {
                label(metric, "origin", line.origin);
            }
            fill(metric);
        });
        if let Some(left) = &mut self.announced {
            *left = left.saturating_sub(to.len() - before);
        }
    }
}

impl Sink for Protobuf {
    fn value(&mut self, line: &Line, value: f64) {
        self.metric(line, |metric| match line.kind {
            MetricType::COUNTER => nested(metric, field::metric::COUNTER, |counter| {
                double(counter, field::counter::VALUE, value);
                created(counter, field::counter::CREATED, line.created);
            }),
            _ => nested(metric, field::metric::GAUGE, |gauge| {
                double(gauge, field::gauge::VALUE, value);
            }),
        });
    }

    fn histogram(&mut self, line: &Line, histogram: &Histogram, bounds_ns: &[u64]) {
        let of = |out: &mut Vec<u8>, bound, count| {
            nested(out, field::histogram::BUCKET, |bucket| {
                number(bucket, field::bucket::COUNT, count);
                double(bucket, field::bucket::BOUND, bound);
            });
        };
        self.metric(line, |metric| {
            nested(metric, field::metric::HISTOGRAM, |out| {
                number(out, field::histogram::COUNT, histogram.count());
                double(out, field::histogram::SUM, seconds(histogram.sum_ns));
                for (bound, count) in histogram.cumulative(bounds_ns) {
                    of(out, seconds(bound), count);
                }
                of(out, f64::INFINITY, histogram.count());
                created(out, field::histogram::CREATED, line.created);
            });
        });
    }

    /// Once more, if the length was not to be known before.
    fn end_family(&mut self) -> bool {
        self.family = "";
        if let Some(left) = self.announced.take() {
            debug_assert_eq!(left, 0, "a family is shorter than it was");
            return false;
        }
        let length = self.dropped + self.message.len();
        if length > 0 {
            varint(&mut self.out, length as u64);
        }
        if self.dropped == 0 {
            self.out.append(&mut self.message);
            return false;
        }
        self.message.clear();
        self.dropped = 0;
        self.announced = Some(length);
        true
    }
}

impl Page for Protobuf {
    fn len(&self) -> usize {
        self.out.len() + self.message.len()
    }

    /// Nothing, where a piece of a family was only measured.
    fn take(&mut self) -> Vec<u8> {
        if self.out.is_empty() {
            self.dropped += self.message.len();
            self.message.clear();
            return Vec::new();
        }
        std::mem::replace(&mut self.out, Vec::with_capacity(Exposition::PIECE))
    }
}

fn kind(kind: MetricType) -> u64 {
    match kind {
        MetricType::COUNTER => 0,
        MetricType::GAUGE => 1,
        MetricType::SUMMARY => 2,
        MetricType::UNTYPED => 3,
        MetricType::HISTOGRAM => 4,
    }
}

fn label(metric: &mut Vec<u8>, name: &str, value: &str) {
    nested(metric, field::metric::LABEL, |label| {
        bytes(label, field::label::NAME, name.as_bytes());
        bytes(label, field::label::VALUE, value.as_bytes());
    });
}

fn created(out: &mut Vec<u8>, field: u32, created: Option<Duration>) {
    if let Some(created) = created {
        nested(out, field, |timestamp| {
            number(timestamp, field::timestamp::SECONDS, created.as_secs());
            let nanos = u64::from(created.subsec_nanos());
            number(timestamp, field::timestamp::NANOS, nanos);
        });
    }
}

/// How a field is encoded.
mod wire {
    pub const VARINT: u32 = 0;
    pub const I64: u32 = 1;
    pub const LEN: u32 = 2;
}

fn tag(out: &mut Vec<u8>, field: u32, wire: u32) {
    varint(out, u64::from(field << 3 | wire));
}

fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    tag(out, field, wire::VARINT);
    varint(out, value);
}

fn double(out: &mut Vec<u8>, field: u32, value: f64) {
    tag(out, field, wire::I64);
    out.extend(value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    tag(out, field, wire::LEN);
    varint(out, value.len() as u64);
    out.extend(value);
}

/// Writes a message within a message: its content, and then its length in front of that.
fn nested(out: &mut Vec<u8>, field: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    tag(out, field, wire::LEN);
    let content = out.len();
    fill(out);
    let end = out.len();
    varint(out, (end - content) as u64);
    out[content..].rotate_left(end - content);
}

/// Seven bits a byte, the lowest first; all but the last byte have the eighth bit.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
