//! OpenMetrics 1.0.0 as text.
//!
//! It differs from Prometheus' text in few places: the family of a counter is called without `_total`,
//! quotes in HELP are escaped, a family may have a unit, numbers in `le` have one form, and the last
//! line is `# EOF`.

use prometheus::proto::MetricType;

use super::Page;
use super::lines::{Line, Sink, seconds};
use super::notation::Notation;
use crate::abi::Histogram;

/// The units that our names end with.
const UNITS: [&str; 2] = ["seconds", "bytes"];

/// Text in the making.
pub struct OpenMetrics {
    notation: Notation,
    /// Whether a sample with the suffix `_created` is written where the time is known.
    created: bool,
    /// The name of the family whose metadata was written last.
    family: &'static str,
}

impl OpenMetrics {
    pub fn new(created: bool) -> Self {
        Self {
            notation: Notation::default(),
            created,
            family: "",
        }
    }

    /// Writes the metadata before a family's first line, and prepares the line's labels. Returns what
    /// the family is called.
    fn begin(&mut self, line: &Line) -> &'static str {
        let family = family(line.name, line.kind);
        let notation = &mut self.notation;
        if self.family != family {
            self.family = family;
            let kind = format!("{:?}", line.kind).to_lowercase();
            notation.metadata("HELP", family, line.help, &['\\', '\n', '"']);
            notation.metadata("TYPE", family, &kind, &[]);
            if let Some(unit) = unit(family) {
                notation.metadata("UNIT", family, unit, &[]);
            }
        }
        notation.prepare(line);
        family
    }

    fn created(&mut self, line: &Line, family: &str) {
        if self.created
            && let Some(created) = line.created
        {
            self.notation
                .sample(family, "_created", number(created.as_secs_f64()));
        }
    }
}

impl Sink for OpenMetrics {
    fn value(&mut self, line: &Line, value: f64) {
        let family = self.begin(line);
        self.notation.sample(line.name, "", number(value));
        self.created(line, family);
    }

    fn histogram(&mut self, line: &Line, histogram: &Histogram, bounds_ns: &[u64]) {
        let family = self.begin(line);
        let notation = &mut self.notation;
        for (bound, count) in histogram.cumulative(bounds_ns) {
            notation.bucket(family, &number(seconds(bound)), count);
        }
        notation.bucket(family, "+Inf", histogram.count());
        notation.sample(family, "_sum", number(seconds(histogram.sum_ns)));
        notation.sample(family, "_count", histogram.count());
        self.created(line, family);
    }
}

impl Page for OpenMetrics {
    fn len(&self) -> usize {
        self.notation.len()
    }

    fn take(&mut self) -> Vec<u8> {
        self.notation.take()
    }

    fn finish(&mut self) {
        self.notation.put(&["# EOF\n"]);
    }
}

/// What a family is called: a counter without the suffix that its samples have.
pub fn family(name: &'static str, kind: MetricType) -> &'static str {
    match kind {
        MetricType::COUNTER => name.strip_suffix("_total").unwrap_or(name),
        _ => name,
    }
}

/// The unit in a family's name.
fn unit(family: &str) -> Option<&'static str> {
    let (_, last) = family.rsplit_once('_')?;
    UNITS.into_iter().find(|unit| *unit == last)
}

/// A number in the one form that the format has for bounds: as `%g` of C with as few digits as tell it
/// from others, and never as an integer.
fn number(value: f64) -> String {
    if !value.is_finite() {
        return match value {
            f64::INFINITY => "+Inf",
            f64::NEG_INFINITY => "-Inf",
            _ => "NaN",
        }
        .to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse().unwrap_or(0) {
        -4..6 => format!("{value:?}"),
        exponent @ ..0 => format!("{digits}e-{:02}", -exponent),
        exponent => format!("{digits}e+{exponent:02}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn numbers_have_one_form() {
        for (value, text) in [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (10.0, "10.0"),
            (0.25, "0.25"),
            (0.0001, "0.0001"),
            (0.00005, "5e-05"),
            (1.5e-7, "1.5e-07"),
            (100_000.0, "100000.0"),
            (999_999.5, "999999.5"),
            (1_000_000.0, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (1e100, "1e+100"),
            (-2.5, "-2.5"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_page() {
        let mut page = OpenMetrics::new(true);
        let kind = MetricType::COUNTER;
        let mut line = Line::new("a_bytes_total", "\"A\"\n", kind, ["x"].into_iter());
        line.labels[0].1 = "\"\\\n".into();
        line.created = Some(Duration::from_millis(1_700_000_000_125));
        page.value(&line, 3.0);
        page.value(&line, 4.0);
        let mut line = Line::new("b_seconds", "B", MetricType::HISTOGRAM, [].into_iter());
        line.created = Some(Duration::from_secs(1));
        let mut histogram = Histogram::default();
        histogram.buckets[..3].copy_from_slice(&[1, 2, 3]);
        histogram.sum_ns = 2_000_000_000;
        page.histogram(&line, &histogram, &[50_000, 1_000_000_000]);
        page.value(
            &Line::new("c_info", "C", MetricType::GAUGE, [].into_iter()),
            1.0,
        );
        page.finish();
        let text = String::from_utf8(page.take()).unwrap();
        let expected = r#"# HELP a_bytes \"A\"\n
# TYPE a_bytes counter
# UNIT a_bytes bytes
a_bytes_total{x="\"\\\n"} 3.0
a_bytes_created{x="\"\\\n"} 1.700000000125e+09
a_bytes_total{x="\"\\\n"} 4.0
a_bytes_created{x="\"\\\n"} 1.700000000125e+09
# HELP b_seconds B
# TYPE b_seconds histogram
# UNIT b_seconds seconds
b_seconds_bucket{le="5e-05"} 1
b_seconds_bucket{le="1.0"} 3
b_seconds_bucket{le="+Inf"} 6
b_seconds_sum 2.0
b_seconds_count 6
b_seconds_created 1.0
# HELP c_info C
# TYPE c_info gauge
c_info 1.0
# EOF
"#;
        assert_eq!(text, expected);
    }
}
