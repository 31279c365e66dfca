//! What one packet costs: each kind of packet, repeated by BPF_PROG_TEST_RUN with its sequence
//! number moving on (benches/packet.bpf.c), in turn with an empty program that does only that.
//! Prints the median of the rounds in nanoseconds above the empty program's, and the spread.

use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::os::fd::AsFd;

use clap::Parser;
use kit::packets::frame::{self, ACK, End, SYN};
use libbpf_rs::skel::Skel;
use libbpf_rs::{MapCore, MapFlags, Object, ObjectBuilder, OpenObject, ProgramInput};
use metricd::kernel::load::{self, Plan};
use metricd::kernel::options::Options;

const ROUNDS: usize = 400;
/// Runs a round: as many requests as fit into one frame, so that every response has a start.
const REPEAT: u32 = 100;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
    /// Passed by `cargo bench`
    #[arg(long)]
    bench: bool,
}

/// The benches' programs over the maps that the loader has made.
fn load() -> Object {
    let object: &'static mut MaybeUninit<OpenObject> = Box::leak(Box::new(MaybeUninit::uninit()));
    // test_run's packets come from the loopback: here it is an interface like any other.
    let settings = Cli::parse().options.wanted.settle(None).expect("settings");
    let plan = Plan {
        settings: &settings,
        loopback: 0,
        ordered: load::ORDERED,
        epoch: 1,
        state: None,
        exported: None,
    };
    let skel = load::load(object, &plan).expect("load the programs");
    let mut bench = ObjectBuilder::default()
        .open_file(concat!(env!("OUT_DIR"), "/packet.bpf.o"))
        .expect("open packet.bpf.o");
    let loaded = skel.object();
    let name = |name: &std::ffi::OsStr| name.to_string_lossy().into_owned();
    for mut map in bench.maps_mut() {
        // The configuration's name begins with the object's.
        let rodata = name(map.name()).ends_with(".rodata");
        let made = loaded
            .maps()
            .find(|made| {
                made.name() == map.name() || (rodata && name(made.name()).ends_with(".rodata"))
            })
            .expect("the same maps");
        if rodata {
            let config = made.lookup(&0u32.to_ne_bytes(), MapFlags::ANY);
            map.set_initial_value(&config.unwrap().unwrap())
                .expect("configure");
        } else {
            map.reuse_fd(made.as_fd()).expect("share a map");
        }
    }
    for mut program in bench.progs_mut() {
        program.set_autoload(program.name().to_string_lossy().starts_with("bench_"));
    }
    bench.load().expect("load packet.bpf.o")
}

struct Bench {
    object: Object,
    client: End,
    server: End,
    client_seq: u32,
    server_seq: u32,
}

impl Bench {
    fn run(&self, program: &str, frame: &[u8], repeat: u32) -> u64 {
        let program = self
            .object
            .progs_mut()
            .find(|p| p.name() == program)
            .expect("the program");
        let output = program
            .test_run(ProgramInput {
                data_in: Some(frame),
                repeat,
                ..Default::default()
            })
            .expect("BPF_PROG_TEST_RUN");
        assert_eq!(output.return_value as i32, -1);
        output.duration.as_nanos() as u64
    }

    /// Nanoseconds a run.
    fn request(&mut self, flags: u8, payload: &[u8], repeat: u32) -> u64 {
        let (seq, ack) = (self.client_seq, self.server_seq);
        let frame = frame::tcp(self.client, self.server, seq, ack, flags, payload);
        self.client_seq = seq.wrapping_add(sequence_space(flags, payload) * repeat);
        self.run("bench_ingress", &frame, repeat)
    }

    fn response(&mut self, flags: u8, payload: &[u8], repeat: u32) -> u64 {
        let (seq, ack) = (self.server_seq, self.client_seq);
        let frame = frame::tcp(self.server, self.client, seq, ack, flags, payload);
        self.server_seq = seq.wrapping_add(sequence_space(flags, payload) * repeat);
        self.run("bench_egress", &frame, repeat)
    }

    /// A new connection, with the handshake done.
    fn open(&mut self) {
        self.client.port += 1;
        self.client_seq = 1000;
        self.server_seq = 5000;
        self.request(SYN, b"", 1);
        self.response(SYN | ACK, b"", 1);
        self.request(ACK, b"", 1);
    }
}

/// What a segment takes of the sequence numbers: a SYN takes one.
fn sequence_space(flags: u8, payload: &[u8]) -> u32 {
    payload.len() as u32 + u32::from(flags & SYN != 0)
}

/// Runs `round` in turn with the empty program, and prints what it costs above that.
fn measure(bench: &mut Bench, name: &str, bound: &str, mut round: impl FnMut(&mut Bench) -> u64) {
    let (client, server) = (bench.client, bench.server);
    let frame = frame::tcp(client, server, 0, 0, ACK, &[0; 512]);
    let mut above: Vec<i64> = (0..ROUNDS)
        .map(|_| {
            let empty = bench.run("bench_empty", &frame, REPEAT);
            round(bench) as i64 - empty as i64
        })
        .collect();
    above.sort_unstable();
    let at = |percent: usize| above[above.len() * percent / 100];
    println!(
        "{name:38} {:5} ns  (10% {:4}, 90% {:4})  {bound}",
        at(50),
        at(10),
        at(90)
    );
}

fn main() {
    let ip = |s: &str| s.parse::<IpAddr>().unwrap();
    let mut bench = Bench {
        object: load(),
        client: End {
            ip: ip("10.0.0.2"),
            port: 40000,
        },
        server: End {
            ip: ip("10.0.0.1"),
            port: 80,
        },
        client_seq: 0,
        server_seq: 0,
    };
    println!("cost above an empty program, median of {ROUNDS} rounds of {REPEAT} packets");

    bench.open();
    measure(&mut bench, "pure ACK", "bound: 100", |b| {
        b.request(ACK, b"", REPEAT)
    });

    bench.open();
    bench.request(
        ACK,
        b"POST / HTTP/1.1\r\nContent-Length: 1000000000000\r\n\r\n",
        1,
    );
    let body = [b'x'; 1024];
    measure(
        &mut bench,
        "data inside a body, 1,024 bytes",
        "bound: 100",
        |b| b.request(ACK, &body, REPEAT),
    );

    let mut request =
        b"GET /index.html HTTP/1.1\r\nHost: example.org\r\nUser-Agent: curl/7.88.1\r\n\
        Accept: */*\r\nAccept-Encoding: gzip, deflate\r\nCookie: session="
            .to_vec();
    request.resize(296, b'x');
    request.extend(b"\r\n\r\n");
    let response = b"HTTP/1.1 204 No Content\r\nServer: nginx/1.22.1\r\n\
        Date: Mon, 23 Nov 2026 12:00:00 GMT\r\nContent-Type: application/octet-stream\r\n\
        Last-Modified: Mon, 23 Nov 2026 11:00:00 GMT\r\nConnection: keep-alive\r\n\
        ETag: \"65a0b0c0-400\"\r\nAccept-Ranges: bytes\r\nX-Request-Id: 0123456789abcdef01234567\r\n\
        Cache-Control: max-age=60\r\n\r\n";
    assert_eq!(request.len(), 300);
    bench.open();
    measure(&mut bench, "request head, 300 bytes", "bound: 500", |b| {
        let took = b.request(ACK, &request, REPEAT);
        b.response(ACK, response, REPEAT);
        took
    });

    let pipelined = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(REPEAT as usize);
    bench.open();
    let name = format!("response head, {} bytes", response.len());
    measure(&mut bench, &name, "bound: 500", |b| {
        b.request(ACK, &pipelined, 1);
        b.response(ACK, response, REPEAT)
    });

    // What the bounds of bpf/http/http1 allow one packet to cost at the most.
    bench.open();
    measure(
        &mut bench,
        "100 pipelined requests in one packet",
        "",
        |b| {
            let took = b.request(ACK, &pipelined, 1);
            b.response(ACK, response, REPEAT);
            took
        },
    );
    let mut large = b"GET / HTTP/1.1\r\nCookie: ".to_vec();
    large.resize(3400, b'x');
    bench.open();
    measure(&mut bench, "first 3,400 bytes of a large head", "", |b| {
        let took = b.request(ACK, &large, 1);
        b.request(ACK, b"\r\n\r\n", 1);
        b.response(ACK, response, 1);
        took
    });
    bench.open();
    measure(&mut bench, "one byte of a head", "", |b| {
        b.request(ACK, b"GET / HTTP/1.1\r\nCookie: ", 1);
        let took = b.request(ACK, b"x", REPEAT);
        b.request(ACK, b"\r\n\r\n", 1);
        b.response(ACK, response, 1);
        took
    });
}
