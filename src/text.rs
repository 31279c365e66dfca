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
    /// `NUMBER: {KEY,BETWEEN,VALUE,BEHIND}`, with so many integers between and behind. The last of
    /// those between, or where there are none the last of the line, is the key's [`key_check`], or 0
    /// in an element that nobody uses.
    Entry { between: usize, behind: usize },
}

/// What the integers of a map's lines are.
pub struct Form {
    shape: Shape,
    /// Bytes of each integer of a key, and of what is known of a value.
    key: Vec<usize>,
    value: Vec<usize>,
    /// Whether a line may have no more integers than those.
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
    /// Of a map with these keys and values, of which the latter have `value_size` bytes. Values grow
    /// at their end. With `exact` nothing is accepted that this version does not know.
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
    /// [`Error`]; then what `each` has got is worth nothing.
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
/// [`Error`].
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
    /// The next one. `None` if there is none, or something else.
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

    /// How many are left, and the last of them. `None` if there is something else.
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
    /// A key does not belong to its check. Once in a while one is read while it is being written.
    Torn,
    /// A line of another form.
    Foreign {
        /// Its beginning.
        line: String,
        /// How many integers of it are known, between and behind which there may be others.
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

/// Writing the form, for tests.
#[cfg(test)]
pub(crate) mod fixture {
    use super::*;

    /// What bpffs writes in front.
    pub const HEAD: &str = "# WARNING!! The output is for debug purpose only\n\
                            # WARNING!! The output format will change\n";

    /// The integers of something, as they stand in a struct.
    pub fn integers<T: Declared>(value: &T) -> String {
        let bytes = value.to_bytes();
        let mut widths = Vec::new();
        T::widths(&mut widths);
        let mut at = 0;
        let mut text = String::new();
        for width in widths {
            let mut word = [0; 8];
            word[..width].copy_from_slice(&bytes[at..at + width]);
            at += width;
            text += &format!("{},", u64::from_le_bytes(word));
        }
        text
    }

    /// The line of an element that is found by its key.
    pub fn plain<K: Declared, V: Declared>(key: &K, value: &V) -> String {
        let key = match K::SIZE {
            ..=8 => integers(key).trim_end_matches(',').to_owned(),
            _ => format!("{{{}}}", integers(key)),
        };
        format!("{key}: {{{}}}\n", integers(value))
    }

    /// The line of an element that is found by number.
    pub fn entry<T: Declared>(number: usize, entry: &T) -> String {
        format!("{number}: {{{}}}\n", integers(entry))
    }
}

#[cfg(test)]
mod tests {
    use super::{fixture::*, *};
    use crate::abi::{HandshakeKey, Info, LatencyPair, MetricEntry, MetricKey, MetricValue, PROOF};

    fn read<K: Layout, V: Layout>(form: &Form, text: &str) -> Result<Vec<(K, V)>, Error> {
        let mut records = Vec::new();
        form.read(text.as_bytes(), &mut [0; 4096], |mut record| {
            records.push((K::read(&mut record).unwrap(), V::read(&mut record).unwrap()));
        })?;
        Ok(records)
    }

    fn pairs(text: &str) -> Result<Vec<(u32, LatencyPair)>, Error> {
        read(&Form::new::<u32, LatencyPair>(Shape::Plain, 16, true), text)
    }

    fn is_foreign<T: fmt::Debug>(result: Result<T, Error>) -> bool {
        matches!(result, Err(Error::Foreign { .. }))
    }

    #[test]
    fn integers_come_in_the_order_of_their_declaration() {
        let text = format!("{HEAD}3: {{7,18446744073709551615,}}\n");
        let pair = LatencyPair {
            duration: 7,
            ttfb: u64::MAX,
        };
        assert_eq!(pairs(&text).unwrap(), [(3, pair)]);
        assert_eq!(pairs(HEAD).unwrap(), []);
        assert_eq!(pairs("").unwrap(), []);
    }

    #[test]
    fn keys_of_several_integers_stand_before_the_colon() {
        let form = Form::new::<HandshakeKey, u64>(Shape::Plain, 8, true);
        let [(key, value)] = read::<HandshakeKey, u64>(&form, "{[0,256,],80,2,3,}: {5,}\n")
            .unwrap()
            .try_into()
            .unwrap();
        assert_eq!((key.peer[8..10].to_vec(), value), (vec![0, 1], 5));
        assert_eq!((key.port, key.direction, key.kind), (80, 2, 3));
        for key in [
            "{[0,256,],80,2,}",
            "{[0,256,],80,2,3,4,}",
            "{[0,256,],65536,2,3,}",
        ] {
            let text = format!("{key}: {{5,}}\n");
            assert!(is_foreign(read::<HandshakeKey, u64>(&form, &text)), "{key}");
        }
    }

    #[test]
    fn another_form_is_refused() {
        for line in [
            "0: {1,}",            // too few
            "0: {1,2,3,}",        // too many
            "0: {1,0x2,}",        // in hexadecimal
            "0: {1,a,}",          // a letter
            "0: {1,-2,}",         // a sign
            "0: {1,.ttfb=2,}",    // with names
            "0: {1,'2',}",        // a character
            "0: {1 2,}",          // nothing between
            "0: {1,2}",           // no comma
            "0: {1,2,} # two",    // something behind
            "0: {1,2,",           // torn off, without a newline
            "0 {1,2,}",           // no colon
            "0: 1: {2,3,}",       // two
            "-1: {1,2,}",         // no number before it
            "4294967296: {1,2,}", // too great a number
            "0: {1,18446744073709551616,}",
            "{0,1,}: {1,2,}",
            "",
        ] {
            let newline = if line.ends_with("2,") { "" } else { "\n" };
            let read = pairs(&format!("{HEAD}{line}{newline}"));
            assert!(is_foreign(read), "{line:?}");
        }
        let long = format!("0: {{{}", "1,".repeat(3000));
        assert!(is_foreign(pairs(&long)));
    }

    #[test]
    fn errors_show_the_line() {
        let error = pairs(&format!("0: {{1,name=\"{}\",}}\n", "x".repeat(100))).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("3 are known, found \"0: {1,name=\"xxx"),
            "{text}"
        );
        assert!(text.ends_with("xxx…\""), "{text}");
    }

    #[test]
    fn reads_may_end_anywhere() {
        /// A byte at a time, with interruptions.
        struct Slowly<'a>(&'a [u8], bool);

        impl Read for Slowly<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.1 = !self.1;
                if self.1 {
                    return Err(ErrorKind::Interrupted.into());
                }
                let n = 1.min(buffer.len());
                self.0.read(&mut buffer[..n])
            }
        }

        let text = format!("{HEAD}0: {{1,2,}}\n1: {{3,4,}}\n");
        let form = Form::new::<u32, LatencyPair>(Shape::Plain, 16, true);
        let mut records = 0;
        let slowly = Slowly(text.as_bytes(), false);
        form.read(slowly, &mut [0; 64], |_| records += 1).unwrap();
        assert_eq!(records, 2);
    }

    const ENTRY: Shape = Shape::Entry {
        between: 0,
        behind: 3,
    };

    fn metric() -> MetricEntry {
        let mut entry = MetricEntry::default();
        entry.key.src[15] = 7;
        entry.key.direction = 1;
        entry.value.opened = u64::MAX;
        entry.value.lost.midstream = 9;
        entry.check = key_check(&entry.key.to_bytes());
        entry
    }

    #[test]
    fn elements_in_use_are_told_by_the_check_of_their_key() {
        let form = Form::new::<MetricKey, MetricValue>(ENTRY, MetricValue::SIZE, true);
        let used = metric();
        let text = entry(0, &MetricEntry::default()) + &entry(1, &used);
        let records = read::<MetricKey, MetricValue>(&form, &text).unwrap();
        assert_eq!(records, [(used.key, used.value)]);
        for word in 0..MetricKey::SIZE / 8 {
            let mut bytes = used.to_bytes();
            bytes[word * 8..][..8].fill(0);
            let torn = MetricEntry::read(&mut bytes.as_slice()).unwrap();
            let result = read::<MetricKey, MetricValue>(&form, &entry(1, &torn));
            // The source's first half is zero anyway.
            assert_eq!(matches!(result, Err(Error::Torn)), torn != used, "{word}");
        }
    }

    #[test]
    fn values_may_have_grown_where_the_layout_is_another() {
        let used = metric();
        let text = entry(0, &used).replace("9,0,0,", "9,77,0,0,");
        for (exact, whole) in [(true, false), (false, true)] {
            let form = Form::new::<MetricKey, MetricValue>(ENTRY, MetricValue::SIZE + 8, exact);
            let read = read::<MetricKey, MetricValue>(&form, &text);
            assert_eq!(read.is_ok_and(|r| r == [(used.key, used.value)]), whole);
        }
        // Of a layout before the last field was there.
        let form = Form::new::<u32, LatencyPair>(Shape::Plain, 8, false);
        assert_eq!(form.record(), 12);
    }

    #[test]
    fn the_proof_holds_in_this_form_alone() {
        let mut info = Info::current();
        info.layout = u32::MAX;
        let form = Form::new::<u32, Info>(Shape::Plain, Info::SIZE, true);
        let line = plain(&0u32, &info);
        assert_eq!(read::<u32, Info>(&form, &line).unwrap(), [(0, info)]);
        let digits = integers(&PROOF);
        assert!(line.contains(&digits));
        let in_hex: Vec<String> = digits
            .split_terminator(',')
            .map(|number| format!("{:x}", number.parse::<u64>().unwrap()))
            .collect();
        let signed = digits.replace("18446744073709551615", "-1");
        let without_zeros = digits.replace(",0,", ",");
        let mut backwards: Vec<&str> = digits.split_terminator(',').collect();
        backwards.reverse();
        for other in [
            in_hex.join(",") + ",",
            signed,
            without_zeros,
            backwards.join(",") + ",",
        ] {
            let text = line.replace(&digits, &other);
            let proved = read::<u32, Info>(&form, &text).is_ok_and(|r| r[0].1.proof == PROOF);
            assert!(!proved, "{other}");
        }
    }
}
