//! What a sidecar remembers of the series that it has read: since when each counts, and when it changed last.
//!
//! It learns from the readings that scrapes ask for, and reads no further ones. A timer would tell both
//! times to within its interval, for the work of a scrape each time, in every pod, asked for by nobody
//! (docs/principles.md, rule 3). Without one, a series counts since the reading before the one that
//! has found it: that is where a rate of Prometheus begins, too, since what it has not scraped it can't
//! show. And a series that changed between two readings is taken to have changed at the second, however far
//! apart they are. So who scrapes more often than series are shown sees each change, and so does who is alone.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use foldhash::quality::RandomState;
use nix::time::{ClockId, clock_gettime};

use crate::abi::{LatencyKey, RequestKey};
use crate::duration::duration;
use crate::read::snapshot::{Age, Ages, Made, Snapshot};

/// For how long a series is shown that does not change, unless told otherwise.
pub const SHOW_IDLE: &str = "1h";

/// For how long to show a series that does not change: a duration, or 0 for as long as its maps are there.
///
/// # Errors
/// If the text is neither.
pub fn show_idle(text: &str) -> Result<Duration, String> {
    match text {
        "0" => Ok(Duration::ZERO),
        text => duration(text),
    }
}

/// When something is read.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Of CLOCK_BOOTTIME, which nobody sets, and which goes on while the machine sleeps.
    pub steady: Duration,
    /// Since the Unix epoch, as far as the machine's clock is right now.
    pub date: Duration,
}

impl Moment {
    pub fn now() -> Self {
        let steady = clock_gettime(ClockId::CLOCK_BOOTTIME);
        Self {
            steady: steady.map_or(Duration::ZERO, Duration::from),
            date: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        }
    }
}

/// All that is remembered: of each series 24 bytes and one of the table, which is filled to between 7/16
/// and 7/8, so 29 to 57 bytes; twice that while a snapshot is looked at. There are as many series as
/// the maps have entries.
pub struct History {
    /// For how long a series is shown that does not change; 0 is for ever.
    show_idle: Duration,
    /// How keys and values are hashed: each time otherwise, so that no peers can be chosen that are hashed alike.
    hashes: RandomState,
    /// The oldest of the maps.
    maps: Option<Made>,
    /// When they were made, if that is known.
    made: Option<Duration>,
    /// When the first reading of these maps was begun, as [`Moment::steady`].
    began: Duration,
    /// When the last reading was begun that succeeded, if there was one.
    last: Option<Duration>,
    series: Series,
}

/// By the hash of their keys.
type Series = HashMap<u64, Seen, RandomState>;

/// What is remembered of a series.
#[derive(Clone, Copy)]
struct Seen {
    /// A hash of its values. One change in four billion is overlooked, until the next.
    values: u32,
    /// When it has changed last, in [`ticks`] since [`History::began`].
    changed: u32,
    /// In nanoseconds since the Unix epoch; 0 is unknown.
    created: u64,
}

/// Units of 2^26 ns, some 67 ms: a `u32` has nine years of them.
fn ticks(time: Duration) -> u32 {
    u32::try_from(time.as_nanos() >> 26).unwrap_or(u32::MAX)
}

impl History {
    /// Of nothing as yet. A series that does not change is shown for `show_idle`, or for ever if that is 0.
    pub fn new(show_idle: Duration) -> Self {
        Self {
            show_idle,
            hashes: RandomState::default(),
            maps: None,
            made: None,
            began: Duration::ZERO,
            last: None,
            series: Series::default(),
        }
    }

    /// Tells a snapshot whose reading was begun `now` how old its entries are, and remembers them. To be
    /// called with each snapshot in turn. What happened while none could be read has happened between two.
    pub fn learn(&mut self, snapshot: &mut Snapshot, now: Moment) {
        let inode = |made: Option<Made>| made.map(|made| made.inode);
        if self.last.is_none() || inode(self.maps) != inode(snapshot.oldest) {
            // Maps that are made anew begin at 0, and so do their series.
            self.series.clear();
            self.last = None;
            self.began = now.steady;
            self.maps = snapshot.oldest;
            // The machine's clock may have been set back since.
            let made = self.maps.map(|maps| maps.at);
            self.made = made.filter(|at| *at <= now.date);
        }
        let mut reading = Reading {
            before: &self.series,
            after: Series::with_capacity_and_hasher(self.series.len(), RandomState::default()),
            hashes: &self.hashes,
            now: ticks(now.steady.saturating_sub(self.began)),
            idle: (!self.show_idle.is_zero()).then(|| ticks(self.show_idle)),
            created: match self.last {
                Some(last) => Some(now.date.saturating_sub(now.steady.saturating_sub(last))),
                None => self.made,
            },
        };
        let path = |route| snapshot.routes.get(&route).ok_or(route);
        let request = |key: &RequestKey| (RequestKey { route: 0, ..*key }, path(key.route));
        let latency = |key: &LatencyKey| (LatencyKey { route: 0, ..*key }, path(key.route));
        let metrics = reading.ages(
            0,
            &snapshot.metrics,
            |key| *key,
            |value| value.active.cast_signed() != 0 || value.in_flight() != 0,
        );
        let requests = reading.ages(1, &snapshot.requests, request, |_| false);
        let asked = reading.ages(2, &snapshot.asked, request, |_| false);
        let aborted = reading.ages(6, &snapshot.aborted, request, |_| false);
        let latency = reading.ages(3, &snapshot.latency, latency, |_| false);
        let handshake = reading.ages(4, &snapshot.handshake, |key| *key, |_| false);
        let dns = reading.ages(5, &snapshot.dns, |key| *key, |value| value.in_flight() != 0);
        self.series = reading.after;
        self.last = Some(now.steady);
        snapshot.ages = Ages {
            made: self.made,
            metrics,
            requests,
            asked,
            aborted,
            latency,
            handshake,
            dns,
        };
    }
}

/// A snapshot that is compared with what was before it.
struct Reading<'a> {
    before: &'a Series,
    after: Series,
    hashes: &'a RandomState,
    /// In [`ticks`].
    now: u32,
    /// For how many [`ticks`] a series is shown that does not change; none is for ever.
    idle: Option<u32>,
    /// Since when what is new counts.
    created: Option<Duration>,
}

impl Reading<'_> {
    /// The ages of the entries of a map that has a number of its own. `identity` is what the labels are made
    /// of, since routes change their numbers; and `is_alive` is whether a gauge of the entry is not 0, which
    /// is always to be shown.
    fn ages<K, V: Hash, I: Hash>(
        &mut self,
        map: u8,
        entries: &[(K, V)],
        identity: impl Fn(&K) -> I,
        is_alive: impl Fn(&V) -> bool,
    ) -> Vec<Age> {
        let ages = entries.iter().map(|(key, value)| {
            let key = self.hashes.hash_one((map, identity(key)));
            let values = self.hashes.hash_one(value) as u32;
            let before = self.before.get(&key);
            let unchanged = before.filter(|seen| seen.values == values && !is_alive(value));
            let seen = Seen {
                values,
                changed: unchanged.map_or(self.now, |seen| seen.changed),
                created: before.map_or_else(|| nanoseconds(self.created), |seen| seen.created),
            };
            self.after.insert(key, seen);
            let unchanged = self.now - seen.changed;
            Age {
                created: (seen.created > 0).then(|| Duration::from_nanos(seen.created)),
                // For certain, though both times are rounded.
                is_idle: self
                    .idle
                    .is_some_and(|idle| unchanged > idle.saturating_add(1)),
            }
        });
        ages.collect()
    }
}

fn nanoseconds(created: Option<Duration>) -> u64 {
    let created = created.unwrap_or_default().as_nanos();
    u64::try_from(created).unwrap_or_default()
}

#[cfg(test)]
mod tests;
