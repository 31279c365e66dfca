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
fn an_interface_that_came_later() {
    let line = |name: &str, value| {
        format!("linkerd_ebpf_interface_observed{{interface=\"{name}\"}} {value}")
    };
    assert!(at_rest(&[line("eth0", 1)]).whole);
    let diagnosis = at_rest(&[line("eth0", 1), line("net1", 0)]);
    says(&diagnosis, "what passes net1 is not counted");
    let lost = diagnosis.findings.iter().filter(|f| f.level == Level::Lost);
    assert_eq!(lost.count(), 1, "{diagnosis:#?}");
}

#[test]
fn a_path_past_the_proxy() {
    let mut lines = vec![proxied(100)];
    lines.extend(series("127.0.0.1", "127.0.0.1", 100));
    lines.extend(series("10.0.0.7", "10.0.0.1", 3));
    notes(
        &at_rest(&lines),
        "3 requests from 10.0.0.7 to 10.0.0.1:8080 bypassed the proxy, which asks 127.0.0.1:8080; they are counted",
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
fn what_came_past_the_proxy_does_not_make_up_for_what_is_missing() {
    let mut lines = vec![proxied(100)];
    lines.extend(series("127.0.0.1", "127.0.0.1", 90));
    lines.extend(series("10.0.0.7", "10.0.0.1", 10));
    let diagnosis = at_rest(&lines);
    says(&diagnosis, "10 of the proxy's 100 requests");
    assert!(
        diagnosis.findings.iter().any(|f| f.text.contains("bypass")),
        "{diagnosis:#?}"
    );
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

/// The least that a counter alone is taken for, with what is said of it.
#[test]
fn every_counter_says_what_it_means() {
    use Level::{Lost, Note, Unsure};
    for (lines, level, what) in [
        // In sums all of it is there.
        (
            "linkerd_proxy_ebpf_map_overflow_total{map=\"m\"} 7",
            Note,
            "linkerd.io/ebpf-metric-map-size",
        ),
        (
            "linkerd_proxy_l7_overflow_total 7",
            Note,
            "7 of the proxy's requests found no slot: they are counted",
        ),
        ("linkerd_ebpf_truncated_packets_total 7", Note, "headers"),
        (
            "linkerd_ebpf_events_dropped_total 7",
            Note,
            "not shown by tap; they are counted",
        ),
        (
            "linkerd_ebpf_request_durations_unknown_total 7",
            Note,
            "counted without a duration",
        ),
        (
            "linkerd_ebpf_map_entries{map=\"m\"} 9\nlinkerd_ebpf_map_capacity{map=\"m\"} 10",
            Note,
            "9 of 10 entries",
        ),
        // Nobody can count requests there, and nobody claims to.
        (
            "linkerd_ebpf_state_lost_total{reason=\"midstream\"} 7",
            Note,
            "older than the programs",
        ),
        (
            "linkerd_ebpf_tls_connections_total{dst_port=\"443\"} 7",
            Note,
            "port 443 are TLS",
        ),
        (
            "linkerd_ebpf_connections_opaque_total{dst_port=\"3306\",reason=\"server_first\"} 3",
            Note,
            "do not speak HTTP",
        ),
        (
            "linkerd_ebpf_connections_opaque_total{dst_port=\"80\",reason=\"mptcp\"} 3",
            Note,
            "further subflows",
        ),
        // Requests may have come, or not.
        (
            "linkerd_ebpf_connections_opaque_total{dst_port=\"80\",reason=\"bound\"} 3",
            Unsure,
            "more than is remembered",
        ),
        (
            "linkerd_ebpf_state_lost_total{reason=\"gap\"} 7",
            Unsure,
            "7 connections lack a packet",
        ),
        (
            "linkerd_ebpf_state_lost_total{reason=\"gap\"} 7\nlinkerd_ebpf_state_resumed_total 6",
            Unsure,
            "if there were any (of the connections that were lost, 6 times one was followed again)",
        ),
        (
            "linkerd_ebpf_state_lost_total{reason=\"bound\"} 7",
            Unsure,
            "--http2-connections",
        ),
        (
            "linkerd_ebpf_state_lost_total{reason=\"pipeline\"} 7",
            Unsure,
            "of more kinds than are remembered",
        ),
        (
            "linkerd_ebpf_state_lost_total{reason=\"malformed\"} 7",
            Unsure,
            "something that is not",
        ),
        (
            "linkerd_ebpf_state_lost_total{reason=\"unsolicited\"} 7",
            Unsure,
            "a response to a request that was not seen",
        ),
        (
            "linkerd_ebpf_state_lost_total{reason=\"new\"} 7",
            Unsure,
            "does not know",
        ),
        (
            "linkerd_ebpf_contended_packets_total 7",
            Unsure,
            "another CPU",
        ),
        // Numbers that are too low, and by how much.
        (
            "linkerd_ebpf_connections_untracked_total 7",
            Lost,
            "7 connections found no slot",
        ),
        (
            "linkerd_proxy_l7_missed_total 7",
            Lost,
            "7 of the proxy's requests are missing in linkerd_proxy_requests_total",
        ),
        (
            "linkerd_proxy_l7_up{reason=\"no\"} 0",
            Lost,
            "can't be read: no",
        ),
        (
            "linkerd_ebpf_requests_total 7\nlinkerd_ebpf_responses_total{status=\"unknown\"} 7",
            Lost,
            "7 responses are counted without their status, which could not be known: as many errors at most",
        ),
        (
            "linkerd_ebpf_requests_total 7\nlinkerd_ebpf_responses_total{status=\"other\"} 7",
            Lost,
            "7 responses are counted without their status, which did not fit into the map",
        ),
    ] {
        let diagnosis = at_rest(&[lines.to_owned()]);
        is_found(&diagnosis, level, what);
        assert_eq!(diagnosis.findings[0].level, level, "{diagnosis:#?}");
        let verdict = match level {
            Lost => "not whole: ",
            Unsure => "may not be whole: ",
            _ => "whole: ",
        };
        assert!(diagnosis.verdict.starts_with(verdict), "{diagnosis:#?}");
        assert_eq!(diagnosis.whole, verdict == "whole: ", "{diagnosis:#?}");
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

#[track_caller]
fn is_found(diagnosis: &Diagnosis, level: Level, what: &str) {
    let mut findings = diagnosis.findings.iter();
    let is_so = findings.any(|finding| finding.level == level && finding.text.contains(what));
    assert!(is_so, "{level:?} {what}: {diagnosis:#?}");
}

/// A connection that is given up and goes on is counted as midstream.
#[test]
fn connections_that_were_given_up() {
    let closed = |count| {
        format!(
            "linkerd_ebpf_connections_opened_total {count}\n\
             linkerd_ebpf_connections_closed_total{{reason=\"evicted\"}} {count}"
        )
    };
    let midstream =
        |count| format!("linkerd_ebpf_state_lost_total{{reason=\"midstream\"}} {count}");
    notes(
        &at_rest(&[closed(5)]),
        "5 connections were given up for newer ones, and had nothing to say any more: nothing is missing",
    );
    for (given_up, went_on, most) in [(5, 2, 2), (2, 5, 2)] {
        says(
            &at_rest(&[closed(given_up), midstream(went_on)]),
            &format!(
                "{given_up} connections were given up for newer ones, and {most} of them at most went on"
            ),
        );
    }
    let aborted = "linkerd_ebpf_requests_total 3\n\
                   linkerd_ebpf_requests_aborted_total{reason=\"evicted\"} 3";
    says(
        &at_rest(&[aborted.to_owned()]),
        "may not be whole: 3 requests are counted as aborted because their connections were given up",
    );
}

/// Of what the proxy sends, its record or the kernel's may lack the address, and nothing else.
#[test]
fn what_did_not_fit_explains_a_difference() {
    let other = |name: &str, count: u32| {
        format!(
            "{name}{{src_ip=\"other\",dst_ip=\"other\",dst_port=\"other\",status=\"200\"}} {count}"
        )
    };
    let explained = |lines: &[String], is_so: bool, what: &str| {
        let diagnosis = at_rest(lines);
        let level = match (is_so, what.contains("not seen")) {
            (true, _) => Level::Note,
            (false, true) => Level::Lost,
            (false, false) => Level::Unsure,
        };
        is_found(&diagnosis, level, what);
        assert_eq!(diagnosis.whole, is_so, "{diagnosis:#?}");
    };
    // The kernel's series of 10 of them did not fit.
    for (seen, is_so, what) in [
        (
            90,
            true,
            "10 of the proxy's 100 requests to 127.0.0.1:8080 may be among",
        ),
        (
            89,
            false,
            "11 of the proxy's 100 requests to 127.0.0.1:8080 were not seen",
        ),
    ] {
        let mut lines = vec![proxied(100)];
        lines.extend(series("127.0.0.1", "127.0.0.1", seen));
        lines.push(other("linkerd_ebpf_requests_total", 10));
        lines.push(other("linkerd_ebpf_responses_total", 10));
        explained(&lines, is_so, what);
    }
    // Those of the proxy did not.
    for (seen, is_so, what) in [
        (110, true, "10 requests to 127.0.0.1:8080 may be among"),
        (
            111,
            false,
            "11 requests to 127.0.0.1:8080 did not come from the proxy",
        ),
    ] {
        let mut lines = vec![proxied(100), other("linkerd_proxy_requests_total", 10)];
        lines.extend(series("127.0.0.1", "127.0.0.1", seen));
        explained(&lines, is_so, what);
    }
}

/// Between the scrapes a series has left the page, the programs were attached again, or the proxy has begun anew.
#[test]
fn counters_that_go_down_between_two_scrapes() {
    let page = |seen: u32, told: u32| {
        let mut lines = vec![UP.to_owned(), proxied(told)];
        lines.extend(series("127.0.0.1", "127.0.0.1", seen));
        tally(&lines.join("\n"))
    };
    for second in [(3, 3), (0, 0)] {
        let diagnosis = diagnose(&page(100, 100), &page(second.0, second.1));
        assert!(diagnosis.whole, "{second:?} {diagnosis:#?}");
    }
    // The proxy alone: what it had recorded before is nowhere.
    says(
        &diagnose(&page(100, 100), &page(103, 3)),
        "may not be whole: 97 requests to 127.0.0.1:8080 did not come from the proxy, or it has not recorded",
    );
    // The sidecar was not there as yet.
    let down = tally("linkerd_ebpf_up{reason=\"waiting for metricd-init\"} 0");
    assert!(diagnose(&down, &page(3, 3)).whole);
}

/// Requests in a pod whose proxy the programs know.
fn requests(direction: &str, src: &str, dst: &str, port: u16, count: u32) -> [String; 2] {
    let labels = format!(
        "direction=\"{direction}\",src_ip=\"{src}\",dst_ip=\"{dst}\",dst_port=\"{port}\",proto=\"tcp\""
    );
    [
        format!("linkerd_ebpf_requests_total{{{labels}}} {count}"),
        format!("linkerd_ebpf_responses_total{{{labels},status=\"200\"}} {count}"),
    ]
}

/// The proxy has sent 100 requests to the application, and has connections with others.
fn mesh() -> Vec<String> {
    let mut lines = vec![proxied(100)];
    for (direction, src, dst, port) in [
        ("inbound", "10.0.0.9", "10.0.0.1", 8080),
        ("outbound", "10.0.0.1", "10.0.0.3", 80),
    ] {
        let labels = format!(
            "direction=\"{direction}\",src_ip=\"{src}\",dst_ip=\"{dst}\",dst_port=\"{port}\",proto=\"tcp\""
        );
        for line in [
            format!("connections_opened_total{{{labels},origin=\"proxy\"}} 2"),
            format!("connections_closed_total{{{labels},reason=\"fin\",origin=\"proxy\"}} 2"),
            format!("tls_connections_total{{{labels},origin=\"proxy\"}} 2"),
        ] {
            lines.push(format!("linkerd_ebpf_{line}"));
        }
    }
    lines.extend(requests("inbound", "", "127.0.0.1", 8080, 100));
    lines
}

#[track_caller]
fn notes(diagnosis: &Diagnosis, what: &str) {
    assert!(diagnosis.whole, "{diagnosis:#?}");
    let mut notes = diagnosis.findings.iter().filter(|f| f.level == Level::Note);
    assert!(notes.any(|f| f.text.contains(what)), "{diagnosis:#?}");
}

#[test]
fn a_mesh_is_whole() {
    let mut lines = mesh();
    // Others have servers at the application's port, too.
    lines.extend(requests("outbound", "10.0.0.1", "10.0.0.3", 8080, 7));
    let diagnosis = at_rest(&lines);
    assert!(diagnosis.whole, "{diagnosis:#?}");
    let all_ok = diagnosis.findings.iter().all(|f| f.level == Level::Ok);
    assert!(all_ok, "{diagnosis:#?}");
    assert_eq!(
        diagnosis.verdict,
        "whole: 107 requests counted, 100 of them by the proxy, too"
    );
}

#[test]
fn a_path_past_a_meshs_proxy() {
    for dst in ["10.0.0.1", "127.0.0.1"] {
        let mut lines = mesh();
        lines.extend(requests("inbound", "10.0.0.7", dst, 8080, 3));
        let diagnosis = at_rest(&lines);
        let bypass = format!(
            "3 requests from 10.0.0.7 to {dst}:8080 bypassed the proxy, which asks 127.0.0.1:8080"
        );
        notes(&diagnosis, &bypass);
        let noted = diagnosis.findings.iter().filter(|f| f.level == Level::Note);
        assert_eq!(noted.count(), 1, "{diagnosis:#?}");
    }
}

/// A proxy that records nothing of a port may well have been told to skip it.
#[test]
fn ports_that_a_mesh_skips() {
    let mut lines = mesh();
    for (last, count) in [(6, 1), (7, 30), (8, 20), (9, 2)] {
        let src = format!("10.0.0.{last}");
        lines.extend(requests("inbound", &src, "10.0.0.1", 9090, count));
    }
    notes(
        &at_rest(&lines),
        "53 requests to 10.0.0.1:9090 did not go through the proxy: 30 from 10.0.0.7, 20 from 10.0.0.8, 2 \
         from 10.0.0.9, and others from 1 more",
    );
}

#[test]
fn requests_within_a_pod_of_a_mesh() {
    let mut lines = mesh();
    lines.extend(requests("local", "127.0.0.1", "127.0.0.1", 8080, 5));
    lines.extend(requests("local", "127.0.0.1", "127.0.0.1", 6379, 9));
    let diagnosis = at_rest(&lines);
    notes(
        &diagnosis,
        "5 requests to 127.0.0.1:8080 came from another container of the pod",
    );
    let others = diagnosis.findings.iter().any(|f| f.text.contains("6379"));
    assert!(!others, "{diagnosis:#?}");
}

#[test]
fn a_meshs_proxy_that_counts_otherwise() {
    let mut lines = mesh();
    lines[0] = proxied(98);
    says(
        &at_rest(&lines),
        "2 requests to 127.0.0.1:8080 came from the proxy, which has not recorded them",
    );
    lines[0] = proxied(101);
    // What another container asks does not make up for it.
    lines.extend(requests("local", "127.0.0.1", "127.0.0.1", 8080, 1));
    says(
        &at_rest(&lines),
        "1 of the proxy's 101 requests to 127.0.0.1:8080 were not seen by the kernel",
    );
}

/// What a proxy sends to others is counted by the address that the application has asked for.
#[test]
fn a_meshs_proxy_that_asks_others() {
    let mut lines = mesh();
    lines.push("linkerd_proxy_requests_total{dst_ip=\"10.0.0.3\",dst_port=\"80\"} 7".into());
    lines.extend(requests("outbound", "10.0.0.1", "10.96.0.1", 8080, 7));
    notes(
        &at_rest(&lines),
        "the proxy has sent 7 requests to 10.0.0.3:80, outside of the pod",
    );
}

#[test]
fn a_mesh_without_addresses() {
    let nobody = |lines: Vec<String>| -> Vec<String> {
        let ips = ["10.0.0.9", "10.0.0.1", "10.0.0.3", "127.0.0.1"];
        let without = |line: &String| {
            let of = |line: String, ip: &&str| line.replace(&format!("\"{ip}\""), "\"\"");
            ips.iter().fold(line.clone(), of)
        };
        let is_proxys = |line: &&String| line.starts_with("linkerd_proxy_");
        let (kept, other): (Vec<_>, Vec<_>) = lines.iter().partition(is_proxys);
        let other = other.into_iter().map(without);
        kept.into_iter().cloned().chain(other).collect()
    };
    let mut lines = nobody(mesh());
    lines.extend(requests("outbound", "", "", 8080, 7));
    lines.extend(requests("local", "", "", 8080, 1));
    let diagnosis = at_rest(&lines);
    notes(&diagnosis, "1 requests to port 8080 came from another");
    lines.extend(requests("inbound", "", "", 8080, 3));
    says(
        &at_rest(&lines),
        "3 requests to 127.0.0.1:8080 did not come from the proxy",
    );
}

/// Connections on eth0 of which no socket was seen have no requests and no origin: they may be the
/// proxy's, whose requests are counted behind it, or not.
#[test]
fn connections_whose_owner_is_not_known() {
    let midstream = |src: &str, dst: &str| {
        format!(
            "linkerd_ebpf_state_lost_total{{direction=\"inbound\",src_ip=\"{src}\",dst_ip=\"{dst}\",\
             dst_port=\"8080\",reason=\"midstream\"}} 2"
        )
    };
    let mut lines = mesh();
    lines.push(midstream("10.0.0.9", "10.0.0.1"));
    notes(
        &at_rest(&lines),
        "2 connections are older than the programs, or are not known to be the proxy's or another's",
    );
    // Those between the proxy and the application explain what is missing.
    let mut lines = mesh();
    lines[0] = proxied(110);
    lines.push(midstream("", "127.0.0.1"));
    says(
        &at_rest(&lines),
        "10 of the proxy's 110 requests to 127.0.0.1:8080 were not seen by the kernel, which may be \
         explained by linkerd_ebpf_state_lost_total{reason=\"midstream\"} 2",
    );
}

/// A page that leaves out what has not changed for long has it in its totals.
#[test]
fn what_is_not_shown_is_not_lost() {
    let totals = |requests, responses, aborted, opened, closed| {
        vec![
            format!("linkerd_ebpf_pod_requests_total{{protocol=\"http1\"}} {requests}"),
            format!("linkerd_ebpf_pod_responses_total{{protocol=\"http1\"}} {responses}"),
            format!("linkerd_ebpf_pod_requests_aborted_total{{reason=\"rst\"}} {aborted}"),
            format!("linkerd_ebpf_pod_connections_opened_total {opened}"),
            format!("linkerd_ebpf_pod_connections_closed_total{{reason=\"fin\"}} {closed}"),
            "linkerd_ebpf_series_idle 7".to_owned(),
        ]
    };
    let mut lines = totals(110, 107, 2, 9, 8);
    lines.extend(series("127.0.0.1", "127.0.0.1", 3));
    lines.push("linkerd_ebpf_requests_in_flight 1".into());
    lines.push("linkerd_ebpf_connections_active 1".into());
    lines.push(proxied(100));
    let diagnosis = at_rest(&lines);
    assert!(diagnosis.whole, "{diagnosis:#?}");
    assert!(
        diagnosis.verdict.starts_with("whole: 110 requests"),
        "{}",
        diagnosis.verdict
    );
    let notes = diagnosis.findings.iter().filter(|f| f.level == Level::Note);
    let notes: Vec<&str> = notes.map(|note| &*note.text).collect();
    assert!(
        notes.len() == 1 && notes[0].contains("metrics?show-idle=0"),
        "{notes:?}"
    );

    let mut lines = totals(110, 107, 1, 9, 8);
    lines.push("linkerd_ebpf_requests_in_flight 1".into());
    lines.push("linkerd_ebpf_connections_active 1".into());
    says(
        &at_rest(&lines),
        "requests = responses + aborted + in flight does not hold: +1",
    );
}
