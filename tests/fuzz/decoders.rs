//! What user space decodes: the records that iterators write, the text that the kernel makes of maps,
//! the exposition of both, and what clients say to the server.

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use metricd::abi::{
    Counters, Declared, DnsKey, DnsValue, HandshakeKey, HandshakeValue, Info, LatencyKey,
    LatencyValue, Layout, MetricKey, MetricValue, PROOF, RequestKey, RequestValue, RouteEntry,
    decode, key_check, series_kind,
};
use metricd::kernel::maps;
use metricd::kernel::options::ReadBy;
use metricd::kernel::pin_dir::PinDir;
use metricd::read::prometheus::{Exposition, Format};
use metricd::read::snapshot::Snapshot;
use metricd::read::unreadable::Unreadable;
use metricd::sidecar::{Server, SidecarConfig};
use metricd::web;
use proptest::prelude::*;
use proptest::test_runner::TestRng;

use crate::input::{escape, unescape};
use crate::mutate::{self, below, one_in, pick};

/// The iterators, with the sizes of their records.
const FILES: [(&str, usize); 8] = [
    (maps::INFO, 4 + Info::SIZE),
    (maps::COUNTERS, 4 + Counters::SIZE),
    (maps::METRICS, MetricKey::SIZE + MetricValue::SIZE),
    (maps::REQUESTS, RequestKey::SIZE + RequestValue::SIZE),
    (maps::ROUTES, 4 + RouteEntry::SIZE),
    (maps::LATENCY, LatencyKey::SIZE + LatencyValue::SIZE),
    (maps::HANDSHAKE, HandshakeKey::SIZE + HandshakeValue::SIZE),
    (maps::DNS, DnsKey::SIZE + DnsValue::SIZE),
];

/// Bytes of [`Info`] that say which layout it is, and how long records are.
const SIZES: usize = 8 * 4;

/// What is read.
#[derive(Clone, Debug)]
pub enum Text {
    /// What iterators write, by the number in FILES.
    Files(Vec<Vec<u8>>),
    /// What bpffs shows of the maps, likewise.
    Shown(Vec<Vec<u8>>),
    /// What a client says to the server.
    Said(Vec<u8>),
}

impl Text {
    pub fn parse(text: &str) -> Self {
        let (mut files, mut shown) = (Vec::new(), Vec::new());
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("file", bytes)) => files.push(unescape(bytes)),
                Some(("shown", bytes)) => shown.push(unescape(bytes)),
                Some(("said", bytes)) => return Self::Said(unescape(bytes)),
                _ => {}
            }
        }
        match shown.is_empty() {
            true => Self::Files(files),
            false => Self::Shown(shown),
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(files) => files
                .iter()
                .try_for_each(|bytes| writeln!(f, "file {}", escape(bytes))),
            Self::Shown(files) => files
                .iter()
                .try_for_each(|bytes| writeln!(f, "shown {}", escape(bytes))),
            Self::Said(bytes) => writeln!(f, "said {}", escape(bytes)),
        }
    }
}

/// Bytes in which small numbers and zeros are as frequent as in what the kernel writes.
fn records(rng: &mut TestRng, size: usize) -> Vec<u8> {
    let records = below(rng, 5);
    let mut all = Vec::new();
    while all.len() < records * size {
        match below(rng, 4) {
            0 => all.extend([0; 4]),
            1 => all.push(below(rng, 8) as u8),
            2 => all.push(rng.random_range(0..=255)),
            _ => all.extend([pick(rng, &[0xff, 0, 1, 80]); 4]),
        }
    }
    all.truncate(records * size);
    if one_in(rng, 3) {
        // The same key again.
        all.extend_from_within(..size.min(all.len()));
    }
    if one_in(rng, 5) {
        let other = all.clone();
        mutate::bytes(rng, &mut all, &other);
    }
    all
}

const REQUESTS: [&str; 7] = [
    "GET /metrics HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip;q=0.5, identity\r\n\r\n",
    "GET /metrics?created=true HTTP/1.1\r\nHost: a\r\nAccept: application/openmetrics-text;version=\"1.0.0\";q=0.5,application/vnd.google.protobuf;q=0.4,*/*;q=0.1\r\n\r\n",
    "GET /ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /live HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    "PUT /live HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

pub fn text(rng: &mut TestRng) -> Text {
    if one_in(rng, 4) {
        let mut said = Vec::new();
        for _ in 0..1 + below(rng, 3) {
            said.extend(pick(rng, &REQUESTS).bytes());
        }
        let other = pick(rng, &REQUESTS);
        mutate::bytes(rng, &mut said, other.as_bytes());
        return Text::Said(said);
    }
    let mut files: Vec<_> = FILES.iter().map(|(_, size)| records(rng, *size)).collect();
    // Mostly what the reader goes on with.
    if !one_in(rng, 10) {
        for (file, (_, size)) in files.iter_mut().zip(FILES).take(2) {
            file.resize(size, 0);
        }
        files[0][4..4 + SIZES].copy_from_slice(&Info::current().to_bytes()[..SIZES]);
        if one_in(rng, 4) {
            // Another version's, whose records are longer or shorter.
            let place = 4 + 4 * below(rng, SIZES / 4);
            files[0][place] = files[0][place].wrapping_add(pick(rng, &[1, 8, 0xf8, 0x80]));
        }
    }
    if one_in(rng, 2) {
        return shown(rng, &mut files);
    }
    Text::Files(files)
}

/// The integers of something, as they stand in a struct.
fn integers<T: Declared>(bytes: &mut &[u8]) -> String {
    let mut widths = Vec::new();
    T::widths(&mut widths);
    let mut text = String::new();
    for width in widths {
        let mut word = [0; 8];
        let (integer, rest) = bytes.split_at(width);
        word[..width].copy_from_slice(integer);
        *bytes = rest;
        text += &format!("{},", u64::from_le_bytes(word));
    }
    text
}

/// An element that is found by its key.
fn plain<K: Declared, V: Declared>(_: usize, mut record: &[u8]) -> String {
    let key = match K::SIZE {
        4 => integers::<K>(&mut record).trim_end_matches(',').to_owned(),
        _ => format!("{{{}}}", integers::<K>(&mut record)),
    };
    format!("{key}: {{{}}}\n", integers::<V>(&mut record))
}

/// An element that is found by number, with `between` and `behind` before the check of its key.
fn entry<K: Declared, V: Declared>(
    number: usize,
    mut record: &[u8],
    between: &str,
    behind: &str,
) -> String {
    let check = match number % 4 {
        3 => 0,
        _ => key_check(&record[..K::SIZE]),
    };
    let (key, value) = (integers::<K>(&mut record), integers::<V>(&mut record));
    match behind {
        "" => format!("{number}: {{{{{key}}},{between}{check},{{{value}}},}}\n"),
        behind => format!("{number}: {{{{{key}}},{{{value}}},{behind}{check},}}\n"),
    }
}

/// What bpffs would show of maps with such records, in the order of FILES; some of it changed.
fn shown(rng: &mut TestRng, files: &mut [Vec<u8>]) -> Text {
    if let Some(proof) = files[0].get_mut(4 + Info::SIZE - PROOF.to_bytes().len()..4 + Info::SIZE) {
        proof.copy_from_slice(&PROOF.to_bytes());
    }
    let lines: [fn(usize, &[u8]) -> String; FILES.len()] = [
        plain::<u32, Info>,
        plain::<u32, Counters>,
        |n, r| entry::<MetricKey, MetricValue>(n, r, "", "0,0,"),
        |n, r| entry::<RequestKey, RequestValue>(n, r, "7,", ""),
        plain::<u32, RouteEntry>,
        |n, r| entry::<LatencyKey, LatencyValue>(n, r, "0,", ""),
        plain::<HandshakeKey, HandshakeValue>,
        plain::<DnsKey, DnsValue>,
    ];
    let mut texts = Vec::new();
    for ((line, bytes), (_, size)) in lines.iter().zip(files).zip(FILES) {
        let records = bytes.chunks_exact(size).enumerate();
        let mut text = String::from("# WARNING!! The output is for debug purpose only\n");
        text.extend(records.map(|(number, record)| line(number, record)));
        texts.push(text.into_bytes());
    }
    if one_in(rng, 2) {
        let at = below(rng, texts.len());
        let other = pick(
            rng,
            &[
                &b"0x1,"[..],
                b"18446744073709551616,",
                b"{},",
                b"\n0: {1,}\n",
            ],
        );
        mutate::bytes(rng, &mut texts[at], other);
    }
    Text::Shown(texts)
}

/// No number is read that is not there: what was read of series, by a reading of the text that knows
/// nothing of its form but digits.
fn check_shown(text: &[u8], snapshot: &Snapshot) {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let shown: Vec<Vec<u64>> = lines
        .map(|line| {
            let numbers = line.split(|c: char| !c.is_ascii_digit());
            numbers.filter_map(|number| number.parse().ok()).collect()
        })
        .collect();
    for (key, value) in &snapshot.metrics {
        let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|i| key.src[at + i]));
        let (opened, midstream) = (value.opened, value.lost.midstream);
        let is_there = shown.iter().any(|numbers| {
            numbers.get(1..3) == Some(&[word(0), word(8)])
                && numbers.get(11) == Some(&opened)
                && numbers.get(43) == Some(&midstream)
        });
        // What did not fit is added up.
        assert!(
            is_there || key.kind == series_kind::OTHER,
            "{key:?} {value:?} was not there"
        );
    }
}

/// A server, with files where the iterators would be.
pub struct Decoders {
    dir: PinDir,
    address: SocketAddr,
}

impl Decoders {
    pub fn start() -> Self {
        let dir = std::env::temp_dir().join(format!("metricd-fuzz-{}", std::process::id()));
        let dir = PinDir::new(dir);
        fs::create_dir_all(dir.epoch(1).path()).expect("make a folder");
        let config = SidecarConfig {
            pin_dir: dir.clone(),
            listen: "127.0.0.1:0".parse().expect("an address"),
            read: ReadBy::Auto,
            l7_file: None,
            show_idle: Duration::ZERO,
        };
        let (send, address) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            web::runtime().expect("a runtime").block_on(async {
                let server = Server::bind(config).expect("an address");
                send.send(server.local_addr().expect("an address"))
                    .expect("who started it");
                server.serve(std::future::pending()).await;
            });
        });
        let address = address.recv().expect("a server");
        Self { dir, address }
    }

    pub fn play(&self, text: &Text) {
        match text {
            Text::Files(files) => {
                for ((map, _), bytes) in FILES.iter().zip(files) {
                    fs::write(self.dir.epoch(1).iterator_path(map), bytes).expect("write a file");
                }
                // Routes are only read where there are any, and of DNS the size is anything.
                let whole = FILES.iter().zip(files).all(|(f, bytes)| {
                    bytes.len() % f.1 == 0 || [maps::ROUTES, maps::DNS].contains(&f.0)
                });
                let snapshot = Snapshot::read(&self.dir, ReadBy::Iterator);
                let ours = Info::current().to_bytes();
                if snapshot.is_ok() && files[0].get(4..4 + SIZES) == Some(&ours[..SIZES]) {
                    assert!(whole, "records that are not whole were read");
                }
                expose(snapshot);
                for bytes in files {
                    let _ = decode::<MetricKey, MetricValue>(bytes);
                    let _ = decode::<u32, Info>(bytes);
                }
            }
            Text::Shown(files) => {
                let epoch = self.dir.epoch(1);
                for map in maps::EXPORTED {
                    let at = FILES.iter().position(|(name, _)| *name == map);
                    let text = at.map_or(&[][..], |at| &files[at]);
                    fs::write(epoch.map_path(map), text).expect("write a file");
                }
                let snapshot = Snapshot::read(&self.dir, ReadBy::Text);
                // Of a value that is shorter, the rest is 0.
                if let Ok(snapshot) = &snapshot
                    && snapshot.info.metrics_size as usize >= MetricValue::SIZE
                {
                    check_shown(&files[2], snapshot);
                }
                expose(snapshot);
            }
            Text::Said(said) => {
                self.say(said, true);
                let live = "GET /live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
                let answer = self.say(live.as_bytes(), false);
                assert!(
                    answer.starts_with(b"HTTP/1.1 200 OK\r\n"),
                    "it answers no more: {}",
                    escape(&answer)
                );
            }
        }
    }

    /// Says all there is, and with `shut` that it is all, then reads to the end. What is under way
    /// when the client has shut its side is not always answered.
    fn say(&self, said: &[u8], shut: bool) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).expect("the server listens");
        let timeout = Some(Duration::from_secs(20));
        stream.set_read_timeout(timeout).expect("set a timeout");
        // It may close before it has all.
        let _ = stream.write_all(said);
        if shut {
            let _ = stream.shutdown(Shutdown::Write);
        }
        let mut answer = Vec::new();
        if let Err(error) = stream.read_to_end(&mut answer) {
            assert_eq!(
                error.kind(),
                std::io::ErrorKind::ConnectionReset,
                "no end of the answer"
            );
        }
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1."),
            "{}",
            escape(&answer[..answer.len().min(100)])
        );
        answer
    }
}

impl Drop for Decoders {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.dir.path());
    }
}

/// Shows what was read, or why it could not be, in each format.
fn expose(snapshot: Result<Snapshot, Unreadable>) {
    let reading = snapshot
        .map(Arc::new)
        .map_err(|e| format!("{e}\n{}", e.reason()));
    let page = |format| -> Vec<u8> {
        let pieces = Exposition::new(reading.clone(), None, format);
        pieces.flatten().collect()
    };
    check(&page(Format::Text));
    check_open_metrics(&page(Format::OpenMetrics { created: true }));
    check_messages(&page(Format::Protobuf));
}

/// Is it the text format but for units and the end?
fn check_open_metrics(text: &[u8]) {
    let text = std::str::from_utf8(text).expect("UTF-8");
    let lines = text.strip_suffix("# EOF\n").expect("an end");
    let lines = lines.split_inclusive('\n');
    let lines: String = lines.filter(|line| !line.starts_with("# UNIT ")).collect();
    check(lines.as_bytes());
}

/// Does each message have its length before it?
fn check_messages(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let size = bytes
            .iter()
            .position(|byte| *byte < 0x80)
            .expect("a length")
            + 1;
        let digits = bytes[..size].iter().rev();
        let length = digits.fold(0, |length, digit| length << 7 | usize::from(digit & 0x7f));
        bytes = bytes[size..].get(length..).expect("a whole message");
    }
}

/// Is it the text format of Prometheus?
fn check(text: &[u8]) {
    let text = std::str::from_utf8(text).expect("UTF-8");
    assert!(text.ends_with('\n'));
    let mut families = Vec::new();
    for line in text.lines() {
        let wrong = || panic!("not a line of the text format: {line:?}");
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (kind, name) = (words.next(), words.next().unwrap_or_default());
            match (kind, words.next()) {
                (Some("HELP"), Some(_)) => {}
                (Some("TYPE"), Some("counter" | "gauge" | "histogram")) => {
                    assert!(!families.contains(&name), "{name} twice");
                    families.push(name);
                }
                _ => wrong(),
            }
            continue;
        }
        let name_len = line
            .bytes()
            .take_while(|b| b.is_ascii_alphanumeric() || *b == b'_')
            .count();
        let (name, mut rest) = line.split_at(name_len);
        let family = families.last().copied().unwrap_or_default();
        if !name.starts_with(family) || family.is_empty() {
            wrong();
        }
        if let Some(labels) = rest.strip_prefix('{') {
            rest = labels;
            loop {
                let Some((label, value)) = rest.split_once("=\"") else {
                    return wrong();
                };
                assert!(
                    !label.is_empty() && label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                    "{line}"
                );
                rest = value;
                loop {
                    let Some(at) = rest.find(['"', '\\']) else {
                        return wrong();
                    };
                    let quote = rest.as_bytes()[at] == b'"';
                    rest = &rest[at + 1..];
                    if quote {
                        break;
                    }
                    match rest.strip_prefix(['\\', '"', 'n']) {
                        Some(behind) => rest = behind,
                        None => wrong(),
                    }
                }
                if let Some(behind) = rest.strip_prefix('}') {
                    rest = behind;
                    break;
                }
                match rest.strip_prefix(',') {
                    Some(behind) => rest = behind,
                    None => wrong(),
                }
            }
        }
        let number = rest.strip_prefix(' ').and_then(|n| n.parse::<f64>().ok());
        if number.is_none() {
            wrong();
        }
    }
}
