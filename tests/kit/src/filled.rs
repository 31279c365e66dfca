//! Pinned maps that are full of known entries, as metricd-init makes them, without any traffic.

use std::fs;
use std::thread;

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use metricd::abi::{
    Counters, DnsKey, DnsValue, HandshakeKey, HandshakeValue, Histogram, LatencyEntry, LatencyKey,
    LatencyValue, Latest, Layout, MetricEntry, MetricKey, MetricValue, RequestEntry, RequestKey,
    RequestValue, RouteEntry, STATUS_OTHER, STATUS_REQUESTS, key_check, series_kind,
};
use metricd::kernel::maps;
use metricd::kernel::options::{Options, ReadBy, Way};
use metricd::kernel::pin_dir::{EpochDir, PinDir};
use metricd::kernel::settings::Wanted;
use metricd::lifecycle;
use metricd::read::snapshot::Snapshot;
use nix::sched::{CloneFlags, unshare};

/// Attached to the loopback of a network namespace that nobody else is in; all goes when this goes.
pub struct Filled {
    pub pin_dir: PinDir,
    wanted: Wanted,
    /// What is in the maps.
    pub written: Snapshot,
}

/// How much there is to be.
pub struct Size {
    /// For how many more series there is to be room.
    pub room: u32,
    /// Series, each with one status.
    pub series: u32,
    /// Routes, each with requests.
    pub routes: u32,
    /// Histograms of requests, and of connections.
    pub histograms: u32,
    /// Servers of DNS.
    pub servers: u32,
}

/// Numbers as they come, each time the same; among them those that are easily mistaken.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        // MMIX's constants, of which the upper half is good.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        match self.0 >> 60 {
            0 => u64::MAX,
            1 => 1 << 63,
            2..6 => 0,
            6..9 => self.0 >> 32,
            _ => self.0 >> 56,
        }
    }

    fn some<T: Layout>(&mut self) -> T {
        let bytes: Vec<u8> = (0..T::SIZE.div_ceil(8))
            .flat_map(|_| self.next().to_ne_bytes())
            .collect();
        T::read(&mut &bytes[..T::SIZE]).expect("as many bytes")
    }
}

impl Filled {
    /// Makes the maps, lets them be read in the way that `read` says, and fills them.
    pub fn new(pin_dir: &PinDir, size: &Size, read: ReadBy) -> Self {
        let mut filled = Self {
            pin_dir: pin_dir.clone(),
            wanted: Wanted {
                map_size: Some(size.series + size.routes + size.room),
                routes: Some(size.routes),
                ..Wanted::default()
            },
            written: Snapshot::default(),
        };
        filled.attach(read);
        filled.fill(size);
        filled
    }

    /// Runs what metricd-init does, in a network namespace that is new.
    pub fn attach(&self, read: ReadBy) {
        let options = Options {
            interfaces: vec!["lo".into()],
            loopback: false,
            pin_dir: self.pin_dir.clone(),
            wanted: self.wanted.clone(),
            attach: Way::Auto,
            read,
            reader_gid: None,
        };
        thread::scope(|scope| {
            let attached = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
                lifecycle::attach(&options).map(drop)
            });
            attached.join().expect("no panic").expect("attach to lo");
        });
    }

    pub fn epoch(&self) -> EpochDir {
        self.pin_dir.epoch(1)
    }

    /// Opens a map to write to it.
    pub fn map(&self, name: &str) -> MapHandle {
        MapHandle::from_pinned_path(self.epoch().map_path(name)).expect("a pinned map")
    }

    /// Series, from the first element that is in nobody's use: 0 is what does not fit.
    pub fn metrics(&self) -> Elements {
        Elements::open(self, maps::METRICS, maps::METRICS_MORE, 1)
    }

    /// Responses and requests, from the first element that is in nobody's use: 0 and 1 are what does
    /// not fit.
    pub fn requests(&self) -> Elements {
        Elements::open(self, maps::REQUESTS, maps::REQUESTS_MORE, 2)
    }

    fn fill(&mut self, size: &Size) {
        let mut numbers = Numbers(1);
        let mut metrics = self.metrics();
        let mut requests = self.requests();
        let mut latency = Elements::open(self, maps::LATENCY, maps::LATENCY_MORE, 1);
        let [routes, handshake, dns, counters] =
            [maps::ROUTES, maps::HANDSHAKE, maps::DNS, maps::COUNTERS].map(|name| self.map(name));
        let written = &mut self.written;
        for number in 0..size.series {
            let key = series(number);
            // Of a time that is still to come, so that no connection is taken for over.
            let value = MetricValue {
                seen_ns: Latest(u64::MAX),
                ..numbers.some()
            };
            metrics.put(&metric(key, value));
            written.metrics.push((key, value));
            let key = RequestKey {
                series: key,
                status: 200,
                protocol: 1,
                ..RequestKey::default()
            };
            let value = numbers.some();
            requests.put(&request(key, value));
            written.requests.push((key, value));
        }
        for number in 1..=size.routes {
            let key = RequestKey {
                series: series(number),
                status: STATUS_REQUESTS,
                route: number as u16,
                ..RequestKey::default()
            };
            let value = numbers.some();
            requests.put(&request(key, value));
            written.asked.push((key, value));
            let path = format!("/ä/{}/{{id}}", "x".repeat(number as usize % 120));
            let entry = RouteEntry::from(path.as_str());
            put(&routes, &number, &entry);
            written.routes.insert(number as u16, entry.path());
        }
        for number in 0..size.histograms {
            let key = LatencyKey {
                peer: series(number).src,
                port: 1 + number as u16,
                direction: 1,
                ..LatencyKey::default()
            };
            let value: LatencyValue = numbers.some();
            latency.put(&LatencyEntry {
                key,
                value,
                check: key_check(&key.to_bytes()),
                ..LatencyEntry::default()
            });
            written.latency.push((key, value));
        }
        for number in 0..size.histograms {
            let key = HandshakeKey {
                peer: series(number).src,
                port: 1 + number as u16,
                direction_and_origin: 2,
                kind: 0,
            };
            let (duration, rtt): (Histogram, Histogram) = (numbers.some(), numbers.some());
            let value = HandshakeValue { duration, rtt };
            put(&handshake, &key, &value);
            written.handshake.push((key, value));
        }
        for number in 0..size.servers {
            let key = DnsKey {
                server: series(number).src,
                direction: 2,
                ..DnsKey::default()
            };
            let value: DnsValue = numbers.some();
            put(&dns, &key, &value);
            written.dns.push((key, value));
        }
        written.counters = numbers.some::<Counters>();
        put(&counters, &0u32, &written.counters);
        self.others();
    }

    /// What metricd-init makes for what does not fit, and the order in which entries are read.
    fn others(&mut self) {
        let written = &mut self.written;
        let other = MetricKey {
            kind: series_kind::OTHER,
            ..MetricKey::default()
        };
        written.metrics.sort();
        written.metrics.push((other, MetricValue::default()));
        let request = |status| RequestKey {
            series: other,
            status,
            ..RequestKey::default()
        };
        let none = RequestValue::default();
        written.requests.sort();
        written.requests.push((request(STATUS_OTHER), none));
        written.asked.sort();
        // Of all requests, one entry is for what does not fit.
        written.asked.push((request(STATUS_OTHER), none));
        written.latency.sort();
        let kind = series_kind::OTHER;
        let key = LatencyKey {
            kind,
            ..LatencyKey::default()
        };
        written.latency.push((key, LatencyValue::default()));
        written.handshake.sort();
        let key = HandshakeKey {
            kind,
            ..HandshakeKey::default()
        };
        written.handshake.push((key, HandshakeValue::default()));
        written.dns.sort();
        let key = DnsKey {
            kind,
            ..DnsKey::default()
        };
        written.dns.push((key, DnsValue::default()));
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.pin_dir.path());
    }
}

/// IPv4 and IPv6 in turn.
pub fn series(number: u32) -> MetricKey {
    let [a, b, c, d] = number.to_be_bytes();
    let mut src = [0; 16];
    match number % 2 {
        0 => src[10..].copy_from_slice(&[255, 255, 10, b, c, d]),
        _ => src.copy_from_slice(&[0xfd, 0, 0, a, b, c, d, 0, 1, 0, 0, 0, 0, 0, 255, d]),
    }
    let mut dst = [0; 16];
    dst[10..].copy_from_slice(&[255, 255, 10, 0, 0, 1]);
    MetricKey {
        src,
        dst,
        src_port: 0,
        dst_port: 8080,
        proto: 6,
        direction: 1,
        ..MetricKey::default()
    }
}

/// The element of a series.
pub fn metric(key: MetricKey, value: MetricValue) -> MetricEntry {
    MetricEntry {
        key,
        value,
        check: key_check(&key.to_bytes()),
        ..MetricEntry::default()
    }
}

/// The element of responses, or requests.
pub fn request(key: RequestKey, value: RequestValue) -> RequestEntry {
    RequestEntry {
        key,
        latency: 1,
        check: key_check(&key.to_bytes()),
        value,
    }
}

/// Writes an element.
pub fn put<K: Layout, V: Layout>(map: &MapHandle, key: &K, value: &V) {
    map.update(&key.to_bytes(), &value.to_bytes(), MapFlags::ANY)
        .expect("there is room");
}

/// A map in two parts: elements go on in the second where the first has no more.
pub struct Elements {
    first: MapHandle,
    more: MapHandle,
    next: u32,
}

impl Elements {
    fn open(filled: &Filled, first: &str, more: &str, next: u32) -> Self {
        Self {
            first: filled.map(first),
            more: filled.map(more),
            next,
        }
    }

    /// Fills the next element.
    pub fn put<T: Layout>(&mut self, entry: &T) {
        let map = match self.next < self.first.max_entries() {
            true => &self.first,
            false => &self.more,
        };
        put(map, &self.next, entry);
        self.next += 1;
    }
}

/// A folder for pins that no other process uses.
pub fn pin_dir(name: &str) -> PinDir {
    PinDir::new(format!(
        "/sys/fs/bpf/metricd-test-{}-{name}",
        std::process::id()
    ))
}
