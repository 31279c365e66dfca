//! What of a scrape a diagnosis is about, added up line by line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::abi::Histogram;
use crate::read::prometheus::{Line, Sink};
use crate::read::samples::Sample;

/// Where requests go.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Empty, where addresses are not kept.
    pub ip: String,
    pub port: String,
}

impl Address {
    /// Whether it stands for all that did not fit.
    pub fn is_other(&self) -> bool {
        self.port == "other"
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip.contains(':') {
            true => write!(f, "[{}]:{}", self.ip, self.port),
            false if self.ip.is_empty() => write!(f, "port {}", self.port),
            false => write!(f, "{}:{}", self.ip, self.port),
        }
    }
}

/// From whom requests come, and where they go.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    pub to: Address,
    /// Empty, where nobody knows.
    pub from: String,
    pub direction: String,
}

impl Way {
    fn new(sample: &Sample) -> Self {
        Self {
            to: address(sample),
            from: sample.label("src_ip").to_owned(),
            direction: sample.label("direction").to_owned(),
        }
    }

    /// Whether the way leads to an address; to its port at any address, if `to` has no more than a
    /// port.
    fn leads_to(&self, to: &Address) -> bool {
        self.to.port == to.port && (to.ip.is_empty() || self.to.ip == to.ip)
    }

    /// Whether it begins at the proxy that the programs know. Of such a proxy nobody knows for whom it
    /// asks.
    pub fn is_from_proxy(&self) -> bool {
        self.direction == "inbound" && self.from.is_empty()
    }
}

/// Counts of requests and connections.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    pub requests: f64,
    /// Requests that were answered or aborted.
    pub ended: f64,
    pub opened: f64,
    pub closed: f64,
}

/// The values of a counter at the first scrape and at the second.
#[derive(Clone, Copy, Debug)]
pub struct Interval(pub f64, pub f64);

impl Interval {
    /// The least that the counter was between the scrapes: it has begun at 0 anew if it is less now, as
    /// where the programs were attached again or a proxy has restarted.
    fn least(&self) -> f64 {
        if self.1 < self.0 { 0.0 } else { self.0 }
    }

    /// By how much this counter was more than another at every instant; by how much it was less, if
    /// negative; 0, if the two may have been equal at one instant.
    pub fn beyond(&self, other: &Self) -> f64 {
        let (more, less) = (self.least() - other.1, other.least() - self.1);
        match (more > 0.0, less > 0.0) {
            (true, _) => more,
            (_, true) => -less,
            _ => 0.0,
        }
    }
}

/// One scrape.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub up: Option<Result<(), String>>,
    /// What the series that are shown add up to.
    shown: Sums,
    /// What all series add up to, if that is told, too.
    totals: Option<Sums>,
    /// Series that are not shown, since they have not changed for long.
    pub idle: f64,
    pub in_flight: f64,
    pub active: f64,
    pub bytes: f64,
    /// Lost connections that are followed again.
    pub resumed: f64,
    /// Requests that were answered or aborted.
    pub ended: BTreeMap<Way, f64>,
    /// Requests that the proxy has sent on, by where to.
    pub proxy: BTreeMap<Address, f64>,
    /// Whether the programs know the proxy's connections from others.
    pub is_mesh: bool,
    /// Where such a proxy has connections to, outside of the pod.
    pub outside: BTreeSet<Address>,
    /// TLS connections, by the server's port.
    pub tls: BTreeMap<String, f64>,
    /// Why what the proxy records can't be read.
    pub proxy_down: Option<String>,
    /// Interfaces that have come up after metricd-init.
    pub unobserved: BTreeSet<String>,
    /// Counters that should be 0, by metric and its label.
    pub counters: BTreeMap<(String, String), f64>,
    /// Entries and capacity of each map.
    pub maps: BTreeMap<String, (f64, f64)>,
}

impl Tally {
    /// Takes in a sample.
    pub fn add(&mut self, sample: &Sample) {
        let value = sample.value;
        self.is_mesh |= sample.label("origin") == "proxy";
        match sample.name {
            "linkerd_ebpf_up" => {
                let reason = sample.label("reason").to_owned();
                self.up = Some(if value == 1.0 { Ok(()) } else { Err(reason) });
            }
            "linkerd_proxy_l7_up" if value != 1.0 => {
                self.proxy_down = Some(sample.label("reason").to_owned());
            }
            "linkerd_ebpf_bytes_total" => self.bytes += value,
            "linkerd_ebpf_requests_total" => self.shown.requests += value,
            "linkerd_ebpf_series_idle" => self.idle = value,
            "linkerd_ebpf_pod_requests_total" => self.totals().requests += value,
            "linkerd_ebpf_pod_responses_total" | "linkerd_ebpf_pod_requests_aborted_total" => {
                self.totals().ended += value;
            }
            "linkerd_ebpf_pod_connections_opened_total" => self.totals().opened += value,
            "linkerd_ebpf_pod_connections_closed_total" => self.totals().closed += value,
            "linkerd_ebpf_state_resumed_total" => self.resumed += value,
            "linkerd_ebpf_requests_in_flight" => self.in_flight += value,
            "linkerd_ebpf_responses_total" => {
                self.end(sample);
                let status = sample.label("status");
                if ["unknown", "other"].contains(&status) {
                    self.count(sample, &format!("status=\"{status}\""));
                }
            }
            "linkerd_ebpf_requests_aborted_total" => {
                self.end(sample);
                if sample.label("reason") == "evicted" {
                    self.count(sample, "reason=\"evicted\"");
                }
            }
            "linkerd_ebpf_connections_opened_total" => {
                self.shown.opened += value;
                if sample.label("origin") == "proxy" && sample.label("direction") == "outbound" {
                    self.outside.insert(address(sample));
                }
            }
            "linkerd_ebpf_connections_active" => self.active += value,
            "linkerd_ebpf_connections_closed_total" => {
                self.shown.closed += value;
                // Attempts have a share of their own: no larger one keeps those of a flood.
                if sample.label("reason") == "evicted" && sample.label("origin") != "unopened" {
                    self.count(sample, "reason=\"evicted\"");
                }
            }
            "linkerd_ebpf_connections_opaque_total"
                if ["server_first", "not_http", "bound", "mptcp"]
                    .contains(&sample.label("reason")) =>
            {
                self.count(sample, &format!("reason=\"{}\"", sample.label("reason")));
            }
            // What the proxy speaks TLS with is seen in plain text between proxy and application.
            "linkerd_ebpf_tls_connections_total" if sample.label("origin").is_empty() => {
                let port = sample.label("dst_port").to_owned();
                *self.tls.entry(port).or_default() += value;
            }
            "linkerd_proxy_requests_total" => {
                *self.proxy.entry(address(sample)).or_default() += value;
            }
            "linkerd_ebpf_interface_observed" if value != 1.0 => {
                self.unobserved.insert(sample.label("interface").to_owned());
            }
            "linkerd_ebpf_map_entries" => self.map(sample).0 = value,
            "linkerd_ebpf_map_capacity" => self.map(sample).1 = value,
            "linkerd_ebpf_state_lost_total" => {
                self.count(sample, &format!("reason=\"{}\"", sample.label("reason")));
            }
            "linkerd_proxy_ebpf_map_overflow_total" => {
                self.count(sample, &format!("map=\"{}\"", sample.label("map")));
            }
            "linkerd_ebpf_connections_untracked_total"
            | "linkerd_ebpf_contended_packets_total"
            | "linkerd_ebpf_truncated_packets_total"
            | "linkerd_ebpf_request_durations_unknown_total"
            | "linkerd_ebpf_events_dropped_total"
            | "linkerd_proxy_l7_overflow_total"
            | "linkerd_proxy_l7_missed_total" => self.count(sample, ""),
            _ => {}
        }
    }

    fn count(&mut self, sample: &Sample, label: &str) {
        let key = (sample.name.to_owned(), label.to_owned());
        *self.counters.entry(key).or_default() += sample.value;
    }

    fn end(&mut self, sample: &Sample) {
        let way = Way::new(sample);
        // Where clients are kept, a proxy's alone are unknown.
        self.is_mesh |= way.is_from_proxy() && !way.to.ip.is_empty();
        self.shown.ended += sample.value;
        *self.ended.entry(way).or_default() += sample.value;
    }

    fn totals(&mut self) -> &mut Sums {
        self.totals.get_or_insert_default()
    }

    /// What all series add up to: versions before the totals show all.
    pub fn sums(&self) -> Sums {
        self.totals.unwrap_or(self.shown)
    }

    /// Whether anything has passed the programs. Bytes may all be in series that are not shown.
    pub fn has_seen_packets(&self) -> bool {
        let sums = self.sums();
        self.bytes > 0.0 || sums.opened > 0.0 || sums.requests > 0.0
    }

    /// How many of a counter of this kind are there.
    pub fn counted(&self, name: &str, label: &str) -> f64 {
        let key = (name.to_owned(), label.to_owned());
        self.counters.get(&key).copied().unwrap_or_default()
    }

    fn map(&mut self, sample: &Sample) -> &mut (f64, f64) {
        self.maps.entry(sample.label("map").to_owned()).or_default()
    }

    /// Requests whose address did not fit into the map.
    pub fn elsewhere(&self) -> f64 {
        let other = self.ended.iter().filter(|(way, _)| way.to.is_other());
        other.map(|(_, count)| count).sum()
    }

    /// Requests of the proxy's that it has not recorded by where they went: they found no slot, or there was
    /// nothing to record into.
    pub fn unrecorded(&self) -> f64 {
        let other = self.proxy.iter().filter(|(to, _)| to.is_other());
        let other: f64 = other.map(|(_, count)| count).sum();
        other + self.counted("linkerd_proxy_l7_missed_total", "")
    }

    /// Requests to an address that were answered or aborted. If `is_mesh`, these are the proxy's alone;
    /// else they are everybody's.
    pub fn requests_to(&self, to: &Address, is_mesh: bool) -> f64 {
        let ended = self.ended.iter();
        let there = ended.filter(|(way, _)| way.leads_to(to) && (!is_mesh || way.is_from_proxy()));
        there.map(|(_, count)| count).sum()
    }

    /// All that the proxy has recorded.
    pub fn proxied(&self) -> f64 {
        self.proxy.values().sum()
    }

    /// The address as the kernel's series have it: without the IP, where none is kept.
    pub fn known_as(&self, to: &Address) -> Address {
        let keeps = self
            .ended
            .keys()
            .any(|way| !way.to.ip.is_empty() && way.to.ip != "other");
        match keeps || self.ended.is_empty() {
            true => to.clone(),
            false => Address {
                ip: String::new(),
                port: to.port.clone(),
            },
        }
    }
}

impl Sink for Tally {
    fn value(&mut self, line: &Line, value: f64) {
        let labels = line
            .labels
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .chain([("origin", line.origin)]);
        self.add(&Sample::new(line.name, labels, value));
    }

    /// No histogram is looked at.
    fn histogram(&mut self, _: &Line, _: &Histogram, _: &[u64]) {}
}

fn address(sample: &Sample) -> Address {
    Address {
        ip: sample.label("dst_ip").to_owned(),
        port: sample.label("dst_port").to_owned(),
    }
}
