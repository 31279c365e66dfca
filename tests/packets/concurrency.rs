//! Two CPUs with the two directions of the same connections, and a third that opens others while
//! the table is full. METRICD_TEST_PAIRS says how many requests with their responses.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use libbpf_rs::{MapCore, MapFlags};

use crate::frame::{self, ACK, End, FIN, RST, SYN};
use crate::kernel::{Kernel, SLOT_CLOSED, SLOT_FREE, SLOT_LIVE, Way, program_fd};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const FLOWS: u32 = 40;

fn pairs() -> u64 {
    let pairs = std::env::var("METRICD_TEST_PAIRS");
    pairs.map_or(100_000, |n| n.parse().expect("METRICD_TEST_PAIRS"))
}

fn end(last: u8, port: u16) -> End {
    End {
        ip: IpAddr::from([10, 0, 0, last]),
        port,
    }
}

const fn server() -> End {
    End {
        ip: IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)),
        port: 80,
    }
}

/// Pins the thread, if there is more than one CPU.
fn pin(cpu: usize) {
    let n = thread::available_parallelism().map_or(1, usize::from);
    let mut set = nix::sched::CpuSet::new();
    set.set(cpu % n).expect("a CPU");
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set).expect("sched_setaffinity");
}

/// A way into one program, for one thread.
struct Feeder<'a> {
    program: BorrowedFd<'a>,
    packets: u64,
    bytes: u64,
}

impl<'a> Feeder<'a> {
    fn new(kernel: &'a Kernel, way: Way) -> Self {
        Self {
            program: program_fd(kernel, way),
            packets: 0,
            bytes: 0,
        }
    }

    fn feed(&mut self, frame: &[u8]) {
        let mut opts = libbpf_sys::bpf_test_run_opts {
            sz: size_of::<libbpf_sys::bpf_test_run_opts>() as _,
            data_in: frame.as_ptr().cast(),
            data_size_in: frame.len() as u32,
            repeat: 1,
            ..Default::default()
        };
        // SAFETY: the frame is read for its length, and both outlive the call.
        let result =
            unsafe { libbpf_sys::bpf_prog_test_run_opts(self.program.as_raw_fd(), &raw mut opts) };
        assert_eq!(result, 0, "BPF_PROG_TEST_RUN");
        assert_eq!(opts.retval as i32, -1, "the packet is not passed on");
        self.packets += 1;
        self.bytes += frame.len() as u64;
    }

    fn done(self, kernel: &Kernel, way: Way) {
        kernel.fed(way, self.packets, self.bytes);
    }
}

/// What is in the table of connections, checked.
struct Table {
    active: u64,
}

impl Table {
    fn read(kernel: &Kernel) -> Self {
        let maps = &kernel.skel().maps;
        let mut index: HashMap<u32, Vec<Vec<u8>>> = HashMap::new();
        for key in maps.linkerd_connection_index_map.keys() {
            let value = maps
                .linkerd_connection_index_map
                .lookup(&key, MapFlags::ANY)
                .unwrap()
                .unwrap();
            let slot = u32::from_ne_bytes(value[..4].try_into().unwrap());
            index.entry(slot).or_default().push(key);
        }
        let mut active = 0;
        for (slot, conn) in (0..).zip(kernel.slots()) {
            assert!(!conn.busy, "slot {slot} is still busy");
            let entries = index.remove(&slot).unwrap_or_default();
            match conn.state {
                SLOT_LIVE => {
                    active += u64::from(conn.is_active);
                    assert_eq!(entries, [conn.key], "of the live slot {slot}");
                }
                SLOT_CLOSED => assert!(entries.len() <= 1, "of the closed slot {slot}"),
                SLOT_FREE => assert!(entries.is_empty(), "of the free slot {slot}"),
                other => panic!("slot {slot} is in state {other}"),
            }
        }
        assert!(index.is_empty(), "entries without a slot: {index:?}");
        Self { active }
    }
}

/// The directions of `FLOWS` connections on a CPU each; `turns` says whether a response waits for
/// its request, as a server's would.
fn run(turns: bool) {
    let kernel = Kernel::load(&["--connections", "64"]);
    let per_flow = pairs() / u64::from(FLOWS);
    let start = Barrier::new(3);
    let sent: Vec<AtomicU64> = (0..FLOWS).map(|_| AtomicU64::new(0)).collect();
    let done = AtomicBool::new(false);
    let began = Instant::now();
    let port = |flow: u32| 1000 + flow as u16;

    thread::scope(|scope| {
        let client = scope.spawn(|| {
            pin(0);
            let mut feeder = Feeder::new(&kernel, Way::In);
            start.wait();
            for i in 0..per_flow {
                for flow in 0..FLOWS {
                    let from = end(2, port(flow));
                    let seq = 1 + (i * REQUEST.len() as u64) as u32;
                    if i == 0 {
                        feeder.feed(&frame::tcp(from, server(), 0, 0, SYN, b""));
                    }
                    feeder.feed(&frame::tcp(from, server(), seq, 1, ACK, REQUEST));
                    sent[flow as usize].store(i + 1, Ordering::Release);
                }
            }
            feeder.done(&kernel, Way::In);
        });
        let answers = scope.spawn(|| {
            pin(1);
            let mut feeder = Feeder::new(&kernel, Way::Out);
            start.wait();
            for i in 0..per_flow {
                for flow in 0..FLOWS {
                    let to = end(2, port(flow));
                    while turns && sent[flow as usize].load(Ordering::Acquire) <= i {
                        // With fewer CPUs than threads the other must get one.
                        thread::yield_now();
                    }
                    let seq = 1 + (i * RESPONSE.len() as u64) as u32;
                    if i == 0 {
                        feeder.feed(&frame::tcp(server(), to, 0, 1, SYN | ACK, b""));
                    }
                    feeder.feed(&frame::tcp(server(), to, seq, 1, ACK, RESPONSE));
                }
            }
            feeder.done(&kernel, Way::Out);
        });
        let others = scope.spawn(|| {
            pin(0);
            let mut feeder = Feeder::new(&kernel, Way::In);
            start.wait();
            let mut n = 0u32;
            while !done.load(Ordering::Relaxed) {
                let from = end(3 + (n >> 14) as u8 % 200, 1000 + (n & 0x3fff) as u16);
                feeder.feed(&frame::tcp(from, server(), n, 0, SYN, b""));
                match n % 4 {
                    0 => feeder.feed(&frame::tcp(from, server(), n + 1, 0, RST, b"")),
                    1 => feeder.feed(&frame::tcp(from, server(), n + 1, 1, ACK, REQUEST)),
                    2 => feeder.feed(&frame::tcp(from, server(), n + 1, 1, FIN | ACK, b"")),
                    _ => (),
                }
                n += 1;
            }
            feeder.done(&kernel, Way::In);
            n
        });
        client.join().unwrap();
        answers.join().unwrap();
        let took = began.elapsed();
        done.store(true, Ordering::Relaxed);
        let opened = others.join().unwrap();
        let total = kernel.total();
        println!(
            "{} packets in {took:.1?}, {:.0} a second; {opened} others opened; {:?}; {total:?}",
            total.recv.packets + total.sent.packets,
            (total.recv.packets + total.sent.packets) as f64 / took.as_secs_f64(),
            kernel.counters(),
        );
    });
    // opened = closed + active and all the rest.
    kernel.check();
    assert_eq!(kernel.total().active, Table::read(&kernel).active);
}

#[test]
fn requests_and_responses_in_turn() {
    run(true);
}

#[test]
fn requests_and_responses_at_random() {
    run(false);
}

/// Both directions of connections that nothing is evicted from: every request must be counted,
/// with its response.
#[test]
fn nothing_is_lost_below_the_limit() {
    let kernel = Kernel::load(&["--connections", "1024"]);
    let per_flow = pairs() / u64::from(FLOWS) / 2;
    let sent: Vec<AtomicU64> = (0..FLOWS).map(|_| AtomicU64::new(0)).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            pin(0);
            let mut feeder = Feeder::new(&kernel, Way::In);
            for i in 0..per_flow {
                for flow in 0..FLOWS {
                    let from = end(2, 1000 + flow as u16);
                    let seq = 1 + (i * REQUEST.len() as u64) as u32;
                    if i == 0 {
                        feeder.feed(&frame::tcp(from, server(), 0, 0, SYN, b""));
                    }
                    feeder.feed(&frame::tcp(from, server(), seq, 1, ACK, REQUEST));
                    sent[flow as usize].store(i + 1, Ordering::Release);
                }
            }
            feeder.done(&kernel, Way::In);
        });
        scope.spawn(|| {
            pin(1);
            let mut feeder = Feeder::new(&kernel, Way::Out);
            for i in 0..per_flow {
                for flow in 0..FLOWS {
                    let to = end(2, 1000 + flow as u16);
                    while sent[flow as usize].load(Ordering::Acquire) <= i {
                        thread::yield_now();
                    }
                    let seq = 1 + (i * RESPONSE.len() as u64) as u32;
                    if i == 0 {
                        feeder.feed(&frame::tcp(server(), to, 0, 1, SYN | ACK, b""));
                    }
                    feeder.feed(&frame::tcp(server(), to, seq, 1, ACK, RESPONSE));
                }
            }
            feeder.done(&kernel, Way::Out);
        });
    });
    kernel.check();
    let n = per_flow * u64::from(FLOWS);
    assert_eq!(kernel.total().requests.http1, n);
    assert_eq!(kernel.responses(), [(200, n)].into());
    assert_eq!(kernel.total().active, u64::from(FLOWS));
    assert_eq!(Table::read(&kernel).active, u64::from(FLOWS));
    assert_eq!(kernel.counters().contended, 0);
}

/// One direction on two CPUs, as packet steering may have it: what can't be followed is lost, and
/// nothing is counted twice.
#[test]
fn the_same_direction_on_two_cpus() {
    let kernel = Kernel::load(&["--connections", "1024"]);
    let per_flow = pairs() / 10;
    let flows = 4;
    let done = AtomicU64::new(0);
    thread::scope(|scope| {
        for cpu in 0..2 {
            let (kernel, done) = (&kernel, &done);
            scope.spawn(move || {
                pin(cpu);
                let mut feeder = Feeder::new(kernel, Way::In);
                for i in 0..per_flow {
                    let flow = (i / 64) % flows;
                    let from = end(2, 1000 + flow as u16);
                    // Connections end now and then, and begin again.
                    let turn = i / 64 / flows;
                    let isn = (turn * 100_000) as u32;
                    match i % 64 {
                        0 => feeder.feed(&frame::tcp(from, server(), isn, 0, SYN, b"")),
                        1 => feeder.feed(&frame::tcp(from, server(), isn + 1, 1, ACK, b"")),
                        63 => feeder.feed(&frame::tcp(from, server(), isn + 1700, 1, RST, b"")),
                        n => {
                            let seq = isn + 1 + (n as u32 - 2) * REQUEST.len() as u32;
                            feeder.feed(&frame::tcp(from, server(), seq, 1, ACK, REQUEST));
                        }
                    }
                }
                feeder.done(kernel, Way::In);
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        // The server's side, out of step with both.
        let mut feeder = Feeder::new(&kernel, Way::Out);
        let mut i = 0;
        while done.load(Ordering::Relaxed) < 2 {
            let to = end(2, 1000 + (i % flows) as u16);
            let seq = (i / flows) as u32 * RESPONSE.len() as u32;
            feeder.feed(&frame::tcp(server(), to, seq, 1, ACK, RESPONSE));
            i += 1;
        }
        feeder.done(&kernel, Way::Out);
    });
    println!("{:?}; {:?}", kernel.counters(), kernel.total());
    kernel.check();
    assert_eq!(kernel.total().active, Table::read(&kernel).active);
}

/// Both ends of connections send their first bytes at once, each on a CPU, the client `first`: what
/// one CPU finds out about a connection while the other one is at it must mislead neither. Behind
/// them the server sends `last`. Returns how many connections there were.
fn both_begin_at_once(kernel: &Kernel, first: &[u8], answer: &[u8], last: &[u8]) -> u64 {
    let connections = pairs() as u32 / 10;
    // How many connections have been opened, and how many the server is done with.
    let (opened, answered) = (AtomicU64::new(0), AtomicU64::new(0));
    let wait = |count: &AtomicU64, n: u32| {
        while count.load(Ordering::Acquire) < u64::from(n) {
            std::hint::spin_loop();
        }
    };
    let client = |n: u32| end(2 + (n >> 14) as u8, 1000 + (n & 0x3fff) as u16);
    thread::scope(|scope| {
        scope.spawn(|| {
            pin(0);
            let mut incoming = Feeder::new(kernel, Way::In);
            let mut outgoing = Feeder::new(kernel, Way::Out);
            for n in 0..connections {
                let from = client(n);
                incoming.feed(&frame::tcp(from, server(), 0, 0, SYN, b""));
                outgoing.feed(&frame::tcp(server(), from, 0, 1, SYN | ACK, b""));
                incoming.feed(&frame::tcp(from, server(), 1, 1, ACK, b""));
                let packet = frame::tcp(from, server(), 1, 1, ACK, first);
                opened.store(u64::from(n) + 1, Ordering::Release);
                incoming.feed(&packet);
                wait(&answered, n + 1);
                let seq = 1 + answer.len() as u32;
                outgoing.feed(&frame::tcp(server(), from, seq, 1, ACK, last));
                let seq = 1 + first.len() as u32;
                incoming.feed(&frame::tcp(from, server(), seq, 20, RST, b""));
            }
            incoming.done(kernel, Way::In);
            outgoing.done(kernel, Way::Out);
        });
        scope.spawn(|| {
            pin(1);
            let mut outgoing = Feeder::new(kernel, Way::Out);
            for n in 0..connections {
                let packet = frame::tcp(server(), client(n), 1, 1, ACK, answer);
                wait(&opened, n + 1);
                // A little later each time, so that every moment of the other CPU's is met.
                for _ in 0..n % 64 {
                    std::hint::spin_loop();
                }
                outgoing.feed(&packet);
                answered.store(u64::from(n) + 1, Ordering::Release);
            }
            outgoing.done(kernel, Way::Out);
        });
    });
    kernel.check();
    connections.into()
}

/// The server's SETTINGS may come before the client's preface, and with it.
#[test]
fn both_ends_of_http2_begin_at_once() {
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    /// HEADERS of stream 1, with END_STREAM and END_HEADERS: GET / of the host "a", and the status
    /// 200.
    const GET: &[u8] = &[0, 0, 6, 1, 5, 0, 0, 0, 1, 0x82, 0x84, 0x86, 0x41, 1, b'a'];
    const OK: &[u8] = &[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88];
    let kernel = Kernel::load(&["--connections", "64"]);
    let first = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", SETTINGS, GET].concat();
    let connections = both_begin_at_once(&kernel, &first, SETTINGS, OK);
    let total = kernel.total();
    assert_eq!(total.lost, Default::default());
    assert_eq!(
        (total.requests.http2, total.ended),
        (connections, connections)
    );
    assert_eq!(total.aborted, Default::default());
}

/// No HTTP: either end tells it, and nothing that was followed is lost.
#[test]
fn both_ends_of_another_protocol_begin_at_once() {
    let kernel = Kernel::load(&["--connections", "64"]);
    both_begin_at_once(
        &kernel,
        b"HELO a.test\r\n",
        b"220 ready\r\n",
        b"250 a.test\r\n",
    );
    let total = kernel.total();
    assert_eq!(total.lost, Default::default());
    assert_eq!(total.requests, Default::default());
}
