//! The line at hand, and who takes it.

use std::fmt::{Display, Write};
use std::time::Duration;

use prometheus::proto::MetricType;

use crate::abi::Histogram;

/// Who takes lines, of one family after the other.
pub trait Sink {
    /// Takes a line of a counter or a gauge.
    fn value(&mut self, line: &Line, value: f64);

    /// Takes the lines of a histogram, whose upper bounds are in nanoseconds.
    fn histogram(&mut self, line: &Line, histogram: &Histogram, bounds_ns: &[u64]);

    /// Says that the family at hand has no further lines. If true, all its lines, with the values that
    /// they had, are to be handed on once more.
    fn end_family(&mut self) -> bool {
        false
    }
}

/// A line without its value.
#[derive(Default)]
pub struct Line {
    /// The name of the family.
    pub name: &'static str,
    pub help: &'static str,
    pub kind: MetricType,
    /// The labels by name.
    pub labels: Vec<(&'static str, String)>,
    /// The label `origin`, which comes behind them; empty if there is none.
    pub origin: &'static str,
    /// Since when a counter or a histogram counts, since the Unix epoch: it was 0 then. `None` where that is
    /// not known, and for gauges.
    pub created: Option<Duration>,
}

impl Line {
    /// The first line of a family, whose labels are empty.
    pub fn new(
        name: &'static str,
        help: &'static str,
        kind: MetricType,
        labels: impl Iterator<Item = &'static str>,
    ) -> Self {
        Self {
            name,
            help,
            kind,
            labels: labels.map(|name| (name, String::new())).collect(),
            origin: "",
            created: None,
        }
    }
}

/// The lines of a family: one line is filled and handed on, then only the labels that change are
/// written anew.
pub struct Lines<'a> {
    line: &'a mut Line,
    sink: &'a mut dyn Sink,
}

impl<'a> Lines<'a> {
    pub fn new(line: &'a mut Line, sink: &'a mut dyn Sink) -> Self {
        Self { line, sink }
    }

    /// Sets the family's label of this number, for the next lines.
    pub fn label(&mut self, number: usize, value: &str) {
        if let Some((_, label)) = self.line.labels.get_mut(number) {
            label.clear();
            label.push_str(value);
        }
    }

    /// Sets the family's label of this number to what a value is shown as, for the next lines.
    pub fn show(&mut self, number: usize, value: impl Display) {
        if let Some((_, label)) = self.line.labels.get_mut(number) {
            label.clear();
            // Writing to a string does not fail.
            let _ = write!(label, "{value}");
        }
    }

    /// Sets the label `origin`, for the next lines; empty if they have none.
    pub fn origin(&mut self, value: &'static str) {
        self.line.origin = value;
    }

    /// Sets since when the next lines count.
    pub fn created(&mut self, created: Option<Duration>) {
        self.line.created = created.filter(|_| self.line.kind != MetricType::GAUGE);
    }

    /// Drops the family's labels, for the next lines.
    pub fn no_labels(&mut self) {
        self.line.labels.clear();
    }

    /// Hands on a line of a counter or a gauge.
    pub fn value(&mut self, value: f64) {
        self.sink.value(self.line, value);
    }

    /// Hands on the lines of a histogram, whose upper bounds are in nanoseconds.
    pub fn histogram(&mut self, histogram: &Histogram, bounds_ns: &[u64]) {
        self.sink.histogram(self.line, histogram, bounds_ns);
    }
}

/// What the values of histograms are shown in.
pub fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}
