//! Whether the pipeline is whole: every request counted once, with its own labels, and as often as a
//! proxy in the pod has counted it, if one tells.
//!
//! Numbers that are not read at the same instant differ while traffic goes on. So two scrapes are
//! looked at, and two counters count as different only where no instant between the scrapes
//! explains the difference: where one counter was already more at the first scrape than the other
//! still is at the second.

#![forbid(unsafe_code)]

mod counters;
mod mesh;
mod tally;

use std::time::Duration;

use serde::Serialize;

pub use tally::Tally;
use tally::{Address, Interval, Way};

/// The time between the two scrapes: longer than what a proxy takes from a response's end to
/// recording it.
pub const BETWEEN: Duration = Duration::from_secs(1);

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing is missing for it.
    Note,
    /// Something is missing, or it is not: nobody can know.
    Unsure,
    /// Something is missing: the text says which number is too low, and by how much if that is known.
    Lost,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    pub level: Level,
    /// The metric, with the label that matters.
    pub subject: String,
    /// How many, if it is countable.
    pub count: Option<f64>,
    /// What it means, and what to do about it.
    pub text: String,
}

/// The result of [`diagnose`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diagnosis {
    /// Whether nothing is missing, and that is known.
    pub whole: bool,
    pub verdict: String,
    pub findings: Vec<Finding>,
}

/// Compares what was counted, by two scrapes of one sidecar.
pub fn diagnose(first: &Tally, second: &Tally) -> Diagnosis {
    let mut findings = Vec::new();
    match &second.up {
        None => findings.push(lost(
            "linkerd_ebpf_up",
            None,
            "is missing: these are not metricd's metrics",
        )),
        Some(Err(reason)) => findings.push(lost(
            "linkerd_ebpf_up",
            None,
            &format!("nothing is counted: {reason}"),
        )),
        Some(Ok(())) => {
            let counters = counters::look(second);
            findings.extend(identities(first, second));
            findings.extend(proxy(first, second, &counters));
            if second.is_mesh {
                findings.extend(mesh::look(first, second));
            }
            findings.extend(counters);
        }
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    let worst = findings.first();
    let verdict = match worst {
        Some(worst) if worst.level == Level::Lost => format!("not whole: {}", worst.text),
        Some(worst) if worst.level == Level::Unsure => format!("may not be whole: {}", worst.text),
        _ => format!("whole: {}", counts(second)),
    };
    let whole = worst.is_none_or(|worst| worst.level < Level::Unsure);
    Diagnosis {
        whole,
        verdict,
        findings,
    }
}

/// How much was counted.
fn counts(tally: &Tally) -> String {
    let proxied = match tally.proxied() {
        0.0 => String::new(),
        requests => format!(", {requests} of them by the proxy, too"),
    };
    format!("{} requests counted{proxied}", tally.sums().requests)
}

fn lost(subject: &str, count: Option<f64>, text: &str) -> Finding {
    Finding {
        level: Level::Lost,
        subject: subject.into(),
        count,
        text: text.into(),
    }
}

fn unsure(subject: &str, count: f64, text: String) -> Finding {
    Finding {
        level: Level::Unsure,
        subject: subject.into(),
        count: Some(count),
        text,
    }
}

fn note(subject: &str, count: f64, text: String) -> Finding {
    Finding {
        level: Level::Note,
        subject: subject.into(),
        count: Some(count),
        text,
    }
}

fn ok(subject: &str, count: f64, text: String) -> Finding {
    Finding {
        level: Level::Ok,
        subject: subject.into(),
        count: Some(count),
        text,
    }
}

/// What is always true of the counters themselves.
fn identities(first: &Tally, second: &Tally) -> Vec<Finding> {
    let mut findings = Vec::new();
    let ended = |tally: &Tally| tally.sums().requests - tally.in_flight;
    let closed = |tally: &Tally| tally.sums().opened - tally.active;
    for (subject, identity, left, right) in [
        (
            "linkerd_ebpf_requests_total",
            "requests = responses + aborted + in flight",
            Interval(ended(first), ended(second)),
            Interval(first.sums().ended, second.sums().ended),
        ),
        (
            "linkerd_ebpf_connections_opened_total",
            "connections opened = closed + active",
            Interval(closed(first), closed(second)),
            Interval(first.sums().closed, second.sums().closed),
        ),
    ] {
        findings.push(match left.beyond(&right) {
            0.0 => ok(subject, right.1, format!("{identity}, to the last one")),
            by => lost(
                subject,
                Some(by.abs()),
                &format!("{identity} does not hold: {by:+}"),
            ),
        });
    }
    if !second.has_seen_packets() {
        let text = "no packet has been seen: if there was one, metricd-init is not attached to its interface";
        findings.push(unsure("linkerd_ebpf_bytes_total", 0.0, text.into()));
    }
    findings
}

/// Compares what the proxy has sent on with what passed the programs, by address.
fn proxy(first: &Tally, second: &Tally, counters: &[Finding]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (to, proxied) in second.proxy.iter().filter(|(to, _)| !to.is_other()) {
        // Where no addresses are kept, or none fitted, ports are what can be compared.
        let at = second.known_as(to);
        let subject = format!("linkerd_proxy_requests_total to {to}");
        if second.outside.contains(&at) {
            findings.push(note(&subject, *proxied, mesh::not_compared(to, *proxied)));
            continue;
        }
        let proxied = Interval(first.proxy.get(to).copied().unwrap_or_default(), *proxied);
        let [before, after] = [first, second].map(|tally| tally.requests_to(&at, second.is_mesh));
        let seen = Interval(before, after);
        findings.push(match seen.beyond(&proxied) {
            less if less < 0.0 && first.idle + second.idle > 0.0 => {
                note(&subject, proxied.1, not_shown(to, second.idle))
            }
            _ => compared(second, to, &at, &seen, &proxied, counters),
        });
        if !second.is_mesh {
            findings.extend(bypasses(first, second, to, &at));
        }
    }
    findings
}

/// What it means how many requests to an address the kernel has seen, and the proxy has recorded.
fn compared(
    second: &Tally,
    to: &Address,
    at: &Address,
    seen: &Interval,
    proxied: &Interval,
    counters: &[Finding],
) -> Finding {
    let subject = format!("linkerd_proxy_requests_total to {to}");
    let by = seen.beyond(proxied);
    if by == 0.0 {
        let meanwhile = match seen.1 - seen.0 {
            more if more > 0.0 => format!(" ({more} of them within the time of looking)"),
            _ => String::new(),
        };
        let text = format!(
            "the proxy and the kernel count the same requests to {to}: {}{meanwhile}",
            proxied.1
        );
        return ok(&subject, proxied.1, text);
    }
    if by > 0.0 && by <= second.unrecorded() {
        let text = format!(
            "{by} requests to {to} may be among those that the proxy has not recorded by where they went \
             (linkerd_proxy_l7_overflow_total, linkerd_proxy_l7_missed_total); the kernel has counted them"
        );
        return note(&subject, by, text);
    }
    if by < 0.0 && -by <= second.elsewhere() {
        let text = format!(
            "{} of the proxy's {} requests to {to} may be among those whose peers did not fit into the map, and \
             which are counted in the series whose labels are other",
            -by, proxied.1
        );
        return note(&subject, -by, text);
    }
    if by < 0.0 {
        return lost(
            &subject,
            Some(-by),
            &unseen(to, -by, seen.1, proxied.1, counters),
        );
    }
    if second.is_mesh && !at.ip.is_empty() {
        return lost(
            &subject,
            Some(by),
            &mesh::not_recorded(to, by, seen, proxied),
        );
    }
    let text = format!(
        "{by} requests to {to} did not come from the proxy, or it has not recorded them: who in the pod's network \
         asks there directly? The kernel has seen {}, the proxy has sent {}",
        seen.1, proxied.1
    );
    unsure(&subject, by, text)
}

/// Why requests that are not shown are none that were not seen.
fn not_shown(to: &Address, idle: f64) -> String {
    format!(
        "the proxy's requests to {to} are not compared: {idle} series that have not changed for long are left \
         out of what was scraped, which has them by metrics?show-idle=0"
    )
}

/// Requests that the proxy has sent and nobody has seen.
fn unseen(to: &Address, less: f64, seen: f64, proxied: f64, counters: &[Finding]) -> String {
    let what =
        format!("{less} of the proxy's {proxied} requests to {to} were not seen by the kernel");
    let reasons = counters.iter().filter(|finding| {
        finding.level >= Level::Unsure
            || finding.subject.starts_with("linkerd_ebpf_state_lost_total")
    });
    let reasons: Vec<String> = reasons
        .filter_map(|finding| Some(format!("{} {}", finding.subject, finding.count?)))
        .collect();
    match (seen, reasons.is_empty()) {
        (0.0, true) => format!(
            "{what}, nor any other: is the way there observed? On the loopback it takes metricd-init \
             --loopback"
        ),
        (_, true) => format!("{what}, and no counter tells why"),
        (_, false) => format!("{what}, which may be explained by {}", reasons.join(", ")),
    }
}

/// Requests to the port of `to` by another address, which bypass the proxy.
fn bypasses(first: &Tally, second: &Tally, to: &Address, at: &Address) -> Vec<Finding> {
    if at.ip.is_empty() {
        return Vec::new();
    }
    let others = second.ended.iter().filter(|(way, count)| {
        let is_other = way.to.ip != at.ip && !second.proxy.contains_key(&way.to);
        way.to.port == to.port && is_other && **count > 0.0 && way.to.ip != "other"
    });
    let findings = others.map(|(way, count)| bypass(first, way, *count, to));
    findings.collect()
}

/// Requests by a way that bypasses the proxy, which asks `asked`.
fn bypass(first: &Tally, way: &Way, count: f64, asked: &Address) -> Finding {
    let Way { to, from, .. } = way;
    let before = first.ended.get(way).copied().unwrap_or_default();
    let now = match count - before {
        more if more > 0.0 => ", and it goes on",
        _ => "",
    };
    note(
        &format!("linkerd_ebpf_requests_total to {to}"),
        count,
        format!(
            "{count} requests from {from} to {to} bypassed the proxy, which asks {asked}{now}; they are counted"
        ),
    )
}

#[cfg(test)]
mod tests;
