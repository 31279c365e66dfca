//! Durations and times to the first byte, against what the client has measured itself.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{connect, listen};
use crate::exposition::Scrape;
use crate::fixture::{Family, Pod, Shape};
use crate::kernel::run_before_others;
use crate::observed::Http;

const PORT: u16 = 9100;
const REQUEST: &[u8] = b"GET /slow HTTP/1.1\r\nHost: pod\r\n\r\n";
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n";
const WAIT: Duration = Duration::from_millis(30);
const STREAM: Duration = Duration::from_millis(50);
const REQUESTS: usize = 40;
/// By how much the hook's time may differ from the client's.
const TOLERANCE: Duration = Duration::from_millis(2);

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

/// Asks again and again; returns how long it took to the first byte, and to the last one.
fn measure(mut stream: TcpStream) -> (Vec<Duration>, Vec<Duration>) {
    run_before_others();
    let request = |_| {
        let begun = Instant::now();
        stream.write_all(REQUEST).expect("write");
        let mut answer = [0; HEAD.len() + 50];
        stream.read_exact(&mut answer[..1]).expect("read");
        let first = begun.elapsed();
        stream.read_exact(&mut answer[1..]).expect("read");
        (first, begun.elapsed())
    };
    (0..REQUESTS).map(request).unzip()
}

/// How many took longer than the first bound, in seconds, and not longer than the second.
fn between(scrape: &Scrape, name: &str, low: &str, high: &str) -> usize {
    let name = format!("linkerd_ebpf_{name}_seconds_bucket");
    let port = PORT.to_string();
    let upto = |le| scrape.sum(&name, &[("dst_port", port.as_str()), ("le", le)]);
    for bound in [low, high] {
        let labels = [("dst_port", port.as_str()), ("le", bound)];
        assert_eq!(scrape.select(&name, &labels).count(), 1, "le={bound}");
    }
    (upto(high) - upto(low)) as usize
}

/// The histogram has in this bucket what the client has measured to be in it, and the same mean.
fn assert_agrees(scrape: &Scrape, name: &str, measured: &[Duration], low: &str, high: &str) {
    let bound = |text: &str| Duration::from_secs_f64(text.parse().expect("seconds"));
    let (least, most) = (bound(low), bound(high));
    let within = |least, most| {
        let inside = |time: &&Duration| **time > least && **time <= most;
        measured.iter().filter(inside).count()
    };
    let surely = within(least + TOLERANCE, most);
    let possibly = within(least, most + TOLERANCE);
    // Nearly all: the machine may be late now and then.
    assert!(surely >= REQUESTS * 8 / 10, "{name}: {measured:?}");
    let counted = between(scrape, name, low, high);
    assert!(
        (surely..=possibly).contains(&counted),
        "{counted} in ({low}, {high}] of {name}, measured: {measured:?}"
    );

    let labels = [("dst_port", "9100"), ("status_class", "2xx")];
    let sum = scrape.value(&format!("linkerd_ebpf_{name}_seconds_sum"), &labels);
    let samples = scrape.sum(&format!("linkerd_ebpf_{name}_seconds_count"), &labels);
    assert_eq!(samples, REQUESTS as u64);
    let mean = measured.iter().sum::<Duration>().as_secs_f64() / REQUESTS as f64;
    let difference = (sum / REQUESTS as f64 - mean).abs();
    assert!(
        difference < TOLERANCE.as_secs_f64(),
        "{name}: {difference} s from the client's mean of {mean} s"
    );
}

#[test]
fn a_server_that_waits_and_then_streams() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let listener = listen(&pod.hook, pod.server_at(Family::V4, PORT));
    let server = thread::spawn(move || {
        run_before_others();
        let (mut stream, _) = listener.accept().expect("accept");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        let mut request = [0; REQUEST.len()];
        while stream.read_exact(&mut request).is_ok() {
            answer(&mut stream);
        }
    });
    let stream = connect(&pod.client, pod.server_at(Family::V4, PORT));
    let client = thread::spawn(move || measure(stream));
    let (first, whole) = client.join().expect("the client");
    server.join().expect("the server");

    let scrape = pod.ended();
    let count = REQUESTS as u64;
    Http::requests(count)
        .response("200", count)
        .assert_in(&scrape, PORT);
    assert_agrees(&scrape, "time_to_first_byte", &first, "0.025", "0.05");
    assert_agrees(&scrape, "request_duration", &whole, "0.05", "0.1");
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
