//! The text that bpffs makes of a pinned map whose types are known to the kernel by BTF, turned into
//! the records that an iterator over that map would write.
//!
//! Whoever may read the pin gets a line for each element, without a program, a `bpf()` call or a
//! capability (Linux: `bpffs_map_seq_ops` of kernel/bpf/inode.c, `btf_type_seq_show` of
//! kernel/bpf/btf.c; hashes since 4.19). Comments begin with `#`. An element is `KEY: VALUE`; in
//! arrays the key is the element's number. Every integer of a struct is a decimal number and a comma
//! behind it, in the order in which C declares them:
//!
//! ```text
//! # WARNING!! The output is for debug purpose only
//! 0: {{[0,0,],[0,0,],0,80,6,1,0,0,},{12,3,0,},0,0,2654435769,}
//! ```
//!
//! The braces of structs in arrays are not balanced, so nothing is read from braces. The kernel calls
//! this form debug output that may change. Therefore every character and the number of integers in
//! every line are checked here, keys are checked by [`key_check`], and [`crate::abi::PROOF`] shows
//! that numbers mean what they are taken for.

#![forbid(unsafe_code)]

use std::{
    fmt,
    io::{self, ErrorKind, Read},
};

use crate::abi::{Declared, Layout, key_check};

/// Where a line has key and value.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// `KEY: VALUE`.
    Plain,
    /// `NUMBER: {KEY,BETWEEN,VALUE,BEHIND}`, with `between` integers between key and value, and
    /// `behind` integers behind the value. The last integer between, or where there are none the
    /// last of the line, is the key's [`key_check`], or 0 in an element that nobody uses.
    Entry { between: usize, behind: usize },
}

/// What the integers of a map's lines are.
pub struct Form {
    shape: Shape,
    /// Bytes of each integer of a key.
    key: Vec<usize>,
    value: Vec<usize>,
    /// Whether a line may have no more integers than those of `key` and `value`.
    exact: bool,
}

/// What a line held.
enum Line {
    /// A record, which was appended.
    Record,
    /// An element in nobody's use.
    Unused,
    /// A key that was being written while the kernel read it.
    Torn,
}

impl Form {
    /// The form of a map with keys `K` and values `V`, whose values have `value_size` bytes. Values
    /// grow at their end. With `exact` nothing is accepted that this version does not know.
    pub fn new<K: Declared, V: Declared>(shape: Shape, value_size: usize, exact: bool) -> Self {
        let mut form = Self {
            shape,
            key: Vec::new(),
            value: Vec::new(),
            exact,
        };
        K::widths(&mut form.key);
        V::widths(&mut form.value);
        let mut end = 0;
        form.value.retain(|width| {
            end += width;
            end <= value_size
        });
        form
    }

    /// Bytes of a record: the key, and what is known of the value.
    pub fn record(&self) -> usize {
        self.key.iter().chain(&self.value).sum()
    }

    /// Calls `each` with the bytes of every record in `text`, which is read through `buffer`.
    ///
    /// # Errors
    /// [`Error`], if the text can't be read; then what `each` has got is worth nothing.
    pub fn read(
        &self,
        text: impl Read,
        buffer: &mut [u8],
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), Error> {
        let mut record = Vec::with_capacity(self.record());
        lines(text, buffer, |line| {
            record.clear();
            match self.line(line, &mut record) {
                Some(Line::Record) => each(&record),
                Some(Line::Unused) => {}
                Some(Line::Torn) => return Err(Error::Torn),
                None => return Err(self.foreign(line)),
            }
            Ok(())
        })
    }

    /// Appends the bytes of a line's record. `None` if the line has another form.
    fn line(&self, line: &[u8], record: &mut Vec<u8>) -> Option<Line> {
        let colon = colon(line)?;
        let (mut before, mut numbers) = (Numbers(&line[..colon]), Numbers(&line[colon + 2..]));
        match self.shape {
            Shape::Plain => {
                before.append(&self.key, record)?;
                numbers.append(&self.value, record)?;
                let more = numbers.rest()?.0;
                (before.rest()?.0 == 0 && (more == 0 || !self.exact)).then_some(Line::Record)
            }
            Shape::Entry { between, behind } => {
                before.next()?;
                numbers.append(&self.key, record)?;
                let key = record.len();
                let mut check = 0;
                for _ in 0..between {
                    check = numbers.next()?;
                }
                numbers.append(&self.value, record)?;
                let (more, last) = numbers.rest()?;
                if between == 0 {
                    check = last?;
                }
                if before.rest()?.0 > 0 || (self.exact && more != behind) {
                    return None;
                }
                Some(match check {
                    0 => Line::Unused,
                    check if check == u64::from(key_check(&record[..key])) => Line::Record,
                    _ => Line::Torn,
                })
            }
        }
    }

    fn foreign(&self, line: &[u8]) -> Error {
        foreign(line, self.key.len() + self.value.len())
    }
}

/// The first integers of the first element's value, whatever comes behind them.
///
/// # Errors
/// [`Error`], if the text can't be read, or does not begin with `N` integers.
pub fn head<const N: usize>(text: impl Read, buffer: &mut [u8]) -> Result<[u32; N], Error> {
    let mut head = None;
    lines(text, buffer, |line| {
        if head.is_none() {
            let colon = colon(line).ok_or_else(|| foreign(line, N))?;
            let mut numbers = Numbers(&line[colon + 2..]);
            let mut integers = [0; N];
            for integer in &mut integers {
                let number = numbers.next().and_then(|number| number.try_into().ok());
                *integer = number.ok_or_else(|| foreign(line, N))?;
            }
            head = Some(integers);
        }
        Ok(())
    })?;
    head.ok_or_else(|| foreign(b"", N))
}

/// Calls `each` with every line that is no comment, without its newline.
fn lines(
    mut text: impl Read,
    buffer: &mut [u8],
    mut each: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut left = 0;
    loop {
        let filled = match text.read(&mut buffer[left..]) {
            // The last line has no newline, or a line is longer than the buffer.
            Ok(0) if left > 0 => return Err(foreign(&buffer[..left], 0)),
            Ok(0) => return Ok(()),
            Ok(read) => left + read,
            Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {
                continue;
            }
            Err(error) => return Err(Error::Io(error)),
        };
        let mut rest = &buffer[..filled];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line = &rest[..end];
            rest = &rest[end + 1..];
            if !line.starts_with(b"#") {
                each(line)?;
            }
        }
        left = rest.len();
        buffer.copy_within(filled - left..filled, 0);
    }
}

/// Where the key ends.
fn colon(line: &[u8]) -> Option<usize> {
    line.windows(2).position(|two| two == b": ")
}

fn foreign(line: &[u8], integers: usize) -> Error {
    const SHOWN: usize = 64;
    let mut shown = String::from_utf8_lossy(&line[..line.len().min(SHOWN)]).into_owned();
    if line.len() > SHOWN {
        shown.push('…');
    }
    Error::Foreign {
        line: shown,
        integers,
    }
}

/// Integers, each with a comma behind it or at the end, and braces between them.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    /// The next integer. `None` if there is none, or something else.
    fn next(&mut self) -> Option<u64> {
        let braces = self.0.iter().position(|byte| !b"{}[],".contains(byte))?;
        let from = &self.0[braces..];
        let mut value: u64 = 0;
        let mut digits = 0;
        while let Some(digit @ b'0'..=b'9') = from.get(digits) {
            value = value
                .checked_mul(10)?
                .checked_add(u64::from(digit - b'0'))?;
            digits += 1;
        }
        self.0 = match (digits, from.get(digits)) {
            (0, _) => return None,
            (_, Some(b',')) => &from[digits + 1..],
            (_, None) => &[],
            _ => return None,
        };
        Some(value)
    }

    /// Appends integers of these sizes as they lie in memory. `None` if there are fewer, or one is
    /// too great for its size.
    fn append(&mut self, widths: &[usize], out: &mut Vec<u8>) -> Option<()> {
        for width in widths {
            let value = self.next()?;
            match width {
                1 => out.push(value.try_into().ok()?),
                2 => u16::try_from(value).ok()?.write(out),
                4 => u32::try_from(value).ok()?.write(out),
                _ => value.write(out),
            }
        }
        Some(())
    }

    /// How many integers are left, and the last of them. `None` if there is something else.
    fn rest(&mut self) -> Option<(usize, Option<u64>)> {
        let (mut left, mut last) = (0, None);
        while self.0.iter().any(|byte| !b"{}[],".contains(byte)) {
            last = Some(self.next()?);
            left += 1;
        }
        Some((left, last))
    }
}

/// Why a map's text can't be read.
#[derive(Debug)]
pub enum Error {
    Io(io::Error),
    /// A key does not belong to its check. Once in a while a key is read while it is being written.
    Torn,
    /// A line of another form.
    Foreign {
        /// The beginning of the line.
        line: String,
        /// How many integers of the line are known; there may be others between and behind them.
        integers: usize,
    },
    /// [`crate::abi::PROOF`] does not hold.
    Unproved,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Torn => f.write_str("keys do not belong to their checks"),
            Self::Foreign { line, integers } => write!(
                f,
                "expected lines of decimal integers, of which {integers} are known, found \"{line}\""
            ),
            Self::Unproved => f.write_str("known values of the info map read as others"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
pub(crate) mod fixture;

#[cfg(test)]
mod tests;
