//! What pages of each format say, by decoders that have nothing in common with what has written them.

use std::collections::BTreeMap;

use kit::scrape::exposition::{Labels, Scrape};
use prost::Message;

/// The samples of a page. The label `le` is a number in its shortest form.
#[derive(Debug, Default, PartialEq)]
pub struct Decoded {
    pub values: BTreeMap<(String, Labels), f64>,
    /// Seconds since the Unix epoch by family: of counters and histograms that say when they began.
    pub created: BTreeMap<(String, Labels), f64>,
    /// What the families are called, in their order, each with its type and its help.
    pub families: Vec<(String, String, String)>,
}

impl Decoded {
    fn add(&mut self, name: String, mut labels: Labels, value: f64) {
        if let Some(le) = labels.get_mut("le") {
            *le = le.parse::<f64>().unwrap().to_string();
        }
        let before = self.values.insert((name, labels), value);
        assert_eq!(before, None, "a series appears twice");
    }

    pub fn of_text(page: &[u8]) -> Self {
        let text = std::str::from_utf8(page).unwrap();
        let mut decoded = Self::default();
        for line in text.split('\n') {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                let help = help.replace("\\n", "\n").replace("\\\\", "\\");
                let family = (name.to_owned(), String::new(), help);
                decoded.families.push(family);
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                let family = decoded.families.last_mut().unwrap();
                assert_eq!(family.0, name);
                family.1 = kind.to_owned();
            } else {
                assert!(line.is_empty() || !line.starts_with('#'), "{line}");
            }
        }
        for sample in Scrape::parse(text).samples {
            decoded.add(sample.name, sample.labels, sample.value);
        }
        decoded
    }

    /// The names are those that samples have in the other formats.
    pub fn of_open_metrics(page: &[u8]) -> Self {
        let text = std::str::from_utf8(page).unwrap();
        let text = text.strip_suffix("# EOF\n").expect("an end");
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let (units, others): (Vec<&str>, Vec<&str>) =
            lines.iter().partition(|line| line.starts_with("# UNIT "));
        let mut decoded = Self::of_text(others.concat().as_bytes());
        for (name, kind, help) in &mut decoded.families {
            if kind == "counter" {
                name.push_str("_total");
            }
            *help = help.replace("\\\"", "\"");
        }
        let has_unit = |unit: &str| {
            let mut words = unit.trim_end().split(' ').skip(2);
            let (name, unit) = (words.next().unwrap(), words.next().unwrap());
            assert!(name.ends_with(&format!("_{unit}")), "{name} {unit}");
        };
        units.into_iter().for_each(has_unit);
        let values = std::mem::take(&mut decoded.values);
        for ((name, labels), value) in values {
            match name.strip_suffix("_created") {
                None => decoded.values.insert((name, labels), value),
                Some(of) => decoded.created.insert((of.to_owned(), labels), value),
            };
        }
        decoded
    }

    pub fn of_protobuf(page: &[u8]) -> Self {
        let mut decoded = Self::default();
        let (mut rest, mut again) = (page, Vec::new());
        while !rest.is_empty() {
            let family = MetricFamily::decode_length_delimited(&mut rest).unwrap();
            family.encode_length_delimited(&mut again).unwrap();
            decoded.family(family);
        }
        // There is nothing that the decoder has passed over.
        assert!(page == again, "not as the encoder would have it");
        decoded
    }

    fn family(&mut self, family: MetricFamily) {
        let name = family.name.unwrap();
        let kind = ["counter", "gauge", "", "", "histogram"][family.r#type.unwrap() as usize];
        self.families
            .push((name.clone(), kind.to_owned(), family.help.unwrap()));
        assert!(!family.metric.is_empty());
        for metric in family.metric {
            let pairs = metric.label.into_iter();
            let pairs: Vec<_> = pairs
                .map(|pair| (pair.name.unwrap(), pair.value.unwrap()))
                .collect();
            let labels: Labels = pairs.iter().cloned().collect();
            assert_eq!(labels.len(), pairs.len(), "a label appears twice");
            let created = match (kind, metric.counter, metric.gauge, metric.histogram) {
                ("counter", Some(counter), None, None) => {
                    self.add(name.clone(), labels.clone(), counter.value.unwrap());
                    counter.created
                }
                ("gauge", None, Some(gauge), None) => {
                    self.add(name.clone(), labels.clone(), gauge.value.unwrap());
                    None
                }
                ("histogram", None, None, Some(histogram)) => {
                    for bucket in histogram.bucket {
                        let mut labels = labels.clone();
                        labels.insert("le".into(), bucket.bound.unwrap().to_string());
                        let count = bucket.count.unwrap() as f64;
                        self.add(format!("{name}_bucket"), labels, count);
                    }
                    let (count, sum) = (histogram.count.unwrap(), histogram.sum.unwrap());
                    self.add(format!("{name}_count"), labels.clone(), count as f64);
                    self.add(format!("{name}_sum"), labels.clone(), sum);
                    histogram.created
                }
                other => panic!("{other:?}"),
            };
            if let Some(created) = created {
                let family = name.strip_suffix("_total").unwrap_or(&name);
                let nanos = f64::from(created.nanos.unwrap());
                let time = created.seconds.unwrap() as f64 + nanos / 1e9;
                self.created.insert((family.to_owned(), labels), time);
            }
        }
    }
}

// Names, numbers and types of the fields that are written, by metrics.proto of the client model.

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    help: Option<String>,
    #[prost(int32, optional, tag = "3")]
    r#type: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Gauge>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Counter>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct LabelPair {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Gauge {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Counter {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
    #[prost(message, optional, tag = "3")]
    created: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(message, optional, tag = "15")]
    created: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    bound: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, optional, tag = "1")]
    seconds: Option<i64>,
    #[prost(int32, optional, tag = "2")]
    nanos: Option<i32>,
}
