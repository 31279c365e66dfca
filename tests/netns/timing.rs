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
/// How late the machine may be for a measurement to be good.
const LATE: Duration = Duration::from_millis(10);

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
fn between(scrape: &Scrape, port: u16, name: &str, low: &str, high: &str) -> usize {
    let name = format!("linkerd_ebpf_{name}_seconds_bucket");
    let port = port.to_string();
    let upto = |le| scrape.sum(&name, &[("dst_port", port.as_str()), ("le", le)]);
    for bound in [low, high] {
        let labels = [("dst_port", port.as_str()), ("le", bound)];
        assert_eq!(scrape.select(&name, &labels).count(), 1, "le={bound}");
    }
    (upto(high) - upto(low)) as usize
}

/// As many samples as requests, with the mean that the client has measured.
fn assert_mean(scrape: &Scrape, port: u16, name: &str, measured: &[Duration]) {
    let port = port.to_string();
    let labels = [("dst_port", port.as_str()), ("status_class", "2xx")];
    let sum = scrape.value(&format!("linkerd_ebpf_{name}_seconds_sum"), &labels);
    let samples = scrape.sum(&format!("linkerd_ebpf_{name}_seconds_count"), &labels);
    assert_eq!(samples, REQUESTS as u64);
    let mean = measured.iter().sum::<Duration>().as_secs_f64() / REQUESTS as f64;
    let difference = (sum / REQUESTS as f64 - mean).abs();
    assert!(
        difference < 0.002,
        "{name}: {difference} s from the client's mean of {mean} s"
    );
}

/// One client, one server, on this port.
fn exchange(pod: &Pod, port: u16) -> (Vec<Duration>, Vec<Duration>) {
    let listener = listen(&pod.hook, pod.server_at(Family::V4, port));
    let server = thread::spawn(move || {
        run_before_others();
        let (mut stream, _) = listener.accept().expect("accept");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        let mut request = [0; REQUEST.len()];
        while stream.read_exact(&mut request).is_ok() {
            answer(&mut stream);
        }
    });
    let stream = connect(&pod.client, pod.server_at(Family::V4, port));
    let client = thread::spawn(move || measure(stream));
    let measured = client.join().expect("the client");
    server.join().expect("the server");
    measured
}

#[test]
fn a_server_that_waits_and_then_streams() {
    let pod = Pod::measured(Shape::Plain, &[]);
    // A machine that is busy with other things may make the client late. Then its own times say
    // nothing, and it measures once more, on another port.
    let in_time = |times: &[Duration], expected| times.iter().all(|t| *t < expected + LATE);
    for port in PORT..PORT + 8 {
        let (first, whole) = exchange(&pod, port);
        let scrape = pod.ended();
        let count = REQUESTS as u64;
        Http::requests(count)
            .response("200", count)
            .assert_in(&scrape, port);
        if in_time(&first, WAIT) && in_time(&whole, WAIT + STREAM) {
            let in_buckets = [
                between(&scrape, port, "time_to_first_byte", "0.025", "0.05"),
                between(&scrape, port, "request_duration", "0.05", "0.1"),
            ];
            assert_eq!(in_buckets, [REQUESTS; 2]);
            assert_mean(&scrape, port, "time_to_first_byte", &first);
            assert_mean(&scrape, port, "request_duration", &whole);
            return;
        }
    }
    panic!("this machine is too busy to measure time");
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
    assert_eq!(
        between(&scrape, PORT, "connection_duration", "0.25", "0.5"),
        2
    );
}
