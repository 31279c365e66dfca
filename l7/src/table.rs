//! Adding up in memory that several processes share.
//!
//! The rule, for any number of writers in any number of processes, each of which may be killed
//! between any two instructions:
//!
//! 1. A claim word is [`FREE`], then [`CLAIMED`], then the hash of its slot's key, for good. Nothing
//!    is ever freed, so a slot that has been found stays what it is.
//! 2. Who turns FREE into CLAIMED, by compare-and-exchange, is alone in writing the slot's key, and
//!    then releases the hash into the claim word. Who acquires a hash sees the whole key.
//! 3. CLAIMED is not waited for but passed by: its owner may be dead. If the owner lives and its
//!    key is the one looked for, that key gets a second slot, and a reader adds the two up.
//! 4. Only who has seen a slot's key adds to it. All adding is atomic. The bucket comes last: a
//!    request whose process is killed in between is not counted, only part of its bytes is.
//! 5. A key is looked for in [`WINDOW`] claim words from where its hash says. If none is its own and
//!    none is free, the request is added to the slot for what did not fit, whose count is that of the
//!    overflow.
//!
//! So what a killed process leaves is a slot that is CLAIMED for ever, which a reader leaves out.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Request;
use crate::layout::{ELEMENT, Header, Key, KeyWords, MISSED, slot};
use crate::sys::SharedWords;

pub const FREE: u64 = 0;
pub const CLAIMED: u64 = 1;
/// A bit that is set in every hash, so that no hash is [`FREE`] or [`CLAIMED`].
const HASH: u64 = 1 << 63;

/// Six cache lines of claim words: in a full table a request costs 74 ns rather than 51 (benches/l7.rs
/// of linkerd-metricd, on an AMD EPYC), and the first of 1,024 slots overflows when some 800 are taken.
const WINDOW: usize = 48;

impl Table<SharedWords> {
    /// Whether the file was cut short: what is added goes nowhere then.
    pub fn is_lost(&self) -> bool {
        self.words.is_lost()
    }
}

/// A table in memory, whatever the memory is backed by.
pub struct Table<M> {
    words: M,
    header: Header,
}

impl<M: std::ops::Deref<Target = [AtomicU64]>> Table<M> {
    /// A table in `words`, which must be at least as many as the header's elements have.
    pub fn new(words: M, header: Header) -> Self {
        assert!(words.len() >= header.elements() * ELEMENT);
        Self { words, header }
    }

    /// Adds one request.
    pub fn add(&self, request: &Request) {
        let at = self.header.slot(self.find(Key::of(request).words()));
        let slot = &self.words[at..at + ELEMENT];
        let ns = u64::try_from(request.duration.as_nanos()).unwrap_or(u64::MAX);
        let add = |word: usize, n| slot[word].fetch_add(n, Ordering::Relaxed);
        add(slot::SUM_NS, ns);
        add(slot::SENT, request.sent);
        add(slot::RECEIVED, request.received);
        add(slot::BUCKETS + self.header.bucket(ns), 1);
    }

    /// Adds to the count of requests that were not recorded at their time.
    pub fn add_missed(&self, requests: u64) {
        self.words[MISSED].fetch_add(requests, Ordering::Relaxed);
    }

    /// Finds the slot of a key, or claims one if the key has none. Returns the slot's number; if no
    /// slot is free, the number of the slot for what did not fit.
    fn find(&self, key: KeyWords) -> usize {
        let slots = self.header.slots;
        let hash = hash(key);
        // The first slot to look at: the hash's upper bits, spread over the slots.
        let first = ((u128::from(hash << 1) * slots as u128) >> 64) as usize;
        let window = WINDOW.min(slots);
        let end = slots.min(first + window);
        for range in [first..end, 0..first + window - end] {
            let claims = &self.words[self.header.claim(range.start)..][..range.len()];
            for (number, claim) in range.zip(claims) {
                let seen = match claim.load(Ordering::Acquire) {
                    FREE => match self.claim(claim, number, key, hash) {
                        Ok(()) => return number,
                        Err(others) => others,
                    },
                    seen => seen,
                };
                if seen == hash && self.is(number, &key) {
                    return number;
                }
            }
        }
        slots
    }

    /// Takes a slot. If somebody else was faster, returns what the claim word says now as an error.
    fn claim(&self, claim: &AtomicU64, number: usize, key: KeyWords, hash: u64) -> Result<(), u64> {
        claim.compare_exchange(FREE, CLAIMED, Ordering::Acquire, Ordering::Acquire)?;
        for (word, value) in self.key(number).iter().zip(key) {
            word.store(value, Ordering::Relaxed);
        }
        claim.store(hash, Ordering::Release);
        Ok(())
    }

    fn is(&self, number: usize, key: &KeyWords) -> bool {
        let words = self.key(number).iter();
        words
            .zip(key)
            .all(|(word, value)| word.load(Ordering::Relaxed) == *value)
    }

    fn key(&self, number: usize) -> &[AtomicU64] {
        let at = self.header.slot(number) + slot::KEY;
        &self.words[at..at + size_of::<KeyWords>() / 8]
    }
}

/// A hash that does not depend on process or build: otherwise a key would have a slot for each.
fn hash(key: KeyWords) -> u64 {
    /// An odd number with as many bits set as not, 2^64 divided by the golden ratio.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| {
        let product = u128::from(hash ^ word) * u128::from(FACTOR);
        (product as u64) ^ (product >> 64) as u64
    };
    key.into_iter().fold(!FACTOR, mix) | HASH
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Protocol, Snapshot};
    use std::net::Ipv4Addr;
    use std::thread;
    use std::time::Duration;

    type Memory = Vec<AtomicU64>;

    fn table(slots: usize) -> Table<Memory> {
        let header = Header::new(slots);
        let mut words: Memory = header.words().map(AtomicU64::new).into();
        words.resize_with(header.elements() * ELEMENT, AtomicU64::default);
        Table::new(words, header)
    }

    fn snapshot(table: &Table<Memory>) -> Snapshot {
        let words: Vec<u64> = table
            .words
            .iter()
            .map(|w| w.load(Ordering::Relaxed))
            .collect();
        Snapshot::parse(&words).unwrap()
    }

    fn request(client: u32) -> Request {
        Request {
            src: Ipv4Addr::from_bits(0x0a00_0000 + client).into(),
            dst: "10.0.0.1:80".parse().unwrap(),
            protocol: Protocol::Http1,
            status: 200,
            grpc_status: None,
            duration: Duration::from_millis(3),
            sent: 1000,
            received: 10,
        }
    }

    #[test]
    fn a_request_is_added_to_its_own_series() {
        let table = table(10);
        for _ in 0..3 {
            table.add(&request(1));
        }
        table.add(&Request {
            status: 404,
            ..request(1)
        });
        let snapshot = snapshot(&table);
        let [ok, missing] = &snapshot.series[..] else {
            panic!("{snapshot:?}");
        };
        assert_eq!(ok.key, Some(Key::of(&request(1))));
        assert_eq!((ok.requests, ok.sent, ok.received), (3, 3000, 30));
        assert_eq!((missing.requests, missing.key.unwrap().status), (1, 404));
        assert_eq!(
            (snapshot.used, snapshot.slots, snapshot.overflow()),
            (2, 10, 0)
        );
    }

    #[test]
    fn every_slot_is_used_before_anything_overflows() {
        let table = table(WINDOW);
        for client in 0..100 {
            table.add(&request(client));
        }
        let snapshot = snapshot(&table);
        assert_eq!(snapshot.used, WINDOW);
        assert_eq!(snapshot.overflow(), 100 - WINDOW as u64);
        assert_eq!(snapshot.series.len(), WINDOW + 1);
        assert_eq!(snapshot.series.last().unwrap().key, None);
        let other = snapshot.series.last().unwrap();
        assert_eq!(other.sent, 1_000 * snapshot.overflow());
    }

    #[test]
    fn a_large_table_is_mostly_full_before_anything_overflows() {
        let table = table(1024);
        let first = (0..1024).find(|client| {
            table.add(&request(*client));
            snapshot(&table).overflow() > 0
        });
        assert!(first.is_none_or(|first| first > 768), "{first:?}");
    }

    #[test]
    fn what_a_dead_process_has_claimed_is_passed_by() {
        let table = table(4);
        for number in 0..3 {
            table.words[table.header.claim(number)].store(CLAIMED, Ordering::Relaxed);
        }
        for _ in 0..5 {
            table.add(&request(1));
        }
        table.add(&request(2));
        let snapshot = snapshot(&table);
        assert_eq!(snapshot.series.len(), 2);
        assert_eq!((snapshot.series[0].requests, snapshot.overflow()), (5, 1));
    }

    /// Many threads see some new keys at one moment.
    #[test]
    fn nothing_is_lost_between_threads() {
        const THREADS: u64 = 8;
        const KEYS: u32 = 300;
        let table = table(1024);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..20 {
                        (0..KEYS).for_each(|client| table.add(&request(client)));
                    }
                });
            }
        });
        let snapshot = snapshot(&table);
        assert_eq!(snapshot.series.len(), KEYS as usize);
        for series in &snapshot.series {
            assert_eq!(series.requests, THREADS * 20);
            assert_eq!(series.sent, THREADS * 20 * 1000);
        }
        assert!(snapshot.used >= KEYS as usize);
    }
}
