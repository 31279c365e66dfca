//! What others make of the pages: promtool's checks, decoders of each format, and a real Prometheus.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::client::{connect_from, drain};
use crate::fixture::{Family, Pod, Shape};
use crate::load::h2load;
use crate::peers::python;
use crate::process::{PATIENCE, Process, eventually, output};
use crate::server::{HTTP, Nginx, STATUSES, urls};

#[test]
fn promtool_finds_nothing_to_say() {
    let pod = Pod::measured(Shape::Plain, &["--detail", "full"]);
    let _nginx = Nginx::start(&pod);
    for family in [Family::V4, Family::V6] {
        h2load(&pod, 1000, &urls(&pod, family, &STATUSES));
    }
    let file = pod.tmp.file("metrics");
    fs::write(&file, &pod.ended().text).expect("write");
    let checked = output(
        Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::from(fs::File::open(&file).expect("open"))),
    );
    let said = [checked.stdout, checked.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(checked.status.success() && said.is_empty(), "{said}");
}

/// With labels of routes, and with all of a counter's series and a histogram's.
#[test]
fn other_decoders_read_one_page_in_all_formats() {
    let pod = Pod::measured(Shape::Plain, &["--detail", "full", "--routes", "20"]);
    let _nginx = Nginx::start(&pod);
    for family in [Family::V4, Family::V6] {
        h2load(&pod, 1000, &urls(&pod, family, &STATUSES));
    }
    let samples = pod.ended().samples.len();
    let mut command = python("exposition.py");
    let said = pod.hook.run(command.arg("http://127.0.0.1:4191/metrics"));
    let numbers: Vec<usize> = said.split_whitespace().flat_map(str::parse).collect();
    assert!(numbers[0] == samples && numbers[1] > 0, "{said}");
}

/// A Prometheus that scrapes the pod every second.
struct Prometheus<'a> {
    pod: &'a Pod,
    port: u16,
    _process: Process,
}

impl<'a> Prometheus<'a> {
    fn start(pod: &'a Pod, program: &str, port: u16, flags: &[&str]) -> Self {
        let config = pod.tmp.file("prometheus.yml");
        fs::write(
            &config,
            "global: {scrape_interval: 1s, scrape_timeout: 1s}\n\
             scrape_configs: [{job_name: pod, static_configs: [{targets: ['127.0.0.1:4191']}]}]\n",
        )
        .expect("write");
        let file = |name| pod.tmp.file(&format!("{name}-{port}"));
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", file("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(flags);
        let _process = Process::start(&pod.hook, command, file("prometheus.log"));
        Self {
            pod,
            port,
            _process,
        }
    }

    /// One that knows created timestamps.
    fn newer(pod: &'a Pod, port: u16, flags: &[&str]) -> Self {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/target/prometheus/prometheus");
        assert!(
            Path::new(program).exists(),
            "{program} is missing: make setup-prometheus"
        );
        Self::start(pod, program, port, flags)
    }

    /// The value of an expression that has one, now or at a time in seconds.
    fn query(&self, expression: &str, time: Option<f64>) -> Option<f64> {
        let encoded: String = expression
            .bytes()
            .map(|byte| format!("%{byte:02x}"))
            .collect();
        let time = time.map_or(String::new(), |time| format!("&time={time:.3}"));
        let answer = self.pod.hook.inside(|| {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
            let request = format!("GET /api/v1/query?query={encoded}{time} HTTP/1.0\r\n\r\n");
            stream.write_all(request.as_bytes()).ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            Some(answer)
        })?;
        // {"status":"success",…"value":[1700000000.1,"42"]…}
        let (_, value) = answer.split_once("\"value\":[")?;
        let (_, value) = value.split_once(",\"")?;
        value.split('"').next()?.parse().ok()
    }

    /// Waits until an expression has this value.
    fn is(&self, expression: &str, expected: u64) {
        let mut last = None;
        let agrees = eventually(PATIENCE, || {
            last = self.query(expression, None);
            last == Some(expected as f64)
        });
        assert!(agrees, "{expression} is {last:?}, not {expected}");
    }

    /// By how much the counters of a selector have increased in sum. The window ends with the last
    /// sample, and what began at zero began there, so there is nothing to extrapolate at either end: the
    /// value is exact.
    fn increase(&self, selector: &str) -> Option<f64> {
        let last = self.query("max(timestamp(linkerd_ebpf_up))", None);
        self.query(&format!("sum(increase({selector}[5m]))"), last)
    }
}

#[test]
fn a_prometheus_that_scrapes() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let nginx = Nginx::start(&pod);
    let prometheus = Prometheus::start(&pod, "prometheus", 9090, &[]);
    h2load(&pod, 3000, &urls(&pod, Family::V6, &STATUSES));
    pod.ended();
    let logged = nginx.responses(3000);
    prometheus.is("min(up)", 1);
    prometheus.is("sum(linkerd_ebpf_requests_total{dst_port=\"80\"})", 3000);
    prometheus.is("sum(linkerd_ebpf_requests_in_flight)", 0);
    for (status, count) in &logged {
        prometheus.is(
            &format!("sum(linkerd_ebpf_responses_total{{status=\"{status}\"}})"),
            *count,
        );
    }
    // The histograms arrive as such: what a quantile is computed from ends with all of them.
    prometheus.is(
        "sum(linkerd_ebpf_request_duration_seconds_bucket{le=\"+Inf\"})",
        3000,
    );
}

/// Of 100 clients each asks once, and one gets a 500. Each is a series of its own that begins with its
/// only request. Created timestamps tell that it was 0 before; totals were there at 0.
#[test]
fn a_prometheus_sees_the_first_request_of_each_client() {
    const CLIENTS: u8 = 100;
    const REQUESTS: &str = "linkerd_ebpf_requests_total";
    const FAILURES: &str = "linkerd_ebpf_responses_total{status=\"500\"}";
    const DURATIONS: &str = "linkerd_ebpf_request_duration_seconds_count";
    let pod = Pod::measured(Shape::Plain, &["--detail", "full"]);
    let _nginx = Nginx::start(&pod);
    let client = |number: u8| IpAddr::from([10, 9, 0, 100 + number]);
    for number in 0..CLIENTS {
        let address = client(number);
        pod.client.ip(&format!("addr add {address}/24 dev eth0"));
    }
    let flag = ["--enable-feature=created-timestamp-zero-ingestion"];
    let with = Prometheus::newer(&pod, 9090, &flag);
    let without = [
        Prometheus::start(&pod, "prometheus", 9091, &[]),
        Prometheus::newer(&pod, 9092, &[]),
    ];
    let all = || without.iter().chain([&with]);
    let scraped = "clamp_max(min(count_over_time(linkerd_ebpf_up[5m])), 2)";
    all().for_each(|prometheus| prometheus.is(scraped, 2));
    for number in 0..CLIENTS {
        let to = pod.server_at(Family::V4, HTTP);
        let from = SocketAddr::new(client(number), 0);
        let connected = pod.client.inside(|| connect_from(from, to));
        let mut stream = connected.expect("a connection");
        let path = if number == 50 { "500" } else { "200" };
        let request = format!("GET /{path} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("a request");
        assert!(drain(&mut stream).starts_with(format!("HTTP/1.1 {path}").as_bytes()));
    }
    pod.ended();
    for prometheus in all() {
        prometheus.is(&format!("count({REQUESTS})"), CLIENTS.into());
        prometheus.is(&format!("sum({DURATIONS})"), CLIENTS.into());
    }
    // A rate takes two samples.
    for prometheus in all() {
        let twice = format!("clamp_max(min(count_over_time({REQUESTS}[5m])), 2)");
        prometheus.is(&twice, 2);
    }
    let counted = Some(CLIENTS.into());
    assert_eq!(with.increase(REQUESTS), counted);
    assert_eq!(with.increase(FAILURES), Some(1.0));
    assert_eq!(with.increase(DURATIONS), counted);
    for prometheus in &without {
        assert_eq!(prometheus.increase(REQUESTS), Some(0.0));
        assert_eq!(prometheus.increase(FAILURES), Some(0.0));
    }
    for prometheus in all() {
        let requests = "linkerd_ebpf_pod_requests_total{protocol=\"http1\"}";
        assert_eq!(prometheus.increase(requests), counted);
        let failures = "linkerd_ebpf_pod_responses_total{status_class=\"5xx\"}";
        assert_eq!(prometheus.increase(failures), Some(1.0));
        // Nothing is stored that is no series of ours.
        assert_eq!(
            prometheus.query("count({__name__=~\".+_created\"})", None),
            None
        );
    }
}
