//! What the pinned maps hold, made of the records that [`crate::records`] reads.
//!
//! Each set of maps, an epoch, has a folder of its own ([`pins::epochs`]). Connections go on in the
//! newest; what they counted before stays in those before it. So what is exported is the sum.

#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::abi::{
    BUCKETS, Counters, DnsKey, DnsValue, HandshakeKey, HandshakeValue, Histogram, Info, LatencyKey,
    LatencyValue, Merge, MetricKey, MetricValue, RequestKey, RequestValue, STATUS_OTHER,
    STATUS_REQUESTS, route, series_kind,
};
use crate::options::ReadBy;
use crate::pins;
use crate::records::{INFO, Reader, Unreadable, Way, text_path};

/// What the maps held at one time.
///
/// Entries are sorted by key, each key is there once, and what did not fit is one entry, the last.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub info: Info,
    pub counters: Counters,
    pub metrics: Vec<(MetricKey, MetricValue)>,
    /// Responses.
    pub requests: Vec<(RequestKey, RequestValue)>,
    /// Requests by route, where they are told apart.
    pub asked: Vec<(RequestKey, RequestValue)>,
    /// The paths of routes.
    pub routes: BTreeMap<u16, String>,
    pub latency: Vec<(LatencyKey, LatencyValue)>,
    pub handshake: Vec<(HandshakeKey, HandshakeValue)>,
    pub dns: Vec<(DnsKey, DnsValue)>,
    /// How many entries each map held.
    pub entries: Entries,
    /// How the newest epoch was read.
    pub way: Way,
    /// How long reading took.
    pub took: Duration,
}

/// How many entries each map held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    pub metrics: usize,
    pub requests: usize,
    pub latency: usize,
    pub handshake: usize,
    pub dns: usize,
}

impl Snapshot {
    /// Reads all maps that are pinned in `pin_dir`, and blocks for that long. An entry takes some 1 µs
    /// by iterators, and some 10 µs as text.
    ///
    /// # Errors
    ///
    /// [`Unreadable`], when one of the maps is: there is no half a snapshot.
    pub fn read(pin_dir: &Path, by: ReadBy) -> Result<Self, Unreadable> {
        let start = Instant::now();
        // In the order in which the programs fill them.
        let mut snapshots = Vec::new();
        for (_, epoch) in epochs(pin_dir)? {
            snapshots.push(Reader::each_way(&epoch, by, Self::of_epoch)?);
        }
        let mut snapshot = snapshots.pop().unwrap_or_default();
        for earlier in snapshots {
            snapshot.merge(earlier);
        }
        snapshot.took = start.elapsed();
        Ok(snapshot)
    }

    fn of_epoch(reader: &mut Reader) -> Result<Self, Unreadable> {
        let info = reader.info()?;
        let counters = reader.counters(&info)?;
        let mut metrics = reader.metrics(&info)?;
        let mut requests = reader.requests(&info)?;
        let mut asked: Vec<_> = requests
            .extract_if(.., |(key, _)| key.status == STATUS_REQUESTS)
            .collect();
        let mut latency = reader.latency(&info)?;
        let mut handshake = reader.handshake(&info)?;
        let mut dns = reader.dns(&info)?;
        // Behind all that may refer to them.
        let routes = reader.routes(&info)?;
        let entries = Entries {
            metrics: tidy(&mut metrics),
            requests: tidy(&mut requests) + tidy(&mut asked),
            latency: tidy(&mut latency),
            handshake: tidy(&mut handshake),
            dns: tidy(&mut dns),
        };
        Ok(Self {
            info,
            counters,
            metrics,
            requests,
            asked,
            routes,
            latency,
            handshake,
            dns,
            entries,
            way: reader.way(),
            took: Duration::ZERO,
        })
    }

    /// Adds what an earlier epoch holds.
    fn merge(&mut self, mut earlier: Self) {
        self.counters.merge(&earlier.counters);
        let numbers = self.adopt_routes(&earlier.routes);
        let renumber = |number: &mut u16| *number = *numbers.get(number).unwrap_or(number);
        for (key, _) in earlier.requests.iter_mut().chain(&mut earlier.asked) {
            renumber(&mut key.route);
        }
        for (key, _) in &mut earlier.latency {
            renumber(&mut key.route);
        }
        let (from, to) = (earlier.info.bounds_ns(), self.info.bounds_ns());
        if from != to {
            let places = places(from, to);
            for (_, value) in &mut earlier.latency {
                value.buckets = moved(&value.buckets, &places);
            }
            for (_, value) in &mut earlier.handshake {
                for Histogram { buckets, .. } in [&mut value.duration, &mut value.rtt] {
                    *buckets = moved(buckets, &places);
                }
            }
            for (_, DnsValue { duration, .. }) in &mut earlier.dns {
                duration.buckets = moved(&duration.buckets, &places);
            }
        }
        add_up(&mut self.metrics, earlier.metrics);
        add_up(&mut self.requests, earlier.requests);
        add_up(&mut self.asked, earlier.asked);
        add_up(&mut self.latency, earlier.latency);
        add_up(&mut self.handshake, earlier.handshake);
        add_up(&mut self.dns, earlier.dns);
    }

    /// Gives the routes of another epoch the numbers that they have here, or free ones. Returns
    /// those that are not the same.
    fn adopt_routes(&mut self, theirs: &BTreeMap<u16, String>) -> BTreeMap<u16, u16> {
        let ours: BTreeMap<&str, u16> = self
            .routes
            .iter()
            .map(|(number, path)| (path.as_str(), *number))
            .collect();
        let mut numbers = BTreeMap::new();
        let mut new = Vec::new();
        let mut free = (1..=route::MAX as u16).filter(|n| !self.routes.contains_key(n));
        for (number, path) in theirs {
            let here = ours.get(path.as_str()).copied().unwrap_or_else(|| {
                let here = free.next().unwrap_or(route::OTHER);
                new.push((here, path.clone()));
                here
            });
            if here != *number {
                numbers.insert(*number, here);
            }
        }
        self.routes.extend(new);
        numbers
    }
}

/// The folders of the epochs, the newest last.
fn epochs(pin_dir: &Path) -> Result<Vec<(u32, PathBuf)>, Unreadable> {
    let epochs = pins::epochs(pin_dir).map_err(|e| Unreadable::new("listing", pin_dir, e))?;
    if epochs.is_empty() {
        if let Some(reason) = pins::failure(pin_dir) {
            return Err(Unreadable::Failed { reason });
        }
        return Err(Unreadable::Waiting {
            path: text_path(&pins::epoch(pin_dir, 1), INFO),
        });
    }
    Ok(epochs)
}

/// Into which of `to` the buckets of other bounds go: the first that is not below. So what is said
/// to be at most so much is.
fn places(from: &[u64], to: &[u64]) -> [usize; BUCKETS] {
    std::array::from_fn(|i| match from.get(i) {
        Some(bound) => to.partition_point(|other| other < bound),
        None => to.len(),
    })
}

fn moved<T: Merge + Copy + Default>(
    buckets: &[T; BUCKETS],
    places: &[usize; BUCKETS],
) -> [T; BUCKETS] {
    let mut moved = [T::default(); BUCKETS];
    for (bucket, place) in buckets.iter().zip(places) {
        moved[*place].merge(bucket);
    }
    moved
}

/// Whether [`Snapshot::read`] would find what it needs, for far less work.
///
/// # Errors
///
/// [`Unreadable`] as there.
pub fn probe(pin_dir: &Path, by: ReadBy) -> Result<(), Unreadable> {
    for (_, epoch) in epochs(pin_dir)? {
        Reader::each_way(&epoch, by, Reader::probe)?;
    }
    Ok(())
}

/// Sorts by key, and makes sure that nothing appears twice: neither an entry, since the kernel
/// shows one again when its neighbour in the bucket was added between two reads, nor the labels of
/// what did not fit, of which the maps may hold several entries. Returns how many entries there
/// were.
fn tidy<K: Key, V: Merge>(records: &mut Vec<(K, V)>) -> usize {
    records.sort_unstable_by_key(|(key, _)| *key);
    records.dedup_by_key(|(key, _)| *key);
    let entries = records.len();
    let mut other: Option<V> = None;
    for (_, value) in records.extract_if(.., |(key, _)| key.is_other()) {
        match &mut other {
            Some(sum) => sum.merge(&value),
            None => other = Some(value),
        }
    }
    records.extend(other.map(|value| (K::other(), value)));
    entries
}

/// Adds the records of an earlier epoch; both are tidy, and so is the sum.
fn add_up<K: Key, V: Merge>(records: &mut Vec<(K, V)>, earlier: Vec<(K, V)>) {
    records.extend(earlier);
    // What did not fit comes last.
    records.sort_by_key(|(key, _)| (key.is_other(), *key));
    records.dedup_by(|(key, value), (kept, sum)| {
        let same = key == kept;
        if same {
            sum.merge(value);
        }
        same
    });
}

trait Key: Copy + Ord {
    fn is_other(&self) -> bool;

    /// The one entry for what did not fit.
    fn other() -> Self;
}

impl Key for MetricKey {
    fn is_other(&self) -> bool {
        self.kind == series_kind::OTHER
    }

    fn other() -> Self {
        Self {
            kind: series_kind::OTHER,
            ..Self::default()
        }
    }
}

impl Key for RequestKey {
    fn is_other(&self) -> bool {
        self.series.is_other()
    }

    fn other() -> Self {
        Self {
            series: MetricKey::other(),
            status: STATUS_OTHER,
            ..Self::default()
        }
    }
}

impl Key for LatencyKey {
    fn is_other(&self) -> bool {
        self.kind == series_kind::OTHER
    }

    fn other() -> Self {
        Self {
            kind: series_kind::OTHER,
            ..Self::default()
        }
    }
}

impl Key for HandshakeKey {
    fn is_other(&self) -> bool {
        self.kind == series_kind::OTHER
    }

    fn other() -> Self {
        Self {
            kind: series_kind::OTHER,
            ..Self::default()
        }
    }
}

impl Key for DnsKey {
    fn is_other(&self) -> bool {
        self.kind == series_kind::OTHER
    }

    fn other() -> Self {
        Self {
            kind: series_kind::OTHER,
            ..Self::default()
        }
    }
}

/// Pins made of plain files, for tests.
#[cfg(test)]
pub(crate) mod fixture {
    use std::{
        fs,
        ops::Deref,
        path::{Path, PathBuf},
        process,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::abi::{
        self, Declared, LatencyEntry, Layout, MetricEntry, RequestEntry, RouteEntry, key_check,
    };
    use crate::records::*;
    use crate::text::fixture::{HEAD, entry, plain};

    /// A directory of its own, removed in the end.
    pub struct PinDir(PathBuf);

    impl PinDir {
        pub fn create() -> Self {
            static NUMBER: AtomicUsize = AtomicUsize::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("metricd-pins-{}-{number}", process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        /// What iterators over maps of this content write.
        pub fn write(&self, snapshot: &Snapshot) {
            self.write_epoch(1, snapshot);
        }

        pub fn epoch(&self) -> PathBuf {
            pins::epoch(&self.0, 1)
        }

        pub fn write_epoch(&self, epoch: u32, snapshot: &Snapshot) {
            let epoch = pins::epoch(&self.0, epoch);
            fs::create_dir_all(&epoch).unwrap();
            let epoch = &epoch;
            Self::write_map(epoch, INFO, &[(0u32, snapshot.info)]);
            Self::write_map(epoch, COUNTERS, &[(0u32, snapshot.counters)]);
            Self::write_map(epoch, METRICS, &snapshot.metrics);
            for more in [METRICS_MORE, REQUESTS_MORE, LATENCY_MORE] {
                fs::write(iter_path(epoch, more), []).unwrap();
            }
            let requests = [&snapshot.requests[..], &snapshot.asked].concat();
            Self::write_map(epoch, REQUESTS, &requests);
            let route = |(number, path): (&u16, &String)| {
                (u32::from(*number), RouteEntry::from(path.as_str()))
            };
            let routes: Vec<_> = snapshot.routes.iter().map(route).collect();
            Self::write_map(epoch, ROUTES, &routes);
            Self::write_map(epoch, LATENCY, &snapshot.latency);
            Self::write_map(epoch, HANDSHAKE, &snapshot.handshake);
            Self::write_map(epoch, DNS, &snapshot.dns);
        }

        /// The text of maps with this content, without iterators.
        pub fn write_text(&self, snapshot: &Snapshot) {
            let epoch = &self.epoch();
            fs::create_dir_all(epoch).unwrap();
            let write = |map: &str, lines: Vec<String>| {
                fs::write(text_path(epoch, map), HEAD.to_owned() + &lines.concat()).unwrap();
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
            let asked = &snapshot.asked;
            let requests = snapshot
                .requests
                .iter()
                .chain(asked)
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

        fn write_map<K: Layout, V: Layout>(epoch: &Path, map: &str, records: &[(K, V)]) {
            let mut bytes = Vec::new();
            for (key, value) in records {
                key.write(&mut bytes);
                value.write(&mut bytes);
            }
            fs::write(iter_path(epoch, map), bytes).unwrap();
        }
    }

    impl Deref for PinDir {
        type Target = Path;

        fn deref(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for PinDir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
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
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{self, ErrorKind},
    };

    use super::{fixture::*, *};
    use crate::abi::{FIRST_LAYOUT, LAYOUT_VERSION, LatencyPair, Layout};
    use crate::records::*;

    type Write = fn(&PinDir, &Snapshot);

    /// The ways in which maps are read, with what writes them so.
    const WAYS: [(ReadBy, Write); 2] = [
        (ReadBy::Iterator, PinDir::write),
        (ReadBy::Text, PinDir::write_text),
    ];

    #[test]
    fn what_was_written_is_read() {
        let mut written = peers(1000);
        written.counters.untracked = 5;
        let key = HandshakeKey {
            port: 80,
            ..HandshakeKey::default()
        };
        written.handshake.push((key, HandshakeValue::default()));
        let value = DnsValue {
            queries: 3,
            ..DnsValue::default()
        };
        written.dns.push((DnsKey::default(), value));
        for ((by, write), way) in WAYS.into_iter().zip([Way::Iterator, Way::Text]) {
            let dir = PinDir::create();
            write(&dir, &written);
            for by in [by, ReadBy::Auto] {
                assert!(probe(&dir, by).is_ok());
                let read = Snapshot::read(&dir, by).unwrap();
                assert_eq!(read.info, written.info);
                assert_eq!(read.counters, written.counters);
                assert_eq!(read.metrics, written.metrics);
                assert_eq!(read.requests, written.requests);
                assert_eq!(read.latency, []);
                assert_eq!(read.handshake, written.handshake);
                assert_eq!(read.dns, written.dns);
                let entries = Entries {
                    metrics: 1000,
                    requests: 1000,
                    latency: 0,
                    handshake: 1,
                    dns: 1,
                };
                assert_eq!(read.entries, entries);
                assert_eq!(read.way, way);
            }
        }
    }

    #[test]
    fn both_ways_are_one_snapshot() {
        let mut written = peers(9);
        written.info.routes = 3;
        written.routes = BTreeMap::from([(1, "/".into()), (3, "/ä/{id}".into())]);
        written.metrics[8].0.src = std::array::from_fn(|i| 255 - i as u8);
        let value = &mut written.metrics[7].1;
        value.opened = u64::MAX;
        value.lost.midstream = u64::MAX;
        for (i, route) in [1, 3].into_iter().enumerate() {
            let mut key = written.requests[i].0;
            (key.route, key.status) = (route, STATUS_REQUESTS);
            let responses = 1 << 63;
            written.asked.push((key, RequestValue { responses }));
            let mut value = LatencyValue::default();
            value.buckets[31] = LatencyPair {
                duration: u64::MAX,
                ttfb: 1,
            };
            value.sum_ns.ttfb = u64::MAX;
            let key = LatencyKey {
                peer: written.metrics[8].0.src,
                port: u16::MAX,
                route,
                ..LatencyKey::default()
            };
            written.latency.push((key, value));
        }
        let [of_iterators, of_text] = WAYS.map(|(by, write)| {
            let dir = PinDir::create();
            write(&dir, &written);
            let mut snapshot = Snapshot::read(&dir, by).unwrap();
            snapshot.took = Duration::ZERO;
            snapshot.way = Way::Iterator;
            snapshot
        });
        assert_eq!(of_text.routes, written.routes);
        assert_eq!(of_text.asked.len(), 2);
        assert_eq!(format!("{of_text:?}"), format!("{of_iterators:?}"));
    }

    #[test]
    fn a_form_that_is_unknown_is_no_snapshot() {
        let dir = PinDir::create();
        let snapshot = peers(5);
        let refused = |map: &str, from: &str, to: &str| {
            dir.write_text(&snapshot);
            let path = text_path(&dir.epoch(), map);
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains(from), "{map} {from}");
            fs::write(&path, text.replacen(from, to, 1)).unwrap();
            let error = Snapshot::read(&dir, ReadBy::Auto).unwrap_err();
            assert_eq!(
                error.reason(),
                "this kernel shows pinned maps in an unknown form",
                "{map} {from}"
            );
            error.to_string()
        };
        let said = refused(INFO, ",255,4096,", ",255,1000,");
        assert!(
            said.contains("known values of the info map read as others"),
            "{said}"
        );
        let said = refused(METRICS, "1000000,", "0xf4240,");
        assert!(
            said.contains("of which 43 are known, found \"0: {0,1146"),
            "{said}"
        );
        // A number that is another one changes the key's check.
        let said = refused(METRICS, ",80,6,1,", ",81,6,1,");
        assert!(
            said.contains("keys do not belong to their checks"),
            "{said}"
        );
        refused(COUNTERS, "0,0,", "0,");
        refused(REQUESTS, "0: {", "0: {'', ");
    }

    #[test]
    fn what_was_asked_for_is_not_there() {
        let dir = PinDir::create();
        dir.write_text(&peers(1));
        let error = Snapshot::read(&dir, ReadBy::Iterator).unwrap_err();
        assert_eq!(error.reason(), "no iterators are pinned");
        assert!(error.to_string().contains("--read auto"), "{error}");

        // Of a layout with arrays of bytes, which text does not show.
        let mut old = peers(1);
        old.info.layout = 6;
        dir.write_text(&old);
        let error = Snapshot::read(&dir, ReadBy::Text).unwrap_err();
        assert!(
            error.reason().starts_with("pins have layout 6, which can"),
            "{error}"
        );
        dir.write(&old);
        let read = Snapshot::read(&dir, ReadBy::Text).unwrap();
        assert_eq!(read.metrics, old.metrics);
        assert_eq!(read.way, Way::Iterator);
    }

    #[test]
    fn an_epoch_from_before_there_was_dns_is_read() {
        let dir = PinDir::create();
        let mut snapshot = peers(1);
        snapshot.info.layout = FIRST_LAYOUT;
        snapshot.info.dns_size = 0;
        dir.write(&snapshot);
        fs::remove_file(iter_path(&dir.epoch(), DNS)).unwrap();
        assert!(probe(&dir, ReadBy::Auto).is_ok());
        assert_eq!(Snapshot::read(&dir, ReadBy::Auto).unwrap().dns, []);
    }

    #[test]
    fn an_entry_shown_twice_is_one() {
        let mut snapshot = peers(3);
        snapshot.metrics.push(snapshot.metrics[1]);
        snapshot.metrics.swap(0, 2);
        for (by, write) in WAYS {
            let dir = PinDir::create();
            write(&dir, &snapshot);
            let read = Snapshot::read(&dir, by).unwrap();
            assert_eq!(read.metrics, peers(3).metrics);
            assert_eq!(read.entries.metrics, 3);
        }
    }

    #[test]
    fn what_did_not_fit_is_one_entry_and_the_last() {
        let mut snapshot = peers(2);
        for (status, responses) in [(200, 4), (STATUS_OTHER, 5)] {
            let key = RequestKey {
                status,
                ..RequestKey::other()
            };
            snapshot
                .requests
                .insert(0, (key, RequestValue { responses }));
        }
        for (by, write) in WAYS {
            let dir = PinDir::create();
            write(&dir, &snapshot);
            let read = Snapshot::read(&dir, by).unwrap();
            let other = (RequestKey::other(), RequestValue { responses: 9 });
            assert_eq!(read.requests.len(), 3);
            assert_eq!(read.requests[2], other);
            assert_eq!(read.entries.requests, 4);
        }
    }

    #[test]
    fn pins_that_are_not_there_yet() {
        let dir = PinDir::create();
        let error = Snapshot::read(&dir, ReadBy::Auto).unwrap_err();
        assert_eq!(error.reason(), "waiting for metricd-init");
        assert!(error.to_string().contains("linkerd_info_map "));
        assert!(probe(&dir, ReadBy::Auto).is_err());

        dir.write(&Snapshot::default());
        let error = Snapshot::read(&dir, ReadBy::Auto).unwrap_err();
        assert_eq!(error.reason(), "waiting for metricd-init", "layout 0");

        dir.write(&peers(1));
        fs::remove_file(iter_path(&dir.epoch(), HANDSHAKE)).unwrap();
        for error in [
            Snapshot::read(&dir, ReadBy::Auto).map(drop).unwrap_err(),
            probe(&dir, ReadBy::Auto).unwrap_err(),
        ] {
            assert!(error.to_string().contains("linkerd_handshake_map_iter"));
        }
    }

    #[test]
    fn why_init_failed() {
        let dir = PinDir::create();
        pins::say_failure(&dir, "load: \"no\"\nsecond line").unwrap();
        pins::say_failure(&dir, &format!("load: no right {}", "ü".repeat(3000))).unwrap();
        let reason = Snapshot::read(&dir, ReadBy::Auto).unwrap_err().reason();
        assert!(reason.starts_with("metricd-init failed: load: no right üü"));
        // It attached later.
        dir.write(&peers(1));
        assert!(Snapshot::read(&dir, ReadBy::Auto).is_ok());
        pins::clear_failure(&dir);
        assert_eq!(pins::failure(&dir), None);
    }

    #[test]
    fn pins_that_do_not_tell_their_sizes() {
        let dir = PinDir::create();
        let mut snapshot = peers(1);
        snapshot.info.layout = FIRST_LAYOUT - 1;
        dir.write(&snapshot);
        let error = Snapshot::read(&dir, ReadBy::Auto).unwrap_err();
        assert_eq!(
            error.reason(),
            "pins have layout 3, this metricd reads layout 4 and later ones"
        );
        assert!(error.to_string().contains("of the same version"));
    }

    /// A version whose values have one more field, and one that lacks the last.
    #[test]
    fn what_is_known_of_another_layout_is_read() {
        for longer in [true, false] {
            let dir = PinDir::create();
            let mut snapshot = peers(3);
            let change = if longer { 8 } else { -8 };
            let info = &mut snapshot.info;
            info.layout = if longer {
                LAYOUT_VERSION + 1
            } else {
                FIRST_LAYOUT
            };
            info.metrics_size = info.metrics_size.strict_add_signed(change);
            dir.write(&snapshot);
            let path = iter_path(&dir.epoch(), METRICS);
            let size = MetricKey::SIZE + MetricValue::SIZE;
            let records: Vec<u8> = fs::read(&path)
                .unwrap()
                .chunks(size)
                .flat_map(|record| {
                    let mut record = record.to_vec();
                    record.resize(size.strict_add_signed(change as isize), 0xee);
                    record
                })
                .collect();
            fs::write(&path, records).unwrap();
            let read = Snapshot::read(&dir, ReadBy::Auto).unwrap();
            let mut expected = peers(3).metrics;
            if !longer {
                expected
                    .iter_mut()
                    .for_each(|(_, value)| value.lost.midstream = 0);
            }
            assert_eq!(read.metrics, expected);
            assert_eq!(read.info.news().is_some(), longer);
        }
    }

    #[test]
    fn epochs_add_up() {
        let dir = PinDir::create();
        let mut first = peers(3);
        first
            .requests
            .push((RequestKey::other(), RequestValue { responses: 5 }));
        // A connection that began in the first epoch and ended in the second.
        first.metrics[1].1.active = 4;
        let mut second = peers(2);
        second.metrics[1].1.active = 2u64.wrapping_neg();
        second
            .requests
            .push((RequestKey::other(), RequestValue { responses: 6 }));
        second.counters.untracked = 1;
        first.counters.untracked = 2;
        dir.write(&first);
        dir.write_epoch(2, &second);
        let read = Snapshot::read(&dir, ReadBy::Auto).unwrap();
        assert_eq!(read.metrics.len(), 3);
        assert_eq!(read.metrics[1].1.active, 2);
        let one = first.metrics[0].1.requests.http1;
        assert_eq!(read.metrics[0].1.requests.http1, 2 * one);
        assert_eq!(read.metrics[2], first.metrics[2]);
        assert_eq!(read.requests.len(), 4);
        let other = (RequestKey::other(), RequestValue { responses: 11 });
        assert_eq!(read.requests[3], other);
        assert_eq!(read.counters.untracked, 3);
        assert_eq!(read.entries.metrics, 2, "the newest epoch's");
        // Of ten and more the last is still the newest.
        second.info.metrics_capacity = 7;
        dir.write_epoch(10, &second);
        assert_eq!(
            Snapshot::read(&dir, ReadBy::Auto)
                .unwrap()
                .info
                .metrics_capacity,
            7
        );
    }

    #[test]
    fn buckets_of_other_bounds_move_up() {
        let dir = PinDir::create();
        let mut first = peers(0);
        let key = LatencyKey {
            port: 80,
            direction: 1,
            ..LatencyKey::default()
        };
        let mut value = LatencyValue::default();
        for (i, bucket) in value.buckets.iter_mut().enumerate().take(5) {
            bucket.duration = 1 << i;
        }
        value.sum_ns.duration = 77;
        first.latency.push((key, value));
        // 100 µs, 5 ms, 1 s, 10 s and +Inf become 5 ms, 2 s and +Inf.
        let mut second = peers(0);
        second.info.bounds = 2;
        second.info.bounds_ns = [u64::MAX; BUCKETS];
        second.info.bounds_ns[..2].copy_from_slice(&[5_000_000, 2_000_000_000]);
        dir.write(&first);
        dir.write_epoch(2, &second);
        let read = Snapshot::read(&dir, ReadBy::Auto).unwrap();
        let duration = read.latency[0].1.duration();
        assert_eq!(duration.buckets[..4], [0b11, 0b100, 0b11000, 0]);
        assert_eq!(duration.sum_ns, 77);
    }

    #[test]
    fn routes_of_other_numbers_are_the_same() {
        let dir = PinDir::create();
        let with = |routes: &[(u16, &str)], number| {
            let mut snapshot = peers(1);
            snapshot.info.routes = 5;
            let named = routes.iter().map(|(n, path)| (*n, (*path).to_owned()));
            snapshot.routes = named.collect();
            snapshot.requests[0].0.route = number;
            snapshot
        };
        dir.write(&with(&[(1, "/a"), (2, "/b")], 2));
        dir.write_epoch(2, &with(&[(1, "/b"), (3, "/c")], 1));
        let read = Snapshot::read(&dir, ReadBy::Auto).unwrap();
        assert_eq!(read.requests.len(), 1);
        assert_eq!(read.requests[0].0.route, 1);
        let routes: Vec<_> = read.routes.values().map(String::as_str).collect();
        assert_eq!(routes, ["/b", "/a", "/c"]);
    }

    #[test]
    fn a_part_of_a_record() {
        let dir = PinDir::create();
        dir.write(&peers(400));
        let path = iter_path(&dir.epoch(), METRICS);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let error = Snapshot::read(&dir, ReadBy::Auto).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("whole records of 304 bytes, found 303 bytes"),
            "{error}"
        );

        fs::write(iter_path(&dir.epoch(), COUNTERS), []).unwrap();
        let error = Snapshot::read(&dir, ReadBy::Auto).unwrap_err();
        assert!(error.to_string().contains("84 bytes"), "{error}");
    }

    #[test]
    fn other_errors_say_what_was_tried_on_what() {
        let error = Snapshot::read(Path::new("/dev/null"), ReadBy::Auto).unwrap_err();
        assert!(
            error.to_string().starts_with("listing /dev/null: "),
            "{error}"
        );
        let denied = Unreadable::new(
            "opening",
            Path::new("/x"),
            io::Error::from(ErrorKind::PermissionDenied),
        );
        assert!(denied.to_string().contains("no permission to read /x"));
    }
}
