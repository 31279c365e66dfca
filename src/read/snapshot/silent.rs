//! Flows that are over their time, though no packet has come since that could have ended them.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::abi::{MetricKey, MetricValue, series_kind};
use crate::kernel::settings::IDLE_OTHER;

/// TCP's number among IP's protocols.
const TCP: u8 = 6;

/// The programs' clock, CLOCK_MONOTONIC; 0 if it can't be read, when nothing is silent.
pub fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

/// After how long a flow of another protocol than TCP is over for certain. The programs measure by
/// jiffies, and note times by ticks: see bpf/net/clock.h.
fn over() -> Duration {
    IDLE_OTHER + IDLE_OTHER / 10 + Duration::from_secs(2)
}

/// Takes the flows of series that have been silent for so long for ended, as idle. The programs
/// count them so with the next packet, whichever it is.
pub fn end(metrics: &mut [(MetricKey, MetricValue)], now: Duration) {
    for (key, value) in metrics {
        let seen = Duration::from_nanos(value.seen_ns.0);
        let is_silent = now.saturating_sub(seen) > over();
        let has_flows = key.kind == series_kind::IP && key.proto != TCP && !seen.is_zero();
        if has_flows && is_silent && value.active.cast_signed() > 0 {
            value.closed.idle = value.closed.idle.wrapping_add(value.active);
            value.active = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::Latest;

    #[test]
    fn flows_that_are_over_their_time() {
        let value = MetricValue {
            opened: 5,
            active: 3,
            seen_ns: Latest(10_000_000_000),
            ..MetricValue::default()
        };
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
            (tcp, value, 100_000, 3),
            (other, value, 100_000, 3),
        ] {
            let mut metrics = [(key, value)];
            end(&mut metrics, Duration::from_secs(seconds));
            let [(_, after)] = metrics;
            assert_eq!(
                (after.active, after.closed.idle),
                (active, 3 - active),
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
