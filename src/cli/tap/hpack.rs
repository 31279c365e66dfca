//! What HEADERS frames of a client say: HPACK, RFC 7541, whose dynamic table is known only as far as
//! it has been seen being filled.
//!
//! An entry is known by how many were inserted before it, which the kernel's side counts. So where
//! something was missed it is known which entries are not known, and nothing is mistaken for another.
//! Sizes and evictions need not be followed: an encoder refers to nothing that was evicted.

#![forbid(unsafe_code)]

use std::collections::VecDeque;

use httlib_huffman::DecoderSpeed;

/// Entries of the static table.
const STATIC: usize = 61;
/// Entries of the dynamic table that are kept: a table of 64 KB holds no more.
const KEPT: usize = 2048;

/// A header field, as far as it matters; a name of no interest is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: Vec<u8>,
    pub value: Vec<u8>,
}

/// The dynamic table of one direction of a connection.
#[derive(Debug, Default)]
pub struct Table {
    /// The newest first; `None` was inserted unseen.
    entries: VecDeque<Option<Field>>,
    /// How many entries were inserted so far.
    inserted: u32,
}

impl Table {
    /// The known fields of a block, or of its beginning, before which `inserted` entries had been
    /// inserted.
    pub fn decode(&mut self, inserted: u32, block: &[u8]) -> Vec<Field> {
        self.align(inserted);
        let mut rest = Bytes(block);
        let mut fields = Vec::new();
        // What is cut short says nothing.
        while let Some(field) = self.field(&mut rest) {
            fields.extend(field);
        }
        fields
    }

    /// Accounts for what was inserted unseen.
    fn align(&mut self, inserted: u32) {
        let missed = inserted.wrapping_sub(self.inserted);
        if missed.cast_signed() < 0 {
            self.entries.clear();
        } else {
            for _ in 0..missed.min(KEPT as u32) {
                self.insert(None);
            }
        }
        self.inserted = inserted;
    }

    fn insert(&mut self, field: Option<Field>) {
        self.entries.push_front(field);
        self.entries.truncate(KEPT);
        self.inserted = self.inserted.wrapping_add(1);
    }

    /// The next field, which may be one that is not known; `None` at the end.
    fn field(&mut self, rest: &mut Bytes) -> Option<Option<Field>> {
        let first = rest.0.first().copied()?;
        // RFC 7541 sections 6.1, 6.2.1, 6.3, and 6.2.2 with 6.2.3.
        if first & 0x80 != 0 {
            let index = rest.integer(7)?;
            return Some(self.entry(index));
        }
        if first & 0xe0 == 0x20 {
            rest.integer(5)?;
            return Some(None);
        }
        let inserts = first & 0x40 != 0;
        let name = match rest.integer(if inserts { 6 } else { 4 })? {
            0 => Some(rest.string()?),
            index => self.entry(index).map(|field| field.name),
        };
        let value = rest.string()?;
        let field = name.map(|name| Field { name, value });
        if inserts {
            self.insert(field.clone());
        }
        Some(field)
    }

    fn entry(&self, index: usize) -> Option<Field> {
        match index {
            0 => None,
            1..=STATIC => Some(fixed(index)),
            _ => self.entries.get(index - STATIC - 1)?.clone(),
        }
    }
}

/// A field of the static table, RFC 7541 appendix A, if it is one that matters.
fn fixed(index: usize) -> Field {
    let (name, value): (&[u8], &[u8]) = match index {
        1 => (b":authority", b""),
        2 => (b":method", b"GET"),
        3 => (b":method", b"POST"),
        4 => (b":path", b"/"),
        5 => (b":path", b"/index.html"),
        31 => (b"content-type", b""),
        _ => (b"", b""),
    };
    Field {
        name: name.to_vec(),
        value: value.to_vec(),
    }
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    /// Reads an integer, which has `bits` bits in its first byte: RFC 7541 section 5.1.
    fn integer(&mut self, bits: u8) -> Option<usize> {
        let mask = (1u8 << bits) - 1;
        let first = self.take(1)?[0] & mask;
        let mut value = usize::from(first);
        if first < mask {
            return Some(value);
        }
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.take(1)?[0];
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// Reads a string: RFC 7541 section 5.2.
    fn string(&mut self) -> Option<Vec<u8>> {
        let is_huffman = self.0.first()? & 0x80 != 0;
        let len = self.integer(7)?;
        let bytes = self.take(len)?;
        if !is_huffman {
            return Some(bytes.to_vec());
        }
        let mut text = Vec::new();
        httlib_huffman::decode(bytes, &mut text, DecoderSpeed::FiveBits).ok()?;
        Some(text)
    }
}
