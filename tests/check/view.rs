//! stat, top and diagnose of a pod through the API server, and of a URL.

use std::process::Output;

use hyper::Method;
use serde_json::Value;

use crate::api::{Api, World};
use crate::golden::{binary, output, stderr, stdout};
use crate::world::*;

const METRICS: &str = r#"linkerd_ebpf_up 1
linkerd_ebpf_bytes_total{direction="inbound",src_ip="10.0.0.9",dst_ip="10.0.0.1",src_port="",dst_port="80",proto="tcp",io="recv"} 1000
linkerd_ebpf_bytes_total{direction="inbound",src_ip="10.0.0.9",dst_ip="10.0.0.1",src_port="",dst_port="80",proto="tcp",io="sent"} 20000
linkerd_ebpf_requests_total{direction="inbound",src_ip="10.0.0.9",dst_ip="10.0.0.1",src_port="",dst_port="80",proto="tcp",protocol="http1",route="/users/{id}"} 6
linkerd_ebpf_responses_total{direction="inbound",src_ip="10.0.0.9",dst_ip="10.0.0.1",src_port="",dst_port="80",proto="tcp",protocol="http1",status="200",grpc_status="",route="/users/{id}"} 3
linkerd_ebpf_responses_total{direction="inbound",src_ip="10.0.0.9",dst_ip="10.0.0.1",src_port="",dst_port="80",proto="tcp",protocol="http1",status="500",grpc_status="",route="/users/{id}"} 1
linkerd_ebpf_requests_aborted_total{direction="inbound",src_ip="10.0.0.9",dst_ip="10.0.0.1",src_port="",dst_port="80",proto="tcp",protocol="http1",route="/users/{id}",reason="fin"} 1
linkerd_ebpf_requests_aborted_total{direction="inbound",src_ip="10.0.0.9",dst_ip="10.0.0.1",src_port="",dst_port="80",proto="tcp",protocol="http1",route="/users/{id}",reason="stopped"} 1
linkerd_ebpf_request_duration_seconds_bucket{direction="inbound",src_ip="",dst_ip="",dst_port="80",protocol="http1",status_class="2xx",route="/users/{id}",le="0.005"} 2
linkerd_ebpf_request_duration_seconds_bucket{direction="inbound",src_ip="",dst_ip="",dst_port="80",protocol="http1",status_class="2xx",route="/users/{id}",le="1"} 4
linkerd_ebpf_request_duration_seconds_bucket{direction="inbound",src_ip="",dst_ip="",dst_port="80",protocol="http1",status_class="2xx",route="/users/{id}",le="+Inf"} 4
"#;

const TABLES: &str = "\
DIRECTION   SUCCESS   REQUESTS   ABORTED   LATENCY_P50   LATENCY_P95   LATENCY_P99
inbound      60.00%          6         1         5.0ms         900ms         980ms
outbound          -          0         0             -             -             -

DIRECTION   PORT   PROTOCOL   ROUTE         SUCCESS   REQUESTS   ABORTED   LATENCY_P50   LATENCY_P95   LATENCY_P99
inbound     80     http1      /users/{id}    60.00%          6         1         5.0ms         900ms         980ms

# latency is kept by server port, not by peer; --detail full of metricd-init keeps both
DIRECTION   PEER       PORT   PROTO   SUCCESS   REQUESTS   ABORTED   TCP_CONN   READ_BYTES   WRITE_BYTES
inbound     10.0.0.9   80     tcp      60.00%          6         1          0        1.0kB        20.0kB
";

fn serving(text: &str) -> World {
    let mut world = installed();
    world.texts.insert(metrics("web-7d4b9"), text.into());
    world
}

fn run(world: World, words: &str) -> (Api, Output) {
    let api = Api::start(world);
    let output = output(&mut api.command(words));
    (api, output)
}

#[test]
fn stat_of_a_pod() {
    for words in [
        "stat web-7d4b9",
        "stat emojivoto/web-7d4b9",
        "stat web-7d4b9 -n emojivoto",
    ] {
        let (api, output) = run(serving(METRICS), &format!("{words} --total"));
        assert_eq!(stdout(&output), TABLES, "{}", stderr(&output));
        assert!(output.status.success());
        let asked: Vec<String> = api.asked(Method::GET).into_iter().map(|a| a.path).collect();
        assert_eq!(
            asked,
            [format!("{EMOJIVOTO_PODS}/web-7d4b9"), metrics("web-7d4b9")]
        );
    }
}

#[test]
fn stat_of_a_url() {
    let api = Api::start(serving(METRICS));
    let url = format!("{}{}", api.url(), metrics("web-7d4b9"));
    let output = output(binary().args(["stat", "--total", "--output", "json", "--url", &url]));
    let json: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(json["window_seconds"], Value::Null);
    let server = &json["servers"][0];
    assert_eq!(
        (&server["success"], &server["route"]),
        (&0.6.into(), &"/users/{id}".into())
    );
    for counts in [&json["directions"][0], server, &json["peers"][0]] {
        assert_eq!(counts["direction"], "inbound");
        let aborted = (&counts["requests_aborted"], &counts["requests_stopped"]);
        assert_eq!(aborted, (&1.0.into(), &1.0.into()), "{counts}");
    }
    assert_eq!(server["latency_ms_p50"], 5.0);
    assert_eq!(json["peers"][0]["peer"], "10.0.0.9");
    assert_eq!(
        json["peers"][0]["latency_ms_p50"],
        Value::Null,
        "not kept by peer"
    );
}

#[test]
fn a_diagnosis_ends_with_what_it_says() {
    for (more, status, what) in [
        ("", 0, "whole: 6 requests counted"),
        (
            "linkerd_ebpf_connections_untracked_total 3\n",
            1,
            "not whole: 3 connections found no slot",
        ),
        (
            "linkerd_ebpf_state_lost_total{reason=\"gap\"} 3\n",
            1,
            "may not be whole: 3 connections lack a packet",
        ),
        (
            "linkerd_proxy_ebpf_map_overflow_total{map=\"m\"} 3\n",
            0,
            "whole: 6 requests counted",
        ),
    ] {
        let (_, output) = run(
            serving(&format!("{METRICS}{more}")),
            "diagnose web-7d4b9 --window 10ms",
        );
        let said = stdout(&output);
        assert!(said.contains(what), "{said}{}", stderr(&output));
        assert_eq!(output.status.code(), Some(status), "{said}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let mut plain = injected("plain", "example.org/metricd:1", true);
    plain["spec"]["initContainers"] = serde_json::json!([]);
    let down = "linkerd_ebpf_up{reason=\"no permission to read the pinned maps\"} 0\n";
    for (text, words, why) in [
        (
            METRICS,
            "stat missing",
            "get pod emojivoto/missing: \"missing\" not found",
        ),
        (
            METRICS,
            "stat plain",
            "pod emojivoto/plain has no container metricd",
        ),
        (METRICS, "stat a/b -n c", "a/b is not in namespace c"),
        (METRICS, "stat web-7d4b9 --url x", "cannot be used with"),
        (METRICS, "stat --url ftp://x", "--url ftp://x is none"),
        (
            METRICS,
            "stat --url http://127.0.0.1:1",
            "scrape http://127.0.0.1:1: Connection refused",
        ),
        (
            METRICS,
            "top web-7d4b9",
            "linkerd-metricd stat prints the same",
        ),
        (
            down,
            "stat web-7d4b9",
            "nothing is counted: no permission to read",
        ),
        (
            "<html>\n",
            "stat web-7d4b9",
            "line 1 is not Prometheus' text format",
        ),
        (
            "up 1\n",
            "stat web-7d4b9",
            "these are not metricd's metrics",
        ),
    ] {
        let mut world = serving(text);
        let pods = world.objects.get_mut(EMOJIVOTO_PODS).unwrap();
        pods.push(plain.clone());
        let (_, output) = run(world, words);
        assert!(!output.status.success(), "{words}");
        assert!(
            stderr(&output).contains(why),
            "{words}: {}",
            stderr(&output)
        );
    }
    let mut world = serving(METRICS);
    world.forbidden.insert(metrics("web-7d4b9"));
    let (_, output) = run(world, "stat web-7d4b9");
    let said = stderr(&output);
    assert!(
        said.contains("scrape emojivoto/web-7d4b9") && said.contains("it takes that right"),
        "{said}"
    );
}

/// The proxy's connections with a peer have rows of their own, beside the requests that the application
/// has of the proxy.
#[test]
fn stat_of_a_pod_with_a_proxy() {
    let series = |labels: &str, origin: &str, bytes: u32| {
        format!(
            "linkerd_ebpf_bytes_total{{{labels},proto=\"tcp\",io=\"recv\"{origin}}} {bytes}\n\
             linkerd_ebpf_connections_active{{{labels},proto=\"tcp\"{origin}}} 1\n"
        )
    };
    let requests = |labels: &str, count: u32| {
        format!(
            "linkerd_ebpf_requests_total{{{labels},proto=\"tcp\",protocol=\"http1\"}} {count}\n\
             linkerd_ebpf_responses_total{{{labels},proto=\"tcp\",protocol=\"http1\",status=\"200\"}} {count}\n"
        )
    };
    let client = "direction=\"inbound\",src_ip=\"10.0.0.9\",dst_ip=\"10.0.0.1\",dst_port=\"80\"";
    let unknown = "direction=\"inbound\",src_ip=\"\",dst_ip=\"10.0.0.1\",dst_port=\"80\"";
    let local = "direction=\"local\",src_ip=\"127.0.0.1\",dst_ip=\"127.0.0.1\",dst_port=\"80\"";
    let text = [
        "linkerd_ebpf_up 1\n".into(),
        series(client, ",origin=\"proxy\"", 5000),
        series(unknown, "", 4000),
        requests(unknown, 8),
        series(local, "", 100),
        requests(local, 1),
    ];
    let (_, output) = run(serving(&text.concat()), "stat web-7d4b9 --total");
    let said = stdout(&output);
    let peers = said.split("# latency").nth(1).expect("peers");
    let peers: Vec<&str> = peers.lines().skip(1).collect();
    let expected = [
        "DIRECTION   PEER        PORT   PROTO   ORIGIN   SUCCESS   REQUESTS   ABORTED   TCP_CONN   READ_BYTES   WRITE_BYTES",
        "inbound     -           80     tcp     -        100.00%          8         0          1        4.0kB            0B",
        "local       127.0.0.1   80     tcp     -        100.00%          1         0          1         100B            0B",
        "inbound     10.0.0.9    80     tcp     proxy          -          -         0          1        5.0kB            0B",
    ];
    assert_eq!(peers, expected, "{said}");
}
