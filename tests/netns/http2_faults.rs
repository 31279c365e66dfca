//! HTTP/2 over a path that loses, repeats and reorders segments.

use std::collections::BTreeMap;

use crate::fixture::{Family, Pod, Shape};
use crate::load::{SESSIONS, h2load_streams};
use crate::observed::{Connections, Http};
use crate::peers::{NGHTTPD_STATUS, PORT, UNMODIFIED, nghttpd, urls};
use crate::wire::Faults;

const REQUESTS: u64 = 20_000;

fn one_percent_lost(seed: u64) -> Faults {
    Faults {
        seed,
        drop: 1.0,
        duplicate: 0.0,
        reorder: 0.0,
    }
}

/// Each request is counted and has its end. Of the statuses those are known that the hook has seen
/// without a gap, and nothing is counted that was not.
fn at_most_unknown(shown: &Http, seen: &BTreeMap<String, u64>, percent: u64) {
    assert_eq!(shown.requests, REQUESTS, "{shown:?}");
    assert_eq!(shown.in_flight, 0, "{shown:?}");
    assert_eq!(shown.aborted, BTreeMap::new(), "{shown:?}");
    let mut unknown = 0;
    for (status, count) in &shown.responses {
        match status.as_str() {
            "unknown" => unknown = *count,
            _ => assert!(count <= &seen[status], "{status}: {shown:?} {seen:?}"),
        }
    }
    assert!(
        unknown * 100 <= REQUESTS * percent,
        "{unknown} of {REQUESTS} unknown: {shown:?}"
    );
}

/// Requests come in with gaps, responses go out whole.
fn before_the_hook(family: Family, faults: Faults) {
    let pod = Pod::measured(Shape::FaultsBefore(faults), &[]);
    let _nghttpd = nghttpd(&pod, pod.server(), &[]);
    let urls = urls(&pod, family, &NGHTTPD_STATUS);
    let seen = h2load_streams((&pod, &pod.client), REQUESTS, &UNMODIFIED, &urls);
    let scrape = pod.ended();
    assert!(pod.wire.as_ref().expect("a wire").there.dropped() > 0);
    Connections::of(&scrape, PORT).assert_ended(SESSIONS);
    at_most_unknown(&Http::of_protocol("http2", &scrape, PORT), &seen, 0);
}

#[test]
fn before_the_hook_over_ipv4() {
    before_the_hook(Family::V4, Faults::of_each_kind(21));
}

#[test]
fn before_the_hook_over_ipv6() {
    before_the_hook(Family::V6, one_percent_lost(22));
}

/// Requests go out whole, responses come in with gaps.
fn on_the_way_out(faults: Faults, percent: u64) {
    let pod = Pod::measured(Shape::FaultsBefore(faults), &[]);
    let _nghttpd = nghttpd(&pod, &pod.client, &[]);
    let url = |path| format!("http://{}:{PORT}/{path}", pod.client_ip(Family::V4));
    let urls = NGHTTPD_STATUS.map(url);
    let seen = h2load_streams((&pod, &pod.hook), REQUESTS, &UNMODIFIED, &urls);
    let scrape = pod.ended();
    assert!(pod.wire.as_ref().expect("a wire").there.dropped() > 0);
    Connections::of(&scrape, PORT).assert_ended(SESSIONS);
    at_most_unknown(&Http::of_protocol("http2", &scrape, PORT), &seen, percent);
}

#[test]
fn on_the_way_out_with_one_percent_lost() {
    on_the_way_out(one_percent_lost(23), 1);
}

/// However much is unknown, each request is counted and ends.
#[test]
fn on_the_way_out_with_every_fault() {
    on_the_way_out(Faults::of_each_kind(24), 100);
}
