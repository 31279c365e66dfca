//! Requests of a pod whose proxy is known to the programs: which of them did not go through it.

use std::collections::BTreeMap;

use super::tally::{Address, Interval, Tally};
use super::{Finding, bypass, note};

/// How many clients of one address are named.
const NAMED: usize = 3;

/// Who asks the application directly: from outside of the pod, or from within.
pub fn look(first: &Tally, second: &Tally) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut past: BTreeMap<&Address, Vec<(f64, &str)>> = BTreeMap::new();
    let mut within: BTreeMap<&Address, f64> = BTreeMap::new();
    for (way, count) in &second.ended {
        let mut asked = second.proxy.keys().filter(|to| !to.is_other());
        let asked = asked.find(|to| to.port == way.to.port && !second.outside.contains(to));
        match (&*way.direction, asked) {
            _ if *count == 0.0 => {}
            ("inbound", _) if way.is_from_proxy() => {}
            ("inbound", Some(asked)) => findings.push(bypass(first, way, *count, asked)),
            ("inbound", None) => past.entry(&way.to).or_default().push((*count, &way.from)),
            ("local", Some(_)) => *within.entry(&way.to).or_default() += count,
            _ => {}
        }
    }
    let subject = |to: &Address| format!("linkerd_ebpf_requests_total to {to}");
    findings.extend(past.into_iter().map(|(to, mut clients)| {
        let all = clients.iter().map(|(count, _)| count).sum();
        note(&subject(to), all, went_past(to, all, &mut clients))
    }));
    findings.extend(within.into_iter().map(|(to, count)| {
        let text = format!(
            "{count} requests to {to} came from another container of the pod, which asks the application \
             without the proxy"
        );
        note(&subject(to), count, text)
    }));
    findings
}

/// Requests of clients to a port of which no proxy tells.
fn went_past(to: &Address, all: f64, clients: &mut [(f64, &str)]) -> String {
    clients.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let named = clients.iter().take(NAMED);
    let mut named: Vec<String> = named
        .map(|(count, from)| format!("{count} from {from}"))
        .collect();
    if clients.len() > NAMED {
        named.push(format!("and others from {} more", clients.len() - NAMED));
    }
    format!(
        "{all} requests to {to} did not go through the proxy: {}. Either the mesh skips the port, or there \
         is a way past the proxy",
        named.join(", ")
    )
}

/// Requests that were sent by the proxy, and are missing in its count.
pub fn not_recorded(to: &Address, more: f64, seen: &Interval, proxied: &Interval) -> String {
    format!(
        "{more} requests to {to} came from the proxy, which has not recorded them: the kernel has seen {}, \
         the proxy has recorded {}",
        seen.1, proxied.1
    )
}

/// Why the count of a proxy's requests to others is not compared.
pub fn not_compared(to: &Address, proxied: f64) -> String {
    format!(
        "the proxy has sent {proxied} requests to {to}, outside of the pod: the kernel counts them where \
         the application asks the proxy, by the address that it asks for"
    )
}
