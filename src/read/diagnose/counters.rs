//! What each counter of something lost says, and what to do about it.

use super::tally::Tally;
use super::{Finding, Level};

/// A counter, the label that matters of it (a prefix), what a count of it means, how much it matters.
type Meaning = (&'static str, &'static str, &'static str, Level);

pub const MEANINGS: &[Meaning] = &[
    (
        "linkerd_proxy_ebpf_map_overflow_total",
        "map=",
        "times something did not fit into the map: it is counted in the series whose labels are other, and \
         in the pod's totals, but not by peer. A larger --map-size (annotation \
         linkerd.io/ebpf-metric-map-size) takes it",
        Level::Note,
    ),
    (
        "linkerd_ebpf_responses_total",
        "status=\"other\"",
        "responses are counted without their status, which did not fit into the map: as many errors at most \
         are missing from success rates. A larger --map-size takes them",
        Level::Lost,
    ),
    (
        "linkerd_ebpf_responses_total",
        "status=\"unknown\"",
        "responses are counted without their status, which could not be known: as many errors at most are \
         missing from success rates",
        Level::Lost,
    ),
    (
        "linkerd_ebpf_state_lost_total",
        "reason=\"gap\"",
        "connections lack a packet that never came by: requests in it, and behind it until the connection was \
         followed again or ended, are missing, if there were any",
        Level::Unsure,
    ),
    (
        "linkerd_ebpf_state_lost_total",
        "reason=\"bound\"",
        "connections went beyond a bound of the programs: requests since then are missing, if there were any. \
         For HTTP/2, a larger --http2-connections takes them",
        Level::Unsure,
    ),
    (
        "linkerd_ebpf_state_lost_total",
        "reason=\"pipeline\"",
        "connections pipelined requests of more kinds than are remembered: requests since then are missing, if \
         there were any",
        Level::Unsure,
    ),
    (
        "linkerd_ebpf_state_lost_total",
        "reason=\"malformed\"",
        "connections spoke HTTP, and then something that is not: requests since then are missing, if there were \
         any",
        Level::Unsure,
    ),
    (
        "linkerd_ebpf_state_lost_total",
        "reason=\"unsolicited\"",
        "connections had a response to a request that was not seen, if there was one: it and those since then \
         are missing",
        Level::Unsure,
    ),
    (
        "linkerd_ebpf_state_lost_total",
        "reason=\"midstream\"",
        "connections are older than the programs, or are not known to be the proxy's or another's: their \
         requests are not counted, their bytes are",
        Level::Note,
    ),
    (
        "linkerd_ebpf_connections_untracked_total",
        "",
        "connections found no slot: they are missing in linkerd_ebpf_connections_opened_total, and with them \
         their requests, while their bytes are counted. A larger --connections takes them",
        Level::Lost,
    ),
    (
        "linkerd_ebpf_requests_aborted_total",
        EVICTED,
        "requests are counted as aborted because their connections were given up for newer ones: if they were \
         answered all the same, as many answers at most are missing. A larger --connections keeps them",
        Level::Unsure,
    ),
    (
        "linkerd_ebpf_contended_packets_total",
        "",
        "packets are counted, but were not looked into, since they waited in vain for another CPU: requests and \
         answers that began or ended in them are missing, if there were any",
        Level::Unsure,
    ),
    (
        "linkerd_proxy_l7_overflow_total",
        "",
        "of the proxy's requests found no slot: they are counted in the series whose labels are other. More \
         METRICD_L7_SLOTS take them",
        Level::Note,
    ),
    (
        "linkerd_proxy_l7_missed_total",
        "",
        "of the proxy's requests are missing in linkerd_proxy_requests_total, since there was nothing to record \
         into as yet",
        Level::Lost,
    ),
    (
        "linkerd_ebpf_connections_opaque_total",
        "reason=\"bound\"",
        "connections began with more than is remembered, and are counted as TCP: if it was HTTP, their requests \
         are missing",
        Level::Unsure,
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
        "packets had headers that could not be read: they are counted, without ports",
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

/// The reason of what was given up for something newer.
const EVICTED: &str = "reason=\"evicted\"";

/// From what share of its room on a map is worth a word.
const NEARLY_FULL: f64 = 0.9;

/// Every counter that is not 0 and should be, maps that are nearly full, and what is out of sight.
pub fn look(tally: &Tally) -> Vec<Finding> {
    let mut findings = Vec::new();
    for ((name, label), count) in &tally.counters {
        if *count <= 0.0 {
            continue;
        }
        let subject = match label.as_str() {
            "" => name.clone(),
            label => format!("{name}{{{label}}}"),
        };
        findings.push(match name.as_str() {
            "linkerd_ebpf_connections_closed_total" => evicted(tally, subject, *count),
            _ => counted(tally, name, label, subject, *count),
        });
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

/// What a counter says that is not 0.
fn counted(tally: &Tally, name: &str, label: &str, subject: String, count: f64) -> Finding {
    let meaning = MEANINGS
        .iter()
        .find(|(of, prefix, ..)| *of == name && label.starts_with(prefix));
    let (text, level) = meaning.map_or(
        (
            "connections were not followed from some point on, for a reason that this version does not know: \
             requests since then are missing, if there were any",
            Level::Unsure,
        ),
        |(_, _, text, level)| (*text, *level),
    );
    let is_lost = name == "linkerd_ebpf_state_lost_total" && level == Level::Unsure;
    let resumed = match tally.resumed {
        again if is_lost && again > 0.0 => {
            format!(" (of the connections that were lost, {again} times one was followed again)")
        }
        _ => String::new(),
    };
    Finding {
        level,
        subject,
        count: Some(count),
        text: format!("{count} {text}{resumed}"),
    }
}

/// Connections that were given up for newer ones. One that goes on is taken for one that is older than the
/// programs, so that if there is none of these, all of them had ended.
fn evicted(tally: &Tally, subject: String, count: f64) -> Finding {
    let went_on = tally.counted("linkerd_ebpf_state_lost_total", "reason=\"midstream\"");
    let (level, text) = match count.min(went_on) {
        0.0 => (
            Level::Note,
            "had nothing to say any more: nothing is missing".to_owned(),
        ),
        most => (
            Level::Unsure,
            format!(
                "{most} of them at most went on, and their requests since then are missing: a larger \
                 --connections keeps them"
            ),
        ),
    };
    Finding {
        level,
        subject,
        count: Some(count),
        text: format!("{count} connections were given up for newer ones, and {text}"),
    }
}
