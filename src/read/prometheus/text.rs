//! Prometheus' text format, version 0.0.4, written line by line.
//!
//! The `prometheus` crate's encoder writes families as a whole, and ten thousand lines as its types
//! take ten megabytes. So lines are written here as it would write them, to which the tests hold
//! them.

use super::Page;
use super::lines::{Line, Sink, seconds};
use super::notation::Notation;
use crate::abi::Histogram;

/// Text in the making.
#[derive(Default)]
pub struct Text {
    notation: Notation,
    /// The family whose HELP and TYPE were written last.
    family: &'static str,
}

impl Text {
    /// Writes HELP and TYPE before a family's first line, and prepares the line's labels.
    fn begin(&mut self, line: &Line) {
        if self.family != line.name {
            self.family = line.name;
            let kind = format!("{:?}", line.kind).to_lowercase();
            self.notation
                .metadata("HELP", line.name, line.help, &['\\', '\n']);
            self.notation.metadata("TYPE", line.name, &kind, &[]);
        }
        self.notation.prepare(line);
    }
}

impl Sink for Text {
    fn value(&mut self, line: &Line, value: f64) {
        self.begin(line);
        self.notation.sample(line.name, "", value);
    }

    fn histogram(&mut self, line: &Line, histogram: &Histogram, bounds_ns: &[u64]) {
        self.begin(line);
        let notation = &mut self.notation;
        for (bound, count) in histogram.cumulative(bounds_ns) {
            notation.bucket(line.name, &seconds(bound).to_string(), count as f64);
        }
        let count = histogram.count() as f64;
        notation.bucket(line.name, "+Inf", count);
        notation.sample(line.name, "_sum", seconds(histogram.sum_ns));
        notation.sample(line.name, "_count", count);
    }
}

impl Page for Text {
    fn len(&self) -> usize {
        self.notation.len()
    }

    fn take(&mut self) -> Vec<u8> {
        self.notation.take()
    }
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
