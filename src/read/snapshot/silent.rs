//! Connections and flows that are over their time, though no packet has come since that could have ended
//! them.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::abi::series_kind;
use crate::kernel::settings::{IDLE_OTHER, IDLE_TCP};
use crate::read::snapshot::{Snapshot, aborted};

/// TCP's number among IP's protocols.
const TCP: u8 = 6;

/// The programs' clock, CLOCK_MONOTONIC; 0 if it can't be read, when nothing is silent.
pub fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

/// After how long a connection of this protocol is over for certain. The programs measure by jiffies,
/// and note times by ticks: see bpf/net/clock.h.
fn over(proto: u8) -> Duration {
    let idle = if proto == TCP { IDLE_TCP } else { IDLE_OTHER };
    idle + idle / 10 + Duration::from_secs(2)
}

/// Takes the connections of series that have been silent for so long for ended, as idle, with the
/// requests in flight on them. The programs count them so with the next packet, whichever it is.
pub fn end(snapshot: &mut Snapshot, now: Duration) {
    let routes = snapshot.info.routes > 0;
    for (key, value) in &mut snapshot.metrics {
        let seen = Duration::from_nanos(value.seen_ns.0);
        let is_silent = now.saturating_sub(seen) > over(key.proto);
        let is_seen = key.kind == series_kind::IP && !seen.is_zero();
        if is_seen && is_silent && value.active.cast_signed() > 0 {
            value.closed.idle = value.closed.idle.wrapping_add(value.active);
            value.active = 0;
            let in_flight = value.requests.total().wrapping_sub(value.ended);
            value.aborted.idle = value.aborted.idle.wrapping_add(in_flight);
            value.ended = value.ended.wrapping_add(in_flight);
            if in_flight > 0 {
                let aborted = aborted::silent(*key, &value.requests, routes, in_flight);
                snapshot.aborted.push(aborted);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{Latest, MetricKey, MetricValue};

    #[test]
    fn what_is_over_its_time() {
        let mut value = MetricValue {
            opened: 5,
            active: 3,
            ended: 6,
            seen_ns: Latest(10_000_000_000),
            ..MetricValue::default()
        };
        value.requests.http1 = 8;
        let udp = MetricKey {
            proto: 17,
            ..MetricKey::default()
        };
        let tcp = MetricKey { proto: 6, ..udp };
        let other = MetricKey {
            kind: series_kind::OTHER,
            ..MetricKey::default()
        };
        let never = MetricValue {
            seen_ns: Latest(0),
            ..value
        };
        for (key, value, seconds, active) in [
            (udp, value, 70, 3),
            (udp, value, 79, 0),
            (udp, value, 5, 3),
            (udp, never, 1000, 3),
            (tcp, value, 8250, 3),
            (tcp, value, 8263, 0),
            (tcp, never, 100_000, 3),
            (other, value, 100_000, 3),
        ] {
            let mut snapshot = Snapshot {
                metrics: vec![(key, value)],
                ..Snapshot::default()
            };
            end(&mut snapshot, Duration::from_secs(seconds));
            let (_, after) = snapshot.metrics[0];
            let told = snapshot.aborted.iter().map(|(_, value)| value.responses);
            assert_eq!(told.sum::<u64>(), after.aborted.idle);
            let requests = if active > 0 { 0 } else { 2 };
            assert_eq!(
                (
                    after.active,
                    after.closed.idle,
                    after.aborted.idle,
                    after.ended
                ),
                (active, 3 - active, requests, 6 + requests),
                "{key:?} {seconds}"
            );
        }
    }

    #[test]
    fn the_latest_of_two_epochs() {
        use crate::abi::Merge;
        let mut value = Latest(7);
        value.merge(&Latest(9));
        value.merge(&Latest(8));
        assert_eq!(value, Latest(9));
    }
}
