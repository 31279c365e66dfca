//! Reading a table, without a `bpf()` call and without trust in who has written it.
//!
//! A file is read, not mapped: its writers may cut it short at any time, and who touches memory
//! behind the end of a file is killed.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    fs::File,
    io::{self, ErrorKind, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::layout::{BUCKETS, ELEMENT, ELEMENT_SIZE, Header, Key, MAX_SLOTS, MISSED, slot};
use crate::table::{CLAIMED, FREE};

/// What a table held at one time.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Sorted, each key once; what did not fit, if there is any, comes last.
    pub series: Vec<Series>,
    /// Upper bounds of the histograms' buckets, in nanoseconds.
    pub bounds_ns: Vec<u64>,
    /// Durations by server, protocol and class of status.
    pub durations: Vec<(Option<DurationKey>, Histogram)>,
    /// How many series there is room for, and how much of that is taken.
    pub slots: usize,
    pub used: usize,
    /// Requests that were made while their proxy had no table.
    pub missed: u64,
}

/// Where the iterator of the map at `path` is pinned.
pub fn iter_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push("_iter");
    name.into()
}

/// Opens a file, without waiting should it be a pipe.
///
/// # Errors
/// What the system says; `InvalidInput` if there is something else than a file.
pub fn open(path: &Path) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "is not a file"));
    }
    Ok(file)
}

/// The words of elements that have `before` bytes of something else before each, but not more than
/// the largest table has.
///
/// # Errors
/// What the system says; `InvalidInput` if there is something else than a file.
pub fn words_of_records(path: &Path, before: usize) -> io::Result<Vec<u64>> {
    let record = before + ELEMENT_SIZE;
    let most = Header::new(MAX_SLOTS).elements() * record;
    let mut bytes = Vec::new();
    open(path)?.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes
        .chunks_exact(record)
        .flat_map(|record| record[before..].as_chunks::<8>().0)
        .map(|word| u64::from_ne_bytes(*word))
        .collect())
}

/// Durations of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Not cumulative: one for each of [`Snapshot::bounds_ns`], then what exceeds them, then unused.
    pub buckets: [u64; BUCKETS],
    /// Nanoseconds.
    pub sum_ns: u64,
}

impl Histogram {
    /// How many durations there are: the sum of the buckets.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, n| sum.wrapping_add(*n))
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine = mine.wrapping_add(*theirs);
        }
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
    }
}

/// The requests that share a key.
#[derive(Debug)]
pub struct Series {
    /// `None` is what did not fit.
    pub key: Option<Key>,
    pub requests: u64,
    /// Bytes that the proxy has sent to, and received from, who asked.
    pub sent: u64,
    pub received: u64,
}

/// What durations are kept apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DurationKey {
    pub dst: [u8; 16],
    pub dst_port: u16,
    pub protocol: u8,
    /// The first digit of the status; 0 is none.
    pub status_class: u8,
}

impl Snapshot {
    /// Reads the file that a proxy has made.
    ///
    /// # Errors
    ///
    /// [`Unreadable`], if the file can't be read, or is no table.
    pub fn read(path: &Path) -> Result<Self, Unreadable> {
        Self::of_words(path, words_of_records(path, 0))
    }

    /// Makes a snapshot of the words that were read of the file or map at `path`.
    ///
    /// # Errors
    ///
    /// [`Unreadable`], if reading had failed, or the words are no table.
    pub fn of_words(path: &Path, words: io::Result<Vec<u64>>) -> Result<Self, Unreadable> {
        let words = words.map_err(|error| Unreadable::new(path, error))?;
        Self::parse(&words).map_err(|problem| Unreadable::Foreign {
            path: path.to_owned(),
            problem,
        })
    }

    /// Makes a snapshot of a table's words.
    ///
    /// # Errors
    ///
    /// Why the words are no table, in words that go on after the name of the file or map.
    pub fn parse(words: &[u64]) -> Result<Self, String> {
        let header = Header::parse(words)?;
        if words.len() < header.elements() * ELEMENT {
            return Err(format!(
                "is a damaged table of requests: it has {} bytes and should have {}",
                8 * words.len(),
                header.elements() * ELEMENT_SIZE
            ));
        }
        let slot = |number| Slot::read(&words[header.slot(number)..][..ELEMENT]);
        let mut used = 0;
        let mut slots: BTreeMap<Key, Slot> = BTreeMap::new();
        for number in 0..header.slots {
            let claim = words[header.claim(number)];
            used += usize::from(claim != FREE);
            if claim == FREE || claim == CLAIMED {
                continue;
            }
            // A key may have several slots: see table.rs.
            let (key, slot) = slot(number);
            slots.entry(key).or_default().merge(&slot);
        }
        let mut durations: BTreeMap<DurationKey, Histogram> = BTreeMap::new();
        for (key, slot) in &slots {
            let sum = durations.entry(DurationKey::of(*key)).or_default();
            sum.merge(&slot.durations);
        }
        let (_, other) = slot(header.slots);
        let slots = slots.into_iter().map(|(key, slot)| (Some(key), slot));
        let durations = durations.into_iter().map(|(key, sum)| (Some(key), sum));
        Ok(Self {
            durations: durations.chain([(None, other.durations)]).collect(),
            series: slots.chain([(None, other)]).map(Series::of).collect(),
            bounds_ns: header.bounds_ns[..header.bounds].to_vec(),
            slots: header.slots,
            used,
            missed: words[MISSED],
        }
        .without_empty())
    }

    /// Leaves out series that have been claimed and not been used.
    fn without_empty(mut self) -> Self {
        self.series.retain(|series| series.requests > 0);
        self.durations
            .retain(|(_, histogram)| histogram.count() > 0);
        self
    }

    /// Requests that found no slot of their own.
    pub fn overflow(&self) -> u64 {
        match self.series.last() {
            Some(Series {
                key: None,
                requests,
                ..
            }) => *requests,
            _ => 0,
        }
    }
}

impl DurationKey {
    fn of(key: Key) -> Self {
        Self {
            dst: key.dst,
            dst_port: key.dst_port,
            protocol: key.protocol,
            status_class: (key.status / 100).min(u16::from(u8::MAX)) as u8,
        }
    }
}

impl Series {
    fn of((key, slot): (Option<Key>, Slot)) -> Self {
        Self {
            key,
            requests: slot.durations.count(),
            sent: slot.sent,
            received: slot.received,
        }
    }
}

/// What a slot has added up.
#[derive(Default)]
struct Slot {
    sent: u64,
    received: u64,
    durations: Histogram,
}

impl Slot {
    fn read(words: &[u64]) -> (Key, Self) {
        let mut durations = Histogram {
            sum_ns: words[slot::SUM_NS],
            ..Histogram::default()
        };
        durations.buckets.copy_from_slice(&words[slot::BUCKETS..]);
        let key = Key::from_words(std::array::from_fn(|i| words[slot::KEY + i]));
        let slot = Self {
            sent: words[slot::SENT],
            received: words[slot::RECEIVED],
            durations,
        };
        (key, slot)
    }
}

impl Slot {
    fn merge(&mut self, other: &Self) {
        self.sent = self.sent.wrapping_add(other.sent);
        self.received = self.received.wrapping_add(other.received);
        self.durations.merge(&other.durations);
    }
}

/// Why a table can't be read, with what to do about it.
#[derive(Debug)]
pub enum Unreadable {
    Missing { path: PathBuf },
    Denied { path: PathBuf },
    Foreign { path: PathBuf, problem: String },
    Io { path: PathBuf, error: io::Error },
}

impl Unreadable {
    fn new(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            ErrorKind::InvalidInput => Self::Foreign {
                path,
                problem: error.to_string(),
            },
            ErrorKind::NotFound => Self::Missing { path },
            ErrorKind::PermissionDenied => Self::Denied { path },
            _ => Self::Io { path, error },
        }
    }

    /// The reason in a few words that do not change while the cause does not: the label of
    /// `linkerd_proxy_l7_up`.
    pub fn reason(&self) -> String {
        match self {
            Self::Missing { .. } => "no proxy has recorded anything yet".into(),
            Self::Denied { .. } => "no permission to read the proxy's file".into(),
            Self::Foreign { problem, .. } => format!("the proxy's file {problem}"),
            Self::Io { error, .. } => format!("reading the proxy's file: {}", error.kind()),
        }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { path } => write!(
                f,
                "no proxy has recorded anything yet: {} is not there; if it stays so, see whether \
                 the proxy has the same METRICD_L7_FILE and uses the library",
                path.display()
            ),
            Self::Denied { path } => write!(
                f,
                "no permission to read {}: others must be able to read it and to search its folder",
                path.display()
            ),
            Self::Foreign { path, problem } => write!(
                f,
                "{} {problem}: run proxy and metricd with the same version of the library, or \
                 remove the file",
                path.display()
            ),
            Self::Io { path, error } => write!(f, "read {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for Unreadable {}
