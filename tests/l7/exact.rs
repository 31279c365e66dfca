//! The proxy's count is the client's.

use std::collections::BTreeMap;

use crate::clients::{h2load, wrk};
use crate::fixture::Family;
use crate::proxy::{Mesh, start_metricd, terminate};

const REQUESTS: &str = "linkerd_proxy_requests_total";
const OVERFLOW: &str = "linkerd_proxy_l7_overflow_total";

/// Each HTTP by TLS, all statuses, 4 threads.
#[test]
fn h2load_and_wrk() {
    let mesh = Mesh::new(1024);
    let _proxy = mesh.proxy(&["--workers", "4"]);
    let paths = ["200", "204", "404", "500", "503"];
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for (protocol, flags) in [("http1", &["--h1"][..]), ("http2", &["-m", "10"])] {
        let statuses = h2load(&mesh, 5000, flags, &paths);
        let total = seen.values().sum::<u64>() + 5000;
        let scrape = mesh.scrape(total);
        let own = scrape.by("status", REQUESTS, &[("protocol", protocol)]);
        assert_eq!(own, statuses, "{protocol}");
        for (status, count) in statuses {
            *seen.entry(status).or_default() += count;
        }
    }
    let before = seen.values().sum::<u64>();
    let counted = wrk(&mesh, 500, "200");
    assert_eq!(counted, 2000);
    *seen.entry("200".into()).or_default() += counted;
    let scrape = mesh.scrape(before + counted);
    assert_eq!(scrape.by("status", REQUESTS, &[]), seen);
    assert_eq!(mesh.nginx.responses(before + counted), seen);

    let client = mesh.pod.client_ip(Family::V4).to_string();
    let from = [
        ("src_ip", client.as_str()),
        ("dst_ip", "127.0.0.1"),
        ("dst_port", "80"),
    ];
    assert_eq!(scrape.sum(REQUESTS, &from), before + counted);
    let duration = "linkerd_proxy_request_duration_seconds";
    for (class, statuses) in [
        ("2xx", &["200", "204"][..]),
        ("4xx", &["404"]),
        ("5xx", &["500", "503"]),
    ] {
        let expected: u64 = statuses.iter().map(|status| seen[*status]).sum();
        let labels = [("status_class", class)];
        assert_eq!(scrape.sum(&format!("{duration}_count"), &labels), expected);
    }
    assert!(scrape.value(&format!("{duration}_sum"), &[]) > 0.0);
    let sent = [("direction", "sent"), ("status", "200")];
    assert_eq!(
        scrape.sum("linkerd_proxy_bytes_total", &sent),
        seen["200"] * 1024
    );
    assert_eq!(scrape.sum(OVERFLOW, &[]), 0);
    assert_eq!(scrape.sum("linkerd_proxy_l7_missed_total", &[]), 0);
}

/// Ended by SIGTERM, then by SIGKILL; the sidecar likewise.
#[test]
fn restarts_lose_nothing() {
    let mut mesh = Mesh::new(1024);
    let proxy = mesh.proxy(&[]);
    h2load(&mesh, 3000, &[], &["200"]);
    terminate(proxy);
    let mut proxy = mesh.proxy(&[]);
    h2load(&mesh, 3000, &["--h1"], &["200"]);
    mesh.scrape(6000);
    proxy.kill();
    let file = mesh.file();
    start_metricd(&mut mesh.pod, &file);
    assert_eq!(mesh.scrape(6000).sum(REQUESTS, &[]), 6000);
    let _proxy = mesh.proxy(&[]);
    h2load(&mesh, 3000, &[], &["404"]);
    let scrape = mesh.scrape(9000);
    assert_eq!(scrape.by("status", REQUESTS, &[])["404"], 3000);
    assert_eq!(scrape.sum(REQUESTS, &[]), 9000);
}

/// Two processes share the port and the file.
#[test]
fn two_processes() {
    let mesh = Mesh::new(1024);
    let one = mesh.proxy(&["--workers", "2"]);
    let two = mesh.proxy(&["--workers", "2"]);
    h2load(&mesh, 20_000, &["-m", "10"], &["200", "404"]);
    let scrape = mesh.scrape(20_000);
    assert_eq!(scrape.sum(REQUESTS, &[]), 20_000);
    // Both had their share: the one's goes on without the other.
    terminate(one);
    h2load(&mesh, 2000, &["--h1"], &["200"]);
    terminate(two);
    assert_eq!(mesh.scrape(22_000).sum(REQUESTS, &[]), 22_000);
}

/// Room for two series where there are five.
#[test]
fn a_full_table_says_how_many() {
    let mesh = Mesh::new(2);
    let _proxy = mesh.proxy(&["--workers", "4"]);
    let paths = ["200", "204", "404", "500", "503"];
    // So it is known which two have a slot.
    h2load(&mesh, 100, &["--h1"], &["200"]);
    h2load(&mesh, 100, &["--h1"], &["204"]);
    let statuses = h2load(&mesh, 10_000, &["--h1"], &paths);
    let scrape = mesh.scrape(10_200);
    let mut expected = BTreeMap::from([("200", 100), ("204", 100), ("other", 0)]);
    for (status, count) in &statuses {
        let kept = ["200", "204"].into_iter().find(|kept| kept == status);
        *expected
            .get_mut(kept.unwrap_or("other"))
            .expect("one of them") += count;
    }
    let counted = scrape.by("status", REQUESTS, &[]);
    let expected: BTreeMap<String, u64> = expected
        .into_iter()
        .map(|(status, count)| (status.into(), count))
        .collect();
    assert_eq!(counted, expected);
    assert_eq!(scrape.sum(OVERFLOW, &[]), expected["other"]);
    assert_eq!(scrape.sum("linkerd_proxy_l7_slots_used", &[]), 2);
}

/// The application speaks HTTP/2, too.
#[test]
fn an_upstream_without_http1() {
    let mesh = Mesh::new(1024);
    let _proxy = mesh.proxy(&["--h2c"]);
    let statuses = h2load(&mesh, 5000, &["-m", "10"], &["200", "404"]);
    let scrape = mesh.scrape(5000);
    assert_eq!(
        scrape.by("status", REQUESTS, &[("protocol", "http2")]),
        statuses
    );
}

/// In one pod with lo attached: what the kernel counts between proxy and application is what the
/// proxy counts.
#[test]
fn as_many_as_the_kernel_counts_behind_it() {
    let mesh = Mesh::new(1024);
    mesh.pod.attach(&["--interface", "lo"]);
    let _proxy = mesh.proxy(&["--workers", "4"]);
    let mut seen = h2load(&mesh, 5000, &["-m", "10"], &["200", "404", "503"]);
    for (status, count) in h2load(&mesh, 5000, &["--h1"], &["200", "404", "503"]) {
        *seen.entry(status).or_default() += count;
    }
    mesh.scrape(10_000);
    let application = [("dst_port", "80")];
    let scrape = mesh
        .pod
        .settled(|scrape| scrape.sum("linkerd_ebpf_requests_in_flight", &application) == 0);
    assert_eq!(scrape.by("status", REQUESTS, &application), seen);
    let kernel = scrape.by("status", "linkerd_ebpf_responses_total", &application);
    assert_eq!(kernel, seen);
}
