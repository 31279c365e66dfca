//! What one packet costs: each kind of packet through BPF_PROG_TEST_RUN, one run at a time so that
//! every packet is a new one, and in turn with an empty program. Prints medians in nanoseconds.

#[path = "../tests/packets/frame.rs"]
#[allow(dead_code)]
mod frame;
#[path = "../tests/packets/kernel.rs"]
#[allow(dead_code)]
mod kernel;

use std::net::IpAddr;
use std::time::Duration;

use frame::{ACK, End};
use kernel::{Connection, Kernel};

const ROUNDS: usize = 20_000;

fn median(mut all: Vec<Duration>) -> u128 {
    all.sort_unstable();
    all[all.len() / 2].as_nanos()
}

fn main() {
    let kernel = Kernel::load(&[]);
    let ip = |s: &str| s.parse::<IpAddr>().unwrap();
    let ends = |v6| {
        if v6 {
            (ip("fd00::2"), ip("fd00::1"))
        } else {
            (ip("10.0.0.2"), ip("10.0.0.1"))
        }
    };
    let request = {
        let mut r = b"GET /index.html HTTP/1.1\r\nHost: example.org\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\nCookie: ".to_vec();
        while r.len() < 296 {
            r.push(b'x');
        }
        r.extend(b"\r\n\r\n");
        r
    };
    let response = b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\nContent-Type: application/octet-stream\r\nContent-Length: 1024\r\nLast-Modified: Mon, 23 Nov 2026 11:00:00 GMT\r\nConnection: keep-alive\r\nETag: \"65a0b0c0-400\"\r\nAccept-Ranges: bytes\r\nX-Request-Id: 0123456789abcdef\r\n\r\n";
    let body = [b'x'; 1024];
    for v6 in [false, true] {
        let (client, server) = ends(v6);
        let mut c = Connection::open(
            &kernel,
            End {
                ip: client,
                port: 40000,
            },
            End {
                ip: server,
                port: 80,
            },
        );
        let mut heads = Vec::new();
        let mut responses = Vec::new();
        let mut acks = Vec::new();
        let mut bodies = Vec::new();
        for _ in 0..ROUNDS {
            heads.push(c.request(&request));
            acks.push(c.response_segment(ACK, b""));
            responses.push(c.response(response));
            c.response(&body[..512]);
            bodies.push(c.response(&body[512..]));
        }
        println!(
            "IPv{}: ack {} body {} request({}) {} response({}) {}",
            if v6 { 6 } else { 4 },
            median(acks),
            median(bodies),
            request.len(),
            median(heads),
            response.len(),
            median(responses)
        );
    }
    println!("{:?}", kernel.total());
}
