//! What the pinned maps hold, made of the records that [`crate::read::records`] reads.
//!
//! Each set of maps, an epoch, has a folder of its own ([`EpochDir`]). Connections go on in the
//! newest; what they counted before stays in those before it. So what is exported is the sum.

#![forbid(unsafe_code)]

mod aborted;
mod ages;
mod silent;
mod unproven;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    time::{Duration, Instant, UNIX_EPOCH},
};

use crate::abi::{
    BUCKETS, Counters, DnsKey, DnsValue, FIRST_WITH_ABORTED, HandshakeKey, HandshakeValue,
    Histogram, Info, LatencyKey, LatencyValue, Merge, MetricKey, MetricValue, RequestKey,
    RequestValue, STATUS_ABORTED, STATUS_OTHER, STATUS_REQUESTS, grpc_status, route, series_kind,
};
use crate::kernel::interfaces;
use crate::kernel::maps::INFO;
use crate::kernel::options::ReadBy;
use crate::kernel::pin_dir::{EpochDir, PinDir};
use crate::read::records::{Reader, Way};
use crate::read::unreadable::Unreadable;
pub use ages::{Age, Ages};

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
    /// How many of them have a status of gRPC that is made of HTTP's. [`Self::requests`] has them with
    /// all others of that status.
    pub grpc_derived: u64,
    /// Requests by route, where they are told apart.
    pub asked: Vec<(RequestKey, RequestValue)>,
    /// Requests that never got their whole response: as many as `metrics` has.
    pub aborted: Vec<(RequestKey, RequestValue)>,
    /// Requests that are in none of these yet, nor in `metrics`: see [`unproven`].
    pub unproven: u64,
    /// The paths of routes.
    pub routes: BTreeMap<u16, String>,
    pub latency: Vec<(LatencyKey, LatencyValue)>,
    pub handshake: Vec<(HandshakeKey, HandshakeValue)>,
    pub dns: Vec<(DnsKey, DnsValue)>,
    /// How many entries each map held.
    pub entries: Entries,
    /// The interfaces that are observed, or should be, and whether they are.
    pub interfaces: Vec<(String, bool)>,
    /// How the newest epoch was read.
    pub way: Way,
    /// The oldest of these maps; none, if that is not known.
    pub oldest: Option<Made>,
    /// What a sidecar remembers of each series; nothing, where nobody remembers.
    pub ages: Ages,
    /// How long reading took.
    pub took: Duration,
}

/// Maps that were made together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// The number of the pin of the info map, which others that are made later have not.
    pub inode: u64,
    /// When they were pinned, since the Unix epoch: with nothing counted as yet.
    pub at: Duration,
}

impl Made {
    fn of(epoch: &EpochDir) -> Option<Self> {
        let pin = fs::metadata(epoch.map_path(INFO)).ok()?;
        Some(Self {
            inode: pin.ino(),
            at: pin.modified().ok()?.duration_since(UNIX_EPOCH).ok()?,
        })
    }
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
    /// [`Unreadable`], when one of the maps can't be read: there is no half a snapshot.
    pub fn read(pin_dir: &PinDir, by: ReadBy) -> Result<Self, Unreadable> {
        let start = Instant::now();
        // The epochs are read in the order in which the programs fill them.
        let epochs = epochs(pin_dir)?;
        let mut snapshots = Vec::new();
        for epoch in &epochs {
            snapshots.push(Reader::each_way(epoch, by, Self::of_epoch)?);
        }
        let mut snapshot = snapshots.pop().unwrap_or_default();
        for earlier in snapshots {
            snapshot.merge(earlier);
        }
        silent::end(&mut snapshot, silent::now());
        snapshot
            .aborted
            .extend(aborted::other(&snapshot.counters.aborted));
        // Some of these may have the labels of others.
        add_up(&mut snapshot.aborted, Vec::new());
        snapshot.unproven = unproven::leave_out(&mut snapshot);
        snapshot.interfaces = interfaces::observed(pin_dir);
        snapshot.oldest = epochs.first().and_then(Made::of);
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
        let mut aborted: Vec<_> = requests
            .extract_if(.., |(key, _)| key.status == STATUS_ABORTED)
            .collect();
        // What a later layout counts there is no response.
        requests.retain(|(key, _)| key.status < 1000 || key.status == STATUS_OTHER);
        let mut latency = reader.latency(&info)?;
        let mut handshake = reader.handshake(&info)?;
        let mut dns = reader.dns(&info)?;
        // Routes are read behind all maps that may refer to them.
        let routes = reader.routes(&info)?;
        let entries = Entries {
            metrics: tidy(&mut metrics),
            requests: tidy(&mut requests) + tidy(&mut asked) + tidy(&mut aborted),
            latency: tidy(&mut latency),
            handshake: tidy(&mut handshake),
            dns: tidy(&mut dns),
        };
        if info.layout < FIRST_WITH_ABORTED {
            aborted = aborted::of_earlier_layout(&metrics, info.routes > 0);
        }
        let grpc_derived = take_derived(&mut requests);
        Ok(Self {
            info,
            counters,
            metrics,
            requests,
            grpc_derived,
            asked,
            aborted,
            unproven: 0,
            routes,
            latency,
            handshake,
            dns,
            entries,
            interfaces: Vec::new(),
            way: reader.way(),
            oldest: None,
            ages: Ages::default(),
            took: Duration::ZERO,
        })
    }

    /// Adds what an earlier epoch holds.
    fn merge(&mut self, mut earlier: Self) {
        self.counters.merge(&earlier.counters);
        self.grpc_derived = self.grpc_derived.wrapping_add(earlier.grpc_derived);
        let numbers = self.adopt_routes(&earlier.routes);
        let renumber = |number: &mut u16| *number = *numbers.get(number).unwrap_or(number);
        for entries in [
            &mut earlier.requests,
            &mut earlier.asked,
            &mut earlier.aborted,
        ] {
            entries
                .iter_mut()
                .for_each(|(key, _)| renumber(&mut key.route));
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
        add_up(&mut self.aborted, earlier.aborted);
        add_up(&mut self.latency, earlier.latency);
        add_up(&mut self.handshake, earlier.handshake);
        add_up(&mut self.dns, earlier.dns);
    }

    /// Gives the routes of another epoch the numbers that they have here, or free ones. Returns the
    /// numbers that change, with their new numbers.
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
fn epochs(pin_dir: &PinDir) -> Result<Vec<EpochDir>, Unreadable> {
    let epochs = pin_dir
        .epochs()
        .map_err(|e| Unreadable::new("listing", pin_dir.path(), e))?;
    if epochs.is_empty() {
        if let Some(reason) = pin_dir.failure() {
            return Err(Unreadable::Failed { reason });
        }
        return Err(Unreadable::Waiting {
            path: pin_dir.epoch(1).map_path(INFO),
        });
    }
    Ok(epochs)
}

/// For each bucket of the bounds `from`, the bucket of `to` that it goes into: the first whose
/// bound is not below. So what is counted as at most so long was at most so long.
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

/// Checks that [`Snapshot::read`] would find what it needs, for far less work.
///
/// # Errors
///
/// [`Unreadable`], when [`Snapshot::read`] would find one of the maps missing or closed to it.
pub fn probe(pin_dir: &PinDir, by: ReadBy) -> Result<(), Unreadable> {
    for epoch in epochs(pin_dir)? {
        Reader::each_way(&epoch, by, Reader::probe)?;
    }
    Ok(())
}

/// Sorts records by key, and makes sure that nothing appears twice: neither an entry, since the
/// kernel shows an entry again when its neighbour in the bucket was added between two reads, nor
/// the labels of what did not fit, of which the maps may hold several entries. Returns how many
/// entries there were.
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

/// Takes the mark off statuses of gRPC that are made of HTTP's. Returns how many responses had it.
fn take_derived(requests: &mut Vec<(RequestKey, RequestValue)>) -> u64 {
    let mut derived = 0u64;
    for (key, value) in requests.iter_mut() {
        if let (Some(status), true) = grpc_status(key.grpc_status) {
            key.grpc_status = status;
            derived = derived.wrapping_add(value.responses);
        }
    }
    // Some keys may be equal now.
    add_up(requests, Vec::new());
    derived
}

/// Adds the records of an earlier epoch. Both lists are tidy, and so is the sum.
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

    /// The key of the one entry for what did not fit.
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

#[cfg(test)]
pub(crate) mod fixture;

#[cfg(test)]
mod tests;
