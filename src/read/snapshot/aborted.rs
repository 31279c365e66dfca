//! Requests that never got their whole response, by protocol and route.
//!
//! The kernel counts them twice: in the series, by why, and then by protocol and route, too. Where the
//! second counter is missing, since it did not fit, or an earlier version's programs have none, they have
//! an entry without a route. So the entries always add up to what the series has.

use std::collections::BTreeMap;

use crate::abi::{
    AbortedValue, MetricKey, MetricValue, RequestKey, RequestValue, STATUS_ABORTED, abort_reason,
    protocol, route,
};
use crate::read::snapshot::Key;

type Entry = (RequestKey, RequestValue);

/// Adds the entries that are missing to those of the kernel. `metrics` was read before them, so that they
/// have nothing that they will have later. With `routes`, routes are told apart.
pub fn complete(metrics: &[(MetricKey, MetricValue)], aborted: &mut Vec<Entry>, routes: bool) {
    let mut counted: BTreeMap<(MetricKey, u8), u64> = BTreeMap::new();
    for (key, value) in &*aborted {
        let reason = abort_reason::of_series(key.grpc_status);
        let sum = counted.entry((key.series, reason)).or_default();
        *sum = sum.wrapping_add(value.responses);
    }
    for (series, value) in metrics {
        for (reason, count) in by_reason(&value.aborted) {
            let counted = counted.get(&(*series, reason)).copied().unwrap_or(0);
            let missing = count.saturating_sub(counted);
            if missing > 0 {
                let key = missing_key(series, value, reason, routes);
                let value = RequestValue { responses: missing };
                aborted.push((key, value));
            }
        }
    }
    // One of these may have the labels of one of the kernel's.
    super::add_up(aborted, Vec::new());
}

fn missing_key(series: &MetricKey, value: &MetricValue, reason: u8, routes: bool) -> RequestKey {
    let requests = &value.requests;
    RequestKey {
        series: *series,
        status: STATUS_ABORTED,
        protocol: match (requests.http1, requests.http2, requests.grpc) {
            (1.., 0, 0) => protocol::HTTP1,
            (0, 1.., 0) => protocol::HTTP2,
            (0, 0, 1..) => protocol::GRPC,
            _ => protocol::UNKNOWN,
        },
        grpc_status: reason,
        route: match (series.is_other(), routes) {
            (true, _) => route::OTHER,
            (false, true) => route::UNKNOWN,
            (false, false) => route::NONE,
        },
        pad: 0,
    }
}

/// The counters of a series.
fn by_reason(value: &AbortedValue) -> [(u8, u64); 7] {
    [
        (abort_reason::FIN, value.fin),
        (abort_reason::RST, value.rst),
        (abort_reason::IDLE, value.idle),
        (abort_reason::EVICTED, value.evicted),
        (abort_reason::CANCELLED, value.cancelled),
        (abort_reason::REFUSED, value.refused),
        (abort_reason::RESET, value.reset),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERIES: MetricKey = MetricKey {
        src: [0; 16],
        dst: [0; 16],
        src_port: 0,
        dst_port: 80,
        proto: 6,
        direction: 1,
        kind: 0,
        origin: 0,
    };

    fn entry(protocol: u8, reason: u8, route: u16, responses: u64) -> Entry {
        let key = RequestKey {
            series: SERIES,
            status: STATUS_ABORTED,
            protocol,
            grpc_status: reason,
            route,
            pad: 0,
        };
        (key, RequestValue { responses })
    }

    fn completed(value: MetricValue, mut aborted: Vec<Entry>, routes: bool) -> Vec<Entry> {
        complete(&[(SERIES, value)], &mut aborted, routes);
        aborted
    }

    #[test]
    fn what_the_kernel_has_told_apart_is_left_as_it_is() {
        let mut value = MetricValue::default();
        (value.aborted.cancelled, value.aborted.fin) = (6, 1);
        let told = vec![
            entry(protocol::HTTP1, abort_reason::FIN, 3, 1),
            entry(protocol::GRPC, abort_reason::CANCELLED, 0, 1),
            entry(protocol::GRPC, abort_reason::TIMEOUT, 0, 2),
            entry(protocol::GRPC, abort_reason::STOPPED, 0, 3),
        ];
        assert_eq!(completed(value, told.clone(), true), told);
        // The series was read before these, and has fewer.
        value.aborted.cancelled = 5;
        assert_eq!(completed(value, told.clone(), true), told);
    }

    #[test]
    fn what_is_missing_has_the_protocol_of_the_series_and_no_route() {
        let mut value = MetricValue::default();
        value.aborted.rst = 5;
        value.requests.http2 = 9;
        let told = entry(protocol::HTTP2, abort_reason::RST, 1, 2);
        let missing = |protocol, route| entry(protocol, abort_reason::RST, route, 3);
        assert_eq!(
            completed(value, vec![told], true),
            [told, missing(protocol::HTTP2, route::UNKNOWN)]
        );
        value.requests.grpc = 1;
        assert_eq!(
            completed(value, vec![told], false),
            [missing(protocol::UNKNOWN, route::NONE), told]
        );
        // One line has both.
        value.requests.grpc = 0;
        let told = entry(protocol::HTTP2, abort_reason::RST, route::NONE, 2);
        let both = entry(protocol::HTTP2, abort_reason::RST, route::NONE, 5);
        assert_eq!(completed(value, vec![told], false), [both]);
    }

    #[test]
    fn of_what_did_not_fit_only_the_reason_is_known() {
        let other = MetricKey::other();
        let mut value = MetricValue::default();
        (value.aborted.idle, value.requests.http1) = (4, 4);
        let mut aborted = Vec::new();
        complete(&[(other, value)], &mut aborted, false);
        let [(key, RequestValue { responses: 4 })] = aborted[..] else {
            panic!("{aborted:?}");
        };
        assert_eq!((key.series, key.grpc_status), (other, abort_reason::IDLE));
        assert_eq!(key.route, route::OTHER);
    }
}
