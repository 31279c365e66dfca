//! What a scrape says of requests and connections, added up by server port and by peer.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Serialize;

use super::quantile::Buckets;
use super::success::{self, End};
use crate::read::samples::{self, Sample};

/// A server port, whose counts are those of all who ask there.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Server {
    pub direction: String,
    pub port: String,
    pub protocol: String,
    pub route: String,
}

/// The other end: the client of what comes in, the server of what goes out.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Peer {
    pub direction: String,
    #[serde(rename = "peer")]
    pub ip: String,
    pub port: String,
    pub proto: String,
    /// `proxy`, if the connections are those of the pod's proxy with the peer, which carry what the
    /// application's own connections with the proxy carry, too. So the two are never added up.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub origin: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    pub requests: f64,
    pub success: f64,
    pub failure: f64,
    /// Responses whose status is not known.
    pub unclassified: f64,
    /// Requests that never got their whole response, but for those in `stopped`.
    pub aborted: f64,
    /// Streams that their clients have ended by design.
    pub stopped: f64,
    /// Bytes.
    pub received: f64,
    pub sent: f64,
    /// TCP connections that are open.
    pub active: f64,
    pub duration: Buckets,
}

/// What was counted until some time, or between two.
#[derive(Clone, Debug)]
pub struct Traffic {
    pub at: Instant,
    /// Since when: none, if since the programs were attached.
    pub window: Option<Duration>,
    /// By direction, what the pod's totals say; empty, if the metricd that was asked has none.
    totals: BTreeMap<String, Counts>,
    pub servers: BTreeMap<Server, Counts>,
    pub peers: BTreeMap<Peer, Counts>,
    /// Whether durations are kept by peer; else by server port only.
    pub durations_by_peer: bool,
    down: Option<String>,
}

impl Traffic {
    /// Reads the text of a scrape that ended just now.
    ///
    /// # Errors
    /// If the text is no scrape, or is somebody else's, or says that nothing is counted.
    pub fn read(text: &str) -> Result<Self> {
        let mut traffic = Self {
            at: Instant::now(),
            window: None,
            totals: BTreeMap::new(),
            servers: BTreeMap::new(),
            peers: BTreeMap::new(),
            durations_by_peer: false,
            down: Some("these are not metricd's metrics: linkerd_ebpf_up is missing".into()),
        };
        samples::each(text, |sample| traffic.add(sample))?;
        match traffic.down.take() {
            Some(reason) => bail!("{reason}"),
            None => Ok(traffic.without_idle()),
        }
    }

    fn add(&mut self, sample: &Sample) {
        let value = sample.value;
        match sample.name {
            "linkerd_ebpf_up" => {
                let reason = || format!("nothing is counted: {}", sample.label("reason"));
                self.down = (value != 1.0).then(reason);
            }
            "linkerd_ebpf_requests_total" => {
                self.server(sample).requests += value;
                self.peer(sample).requests += value;
            }
            "linkerd_ebpf_responses_total" => {
                let end = success::of_response(sample);
                self.server(sample).ended(end, value);
                self.peer(sample).ended(end, value);
            }
            "linkerd_ebpf_requests_aborted_total" => {
                let end = success::of_aborted(sample);
                self.peer(sample).ended(end, value);
                // An older metricd does not say of which protocol and route they were.
                if !sample.label("protocol").is_empty() {
                    self.server(sample).ended(end, value);
                }
            }
            "linkerd_ebpf_pod_requests_total" => self.pod(sample).requests += value,
            "linkerd_ebpf_pod_responses_total" => {
                self.pod(sample).ended(success::of_class(sample), value);
            }
            "linkerd_ebpf_pod_requests_aborted_total" => {
                self.pod(sample).ended(success::of_aborted(sample), value);
            }
            "linkerd_ebpf_connections_active" if sample.label("proto") == "tcp" => {
                self.peer(sample).active += value;
            }
            "linkerd_ebpf_bytes_total" => {
                let peer = self.peer(sample);
                match sample.label("io") {
                    "recv" => peer.received += value,
                    _ => peer.sent += value,
                }
            }
            "linkerd_ebpf_request_duration_seconds_bucket" => {
                let le = sample.label("le");
                self.server(sample).duration.add(le, value);
                if !other_end(sample).is_empty() {
                    self.durations_by_peer = true;
                    self.peer(sample).duration.add(le, value);
                }
            }
            _ => {}
        }
    }

    fn pod(&mut self, sample: &Sample) -> &mut Counts {
        let direction = sample.label("direction").to_owned();
        self.totals.entry(direction).or_default()
    }

    fn server(&mut self, sample: &Sample) -> &mut Counts {
        let label = |name| sample.label(name).to_owned();
        let server = Server {
            direction: label("direction"),
            port: label("dst_port"),
            protocol: label("protocol"),
            route: label("route"),
        };
        self.servers.entry(server).or_default()
    }

    fn peer(&mut self, sample: &Sample) -> &mut Counts {
        let label = |name| sample.label(name).to_owned();
        let peer = Peer {
            direction: label("direction"),
            ip: other_end(sample).to_owned(),
            port: label("dst_port"),
            // Durations are of TCP, and do not say so.
            proto: match label("proto") {
                proto if proto.is_empty() => "tcp".into(),
                proto => proto,
            },
            origin: label("origin"),
        };
        self.peers.entry(peer).or_default()
    }

    fn without_idle(mut self) -> Self {
        self.servers.retain(|_, counts| !counts.is_idle());
        self.peers.retain(|_, counts| !counts.is_idle());
        self
    }

    /// What was counted after an earlier reading, without what did nothing since.
    pub fn since(mut self, earlier: &Self) -> Self {
        self.window = Some(self.at - earlier.at);
        difference(&mut self.totals, &earlier.totals);
        difference(&mut self.servers, &earlier.servers);
        difference(&mut self.peers, &earlier.peers);
        self.without_idle()
    }

    /// What comes in and what goes out, and whichever other directions have requests.
    pub fn directions(&self) -> Vec<&str> {
        let servers = self.servers.keys().map(|key| key.direction.as_str());
        let all: BTreeSet<&str> = servers.chain(["inbound", "outbound"]).collect();
        all.into_iter().collect()
    }

    /// The requests of all who ask, or are asked, at any port, and how long they took. By the pod's totals
    /// or, if an older metricd has none, by what all peers add up to.
    pub fn total(&self, direction: &str) -> Counts {
        let mut total = Counts::default();
        match self.totals.is_empty() {
            false => total.add(self.totals.get(direction).unwrap_or(&Counts::default())),
            true => {
                let peers = self.peers.iter();
                let peers = peers.filter(|(key, _)| key.direction == direction);
                peers.for_each(|(_, counts)| total.add(counts));
            }
        }
        let servers = self.servers.iter();
        for (_, counts) in servers.filter(|(key, _)| key.direction == direction) {
            total.duration.merge(&counts.duration);
        }
        total
    }
}

fn other_end<'a>(sample: &'a Sample) -> &'a str {
    match sample.label("direction") {
        "outbound" => sample.label("dst_ip"),
        _ => sample.label("src_ip"),
    }
}

fn difference<K: Ord>(now: &mut BTreeMap<K, Counts>, earlier: &BTreeMap<K, Counts>) {
    for (key, counts) in now.iter_mut() {
        if let Some(earlier) = earlier.get(key) {
            *counts = counts.since(earlier);
        }
    }
}

/// A counter that is less than it was began anew.
fn since(now: f64, earlier: f64) -> f64 {
    match now < earlier {
        true => now,
        false => now - earlier,
    }
}

impl Counts {
    fn ended(&mut self, end: End, count: f64) {
        *match end {
            End::Success => &mut self.success,
            End::Failure => &mut self.failure,
            End::Unclassified => &mut self.unclassified,
            End::Aborted => &mut self.aborted,
            End::Stopped => &mut self.stopped,
        } += count;
    }

    /// Adds the requests, and how they ended.
    fn add(&mut self, more: &Self) {
        self.requests += more.requests;
        self.success += more.success;
        self.failure += more.failure;
        self.unclassified += more.unclassified;
        self.aborted += more.aborted;
        self.stopped += more.stopped;
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: since(self.requests, earlier.requests),
            success: since(self.success, earlier.success),
            failure: since(self.failure, earlier.failure),
            unclassified: since(self.unclassified, earlier.unclassified),
            aborted: since(self.aborted, earlier.aborted),
            stopped: since(self.stopped, earlier.stopped),
            received: since(self.received, earlier.received),
            sent: since(self.sent, earlier.sent),
            active: self.active,
            duration: self.duration.since(&earlier.duration),
        }
    }

    fn is_idle(&self) -> bool {
        let answered = self.success + self.failure + self.unclassified;
        let all = [
            self.requests,
            answered,
            self.aborted,
            self.stopped,
            self.received,
            self.sent,
            self.active,
        ];
        all.iter().all(|count| *count == 0.0)
    }

    pub fn success_rate(&self) -> Option<f64> {
        success::rate(self.success, self.failure, self.aborted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = r#"
linkerd_ebpf_up 1
linkerd_ebpf_requests_total{direction="inbound",src_ip="10.0.0.9",dst_ip="10.0.0.1",src_port="",dst_port="80",proto="tcp",protocol="http1",route=""} 10
linkerd_ebpf_responses_total{direction="inbound",src_ip="10.0.0.9",dst_ip="10.0.0.1",src_port="",dst_port="80",proto="tcp",protocol="http1",status="200",grpc_status="",route=""} 10
linkerd_ebpf_connections_active{direction="inbound",src_ip="10.0.0.7",dst_ip="10.0.0.1",src_port="",dst_port="80",proto="tcp"} 0
linkerd_ebpf_bytes_total{direction="inbound",src_ip="10.0.0.7",dst_ip="10.0.0.1",src_port="",dst_port="80",proto="tcp",io="recv"} 7
"#;
    const AFTER: &str = r#"
linkerd_ebpf_up 1
linkerd_ebpf_requests_total{direction="inbound",src_ip="10.0.0.9",dst_ip="10.0.0.1",src_port="",dst_port="80",proto="tcp",protocol="http1",route=""} 16
linkerd_ebpf_responses_total{direction="inbound",src_ip="10.0.0.9",dst_ip="10.0.0.1",src_port="",dst_port="80",proto="tcp",protocol="http1",status="200",grpc_status="",route=""} 13
linkerd_ebpf_responses_total{direction="inbound",src_ip="10.0.0.9",dst_ip="10.0.0.1",src_port="",dst_port="80",proto="tcp",protocol="http1",status="503",grpc_status="",route=""} 1
linkerd_ebpf_responses_total{direction="inbound",src_ip="10.0.0.9",dst_ip="10.0.0.1",src_port="",dst_port="80",proto="tcp",protocol="http1",status="unknown",grpc_status="",route=""} 1
linkerd_ebpf_requests_aborted_total{direction="inbound",src_ip="10.0.0.9",dst_ip="10.0.0.1",src_port="",dst_port="80",proto="tcp",protocol="http1",route="",reason="rst"} 1
linkerd_ebpf_connections_active{direction="inbound",src_ip="10.0.0.7",dst_ip="10.0.0.1",src_port="",dst_port="80",proto="tcp"} 0
linkerd_ebpf_bytes_total{direction="inbound",src_ip="10.0.0.7",dst_ip="10.0.0.1",src_port="",dst_port="80",proto="tcp",io="recv"} 7
linkerd_ebpf_bytes_total{direction="outbound",src_ip="10.0.0.1",dst_ip="10.0.0.3",src_port="",dst_port="53",proto="udp",io="sent"} 70
linkerd_ebpf_request_duration_seconds_bucket{direction="inbound",src_ip="",dst_ip="",dst_port="80",protocol="http1",status_class="2xx",route="",le="0.5"} 3
linkerd_ebpf_request_duration_seconds_bucket{direction="inbound",src_ip="",dst_ip="",dst_port="80",protocol="http1",status_class="2xx",route="",le="5"} 3
linkerd_ebpf_request_duration_seconds_bucket{direction="inbound",src_ip="",dst_ip="",dst_port="80",protocol="http1",status_class="2xx",route="",le="+Inf"} 3
linkerd_ebpf_request_duration_seconds_bucket{direction="inbound",src_ip="",dst_ip="",dst_port="80",protocol="http1",status_class="5xx",route="",le="0.5"} 1
linkerd_ebpf_request_duration_seconds_bucket{direction="inbound",src_ip="",dst_ip="",dst_port="80",protocol="http1",status_class="5xx",route="",le="5"} 1
linkerd_ebpf_request_duration_seconds_bucket{direction="inbound",src_ip="",dst_ip="",dst_port="80",protocol="http1",status_class="5xx",route="",le="+Inf"} 1
linkerd_ebpf_request_duration_seconds_bucket{direction="inbound",src_ip="",dst_ip="",dst_port="80",protocol="http1",status_class="aborted",route="",le="0.5"} 0
linkerd_ebpf_request_duration_seconds_bucket{direction="inbound",src_ip="",dst_ip="",dst_port="80",protocol="http1",status_class="aborted",route="",le="5"} 1
linkerd_ebpf_request_duration_seconds_bucket{direction="inbound",src_ip="",dst_ip="",dst_port="80",protocol="http1",status_class="aborted",route="",le="+Inf"} 1
"#;

    #[test]
    fn between_two_scrapes() {
        let before = Traffic::read(BEFORE).unwrap();
        let traffic = Traffic::read(AFTER).unwrap().since(&before);
        let [(server, at)] = &traffic.servers.iter().collect::<Vec<_>>()[..] else {
            panic!("{:?}", traffic.servers);
        };
        assert_eq!(
            (server.port.as_str(), server.protocol.as_str()),
            ("80", "http1")
        );
        assert_eq!((at.requests, at.success, at.failure), (6.0, 3.0, 1.0));
        assert_eq!((at.unclassified, at.aborted), (1.0, 1.0));
        assert_eq!(at.success_rate(), Some(0.6));
        // Four of five take up to 0.5 s, and the one that was given up five.
        assert_eq!(at.duration.quantile(0.5), Some(0.5 * 2.5 / 4.0));
        assert_eq!(at.duration.quantile(0.99), Some(4.775));
        // 10.0.0.7 did nothing.
        let peers: Vec<_> = traffic.peers.iter().collect();
        assert_eq!(peers.len(), 2, "{peers:?}");
        let (peer, counts) = peers[0];
        assert_eq!(peer.ip, "10.0.0.9");
        assert_eq!((counts.requests, counts.aborted), (6.0, 1.0));
        assert_eq!(counts.duration.quantile(0.5), None, "not kept by peer");
        let (peer, counts) = peers[1];
        assert_eq!((peer.ip.as_str(), peer.proto.as_str()), ("10.0.0.3", "udp"));
        assert_eq!(counts.sent, 70.0);
        assert!(!traffic.durations_by_peer);
    }

    /// A pod with a proxy: what a client sends comes by the proxy's connection, and once more by the
    /// application's with the proxy.
    #[test]
    fn of_a_pod_with_a_proxy() {
        let mut text = "linkerd_ebpf_up 1\n".to_owned();
        for (direction, src, port, origin) in [
            ("inbound", "10.0.0.9", "80", ",origin=\"proxy\""),
            ("inbound", "", "80", ""),
            ("outbound", "10.0.0.1", "443", ",origin=\"proxy\""),
            ("outbound", "10.0.0.1", "443", ""),
            ("local", "127.0.0.1", "80", ""),
        ] {
            let labels = format!(
                "direction=\"{direction}\",src_ip=\"{src}\",dst_ip=\"10.0.0.3\",dst_port=\"{port}\",proto=\"tcp\""
            );
            text += &format!("linkerd_ebpf_bytes_total{{{labels},io=\"recv\"{origin}}} 100\n");
            text += &format!("linkerd_ebpf_connections_active{{{labels}{origin}}} 1\n");
            if origin.is_empty() {
                text += &format!("linkerd_ebpf_requests_total{{{labels}}} 7\n");
            }
        }
        let traffic = Traffic::read(&text).unwrap();
        let rows: Vec<_> = traffic
            .peers
            .iter()
            .map(|(peer, counts)| {
                assert_eq!((counts.received, counts.active), (100.0, 1.0), "{peer:?}");
                (&*peer.direction, &*peer.ip, &*peer.origin, counts.requests)
            })
            .collect();
        let expected = [
            ("inbound", "", "", 7.0),
            ("inbound", "10.0.0.9", "proxy", 0.0),
            ("local", "127.0.0.1", "", 7.0),
            ("outbound", "10.0.0.3", "", 7.0),
            ("outbound", "10.0.0.3", "proxy", 0.0),
        ];
        assert_eq!(rows, expected);
        for direction in ["inbound", "outbound", "local"] {
            assert_eq!(traffic.total(direction).requests, 7.0, "{direction}");
        }
    }

    #[test]
    fn counters_that_began_anew() {
        let before = Traffic::read(AFTER).unwrap();
        let traffic = Traffic::read(BEFORE).unwrap().since(&before);
        let total = traffic.total("inbound");
        assert_eq!((total.requests, total.success), (10.0, 10.0));
    }

    #[derive(serde::Deserialize)]
    struct Case {
        what: String,
        metrics: Vec<String>,
        of: Vec<String>,
        success: Option<f64>,
        aborted: f64,
    }

    /// The page's script is held against these cases by tests/view/page.py, the rules by tests/manifests/success.
    #[test]
    fn what_counts_as_a_success() {
        let cases = include_str!("../../../tests/view/success.json");
        let cases: Vec<Case> = serde_json::from_str(cases).unwrap();
        for case in cases {
            let text = format!("linkerd_ebpf_up 1\n{}", case.metrics.join("\n"));
            let traffic = Traffic::read(&text).unwrap();
            for of in &case.of {
                let counts = match of.as_str() {
                    "server" => traffic.servers.values().next().unwrap().clone(),
                    "peer" => traffic.peers.values().next().unwrap().clone(),
                    _ => traffic.total("inbound"),
                };
                let success = counts.success_rate();
                let is_close = match (success, case.success) {
                    (Some(found), Some(expected)) => (found - expected).abs() < 1e-9,
                    (found, expected) => found == expected,
                };
                assert!(is_close, "{}, {of}: {success:?}", case.what);
                assert_eq!(counts.aborted, case.aborted, "{}, {of}", case.what);
            }
        }
    }

    /// Where series that have long been idle are left out, totals keep them.
    #[test]
    fn totals_go_before_sums() {
        let total = |requests, ok, fin| {
            format!(
                "linkerd_ebpf_up 1\n\
                 linkerd_ebpf_pod_requests_total{{direction=\"inbound\",protocol=\"http1\"}} {requests}\n\
                 linkerd_ebpf_pod_responses_total{{direction=\"inbound\",protocol=\"http1\",status_class=\"2xx\"}} {ok}\n\
                 linkerd_ebpf_pod_requests_aborted_total{{direction=\"inbound\",reason=\"fin\"}} {fin}\n\
                 linkerd_ebpf_requests_total{{direction=\"inbound\",src_ip=\"10.0.0.9\",dst_port=\"80\",proto=\"tcp\",protocol=\"http1\"}} 5\n"
            )
        };
        let before = Traffic::read(&total(100, 90, 10)).unwrap();
        let all = before.total("inbound");
        assert_eq!(
            (all.requests, all.success, all.aborted),
            (100.0, 90.0, 10.0)
        );
        assert_eq!(before.total("outbound").requests, 0.0);
        let since = Traffic::read(&total(104, 93, 11)).unwrap().since(&before);
        let all = since.total("inbound");
        assert_eq!((all.requests, all.success, all.aborted), (4.0, 3.0, 1.0));
        assert_eq!(all.success_rate(), Some(0.75));
    }

    #[test]
    fn who_counts_nothing_says_why() {
        let down = r#"linkerd_ebpf_up{reason="waiting for metricd-init"} 0"#;
        let error = Traffic::read(down).unwrap_err().to_string();
        assert_eq!(error, "nothing is counted: waiting for metricd-init");
        let error = Traffic::read("up 1").unwrap_err().to_string();
        assert!(error.contains("not metricd's"), "{error}");
    }
}
