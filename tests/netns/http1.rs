//! HTTP/1.1 as real servers and clients speak it: nginx's own counts, and the client's, are the
//! truth.

use std::process::Command;

use crate::client::{connect, pipeline};
use crate::exposition::Scrape;
use crate::fixture::{Family, Pod, Shape};
use crate::l4::assert_equal_growth;
use crate::load::{check, command, h2load, requests};
use crate::observed::{Connections, Http};
use crate::process::output;
use crate::server::{HTTP, HTTPS, Nginx, STATUSES, urls};
use crate::tunnel::{self, Tunnel};

/// Nothing in flight, nothing lost, and of each status what nginx has logged.
fn assert_as_logged(nginx: &Nginx, scrape: &Scrape, requests: u64) {
    Http::answered(nginx.responses(requests)).assert_in(scrape, HTTP);
    assert_eq!(Http::of(scrape, HTTP).requests, requests);
}

fn h2load_is_counted(family: Family, attach: &str) {
    let pod = Pod::measured(Shape::Plain, &["--attach", attach]);
    let nginx = Nginx::start(&pod);
    let before = nginx.requests(&pod);
    h2load(&pod, requests(), &urls(&pod, family, &["200"]));
    let asked = 1;
    let served = nginx.requests(&pod) - before - asked;
    let scrape = pod.ended();
    assert_eq!(served, requests());
    assert_as_logged(&nginx, &scrape, served);
    Connections::closed("fin", 50).assert_in(&scrape, HTTP);
    let client = pod.client_ip(family).to_string();
    let server = pod.server_ip(family).to_string();
    let peer = [
        ("direction", "inbound"),
        ("src_ip", client.as_str()),
        ("dst_ip", server.as_str()),
        ("src_port", ""),
        ("dst_port", "80"),
        ("proto", "tcp"),
    ];
    assert_eq!(scrape.sum("linkerd_ebpf_requests_total", &peer), served);
}

#[test]
fn h2load_over_ipv4_by_tcx() {
    h2load_is_counted(Family::V4, "tcx");
}

#[test]
fn h2load_over_ipv6_by_tcx() {
    h2load_is_counted(Family::V6, "tcx");
}

#[test]
fn h2load_over_ipv4_by_clsact() {
    h2load_is_counted(Family::V4, "clsact");
}

#[test]
fn h2load_over_ipv6_by_clsact() {
    h2load_is_counted(Family::V6, "clsact");
}

#[test]
fn mixed_statuses() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let nginx = Nginx::start(&pod);
    let requests = 12_000;
    h2load(&pod, requests, &urls(&pod, Family::V4, &STATUSES));
    let scrape = pod.ended();
    assert_as_logged(&nginx, &scrape, requests);
    for status in STATUSES {
        let status = status.to_string();
        let count = Http::of(&scrape, HTTP).responses[&status];
        assert!(count > 1000, "{count} of {status}");
    }
}

#[test]
fn every_detail_counts_the_same() {
    for (detail, kept) in [
        ("pod", [false, false]),
        ("service", [true, false]),
        ("full", [true, true]),
    ] {
        let pod = Pod::measured(Shape::Plain, &["--detail", detail]);
        let nginx = Nginx::start(&pod);
        h2load(&pod, 1000, &urls(&pod, Family::V4, &["200", "404"]));
        let scrape = pod.ended();
        let responses = scrape.by("status", "linkerd_ebpf_responses_total", &[]);
        assert_eq!(responses, nginx.responses(1000), "--detail {detail}");
        for sample in scrape.select("linkerd_ebpf_requests_total", &[]) {
            let present = ["src_ip", "src_port"].map(|label| !sample.labels[label].is_empty());
            assert_eq!(present, kept, "--detail {detail}: {sample:?}");
        }
        let series = scrape.select("linkerd_ebpf_requests_total", &[]).count();
        assert_eq!(series, if detail == "full" { 50 } else { 1 });
    }
}

/// 2,000 requests in one write: many a packet, many outstanding, and not in order: a veth pair hands
/// over the packets of two CPUs as they come.
#[test]
fn a_burst_of_pipelined_requests() {
    for shape in [Shape::Plain, Shape::Frames] {
        let pod = Pod::measured(shape, &[]);
        let nginx = Nginx::start(&pod);
        let requests: Vec<String> = (0..2000)
            .map(|i| STATUSES[i % STATUSES.len()])
            .map(|status| {
                let since = match status {
                    304 => "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT\r\n",
                    _ => "",
                };
                format!("GET /{status} HTTP/1.1\r\nHost: pod\r\n{since}\r\n")
            })
            .collect();
        let stream = connect(&pod.client, pod.server_at(Family::V4, HTTP));
        let statuses = pipeline(&stream, &requests);
        drop(stream);
        let scrape = pod.ended();
        assert_eq!(statuses, nginx.responses(2000));
        assert_as_logged(&nginx, &scrape, 2000);
    }
}

/// What a HEAD is answered with says a length that no body has.
#[test]
fn head_between_others() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let nginx = Nginx::start(&pod);
    let stream = connect(&pod.client, pod.server_at(Family::V4, HTTP));
    for _ in 0..20 {
        for method in ["HEAD", "GET", "HEAD", "HEAD", "GET", "GET"] {
            let request = format!("{method} /20k HTTP/1.1\r\nHost: pod\r\n\r\n");
            pipeline(&stream, &[request]);
        }
    }
    drop(stream);
    assert_as_logged(&nginx, &pod.ended(), 120);
    assert_eq!(nginx.lines("HEAD")["200"], 60);
}

fn curl(pod: &Pod, words: &[&str], path: &str) -> String {
    let url = urls(pod, Family::V4, &[path]).remove(0);
    pod.client.run(
        Command::new("curl")
            .args(["-sS", "-o", "/dev/null", "-w", "%{http_code}"])
            .args(words)
            .arg(url),
    )
}

/// curl waits for 100 before it sends a large body; nginx answers a chunked upload likewise.
#[test]
fn uploads_with_expect_and_in_chunks() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let nginx = Nginx::start(&pod);
    // A body full of what looks like requests and responses, over many packets.
    let body = "GET / HTTP/1.1\r\nHost: no\r\n\r\nHTTP/1.1 500 No\r\nContent-Length: 3\r\n\r\n";
    let file = pod.tmp.file("body");
    std::fs::write(&file, body.repeat(30_000)).expect("a body");
    let data = format!("@{}", file.display());
    let upload = ["-X", "POST", "--data-binary", &data];
    for header in [
        "Expect: 100-continue",
        "Expect:",
        "Transfer-Encoding: chunked",
    ] {
        for path in ["503", "404"] {
            let status = curl(&pod, &[&upload[..], &["-H", header]].concat(), path);
            assert_eq!(status, path);
        }
    }
    let scrape = pod.ended();
    let responses = nginx.lines("POST");
    assert_eq!(responses.values().sum::<u64>(), 6);
    Http::answered(responses).assert_in(&scrape, HTTP);
}

/// A body of many packets, and one that its client does not wait for.
#[test]
fn downloads_whole_and_given_up() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let _nginx = Nginx::start(&pod);
    assert_eq!(curl(&pod, &[], "10m"), "200");
    Http::requests(1)
        .response("200", 1)
        .assert_in(&pod.ended(), HTTP);
    let url = urls(&pod, Family::V4, &["10m"]).remove(0);
    let given_up = pod.client.inside(|| {
        output(
            Command::new("curl")
                .args(["-sS", "--max-filesize", "1000000", "-o", "/dev/null", "-f"])
                .arg(&url),
        )
    });
    assert_eq!(given_up.status.code(), Some(63), "curl gives up");
    let scrape = pod.ended();
    let observed = Http::of(&scrape, HTTP);
    assert_eq!((observed.requests, observed.in_flight), (2, 0));
    assert_eq!(observed.responses.get("200"), Some(&1));
    assert_eq!(observed.aborted.values().sum::<u64>(), 1, "{observed:?}");
}

/// HTTP/1.0 with and without keep-alive, by a real client.
#[test]
fn http_1_0() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let nginx = Nginx::start(&pod);
    for _ in 0..5 {
        curl(&pod, &["--http1.0"], "200");
        curl(&pod, &["--http1.0", "-H", "Connection: keep-alive"], "404");
    }
    assert_as_logged(&nginx, &pod.ended(), 10);
}

/// The pod as a client: requests that go out are counted with the server's port.
#[test]
fn outbound_requests() {
    let pod = Pod::measured(Shape::Plain, &[]);
    // nginx in the client's namespace, the clients in the pod's.
    let nginx = Nginx::start_in(&pod, &pod.client);
    let url = format!("http://{}/", pod.client_ip(Family::V4));
    let urls = [url.clone() + "200", url + "503"];
    let said = pod.hook.run(&mut command(2000, &urls));
    check(&said, 2000);
    let scrape = pod.ended();
    assert_as_logged(&nginx, &scrape, 2000);
    let src = pod.server_ip(Family::V4).to_string();
    let dst = pod.client_ip(Family::V4).to_string();
    let peer = [
        ("direction", "outbound"),
        ("src_ip", src.as_str()),
        ("dst_ip", dst.as_str()),
        ("dst_port", "80"),
    ];
    assert_eq!(scrape.sum("linkerd_ebpf_requests_total", &peer), 2000);
    assert_eq!(scrape.sum("linkerd_ebpf_requests_in_flight", &peer), 0);
}

/// On the loopback every packet passes twice, and counts once.
#[test]
fn requests_over_the_loopback() {
    let pod = Pod::measured_on_loopback();
    let nginx = Nginx::start(&pod);
    for (family, requests) in [(Family::V4, 2000), (Family::V6, 1000)] {
        // Its own address, but the way there is lo.
        let urls = urls(&pod, family, &["200", "404"]);
        let said = pod.hook.run(&mut command(requests, &urls));
        check(&said, requests);
    }
    let scrape = pod.ended();
    assert_as_logged(&nginx, &scrape, 3000);
    Connections::closed("fin", 100).assert_in(&scrape, HTTP);
}

/// What is encrypted is recognised as such, and not guessed at.
#[test]
fn tls_is_opaque() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let nginx = Nginx::start_with_tls(&pod);
    let url = format!("https://{}/200", pod.server_at(Family::V4, HTTPS));
    for _ in 0..5 {
        let code = pod.client.run(
            Command::new("curl")
                .args(["-sSk", "-o", "/dev/null", "-w", "%{http_code}", "--http1.1"])
                .arg(&url),
        );
        assert_eq!(code, "200");
    }
    let scrape = pod.ended();
    assert_eq!(nginx.responses(5)["200"], 5);
    Http::default().assert_in(&scrape, HTTPS);
    let connections = Connections::of(&scrape, HTTPS);
    assert_eq!((connections.opened, connections.tls), (5, 5));
}

/// Another port, another protocol switched off: totals stay, requests over IPv6 do not show.
#[test]
fn ipv6_switched_off() {
    let pod = Pod::measured(Shape::Plain, &["--ipv6=false"]);
    let nginx = Nginx::start(&pod);
    h2load(&pod, 500, &urls(&pod, Family::V6, &["200"]));
    h2load(&pod, 500, &urls(&pod, Family::V4, &["404"]));
    let scrape = pod.ended();
    assert_eq!(nginx.responses(1000)["200"], 500);
    Http::requests(500)
        .response("404", 500)
        .assert_in(&scrape, HTTP);
    assert_eq!(
        scrape.sum("linkerd_ebpf_requests_total", &[]),
        500,
        "nothing of IPv6"
    );
}

/// Packets that begin with the IP header.
#[test]
fn a_device_without_ethernet() {
    for attach in ["tcx", "clsact"] {
        let mut pod = Pod::new(Shape::Plain);
        let _tunnel = Tunnel::start([
            (&pod.client, ["10.8.0.1/24", "fd08::1/64"]),
            (&pod.hook, ["10.8.0.2/24", "fd08::2/64"]),
        ]);
        pod.attach(&["--interface", tunnel::DEVICE, "--attach", attach]);
        pod.start();
        let nginx = Nginx::start(&pod);
        let before = pod.both_counts(tunnel::DEVICE);
        for host in ["10.8.0.2", "[fd08::2]"] {
            let urls = ["200", "404"].map(|path| format!("http://{host}/{path}"));
            let said = pod.client.run(&mut command(600, &urls));
            check(&said, 600);
        }
        let scrape = pod.ended();
        assert_as_logged(&nginx, &scrape, 1200);
        // No header is counted that is not there.
        assert_equal_growth(&before, &pod.both_counts(tunnel::DEVICE));
    }
}
