//! What others make of the text: promtool's checks, and a real Prometheus.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::fixture::{Family, Pod, Shape};
use crate::load::h2load;
use crate::process::{Process, eventually, output};
use crate::server::{Nginx, STATUSES, urls};

const PORT: u16 = 9090;

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

/// The value of an expression that has one.
fn query(pod: &Pod, expression: &str) -> Option<f64> {
    let encoded: String = expression
        .bytes()
        .map(|byte| format!("%{byte:02x}"))
        .collect();
    let answer = pod.hook.inside(|| {
        let mut stream = TcpStream::connect(("127.0.0.1", PORT)).ok()?;
        let request = format!("GET /api/v1/query?query={encoded} HTTP/1.0\r\n\r\n");
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

#[test]
fn a_prometheus_that_scrapes() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let nginx = Nginx::start(&pod);
    let config = pod.tmp.file("prometheus.yml");
    fs::write(
        &config,
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n\
         scrape_configs: [{job_name: pod, static_configs: [{targets: ['127.0.0.1:4191']}]}]\n",
    )
    .expect("write");
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            pod.tmp.file("tsdb").display()
        ))
        .arg(format!("--web.listen-address=127.0.0.1:{PORT}"));
    let log = pod.tmp.file("prometheus.log");
    let _prometheus = Process::start(&pod.hook, command, log);
    h2load(&pod, 3000, &urls(&pod, Family::V6, &STATUSES));
    pod.ended();
    let logged = nginx.responses(3000);
    let patience = Duration::from_secs(30);
    let is = |expression: &str, expected: u64| {
        let mut last = None;
        let agrees = eventually(patience, || {
            last = query(&pod, expression);
            last == Some(expected as f64)
        });
        assert!(agrees, "{expression} is {last:?}, not {expected}");
    };
    is("min(up)", 1);
    is("sum(linkerd_ebpf_requests_total{dst_port=\"80\"})", 3000);
    is("sum(linkerd_ebpf_requests_in_flight)", 0);
    for (status, count) in &logged {
        is(
            &format!("sum(linkerd_ebpf_responses_total{{status=\"{status}\"}})"),
            *count,
        );
    }
    // The histograms arrive as such: what a quantile is computed from ends with all of them.
    is(
        "sum(linkerd_ebpf_request_duration_seconds_bucket{le=\"+Inf\"})",
        3000,
    );
}
