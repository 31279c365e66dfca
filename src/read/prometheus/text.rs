//! Prometheus' text format, version 0.0.4, written line by line.
//!
//! The `prometheus` crate's encoder writes families as a whole, and ten thousand lines as its types
//! take ten megabytes. So lines are written here as it would write them, to which the tests hold
//! them.

use std::fmt::Write;

use super::lines::{Line, Sink};
use crate::abi::Histogram;

/// Text in the making.
#[derive(Default)]
pub struct Text {
    out: String,
    /// The family whose HELP and TYPE were written last.
    family: &'static str,
    /// The labels of the line at hand, as they stand between the braces.
    labels: String,
}

impl Text {
    /// How many bytes of text are there to be taken.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// The text since it was last taken.
    pub fn take(&mut self) -> Vec<u8> {
        let capacity = self.out.capacity();
        std::mem::replace(&mut self.out, String::with_capacity(capacity)).into_bytes()
    }

    /// Writes HELP and TYPE before a family's first line, and prepares the line's labels.
    fn begin(&mut self, line: &Line) {
        if self.family != line.name {
            self.family = line.name;
            let kind = format!("{:?}", line.kind).to_lowercase();
            self.put(&["# HELP ", line.name, " "]);
            escape(&mut self.out, line.help, &['\\', '\n']);
            self.put(&["\n# TYPE ", line.name, " ", &kind, "\n"]);
        }
        self.labels.clear();
        for (name, value) in &line.labels {
            if !self.labels.is_empty() {
                self.labels.push(',');
            }
            self.labels.push_str(name);
            self.labels.push_str("=\"");
            escape(&mut self.labels, value, &['\\', '\n', '"']);
            self.labels.push('"');
        }
        if !line.origin.is_empty() {
            for part in [",origin=\"", line.origin, "\""] {
                self.labels.push_str(part);
            }
        }
    }

    /// Writes a line with the labels that were prepared.
    fn line(&mut self, name: &str, suffix: &str, value: f64) {
        self.put(&[name, suffix]);
        if !self.labels.is_empty() {
            self.out.push('{');
            self.out.push_str(&self.labels);
            self.out.push('}');
        }
        // Writing to a string does not fail.
        let _ = writeln!(self.out, " {value}");
    }

    /// Writes the line of a bucket, whose label `le` is behind those that were prepared.
    fn bucket(&mut self, name: &str, le: &str, count: u64) {
        let len = self.labels.len();
        if len > 0 {
            self.labels.push(',');
        }
        self.labels.push_str("le=\"");
        self.labels.push_str(le);
        self.labels.push('"');
        self.line(name, "_bucket", count as f64);
        self.labels.truncate(len);
    }

    fn put(&mut self, parts: &[&str]) {
        for part in parts {
            self.out.push_str(part);
        }
    }
}

impl Sink for Text {
    fn value(&mut self, line: &Line, value: f64) {
        self.begin(line);
        self.line(line.name, "", value);
    }

    fn histogram(&mut self, line: &Line, histogram: &Histogram, bounds_ns: &[u64]) {
        self.begin(line);
        let mut cumulative = 0u64;
        for (bound, count) in bounds_ns.iter().zip(&histogram.buckets) {
            cumulative = cumulative.wrapping_add(*count);
            self.bucket(line.name, &seconds(*bound).to_string(), cumulative);
        }
        self.bucket(line.name, "+Inf", histogram.count());
        self.line(line.name, "_sum", seconds(histogram.sum_ns));
        self.line(line.name, "_count", histogram.count() as f64);
    }
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// Appends `text` with a backslash before each of `special`, where a line's end is `n`.
fn escape(out: &mut String, text: &str, special: &[char]) {
    let mut rest = text;
    while let Some(at) = rest.find(special) {
        out.push_str(&rest[..at]);
        out.push('\\');
        out.push(match rest.as_bytes()[at] {
            b'\n' => 'n',
            byte => char::from(byte),
        });
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use prometheus::{
        Encoder, TextEncoder,
        proto::{self, LabelPair, Metric, MetricFamily, MetricType},
    };
    use proptest::prelude::*;

    use super::*;
    use crate::abi::BUCKETS;

    /// What the `prometheus` crate writes of a family with one metric.
    fn encoded(line: &Line, fill: impl FnOnce(&mut Metric)) -> String {
        let pairs = line.labels.iter().map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value.clone());
            pair
        });
        let mut metric = Metric::from_label(pairs.collect());
        fill(&mut metric);
        let mut family = MetricFamily::default();
        family.set_name(line.name.to_owned());
        family.set_help(line.help.to_owned());
        family.set_field_type(line.kind);
        family.set_metric(vec![metric]);
        let mut text = Vec::new();
        TextEncoder.encode(&[family], &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    fn written(write: impl FnOnce(&mut Text)) -> String {
        let mut text = Text::default();
        write(&mut text);
        String::from_utf8(text.take()).unwrap()
    }

    fn line(kind: MetricType, labels: &[String]) -> Line {
        let help = "Of \\ and \"\n";
        let mut line = Line::new("a_family", help, kind, ["a", "b", "c"].into_iter());
        line.labels.truncate(labels.len());
        for ((_, label), value) in line.labels.iter_mut().zip(labels) {
            label.clone_from(value);
        }
        line
    }

    fn labels() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec(prop_oneof![".*", "[\\\\\n\"a]*"], 0..4)
    }

    proptest! {
        #[test]
        fn values_are_as_the_encoder_writes_them(labels in labels(), value: f64, count: u64) {
            let gauge = line(MetricType::GAUGE, &labels);
            let mut proto = proto::Gauge::default();
            proto.set_value(value);
            prop_assert_eq!(
                written(|text| text.value(&gauge, value)),
                encoded(&gauge, |metric| metric.set_gauge(proto))
            );
            let counter = line(MetricType::COUNTER, &labels);
            let mut proto = proto::Counter::default();
            proto.set_value(count as f64);
            prop_assert_eq!(
                written(|text| text.value(&counter, count as f64)),
                encoded(&counter, |metric| metric.set_counter(proto))
            );
        }

        #[test]
        fn histograms_are_as_the_encoder_writes_them(
            labels in labels(),
            counts: [u32; BUCKETS],
            sum_ns: u64,
            bounds_ns in proptest::collection::vec(any::<u64>(), 0..BUCKETS),
        ) {
            let line = line(MetricType::HISTOGRAM, &labels);
            let buckets = counts.map(u64::from);
            let histogram = Histogram { buckets, sum_ns };
            let mut cumulative = 0;
            let buckets = bounds_ns.iter().zip(&histogram.buckets).map(|(bound, count)| {
                cumulative += count;
                let mut bucket = proto::Bucket::default();
                bucket.set_upper_bound(seconds(*bound));
                bucket.set_cumulative_count(cumulative);
                bucket
            });
            let mut proto = proto::Histogram::default();
            proto.set_bucket(buckets.collect());
            proto.set_sample_count(histogram.count());
            proto.set_sample_sum(seconds(histogram.sum_ns));
            prop_assert_eq!(
                written(|text| text.histogram(&line, &histogram, &bounds_ns)),
                encoded(&line, |metric| metric.set_histogram(proto))
            );
        }
    }

    #[test]
    fn a_family_is_introduced_once() {
        let counter = line(MetricType::COUNTER, &[]);
        let text = written(|text| {
            text.value(&counter, 1.0);
            text.value(&counter, 2.0);
        });
        assert!(text.starts_with("# HELP a_family Of \\\\ and \"\\n\n# TYPE a_family counter\n"));
        assert!(text.ends_with("\na_family 1\na_family 2\n"));
        assert_eq!(text.lines().count(), 4);
    }
}
