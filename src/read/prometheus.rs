//! A snapshot of the maps as Prometheus text.
//!
//! `FAMILIES` says which line shows what. [`Exposition`] goes through it piece by piece, as fast
//! as the reader takes the text: what a scrape needs in memory is the snapshot and one piece.

#![forbid(unsafe_code)]

mod families;
mod labels;
mod lines;
mod process;
mod proxied;

use std::{
    fmt::Write,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus::proto::MetricType::{self, COUNTER, GAUGE, HISTOGRAM};

use crate::abi::{
    DNS_RCODES, DnsKey, DnsValue, GRPC_STATUS_NONE, HandshakeKey, HandshakeValue, Histogram,
    LatencyKey, LatencyValue, MetricKey, MetricValue, RequestKey, STATUS_OTHER, direction,
    protocol, route, series_kind,
};
use crate::read::snapshot::Snapshot;
use families::*;
use labels::*;
use lines::Lines;
use metricd_l7 as l7;

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is answered to a scrape: the maps, or why they cannot be read.
pub type Reading = Result<Arc<Snapshot>, String>;

/// What a proxy has recorded, or why that cannot be read; nothing where none is looked for.
pub type Proxied = Option<Result<l7::Snapshot, String>>;

/// What the lines about the scrape itself are made from.
struct Scrape {
    reading: Reading,
    proxied: Proxied,
    /// The time it took to write all pieces before this one.
    written: Duration,
    /// When this piece was begun.
    piece: Instant,
}

/// The text of one scrape, in pieces of about [`Exposition::PIECE`] bytes that end with a line.
pub struct Exposition {
    scrape: Scrape,
    lines: Lines,
    samples: Samples,
    scratch: String,
    /// The number of the family to go on with; [`Exposition::row`] is the number of its row.
    family: usize,
    row: usize,
}

impl Exposition {
    /// The size of a piece in bytes; what a histogram's lines take comes on top.
    pub const PIECE: usize = 32 << 10;

    pub fn new(reading: Reading, proxied: Proxied) -> Self {
        Self {
            scrape: Scrape {
                reading,
                proxied,
                written: Duration::ZERO,
                piece: Instant::now(),
            },
            lines: Lines::default(),
            samples: Samples::new(),
            scratch: String::new(),
            family: 0,
            row: 0,
        }
    }

    /// Writes the lines of the next row; false if the family has none left.
    fn write_row(&mut self, family: &Family) -> bool {
        if let Rows::Once(_, write) = family.rows {
            write(&self.scrape, &mut self.lines);
            return false;
        }
        if let Rows::Proxied(_, write) = family.rows {
            let Some(Ok(proxied)) = &self.scrape.proxied else {
                return false;
            };
            self.row += 1;
            return write(proxied, self.row - 1, &mut self.lines, &mut self.scratch);
        }
        let Ok(snapshot) = &self.scrape.reading else {
            return false;
        };
        let (lines, row) = (&mut self.lines, self.row);
        match family.rows {
            Rows::Once(..) | Rows::Proxied(..) => return false,
            Rows::Snapshot(_, write) => {
                write(snapshot, lines);
                return false;
            }
            Rows::Series(_, sample) => {
                let Some((key, value)) = snapshot.metrics.get(row) else {
                    return false;
                };
                self.samples.clear();
                sample(key, value, &mut self.samples);
                if !self.samples.is_empty() {
                    label_peer(lines, &mut self.scratch, key);
                }
                for (label, value) in self.samples.drain(..) {
                    lines.label(PEER.len(), label);
                    lines.value(value);
                }
            }
            Rows::Requests if snapshot.info.routes == 0 => {
                let Some((key, value)) = snapshot.metrics.get(row) else {
                    return false;
                };
                requests(key, value, &mut self.samples);
                if !self.samples.is_empty() {
                    label_peer(lines, &mut self.scratch, key);
                }
                for (label, value) in self.samples.drain(..) {
                    lines.label(PEER.len(), label);
                    lines.label(PEER.len() + 1, if label == OTHER { OTHER } else { "" });
                    lines.value(value);
                }
            }
            Rows::Requests => {
                let Some((key, value)) = snapshot.asked.get(row) else {
                    return false;
                };
                if value.responses > 0 {
                    label_peer(lines, &mut self.scratch, &key.series);
                    if key.series.kind == series_kind::OTHER {
                        lines.label(PEER.len(), OTHER);
                        lines.label(PEER.len() + 1, OTHER);
                    } else {
                        lines.label(PEER.len(), protocol::label(key.protocol));
                        lines.label(PEER.len() + 1, route(snapshot, key.route));
                    }
                    lines.value(value.responses as f64);
                }
            }
            Rows::Responses => {
                let Some((key, value)) = snapshot.requests.get(row) else {
                    return false;
                };
                if value.responses > 0 {
                    label_peer(lines, &mut self.scratch, &key.series);
                    label_response(lines, &mut self.scratch, snapshot, key);
                    lines.value(value.responses as f64);
                }
            }
            Rows::Latency(histogram) => {
                let Some((key, value)) = snapshot.latency.get(row) else {
                    return false;
                };
                let histogram = histogram(value);
                if histogram.count() > 0 {
                    label_latency(lines, &mut self.scratch, snapshot, key);
                    lines.histogram(&histogram, snapshot.info.bounds_ns());
                }
            }
            Rows::Handshake(histogram) => {
                let Some((key, value)) = snapshot.handshake.get(row) else {
                    return false;
                };
                let histogram = histogram(value);
                if histogram.count() > 0 {
                    label_handshake(lines, &mut self.scratch, key);
                    lines.histogram(histogram, snapshot.info.bounds_ns());
                }
            }
            Rows::Dns(_, sample) => {
                let Some((key, value)) = snapshot.dns.get(row) else {
                    return false;
                };
                self.samples.clear();
                sample(value, &mut self.samples);
                label_dns(lines, &mut self.scratch, key);
                for (label, value) in self.samples.drain(..) {
                    lines.label(DNS.len(), label);
                    lines.value(value);
                }
            }
            Rows::DnsDuration => {
                let Some((key, value)) = snapshot.dns.get(row) else {
                    return false;
                };
                if value.duration.count() > 0 {
                    label_dns(lines, &mut self.scratch, key);
                    lines.histogram(&value.duration, snapshot.info.bounds_ns());
                }
            }
        }
        self.row += 1;
        true
    }
}

impl Iterator for Exposition {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        self.scrape.piece = Instant::now();
        while self.lines.len() < Self::PIECE {
            let Some(family) = FAMILIES.get(self.family) else {
                break;
            };
            if self.row == 0 {
                begin(&mut self.lines, family);
            }
            if !self.write_row(family) {
                self.family += 1;
                self.row = 0;
            }
        }
        self.scrape.written += self.scrape.piece.elapsed();
        (self.lines.len() > 0).then(|| self.lines.take())
    }
}

fn begin(lines: &mut Lines, family: &Family) {
    let (common, further): (&[&str], &[&str]) = match family.rows {
        Rows::Series(further, _) => (PEER, further),
        Rows::Requests => (PEER, &["protocol", "route"]),
        Rows::Responses => (PEER, &["protocol", "status", "grpc_status", "route"]),
        Rows::Latency(_) => (LATENCY, &[]),
        Rows::Handshake(_) => (HANDSHAKE, &[]),
        Rows::Dns(further, _) => (DNS, further),
        Rows::DnsDuration => (DNS, &[]),
        Rows::Proxied(further, _) | Rows::Once(further, _) | Rows::Snapshot(further, _) => {
            (&[], further)
        }
    };
    let labels = common.iter().chain(further).copied();
    lines.family(family.name, family.help, family.kind, labels);
}

#[cfg(test)]
mod tests;
