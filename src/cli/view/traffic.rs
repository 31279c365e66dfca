//! What a scrape says of requests and connections, added up by server port and by peer.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Serialize;

use super::quantile::Buckets;
use crate::read::samples::{self, Sample};
use crate::read::success;

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
    /// Requests that never got their whole response.
    pub aborted: f64,
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
    pub servers: BTreeMap<Server, Counts>,
    pub peers: BTreeMap<Peer, Counts>,
    /// Whether durations are kept by peer; else by server port only.
    pub durations_by_peer: bool,
    down: Option<String>,
}

/// Whether a response is a success. None, where its status is not known.
fn is_success(sample: &Sample) -> Option<bool> {
    let is_grpc = sample.label("protocol") == "grpc";
    let status = sample.label("status").parse().ok();
    success::is_success(is_grpc, status, sample.label("grpc_status").parse().ok())
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
            servers: BTreeMap::new(),
            peers: BTreeMap::new(),
            durations_by_peer: false,
            down: Some("these are not metricd's metrics: linkerd_ebpf_up is missing".into()),
        };
        samples::each(text, |sample| traffic.add(sample))?;
        match traffic.down.take() {
            Some(reason) => bail!("{reason}"),
            None => {
                traffic.servers.retain(|_, counts| !counts.is_idle());
                traffic.peers.retain(|_, counts| !counts.is_idle());
                Ok(traffic)
            }
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
                let success = is_success(sample);
                self.server(sample).answered(success, value);
                self.peer(sample).answered(success, value);
            }
            "linkerd_ebpf_requests_aborted_total" => self.peer(sample).aborted += value,
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

    /// What was counted after an earlier reading, without what did nothing since.
    pub fn since(mut self, earlier: &Self) -> Self {
        self.window = Some(self.at - earlier.at);
        difference(&mut self.servers, &earlier.servers);
        difference(&mut self.peers, &earlier.peers);
        self
    }

    /// The counts of all who ask, or are asked, at any port.
    pub fn total(&self, direction: &str) -> Counts {
        let mut total = Counts::default();
        let servers = self.servers.iter();
        for (_, counts) in servers.filter(|(key, _)| key.direction == direction) {
            total.requests += counts.requests;
            total.success += counts.success;
            total.failure += counts.failure;
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
    now.retain(|_, counts| !counts.is_idle());
}

/// A counter that is less than it was began anew.
fn since(now: f64, earlier: f64) -> f64 {
    match now < earlier {
        true => now,
        false => now - earlier,
    }
}

impl Counts {
    fn answered(&mut self, success: Option<bool>, count: f64) {
        match success {
            Some(true) => self.success += count,
            Some(false) => self.failure += count,
            None => self.unclassified += count,
        }
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: since(self.requests, earlier.requests),
            success: since(self.success, earlier.success),
            failure: since(self.failure, earlier.failure),
            unclassified: since(self.unclassified, earlier.unclassified),
            aborted: since(self.aborted, earlier.aborted),
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
            self.received,
            self.sent,
            self.active,
        ];
        all.iter().all(|count| *count == 0.0)
    }

    /// The share of successes among the responses with a status.
    pub fn success_rate(&self) -> Option<f64> {
        let responses = self.success + self.failure;
        (responses > 0.0).then(|| self.success / responses)
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
linkerd_ebpf_requests_aborted_total{direction="inbound",src_ip="10.0.0.9",dst_ip="10.0.0.1",src_port="",dst_port="80",proto="tcp",reason="rst"} 1
linkerd_ebpf_connections_active{direction="inbound",src_ip="10.0.0.7",dst_ip="10.0.0.1",src_port="",dst_port="80",proto="tcp"} 0
linkerd_ebpf_bytes_total{direction="inbound",src_ip="10.0.0.7",dst_ip="10.0.0.1",src_port="",dst_port="80",proto="tcp",io="recv"} 7
linkerd_ebpf_bytes_total{direction="outbound",src_ip="10.0.0.1",dst_ip="10.0.0.3",src_port="",dst_port="53",proto="udp",io="sent"} 70
linkerd_ebpf_request_duration_seconds_bucket{direction="inbound",src_ip="",dst_ip="",dst_port="80",protocol="http1",status_class="2xx",route="",le="0.5"} 3
linkerd_ebpf_request_duration_seconds_bucket{direction="inbound",src_ip="",dst_ip="",dst_port="80",protocol="http1",status_class="2xx",route="",le="+Inf"} 3
linkerd_ebpf_request_duration_seconds_bucket{direction="inbound",src_ip="",dst_ip="",dst_port="80",protocol="http1",status_class="5xx",route="",le="0.5"} 1
linkerd_ebpf_request_duration_seconds_bucket{direction="inbound",src_ip="",dst_ip="",dst_port="80",protocol="http1",status_class="5xx",route="",le="+Inf"} 1
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
        assert_eq!((at.unclassified, at.success_rate()), (1.0, Some(0.75)));
        assert_eq!(at.duration.quantile(0.5), Some(0.25));
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

    #[test]
    fn what_counts_as_a_success() {
        for (status, grpc, expected) in [
            ("200", "", Some(true)),
            ("404", "", Some(true)),
            ("500", "", Some(false)),
            ("200", "0", Some(true)),
            ("200", "5", Some(true)),
            ("200", "14", Some(false)),
            ("unknown", "", None),
            ("other", "other", None),
        ] {
            let line = format!(
                "linkerd_ebpf_up 1\nlinkerd_ebpf_responses_total{{status=\"{status}\",grpc_status=\"{grpc}\"}} 1"
            );
            let counts = Traffic::read(&line).unwrap().total("");
            let found = match (counts.success, counts.failure) {
                (1.0, 0.0) => Some(true),
                (0.0, 1.0) => Some(false),
                _ => None,
            };
            assert_eq!(found, expected, "{status} {grpc}");
        }
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
