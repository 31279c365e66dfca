//! All records of one map, in either way.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use super::way::Way;
use crate::abi::{self, Declared, Truncated};
use crate::kernel::pin_dir::EpochDir;
use crate::read::text::{self, Form, Shape};
use crate::read::unreadable::Unreadable;

/// How often a map is read as text until no key in it was being written. Programs write a key once
/// in its life, within nanoseconds, and the kernel reads it within microseconds.
const TRIES: usize = 16;

/// A map, with the size of its values and the shape of its lines as text.
pub struct Table<'a> {
    pub map: &'a str,
    /// Bytes of a value.
    pub value_size: u32,
    pub shape: Shape,
}

impl<'a> Table<'a> {
    pub fn plain(map: &'a str, value_size: u32) -> Self {
        Self {
            map,
            value_size,
            shape: Shape::Plain,
        }
    }

    /// All records of the map in an epoch's folder. `known` is whether the map is of the layout that
    /// this version writes. The buffer is for what is read at a time.
    ///
    /// # Errors
    /// [`Unreadable`], if the map can't be read, or is not whole.
    pub fn records<K: Declared, V: Declared>(
        &self,
        epoch: &EpochDir,
        way: Way,
        known: bool,
        buffer: &mut [u8],
    ) -> Result<Vec<(K, V)>, Unreadable> {
        let path = way.path(epoch, self.map);
        // If the size is one that no map of ours has, no record is whole.
        let value_size = (self.value_size as usize).min(buffer.len() / 2);
        match way {
            Way::Iterator => of_iterator(&path, value_size, buffer),
            Way::Text => {
                let form = Form::new::<K, V>(self.shape, value_size, known);
                of_text(&path, &form, buffer)
            }
        }
    }
}

/// struct metric_entry: `pad2` and `check` are behind the value.
pub const METRIC_ENTRY: Shape = Shape::Entry {
    between: 0,
    behind: 2,
};
/// struct request_entry: `latency` and `check` are before the value.
pub const REQUEST_ENTRY: Shape = Shape::Entry {
    between: 2,
    behind: 0,
};
/// struct latency_entry: `pad` and `check` are before the value.
pub const LATENCY_ENTRY: Shape = Shape::Entry {
    between: 2,
    behind: 0,
};

/// Opens the file that has a map's records.
///
/// # Errors
/// [`Unreadable`], if it can't be opened.
pub fn open(path: &Path) -> Result<File, Unreadable> {
    File::open(path).map_err(|error| Unreadable::new("opening", path, error))
}

/// The records of an iterator, decoded while it is read, so that the raw bytes of a large map
/// are never there as a whole.
fn of_iterator<K: Declared, V: Declared>(
    path: &Path,
    value_size: usize,
    buffer: &mut [u8],
) -> Result<Vec<(K, V)>, Unreadable> {
    let mut file = open(path)?;
    let mut records = Vec::new();
    let mut left = 0;
    loop {
        let read = match file.read(&mut buffer[left..]) {
            Ok(0) => break,
            Ok(read) => read,
            // The kernel says "again" after a million entries without output.
            Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {
                continue;
            }
            Err(error) => return Err(Unreadable::new("reading", path, error)),
        };
        let filled = left + read;
        left = abi::read_records(&buffer[..filled], value_size, &mut records).len();
        buffer.copy_within(filled - left..filled, 0);
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
    path: &Path,
    form: &Form,
    buffer: &mut [u8],
) -> Result<Vec<(K, V)>, Unreadable> {
    let value_size = form.record() - K::SIZE;
    for _ in 0..TRIES {
        let mut records = Vec::new();
        let read = form.read(open(path)?, buffer, |record| {
            abi::read_records(record, value_size, &mut records);
        });
        match read {
            Ok(()) => return Ok(records),
            Err(text::Error::Torn) => {}
            Err(error) => return Err(Unreadable::of_text(path, error)),
        }
    }
    Err(Unreadable::of_text(path, text::Error::Torn))
}
