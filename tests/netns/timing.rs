//! Durations and times to the first byte, against what the client has measured itself.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{connect, listen};
use crate::exposition::Scrape;
use crate::fixture::{Family, Pod, Shape};
use crate::observed::Http;

const PORT: u16 = 9100;
const REQUEST: &[u8] = b"GET /slow HTTP/1.1\r\nHost: pod\r\n\r\n";
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n";
const WAIT: Duration = Duration::from_millis(30);
const STREAM: Duration = Duration::from_millis(50);
const REQUESTS: u32 = 40;

/// Waits, then sends the head and a body of 50 bytes, one each millisecond.
fn answer(stream: &mut TcpStream) {
    thread::sleep(WAIT);
    stream.write_all(HEAD).expect("write");
    let begun = Instant::now();
    for sent in 1..=50u32 {
        thread::sleep((STREAM * sent / 50).saturating_sub(begun.elapsed()));
        stream.write_all(b"x").expect("write");
    }
}

/// How many requests took longer than the first bound and not longer than the second.
fn between(scrape: &Scrape, name: &str, low: &str, high: &str) -> u64 {
    let name = format!("linkerd_ebpf_{name}_seconds_bucket");
    let port = PORT.to_string();
    let upto = |le| scrape.sum(&name, &[("dst_port", port.as_str()), ("le", le)]);
    for bound in [low, high] {
        let labels = [("dst_port", port.as_str()), ("le", bound)];
        assert_eq!(scrape.select(&name, &labels).count(), 1, "le={bound}");
    }
    upto(high) - upto(low)
}

#[test]
fn a_server_that_waits_and_then_streams() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let listener = listen(&pod.hook, pod.server_at(Family::V4, PORT));
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        let mut request = [0; REQUEST.len()];
        while stream.read_exact(&mut request).is_ok() {
            answer(&mut stream);
        }
    });
    let mut stream = connect(&pod.client, pod.server_at(Family::V4, PORT));
    let (mut first, mut whole) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..REQUESTS {
        let begun = Instant::now();
        stream.write_all(REQUEST).expect("write");
        let mut answer = [0; HEAD.len() + 50];
        stream.read_exact(&mut answer[..1]).expect("read");
        first += begun.elapsed();
        stream.read_exact(&mut answer[1..]).expect("read");
        whole += begun.elapsed();
    }
    drop(stream);
    server.join().expect("the server");

    let scrape = pod.ended();
    let count = u64::from(REQUESTS);
    Http::requests(count)
        .response("200", count)
        .assert_in(&scrape, PORT);
    assert_eq!(
        between(&scrape, "time_to_first_byte", "0.025", "0.05"),
        count
    );
    assert_eq!(between(&scrape, "request_duration", "0.05", "0.1"), count);
    for (name, measured) in [("time_to_first_byte", first), ("request_duration", whole)] {
        let labels = [("dst_port", "9100"), ("status_class", "2xx")];
        let sum = scrape.value(&format!("linkerd_ebpf_{name}_seconds_sum"), &labels);
        let samples = scrape.sum(&format!("linkerd_ebpf_{name}_seconds_count"), &labels);
        assert_eq!(samples, count);
        let mean = measured.as_secs_f64() / f64::from(REQUESTS);
        let difference = (sum / f64::from(REQUESTS) - mean).abs();
        assert!(
            difference < 0.002,
            "{name}: {difference} s from the client's {mean} s"
        );
    }
}

/// A connection lasts from its first packet to its last.
#[test]
fn how_long_connections_last() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let begun = Instant::now();
    let pairs = [pod.pair(PORT), pod.pair(PORT)];
    let opened = begun.elapsed();
    thread::sleep(Duration::from_millis(300));
    for pair in pairs {
        pair.close();
    }
    let closed = begun.elapsed();
    let scrape = pod.ended();
    let labels = [("dst_port", "9100")];
    let sum = scrape.value("linkerd_ebpf_connection_duration_seconds_sum", &labels);
    let count = scrape.sum("linkerd_ebpf_connection_duration_seconds_count", &labels);
    assert_eq!(count, 2);
    let (least, most) = (closed - opened, closed);
    assert!(
        sum <= 2.0 * most.as_secs_f64() && sum >= 2.0 * (least.as_secs_f64() - 0.01),
        "{sum} of two times {least:?} to {most:?}"
    );
    assert_eq!(between(&scrape, "connection_duration", "0.25", "0.5"), 2);
}
