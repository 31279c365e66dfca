//! Keys and values one behind the other, as an iterator writes them.

use std::fmt;

use super::layout::Layout;

/// Bytes that end within a record.
#[derive(Debug, PartialEq, Eq)]
pub struct Truncated {
    /// Bytes of a record: key and value.
    pub record: usize,
    /// How many bytes were left after the last whole record.
    pub left: usize,
}

impl fmt::Display for Truncated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { record, left } = self;
        write!(
            f,
            "expected whole records of {record} bytes, found {left} bytes after the last one"
        )
    }
}

impl std::error::Error for Truncated {}

/// Takes what is known of a value off the front of bytes that may be another version's: values grow
/// at their end, and fields that a value does not have are 0.
pub fn read_grown<V: Layout>(bytes: &[u8]) -> V {
    let mut known = vec![0; V::SIZE];
    let n = bytes.len().min(V::SIZE);
    known[..n].copy_from_slice(&bytes[..n]);
    V::read(&mut known.as_slice()).expect("all bytes of it")
}

/// Appends the records at the front of `bytes`, each a key and a value of `value_size` bytes with
/// nothing between, and returns the bytes left over, fewer than a record.
pub fn read_records<'a, K: Layout, V: Layout>(
    bytes: &'a [u8],
    value_size: usize,
    records: &mut Vec<(K, V)>,
) -> &'a [u8] {
    let whole = bytes.chunks_exact(K::SIZE + value_size);
    let left = whole.remainder();
    records.extend(whole.filter_map(|mut record| {
        let key = K::read(&mut record)?;
        let value = match value_size {
            n if n < V::SIZE => read_grown(record),
            _ => V::read(&mut record)?,
        };
        Some((key, value))
    }));
    left
}

/// All records of `bytes`, which must hold nothing else.
///
/// # Errors
///
/// [`Truncated`] when a part of a record is left over.
pub fn decode<K: Layout, V: Layout>(bytes: &[u8]) -> Result<Vec<(K, V)>, Truncated> {
    let record = K::SIZE + V::SIZE;
    let mut records = Vec::with_capacity(bytes.len() / record);
    match read_records(bytes, V::SIZE, &mut records) {
        [] => Ok(records),
        rest => Err(Truncated {
            record,
            left: rest.len(),
        }),
    }
}
