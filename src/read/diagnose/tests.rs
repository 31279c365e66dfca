use super::*;
use crate::read::samples;

const UP: &str = "linkerd_ebpf_up 1\nlinkerd_ebpf_bytes_total{io=\"recv\"} 1\n";

fn tally(text: &str) -> Tally {
    let mut tally = Tally::default();
    samples::each(text, |sample| tally.add(sample)).unwrap();
    tally
}

/// As of a pod whose traffic rests.
fn at_rest(lines: &[String]) -> Diagnosis {
    let tally = tally(&format!("{UP}{}", lines.join("\n")));
    diagnose(&tally, &tally)
}

fn series(src: &str, dst: &str, count: u32) -> [String; 2] {
    let labels = format!("src_ip=\"{src}\",dst_ip=\"{dst}\",dst_port=\"8080\",proto=\"tcp\"");
    [
        format!("linkerd_ebpf_requests_total{{{labels}}} {count}"),
        format!("linkerd_ebpf_responses_total{{{labels},status=\"200\"}} {count}"),
    ]
}

fn proxied(count: u32) -> String {
    format!(
        "linkerd_proxy_requests_total{{src_ip=\"10.0.0.9\",dst_ip=\"127.0.0.1\",dst_port=\"8080\"}} {count}"
    )
}

#[track_caller]
fn says(diagnosis: &Diagnosis, what: &str) {
    assert!(!diagnosis.whole, "{diagnosis:?}");
    assert!(diagnosis.verdict.contains(what), "{diagnosis:#?}");
}

#[test]
fn all_is_well() {
    let mut lines = vec![proxied(100)];
    lines.extend(series("127.0.0.1", "127.0.0.1", 100));
    let diagnosis = at_rest(&lines);
    assert!(diagnosis.whole, "{diagnosis:#?}");
    assert_eq!(
        diagnosis.verdict,
        "whole: 100 requests counted, 100 of them by the proxy, too"
    );
    assert!(at_rest(&[]).whole);
}

#[test]
fn nothing_is_counted() {
    let down = tally("linkerd_ebpf_up{reason=\"waiting for metricd-init\"} 0");
    says(
        &diagnose(&down, &down),
        "nothing is counted: waiting for metricd-init",
    );
    let nothing = tally("");
    says(
        &diagnose(&nothing, &nothing),
        "these are not metricd's metrics",
    );
    let unattached = tally("linkerd_ebpf_up 1");
    says(
        &diagnose(&unattached, &unattached),
        "no packet has been seen",
    );
}

#[test]
fn a_path_past_the_proxy() {
    let mut lines = vec![proxied(100)];
    lines.extend(series("127.0.0.1", "127.0.0.1", 100));
    lines.extend(series("10.0.0.7", "10.0.0.1", 3));
    says(
        &at_rest(&lines),
        "3 requests from 10.0.0.7 to 10.0.0.1:8080 bypassed the proxy",
    );
    // Within the pod, the addresses are the proxy's own.
    let mut lines = vec![proxied(100)];
    lines.extend(series("127.0.0.1", "127.0.0.1", 102));
    says(
        &at_rest(&lines),
        "2 requests to 127.0.0.1:8080 did not come from the proxy",
    );
}

#[test]
fn requests_that_nobody_has_seen() {
    says(
        &at_rest(&[proxied(100)]),
        "it takes metricd-init --loopback",
    );
    let mut lines = vec![proxied(100)];
    lines.extend(series("127.0.0.1", "127.0.0.1", 90));
    says(
        &at_rest(&lines),
        "10 of the proxy's 100 requests to 127.0.0.1:8080 were not seen by the kernel, and no counter",
    );
    lines.push("linkerd_ebpf_state_lost_total{reason=\"gap\"} 2".into());
    says(
        &at_rest(&lines),
        "may be explained by linkerd_ebpf_state_lost_total{reason=\"gap\"} 2",
    );
}

#[test]
fn one_loss_does_not_hide_another() {
    let mut lines = vec![proxied(100)];
    lines.extend(series("127.0.0.1", "127.0.0.1", 90));
    lines.extend(series("10.0.0.7", "10.0.0.1", 10));
    let diagnosis = at_rest(&lines);
    let lost: Vec<_> = diagnosis
        .findings
        .iter()
        .filter(|f| f.level == Level::Lost)
        .collect();
    assert_eq!(lost.len(), 2, "{lost:#?}");
}

#[test]
fn where_no_addresses_are_kept() {
    let mut lines = vec![proxied(100)];
    lines.extend(series("", "", 100));
    assert!(at_rest(&lines).whole);
    lines.extend(series("", "", 1));
    says(
        &at_rest(&lines),
        "1 requests to 127.0.0.1:8080 did not come from the proxy",
    );
}

/// While traffic goes on, neither scrape is of one instant.
#[test]
fn what_came_meanwhile_is_no_gap() {
    let text = |seen, told| {
        let mut lines = vec![UP.to_owned(), proxied(told)];
        lines.extend(series("127.0.0.1", "127.0.0.1", seen));
        lines.join("\n")
    };
    for (first, second, whole) in [
        ((100, 98), (150, 149), true),
        ((98, 100), (149, 150), true),
        ((100, 90), (150, 99), false),
        ((90, 100), (99, 150), false),
    ] {
        let diagnosis = diagnose(
            &tally(&text(first.0, first.1)),
            &tally(&text(second.0, second.1)),
        );
        assert_eq!(
            diagnosis.whole, whole,
            "{first:?} {second:?} {diagnosis:#?}"
        );
    }
}

#[test]
fn an_identity_that_is_broken() {
    let lines = [
        "linkerd_ebpf_requests_total{} 5".to_owned(),
        "linkerd_ebpf_requests_in_flight{} 1".into(),
    ];
    says(
        &at_rest(&lines),
        "requests = responses + aborted + in flight does not hold: +4",
    );
    says(
        &at_rest(&["linkerd_ebpf_connections_closed_total{reason=\"fin\"} 2".into()]),
        "connections opened = closed + active does not hold: -2",
    );
}

#[test]
fn every_counter_says_what_it_means() {
    for (line, whole, what) in [
        (
            "linkerd_proxy_ebpf_map_overflow_total{map=\"m\"} 7",
            false,
            "linkerd.io/ebpf-metric-map-size",
        ),
        (
            "linkerd_ebpf_state_lost_total{reason=\"bound\"} 7",
            false,
            "--http2-connections",
        ),
        (
            "linkerd_ebpf_state_lost_total{reason=\"new\"} 7",
            false,
            "does not know",
        ),
        (
            "linkerd_ebpf_state_lost_total{reason=\"midstream\"} 7",
            true,
            "older than the programs",
        ),
        (
            "linkerd_ebpf_connections_untracked_total 7",
            false,
            "found no slot",
        ),
        (
            "linkerd_ebpf_contended_packets_total 7",
            false,
            "another CPU",
        ),
        ("linkerd_ebpf_truncated_packets_total 7", true, "headers"),
        (
            "linkerd_ebpf_events_dropped_total 7",
            true,
            "not shown by tap",
        ),
        (
            "linkerd_proxy_l7_missed_total 7",
            false,
            "nothing to record into",
        ),
        (
            "linkerd_proxy_l7_up{reason=\"no\"} 0",
            false,
            "can't be read: no",
        ),
        (
            "linkerd_ebpf_tls_connections_total{dst_port=\"443\"} 7",
            true,
            "port 443 are TLS",
        ),
        (
            "linkerd_ebpf_map_entries{map=\"m\"} 9\nlinkerd_ebpf_map_capacity{map=\"m\"} 10",
            true,
            "9 of 10 entries",
        ),
    ] {
        let diagnosis = at_rest(&[line.to_owned()]);
        assert_eq!(diagnosis.whole, whole, "{diagnosis:#?}");
        let said = diagnosis
            .findings
            .iter()
            .any(|finding| finding.text.contains(what));
        assert!(said, "{what}: {diagnosis:#?}");
    }
    for (name, label, ..) in counters::MEANINGS {
        let line = format!(
            "{name}{{{}}} 0",
            if label.ends_with('=') { "" } else { label }
        );
        let diagnosis = at_rest(&[line]);
        assert!(diagnosis.whole, "none of them: {diagnosis:#?}");
    }
}
