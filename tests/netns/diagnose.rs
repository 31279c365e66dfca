//! What `diagnose` says of real traffic: a finding of each level, with the number that the traffic's ends know.

use serde_json::Value;

use crate::client::Pair;
use crate::fixture::{Pod, Shape, binary};
use crate::process::output;

const PORT: u16 = 9300;
const REQUEST: &str = "GET / HTTP/1.1\r\nHost: pod\r\n\r\n";
const RESPONSE: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// By the command line in the pod's namespace, whose status must agree with what it says.
fn diagnosis(pod: &Pod) -> Value {
    let ended = pod.hook.inside(|| {
        let mut command = binary(env!("CARGO_BIN_EXE_linkerd-metricd"));
        output(command.args(["diagnose", "--output", "json"]))
    });
    let said: Value = serde_json::from_slice(&ended.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&ended.stderr)));
    assert_eq!(ended.status.success(), said["whole"] == true, "{said:#}");
    said
}

/// Whether there is a finding of this level about this metric, with this count and text.
#[track_caller]
fn finds(said: &Value, level: &str, subject: &str, count: u64, text: &str) {
    let findings = said["findings"].as_array().expect("a list");
    let is_so = findings.iter().any(|finding| {
        finding["level"] == level
            && finding["subject"] == subject
            && finding["count"] == count as f64
            && finding["text"].as_str().expect("a text").contains(text)
    });
    assert!(is_so, "{level} {subject} {count} {text}: {said:#}");
}

#[track_caller]
fn concludes(said: &Value, verdict: &str) {
    let said_verdict = said["verdict"].as_str().expect("a verdict");
    assert!(said_verdict.starts_with(verdict), "{verdict}: {said:#}");
}

fn ask(pair: &mut Pair) {
    pair.client_says(REQUEST);
    pair.server_says(RESPONSE);
}

/// A connection that was given up makes a difference when it goes on.
#[test]
fn connections_that_were_given_up() {
    const SUBJECT: &str = "linkerd_ebpf_connections_closed_total{reason=\"evicted\"}";
    let pod = Pod::quiet(Shape::Frames).observed(&["--connections", "64"]);
    let asked = |n| {
        let mut pair = pod.pair(PORT + n);
        ask(&mut pair);
        pair
    };
    let mut pairs: Vec<Pair> = (0..100).map(asked).collect();
    let scrape = pod.settled(|scrape| scrape.sum("linkerd_ebpf_responses_total", &[]) == 100);
    let labels = [("reason", "evicted")];
    let evicted = scrape.sum("linkerd_ebpf_connections_closed_total", &labels);
    assert!((36..100).contains(&evicted), "{evicted}");
    let said = diagnosis(&pod);
    concludes(&said, "whole: 100 requests counted");
    finds(&said, "note", SUBJECT, evicted, "nothing is missing");
    // Those that are still followed count, the others are what may be missing.
    pairs.iter_mut().for_each(ask);
    let scrape = pod.settled(|scrape| {
        scrape.sum("linkerd_ebpf_state_lost_total", &[("reason", "midstream")]) > 0
    });
    let evicted = scrape.sum("linkerd_ebpf_connections_closed_total", &labels);
    let said = diagnosis(&pod);
    concludes(&said, "may not be whole: ");
    finds(&said, "unsure", SUBJECT, evicted, "of them at most went on");
}

/// A server may end a connection with an answer to no request, which is no request that was lost. What is no
/// HTTP ends counting, and nobody knows what comes then.
#[test]
fn what_is_no_request() {
    let pod = Pod::quiet(Shape::Frames).observed(&[]);
    let mut pair = pod.pair(PORT);
    ask(&mut pair);
    pair.server_says("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n");
    pair.close();
    pod.ended();
    concludes(&diagnosis(&pod), "whole: 1 requests counted");
    let mut pair = pod.pair(PORT);
    ask(&mut pair);
    pair.client_says("and now for something else\r\n\r\n");
    pair.close();
    pod.ended();
    let said = diagnosis(&pod);
    concludes(&said, "may not be whole: 1 connections spoke HTTP");
    let subject = "linkerd_ebpf_state_lost_total{reason=\"malformed\"}";
    finds(&said, "unsure", subject, 1, "if there were any");
}

/// What does not fit into the maps is counted, and what is missing of it is its status.
#[test]
fn series_that_did_not_fit() {
    const CONNECTIONS: u16 = 100;
    let pod = Pod::quiet(Shape::Frames).observed(&["--map-size", "64"]);
    for n in 0..CONNECTIONS {
        let mut pair = pod.pair(PORT + n);
        ask(&mut pair);
        pair.close();
    }
    let scrape = pod.ended();
    let sum = |labels: &[_]| scrape.sum("linkerd_ebpf_responses_total", labels);
    assert_eq!(sum(&[]), u64::from(CONNECTIONS));
    let other = u64::from(CONNECTIONS) - sum(&[("status", "204")]);
    assert!(other > 0, "{}", scrape.text);
    let said = diagnosis(&pod);
    concludes(
        &said,
        &format!("not whole: {other} responses are counted without"),
    );
    let subject = "linkerd_ebpf_responses_total{status=\"other\"}";
    finds(&said, "lost", subject, other, "as many errors at most");
    let overflow = "linkerd_proxy_ebpf_map_overflow_total{map=\"linkerd_metrics_map\"}";
    let times = [("map", "linkerd_metrics_map")];
    let times = scrape.sum("linkerd_proxy_ebpf_map_overflow_total", &times);
    finds(&said, "note", overflow, times, "but not by peer");
}
