//! What user space decodes: the records that iterators write, the text that is made of them, and
//! what clients say to the server.

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use metricd::abi::{
    Counters, DnsKey, DnsValue, HandshakeKey, HandshakeValue, Info, LatencyKey, LatencyValue,
    Layout, MetricKey, MetricValue, RequestKey, RequestValue, RouteEntry, decode,
};
use metricd::maps::{self, Snapshot};
use metricd::metrics::Exposition;
use metricd::pins;
use metricd::server::{self, Config, Server};
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
    /// By the number in FILES.
    Files(Vec<Vec<u8>>),
    /// What a client says to the server.
    Said(Vec<u8>),
}

impl Text {
    pub fn parse(text: &str) -> Self {
        let mut files = Vec::new();
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("file", bytes)) => files.push(unescape(bytes)),
                Some(("said", bytes)) => return Self::Said(unescape(bytes)),
                _ => {}
            }
        }
        Self::Files(files)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(files) => files
                .iter()
                .try_for_each(|bytes| writeln!(f, "file {}", escape(bytes))),
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

const REQUESTS: [&str; 6] = [
    "GET /metrics HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip;q=0.5, identity\r\n\r\n",
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
    Text::Files(files)
}

/// A server, with files where the iterators would be.
pub struct Decoders {
    dir: PathBuf,
    address: SocketAddr,
}

impl Decoders {
    pub fn start() -> Self {
        let dir = std::env::temp_dir().join(format!("metricd-fuzz-{}", std::process::id()));
        fs::create_dir_all(pins::epoch(&dir, 1)).expect("make a folder");
        let config = Config {
            pin_dir: dir.clone(),
            listen: "127.0.0.1:0".parse().expect("an address"),
            l7_file: None,
        };
        let (send, address) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            server::runtime().expect("a runtime").block_on(async {
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
                    fs::write(maps::iter_path(&pins::epoch(&self.dir, 1), map), bytes)
                        .expect("write a file");
                }
                // Routes are only read where there are any, and of DNS the size is anything.
                let whole = FILES.iter().zip(files).all(|(f, bytes)| {
                    bytes.len() % f.1 == 0 || [maps::ROUTES, maps::DNS].contains(&f.0)
                });
                let snapshot = Snapshot::read(&self.dir);
                let ours = Info::current().to_bytes();
                if snapshot.is_ok() && files[0].get(4..4 + SIZES) == Some(&ours[..SIZES]) {
                    assert!(whole, "records that are not whole were read");
                }
                let reading = snapshot
                    .map(Arc::new)
                    .map_err(|e| format!("{e}\n{}", e.reason()));
                check(
                    &Exposition::new(reading, None)
                        .flatten()
                        .collect::<Vec<u8>>(),
                );
                for bytes in files {
                    let _ = decode::<MetricKey, MetricValue>(bytes);
                    let _ = decode::<u32, Info>(bytes);
                }
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
        let _ = fs::remove_dir_all(&self.dir);
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
