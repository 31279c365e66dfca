//! Reading the pinned maps.
//!
//! Beside each map, metricd-init pins an iterator that writes the map's raw entries to whoever
//! opens and reads it. So this is plain file reading: no `bpf()` call, no capability, and maps that
//! were replaced since the last scrape are found by themselves.
//!
//! Each set of maps, an epoch, has a folder of its own ([`pins::epochs`]). Connections go on in the
//! newest; what they counted before stays in those before it. So what is exported is the sum.

#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::abi::{
    self, BUCKETS, Counters, DnsKey, DnsValue, FIRST_LAYOUT, FIRST_WITH_MORE, HandshakeKey,
    HandshakeValue, Histogram, Info, LatencyKey, LatencyValue, Layout, Merge, MetricKey,
    MetricValue, RequestKey, RequestValue, RouteEntry, STATUS_OTHER, STATUS_REQUESTS, Truncated,
    route, series_kind,
};
use crate::pins;

/// Counters per series.
pub const METRICS: &str = "linkerd_metrics_map";
/// Those that the map of [`METRICS`] has no room for; likewise below.
pub const METRICS_MORE: &str = "linkerd_metrics_more_map";
/// Responses by protocol and status.
pub const REQUESTS: &str = "linkerd_requests_map";
pub const REQUESTS_MORE: &str = "linkerd_requests_more_map";
/// The paths of routes, by number.
pub const ROUTES: &str = "linkerd_route_map";
/// Histograms of requests.
pub const LATENCY: &str = "linkerd_latency_map";
pub const LATENCY_MORE: &str = "linkerd_latency_more_map";
/// Histograms of connections.
pub const HANDSHAKE: &str = "linkerd_handshake_map";
/// Counters per server of DNS.
pub const DNS: &str = "linkerd_dns_map";
/// An array of one: what the programs count about themselves.
pub const COUNTERS: &str = "linkerd_counters_map";
/// An array of one: what a reader must know.
pub const INFO: &str = "linkerd_info_map";

/// Where the iterator over `map` is pinned, in the folder of an epoch.
pub fn iter_path(epoch: &Path, map: &str) -> PathBuf {
    epoch.join(format!("{map}_iter"))
}

/// Why the maps could not be read, with what to do about it.
#[derive(Debug)]
pub enum Unreadable {
    /// Nothing is pinned yet, or not everything.
    Waiting {
        path: PathBuf,
    },
    /// Nothing is, and metricd-init has left word of why.
    Failed {
        reason: String,
    },
    Denied {
        path: PathBuf,
    },
    /// The pins are of another version.
    Layout {
        path: PathBuf,
        found: u32,
    },
    /// Bytes that are no records.
    Truncated {
        path: PathBuf,
        error: Truncated,
    },
    Io {
        path: PathBuf,
        tried: &'static str,
        error: io::Error,
    },
}

impl Unreadable {
    fn new(tried: &'static str, path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            ErrorKind::NotFound => Self::Waiting { path },
            ErrorKind::PermissionDenied => Self::Denied { path },
            _ => Self::Io { path, tried, error },
        }
    }

    /// In a few words that do not change while the cause does not: the label of
    /// `linkerd_ebpf_up`.
    pub fn reason(&self) -> String {
        match self {
            Self::Waiting { .. } => "waiting for metricd-init".into(),
            Self::Failed { reason } => format!("metricd-init failed: {reason}"),
            Self::Denied { .. } => "no permission to read the pinned iterators".into(),
            Self::Layout { found, .. } => {
                format!(
                    "pins have layout {found}, this metricd reads layout {FIRST_LAYOUT} and later \
                     ones"
                )
            }
            Self::Truncated { .. } => "the pinned iterators do not write whole records".into(),
            Self::Io { tried, error, .. } => format!("{tried} a pinned iterator: {}", error.kind()),
        }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting { path } => write!(
                f,
                "waiting for metricd-init: {} is not there yet; if it stays so, see how \
                 metricd-init ended and whether both have the same pin directory",
                path.display()
            ),
            Self::Failed { reason } => write!(
                f,
                "metricd-init failed, so there is nothing to read: {reason}"
            ),
            Self::Denied { path } => write!(
                f,
                "no permission to read {}: run metricd in the group that metricd-init gave its \
                 iterators to",
                path.display()
            ),
            Self::Layout { path, found } => write!(
                f,
                "{} says layout {found}, this metricd reads layout {FIRST_LAYOUT} and later ones: \
                 run metricd-init and metricd of the same version",
                path.display()
            ),
            Self::Truncated { path, error } => write!(
                f,
                "{}: {error}: run metricd-init and metricd of the same version",
                path.display()
            ),
            Self::Io { path, tried, error } => write!(f, "{tried} {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for Unreadable {}

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
    /// Reads all maps by the iterators pinned in `pin_dir`. Takes about 1 ms per 1,000 entries and
    /// blocks for that long.
    ///
    /// # Errors
    ///
    /// [`Unreadable`], when one of the iterators is: there is no half a snapshot.
    pub fn read(pin_dir: &Path) -> Result<Self, Unreadable> {
        let start = Instant::now();
        // In the order in which the programs fill them.
        let mut snapshots = Vec::new();
        for (_, epoch) in epochs(pin_dir)? {
            snapshots.push(Self::of_epoch(&epoch)?);
        }
        let mut snapshot = snapshots.pop().unwrap_or_default();
        for earlier in snapshots {
            snapshot.merge(earlier);
        }
        snapshot.took = start.elapsed();
        Ok(snapshot)
    }

    fn of_epoch(epoch: &Path) -> Result<Self, Unreadable> {
        let mut reader = Reader::new(epoch);
        let info = reader.info()?;
        let counters = reader.single(COUNTERS, info.counters_size)?;
        let mut metrics = reader.both(&info, [METRICS, METRICS_MORE], info.metrics_size)?;
        let mut requests: Vec<(RequestKey, RequestValue)> =
            reader.both(&info, [REQUESTS, REQUESTS_MORE], info.requests_size)?;
        let mut asked: Vec<_> = requests
            .extract_if(.., |(key, _)| key.status == STATUS_REQUESTS)
            .collect();
        let mut latency = reader.both(&info, [LATENCY, LATENCY_MORE], info.latency_size)?;
        let mut handshake = reader.records(HANDSHAKE, info.handshake_size)?;
        let mut dns = match info.dns_size {
            0 => Vec::new(),
            size => reader.records(DNS, size)?,
        };
        // Behind all that may refer to them.
        let routes = match info.routes {
            0 => BTreeMap::new(),
            _ => reader.routes()?,
        };
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
            path: iter_path(&pins::epoch(pin_dir, 1), INFO),
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
pub fn probe(pin_dir: &Path) -> Result<(), Unreadable> {
    for (_, epoch) in epochs(pin_dir)? {
        let info = Reader::new(&epoch).info()?;
        if info.dns_size > 0 {
            open(&iter_path(&epoch, DNS))?;
        }
        if info.layout >= FIRST_WITH_MORE {
            for map in [METRICS_MORE, REQUESTS_MORE, LATENCY_MORE] {
                open(&iter_path(&epoch, map))?;
            }
        }
        for map in [COUNTERS, METRICS, REQUESTS, ROUTES, LATENCY, HANDSHAKE] {
            open(&iter_path(&epoch, map))?;
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<File, Unreadable> {
    File::open(path).map_err(|error| Unreadable::new("opening", path, error))
}

/// Reads one file after the other through the same buffer.
struct Reader<'a> {
    epoch: &'a Path,
    buffer: Vec<u8>,
}

impl<'a> Reader<'a> {
    /// A read of an iterator gives up to 8 pages, whatever room there is beyond.
    const BUFFER: usize = 64 << 10;

    fn new(epoch: &'a Path) -> Self {
        Self {
            epoch,
            buffer: vec![0; Self::BUFFER],
        }
    }

    /// Decodes while reading, so that the raw bytes of a large map are never there as a whole.
    fn records<K: Layout, V: Layout>(
        &mut self,
        map: &str,
        value_size: u32,
    ) -> Result<Vec<(K, V)>, Unreadable> {
        let path = iter_path(self.epoch, map);
        let mut file = open(&path)?;
        let mut records = Vec::new();
        let mut left = 0;
        // Of a size that no map of ours has, none is whole.
        let value_size = value_size.min(Self::BUFFER as u32 / 2) as usize;
        loop {
            let read = match file.read(&mut self.buffer[left..]) {
                Ok(0) => break,
                Ok(read) => read,
                // The kernel says "again" after a million entries without output.
                Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {
                    continue;
                }
                Err(error) => return Err(Unreadable::new("reading", &path, error)),
            };
            let filled = left + read;
            left = abi::read_records(&self.buffer[..filled], value_size, &mut records).len();
            self.buffer.copy_within(filled - left..filled, 0);
        }
        if left > 0 {
            let record = K::SIZE + value_size;
            return Err(Unreadable::Truncated {
                path,
                error: Truncated { record, left },
            });
        }
        Ok(records)
    }

    /// The records of a map and of the one behind it, where there is one.
    fn both<K: Layout, V: Layout>(
        &mut self,
        info: &Info,
        [map, more]: [&str; 2],
        value_size: u32,
    ) -> Result<Vec<(K, V)>, Unreadable> {
        let mut records = self.records(map, value_size)?;
        if info.layout >= FIRST_WITH_MORE {
            records.extend(self.records(more, value_size)?);
        }
        Ok(records)
    }

    fn routes(&mut self) -> Result<BTreeMap<u16, String>, Unreadable> {
        let records: Vec<(u32, RouteEntry)> = self.records(ROUTES, RouteEntry::SIZE as u32)?;
        Ok(records
            .iter()
            .map(|(number, entry)| (*number as u16, entry.path()))
            .collect())
    }

    /// The value of an array of one.
    fn single<V: Layout>(&mut self, map: &str, value_size: u32) -> Result<V, Unreadable> {
        let records: Vec<(u32, V)> = self.records(map, value_size)?;
        match records.into_iter().next() {
            Some((_, value)) => Ok(value),
            None => Err(Unreadable::Truncated {
                path: iter_path(self.epoch, map),
                error: Truncated {
                    record: u32::SIZE + V::SIZE,
                    left: 0,
                },
            }),
        }
    }

    /// Looks at the layout before anything else: another one may have another size.
    fn info(&mut self) -> Result<Info, Unreadable> {
        let path = iter_path(self.epoch, INFO);
        let mut head = [0; 4 * u32::SIZE];
        match open(&path)?.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err(Unreadable::Waiting { path });
            }
            Err(error) => return Err(Unreadable::new("reading", &path, error)),
        }
        let [_, layout, _, size] = <[u32; 4]>::read(&mut head.as_slice()).unwrap_or_default();
        match layout {
            // metricd-init writes it last.
            0 => Err(Unreadable::Waiting { path }),
            found if found < FIRST_LAYOUT => Err(Unreadable::Layout { path, found }),
            _ => self.single(INFO, size),
        }
    }
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
    use std::fs;

    use super::{fixture::*, *};
    use crate::abi::LAYOUT_VERSION;

    #[test]
    fn what_was_written_is_read() {
        let dir = PinDir::create();
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
        dir.write(&written);
        assert!(probe(&dir).is_ok());
        let read = Snapshot::read(&dir).unwrap();
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
    }

    #[test]
    fn an_epoch_from_before_there_was_dns_is_read() {
        let dir = PinDir::create();
        let mut snapshot = peers(1);
        snapshot.info.layout = FIRST_LAYOUT;
        snapshot.info.dns_size = 0;
        dir.write(&snapshot);
        fs::remove_file(iter_path(&dir.epoch(), DNS)).unwrap();
        assert!(probe(&dir).is_ok());
        assert_eq!(Snapshot::read(&dir).unwrap().dns, []);
    }

    #[test]
    fn an_entry_shown_twice_is_one() {
        let dir = PinDir::create();
        let mut snapshot = peers(3);
        snapshot.metrics.push(snapshot.metrics[1]);
        snapshot.metrics.swap(0, 2);
        dir.write(&snapshot);
        let read = Snapshot::read(&dir).unwrap();
        assert_eq!(read.metrics, peers(3).metrics);
        assert_eq!(read.entries.metrics, 3);
    }

    #[test]
    fn what_did_not_fit_is_one_entry_and_the_last() {
        let dir = PinDir::create();
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
        dir.write(&snapshot);
        let read = Snapshot::read(&dir).unwrap();
        let other = (RequestKey::other(), RequestValue { responses: 9 });
        assert_eq!(read.requests.len(), 3);
        assert_eq!(read.requests[2], other);
        assert_eq!(read.entries.requests, 4);
    }

    #[test]
    fn pins_that_are_not_there_yet() {
        let dir = PinDir::create();
        let error = Snapshot::read(&dir).unwrap_err();
        assert_eq!(error.reason(), "waiting for metricd-init");
        assert!(error.to_string().contains("linkerd_info_map_iter"));
        assert!(probe(&dir).is_err());

        dir.write(&Snapshot::default());
        let error = Snapshot::read(&dir).unwrap_err();
        assert_eq!(error.reason(), "waiting for metricd-init", "layout 0");

        dir.write(&peers(1));
        fs::remove_file(iter_path(&dir.epoch(), HANDSHAKE)).unwrap();
        for error in [
            Snapshot::read(&dir).map(drop).unwrap_err(),
            probe(&dir).unwrap_err(),
        ] {
            assert!(error.to_string().contains("linkerd_handshake_map_iter"));
        }
    }

    #[test]
    fn why_init_failed() {
        let dir = PinDir::create();
        pins::say_failure(&dir, "load: \"no\"\nsecond line").unwrap();
        pins::say_failure(&dir, &format!("load: no right {}", "ü".repeat(3000))).unwrap();
        let reason = Snapshot::read(&dir).unwrap_err().reason();
        assert!(reason.starts_with("metricd-init failed: load: no right üü"));
        // It attached later.
        dir.write(&peers(1));
        assert!(Snapshot::read(&dir).is_ok());
        pins::clear_failure(&dir);
        assert_eq!(pins::failure(&dir), None);
    }

    #[test]
    fn pins_that_do_not_tell_their_sizes() {
        let dir = PinDir::create();
        let mut snapshot = peers(1);
        snapshot.info.layout = FIRST_LAYOUT - 1;
        dir.write(&snapshot);
        let error = Snapshot::read(&dir).unwrap_err();
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
            let read = Snapshot::read(&dir).unwrap();
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
        let read = Snapshot::read(&dir).unwrap();
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
        assert_eq!(Snapshot::read(&dir).unwrap().info.metrics_capacity, 7);
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
        let read = Snapshot::read(&dir).unwrap();
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
        let read = Snapshot::read(&dir).unwrap();
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
        let error = Snapshot::read(&dir).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("whole records of 304 bytes, found 303 bytes"),
            "{error}"
        );

        fs::write(iter_path(&dir.epoch(), COUNTERS), []).unwrap();
        let error = Snapshot::read(&dir).unwrap_err();
        assert!(error.to_string().contains("84 bytes"), "{error}");
    }

    #[test]
    fn other_errors_say_what_was_tried_on_what() {
        let error = Snapshot::read(Path::new("/dev/null")).unwrap_err();
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
