//! Requests whose paths no answer has proven yet.
//!
//! Where routes are told apart, a request whose answer may prove its path is `route::PENDING` in the
//! maps until it has ended (bpf/http/route.h). A counter with a label of that would go down again.
//! So such a request is left out of the counters until it has ended, when it is counted by its route.

use crate::abi::{RequestsValue, protocol, route};
use crate::read::snapshot::{Key, Snapshot};

/// Takes these requests out of all that is counted. Returns how many they are.
pub fn leave_out(snapshot: &mut Snapshot) -> u64 {
    let metrics = &mut snapshot.metrics;
    let mut all = 0u64;
    let pending = snapshot
        .asked
        .extract_if(.., |(key, _)| key.route == route::PENDING);
    for (key, value) in pending {
        let series = (key.series.is_other(), key.series);
        let at = metrics.binary_search_by_key(&series, |(key, _)| (key.is_other(), *key));
        if let Ok(at) = at
            && let Some(requests) = of(&mut metrics[at].1.requests, key.protocol)
        {
            *requests = requests.wrapping_sub(value.responses);
            all = all.wrapping_add(value.responses);
        }
    }
    all
}

fn of(requests: &mut RequestsValue, protocol: u8) -> Option<&mut u64> {
    match protocol {
        protocol::HTTP1 => Some(&mut requests.http1),
        protocol::HTTP2 => Some(&mut requests.http2),
        protocol::GRPC => Some(&mut requests.grpc),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{MetricKey, MetricValue, RequestKey, RequestValue, STATUS_REQUESTS};

    #[test]
    fn they_are_neither_requests_nor_in_flight() {
        let series = MetricKey {
            dst_port: 80,
            ..MetricKey::default()
        };
        let mut value = MetricValue::default();
        (value.requests.http1, value.requests.grpc, value.ended) = (10, 4, 11);
        let asked = |route, protocol, responses| {
            let key = RequestKey {
                series,
                status: STATUS_REQUESTS,
                protocol,
                route,
                ..RequestKey::default()
            };
            (key, RequestValue { responses })
        };
        let mut snapshot = Snapshot {
            metrics: vec![(MetricKey::default(), value), (series, value)],
            asked: vec![
                asked(1, protocol::HTTP1, 9),
                asked(route::PENDING, protocol::HTTP1, 1),
                asked(route::PENDING, protocol::GRPC, 2),
            ],
            ..Snapshot::default()
        };
        assert_eq!(leave_out(&mut snapshot), 3);
        assert_eq!(snapshot.asked.len(), 1);
        let [(_, before), (_, after)] = snapshot.metrics[..] else {
            panic!("{:?}", snapshot.metrics);
        };
        assert_eq!((before.in_flight(), after.in_flight()), (3, 0));
        assert_eq!((after.requests.http1, after.requests.grpc), (9, 2));
    }
}
