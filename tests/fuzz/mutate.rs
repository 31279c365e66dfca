//! What goes wrong with an input: with its bytes, and with the packets that they come in.

use proptest::prelude::*;
use proptest::test_runner::TestRng;

use crate::frame::{ACK, FIN, PSH, RST, SYN};
use crate::input::{Conversation, Input, Segment};

/// Bytes that mean something somewhere.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b" HTTP/1.1\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"HEAD / HTTP/1.1\r\n\r\n",
    b"CONNECT a HTTP/1.1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 101 \r\nUpgrade: h2c\r\n\r\n",
    b"HTTP/1.1 103 \r\n\r\n",
    b"HTTP/1.1 204 \r\n\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 18446744073709551615\r\n",
    b"Content-Length: 999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Upgrade: h2c\r\n",
    b"ffffffffffffffff\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\0\0\0\x04\0\0\0\0\0",
    b"\0\0\0\x04\x01\0\0\0\0",
    b"\0\0\x03\x01\x05\0\0\0\x01\x82\x86\x84",
    b"\0\0\x01\x01\x05\0\0\0\x01\x88",
    b"\0\0\x01\x01\x04\0\0\0\x03\x89",
    b"\0\0\x01\x01\0\0\0\0\x01\x88",
    b"\0\0\x01\x09\x04\0\0\0\x01\x89",
    b"\0\0\0\0\x01\0\0\0\x01",
    b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08",
    b"\0\0\x08\x07\0\0\0\0\0\0\0\0\x01\0\0\0\0",
    b"\x40\x0agrpc-statu\x010",
    b"\x00\x0bgrpc-status\x0212",
    b"\x5f\x10application/grpc",
    b"\x48\x03418",
    b"\x7f\xff\xff\xff\xff\x0f",
    b"\xff\xff\xff\xff\x0f",
    b"\x3f\xe1\x1f",
    b"\xbe",
];

const NUMBERS: [u32; 20] = [
    0,
    1,
    2,
    3,
    4,
    5,
    9,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x3fff,
    0x4000,
    0x4001,
    0xffff,
    0x10000,
    0x7f_ffff,
    0xff_ffff,
    0x7fff_ffff,
    u32::MAX,
];

const SHIFTS: [u32; 14] = [
    1,
    2,
    3,
    100,
    1448,
    1 << 14,
    1 << 16,
    1 << 17,
    (1 << 17) + 1,
    1 << 20,
    1 << 30,
    1 << 31,
    u32::MAX,
    u32::MAX - 99,
];

/// A number below `n`, or 0.
pub fn below(rng: &mut TestRng, n: usize) -> usize {
    rng.random_range(0..n.max(1))
}

pub fn one_in(rng: &mut TestRng, n: usize) -> bool {
    below(rng, n) == 0
}

pub fn pick<T: Copy>(rng: &mut TestRng, all: &[T]) -> T {
    all[below(rng, all.len())]
}

/// Mostly few.
fn few(rng: &mut TestRng, most: usize) -> usize {
    let most = 1 + below(rng, most);
    1 + below(rng, most)
}

/// Changes bytes in one way, and returns where, and how many there are more or less.
fn once(rng: &mut TestRng, bytes: &mut Vec<u8>, other: &[u8]) -> (usize, isize) {
    let before = bytes.len();
    let at = below(rng, before + 1);
    let end = (at + few(rng, 64)).min(before);
    match below(rng, 9) {
        0 if at < before => bytes[at] ^= 1 << below(rng, 8),
        1 if at < before => bytes[at] = rng.random_range(0..=255),
        2 => {
            bytes.drain(at..end);
        }
        3 => {
            let part = bytes[at..end].to_vec();
            let to = below(rng, before + 1);
            bytes.splice(to..to, part);
            return (to, (end - at) as isize);
        }
        4 => {
            let word = pick(rng, WORDS);
            bytes.splice(at..at, word.iter().copied());
        }
        5 => {
            // As a number of one to four bytes, as those of frames and of HPACK are.
            let number = pick(rng, &NUMBERS).to_be_bytes();
            let width = 1 + below(rng, 4);
            for (byte, new) in bytes[at..].iter_mut().zip(&number[4 - width..]) {
                *byte = *new;
            }
        }
        6 => {
            // The digits at or behind it, as those of lengths and statuses are.
            let is_digit = |byte: &u8| byte.is_ascii_digit();
            if let Some(from) = bytes[at..].iter().position(is_digit) {
                let from = at + from;
                let len = bytes[from..].iter().take_while(|b| is_digit(b)).count();
                let text = if one_in(rng, 2) {
                    pick(rng, &NUMBERS).to_string()
                } else {
                    below(rng, 1000).to_string()
                };
                let change = text.len() as isize - len as isize;
                bytes.splice(from..from + len, text.into_bytes());
                return (from, change);
            }
        }
        7 => {
            // Another's bytes.
            let from = below(rng, other.len());
            let to = (from + few(rng, 400)).min(other.len());
            bytes.splice(at..at, other[from..to].iter().copied());
        }
        _ => {
            // Another's end.
            let from = below(rng, other.len());
            bytes.truncate(at);
            bytes.extend(&other[from..]);
        }
    }
    (at, bytes.len() as isize - before as isize)
}

/// The same for any bytes.
pub fn bytes(rng: &mut TestRng, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..few(rng, 8) {
        once(rng, bytes, other);
    }
}

/// Changes a stream, and keeps its packets where they were.
fn stream(rng: &mut TestRng, input: &mut Input, other: &Input) {
    let conversation = below(rng, input.conversations.len());
    let role = below(rng, 2);
    let from = &other.conversations[below(rng, other.conversations.len())];
    let from = &from.streams[if one_in(rng, 8) { 1 - role } else { role }];
    let stream = &mut input.conversations[conversation].streams[role];
    let (at, change) = once(rng, stream, from);
    let len = stream.len();
    let moved = |place: usize| {
        if place > at {
            place.saturating_add_signed(change).clamp(at, len)
        } else {
            place.min(len)
        }
    };
    let mine = |s: &&mut Segment| s.conversation == conversation && s.role as usize == role;
    for segment in input.segments.iter_mut().filter(mine) {
        segment.bytes = moved(segment.bytes.start)..moved(segment.bytes.end);
    }
    // What has been appended is said, too.
    let mine = |s: &&mut Segment| s.conversation == conversation && s.role as usize == role;
    if let Some(last) = input.segments.iter_mut().rfind(mine) {
        last.bytes.end = len.max(last.bytes.start);
    }
}

/// Cuts a packet in two.
fn cut(rng: &mut TestRng, input: &mut Input) {
    let i = below(rng, input.segments.len());
    let Some(segment) = input.segments.get_mut(i) else {
        return;
    };
    let mut second = segment.clone();
    // Often near its ends.
    let len = segment.bytes.len();
    let at = match below(rng, 4) {
        0 => below(rng, len.min(12) + 1),
        1 => len - below(rng, len.min(12) + 1),
        _ => below(rng, len + 1),
    };
    let at = segment.bytes.start + at;
    segment.bytes.end = at;
    second.bytes.start = at;
    input.segments.insert(i + 1, second);
}

/// Changes which packets there are, in which order, as a network could.
fn order(rng: &mut TestRng, input: &mut Input) {
    let n = input.segments.len();
    let i = below(rng, n);
    if n == 0 {
        return;
    }
    match below(rng, 8) {
        0..4 => cut(rng, input),
        4 => {
            let to = (i + few(rng, 5)).min(n - 1);
            let segment = input.segments.remove(i);
            input.segments.insert(to, segment);
        }
        5 => {
            let again = input.segments[i].clone();
            let to = (i + few(rng, 5)).min(n);
            input.segments.insert(to, again);
        }
        6 => {
            // With some of what was sent before, or comes after.
            let len = input.conversations[input.segments[i].conversation].streams
                [input.segments[i].role as usize]
                .len();
            let segment = &mut input.segments[i];
            segment.bytes.start -= below(rng, segment.bytes.start.min(200) + 1);
            if one_in(rng, 3) {
                segment.bytes.end += below(rng, (len - segment.bytes.end).min(200) + 1);
            }
        }
        _ => {
            let size = 1 + below(rng, 1500);
            let known = one_in(rng, 2);
            input.segments[i].gso = Some((size, known));
        }
    }
}

/// Changes packets as no network does.
fn unsound(rng: &mut TestRng, input: &mut Input) {
    let i = below(rng, input.segments.len());
    if input.segments.is_empty() {
        return;
    }
    match below(rng, 6) {
        0 | 1 => {
            input.segments.remove(i);
        }
        2 => {
            input.segments[i].flags = if one_in(rng, 2) {
                ACK | pick(rng, &[FIN, SYN, RST, PSH, FIN | SYN, FIN | RST])
            } else {
                rng.random_range(0..=255)
            };
        }
        3 => {
            let shift = if one_in(rng, 3) {
                rng.random_range(0..=u32::MAX)
            } else {
                pick(rng, &SHIFTS)
            };
            input.segments[i].shift[usize::from(one_in(rng, 5))] = shift;
        }
        4 => input.segments[i].cut = Some(14 + below(rng, 100)),
        _ => {
            let at = below(rng, 54 + 32);
            let byte = rng.random_range(0..=255);
            input.segments[i].faults.push((at, byte));
        }
    }
}

/// Whether a byte of a frame says whose packet it is: the header's length, addresses and ports.
fn is_identity(at: usize, v6: bool) -> bool {
    if v6 {
        (22..58).contains(&at)
    } else {
        at == 14 || (26..38).contains(&at)
    }
}

/// Cuts all that is said anew, into packets that a network could make of it: what one side says
/// until the other speaks may come in another order, twice, or with what was sent before.
fn network(rng: &mut TestRng, input: &mut Input) {
    let mut known = vec![[0; 2]; input.conversations.len()];
    let mut all = Vec::new();
    let stretches = input
        .segments
        .chunk_by(|a, b| (a.conversation, a.role) == (b.conversation, b.role));
    for stretch in stretches {
        let Segment {
            conversation, role, ..
        } = stretch[0];
        let from = &mut known[conversation][role as usize];
        let end = stretch.iter().map(|s| s.bytes.end).max().unwrap_or(0);
        let len = end.saturating_sub(*from);
        let mut cuts: Vec<usize> = match below(rng, 4) {
            0 => (0..len).step_by(1 + below(rng, 30).max(len / 60)).collect(),
            1 => Vec::new(),
            _ => (0..few(rng, 7)).map(|_| below(rng, len)).collect(),
        };
        cuts.extend([0, len]);
        cuts.sort_unstable();
        cuts.dedup();
        let at = cuts.iter().zip(&cuts[1..]);
        let mut parts: Vec<_> = at
            .map(|(a, b)| Segment::new(conversation, role, *from + a..*from + b))
            .collect();
        if parts.len() <= 8 && one_in(rng, 2) {
            for _ in 0..few(rng, 8) {
                let (a, b) = (below(rng, parts.len()), below(rng, parts.len()));
                if a < parts.len() && b < parts.len() {
                    parts.swap(a, b);
                }
            }
        }
        for mut part in parts {
            if one_in(rng, 12) {
                part.bytes.start -= below(rng, part.bytes.start.min(200) + 1);
            }
            if one_in(rng, 12) {
                part.gso = Some((1 + below(rng, 1500), one_in(rng, 2)));
            }
            if one_in(rng, 12) {
                all.push(part.clone());
            }
            all.push(part);
        }
        *from += len;
    }
    input.segments = all;
}

/// Adds another's conversations, at the same time.
fn beside(rng: &mut TestRng, input: &mut Input, other: &Input) {
    let first = input.conversations.len();
    if first + other.conversations.len() > 3 {
        return;
    }
    input
        .conversations
        .extend(other.conversations.iter().cloned());
    let mut at = 0;
    for segment in &other.segments {
        at = (at + below(rng, 3)).min(input.segments.len());
        let mut segment = segment.clone();
        segment.conversation += first;
        input.segments.insert(at, segment);
        at += 1;
    }
}

/// Most bytes of a stream, and packets of an input.
const LARGEST: usize = 40_000;
const PACKETS: usize = 400;

/// Most bytes of payload that BPF_PROG_TEST_RUN takes.
const PAYLOAD: usize = 3000;

pub fn input(rng: &mut TestRng, input: &mut Input, other: &Input) {
    input.wild = one_in(rng, 10);
    let conversation = below(rng, input.conversations.len());
    let conversation = &mut input.conversations[conversation];
    conversation.inbound = one_in(rng, 2);
    conversation.v6 = one_in(rng, 3);
    conversation.handshake = !one_in(rng, 30);
    if one_in(rng, 10) {
        beside(rng, input, other);
    }
    if !one_in(rng, 4) {
        for _ in 0..few(rng, 10) {
            stream(rng, input, other);
        }
    }
    // As often as not the packets are what a network makes of what is said.
    if !input.wild && one_in(rng, 2) {
        network(rng, input);
    } else {
        let most = if one_in(rng, 3) { 40 } else { 6 };
        for _ in 0..few(rng, most) {
            order(rng, input);
        }
        for _ in 0..below(rng, 6) {
            unsound(rng, input);
        }
    }
    for conversation in &mut input.conversations {
        conversation
            .streams
            .iter_mut()
            .for_each(|s| s.truncate(LARGEST));
    }
    tidy(input);
}

/// What holds for every input: packets are not too large, say what there is, and are, unless it is
/// wild, of its connections.
fn tidy(input: &mut Input) {
    let mut segments = Vec::new();
    for mut segment in input.segments.drain(..) {
        let Conversation { v6, streams, .. } = &input.conversations[segment.conversation];
        segment
            .faults
            .retain(|f| input.wild || !is_identity(f.0, *v6));
        let len = streams[segment.role as usize].len();
        segment.bytes.end = segment.bytes.end.min(len);
        segment.bytes.start = segment.bytes.start.min(segment.bytes.end);
        while segment.bytes.len() > PAYLOAD {
            let mut first = segment.clone();
            first.bytes.end = first.bytes.start + PAYLOAD;
            segment.bytes.start = first.bytes.end;
            segments.push(first);
        }
        segments.push(segment);
    }
    segments.truncate(PACKETS);
    input.segments = segments;
}
