//! Requests that never got their whole response, by protocol and route: the entries that the kernel's maps do
//! not have as such.

use crate::abi::{
    AbortedOther, MetricKey, MetricValue, RequestKey, RequestValue, RequestsValue, STATUS_ABORTED,
    abort_reason, protocol, route,
};
use crate::read::snapshot::Key;

type Entry = (RequestKey, RequestValue);

/// The entries of an epoch of an earlier layout, whose programs tell neither protocols nor routes apart.
pub fn of_earlier_layout(metrics: &[(MetricKey, MetricValue)], routes: bool) -> Vec<Entry> {
    let of = |(series, value): &(MetricKey, MetricValue)| {
        let series = *series;
        told(value.aborted.by_reason())
            .map(move |(reason, count)| entry(series, protocol::UNKNOWN, reason, routes, count))
    };
    metrics.iter().flat_map(of).collect()
}

/// The entry of requests of a series that nobody will answer any more, since its connections are silent.
pub fn silent(series: MetricKey, requests: &RequestsValue, routes: bool, count: u64) -> Entry {
    let protocol = match (requests.http1, requests.http2, requests.grpc) {
        (1.., 0, 0) => protocol::HTTP1,
        (0, 1.., 0) => protocol::HTTP2,
        (0, 0, 1..) => protocol::GRPC,
        _ => protocol::UNKNOWN,
    };
    entry(series, protocol, abort_reason::IDLE, routes, count)
}

/// The entries of what did not fit, of which only the reason is known.
pub fn other(counts: &AbortedOther) -> impl Iterator<Item = Entry> {
    told(counts.by_reason())
        .map(|(reason, count)| entry(MetricKey::other(), protocol::UNKNOWN, reason, false, count))
}

/// The reasons that there are any of, by number.
fn told<const N: usize>(counts: [u64; N]) -> impl Iterator<Item = (u8, u64)> {
    (0..).zip(counts).filter(|(_, count)| *count > 0)
}

fn entry(series: MetricKey, protocol: u8, reason: u8, routes: bool, count: u64) -> Entry {
    let key = RequestKey {
        series,
        status: STATUS_ABORTED,
        protocol,
        grpc_status: reason,
        route: match (series.is_other(), routes) {
            (true, _) => route::OTHER,
            (false, true) => route::UNKNOWN,
            (false, false) => route::NONE,
        },
        pad: 0,
    };
    (key, RequestValue { responses: count })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(entries: &[Entry]) -> Vec<(u8, &'static str, u16, u64)> {
        let shown = |(key, value): &Entry| {
            assert_eq!(key.status, STATUS_ABORTED);
            let reason = abort_reason::label(key.grpc_status);
            (key.protocol, reason, key.route, value.responses)
        };
        entries.iter().map(shown).collect()
    }

    #[test]
    fn an_earlier_layout_has_reasons_alone() {
        let mut value = MetricValue::default();
        (value.aborted.cancelled, value.aborted.fin) = (6, 1);
        value.requests.http1 = 9;
        let metrics = [
            (MetricKey::default(), value),
            (MetricKey::other(), value),
            (MetricKey::default(), MetricValue::default()),
        ];
        let unknown = protocol::UNKNOWN;
        for (routes, route) in [(false, route::NONE), (true, route::UNKNOWN)] {
            assert_eq!(
                shown(&of_earlier_layout(&metrics, routes)),
                [
                    (unknown, "fin", route, 1),
                    (unknown, "cancelled", route, 6),
                    (unknown, "fin", route::OTHER, 1),
                    (unknown, "cancelled", route::OTHER, 6),
                ]
            );
        }
    }

    #[test]
    fn what_is_silent_has_the_protocol_of_its_series() {
        let requests = |http1, http2, grpc| RequestsValue { http1, http2, grpc };
        for (requests, protocol) in [
            (requests(1, 0, 0), protocol::HTTP1),
            (requests(0, 2, 0), protocol::HTTP2),
            (requests(0, 0, 3), protocol::GRPC),
            (requests(0, 1, 1), protocol::UNKNOWN),
        ] {
            let entry = silent(MetricKey::default(), &requests, false, 5);
            assert_eq!(shown(&[entry]), [(protocol, "idle", route::NONE, 5)]);
        }
    }

    #[test]
    fn of_what_did_not_fit_only_the_reason_is_known() {
        let counts = AbortedOther {
            rst: 2,
            stopped: 3,
            ..AbortedOther::default()
        };
        let entries: Vec<_> = other(&counts).collect();
        assert!(entries.iter().all(|(key, _)| key.is_other()));
        let unknown = protocol::UNKNOWN;
        assert_eq!(
            shown(&entries),
            [
                (unknown, "rst", route::OTHER, 2),
                (unknown, "stopped", route::OTHER, 3),
            ]
        );
    }
}
