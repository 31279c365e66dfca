//! What a scrape says about one server port, in a form that two of can be compared as a whole.

use std::collections::BTreeMap;

use crate::pod::fixture::Pod;
use crate::scrape::exposition::Scrape;

/// The HTTP side. What is 0 is left out of the maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Http {
    pub requests: u64,
    /// By status.
    pub responses: BTreeMap<String, u64>,
    /// Those of them that have a gRPC status, by that.
    pub grpc: BTreeMap<String, u64>,
    /// By reason.
    pub aborted: BTreeMap<String, u64>,
    pub in_flight: u64,
    /// By reason.
    pub lost: BTreeMap<String, u64>,
}

impl Http {
    pub fn of(scrape: &Scrape, port: u16) -> Self {
        Self::of_protocol("http1", scrape, port)
    }

    /// What is counted for the port, all of it for this protocol.
    pub fn of_protocol(protocol: &str, scrape: &Scrape, port: u16) -> Self {
        for name in ["requests", "responses"] {
            let name = format!("linkerd_ebpf_{name}_total");
            let port = port.to_string();
            let mut protocols = scrape.by("protocol", &name, &[("dst_port", port.as_str())]);
            protocols.remove(protocol);
            assert_eq!(protocols, BTreeMap::new(), "{name} of another protocol");
        }
        Self::of_port(scrape, port)
    }

    /// Whatever the protocols.
    pub fn of_port(scrape: &Scrape, port: u16) -> Self {
        let port = port.to_string();
        Self::labelled(scrape, &[("dst_port", port.as_str())])
    }

    /// What the lines with these labels show.
    pub fn labelled(scrape: &Scrape, labels: &[(&str, &str)]) -> Self {
        let mut grpc = scrape.by("grpc_status", "linkerd_ebpf_responses_total", labels);
        grpc.remove("");
        Self {
            requests: scrape.sum("linkerd_ebpf_requests_total", labels),
            responses: scrape.by("status", "linkerd_ebpf_responses_total", labels),
            grpc,
            aborted: scrape.by("reason", "linkerd_ebpf_requests_aborted_total", labels),
            in_flight: scrape.sum("linkerd_ebpf_requests_in_flight", labels),
            lost: scrape.by("reason", "linkerd_ebpf_state_lost_total", labels),
        }
    }

    /// This many requests, and nothing known of their answers yet.
    pub fn requests(requests: u64) -> Self {
        Self {
            requests,
            ..Self::default()
        }
    }

    /// As many requests as there are responses, by status.
    pub fn answered(responses: BTreeMap<String, u64>) -> Self {
        Self {
            requests: responses.values().sum(),
            responses,
            ..Self::default()
        }
    }

    pub fn response(mut self, status: &str, count: u64) -> Self {
        self.responses.insert(status.to_owned(), count);
        self
    }

    pub fn aborted(mut self, reason: &str, count: u64) -> Self {
        self.aborted.insert(reason.to_owned(), count);
        self
    }

    pub fn in_flight(mut self, count: u64) -> Self {
        self.in_flight = count;
        self
    }

    #[track_caller]
    pub fn assert_in(&self, scrape: &Scrape, port: u16) {
        self.assert_as("http1", scrape, port);
    }

    #[track_caller]
    pub fn assert_as(&self, protocol: &str, scrape: &Scrape, port: u16) {
        assert_eq!(
            &Self::of_protocol(protocol, scrape, port),
            self,
            "served (left), expected (right)"
        );
    }
}

/// As many samples of either time as this many responses should have left.
#[track_caller]
pub fn assert_timed(protocol: &str, scrape: &Scrape, port: u16, responses: u64) {
    let port = port.to_string();
    let labels = [("dst_port", port.as_str()), ("protocol", protocol)];
    for name in ["request_duration", "time_to_first_byte"] {
        let name = format!("linkerd_ebpf_{name}_seconds_count");
        assert_eq!(scrape.sum(&name, &labels), responses, "{name}");
    }
}

/// The connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    pub opened: u64,
    /// By reason.
    pub closed: BTreeMap<String, u64>,
    pub active: u64,
    pub tls: u64,
    pub retransmits_recv: u64,
    pub retransmits_sent: u64,
}

impl Connections {
    pub fn of(scrape: &Scrape, port: u16) -> Self {
        let port = port.to_string();
        Self::labelled(scrape, &[("dst_port", port.as_str())])
    }

    /// What the lines with these labels show.
    pub fn labelled(scrape: &Scrape, labels: &[(&str, &str)]) -> Self {
        let retransmits = |io| {
            let labels = [labels, &[("io", io)]].concat();
            scrape.sum("linkerd_ebpf_tcp_retransmits_total", &labels)
        };
        Self {
            opened: scrape.sum("linkerd_ebpf_connections_opened_total", labels),
            closed: scrape.by("reason", "linkerd_ebpf_connections_closed_total", labels),
            active: scrape.sum("linkerd_ebpf_connections_active", labels),
            tls: scrape.sum("linkerd_ebpf_tls_connections_total", labels),
            retransmits_recv: retransmits("recv"),
            retransmits_sent: retransmits("sent"),
        }
    }

    /// With what the kernels of both ends say was sent again, if all of it has passed the hook.
    pub fn sent_again(mut self, pod: &Pod) -> Self {
        self.retransmits_recv = pod.client.kernel_counter("Tcp", "RetransSegs");
        self.retransmits_sent = pod.server().kernel_counter("Tcp", "RetransSegs");
        self
    }

    /// [`Self::sent_again`]. Only if a segment of the client's was one byte, fewer may be counted: such a
    /// segment, sent again, can't be told from a probe (tcp_sequence of bpf/net/tcp.h).
    #[track_caller]
    pub fn sent_again_in(self, pod: &Pod, scrape: &Scrape, port: u16, one_byte: bool) -> Self {
        let mut expected = self.sent_again(pod);
        if !one_byte {
            return expected;
        }
        let counted = Self::of(scrape, port).retransmits_recv;
        assert!(
            counted <= expected.retransmits_recv,
            "{counted} {expected:?}"
        );
        expected.retransmits_recv = counted;
        expected
    }

    /// This many, of which none has ended.
    pub fn open(count: u64) -> Self {
        Self {
            opened: count,
            active: count,
            ..Self::default()
        }
    }

    /// This many, which all have ended in this way.
    pub fn closed(reason: &str, count: u64) -> Self {
        Self {
            opened: count,
            closed: BTreeMap::from([(reason.to_owned(), count)]),
            ..Self::default()
        }
    }

    #[track_caller]
    pub fn assert_in(&self, scrape: &Scrape, port: u16) {
        assert_eq!(
            &Self::of(scrape, port),
            self,
            "served (left), expected (right)"
        );
    }
}

impl Connections {
    /// This many, which have all ended, no matter what was sent again meanwhile.
    #[track_caller]
    pub fn assert_ended(&self, count: u64) {
        let ended = Self {
            retransmits_recv: self.retransmits_recv,
            retransmits_sent: self.retransmits_sent,
            ..Self::closed("fin", count)
        };
        assert_eq!(self, &ended, "served (left), expected (right)");
    }
}

/// Bytes and packets that the lines with these labels show.
pub fn io(scrape: &Scrape, io: &str, labels: &[(&str, &str)]) -> (u64, u64) {
    let labels = [labels, &[("io", io)]].concat();
    (
        scrape.sum("linkerd_ebpf_bytes_total", &labels),
        scrape.sum("linkerd_ebpf_packets_total", &labels),
    )
}
