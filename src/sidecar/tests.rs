use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use flate2::read::GzDecoder;
use tokio::sync::oneshot;

use super::{
    http::{HEAD_SIZE, HEAD_TIMEOUT},
    listen::STOP_TIMEOUT,
    *,
};
use crate::read::snapshot::fixture::{PlainDir, peers};
use crate::web::runtime;

/// A server on a thread of its own, stopped in the end.
struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(pins: &PlainDir) -> Self {
        Self::listen(pins, "127.0.0.1:0")
    }

    fn listen(pins: &PlainDir, listen: &str) -> Self {
        Self::with(SidecarConfig {
            pin_dir: (**pins).clone(),
            read: ReadBy::Auto,
            l7_file: None,
            show_idle: Duration::ZERO,
            listen: listen.parse().unwrap(),
        })
    }

    fn with(config: SidecarConfig) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (send, address) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            runtime().unwrap().block_on(async {
                let server = Server::bind(config).unwrap();
                send.send(server.local_addr().unwrap()).unwrap();
                server.serve(async { drop(stopped.await) }).await;
            });
        });
        Self {
            address: address.recv().unwrap(),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "")
    }

    /// On a connection of its own; `headers` are whole lines.
    fn request(&self, method: &str, path: &str, headers: &str) -> Answer {
        let mut stream = self.connect();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n"
        )
        .unwrap();
        Answer::read(stream)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            assert!(thread::panicking() || result.is_ok());
        }
    }
}

struct Answer {
    status: u16,
    /// In lower case.
    head: String,
    body: Vec<u8>,
}

impl Answer {
    /// Reads until the server closes the connection.
    fn read(stream: TcpStream) -> Self {
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(stream.read_line(&mut head).unwrap(), 0, "{head}");
        }
        let head = head.to_ascii_lowercase();
        let mut body = Vec::new();
        if head.contains("transfer-encoding: chunked") {
            loop {
                let mut size = String::new();
                // Nothing at all follows the head of an answer to HEAD.
                if stream.read_line(&mut size).unwrap() == 0 && body.is_empty() {
                    break;
                }
                let size = u64::from_str_radix(size.trim_end(), 16).unwrap();
                let chunk = stream.by_ref().take(size).read_to_end(&mut body).unwrap();
                assert_eq!(chunk as u64, size, "cut short");
                stream.read_line(&mut String::new()).unwrap();
                if size == 0 {
                    break;
                }
            }
        } else {
            stream.read_to_end(&mut body).unwrap();
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head, body }
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

fn pins() -> PlainDir {
    let dir = PlainDir::create();
    dir.write(&peers(1000));
    dir
}

#[test]
fn routes() {
    let pins = pins();
    let server = Running::start(&pins);
    let metrics = server.get("/metrics?x=y");
    assert_eq!(metrics.status, 200);
    assert!(
        metrics
            .head
            .contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n")
    );
    assert!(!metrics.head.contains("content-encoding"));
    assert!(metrics.text().contains("\nlinkerd_ebpf_up 1\n"));
    assert!(metrics.text().lines().count() > 10_000);
    let last = metrics.text().lines().last().unwrap();
    assert!(last.starts_with("linkerd_ebpf_scrape_duration_seconds "));

    for (path, status, word) in [
        ("/ready", 200, "ready"),
        ("/live", 200, "live"),
        ("/", 200, "href=\"metrics\""),
        ("/nothing", 404, "not found"),
        ("/metrics/", 404, "not found"),
    ] {
        let answer = server.get(path);
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.text().contains(word), "{path}");
        let head = server.request("HEAD", path, "");
        assert_eq!((head.status, head.body.len()), (status, 0), "{path}");
    }
    let head = server.request("HEAD", "/metrics", "");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert!(!head.head.contains("content-length: 0"));

    let post = server.request("POST", "/metrics", "content-length: 0\r\n");
    assert_eq!(post.status, 405);
    assert!(post.head.contains("allow: get, head\r\n"));
    assert_eq!(server.request("POST", "/nothing", "").status, 404);
}

#[test]
fn the_format_that_is_asked_for() {
    let pins = pins();
    let server = Running::start(&pins);
    let open_metrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let protobuf = "application/vnd.google.protobuf; proto=io.prometheus.client.metricfamily; \
                    encoding=delimited";
    for (accept, content_type, begin, end) in [
        (
            "*/*",
            "text/plain; version=0.0.4; charset=utf-8",
            "# HELP ",
            "\n",
        ),
        (
            "image/png",
            "text/plain; version=0.0.4; charset=utf-8",
            "# HELP ",
            "\n",
        ),
        (open_metrics, open_metrics, "# HELP ", "\n# EOF\n"),
        // The length of the first message, and its name's.
        (protobuf, protobuf, "\u{1}\n\u{f}linkerd_ebpf_up", ""),
    ] {
        let header = format!("accept: {accept}\r\n");
        let answer = server.request("GET", "/metrics", &header);
        assert_eq!(answer.status, 200);
        let line = format!("\r\ncontent-type: {content_type}\r\n");
        assert!(answer.head.contains(&line), "{}", answer.head);
        let vary = "\r\nvary: accept, accept-encoding\r\n";
        assert!(answer.head.contains(vary), "{}", answer.head);
        let begins = answer.body.windows(begin.len()).take(2);
        assert!(begins.into_iter().any(|bytes| bytes == begin.as_bytes()));
        assert!(answer.body.ends_with(end.as_bytes()));
        // Whatever the format, compressed it is the same page.
        let header = format!("{header}accept-encoding: gzip\r\n");
        let gzip = server.request("GET", "/metrics", &header);
        let mut page = Vec::new();
        GzDecoder::new(gzip.body.as_slice())
            .read_to_end(&mut page)
            .unwrap();
        // But for how long it took.
        assert!(page.len().abs_diff(answer.body.len()) < 100);
        let head = server.request("HEAD", "/metrics", &header);
        assert!(head.head.contains(&line) && head.body.is_empty());
    }
    let readiness = server.request("GET", "/ready", &format!("accept: {open_metrics}\r\n"));
    assert_eq!(readiness.text(), "ready\n");
}

#[test]
fn gzip_where_accepted() {
    let pins = pins();
    let server = Running::start(&pins);
    let answer = server.request("GET", "/metrics", "accept-encoding: gzip\r\n");
    assert!(answer.head.contains("content-encoding: gzip\r\n"));
    let mut text = String::new();
    GzDecoder::new(answer.body.as_slice())
        .read_to_string(&mut text)
        .unwrap();
    assert!(answer.body.len() * 5 < text.len());
    assert!(text.lines().count() > 10_000);
    let refused = server.request("GET", "/metrics", "accept-encoding: gzip;q=0\r\n");
    assert!(refused.text().starts_with("# HELP"));
}

#[test]
fn pins_that_come_later() {
    let pins = PlainDir::create();
    let server = Running::start(&pins);
    let metrics = server.get("/metrics");
    assert_eq!(metrics.status, 200);
    assert!(
        metrics
            .text()
            .contains("\nlinkerd_ebpf_up{reason=\"waiting for metricd-init\"} 0\n")
    );
    let ready = server.get("/ready");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("waiting for metricd-init"));
    assert_eq!(server.get("/live").status, 200);

    pins.write(&peers(1));
    assert_eq!(server.get("/ready").status, 200);
    assert!(
        server
            .get("/metrics")
            .text()
            .contains("\nlinkerd_ebpf_up 1\n")
    );
}

#[test]
fn a_connection_serves_many_requests() {
    let pins = pins();
    let server = Running::start(&pins);
    let mut stream = BufReader::new(server.connect());
    for _ in 0..3 {
        write!(stream.get_mut(), "GET /live HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut line = String::new();
        while line.trim_end() != "live" {
            line.clear();
            assert_ne!(stream.read_line(&mut line).unwrap(), 0);
        }
    }
}

#[test]
fn many_scrapes_at_once() {
    let pins = PlainDir::create();
    pins.write(&peers(100));
    let server = Running::start(&pins);
    thread::scope(|scope| {
        let scrapes: Vec<_> = (0..100)
            .map(|_| scope.spawn(|| server.get("/metrics")))
            .collect();
        for scrape in scrapes {
            let answer = scrape.join().unwrap();
            assert_eq!(answer.status, 200);
            assert!(answer.text().lines().count() > 1_000);
        }
    });
}

#[test]
fn a_slow_reader_blocks_nobody() {
    let pins = pins();
    let server = Running::start(&pins);
    let slow: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = server.connect();
            write!(stream, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            stream.read_exact(&mut [0]).unwrap();
            stream
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(server.get("/metrics").status, 200);
    }
    drop(slow);
}

#[test]
fn large_and_broken_heads_are_refused() {
    let pins = pins();
    let server = Running::start(&pins);
    let header = format!("x: {}\r\n", "y".repeat(2 * HEAD_SIZE));
    let mut stream = server.connect();
    // The server may close before it has all.
    let _ = write!(stream, "GET /live HTTP/1.1\r\nhost: x\r\n{header}\r\n");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"));

    let mut stream = server.connect();
    stream.write_all(b"\x16\x03\x01 hello\r\n\r\n").unwrap();
    assert_eq!(Answer::read(stream).status, 400);
    assert_eq!(server.get("/live").status, 200);
}

#[test]
fn stopping_finishes_what_is_under_way() {
    let pins = pins();
    let server = Running::start(&pins);
    let mut idle = server.connect();
    let mut busy = server.connect();
    write!(busy, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    busy.read_exact(&mut [0]).unwrap();
    let begun = Instant::now();
    let address = server.address;
    let stopping = thread::spawn(move || drop(server));
    let mut text = Vec::new();
    busy.read_to_end(&mut text).unwrap();
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("linkerd_ebpf_scrape_duration_seconds "));
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
    stopping.join().unwrap();
    assert!(begun.elapsed() < STOP_TIMEOUT);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn the_unspecified_ipv6_address_takes_ipv4_too() {
    let pins = PlainDir::create();
    let server = Running::listen(&pins, "[::]:0");
    let ipv4 = ("127.0.0.1", server.address.port());
    assert!(TcpStream::connect(ipv4).is_ok());
}

#[test]
fn an_address_that_is_taken() {
    let pins = PlainDir::create();
    let server = Running::start(&pins);
    let config = SidecarConfig {
        pin_dir: (*pins).clone(),
        read: ReadBy::Auto,
        l7_file: None,
        show_idle: Duration::ZERO,
        listen: server.address,
    };
    let error = runtime()
        .unwrap()
        .block_on(async { Server::bind(config).err().unwrap() });
    assert_eq!(
        error.to_string(),
        format!("listening on {}", server.address)
    );
}

#[test]
#[ignore = "takes as long as HEAD_TIMEOUT"]
fn a_head_that_never_ends_is_cut_off() {
    let pins = PlainDir::create();
    let server = Running::start(&pins);
    let mut stream = server.connect();
    write!(stream, "GET /live HTTP/1.1\r\nhost:").unwrap();
    let begun = Instant::now();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let waited = begun.elapsed();
    assert!(waited >= HEAD_TIMEOUT && waited < HEAD_TIMEOUT + Duration::from_secs(2));
}

#[test]
fn what_does_not_change_leaves_the_page_and_comes_back() {
    let pins = pins();
    let server = Running::with(SidecarConfig {
        pin_dir: (*pins).clone(),
        read: ReadBy::Auto,
        l7_file: None,
        show_idle: Duration::from_millis(1),
        listen: "127.0.0.1:0".parse().unwrap(),
    });
    let mut peers = peers(1000);
    for (_, value) in &mut peers.metrics {
        (value.active, value.closed.fin) = (0, 3);
        value.ended += 1;
    }
    pins.write(&peers);
    let page = || server.get("/metrics").text().to_owned();
    let count = |page: &str, name: &str| page.lines().filter(|line| line.starts_with(name)).count();
    let totals = |page: &str| {
        let lines = page
            .lines()
            .filter(|line| line.starts_with("linkerd_ebpf_pod_"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let first = page();
    assert_eq!(count(&first, "linkerd_ebpf_bytes_total{"), 2000);
    assert!(first.contains("\nlinkerd_ebpf_series_idle 0\n"));
    // Longer than the clock's steps.
    thread::sleep(Duration::from_millis(200));
    let second = page();
    assert_eq!(count(&second, "linkerd_ebpf_bytes_total{"), 0);
    assert_eq!(count(&second, "linkerd_ebpf_responses_total{"), 0);
    assert!(second.contains("\nlinkerd_ebpf_series_idle 2000\n"));
    assert_eq!(totals(&second), totals(&first));
    // Who asks for all has all, and is none the wiser for others.
    let whole = server.get("/metrics?show-idle=0");
    assert_eq!(count(whole.text(), "linkerd_ebpf_bytes_total{"), 2000);
    assert!(whole.text().contains("\nlinkerd_ebpf_series_idle 0\n"));

    let (_, value) = &mut peers.metrics[500];
    value.recv.bytes += 1;
    let bytes = value.recv.bytes;
    pins.write(&peers);
    let third = page();
    assert_eq!(count(&third, "linkerd_ebpf_bytes_total{"), 2);
    assert!(third.contains(&format!("io=\"recv\"}} {bytes}\n")));
    assert!(third.contains("\nlinkerd_ebpf_series_idle 1999\n"));
}
