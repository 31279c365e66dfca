//! From a scrape to its lines: family by family, and row by row.

use std::time::{Duration, Instant};

use super::families::FAMILIES;
use super::family::{Family, Proxied, Reading, Rows, Samples, Scrape, happened};
use super::labels::*;
use super::lines::{Line, Lines, Sink};
use super::totals::{self, Sums};
use crate::abi::{MetricKey, MetricValue, RequestKey, RequestValue, series_kind};
use crate::read::snapshot::{Age, Snapshot};

/// Goes through all lines of a scrape.
pub struct Walk {
    pub(super) scrape: Scrape,
    totals: Vec<Sums>,
    line: Line,
    samples: Samples,
    /// The number of the family to go on with; [`Walk::row`] is the number of its row.
    family: usize,
    row: usize,
}

impl Walk {
    pub fn new(reading: Reading, proxied: Proxied) -> Self {
        let totals = reading.as_deref().map(totals::of);
        Self {
            totals: totals.unwrap_or_default(),
            scrape: Scrape {
                reading,
                proxied,
                without_idle: false,
                written: Duration::ZERO,
                piece: Instant::now(),
            },
            line: Line::default(),
            samples: Samples::new(),
            family: 0,
            row: 0,
        }
    }

    /// Leaves out the series that need not be shown.
    pub fn without_idle(mut self) -> Self {
        self.scrape.without_idle = true;
        self
    }

    /// Hands on the lines of the next row, which may be none; false if there is no further row.
    pub fn step(&mut self, sink: &mut dyn Sink) -> bool {
        let Some(family) = FAMILIES.get(self.family) else {
            return false;
        };
        if self.row == 0 {
            self.line = first_line(family);
        }
        let mut lines = Lines::new(&mut self.line, sink);
        let (scrape, row) = (&self.scrape, self.row);
        let goes_on = match (&family.rows, &scrape.reading, &scrape.proxied) {
            (Rows::Once(_, write), ..) => {
                write(scrape, &mut lines);
                false
            }
            (Rows::Proxied(_, write), _, Some(Ok(proxied))) => write(proxied, row, &mut lines),
            (Rows::Totals(_, write), Ok(snapshot), _) => {
                lines.created(snapshot.ages.made);
                let sums = self.totals.get(row);
                if let Some(sums) = sums {
                    lines.origin(sums.origin);
                    lines.label(0, sums.direction);
                    write(sums, &mut lines);
                }
                sums.is_some()
            }
            (rows, Ok(snapshot), _) => {
                let age = age(rows, snapshot, row);
                lines.created(age.created);
                // There is such a row, since it has an age.
                (age.is_idle && scrape.without_idle)
                    || of_snapshot(rows, snapshot, row, &mut self.samples, &mut lines).is_some()
            }
            _ => false,
        };
        if goes_on {
            self.row += 1;
        } else {
            self.row = 0;
            if !sink.end_family() {
                self.family += 1;
            }
        }
        true
    }
}

fn first_line(family: &Family) -> Line {
    let (common, further): (&[&str], &[&str]) = match family.rows {
        Rows::Series(further, _) => (PEER, further),
        Rows::Requests => (PEER, REQUEST),
        Rows::Responses => (PEER, RESPONSE),
        Rows::Aborted => (PEER, ABORTED),
        Rows::Latency(_) => (LATENCY, &[]),
        Rows::Handshake(_) => (HANDSHAKE, &[]),
        Rows::Dns(further, _) => (DNS, further),
        Rows::DnsDuration => (DNS, &[]),
        Rows::Totals(further, _)
        | Rows::Proxied(further, _)
        | Rows::Once(further, _)
        | Rows::Snapshot(further, _) => (&[], further),
    };
    let labels = common.iter().chain(further).copied();
    Line::new(family.name, family.help, family.kind, labels)
}

/// How old what a row comes from is.
fn age(rows: &Rows, snapshot: &Snapshot, row: usize) -> Age {
    let ages = &snapshot.ages;
    let ages = match rows {
        Rows::Series(..) => &ages.metrics,
        Rows::Requests if snapshot.info.routes == 0 => &ages.metrics,
        Rows::Requests => &ages.asked,
        Rows::Responses => &ages.requests,
        Rows::Aborted => &ages.aborted,
        Rows::Latency(_) => &ages.latency,
        Rows::Handshake(_) => &ages.handshake,
        Rows::Dns(..) | Rows::DnsDuration => &ages.dns,
        Rows::Once(..) | Rows::Proxied(..) | Rows::Snapshot(..) | Rows::Totals(..) => {
            return Age {
                created: ages.made,
                is_idle: false,
            };
        }
    };
    ages.get(row).copied().unwrap_or_default()
}

/// Hands on the lines of a row that comes from the maps; `None` if there are no rows behind it.
fn of_snapshot(
    rows: &Rows,
    snapshot: &Snapshot,
    row: usize,
    samples: &mut Samples,
    lines: &mut Lines,
) -> Option<()> {
    match rows {
        Rows::Once(..) | Rows::Proxied(..) | Rows::Totals(..) => return None,
        Rows::Snapshot(_, write) => {
            write(snapshot, lines);
            return None;
        }
        Rows::Series(_, sample) => {
            let (key, value) = snapshot.metrics.get(row)?;
            sample(key, value, samples);
            if !samples.is_empty() {
                label_peer(lines, key);
            }
            for (label, value) in samples.drain(..) {
                lines.label(PEER.len(), label);
                lines.value(value);
            }
        }
        Rows::Requests if snapshot.info.routes == 0 => {
            let (key, value) = snapshot.metrics.get(row)?;
            requests(key, value, samples);
            if !samples.is_empty() {
                label_peer(lines, key);
            }
            for (label, value) in samples.drain(..) {
                lines.label(PEER.len(), label);
                lines.label(PEER.len() + 1, if label == OTHER { OTHER } else { "" });
                lines.value(value);
            }
        }
        Rows::Requests => of_entry(snapshot, snapshot.asked.get(row)?, label_request, lines),
        Rows::Responses => of_entry(snapshot, snapshot.requests.get(row)?, label_response, lines),
        Rows::Aborted => of_entry(snapshot, snapshot.aborted.get(row)?, label_aborted, lines),
        Rows::Latency(histogram) => {
            let (key, value) = snapshot.latency.get(row)?;
            let histogram = histogram(value);
            if histogram.count() > 0 {
                label_latency(lines, snapshot, key);
                lines.histogram(&histogram, snapshot.info.bounds_ns());
            }
        }
        Rows::Handshake(histogram) => {
            let (key, value) = snapshot.handshake.get(row)?;
            let histogram = histogram(value);
            if histogram.count() > 0 {
                label_handshake(lines, key);
                lines.histogram(histogram, snapshot.info.bounds_ns());
            }
        }
        Rows::Dns(_, sample) => {
            let (key, value) = snapshot.dns.get(row)?;
            sample(value, samples);
            label_dns(lines, key);
            for (label, value) in samples.drain(..) {
                lines.label(DNS.len(), label);
                lines.value(value);
            }
        }
        Rows::DnsDuration => {
            let (key, value) = snapshot.dns.get(row)?;
            if value.duration.count() > 0 {
                label_dns(lines, key);
                lines.histogram(&value.duration, snapshot.info.bounds_ns());
            }
        }
    }
    Some(())
}

/// Hands on the line of an entry that counts requests or responses, with what labels them behind their peers.
fn of_entry(
    snapshot: &Snapshot,
    (key, value): &(RequestKey, RequestValue),
    label: fn(&mut Lines, &Snapshot, &RequestKey),
    lines: &mut Lines,
) {
    if value.responses > 0 {
        label_peer(lines, &key.series);
        label(lines, snapshot, key);
        lines.value(value.responses as f64);
    }
}

/// The requests of a series by protocol, where routes are not told apart.
fn requests(key: &MetricKey, value: &MetricValue, samples: &mut Samples) {
    let requests = &value.requests;
    if key.kind == series_kind::OTHER {
        happened(samples, OTHER, requests.total());
        return;
    }
    happened(samples, "http1", requests.http1);
    happened(samples, "http2", requests.http2);
    happened(samples, "grpc", requests.grpc);
}
