//! Pins made of plain files, for tests.

use std::{
    fs,
    ops::Deref,
    process,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::*;
use crate::abi::{
    self, Declared, LatencyEntry, Layout, MetricEntry, RequestEntry, RouteEntry, key_check,
};
use crate::kernel::maps::*;
use crate::read::text::fixture::{HEAD, entry, plain};

/// A pin directory made of plain files, removed in the end.
pub struct PlainDir(PinDir);

impl PlainDir {
    pub fn create() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("metricd-pins-{}-{number}", process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(PinDir::new(path))
    }

    /// What iterators over maps of this content write.
    pub fn write(&self, snapshot: &Snapshot) {
        self.write_epoch(1, snapshot);
    }

    pub fn write_epoch(&self, epoch: u32, snapshot: &Snapshot) {
        let epoch = &self.epoch(epoch);
        fs::create_dir_all(epoch.path()).unwrap();
        Self::write_map(epoch, INFO, &[(0u32, snapshot.info)]);
        Self::write_map(epoch, COUNTERS, &[(0u32, snapshot.counters)]);
        Self::write_map(epoch, METRICS, &snapshot.metrics);
        for more in [METRICS_MORE, REQUESTS_MORE, LATENCY_MORE] {
            fs::write(epoch.iterator_path(more), []).unwrap();
        }
        let requests = [&snapshot.requests[..], &snapshot.asked, &snapshot.aborted].concat();
        Self::write_map(epoch, REQUESTS, &requests);
        let route =
            |(number, path): (&u16, &String)| (u32::from(*number), RouteEntry::from(path.as_str()));
        let routes: Vec<_> = snapshot.routes.iter().map(route).collect();
        Self::write_map(epoch, ROUTES, &routes);
        Self::write_map(epoch, LATENCY, &snapshot.latency);
        Self::write_map(epoch, HANDSHAKE, &snapshot.handshake);
        Self::write_map(epoch, DNS, &snapshot.dns);
    }

    /// The text of maps with this content, without iterators.
    pub fn write_text(&self, snapshot: &Snapshot) {
        let epoch = &self.epoch(1);
        fs::create_dir_all(epoch.path()).unwrap();
        let write = |map: &str, lines: Vec<String>| {
            fs::write(epoch.map_path(map), HEAD.to_owned() + &lines.concat()).unwrap();
        };
        write(INFO, vec![plain(&0u32, &snapshot.info)]);
        write(COUNTERS, vec![plain(&0u32, &snapshot.counters)]);
        // The hash behind an array goes on with its numbers; elements in nobody's use are shown.
        let metrics = snapshot.metrics.iter().map(|(key, value)| MetricEntry {
            key: *key,
            value: *value,
            check: key_check(&key.to_bytes()),
            ..MetricEntry::default()
        });
        let (first, more) = Self::two_parts(metrics.collect());
        write(METRICS, first);
        write(METRICS_MORE, more);
        let requests = snapshot
            .requests
            .iter()
            .chain(&snapshot.asked)
            .chain(&snapshot.aborted)
            .map(|(key, value)| RequestEntry {
                key: *key,
                value: *value,
                check: key_check(&key.to_bytes()),
                latency: 7,
            });
        let (first, more) = Self::two_parts(requests.collect());
        write(REQUESTS, first);
        write(REQUESTS_MORE, more);
        let latency = snapshot.latency.iter().map(|(key, value)| LatencyEntry {
            key: *key,
            value: *value,
            check: key_check(&key.to_bytes()),
            pad: 0,
        });
        let (first, more) = Self::two_parts(latency.collect());
        write(LATENCY, first);
        write(LATENCY_MORE, more);
        let lines = snapshot
            .handshake
            .iter()
            .map(|(key, value)| plain(key, value));
        write(HANDSHAKE, lines.collect());
        let lines = snapshot.dns.iter().map(|(key, value)| plain(key, value));
        write(DNS, lines.collect());
        let routes = (0..=snapshot.info.routes).map(|number| {
            let path = snapshot.routes.get(&(number as u16));
            plain(&number, &RouteEntry::from(path.map_or("", String::as_str)))
        });
        write(ROUTES, routes.collect());
    }

    /// The lines of an array of four, and of the hash behind it.
    fn two_parts<T: Declared + Default + Clone>(entries: Vec<T>) -> (Vec<String>, Vec<String>) {
        let mut array = entries.clone();
        array.resize(array.len().max(4), T::default());
        let mut lines = array.iter().enumerate().map(|(number, e)| entry(number, e));
        (lines.by_ref().take(4).collect(), lines.collect())
    }

    fn write_map<K: Layout, V: Layout>(epoch: &EpochDir, map: &str, records: &[(K, V)]) {
        let mut bytes = Vec::new();
        for (key, value) in records {
            key.write(&mut bytes);
            value.write(&mut bytes);
        }
        fs::write(epoch.iterator_path(map), bytes).unwrap();
    }
}

impl Deref for PlainDir {
    type Target = PinDir;

    fn deref(&self) -> &PinDir {
        &self.0
    }
}

impl Drop for PlainDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.path());
    }
}

pub fn info() -> Info {
    let mut info = Info {
        detail: abi::detail::SERVICE,
        metrics_capacity: 16384,
        requests_capacity: 8192,
        latency_capacity: 4096,
        handshake_capacity: 2048,
        dns_capacity: 64,
        connections_capacity: 1024,
        http2_capacity: 512,
        bounds: 4,
        routes: 0,
        bounds_ns: [u64::MAX; abi::BUCKETS],
        version: [0; 32],
        ..Info::current()
    };
    info.bounds_ns[..4].copy_from_slice(&[100_000, 5_000_000, 1_000_000_000, 10_000_000_000]);
    info.version[..5].copy_from_slice(b"1.2.3");
    info
}

/// ::ffff:a.b.c.d.
pub fn v4(ip: [u8; 4]) -> [u8; 16] {
    std::net::Ipv4Addr::from(ip).to_ipv6_mapped().octets()
}

/// One inbound peer after the other.
pub fn peer(number: u16) -> MetricKey {
    let [high, low] = number.to_be_bytes();
    MetricKey {
        src: v4([10, 1, high, low]),
        dst: v4([10, 0, 0, 1]),
        dst_port: 80,
        proto: 6,
        direction: abi::direction::INBOUND,
        ..MetricKey::default()
    }
}

/// So many peers, each with ten lines.
pub fn peers(number: u16) -> Snapshot {
    let mut snapshot = Snapshot {
        info: info(),
        ..Snapshot::default()
    };
    for number in 0..number {
        let key = peer(number);
        let mut value = MetricValue {
            opened: 3,
            active: 1,
            ..MetricValue::default()
        };
        value.closed.fin = 2;
        value.requests.http1 = 1_000_000 + u64::from(number);
        value.ended = value.requests.http1 - 1;
        value.recv.bytes = 123_456_789;
        value.sent.bytes = 987_654_321;
        let responses = value.requests.http1 - 1;
        snapshot.metrics.push((key, value));
        let key = RequestKey {
            series: key,
            status: 200,
            protocol: abi::protocol::HTTP1,
            grpc_status: abi::GRPC_STATUS_NONE,
            ..RequestKey::default()
        };
        snapshot.requests.push((key, RequestValue { responses }));
    }
    snapshot
}
