//! The Prometheus text format, read back, and the identities that every scrape must fulfil.

use std::collections::{BTreeMap, BTreeSet};

pub type Labels = BTreeMap<String, String>;

/// The labels that say whose line it is, but for `origin`, which only a proxy's lines have. Series that
/// did not fit have "other" in all of them.
const PEER: [&str; 6] = [
    "direction",
    "src_ip",
    "dst_ip",
    "src_port",
    "dst_port",
    "proto",
];

#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: Labels,
    pub value: f64,
}

impl Sample {
    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels
            .iter()
            .all(|(name, value)| self.labels.get(*name).is_some_and(|own| own == value))
    }

    fn count(&self) -> u64 {
        assert!(
            self.value >= 0.0 && self.value.fract() == 0.0 && self.value < 2f64.powi(53),
            "not a count: {self:?}"
        );
        self.value as u64
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Scrape {
    pub text: String,
    pub samples: Vec<Sample>,
}

impl Scrape {
    pub fn parse(text: &str) -> Self {
        let mut seen = BTreeSet::new();
        let samples: Vec<Sample> = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| sample(line).unwrap_or_else(|| panic!("not a sample: {line}")))
            .collect();
        for sample in &samples {
            assert!(
                seen.insert((&sample.name, &sample.labels)),
                "served twice: {sample:?}"
            );
        }
        Self {
            text: text.to_owned(),
            samples,
        }
    }

    /// The lines of this name that have these labels.
    pub fn select<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.samples
            .iter()
            .filter(move |sample| sample.name == name && sample.has(labels))
    }

    /// The sum of the lines of this name with these labels; what is not served is 0.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.select(name, labels).map(Sample::count).sum()
    }

    /// As `sum`, for what is not a count.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.select(name, labels).map(|sample| sample.value).sum()
    }

    /// The sums by the values of one label; what is 0 is left out.
    pub fn by(&self, label: &str, name: &str, labels: &[(&str, &str)]) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for sample in self.select(name, labels) {
            let value = sample.labels.get(label);
            let value = value.unwrap_or_else(|| panic!("no label {label}: {sample:?}"));
            *sums.entry(value.clone()).or_default() += sample.count();
        }
        sums.retain(|_, sum| *sum > 0);
        sums
    }
}

fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let name = &line[..end];
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    if name.is_empty() || !name.chars().all(is_name) || name.starts_with(|c: char| c.is_numeric()) {
        return None;
    }
    let (labels, rest) = match line[end..].strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Labels::new(), &line[end..]),
    };
    let value = match rest.strip_prefix(' ')? {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        number => number.parse().ok()?,
    };
    Some(Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// Reads up to the closing brace and returns what follows it.
fn labels(mut rest: &str) -> Option<(Labels, &str)> {
    let mut labels = Labels::new();
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at + 1,
                (_, '\\') => value.push(match chars.next()?.1 {
                    'n' => '\n',
                    escaped @ ('"' | '\\') => escaped,
                    _ => return None,
                }),
                (_, c) => value.push(c),
            }
        };
        if labels.insert(name.to_owned(), value).is_some() {
            return None;
        }
        rest = &quoted[end..];
        rest = match rest.strip_prefix(',') {
            Some(rest) => rest,
            None if rest.starts_with('}') => rest,
            None => return None,
        };
    }
}

/// What came in and what became of it, for one peer or for all.
#[derive(Clone, Copy, Debug, Default)]
struct Balance {
    requests: u64,
    responses: u64,
    aborted: u64,
    in_flight: u64,
    opened: u64,
    closed: u64,
    active: u64,
    /// Connections of TCP, by what they carry.
    decided: u64,
}

impl Balance {
    fn account(&mut self, name: &str) -> Option<&mut u64> {
        Some(match name {
            "linkerd_ebpf_requests_total" => &mut self.requests,
            "linkerd_ebpf_responses_total" => &mut self.responses,
            "linkerd_ebpf_requests_aborted_total" => &mut self.aborted,
            "linkerd_ebpf_requests_in_flight" => &mut self.in_flight,
            "linkerd_ebpf_connections_opened_total" => &mut self.opened,
            "linkerd_ebpf_connections_closed_total" => &mut self.closed,
            "linkerd_ebpf_connections_active" => &mut self.active,
            "linkerd_ebpf_connections_classified_total"
            | "linkerd_ebpf_connections_opaque_total" => &mut self.decided,
            _ => return None,
        })
    }

    fn holds(&self) -> bool {
        self.requests == self.responses + self.aborted + self.in_flight
            && self.opened == self.closed + self.active
    }

    /// Whether it is told what each connection of TCP carries, once it has ended.
    fn is_decided(&self) -> bool {
        self.decided <= self.opened && (self.decided == self.opened || self.active > 0)
    }
}

/// The totals, and of each the detailed family that adds up to it.
const TOTALS: [(&str, &str); 7] = [
    ("pod_requests_total", "requests_total"),
    ("pod_responses_total", "responses_total"),
    ("pod_requests_aborted_total", "requests_aborted_total"),
    ("pod_connections_opened_total", "connections_opened_total"),
    ("pod_connections_closed_total", "connections_closed_total"),
    ("pod_connections_opaque_total", "connections_opaque_total"),
    ("pod_state_lost_total", "state_lost_total"),
];

/// Reasons that the totals of these families leave out.
const LEFT_OUT: [(&str, &[&str]); 2] = [
    ("connections_opaque_total", &["undecided", "midstream"]),
    ("state_lost_total", &["midstream"]),
];

/// A total is the sum of its detailed family, over whatever labels.
fn check_totals(scrape: &Scrape) {
    for (total, detailed) in TOTALS {
        let left_out = LEFT_OUT.iter().find(|(name, _)| *name == detailed);
        let reasons = left_out.map_or(&[][..], |(_, reasons)| reasons);
        let [total, detailed] = [total, detailed].map(|name| format!("linkerd_ebpf_{name}"));
        assert_eq!(
            scrape.sum(&total, &[]),
            scrape.sum(&detailed, &[])
                - reasons
                    .iter()
                    .map(|reason| scrape.sum(&detailed, &[("reason", reason)]))
                    .sum::<u64>(),
            "{total} is not the sum of {detailed}\n{}",
            scrape.text
        );
    }
}

/// Promise 2, for every series and for their sum. To be asked while nothing happens: a scrape
/// reads one map after the other. Nothing is asked of a page that leaves series out.
pub fn check_identities(scrape: &Scrape) {
    if scrape.sum("linkerd_ebpf_series_idle", &[]) > 0 {
        return;
    }
    check_totals(scrape);
    let mut total = Balance::default();
    let mut peers: BTreeMap<Vec<&str>, Balance> = BTreeMap::new();
    for sample in &scrape.samples {
        let Some(account) = total.account(&sample.name) else {
            continue;
        };
        *account += sample.count();
        let mut peer = PEER
            .map(|label| {
                let value = sample.labels.get(label);
                value
                    .unwrap_or_else(|| panic!("no label {label}: {sample:?}"))
                    .as_str()
            })
            .to_vec();
        peer.extend(sample.labels.get("origin").map(String::as_str));
        let own = peers.entry(peer).or_default();
        *own.account(&sample.name).unwrap() += sample.count();
    }
    assert!(total.holds(), "the sums do not add up: {total:?}");
    // Once something did not fit, a peer's lines may be split between its own and the "other" ones.
    if scrape.sum("linkerd_proxy_ebpf_map_overflow_total", &[]) == 0 {
        for (peer, balance) in peers {
            assert!(
                balance.holds() && (!peer.contains(&"tcp") || balance.is_decided()),
                "{peer:?} does not add up: {balance:?}\n{}",
                scrape.text
            );
        }
    }
}

#[test]
fn reads_labels_escapes_and_values() {
    let scrape = Scrape::parse(
        "# HELP a b\n# TYPE a counter\na{x=\"1\",y=\"q\\\"\\\\\\n}\"} 3\na 4\nb{} 0.5\nb{le=\"+Inf\",} +Inf\n",
    );
    assert_eq!(scrape.sum("a", &[]), 7);
    assert_eq!(scrape.sum("a", &[("x", "1"), ("y", "q\"\\\n}")]), 3);
    assert_eq!(scrape.value("b", &[("le", "+Inf")]), f64::INFINITY);
    assert_eq!(
        scrape.by("x", "a", &[("x", "1")]),
        BTreeMap::from([("1".to_owned(), 3)])
    );
    for bad in [
        "a",
        "a 1 ",
        "1a 2",
        "a{b=c} 1",
        "a{b=\"c} 1",
        "a{b=\"c\"d=\"e\"} 1",
    ] {
        assert!(sample(bad).is_none(), "{bad}");
    }
}

#[test]
#[should_panic(expected = "served twice")]
fn refuses_a_line_that_comes_twice() {
    Scrape::parse("a{b=\"1\"} 1\na{b=\"1\"} 2\n");
}

/// A peer's line, with its total if there is one.
#[cfg(test)]
fn peer_line(name: &str, port: u16, value: u64) -> String {
    let line = format!(
        "linkerd_ebpf_{name}{{direction=\"inbound\",src_ip=\"1.2.3.4\",dst_ip=\"1.2.3.5\",src_port=\"\",dst_port=\"{port}\",proto=\"6\"}} {value}\n"
    );
    match name.ends_with("_total") {
        true => line + &format!("linkerd_ebpf_pod_{name}{{direction=\"inbound\"}} {value}\n"),
        false => line,
    }
}

#[test]
fn accepts_what_adds_up() {
    let text = peer_line("requests_total", 80, 5)
        + &peer_line("responses_total", 80, 3)
        + &peer_line("requests_aborted_total", 80, 1)
        + &peer_line("requests_in_flight", 80, 1);
    check_identities(&Scrape::parse(&text));
}

#[test]
#[should_panic(expected = "is not the sum of")]
fn refuses_a_total_that_lacks_one() {
    let text = peer_line("connections_opened_total", 80, 5)
        + &peer_line("connections_closed_total", 80, 5).replace("inbound\"} 5", "inbound\"} 4");
    check_identities(&Scrape::parse(&text));
}

#[test]
#[should_panic(expected = "the sums do not add up")]
fn refuses_a_response_too_few() {
    let text = peer_line("requests_total", 80, 5) + &peer_line("responses_total", 80, 4);
    check_identities(&Scrape::parse(&text));
}

#[test]
#[should_panic(expected = "does not add up")]
fn refuses_a_response_with_another_peer() {
    let text = peer_line("requests_total", 80, 5) + &peer_line("responses_total", 81, 5);
    check_identities(&Scrape::parse(&text));
}

#[test]
#[should_panic(expected = "does not add up")]
fn refuses_a_proxys_connection_that_another_closes() {
    let closed = peer_line("connections_closed_total", 80, 1);
    let text = peer_line("connections_opened_total", 80, 1)
        + &closed.replace("\"} 1", "\",origin=\"proxy\"} 1");
    check_identities(&Scrape::parse(&text));
}
