//! Durations and times to the first byte, against what the client has measured itself.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
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
const REQUESTS: usize = 40;
/// How long a connection is left open.
const LASTS: Duration = Duration::from_millis(300);

/// How long requests took to the first byte of their response, and to its last one, as one end has
/// measured it.
#[derive(Default)]
struct Times {
    first: Vec<Duration>,
    whole: Vec<Duration>,
}

impl Times {
    fn push(&mut self, first: Duration, whole: Duration) {
        self.first.push(first);
        self.whole.push(whole);
    }
}

/// Waits, then sends the head and a body of 50 bytes, one each millisecond. Returns when it began to
/// send, and when it was about to send the last byte.
fn answer(stream: &mut TcpStream) -> (Instant, Instant) {
    thread::sleep(WAIT);
    let begun = Instant::now();
    stream.write_all(HEAD).expect("write");
    for sent in 1..50u32 {
        thread::sleep((STREAM * sent / 50).saturating_sub(begun.elapsed()));
        stream.write_all(b"x").expect("write");
    }
    let ends = Instant::now();
    stream.write_all(b"x").expect("write");
    (begun, ends)
}

/// Answers all requests of one connection.
fn serve(listener: &TcpListener) -> Times {
    let mut times = Times::default();
    let (mut stream, _) = listener.accept().expect("accept");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    let mut request = [0; REQUEST.len()];
    while stream.read_exact(&mut request).is_ok() {
        let asked = Instant::now();
        let (begun, ends) = answer(&mut stream);
        times.push(begun - asked, ends - asked);
    }
    times
}

/// Asks again and again.
fn ask(mut stream: TcpStream) -> Times {
    let mut times = Times::default();
    for _ in 0..REQUESTS {
        let begun = Instant::now();
        stream.write_all(REQUEST).expect("write");
        let mut answer = [0; HEAD.len() + 50];
        stream.read_exact(&mut answer[..1]).expect("read");
        let first = begun.elapsed();
        stream.read_exact(&mut answer[1..]).expect("read");
        times.push(first, begun.elapsed());
    }
    times
}

/// What the pod's end shows lies between what the two ends have measured, however busy the machine
/// is: a request passes the hook after the client has begun and before the server has read it, a
/// response after the server has begun and before the client has read it.
fn assert_between(scrape: &Scrape, name: &str, server: &[Duration], client: &[Duration]) {
    let named = |part: &str| format!("linkerd_ebpf_{name}_seconds_{part}");
    let of_class = [("dst_port", "9100"), ("status_class", "2xx")];
    assert_eq!(scrape.sum(&named("count"), &of_class), REQUESTS as u64);
    let sum = scrape.value(&named("sum"), &of_class);
    let seconds = |times: &[Duration]| times.iter().sum::<Duration>().as_secs_f64();
    let (least, most) = (seconds(server), seconds(client));
    assert!(
        least <= sum && sum <= most,
        "{name}: {least} <= {sum} <= {most}"
    );
    let mut bounds = 0;
    for sample in scrape.select(&named("bucket"), &of_class) {
        let bound = &sample.labels["le"];
        let Ok(seconds) = bound.parse::<f64>() else {
            continue;
        };
        let within = |time: &&Duration| time.as_secs_f64() <= seconds;
        let least = client.iter().filter(within).count();
        let most = server.iter().filter(within).count();
        assert!(
            (least..=most).contains(&(sample.value as usize)),
            "{name} le={bound}: {least} <= {} <= {most}",
            sample.value
        );
        bounds += 1;
    }
    assert!(bounds > 5, "{bounds} bounds of {name}");
}

#[test]
fn a_server_that_waits_and_then_streams() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let listener = listen(&pod.hook, pod.server_at(Family::V4, PORT));
    let server = thread::spawn(move || serve(&listener));
    let stream = connect(&pod.client, pod.server_at(Family::V4, PORT));
    let client = ask(stream);
    let server = server.join().expect("the server");
    let scrape = pod.ended();
    let count = REQUESTS as u64;
    Http::requests(count)
        .response("200", count)
        .assert_in(&scrape, PORT);
    assert_between(&scrape, "time_to_first_byte", &server.first, &client.first);
    assert_between(&scrape, "request_duration", &server.whole, &client.whole);
}

/// A connection lasts from its first packet to its last.
#[test]
fn how_long_connections_last() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let begun = Instant::now();
    let pairs = [pod.pair(PORT), pod.pair(PORT)];
    thread::sleep(LASTS);
    for pair in pairs {
        pair.close();
    }
    let closed = begun.elapsed();
    let scrape = pod.ended();
    let labels = [("dst_port", "9100")];
    let sum = scrape.value("linkerd_ebpf_connection_duration_seconds_sum", &labels);
    let count = scrape.sum("linkerd_ebpf_connection_duration_seconds_count", &labels);
    assert_eq!(count, 2);
    let (least, most) = (LASTS.as_secs_f64(), closed.as_secs_f64());
    assert!(
        2.0 * least <= sum && sum <= 2.0 * most,
        "{sum} of two times {least} to {most}"
    );
}
