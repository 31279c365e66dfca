//! HTTP as API servers speak it, and as they do not.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};

use crate::{
    api::Api,
    fixture::{Answer, Injector, REVIEW, Reply, review, until, wanted},
};

/// As in src/cluster/injector/body.rs.
const SIZE: usize = 4 << 20;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// A review of so many bytes.
fn sized(size: usize) -> String {
    let mut review = wanted();
    review["request"]["object"]["metadata"]["annotations"]["filler"] = "".into();
    let without = review.to_string().len();
    let filler = "x".repeat(size - without);
    review["request"]["object"]["metadata"]["annotations"]["filler"] = filler.into();
    let text = review.to_string();
    assert_eq!(text.len(), size);
    text
}

#[test]
fn every_way_to_send_a_review() {
    let api = Api::start();
    let injector = Injector::start(&api);
    let text = wanted().to_string();
    let packed = gzip(text.as_bytes());
    let charset = "content-type: application/json; charset=utf-8";
    for version in ["--http1.1", "--http2"] {
        for (args, body) in [
            (vec![], text.as_bytes()),
            (vec!["-H", "content-encoding: gzip"], packed.as_slice()),
            (vec!["-H", "content-encoding: identity"], text.as_bytes()),
            (vec!["-H", "transfer-encoding: chunked"], text.as_bytes()),
            (
                vec![
                    "-H",
                    "transfer-encoding: chunked",
                    "-H",
                    "content-encoding: gzip",
                ],
                packed.as_slice(),
            ),
            (vec!["-H", "expect: 100-continue"], text.as_bytes()),
            (vec!["-H", charset], text.as_bytes()),
        ] {
            let mut all = vec![version];
            all.extend(&args);
            let reply = injector.post(&all, body);
            assert_eq!(reply.status, 200, "{all:?}: {reply:?}");
            assert_eq!(reply.version, version.trim_start_matches("--http"));
            assert_eq!(Answer::new(&wanted(), &reply).containers().len(), 3);
        }
    }
}

#[test]
fn a_connection_serves_many_reviews() {
    let api = Api::start();
    let injector = Injector::start(&api);
    let path = injector.path("review.json");
    fs::write(&path, wanted().to_string()).unwrap();
    for version in ["--http1.1", "--http2"] {
        // The two transfers of one call share a connection if they can.
        let body = format!("@{}", path.display());
        let url = injector.url();
        let transfer = [
            "-H",
            "content-type: application/json",
            "--data-binary",
            &body,
            &url,
        ];
        let connects = [
            "-o",
            "/dev/null",
            "-w",
            "\n%{num_connects}\n%{http_code} %{http_version}",
        ];
        let first = [&[version][..], &connects, &transfer, &["--next"]].concat();
        let ca = injector.path("ca.pem");
        let again = ["-sS", "--cacert", ca.to_str().unwrap(), version];
        let args = [first, again.into(), connects.into(), transfer.into()].concat();
        let reply = injector.curl(&args, b"");
        let lines: Vec<&str> = reply.body.lines().chain(["200"]).collect();
        assert!(lines.contains(&"1") && lines.contains(&"0"), "{reply:?}");
    }
    // Over HTTP/2, ten at a time on each connection.
    let report = injector.h2load(&path, &["-n", "1000", "-c", "3", "-m", "10"]);
    assert!(report.contains("1000 succeeded, 0 failed"), "{report}");
    assert!(report.contains("Application protocol: h2"), "{report}");
    let report = injector.h2load(&path, &["-n", "300", "-c", "3", "--h1"]);
    assert!(report.contains("300 succeeded, 0 failed"), "{report}");
}

/// The side that closes an idle connection is to be the API server, which else may send a review on
/// one that we close at that moment.
#[test]
fn an_idle_connection_is_not_closed_soon() {
    let api = Api::start();
    let injector = Injector::start(&api);
    let path = injector.path("review.json");
    fs::write(&path, wanted().to_string()).unwrap();
    let url = injector.url();
    let output = Command::new("curl")
        .args(["--http1.1", "-sS", "--rate", "5/m", "--cacert"])
        .arg(injector.path("ca.pem"))
        .args(["-H", "content-type: application/json", "--data-binary"])
        .arg(format!("@{}", path.display()))
        .args(["-w", "%{num_connects} %{http_code}\n"])
        .args(["-o", "/dev/null", &url, "-o", "/dev/null", &url])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, "1 200\n0 200\n", "12 seconds between them");
}

#[test]
fn what_is_no_review_is_refused_with_the_reason() {
    let api = Api::start();
    let injector = Injector::start(&api);
    let text = wanted().to_string();
    let text = text.as_bytes();
    let with = |key: &str, value: &str| {
        let mut review = review();
        review[key] = value.into();
        review.to_string().into_bytes()
    };
    let cut = &text[..text.len() / 2];
    let packed = gzip(text);
    let bomb = gzip(&vec![b' '; 64 << 20]);
    let deep = [b"[".repeat(1 << 20), b"]".repeat(1 << 20)].concat();
    let mut hole = wanted();
    hole["request"]["object"] = "HERE".into();
    let nested = format!("{}0{}", "[".repeat(1000), "]".repeat(1000));
    let nested = hole.to_string().replace("\"HERE\"", &nested).into_bytes();
    let other = injector.url().replace("/inject", "/mutate");
    for version in ["--http1.1", "--http2"] {
        let is = |args: &[&str], body: &[u8], status: u16, reason: &str| {
            let reply = injector.post(&[&[version], args].concat(), body);
            assert_eq!(reply.status, status, "{reason}: {reply:?}");
            assert!(reply.body.contains(reason), "{reason}: {reply:?}");
        };
        is(&[], b"", 400, "EOF while parsing");
        is(&[], cut, 400, "EOF while parsing");
        is(
            &[],
            b"not JSON",
            400,
            "this is no JSON of an AdmissionReview",
        );
        is(
            &[],
            b"\xff\xfe",
            400,
            "this is no JSON of an AdmissionReview",
        );
        is(
            &[],
            b"{}",
            400,
            "only AdmissionReview of admission.k8s.io/v1",
        );
        let beta = with("apiVersion", "admission.k8s.io/v1beta1");
        is(&[], &beta, 400, "admission.k8s.io/v1beta1");
        is(&[], &with("kind", "Pod"), 400, r#"kind "Pod""#);
        is(&[], &deep, 400, "this is no JSON of an AdmissionReview");
        // It is a question, so it has an answer.
        is(&[], &nested, 200, "recursion limit exceeded");
        is(
            &["-H", "content-type:"],
            text,
            415,
            "a review is application/json",
        );
        is(&["-H", "content-type: text/plain"], text, 415, "text/plain");
        is(
            &["-H", "content-encoding: br"],
            text,
            415,
            "gzip, or none, is understood",
        );
        is(
            &["-H", "content-encoding: gzip"],
            text,
            400,
            "unpack the body",
        );
        is(
            &["-H", "content-encoding: gzip"],
            &packed[..99],
            400,
            "unpack the body",
        );
        is(
            &["-H", "content-encoding: gzip"],
            &bomb,
            413,
            "no more than",
        );
        is(&[], &vec![b' '; SIZE + 1], 413, "no more than");
        let chunked = "transfer-encoding: chunked";
        is(&["-H", chunked], &vec![b' '; SIZE + 1], 413, "no more than");
        is(&["-X", "PUT"], text, 405, "POST only");
        is(&["-X", "GET"], text, 405, "POST only");
        is(&[&other], text, 404, "reviews are posted to /inject");
        is(&[], sized(SIZE).as_bytes(), 200, "JSONPatch");
    }
    let refused = injector.metric(r#"metricd_injector_requests_refused_total{status="413"}"#);
    assert_eq!(refused, 6.0);
    assert!(injector.ask(&wanted()).pod.is_some());
}

#[test]
fn a_body_that_does_not_come_is_waited_for_no_longer_than_anybody_waits_for_us() {
    let api = Api::start();
    let injector = Injector::start(&api);
    let ca = injector.path("ca.pem");
    let begun = Instant::now();
    let slow = ["--http1.1", "--http2"].map(|version| {
        let mut child = Command::new("curl")
            .args([
                version,
                "-sS",
                "-T",
                "-",
                "-X",
                "POST",
                "-w",
                "\n%{http_code}",
            ])
            .args([
                "-H",
                "content-type: application/json",
                "-H",
                "expect:",
                "--cacert",
            ])
            .arg(&ca)
            .arg(injector.url())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&REVIEW.as_bytes()[..500]).unwrap();
        (child, stdin)
    });
    // Meanwhile others are answered.
    assert!(injector.ask(&wanted()).pod.is_some());
    assert!(begun.elapsed() < Duration::from_secs(4));
    let late = r#"metricd_injector_requests_refused_total{status="408"}"#;
    until("late", || injector.metric(late), |late| *late == 2.0);
    for (mut child, stdin) in slow {
        // curl looks for an answer only when it has read some more.
        drop(stdin);
        let mut text = String::new();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_to_string(&mut text).unwrap();
        child.wait().unwrap();
        assert!(text.ends_with("\n408"), "{text}");
        assert!(text.contains("longer than 5 seconds"), "{text}");
    }
    assert!(begun.elapsed() >= Duration::from_secs(5));
}

#[test]
fn large_heads_are_refused() {
    let api = Api::start();
    let injector = Injector::start(&api);
    let header = format!("x: {}", "y".repeat(40 << 10));
    for version in ["--http1.1", "--http2"] {
        let Reply { status, .. } = injector.post(&[version, "-H", &header], b"{}");
        assert!(matches!(status, 431 | 0), "{version}: {status}");
    }
    assert!(injector.ask(&wanted()).pod.is_some());
}

#[test]
fn large_reviews_at_once_take_no_more_memory_than_there_is() {
    let api = Api::start();
    let injector = Injector::start(&api);
    let path = injector.path("large.json");
    // Many small values: what takes most room once it is parsed.
    let numbers = format!("[0{}]", ",0".repeat(SIZE / 2 - 2000));
    let text = wanted()
        .to_string()
        .replace(r#""status":{}"#, &format!(r#""status":{numbers}"#));
    assert!((SIZE - 2000..SIZE).contains(&text.len()), "{}", text.len());
    fs::write(&path, text).unwrap();
    let report = injector.h2load(&path, &["-n", "200", "-c", "20", "-m", "10"]);
    assert!(report.contains("200 done"), "{report}");
    let status = fs::read_to_string(format!("/proc/{}/status", injector.pid())).unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let kilobytes: u32 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 160 << 10, "{kilobytes}");
    assert!(injector.ask(&wanted()).pod.is_some());
}

#[test]
fn pages_for_the_kubelet_and_prometheus() {
    let api = Api::start();
    let injector = Injector::start(&api);
    for (path, status, word) in [
        ("/", 200, "/metrics"),
        ("/live", 200, "live"),
        ("/ready", 200, "ready"),
        ("/metrics", 200, "metricd_injector_build_info{version="),
        ("/inject", 404, "not found"),
    ] {
        let page = injector.page(path);
        assert_eq!(page.status, status, "{path}");
        assert!(page.body.contains(word), "{path}: {page:?}");
    }
    // 2040-01-01
    let expiry = injector.metric("metricd_injector_certificate_expiry_timestamp_seconds");
    assert_eq!(expiry, 2_208_988_800.0);
}

#[test]
fn a_stop_finishes_what_comes_meanwhile() {
    let api = Api::start();
    let injector = Injector::start(&api);
    let mut idle = TcpStream::connect(injector.admin).unwrap();
    let begun = Instant::now();
    Command::new("kill")
        .arg(injector.pid().to_string())
        .status()
        .unwrap();
    let ready = until(
        "stopping",
        || injector.page("/ready"),
        |page| page.status == 503,
    );
    assert_eq!(ready.body, "stopping\n");
    // Some nodes send here still.
    assert!(injector.ask(&wanted()).pod.is_some());
    assert!(injector.wait().success());
    assert!(begun.elapsed() > Duration::from_secs(4));
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
}
