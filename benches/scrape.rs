//! What metricd costs: time and resident memory of a scrape in both ways of reading, and CPU between
//! scrapes; and CPU, memory and bytes of each format, in turns. The real binary, with real maps; where the
//! kernel refuses iterators, plain files with the same records are in their place. As root.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use kit::filled::{Filled, Size, metric, pin_dir, request};
use metricd::abi::{
    BUCKETS, Counters, DnsKey, DnsValue, GRPC_STATUS_NONE, HandshakeKey, HandshakeValue, Info,
    LatencyKey, LatencyValue, Layout, MetricKey, MetricValue, RequestKey, RequestValue, direction,
    protocol,
};
use metricd::kernel::maps;
use metricd::kernel::options::ReadBy;
use metricd::kernel::pin_dir::PinDir;

/// Each has ten lines.
const PEERS: [u32; 3] = [100, 1000, 10_000];
/// What is promised is about this many lines.
const PROMISED: usize = 10_000;
const SCRAPES: usize = 50;
const AT_ONCE: usize = 100;
/// The thread that reads the maps ends a second after a scrape, and takes its CPU time with it.
const SETTLE: Duration = Duration::from_secs(2);
const QUIET: Duration = Duration::from_secs(5);

const GZIP: &str = "accept-encoding: gzip\r\n";

/// What is promised.
const MAX_RESIDENT: u64 = 10 << 20;
const MAX_SCRAPE: Duration = Duration::from_millis(20);
const MAX_SCRAPE_AS_TEXT: Duration = Duration::from_millis(60);

fn main() {
    for peers in PEERS {
        let filled = fill(peers);
        let files = (!filled.epoch().has_iterators()).then(|| Files::create(peers));
        let (name, dir) = match &files {
            None => ("iterators", &filled.pin_dir),
            Some(files) => ("plain files, as iterators are refused", &files.0),
        };
        measure(name, dir, "iterator", MAX_SCRAPE);
        compare(dir);
        measure("text", &filled.pin_dir, "text", MAX_SCRAPE_AS_TEXT);
    }
}

/// Prints what scrapes cost, and whether that is what is promised.
fn measure(name: &str, pin_dir: &PinDir, read: &str, most: Duration) {
    let metricd = Metricd::start(pin_dir, read);
    let idle = metricd.memory("VmRSS");
    let (lines, bytes) = {
        let text = metricd.scrape("");
        let lines = text.iter().filter(|byte| **byte == b'\n').count();
        (lines, text.len())
    };
    println!("{lines} lines, {bytes} bytes, by {name}");
    let plain = metricd.scrapes("");
    let gzip = metricd.scrapes(GZIP);
    let serving = metricd.memory("VmHWM");
    println!("  scrape, median of {SCRAPES}: {plain:.1?}, with gzip {gzip:.1?}");
    println!(
        "  resident, at most: {} kB, before any scrape {} kB",
        serving >> 10,
        idle >> 10
    );
    if !(PROMISED..2 * PROMISED).contains(&lines) {
        return;
    }
    let met = |met| if met { "met" } else { "MISSED" };
    println!("  aim {most:?}: {}", met(plain <= most && gzip <= most));
    println!(
        "  aim {} kB: {}",
        MAX_RESIDENT >> 10,
        met(serving <= MAX_RESIDENT)
    );
    thread::sleep(SETTLE);
    let before = metricd.cpu_time();
    thread::sleep(QUIET);
    let between = metricd.cpu_time() - before;
    println!("  CPU in {QUIET:?} without a scrape: {between:?}");
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| metricd.scrape(GZIP));
        }
    });
    let crowd = metricd.memory("VmHWM");
    println!(
        "  resident, {AT_ONCE} scrapes at once: {} kB (not promised)",
        crowd >> 10
    );
    assert_eq!(between, Duration::ZERO, "work between scrapes");
}

/// What is asked for to get each format.
const FORMATS: [(&str, &str); 3] = [
    ("text", ""),
    (
        "OpenMetrics",
        "accept: application/openmetrics-text;version=1.0.0\r\n",
    ),
    (
        "protobuf",
        "accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited\r\n",
    ),
];

/// Prints what a scrape costs in each format, as Prometheus asks for it: with gzip. Each format has a
/// process of its own, and they take turns.
fn compare(pin_dir: &PinDir) {
    let mut sides = FORMATS.map(|(name, accept)| Side {
        name,
        accept,
        metricd: Metricd::start(pin_dir, "iterator"),
        plain: Vec::new(),
        gzip: Vec::new(),
    });
    for _ in 0..SCRAPES {
        for side in &mut sides {
            side.plain.push(side.cpu(""));
            side.gzip.push(side.cpu(GZIP));
        }
    }
    println!(
        "  format: bytes, with gzip; CPU of a scrape, with gzip, each to text's; resident at most"
    );
    let text = (median(&sides[0].plain), median(&sides[0].gzip));
    for side in &sides {
        let (plain, gzip) = (median(&side.plain), median(&side.gzip));
        let bytes = side.metricd.scrape(side.accept).len();
        let zipped = side.metricd.scrape(&format!("{}{GZIP}", side.accept)).len();
        println!(
            "  {}: {bytes}, {zipped}; {plain:.1?} ({:.2}), {gzip:.1?} ({:.2}); {} kB",
            side.name,
            plain.as_secs_f64() / text.0.as_secs_f64(),
            gzip.as_secs_f64() / text.1.as_secs_f64(),
            side.metricd.memory("VmHWM") >> 10,
        );
    }
}

/// Who serves one format, and the CPU time that each scrape took.
struct Side {
    name: &'static str,
    accept: &'static str,
    metricd: Metricd,
    plain: Vec<Duration>,
    gzip: Vec<Duration>,
}

impl Side {
    /// Of a scrape, behind one whose reading thread is still there when it begins.
    fn cpu(&self, headers: &str) -> Duration {
        let headers = format!("{}{headers}", self.accept);
        self.metricd.scrape(&headers);
        let before = self.metricd.cpu_time();
        self.metricd.scrape(&headers);
        self.metricd.cpu_time() - before
    }
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2]
}

/// Pinned maps with so many peers.
fn fill(peers: u32) -> Filled {
    let size = Size {
        room: peers,
        series: 0,
        routes: 0,
        histograms: 0,
        servers: 0,
    };
    let filled = Filled::new(&pin_dir(&format!("scrape{peers}")), &size, ReadBy::Auto);
    let (mut metrics, mut requests) = (filled.metrics(), filled.requests());
    for (key, value) in (0..peers).map(series) {
        metrics.put(&metric(key, value));
        let (key, value) = responses(&(key, value));
        requests.put(&request(key, value));
    }
    filled
}

struct Metricd {
    child: Child,
    address: SocketAddr,
}

impl Metricd {
    fn start(pin_dir: &PinDir, read: &str) -> Self {
        // Free a moment ago.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let child = Command::new(env!("CARGO_BIN_EXE_metricd"))
            .arg("--pin-dir")
            .arg(pin_dir.path())
            .args(["--read", read, "--listen"])
            .arg(address.to_string())
            .env("METRICD_LOG", "error")
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "metricd does not listen");
            thread::sleep(Duration::from_millis(10));
        }
        Self { child, address }
    }

    /// The body, by HTTP/1.0, so that it ends with the connection.
    fn scrape(&self, headers: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        write!(stream, "GET /metrics HTTP/1.0\r\n{headers}\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.0 200 OK\r\n"));
        let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        answer.split_off(head.unwrap() + 4)
    }

    /// The median of the times from connecting to the last byte.
    fn scrapes(&self, headers: &str) -> Duration {
        let times: Vec<Duration> = (0..SCRAPES)
            .map(|_| {
                let start = Instant::now();
                self.scrape(headers);
                start.elapsed()
            })
            .collect();
        median(&times)
    }

    /// A field of /proc/PID/status, in bytes.
    fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kilobytes << 10
    }

    /// Of all threads there are, to the nanosecond.
    fn cpu_time(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let nanoseconds = tasks.map(|task| {
            let stat = fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
            let run = stat.split_whitespace().next().unwrap();
            run.parse::<u64>().unwrap()
        });
        Duration::from_nanos(nanoseconds.sum())
    }
}

impl Drop for Metricd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory of its own with files in place of the pinned iterators, removed in the end.
struct Files(PinDir);

impl Files {
    fn create(peers: u32) -> Self {
        let name = format!("metricd-scrape-{}-{peers}", std::process::id());
        let dir = Self(PinDir::new(std::env::temp_dir().join(name)));
        fs::create_dir_all(dir.0.epoch(1).path()).unwrap();
        let mut info = Info {
            bounds: 3,
            bounds_ns: [u64::MAX; BUCKETS],
            ..Info::current()
        };
        info.bounds_ns[..3].copy_from_slice(&[1_000_000, 10_000_000, 100_000_000]);
        dir.write(maps::INFO, &[(0u32, info)]);
        dir.write(maps::COUNTERS, &[(0u32, Counters::default())]);
        let series: Vec<_> = (0..peers).map(series).collect();
        let responses: Vec<_> = series.iter().map(responses).collect();
        dir.write(maps::METRICS, &series);
        dir.write(maps::REQUESTS, &responses);
        dir.write::<LatencyKey, LatencyValue>(maps::LATENCY, &[]);
        dir.write::<HandshakeKey, HandshakeValue>(maps::HANDSHAKE, &[]);
        dir.write::<DnsKey, DnsValue>(maps::DNS, &[]);
        for more in [maps::METRICS_MORE, maps::REQUESTS_MORE, maps::LATENCY_MORE] {
            fs::write(dir.0.epoch(1).iterator_path(more), []).unwrap();
        }
        dir
    }

    fn write<K: Layout, V: Layout>(&self, map: &str, records: &[(K, V)]) {
        let mut bytes = Vec::new();
        for (key, value) in records {
            key.write(&mut bytes);
            value.write(&mut bytes);
        }
        fs::write(self.0.epoch(1).iterator_path(map), bytes).unwrap();
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.path());
    }
}

fn series(number: u32) -> (MetricKey, MetricValue) {
    let [_, _, high, low] = number.to_be_bytes();
    let address = |ip: [u8; 4]| Ipv4Addr::from(ip).to_ipv6_mapped().octets();
    let key = MetricKey {
        src: address([10, 1, high, low]),
        dst: address([10, 0, 0, 1]),
        dst_port: 8080,
        proto: 6,
        direction: direction::INBOUND,
        ..MetricKey::default()
    };
    let mut value = MetricValue {
        opened: 3,
        active: 1,
        ..MetricValue::default()
    };
    value.closed.fin = 2;
    value.requests.http1 = 1_000_001;
    value.ended = 1_000_000;
    (value.recv.packets, value.recv.bytes) = (1_234_567, 123_456_789);
    (value.sent.packets, value.sent.bytes) = (2_345_678, 987_654_321);
    (key, value)
}

fn responses((series, value): &(MetricKey, MetricValue)) -> (RequestKey, RequestValue) {
    let key = RequestKey {
        series: *series,
        status: 200,
        protocol: protocol::HTTP1,
        grpc_status: GRPC_STATUS_NONE,
        ..RequestKey::default()
    };
    let responses = value.requests.http1 - 1;
    (key, RequestValue { responses })
}
