//! Where what lies, in words of 64 bits in the machine's byte order, in a file or in the elements of a
//! BPF array, one behind the other. Of interest to those who read a table by themselves.
//!
//! | element | what |
//! |---|---|
//! | 0 | the header |
//! | 1 to C | a claim word for each slot, [`ELEMENT`] to an element |
//! | C + 1 to C + slots | the slots |
//! | C + slots + 1 | the slot for what did not fit |
//!
//! An element takes 5 cache lines. A slot's first has the key and the sums, the others the buckets.

use std::net::IpAddr;

use crate::{Protocol, Request};

/// Buckets of a histogram: one for each bound, one for what exceeds all bounds, and the rest
/// unused.
pub const BUCKETS: usize = 32;
/// [`Key::grpc_status`] where there is none.
pub const GRPC_STATUS_NONE: u8 = 0xff;
/// Upper bounds of a new table's histograms, inclusive, in nanoseconds: 100 µs to 60 s. The
/// kernel's histograms have these bounds, too, unless other ones are asked for.
pub const BOUNDS_NS: [u64; 18] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];

/// Words of an element.
pub const ELEMENT: usize = 40;
/// Bytes of an element.
pub const ELEMENT_SIZE: usize = 8 * ELEMENT;
/// The most slots there can be: a file of 21 MB.
pub const MAX_SLOTS: usize = 1 << 16;

const MAGIC: u64 = u64::from_ne_bytes(*b"linkd_l7");
/// The version of the layout. Of a table with another version nothing is known but the magic.
const VERSION: u64 = 1;

/// Words of the header.
mod header {
    pub const MAGIC: usize = 0;
    pub const VERSION: usize = 1;
    pub const SLOTS: usize = 2;
    pub const BOUNDS: usize = 3;
    pub const MISSED: usize = 4;
    /// [`super::BUCKETS`] upper bounds, ascending, in nanoseconds, from `BOUNDS` on `u64::MAX`.
    pub const BOUNDS_NS: usize = 8;
}

/// Requests that were made while their proxy had no table: a word of the header.
pub const MISSED: usize = header::MISSED;

/// Words of a slot.
pub mod slot {
    /// [`super::Key`].
    pub const KEY: usize = 0;
    pub const SUM_NS: usize = 5;
    pub const SENT: usize = 6;
    pub const RECEIVED: usize = 7;
    /// [`super::BUCKETS`] buckets, of which each request is in one.
    pub const BUCKETS: usize = 8;
}

/// What a reader and a writer must know of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub slots: usize,
    /// How many bounds the histograms have.
    pub bounds: usize,
    /// The upper bounds of the histograms, inclusive, in nanoseconds, with `u64::MAX` behind them.
    pub bounds_ns: [u64; BUCKETS],
}

impl Header {
    /// The header of a new table, with the histograms' usual bounds.
    pub fn new(slots: usize) -> Self {
        let mut bounds_ns = [u64::MAX; BUCKETS];
        bounds_ns[..BOUNDS_NS.len()].copy_from_slice(&BOUNDS_NS);
        Self {
            slots,
            bounds: BOUNDS_NS.len(),
            bounds_ns,
        }
    }

    pub fn words(&self) -> [u64; ELEMENT] {
        let mut words = [0; ELEMENT];
        words[header::MAGIC] = MAGIC;
        words[header::VERSION] = VERSION;
        words[header::SLOTS] = self.slots as u64;
        words[header::BOUNDS] = self.bounds as u64;
        words[header::BOUNDS_NS..].copy_from_slice(&self.bounds_ns);
        words
    }

    /// Reads a header that another process has written.
    ///
    /// # Errors
    ///
    /// What is wrong with the header, in words that go on after the name of the file or map.
    pub fn parse(words: &[u64]) -> Result<Self, String> {
        let Some(words) = words.first_chunk::<ELEMENT>() else {
            return Err("is too short for a table of requests".into());
        };
        if words[header::MAGIC] != MAGIC {
            return Err("is not a table of requests".into());
        }
        if words[header::VERSION] != VERSION {
            return Err(format!(
                "is a table of requests of version {}, this is for version {VERSION}",
                words[header::VERSION]
            ));
        }
        let (slots, bounds) = (words[header::SLOTS], words[header::BOUNDS]);
        let mut bounds_ns = [0; BUCKETS];
        bounds_ns.copy_from_slice(&words[header::BOUNDS_NS..]);
        let usual = (1..=MAX_SLOTS as u64).contains(&slots)
            && (1..BUCKETS as u64).contains(&bounds)
            && bounds_ns[..bounds as usize].is_sorted_by(|a, b| a < b)
            && bounds_ns[bounds as usize..]
                .iter()
                .all(|ns| *ns == u64::MAX);
        if !usual {
            return Err("is a damaged table of requests: its header makes no sense".into());
        }
        Ok(Self {
            slots: slots as usize,
            bounds: bounds as usize,
            bounds_ns,
        })
    }

    /// How many elements the whole table has.
    pub fn elements(&self) -> usize {
        1 + self.slots.div_ceil(ELEMENT) + self.slots + 1
    }

    /// The word that says to whom a slot belongs.
    pub fn claim(&self, slot: usize) -> usize {
        ELEMENT + slot
    }

    /// The first word of a slot. The slot of number [`Self::slots`] is for what did not fit.
    pub fn slot(&self, slot: usize) -> usize {
        ELEMENT * (1 + self.slots.div_ceil(ELEMENT) + slot)
    }

    /// The number of the bucket for a duration.
    pub fn bucket(&self, ns: u64) -> usize {
        // Behind the last bound there are only bounds that nothing exceeds.
        self.bounds_ns.partition_point(|bound| *bound < ns)
    }
}

/// What is spoken: [`Key::protocol`], in the numbers that the kernel side uses.
pub mod protocol {
    pub const HTTP1: u8 = 1;
    pub const HTTP2: u8 = 2;
    pub const GRPC: u8 = 3;
}

/// What requests are added up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// IPv4 addresses are mapped (RFC 4291, 2.5.5.2).
    pub src: [u8; 16],
    pub dst: [u8; 16],
    pub dst_port: u16,
    /// 0 is none.
    pub status: u16,
    /// See [`protocol`].
    pub protocol: u8,
    /// Or [`GRPC_STATUS_NONE`].
    pub grpc_status: u8,
}

/// A key as it lies in a slot.
pub type KeyWords = [u64; 5];

impl Key {
    pub fn of(request: &Request) -> Self {
        Self {
            src: mapped(request.src),
            dst: mapped(request.dst.ip()),
            dst_port: request.dst.port(),
            status: request.status,
            protocol: match request.protocol {
                Protocol::Http1 => protocol::HTTP1,
                Protocol::Http2 => protocol::HTTP2,
                Protocol::Grpc => protocol::GRPC,
            },
            grpc_status: request.grpc_status.unwrap_or(GRPC_STATUS_NONE),
        }
    }

    pub fn words(&self) -> KeyWords {
        let [a, b] = halves(self.src);
        let [c, d] = halves(self.dst);
        let rest = u64::from(self.dst_port)
            | u64::from(self.status) << 16
            | u64::from(self.protocol) << 32
            | u64::from(self.grpc_status) << 40;
        [a, b, c, d, rest]
    }

    pub fn from_words([a, b, c, d, rest]: KeyWords) -> Self {
        Self {
            src: joined([a, b]),
            dst: joined([c, d]),
            dst_port: rest as u16,
            status: (rest >> 16) as u16,
            protocol: (rest >> 32) as u8,
            grpc_status: (rest >> 40) as u8,
        }
    }
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn halves(bytes: [u8; 16]) -> [u64; 2] {
    let both = u128::from_ne_bytes(bytes);
    [both as u64, (both >> 64) as u64]
}

fn joined([low, high]: [u64; 2]) -> [u8; 16] {
    (u128::from(low) | u128::from(high) << 64).to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;
    use std::time::Duration;

    #[test]
    fn keys_survive_being_written() {
        let request = Request {
            src: "10.1.2.3".parse().unwrap(),
            dst: "[2001:db8::5]:8443".parse().unwrap(),
            protocol: Protocol::Grpc,
            status: 200,
            grpc_status: Some(14),
            duration: Duration::ZERO,
            sent: 0,
            received: 0,
        };
        let key = Key::of(&request);
        assert_eq!(
            key.src,
            "::ffff:10.1.2.3".parse::<Ipv6Addr>().unwrap().octets()
        );
        assert_eq!((key.dst_port, key.status, key.grpc_status), (8443, 200, 14));
        assert_eq!(Key::from_words(key.words()), key);
        let mapped = Request {
            src: "::ffff:10.1.2.3".parse().unwrap(),
            grpc_status: None,
            ..request
        };
        let mapped = Key::of(&mapped);
        assert_eq!(
            (mapped.src, mapped.grpc_status),
            (key.src, GRPC_STATUS_NONE)
        );
        assert_ne!(mapped.words(), key.words());
    }

    #[test]
    fn bounds_are_inclusive() {
        let header = Header::new(1);
        for (ns, bucket) in [
            (0, 0),
            (100_000, 0),
            (100_001, 1),
            (60_000_000_000, 17),
            (60_000_000_001, 18),
            (u64::MAX, 18),
        ] {
            assert_eq!(header.bucket(ns), bucket, "{ns}");
        }
    }

    #[test]
    fn nothing_overlaps() {
        for slots in [1, 39, 40, 41, 1024] {
            let header = Header::new(slots);
            assert_eq!(header.claim(0), ELEMENT);
            assert!(header.claim(slots - 1) < header.slot(0));
            assert_eq!(header.slot(slots) + ELEMENT, header.elements() * ELEMENT);
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let good = Header::new(5);
        assert_eq!(Header::parse(&good.words()), Ok(good.clone()));
        for (word, value, problem) in [
            (header::MAGIC, 0, "is not a table"),
            (header::VERSION, 2, "of version 2"),
            (header::SLOTS, 0, "damaged"),
            (header::SLOTS, MAX_SLOTS as u64 + 1, "damaged"),
            (header::BOUNDS, 0, "damaged"),
            (header::BOUNDS, 32, "damaged"),
            (header::BOUNDS, u64::MAX, "damaged"),
            (header::BOUNDS_NS + 3, 1, "damaged"),
            (header::BOUNDS_NS + 31, 1, "damaged"),
        ] {
            let mut words = good.words();
            words[word] = value;
            let error = Header::parse(&words).unwrap_err();
            assert!(error.contains(problem), "{word}: {error}");
        }
        assert!(Header::parse(&good.words()[1..]).is_err());
    }
}
