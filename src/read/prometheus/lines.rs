//! One line at a time through the `prometheus` crate's text encoder.
//!
//! A family of ten thousand lines as proto types takes ten megabytes. So one `Metric` is filled,
//! encoded and filled again; only the labels that changed are written anew.

use std::io::{self, Write};

use prometheus::{
    Encoder, TextEncoder,
    proto::{self, LabelPair, Metric, MetricFamily, MetricType},
};

use crate::abi::Histogram;

/// Text in the making, of one family after the other.
#[derive(Default)]
pub struct Lines {
    family: MetricFamily,
    /// Whether the family's HELP and TYPE are still to be written.
    fresh: bool,
    out: Vec<u8>,
}

impl Lines {
    /// The next lines are of this family. It shows up in the text with its first line.
    pub fn family<'a>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        labels: impl Iterator<Item = &'a str>,
    ) {
        let labels = labels.map(|name| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair
        });
        self.family = MetricFamily::default();
        self.family.set_name(name.to_owned());
        self.family.set_help(help.to_owned());
        self.family.set_field_type(kind);
        self.family
            .set_metric(vec![Metric::from_label(labels.collect())]);
        self.fresh = true;
    }

    /// Sets the family's label of this number, for the next lines.
    pub fn label(&mut self, number: usize, value: &str) {
        if let [metric] = self.family.mut_metric().as_mut_slice()
            && let Some(pair) = metric.mut_label().get_mut(number)
            && pair.value() != value
        {
            pair.set_value(value.to_owned());
        }
    }

    /// Drops the family's labels, for the next lines.
    pub fn no_labels(&mut self) {
        if let [metric] = self.family.mut_metric().as_mut_slice() {
            metric.take_label();
        }
    }

    /// A line of a counter or a gauge.
    pub fn value(&mut self, value: f64) {
        let kind = self.family.get_field_type();
        if let [metric] = self.family.mut_metric().as_mut_slice() {
            if kind == MetricType::GAUGE {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            } else {
                let mut counter = proto::Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
        }
        self.encode();
    }

    /// The lines of a histogram, with its upper bounds in nanoseconds, shown in seconds.
    pub fn histogram(&mut self, histogram: &Histogram, bounds_ns: &[u64]) {
        let mut cumulative = 0u64;
        let buckets = bounds_ns.iter().zip(&histogram.buckets);
        let buckets = buckets.map(|(bound, count)| {
            cumulative = cumulative.wrapping_add(*count);
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(seconds(*bound));
            bucket.set_cumulative_count(cumulative);
            bucket
        });
        let mut proto = proto::Histogram::default();
        proto.set_bucket(buckets.collect());
        proto.set_sample_count(histogram.count());
        proto.set_sample_sum(seconds(histogram.sum_ns));
        if let [metric] = self.family.mut_metric().as_mut_slice() {
            metric.set_histogram(proto);
        }
        self.encode();
    }

    /// How many bytes of text are there to be taken.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// The text since it was last taken.
    pub fn take(&mut self) -> Vec<u8> {
        let capacity = self.out.capacity();
        std::mem::replace(&mut self.out, Vec::with_capacity(capacity))
    }

    fn encode(&mut self) {
        let family = std::slice::from_ref(&self.family);
        let result = if self.fresh {
            TextEncoder.encode(family, &mut self.out)
        } else {
            let mut out = AfterFirstLine {
                out: &mut self.out,
                begun: false,
            };
            TextEncoder.encode(family, &mut out)
        };
        if let Err(error) = result {
            tracing::error!(family = self.family.name(), %error, "encoding a line");
        }
        if self.fresh {
            // From now on the encoder's first line is TYPE.
            self.family.set_help(String::new());
            self.fresh = false;
        }
    }
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// Leaves out the first line: the encoder writes TYPE before each call's samples.
struct AfterFirstLine<'a> {
    out: &'a mut Vec<u8>,
    begun: bool,
}

impl Write for AfterFirstLine<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if self.begun {
            self.out.extend_from_slice(text);
        } else if let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            self.out.extend_from_slice(&text[end + 1..]);
            self.begun = true;
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
