//! What all series add up to, by direction: peers, ports and routes are left out.

use crate::abi::{
    Merge, MetricKey, MetricValue, RequestKey, STATUS_OTHER, abort_reason, direction, grpc_status,
    origin, protocol, series_kind,
};
use crate::read::prometheus::labels::OTHER;
use crate::read::snapshot::Snapshot;
use crate::read::success::is_success;

/// Values of the label `protocol`. Those before `unknown` are there from the beginning.
pub const PROTOCOLS: [&str; 5] = ["http1", "http2", "grpc", "unknown", OTHER];
/// Values of the label `status_class`: first those of HTTP, then those that gRPC has beside `unknown`.
pub const CLASSES: [&str; 9] = [
    "1xx", "2xx", "3xx", "4xx", "5xx", "unknown", "ok", "error", OTHER,
];
/// Places in [`PROTOCOLS`] and [`CLASSES`].
const GRPC: usize = 2;
const NO_PROTOCOL: usize = 3;
const OTHER_PROTOCOL: usize = 4;
const UNKNOWN: usize = 5;
const OK: usize = 6;
const ERROR: usize = 7;
const OTHER_CLASS: usize = 8;

/// The sums of all series of one direction, by the label `origin`.
pub struct Sums {
    pub origin: &'static str,
    pub direction: &'static str,
    pub metrics: MetricValue,
    /// By the places in [`PROTOCOLS`] and [`CLASSES`].
    pub responses: [[u64; CLASSES.len()]; PROTOCOLS.len()],
    /// Requests that never got their whole response, by [`abort_reason`].
    pub aborted: [u64; abort_reason::LABELS.len()],
}

impl Sums {
    fn new(origin: &'static str, direction: &'static str) -> Self {
        Self {
            origin,
            direction,
            metrics: MetricValue::default(),
            responses: Default::default(),
            aborted: Default::default(),
        }
    }

    /// Whether all lines are there from the first scrape on. Others come with their first value.
    pub fn is_always_there(&self) -> bool {
        self.origin.is_empty() && ["inbound", "outbound"].contains(&self.direction)
    }

    /// Whether this is what did not fit into the maps.
    pub fn is_other(&self) -> bool {
        self.direction == OTHER
    }
}

/// Whether there are responses of this class at all, by the places in [`PROTOCOLS`] and [`CLASSES`].
pub fn has_class(protocol: usize, class: usize) -> bool {
    match protocol {
        GRPC => (UNKNOWN..=ERROR).contains(&class),
        ..GRPC => class <= UNKNOWN,
        _ => false,
    }
}

/// Adds up all series: what comes in first, then what goes out, then what else there is.
pub fn of(snapshot: &Snapshot) -> Vec<Sums> {
    let ways = [direction::INBOUND, direction::OUTBOUND].map(direction::label);
    let mut totals = Vec::from(ways.map(|way| Sums::new("", way)));
    for (key, value) in &snapshot.metrics {
        sums(&mut totals, key).metrics.merge(value);
    }
    for (key, value) in &snapshot.requests {
        let (protocol, class) = places(key);
        sums(&mut totals, &key.series).responses[protocol][class].merge(&value.responses);
    }
    for (key, value) in &snapshot.aborted {
        let sums = sums(&mut totals, &key.series);
        if let Some(sum) = sums.aborted.get_mut(usize::from(key.grpc_status)) {
            sum.merge(&value.responses);
        }
    }
    let (_, further) = totals.split_at_mut(ways.len());
    further.sort_unstable_by_key(|sums| (sums.origin, sums.direction));
    totals
}

/// The sums that a series is added to.
fn sums<'a>(totals: &'a mut Vec<Sums>, key: &MetricKey) -> &'a mut Sums {
    let origin = origin::label(key.origin);
    let direction = match key.kind {
        series_kind::OTHER => OTHER,
        _ => direction::label(key.direction),
    };
    let place = totals
        .iter()
        .position(|sums| sums.direction == direction && sums.origin == origin);
    let place = place.unwrap_or_else(|| {
        totals.push(Sums::new(origin, direction));
        totals.len() - 1
    });
    &mut totals[place]
}

/// The protocol and the class of responses, as places in [`PROTOCOLS`] and [`CLASSES`].
fn places(key: &RequestKey) -> (usize, usize) {
    let protocol = match key.protocol {
        _ if key.series.kind == series_kind::OTHER => return (OTHER_PROTOCOL, OTHER_CLASS),
        protocol::HTTP1 => 0,
        protocol::HTTP2 => 1,
        protocol::GRPC => GRPC,
        _ => NO_PROTOCOL,
    };
    let status = Some(key.status).filter(|status| ![0, STATUS_OTHER].contains(status));
    let class = match (protocol, status) {
        (GRPC, _) => match is_success(true, status, grpc_status(key.grpc_status).0) {
            Some(true) => OK,
            Some(false) => ERROR,
            None => UNKNOWN,
        },
        (_, Some(status @ 100..600)) => usize::from(status) / 100 - 1,
        _ => UNKNOWN,
    };
    (protocol, class)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::abi::{GRPC_STATUS_NONE, Layout, RequestValue, STATUS_ABORTED};
    use crate::read::prometheus::{Exposition, Format};
    use crate::read::samples;
    use crate::read::snapshot::fixture::info;

    /// Of each total, the detailed family that it adds up.
    const DETAILED: [(&str, &str); 7] = [
        (
            "linkerd_ebpf_pod_requests_total",
            "linkerd_ebpf_requests_total",
        ),
        (
            "linkerd_ebpf_pod_responses_total",
            "linkerd_ebpf_responses_total",
        ),
        (
            "linkerd_ebpf_pod_requests_aborted_total",
            "linkerd_ebpf_requests_aborted_total",
        ),
        (
            "linkerd_ebpf_pod_connections_opened_total",
            "linkerd_ebpf_connections_opened_total",
        ),
        (
            "linkerd_ebpf_pod_connections_closed_total",
            "linkerd_ebpf_connections_closed_total",
        ),
        (
            "linkerd_ebpf_pod_connections_opaque_total",
            "linkerd_ebpf_connections_opaque_total",
        ),
        (
            "linkerd_ebpf_pod_state_lost_total",
            "linkerd_ebpf_state_lost_total",
        ),
    ];

    fn page(snapshot: Snapshot) -> String {
        let pieces = Exposition::new(Ok(Arc::new(snapshot)), None, Format::Text);
        String::from_utf8(pieces.flatten().collect()).unwrap()
    }

    #[track_caller]
    fn assert_sums(page: &str) {
        const LABELS: [&str; 4] = ["direction", "origin", "protocol", "reason"];
        let mut all = Vec::new();
        samples::each(page, |sample| {
            let labels = LABELS.map(|label| sample.label(label).to_owned());
            // Those that their totals leave out.
            let is_left_out = match (sample.name, sample.label("reason")) {
                ("linkerd_ebpf_connections_opaque_total", "undecided" | "midstream") => true,
                (name, reason) => name == "linkerd_ebpf_state_lost_total" && reason == "midstream",
            };
            if !is_left_out {
                all.push((sample.name.to_owned(), labels, sample.value));
            }
        })
        .unwrap();
        for (total, detailed) in DETAILED {
            let common = match total {
                "linkerd_ebpf_pod_requests_total" | "linkerd_ebpf_pod_responses_total" => {
                    [true, true, true, false]
                }
                "linkerd_ebpf_pod_connections_closed_total"
                | "linkerd_ebpf_pod_requests_aborted_total" => [true, true, false, true],
                _ => [true, true, false, false],
            };
            let of = |name: &str| {
                let mut sums = BTreeMap::new();
                for (_, labels, value) in all.iter().filter(|(of, ..)| of == name) {
                    let labels = labels
                        .iter()
                        .zip(common)
                        .filter(|(_, is_common)| *is_common);
                    let labels: Vec<_> = labels.map(|(label, _)| label.clone()).collect();
                    *sums.entry(labels).or_insert(0.0) += value;
                }
                // What is 0 need not be there.
                sums.retain(|_, sum| *sum != 0.0);
                sums
            };
            assert_eq!(of(total), of(detailed), "{total}");
        }
    }

    fn series() -> impl Strategy<Value = MetricKey> {
        let kinds = [series_kind::IP, series_kind::NON_IP, series_kind::OTHER];
        let kinds = proptest::sample::select(kinds.to_vec());
        (kinds, 0u8..4, 0u8..3, 0u16..4).prop_map(
            |(kind, direction, origin, dst_port)| match kind {
                series_kind::OTHER => MetricKey {
                    kind,
                    ..MetricKey::default()
                },
                kind => MetricKey {
                    dst_port,
                    kind,
                    direction,
                    origin,
                    ..MetricKey::default()
                },
            },
        )
    }

    fn counters() -> impl Strategy<Value = MetricValue> {
        let counters = proptest::collection::vec(0u32..1 << 20, MetricValue::SIZE / 8);
        counters.prop_map(|counters| {
            let bytes = counters
                .iter()
                .flat_map(|count| u64::from(*count).to_ne_bytes());
            let bytes: Vec<u8> = bytes.collect();
            MetricValue::read(&mut bytes.as_slice()).unwrap()
        })
    }

    fn responses() -> impl Strategy<Value = (RequestKey, RequestValue)> {
        let statuses = prop_oneof![100u16..600, Just(0), Just(STATUS_OTHER), any::<u16>()];
        let grpc = prop_oneof![Just(GRPC_STATUS_NONE), 0u8..20];
        let fields = (series(), statuses, 0u8..5, grpc, 0u64..1 << 20);
        fields.prop_map(|(series, status, protocol, grpc_status, responses)| {
            let key = RequestKey {
                series,
                status,
                // All of what did not fit is one.
                protocol: match series.kind {
                    series_kind::OTHER => 0,
                    _ => protocol,
                },
                grpc_status,
                ..RequestKey::default()
            };
            (key, RequestValue { responses })
        })
    }

    fn aborted() -> impl Strategy<Value = (RequestKey, RequestValue)> {
        let reasons = 0..abort_reason::LABELS.len() as u8;
        (responses(), reasons).prop_map(|((key, value), reason)| {
            let key = RequestKey {
                status: STATUS_ABORTED,
                grpc_status: reason,
                ..key
            };
            (key, value)
        })
    }

    proptest! {
        #[test]
        fn they_are_the_sums_of_all_series(
            metrics in proptest::collection::vec((series(), counters()), 0..20),
            requests in proptest::collection::vec(responses(), 0..20),
            aborted in proptest::collection::vec(aborted(), 0..20),
        ) {
            assert_sums(&page(Snapshot {
                info: info(),
                metrics,
                requests,
                aborted,
                ..Snapshot::default()
            }));
        }
    }

    #[test]
    fn all_are_there_before_anything_happens() {
        let page = page(Snapshot {
            info: info(),
            ..Snapshot::default()
        });
        let mut found = BTreeMap::new();
        samples::each(&page, |sample| {
            if sample.name.starts_with("linkerd_ebpf_pod_") && sample.label("pod_name").is_empty() {
                assert_eq!(sample.value, 0.0, "{}", sample.name);
                assert!(["inbound", "outbound"].contains(&sample.label("direction")));
                *found.entry(sample.name.to_owned()).or_insert(0) += 1;
            }
        })
        .unwrap();
        let found: Vec<(&str, i32)> = found.iter().map(|(name, n)| (&**name, *n)).collect();
        assert_eq!(
            found,
            [
                ("linkerd_ebpf_pod_connections_closed_total", 2 * 5),
                ("linkerd_ebpf_pod_connections_opaque_total", 2),
                ("linkerd_ebpf_pod_connections_opened_total", 2),
                ("linkerd_ebpf_pod_requests_aborted_total", 2 * 9),
                ("linkerd_ebpf_pod_requests_total", 2 * 3),
                ("linkerd_ebpf_pod_responses_total", 2 * (6 + 6 + 3)),
                ("linkerd_ebpf_pod_state_lost_total", 2),
            ]
        );
    }

    #[test]
    fn statuses_have_classes() {
        let series = MetricKey {
            direction: direction::INBOUND,
            ..MetricKey::default()
        };
        for (protocol, status, grpc_status, class) in [
            (protocol::HTTP1, 101, GRPC_STATUS_NONE, "1xx"),
            (protocol::HTTP1, 499, GRPC_STATUS_NONE, "4xx"),
            (protocol::HTTP2, 599, GRPC_STATUS_NONE, "5xx"),
            (protocol::HTTP1, 0, GRPC_STATUS_NONE, "unknown"),
            (protocol::HTTP1, STATUS_OTHER, GRPC_STATUS_NONE, "unknown"),
            (protocol::HTTP1, 999, GRPC_STATUS_NONE, "unknown"),
            (protocol::GRPC, 200, 0, "ok"),
            (protocol::GRPC, 200, 5, "ok"),
            (protocol::GRPC, 200, 14, "error"),
            (protocol::GRPC, 503, GRPC_STATUS_NONE, "error"),
            (protocol::GRPC, 200, GRPC_STATUS_NONE, "unknown"),
        ] {
            let key = RequestKey {
                series,
                status,
                protocol,
                grpc_status,
                ..RequestKey::default()
            };
            let place = places(&key);
            assert_eq!(PROTOCOLS[place.0], protocol::label(protocol));
            assert_eq!(CLASSES[place.1], class, "{status} {grpc_status}");
            assert!(
                has_class(place.0, place.1),
                "it is there from the beginning"
            );
        }
    }
}
