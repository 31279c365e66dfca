//! The records of the pinned maps, read like files: no `bpf()` call, no capability, and maps that
//! were replaced since the last reading are found by themselves.
//!
//! There are two ways. Where the kernel takes programs of the type TRACING, metricd-init pins an
//! iterator beside each map, which writes the map's raw records to whoever reads it. Elsewhere the
//! map's own pin is read, of which the kernel makes text: [`crate::text`] makes the records that an
//! iterator would write of it. What comes behind is one piece of code for both.

#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
};

use crate::abi::{
    self, Counters, Declared, DnsKey, DnsValue, FIRST_AS_TEXT, FIRST_LAYOUT, FIRST_WITH_MORE,
    HandshakeKey, HandshakeValue, Info, LAYOUT_VERSION, LatencyKey, LatencyValue, Layout,
    MetricKey, MetricValue, PROOF, RequestKey, RequestValue, RouteEntry, Truncated,
};
use crate::options::ReadBy;
use crate::text::{self, Form, Shape};

/// Counters per series.
pub const METRICS: &str = "linkerd_metrics_map";
/// Counters of the series that the map of [`METRICS`] has no room for.
pub const METRICS_MORE: &str = "linkerd_metrics_more_map";
/// Responses by protocol and status.
pub const REQUESTS: &str = "linkerd_requests_map";
/// Those that the map of [`REQUESTS`] has no room for.
pub const REQUESTS_MORE: &str = "linkerd_requests_more_map";
/// The paths of routes, by number. They stay while the exported maps are replaced.
pub const ROUTES: &str = "linkerd_route_map";
/// Histograms of requests.
pub const LATENCY: &str = "linkerd_latency_map";
/// Those that the map of [`LATENCY`] has no room for.
pub const LATENCY_MORE: &str = "linkerd_latency_more_map";
/// Histograms of connections.
pub const HANDSHAKE: &str = "linkerd_handshake_map";
/// Counters per server of DNS.
pub const DNS: &str = "linkerd_dns_map";
/// An array of one: what the programs count about themselves.
pub const COUNTERS: &str = "linkerd_counters_map";
/// An array of one: what a reader must know.
pub const INFO: &str = "linkerd_info_map";

/// All that is read, the first of which tells whether an epoch has iterators.
pub const EXPORTED: [&str; 11] = [
    INFO,
    COUNTERS,
    METRICS,
    METRICS_MORE,
    REQUESTS,
    REQUESTS_MORE,
    LATENCY,
    LATENCY_MORE,
    HANDSHAKE,
    DNS,
    ROUTES,
];

/// How a map is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// By a pinned iterator over it.
    #[default]
    Iterator,
    /// As the text that bpffs makes of it.
    Text,
}

impl Way {
    /// The way in which an epoch is to be read: by iterators if it has them, unless another way is
    /// asked for.
    pub fn of(epoch: &Path, by: ReadBy) -> Self {
        match by {
            ReadBy::Iterator => Self::Iterator,
            ReadBy::Text => Self::Text,
            ReadBy::Auto if iter_path(epoch, INFO).exists() => Self::Iterator,
            ReadBy::Auto => Self::Text,
        }
    }

    /// The value of the label `read`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Iterator => "iterator",
            Self::Text => "text",
        }
    }

    /// The file that has a map's records, in the folder of an epoch.
    fn path(self, epoch: &Path, map: &str) -> PathBuf {
        match self {
            Self::Iterator => iter_path(epoch, map),
            Self::Text => text_path(epoch, map),
        }
    }
}

/// Where the iterator over `map` is pinned, in the folder of an epoch.
pub fn iter_path(epoch: &Path, map: &str) -> PathBuf {
    epoch.join(format!("{map}_iter"))
}

/// Where `map` itself is pinned, for an epoch in this folder: routes are of all epochs.
pub fn text_path(epoch: &Path, map: &str) -> PathBuf {
    let folder = match map {
        ROUTES => epoch.parent().unwrap_or(epoch),
        _ => epoch,
    };
    folder.join(map)
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
    /// Iterators are asked for, and there are none.
    NoIterators {
        path: PathBuf,
    },
    /// Text is asked for, and the pins are of a version that can't be read so.
    NoText {
        path: PathBuf,
        found: u32,
    },
    /// Bytes that are no records.
    Truncated {
        path: PathBuf,
        error: Truncated,
    },
    /// Text that is not of the form that this version knows.
    Text {
        path: PathBuf,
        error: text::Error,
    },
    Io {
        path: PathBuf,
        tried: &'static str,
        error: io::Error,
    },
}

impl Unreadable {
    pub(crate) fn new(tried: &'static str, path: &Path, error: io::Error) -> Self {
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
            Self::Denied { .. } => "no permission to read the pinned maps".into(),
            Self::Layout { found, .. } => {
                format!(
                    "pins have layout {found}, this metricd reads layout {FIRST_LAYOUT} and later \
                     ones"
                )
            }
            Self::NoIterators { .. } => "no iterators are pinned".into(),
            Self::NoText { found, .. } => {
                format!(
                    "pins have layout {found}, which can be read by iterators only (as text: \
                     {FIRST_AS_TEXT} and later ones)"
                )
            }
            Self::Truncated { .. } => "the pinned iterators do not write whole records".into(),
            Self::Text { .. } => "this kernel shows pinned maps in an unknown form".into(),
            Self::Io { tried, error, .. } => format!("{tried} a pinned map: {}", error.kind()),
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
                 pins to",
                path.display()
            ),
            Self::Layout { path, found } => write!(
                f,
                "{} says layout {found}, this metricd reads layout {FIRST_LAYOUT} and later ones: \
                 run metricd-init and metricd of the same version",
                path.display()
            ),
            Self::NoIterators { path } => write!(
                f,
                "{} is not there, since the kernel refused iterators or metricd-init was not to pin \
                 them: let metricd read maps as text (--read auto), or run metricd-init with \
                 --read iterator to see what the kernel says",
                path.display()
            ),
            Self::NoText { path, found } => write!(
                f,
                "{} says layout {found}, which can be read by iterators only (as text: \
                 {FIRST_AS_TEXT} and later ones): let metricd read them (--read auto)",
                path.display()
            ),
            Self::Truncated { path, error } => write!(
                f,
                "{}: {error}: run metricd-init and metricd of the same version",
                path.display()
            ),
            Self::Text { path, error } => write!(
                f,
                "{}: {error}: if metricd-init and metricd are of the same version, this kernel \
                 shows maps in a form that metricd does not know; please report it with the kernel's \
                 version, and use a kernel that takes iterators (linkerd-metricd check --ebpf)",
                path.display()
            ),
            Self::Io { path, tried, error } => write!(f, "{tried} {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for Unreadable {}

fn open(path: &Path) -> Result<File, Unreadable> {
    File::open(path).map_err(|error| Unreadable::new("opening", path, error))
}

/// The keys and values of a map, with what tells one of the two from the next as text.
struct Table<'a> {
    map: &'a str,
    /// Bytes of a value.
    value_size: u32,
    shape: Shape,
}

impl<'a> Table<'a> {
    fn plain(map: &'a str, value_size: u32) -> Self {
        Self {
            map,
            value_size,
            shape: Shape::Plain,
        }
    }
}

/// struct metric_entry: `pad`, `pad2` and `check` are behind the value.
const METRIC_ENTRY: Shape = Shape::Entry {
    between: 0,
    behind: 3,
};
/// struct request_entry: `latency` and `check` are before the value.
const REQUEST_ENTRY: Shape = Shape::Entry {
    between: 2,
    behind: 0,
};
/// struct latency_entry: `pad` and `check` are before the value.
const LATENCY_ENTRY: Shape = Shape::Entry {
    between: 2,
    behind: 0,
};

/// Reads the maps of an epoch, one after the other through the same buffer.
pub struct Reader<'a> {
    epoch: &'a Path,
    way: Way,
    buffer: Vec<u8>,
}

impl<'a> Reader<'a> {
    /// A read of an iterator gives up to 8 pages, whatever room there is beyond. It is also the
    /// longest line of text.
    const BUFFER: usize = 64 << 10;
    /// How often a map is read as text until no key in it was being written. Programs write a key once
    /// in its life, within nanoseconds, and the kernel reads it within microseconds.
    const TRIES: usize = 16;

    /// Lets `read` have an epoch's maps. If metricd-init takes away the iterators meanwhile, it has them
    /// once more as text, which they always can be read as.
    ///
    /// # Errors
    /// As `read`.
    pub fn each_way<T>(
        epoch: &'a Path,
        by: ReadBy,
        read: impl Fn(&mut Self) -> Result<T, Unreadable>,
    ) -> Result<T, Unreadable> {
        let with = |way| {
            read(&mut Self {
                epoch,
                way,
                buffer: vec![0; Self::BUFFER],
            })
        };
        let way = Way::of(epoch, by);
        let has_iterators = || iter_path(epoch, INFO).exists();
        match with(way) {
            Err(gone @ Unreadable::Waiting { .. })
                if by == ReadBy::Auto && way == Way::Iterator =>
            {
                match with(Way::Text) {
                    // Of an earlier version, or not whole.
                    Err(Unreadable::NoText { .. } | Unreadable::Waiting { .. }) => Err(gone),
                    result => result,
                }
            }
            // Of an earlier version, whose maps can't be read as text: it always has iterators.
            Err(Unreadable::NoText { .. }) if has_iterators() => with(Way::Iterator),
            Err(Unreadable::Waiting { path })
                if by == ReadBy::Iterator && text_path(epoch, INFO).exists() =>
            {
                Err(Unreadable::NoIterators { path })
            }
            result => result,
        }
    }

    pub fn way(&self) -> Way {
        self.way
    }

    fn path(&self, map: &str) -> PathBuf {
        self.way.path(self.epoch, map)
    }

    /// What there is to know before anything else can be read.
    ///
    /// # Errors
    /// [`Unreadable`], likewise for all that is read.
    pub fn info(&mut self) -> Result<Info, Unreadable> {
        let path = self.path(INFO);
        let (layout, size) = match self.way {
            Way::Iterator => self.info_head(&path)?,
            Way::Text => self.info_head_of_text(&path)?,
        };
        match (self.way, layout) {
            // metricd-init writes it last.
            (_, 0) => return Err(Unreadable::Waiting { path }),
            (_, found) if found < FIRST_LAYOUT => return Err(Unreadable::Layout { path, found }),
            (Way::Text, found) if found < FIRST_AS_TEXT => {
                return Err(Unreadable::NoText { path, found });
            }
            _ => {}
        }
        let info: Info = self.single(INFO, size, layout == LAYOUT_VERSION)?;
        if self.way == Way::Text && info.proof != PROOF {
            let error = text::Error::Unproved;
            return Err(Unreadable::Text { path, error });
        }
        Ok(info)
    }

    /// Layout and size of the info: another layout may have another size.
    fn info_head(&mut self, path: &Path) -> Result<(u32, u32), Unreadable> {
        let mut head = [0; 4 * u32::SIZE];
        match open(path)?.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err(Unreadable::Waiting { path: path.into() });
            }
            Err(error) => return Err(Unreadable::new("reading", path, error)),
        }
        let [_, layout, _, size] = <[u32; 4]>::read(&mut head.as_slice()).unwrap_or_default();
        Ok((layout, size))
    }

    /// Layouts that can't be read as text have characters behind these numbers, so the rest of the line
    /// is left alone here.
    fn info_head_of_text(&mut self, path: &Path) -> Result<(u32, u32), Unreadable> {
        let unreadable = |error| match error {
            text::Error::Io(error) => Unreadable::new("reading", path, error),
            error => Unreadable::Text {
                path: path.into(),
                error,
            },
        };
        text::head(open(path)?, &mut self.buffer)
            .map(|[layout, _, size]| (layout, size))
            .map_err(unreadable)
    }

    pub fn counters(&mut self, info: &Info) -> Result<Counters, Unreadable> {
        self.single(COUNTERS, info.counters_size, is_known(info))
    }

    pub fn metrics(&mut self, info: &Info) -> Result<Vec<(MetricKey, MetricValue)>, Unreadable> {
        self.both(
            info,
            [METRICS, METRICS_MORE],
            info.metrics_size,
            METRIC_ENTRY,
        )
    }

    /// Responses, and requests by route.
    pub fn requests(&mut self, info: &Info) -> Result<Vec<(RequestKey, RequestValue)>, Unreadable> {
        self.both(
            info,
            [REQUESTS, REQUESTS_MORE],
            info.requests_size,
            REQUEST_ENTRY,
        )
    }

    pub fn latency(&mut self, info: &Info) -> Result<Vec<(LatencyKey, LatencyValue)>, Unreadable> {
        self.both(
            info,
            [LATENCY, LATENCY_MORE],
            info.latency_size,
            LATENCY_ENTRY,
        )
    }

    pub fn handshake(
        &mut self,
        info: &Info,
    ) -> Result<Vec<(HandshakeKey, HandshakeValue)>, Unreadable> {
        let table = Table::plain(HANDSHAKE, info.handshake_size);
        self.records(&table, is_known(info))
    }

    pub fn dns(&mut self, info: &Info) -> Result<Vec<(DnsKey, DnsValue)>, Unreadable> {
        match info.dns_size {
            0 => Ok(Vec::new()),
            size => self.records(&Table::plain(DNS, size), is_known(info)),
        }
    }

    pub fn routes(&mut self, info: &Info) -> Result<BTreeMap<u16, String>, Unreadable> {
        if info.routes == 0 {
            return Ok(BTreeMap::new());
        }
        let table = Table::plain(ROUTES, RouteEntry::SIZE as u32);
        let records: Vec<(u32, RouteEntry)> = self.records(&table, true)?;
        Ok(records
            .iter()
            // As text there are unused ones, too.
            .filter(|(_, entry)| entry.text[0] != 0)
            .map(|(number, entry)| (*number as u16, entry.path()))
            .collect())
    }

    /// Whether everything is there that reading takes.
    pub fn probe(&mut self) -> Result<(), Unreadable> {
        let info = self.info()?;
        for map in EXPORTED {
            let is_there = match map {
                DNS => info.dns_size > 0,
                METRICS_MORE | REQUESTS_MORE | LATENCY_MORE => info.layout >= FIRST_WITH_MORE,
                _ => true,
            };
            if is_there {
                open(&self.path(map))?;
            }
        }
        Ok(())
    }

    /// The records of a map and of the one behind it, where there is one.
    fn both<K: Declared, V: Declared>(
        &mut self,
        info: &Info,
        [map, more]: [&str; 2],
        value_size: u32,
        shape: Shape,
    ) -> Result<Vec<(K, V)>, Unreadable> {
        let table = |map| Table {
            map,
            value_size,
            shape,
        };
        let mut records = self.records(&table(map), is_known(info))?;
        if info.layout >= FIRST_WITH_MORE {
            records.extend(self.records(&table(more), is_known(info))?);
        }
        Ok(records)
    }

    /// The value of an array of one.
    fn single<V: Declared>(
        &mut self,
        map: &str,
        value_size: u32,
        known: bool,
    ) -> Result<V, Unreadable> {
        let records: Vec<(u32, V)> = self.records(&Table::plain(map, value_size), known)?;
        match records.into_iter().next() {
            Some((_, value)) => Ok(value),
            None => Err(Unreadable::Truncated {
                path: self.path(map),
                error: Truncated {
                    record: u32::SIZE + V::SIZE,
                    left: 0,
                },
            }),
        }
    }

    /// All records of a map. `known` is whether it is of the layout that this version writes.
    fn records<K: Declared, V: Declared>(
        &mut self,
        table: &Table,
        known: bool,
    ) -> Result<Vec<(K, V)>, Unreadable> {
        let path = self.path(table.map);
        // Of a size that no map of ours has, none is whole.
        let value_size = table.value_size.min(Self::BUFFER as u32 / 2) as usize;
        match self.way {
            Way::Iterator => self.of_iterator(&path, value_size),
            Way::Text => {
                let form = Form::new::<K, V>(table.shape, value_size, known);
                self.of_text(&path, &form)
            }
        }
    }

    /// Decodes while reading, so that the raw bytes of a large map are never there as a whole.
    fn of_iterator<K: Declared, V: Declared>(
        &mut self,
        path: &Path,
        value_size: usize,
    ) -> Result<Vec<(K, V)>, Unreadable> {
        let mut file = open(path)?;
        let mut records = Vec::new();
        let mut left = 0;
        loop {
            let read = match file.read(&mut self.buffer[left..]) {
                Ok(0) => break,
                Ok(read) => read,
                // The kernel says "again" after a million entries without output.
                Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {
                    continue;
                }
                Err(error) => return Err(Unreadable::new("reading", path, error)),
            };
            let filled = left + read;
            left = abi::read_records(&self.buffer[..filled], value_size, &mut records).len();
            self.buffer.copy_within(filled - left..filled, 0);
        }
        match left {
            0 => Ok(records),
            left => Err(Unreadable::Truncated {
                path: path.into(),
                error: Truncated {
                    record: K::SIZE + value_size,
                    left,
                },
            }),
        }
    }

    fn of_text<K: Declared, V: Declared>(
        &mut self,
        path: &Path,
        form: &Form,
    ) -> Result<Vec<(K, V)>, Unreadable> {
        let value_size = form.record() - K::SIZE;
        for _ in 0..Self::TRIES {
            let mut records = Vec::new();
            let read = form.read(open(path)?, &mut self.buffer, |record| {
                abi::read_records(record, value_size, &mut records);
            });
            match read {
                Ok(()) => return Ok(records),
                Err(text::Error::Torn) => {}
                Err(text::Error::Io(error)) => {
                    return Err(Unreadable::new("reading", path, error));
                }
                Err(error) => {
                    let path = path.into();
                    return Err(Unreadable::Text { path, error });
                }
            }
        }
        Err(Unreadable::Text {
            path: path.into(),
            error: text::Error::Torn,
        })
    }
}

/// Whether maps are of the layout that this version writes.
fn is_known(info: &Info) -> bool {
    info.layout == LAYOUT_VERSION
}
