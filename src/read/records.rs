//! The records of the pinned maps, read like files: no `bpf()` call, no capability, and maps that
//! were replaced since the last reading are found by themselves.
//!
//! There are two ways. Where the kernel takes programs of the type TRACING, metricd-init pins an
//! iterator beside each map, which writes the map's raw records to whoever reads it. Elsewhere the
//! map's own pin is read, of which the kernel makes text: [`crate::read::text`] makes the records
//! that an iterator would write of it. What comes behind is one piece of code for both ways.

#![forbid(unsafe_code)]

mod table;
mod way;

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use crate::abi::{
    Counters, Declared, DnsKey, DnsValue, FIRST_AS_TEXT, FIRST_LAYOUT, FIRST_WITH_MORE,
    HandshakeKey, HandshakeValue, Info, LAYOUT_VERSION, LatencyKey, LatencyValue, Layout,
    MetricKey, MetricValue, PROOF, RequestKey, RequestValue, RouteEntry, Truncated,
};
use crate::kernel::maps::{
    COUNTERS, DNS, EXPORTED, HANDSHAKE, INFO, LATENCY, LATENCY_MORE, METRICS, METRICS_MORE,
    REQUESTS, REQUESTS_MORE, ROUTES,
};
use crate::kernel::options::ReadBy;
use crate::kernel::pin_dir::EpochDir;
use crate::read::text::{self, Shape};
use crate::read::unreadable::Unreadable;
use table::{LATENCY_ENTRY, METRIC_ENTRY, REQUEST_ENTRY, Table, open};

pub use way::Way;

/// Reads the maps of an epoch, one after the other through one buffer.
pub struct Reader<'a> {
    epoch: &'a EpochDir,
    way: Way,
    buffer: Vec<u8>,
}

impl<'a> Reader<'a> {
    /// The size of the buffer in bytes. A read of an iterator gives up to 8 pages, whatever room
    /// there is beyond; a line of text may be as long as the buffer.
    const BUFFER: usize = 64 << 10;

    /// Lets `read` have an epoch's maps. If metricd-init takes away the iterators meanwhile, `read`
    /// is called once more with the maps as text, as which they can always be read.
    ///
    /// # Errors
    /// [`Unreadable`], if `read` fails.
    pub fn each_way<T>(
        epoch: &'a EpochDir,
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
        match with(way) {
            Err(gone @ Unreadable::Waiting { .. })
                if by == ReadBy::Auto && way == Way::Iterator =>
            {
                match with(Way::Text) {
                    // The epoch is of an earlier version, or not whole.
                    Err(Unreadable::NoText { .. } | Unreadable::Waiting { .. }) => Err(gone),
                    result => result,
                }
            }
            // The epoch is of an earlier version, whose maps can't be read as text: it always has
            // iterators.
            Err(Unreadable::NoText { .. }) if epoch.has_iterators() => with(Way::Iterator),
            Err(Unreadable::Waiting { path })
                if by == ReadBy::Iterator && epoch.map_path(INFO).exists() =>
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

    /// The info map, which must be known before anything else can be read.
    ///
    /// # Errors
    /// [`Unreadable`], if the info map can't be read, or is of a version that can't be.
    pub fn info(&mut self) -> Result<Info, Unreadable> {
        let path = self.path(INFO);
        let (layout, size) = match self.way {
            Way::Iterator => self.info_head(&path)?,
            Way::Text => self.info_head_of_text(&path)?,
        };
        match (self.way, layout) {
            // metricd-init writes the layout last.
            (_, 0) => return Err(Unreadable::Waiting { path }),
            (_, found) if found < FIRST_LAYOUT => return Err(Unreadable::Layout { path, found }),
            (Way::Text, found) if found < FIRST_AS_TEXT => {
                return Err(Unreadable::NoText { path, found });
            }
            _ => {}
        }
        let info: Info = self.single(INFO, size, layout == LAYOUT_VERSION)?;
        if self.way == Way::Text && info.proof != PROOF {
            return Err(Unreadable::of_text(&path, text::Error::Unproved));
        }
        Ok(info)
    }

    /// Layout and size of the info, read from an iterator: another layout may have another size.
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

    /// Layout and size of the info, read from text. Layouts that can't be read as text have
    /// characters behind these numbers, so the rest of the line is left alone here.
    fn info_head_of_text(&mut self, path: &Path) -> Result<(u32, u32), Unreadable> {
        text::head(open(path)?, &mut self.buffer)
            .map(|[layout, _, size]| (layout, size))
            .map_err(|error| Unreadable::of_text(path, error))
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
            // Read as text, a map also has its unused elements.
            .filter(|(_, entry)| entry.text[0] != 0)
            .map(|(number, entry)| (*number as u16, entry.path()))
            .collect())
    }

    /// Checks that all maps that reading takes can be opened.
    ///
    /// # Errors
    /// [`Unreadable`], if the info map can't be read, or another map can't be opened.
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

    fn records<K: Declared, V: Declared>(
        &mut self,
        table: &Table,
        known: bool,
    ) -> Result<Vec<(K, V)>, Unreadable> {
        table.records(self.epoch, self.way, known, &mut self.buffer)
    }
}

/// Whether maps are of the layout that this version writes.
fn is_known(info: &Info) -> bool {
    info.layout == LAYOUT_VERSION
}
