use super::*;
use crate::abi::{
    DnsKey, DnsValue, HandshakeKey, LatencyValue, MetricKey, MetricValue, RequestValue,
};
use crate::read::snapshot::fixture::peers;

const HOUR: Duration = Duration::from_secs(3600);
/// The date of the first reading.
const FIRST: u64 = 1_800_000_000;

/// So many seconds behind the first reading, where nobody has set the clock.
fn after(seconds: u64) -> Moment {
    Moment {
        steady: Duration::from_secs(1000 + seconds),
        date: Duration::from_secs(FIRST + seconds),
    }
}

/// As [`peers`], whose connections have all ended, of maps that were made before the first reading.
fn ended(number: u16) -> Snapshot {
    let mut snapshot = peers(number);
    for (_, value) in &mut snapshot.metrics {
        (value.active, value.closed.fin) = (0, 3);
        value.ended = value.requests.total();
    }
    snapshot.oldest = Some(Made {
        inode: 7,
        at: Duration::from_secs(FIRST - 100),
    });
    snapshot
}

fn learn(history: &mut History, mut snapshot: Snapshot, seconds: u64) -> Ages {
    history.learn(&mut snapshot, after(seconds));
    snapshot.ages
}

fn created(ages: &[Age]) -> Vec<Option<i64>> {
    let since_first = |created: Duration| created.as_secs().cast_signed() - FIRST.cast_signed();
    ages.iter()
        .map(|age| age.created.map(since_first))
        .collect()
}

fn idle(ages: &[Age]) -> Vec<bool> {
    ages.iter().map(|age| age.is_idle).collect()
}

#[test]
fn what_is_new_counts_since_the_reading_before() {
    let mut history = History::new(HOUR);
    let ages = learn(&mut history, ended(1), 0);
    assert_eq!(created(&ages.metrics), [Some(-100)]);
    assert_eq!(created(&ages.requests), [Some(-100)]);
    assert_eq!(ages.made, Some(Duration::from_secs(FIRST - 100)));
    let ages = learn(&mut history, ended(2), 15);
    assert_eq!(created(&ages.metrics), [Some(-100), Some(0)]);
    // Another scraper comes in between, and one an hour later.
    learn(&mut history, ended(2), 17);
    let ages = learn(&mut history, ended(3), 30);
    assert_eq!(created(&ages.metrics), [Some(-100), Some(0), Some(17)]);
    let ages = learn(&mut history, ended(4), 3630);
    assert_eq!(
        created(&ages.requests),
        [Some(-100), Some(0), Some(17), Some(30)]
    );
    assert_eq!(ages.made, Some(Duration::from_secs(FIRST - 100)));
}

#[test]
fn where_the_age_of_the_maps_is_not_known() {
    let mut history = History::new(HOUR);
    let unknown = |number| Snapshot {
        oldest: None,
        ..ended(number)
    };
    learn(&mut history, unknown(1), 0);
    let ages = learn(&mut history, unknown(2), 15);
    assert_eq!(created(&ages.metrics), [None, Some(0)]);
    assert_eq!(ages.made, None);
    // Made in what is the future, by a clock that was set back.
    let mut history = History::new(HOUR);
    let mut future = ended(1);
    future.oldest = Some(Made {
        inode: 7,
        at: Duration::from_secs(FIRST + 1),
    });
    history.learn(&mut future, after(0));
    assert_eq!(
        (created(&future.ages.metrics), future.ages.made),
        (vec![None], None)
    );
}

#[test]
fn a_time_never_moves_whoever_sets_the_clock() {
    let mut history = History::new(HOUR);
    let at = |steady: u64, date: u64| Moment {
        steady: Duration::from_secs(1000 + steady),
        date: Duration::from_secs(FIRST + date),
    };
    let mut snapshots = [1, 2, 3, 3].map(ended);
    // An hour forward after the first reading, and two back after the second.
    let moments = [at(0, 0), at(15, 3615), at(30, 0), at(45, 15)];
    for (snapshot, now) in snapshots.iter_mut().zip(moments) {
        history.learn(snapshot, now);
        let last = snapshot.ages.metrics.last().unwrap();
        assert!(last.created.unwrap() <= now.date);
    }
    let expected = [Some(-100), Some(3600), Some(-15)];
    assert_eq!(created(&snapshots[2].ages.metrics), expected);
    assert_eq!(created(&snapshots[3].ages.metrics), expected);
}

#[test]
fn maps_that_are_made_anew_begin_anew() {
    let mut history = History::new(HOUR);
    learn(&mut history, ended(2), 0);
    let mut anew = ended(1);
    anew.oldest = Some(Made {
        inode: 8,
        at: Duration::from_secs(FIRST + 10),
    });
    history.learn(&mut anew, after(4000));
    assert_eq!(created(&anew.ages.metrics), [Some(10)]);
    assert_eq!(idle(&anew.ages.metrics), [false]);
}

/// A further epoch has the routes under other numbers.
#[test]
fn routes_are_known_by_their_paths() {
    let mut history = History::new(HOUR);
    let with_route = |number: u16, path: &str| {
        let mut snapshot = ended(1);
        snapshot.routes = [(number, path.to_owned())].into();
        snapshot.requests[0].0.route = number;
        snapshot.asked = snapshot.requests.clone();
        snapshot.aborted = snapshot.requests.clone();
        let key = LatencyKey {
            route: number,
            ..LatencyKey::default()
        };
        snapshot.latency = vec![(key, LatencyValue::default())];
        snapshot
    };
    learn(&mut history, with_route(1, "/a"), 0);
    learn(&mut history, with_route(2, "/a"), 15);
    let ages = learn(&mut history, with_route(2, "/b"), 30);
    for of_routes in [&ages.requests, &ages.asked, &ages.aborted, &ages.latency] {
        assert_eq!(created(of_routes), [Some(15)]);
    }
    let ages = learn(&mut history, with_route(3, "/b"), 45);
    assert_eq!(created(&ages.latency), [Some(15)]);
}

#[test]
fn what_does_not_change_is_idle_until_it_does() {
    let mut history = History::new(HOUR);
    let mut now = ended(2);
    let shown = |ages: &Ages| [idle(&ages.metrics), idle(&ages.requests)];
    let ages = learn(&mut history, ended(2), 0);
    assert_eq!(ages.idle(), 0);
    let ages = learn(&mut history, ended(2), 3599);
    assert_eq!(ages.idle(), 0);
    let ages = learn(&mut history, ended(2), 3601);
    assert_eq!(ages.idle(), 4);
    // A packet, and no response.
    now.metrics[0].1.recv.packets += 1;
    history.learn(&mut now, after(3700));
    assert_eq!(shown(&now.ages), [vec![false, true], vec![true, true]]);
    // Whenever it has changed since, it is shown.
    now.metrics[1].1.recv.packets += 1;
    now.requests[1].1.responses += 1;
    history.learn(&mut now, after(100_000));
    assert_eq!(shown(&now.ages), [vec![true, false], vec![true, false]]);
    history.learn(&mut now, after(103_599));
    assert_eq!(shown(&now.ages), [vec![true, false], vec![true, false]]);
    history.learn(&mut now, after(103_601));
    assert_eq!(now.ages.idle(), 4);
}

#[test]
fn zero_is_for_ever() {
    let mut history = History::new(show_idle("0").unwrap());
    learn(&mut history, ended(2), 0);
    let ages = learn(&mut history, ended(2), 1_000_000);
    assert_eq!(ages.idle(), 0);
}

#[test]
fn what_is_open_or_under_way_is_never_idle() {
    let mut history = History::new(HOUR);
    let mut snapshot = ended(4);
    snapshot.metrics[1].1.active = 1;
    snapshot.metrics[2].1.ended -= 1;
    // Another CPU is about to count.
    snapshot.metrics[3].1.ended += 1;
    let waits = DnsValue {
        queries: 1,
        ..DnsValue::default()
    };
    let server = DnsKey {
        direction: 1,
        ..DnsKey::default()
    };
    snapshot.dns = vec![(DnsKey::default(), DnsValue::default()), (server, waits)];
    for seconds in [0, 3601, 7202] {
        history.learn(&mut snapshot, after(seconds));
    }
    assert_eq!(idle(&snapshot.ages.metrics), [true, false, false, false]);
    assert_eq!(idle(&snapshot.ages.dns), [true, false]);
}

/// The entries of two maps may have equal bytes.
#[test]
fn each_map_is_remembered_by_itself() {
    let mut history = History::new(HOUR);
    let key = MetricKey::default();
    let handshake = (HandshakeKey::default(), Default::default());
    let mut snapshot = Snapshot {
        metrics: vec![(key, MetricValue::default())],
        handshake: vec![handshake],
        ..Snapshot::default()
    };
    history.learn(&mut snapshot, after(0));
    let request = (RequestKey::default(), RequestValue::default());
    snapshot.requests = vec![request];
    snapshot.asked = vec![request];
    snapshot.aborted = vec![request];
    history.learn(&mut snapshot, after(15));
    let ages = &snapshot.ages;
    assert_eq!(created(&ages.handshake), [None]);
    assert_eq!(created(&ages.asked), [Some(0)]);
    assert_eq!(created(&ages.aborted), [Some(0)]);
    // What is gone is forgotten.
    snapshot.requests.clear();
    history.learn(&mut snapshot, after(30));
    assert_eq!(history.series.len(), 4);
}

#[test]
fn as_much_memory_as_is_said() {
    assert_eq!(size_of::<(u64, Seen)>(), 24);
}

#[test]
fn how_long_to_show_is_a_duration_or_0() {
    assert_eq!(show_idle("0"), Ok(Duration::ZERO));
    assert_eq!(show_idle(SHOW_IDLE), Ok(HOUR));
    assert_eq!(show_idle("300ms"), Ok(Duration::from_millis(300)));
    for text in ["", "1", "-1h", "never"] {
        assert!(show_idle(text).is_err(), "{text}");
    }
}
