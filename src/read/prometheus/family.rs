//! What a family of lines is, and what its lines are made from.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus::proto::MetricType;

use super::lines::Lines;
use super::totals::Sums;
use crate::abi::{DnsValue, HandshakeValue, Histogram, LatencyValue, MetricKey, MetricValue};
use crate::read::snapshot::Snapshot;
use metricd_l7 as l7;

/// What is answered to a scrape: the maps, or why they cannot be read.
pub type Reading = Result<Arc<Snapshot>, String>;

/// What a proxy has recorded, or why that cannot be read; nothing where none is looked for.
pub type Proxied = Option<Result<l7::Snapshot, String>>;

/// What the lines of a scrape are made from.
pub struct Scrape {
    pub reading: Reading,
    pub proxied: Proxied,
    /// Whether series are left out that need not be shown.
    pub without_idle: bool,
    /// The time it took to write all pieces before this one.
    pub written: Duration,
    /// When this piece was begun.
    pub piece: Instant,
}

/// A metric, and where its lines come from.
pub struct Family {
    pub name: &'static str,
    pub help: &'static str,
    pub kind: MetricType,
    pub rows: Rows,
}

/// Where the lines of a family come from.
pub enum Rows {
    /// From each series: what is pushed, with the value of the further label.
    Series(
        &'static [&'static str],
        fn(&MetricKey, &MetricValue, &mut Samples),
    ),
    /// From each protocol of each series, by route where routes are told apart.
    Requests,
    /// From each status of each series.
    Responses,
    /// From each way in which requests of each series were aborted.
    Aborted,
    Latency(fn(&LatencyValue) -> Histogram),
    Handshake(fn(&HandshakeValue) -> &Histogram),
    /// From a proxy, if there is one, by row: false if there is none left.
    Proxied(
        &'static [&'static str],
        fn(&l7::Snapshot, usize, &mut Lines) -> bool,
    ),
    /// From each server of DNS, as [`Rows::Series`].
    Dns(&'static [&'static str], fn(&DnsValue, &mut Samples)),
    DnsDuration,
    /// From each direction, with its label and that of the origin set.
    Totals(&'static [&'static str], fn(&Sums, &mut Lines)),
    /// Once per scrape.
    Once(&'static [&'static str], fn(&Scrape, &mut Lines)),
    /// Once per scrape, if the maps could be read.
    Snapshot(&'static [&'static str], fn(&Snapshot, &mut Lines)),
}

/// Values, each with that of its further label.
pub type Samples = Vec<(&'static str, f64)>;

/// Pushes what has happened at all.
pub fn happened(samples: &mut Samples, label: &'static str, count: u64) {
    if count > 0 {
        samples.push((label, count as f64));
    }
}

/// A gauge that another CPU is about to bring back from below zero is shown as what it is.
pub fn gauge(value: u64) -> f64 {
    value as i64 as f64
}
