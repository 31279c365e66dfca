//! What each counter of something lost says, and what to do about it.

use super::tally::Tally;
use super::{Finding, Level};

/// A counter, the label that matters of it (a prefix), what a count of it means, how much it matters.
type Meaning = (&'static str, &'static str, &'static str, Level);

pub const MEANINGS: &[Meaning] = &[
    (
        "linkerd_proxy_ebpf_map_overflow_total",
        "map=",
        "did not fit into the map and are in the series whose labels are other: a larger --map-size \
         (annotation linkerd.io/ebpf-metric-map-size) takes them",
        Level::Lost,
    ),
    (
        "linkerd_ebpf_state_lost_total",
        "reason=\"gap\"",
        "connections lost a packet that never came by, and their requests with it",
        Level::Lost,
    ),
    (
        "linkerd_ebpf_state_lost_total",
        "reason=\"bound\"",
        "connections went beyond a bound of the programs; for HTTP/2, see --http2-connections",
        Level::Lost,
    ),
    (
        "linkerd_ebpf_state_lost_total",
        "reason=\"pipeline\"",
        "connections pipelined requests of more kinds than are remembered",
        Level::Lost,
    ),
    (
        "linkerd_ebpf_state_lost_total",
        "reason=\"malformed\"",
        "connections spoke HTTP, and then something that is not",
        Level::Lost,
    ),
    (
        "linkerd_ebpf_state_lost_total",
        "reason=\"unsolicited\"",
        "connections had a response to no request",
        Level::Lost,
    ),
    (
        "linkerd_ebpf_state_lost_total",
        "reason=\"midstream\"",
        "connections are older than the programs, or are not known to be the proxy's or another's: their \
         requests are not counted, their bytes are",
        Level::Note,
    ),
    (
        "linkerd_ebpf_responses_total",
        "status=\"unknown\"",
        "responses have a status that could not be known",
        Level::Lost,
    ),
    (
        "linkerd_ebpf_connections_untracked_total",
        "",
        "connections found no slot: a larger --connections takes them",
        Level::Lost,
    ),
    (
        "linkerd_ebpf_connections_closed_total",
        "reason=\"evicted\"",
        "connections were given up for newer ones: a larger --connections keeps them",
        Level::Lost,
    ),
    (
        "linkerd_ebpf_contended_packets_total",
        "",
        "packets waited in vain for another CPU, and were not looked into",
        Level::Lost,
    ),
    (
        "linkerd_proxy_l7_overflow_total",
        "",
        "of the proxy's requests found no slot and are in the series whose labels are other",
        Level::Lost,
    ),
    (
        "linkerd_proxy_l7_missed_total",
        "",
        "of the proxy's requests were not recorded, since there was nothing to record into as yet",
        Level::Lost,
    ),
    (
        "linkerd_ebpf_connections_opaque_total",
        "reason=\"bound\"",
        "connections began with more than is remembered, and are counted as TCP",
        Level::Note,
    ),
    (
        "linkerd_ebpf_connections_opaque_total",
        "reason=\"mptcp\"",
        "connections are further subflows of Multipath TCP, and are counted as TCP",
        Level::Note,
    ),
    (
        "linkerd_ebpf_connections_opaque_total",
        "",
        "connections do not speak HTTP, and are counted as TCP",
        Level::Note,
    ),
    (
        "linkerd_ebpf_truncated_packets_total",
        "",
        "packets had headers that could not be read",
        Level::Note,
    ),
    (
        "linkerd_ebpf_request_durations_unknown_total",
        "",
        "responses are counted without a duration, which could not be known",
        Level::Note,
    ),
    (
        "linkerd_ebpf_events_dropped_total",
        "",
        "requests were not shown by tap; they are counted",
        Level::Note,
    ),
];

/// From what share of its room on a map is worth a word.
const NEARLY_FULL: f64 = 0.9;

/// Every counter that is not 0 and should be, maps that are nearly full, and what is out of sight.
pub fn look(tally: &Tally) -> Vec<Finding> {
    let mut findings = Vec::new();
    for ((name, label), count) in &tally.counters {
        let meaning = MEANINGS
            .iter()
            .find(|(of, prefix, ..)| of == name && label.starts_with(prefix));
        let (text, level) = meaning.map_or(
            ("for a reason that this version does not know", Level::Lost),
            |(_, _, text, level)| (*text, *level),
        );
        if *count > 0.0 {
            let labels = match label.as_str() {
                "" => String::new(),
                label => format!("{{{label}}}"),
            };
            findings.push(Finding {
                level,
                subject: format!("{name}{labels}"),
                count: Some(*count),
                text: format!("{count} {text}"),
            });
        }
    }
    if let Some(reason) = &tally.proxy_down {
        findings.push(Finding {
            level: Level::Lost,
            subject: "linkerd_proxy_l7_up".into(),
            count: None,
            text: format!("what the proxy records can't be read: {reason}"),
        });
    }
    for interface in &tally.unobserved {
        findings.push(Finding {
            level: Level::Lost,
            subject: format!("linkerd_ebpf_interface_observed{{interface=\"{interface}\"}}"),
            count: None,
            text: format!(
                "what passes {interface} is not counted: it came up after metricd-init, whose next run \
                 attaches to it"
            ),
        });
    }
    for (map, (entries, capacity)) in &tally.maps {
        if *entries >= capacity * NEARLY_FULL && *capacity > 0.0 {
            findings.push(Finding {
                level: Level::Note,
                subject: format!("linkerd_ebpf_map_entries{{map=\"{map}\"}}"),
                count: Some(*entries),
                text: format!(
                    "{entries} of {capacity} entries are taken: what is new will soon be other"
                ),
            });
        }
    }
    // A proxy's own port is TLS, too; what it tells, it tells by where it sends requests on to.
    if tally.proxy.is_empty() && tally.proxy_down.is_none() {
        for (port, count) in &tally.tls {
            findings.push(Finding {
                level: Level::Note,
                subject: format!("linkerd_ebpf_tls_connections_total{{dst_port=\"{port}\"}}"),
                count: Some(*count),
                text: format!(
                    "{count} connections to port {port} are TLS: their requests can't be seen from \
                     outside, and no proxy tells of them"
                ),
            });
        }
    }
    findings
}
