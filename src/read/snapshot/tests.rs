use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
};

use super::{fixture::*, *};
use crate::abi::{
    FIRST_LAYOUT, FIRST_WITH_ABORTED, GRPC_STATUS_NONE, LAYOUT_VERSION, LatencyPair, Layout,
    RequestKey, RequestValue, abort_reason,
};
use crate::kernel::maps::*;

type Write = fn(&PlainDir, &Snapshot);

/// The ways in which maps are read, with what writes them so.
const WAYS: [(ReadBy, Write); 2] = [
    (ReadBy::Iterator, PlainDir::write),
    (ReadBy::Text, PlainDir::write_text),
];

#[test]
fn what_was_written_is_read() {
    let mut written = peers(1000);
    written.counters.untracked = 5;
    let key = HandshakeKey {
        port: 80,
        ..HandshakeKey::default()
    };
    written.handshake.push((key, HandshakeValue::default()));
    let value = DnsValue {
        queries: 3,
        ..DnsValue::default()
    };
    written.dns.push((DnsKey::default(), value));
    for ((by, write), way) in WAYS.into_iter().zip([Way::Iterator, Way::Text]) {
        let dir = PlainDir::create();
        write(&dir, &written);
        for by in [by, ReadBy::Auto] {
            assert!(probe(&dir, by).is_ok());
            let read = Snapshot::read(&dir, by).unwrap();
            assert_eq!(read.info, written.info);
            assert_eq!(read.counters, written.counters);
            assert_eq!(read.metrics, written.metrics);
            assert_eq!(read.requests, written.requests);
            assert_eq!(read.latency, []);
            assert_eq!(read.handshake, written.handshake);
            assert_eq!(read.dns, written.dns);
            let entries = Entries {
                metrics: 1000,
                requests: 1000,
                latency: 0,
                handshake: 1,
                dns: 1,
            };
            assert_eq!(read.entries, entries);
            assert_eq!(read.way, way);
        }
    }
}

#[test]
fn both_ways_are_one_snapshot() {
    let mut written = peers(9);
    written.info.routes = 3;
    written.routes = BTreeMap::from([(1, "/".into()), (3, "/ä/{id}".into())]);
    written.metrics[8].0.src = std::array::from_fn(|i| 255 - i as u8);
    let value = &mut written.metrics[7].1;
    value.opened = u64::MAX;
    value.lost.midstream = u64::MAX;
    for (i, route) in [1, 3].into_iter().enumerate() {
        let mut key = written.requests[i].0;
        (key.route, key.status) = (route, STATUS_REQUESTS);
        let responses = 1 << 63;
        written.asked.push((key, RequestValue { responses }));
        let mut value = LatencyValue::default();
        value.buckets[31] = LatencyPair {
            duration: u64::MAX,
            ttfb: 1,
        };
        value.sum_ns.ttfb = u64::MAX;
        let key = LatencyKey {
            peer: written.metrics[8].0.src,
            port: u16::MAX,
            route,
            ..LatencyKey::default()
        };
        written.latency.push((key, value));
    }
    let [of_iterators, of_text] = WAYS.map(|(by, write)| {
        let dir = PlainDir::create();
        write(&dir, &written);
        let mut snapshot = Snapshot::read(&dir, by).unwrap();
        snapshot.took = Duration::ZERO;
        snapshot.way = Way::Iterator;
        snapshot.oldest = None;
        snapshot
    });
    assert_eq!(of_text.routes, written.routes);
    assert_eq!(of_text.asked.len(), 2);
    assert_eq!(format!("{of_text:?}"), format!("{of_iterators:?}"));
}

#[test]
fn a_form_that_is_unknown_is_no_snapshot() {
    let dir = PlainDir::create();
    let snapshot = peers(5);
    let refused = |map: &str, from: &str, to: &str| {
        dir.write_text(&snapshot);
        let path = dir.epoch(1).map_path(map);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{map} {from}");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let error = Snapshot::read(&dir, ReadBy::Auto).unwrap_err();
        assert_eq!(
            error.reason(),
            "this kernel shows pinned maps in an unknown form",
            "{map} {from}"
        );
        error.to_string()
    };
    let said = refused(INFO, ",255,4096,", ",255,1000,");
    assert!(
        said.contains("known values of the info map read as others"),
        "{said}"
    );
    let said = refused(METRICS, "1000000,", "0xf4240,");
    assert!(
        said.contains("of which 52 are known, found \"0: {0,1146"),
        "{said}"
    );
    // A number that is another one changes the key's check.
    let said = refused(METRICS, ",80,6,1,", ",81,6,1,");
    assert!(
        said.contains("keys do not belong to their checks"),
        "{said}"
    );
    refused(COUNTERS, "0,0,", "0,");
    refused(REQUESTS, "0: {", "0: {'', ");
}

#[test]
fn what_was_asked_for_is_not_there() {
    let dir = PlainDir::create();
    dir.write_text(&peers(1));
    let error = Snapshot::read(&dir, ReadBy::Iterator).unwrap_err();
    assert_eq!(error.reason(), "no iterators are pinned");
    assert!(error.to_string().contains("--read auto"), "{error}");

    // Of a layout with arrays of bytes, which text does not show.
    let mut old = peers(1);
    old.info.layout = 6;
    dir.write_text(&old);
    let error = Snapshot::read(&dir, ReadBy::Text).unwrap_err();
    assert!(
        error.reason().starts_with("pins have layout 6, which can"),
        "{error}"
    );
    dir.write(&old);
    let read = Snapshot::read(&dir, ReadBy::Text).unwrap();
    assert_eq!(read.metrics, old.metrics);
    assert_eq!(read.way, Way::Iterator);
}

#[test]
fn an_epoch_from_before_there_was_dns_is_read() {
    let dir = PlainDir::create();
    let mut snapshot = peers(1);
    snapshot.info.layout = FIRST_LAYOUT;
    snapshot.info.dns_size = 0;
    dir.write(&snapshot);
    fs::remove_file(dir.epoch(1).iterator_path(DNS)).unwrap();
    assert!(probe(&dir, ReadBy::Auto).is_ok());
    assert_eq!(Snapshot::read(&dir, ReadBy::Auto).unwrap().dns, []);
}

#[test]
fn an_entry_shown_twice_is_one() {
    let mut snapshot = peers(3);
    snapshot.metrics.push(snapshot.metrics[1]);
    snapshot.metrics.swap(0, 2);
    for (by, write) in WAYS {
        let dir = PlainDir::create();
        write(&dir, &snapshot);
        let read = Snapshot::read(&dir, by).unwrap();
        assert_eq!(read.metrics, peers(3).metrics);
        assert_eq!(read.entries.metrics, 3);
    }
}

/// Its programs have reasons alone, which the series has.
#[test]
fn what_an_earlier_layout_has_aborted_is_counted_once() {
    let mut snapshot = peers(3);
    snapshot.info.layout = FIRST_WITH_ABORTED - 1;
    snapshot.metrics[1].1.aborted.rst = 2;
    snapshot.metrics.push(snapshot.metrics[1]);
    for (by, write) in WAYS {
        let dir = PlainDir::create();
        write(&dir, &snapshot);
        let read = Snapshot::read(&dir, by).unwrap();
        let [(key, RequestValue { responses: 2 })] = read.aborted[..] else {
            panic!("{:?}", read.aborted);
        };
        assert_eq!(
            (key.series, key.grpc_status),
            (snapshot.metrics[1].0, abort_reason::RST)
        );
    }
}

#[test]
fn what_did_not_fit_is_one_entry_and_the_last() {
    let mut snapshot = peers(2);
    for (status, responses) in [(200, 4), (STATUS_OTHER, 5)] {
        let key = RequestKey {
            status,
            ..RequestKey::other()
        };
        snapshot
            .requests
            .insert(0, (key, RequestValue { responses }));
    }
    for (by, write) in WAYS {
        let dir = PlainDir::create();
        write(&dir, &snapshot);
        let read = Snapshot::read(&dir, by).unwrap();
        let other = (RequestKey::other(), RequestValue { responses: 9 });
        assert_eq!(read.requests.len(), 3);
        assert_eq!(read.requests[2], other);
        assert_eq!(read.entries.requests, 4);
    }
}

#[test]
fn pins_that_are_not_there_yet() {
    let dir = PlainDir::create();
    let error = Snapshot::read(&dir, ReadBy::Auto).unwrap_err();
    assert_eq!(error.reason(), "waiting for metricd-init");
    assert!(error.to_string().contains("linkerd_info_map "));
    assert!(probe(&dir, ReadBy::Auto).is_err());

    dir.write(&Snapshot::default());
    let error = Snapshot::read(&dir, ReadBy::Auto).unwrap_err();
    assert_eq!(error.reason(), "waiting for metricd-init", "layout 0");

    dir.write(&peers(1));
    fs::remove_file(dir.epoch(1).iterator_path(HANDSHAKE)).unwrap();
    for error in [
        Snapshot::read(&dir, ReadBy::Auto).map(drop).unwrap_err(),
        probe(&dir, ReadBy::Auto).unwrap_err(),
    ] {
        assert!(error.to_string().contains("linkerd_handshake_map_iter"));
    }
}

#[test]
fn why_init_failed() {
    let dir = PlainDir::create();
    let locked = dir.lock(Duration::ZERO).unwrap().unwrap();
    locked.say_failure("load: \"no\"\nsecond line").unwrap();
    let long = format!("load: no right {}", "ü".repeat(3000));
    locked.say_failure(&long).unwrap();
    let reason = Snapshot::read(&dir, ReadBy::Auto).unwrap_err().reason();
    assert!(reason.starts_with("metricd-init failed: load: no right üü"));
    // It attached later.
    dir.write(&peers(1));
    assert!(Snapshot::read(&dir, ReadBy::Auto).is_ok());
    locked.clear_failure();
    assert_eq!(dir.failure(), None);
}

#[test]
fn pins_that_do_not_tell_their_sizes() {
    let dir = PlainDir::create();
    let mut snapshot = peers(1);
    snapshot.info.layout = FIRST_LAYOUT - 1;
    dir.write(&snapshot);
    let error = Snapshot::read(&dir, ReadBy::Auto).unwrap_err();
    assert_eq!(
        error.reason(),
        "pins have layout 3, this metricd reads layout 4 and later ones"
    );
    assert!(error.to_string().contains("of the same version"));
}

/// A version whose values have one more field, and one that lacks the last.
#[test]
fn what_is_known_of_another_layout_is_read() {
    for longer in [true, false] {
        let dir = PlainDir::create();
        let mut snapshot = peers(3);
        let change = if longer { 8 } else { -8 };
        let info = &mut snapshot.info;
        info.layout = if longer {
            LAYOUT_VERSION + 1
        } else {
            FIRST_LAYOUT
        };
        info.metrics_size = info.metrics_size.checked_add_signed(change).unwrap();
        dir.write(&snapshot);
        let path = dir.epoch(1).iterator_path(METRICS);
        let size = MetricKey::SIZE + MetricValue::SIZE;
        let records: Vec<u8> = fs::read(&path)
            .unwrap()
            .chunks(size)
            .flat_map(|record| {
                let mut record = record.to_vec();
                record.resize(size.checked_add_signed(change as isize).unwrap(), 0xee);
                record
            })
            .collect();
        fs::write(&path, records).unwrap();
        let read = Snapshot::read(&dir, ReadBy::Auto).unwrap();
        let mut expected = peers(3).metrics;
        if !longer {
            expected
                .iter_mut()
                .for_each(|(_, value)| value.lost.midstream = 0);
        }
        assert_eq!(read.metrics, expected);
        assert_eq!(read.info.news().is_some(), longer);
    }
}

#[test]
fn epochs_add_up() {
    let dir = PlainDir::create();
    let mut first = peers(3);
    first
        .requests
        .push((RequestKey::other(), RequestValue { responses: 5 }));
    // A connection that began in the first epoch and ended in the second.
    first.metrics[1].1.active = 4;
    let mut second = peers(2);
    second.metrics[1].1.active = 2u64.wrapping_neg();
    second
        .requests
        .push((RequestKey::other(), RequestValue { responses: 6 }));
    second.counters.untracked = 1;
    first.counters.untracked = 2;
    dir.write(&first);
    dir.write_epoch(2, &second);
    let read = Snapshot::read(&dir, ReadBy::Auto).unwrap();
    assert_eq!(read.metrics.len(), 3);
    assert_eq!(read.metrics[1].1.active, 2);
    let one = first.metrics[0].1.requests.http1;
    assert_eq!(read.metrics[0].1.requests.http1, 2 * one);
    assert_eq!(read.metrics[2], first.metrics[2]);
    assert_eq!(read.requests.len(), 4);
    let other = (RequestKey::other(), RequestValue { responses: 11 });
    assert_eq!(read.requests[3], other);
    assert_eq!(read.counters.untracked, 3);
    assert_eq!(read.entries.metrics, 2, "the newest epoch's");
    // Of ten and more the last is still the newest.
    second.info.metrics_capacity = 7;
    dir.write_epoch(10, &second);
    assert_eq!(
        Snapshot::read(&dir, ReadBy::Auto)
            .unwrap()
            .info
            .metrics_capacity,
        7
    );
}

#[test]
fn buckets_of_other_bounds_move_up() {
    let dir = PlainDir::create();
    let mut first = peers(0);
    let key = LatencyKey {
        port: 80,
        direction: 1,
        ..LatencyKey::default()
    };
    let mut value = LatencyValue::default();
    for (i, bucket) in value.buckets.iter_mut().enumerate().take(5) {
        bucket.duration = 1 << i;
    }
    value.sum_ns.duration = 77;
    first.latency.push((key, value));
    // 100 µs, 5 ms, 1 s, 10 s and +Inf become 5 ms, 2 s and +Inf.
    let mut second = peers(0);
    second.info.bounds = 2;
    second.info.bounds_ns = [u64::MAX; BUCKETS];
    second.info.bounds_ns[..2].copy_from_slice(&[5_000_000, 2_000_000_000]);
    dir.write(&first);
    dir.write_epoch(2, &second);
    let read = Snapshot::read(&dir, ReadBy::Auto).unwrap();
    let duration = read.latency[0].1.duration();
    assert_eq!(duration.buckets[..4], [0b11, 0b100, 0b11000, 0]);
    assert_eq!(duration.sum_ns, 77);
}

#[test]
fn statuses_that_are_made_of_https() {
    let dir = PlainDir::create();
    let mut written = peers(1);
    let (key, _) = written.requests[0];
    let kept = [2, 0x80 | 2, 0x80 | 14, GRPC_STATUS_NONE];
    written.requests = (kept.into_iter().zip([1, 10, 100, 1000]))
        .map(|(grpc_status, responses)| {
            let key = RequestKey { grpc_status, ..key };
            (key, RequestValue { responses })
        })
        .collect();
    dir.write(&written);
    dir.write_epoch(2, &written);
    let read = Snapshot::read(&dir, ReadBy::Auto).unwrap();
    let found: Vec<_> = read
        .requests
        .iter()
        .map(|(key, value)| (key.grpc_status, value.responses))
        .collect();
    assert_eq!(found, [(2, 22), (14, 200), (GRPC_STATUS_NONE, 2000)]);
    assert_eq!(read.grpc_derived, 220);
}

#[test]
fn routes_of_other_numbers_are_the_same() {
    let dir = PlainDir::create();
    let with = |routes: &[(u16, &str)], number| {
        let mut snapshot = peers(1);
        snapshot.info.routes = 5;
        let named = routes.iter().map(|(n, path)| (*n, (*path).to_owned()));
        snapshot.routes = named.collect();
        snapshot.requests[0].0.route = number;
        snapshot
    };
    dir.write(&with(&[(1, "/a"), (2, "/b")], 2));
    dir.write_epoch(2, &with(&[(1, "/b"), (3, "/c")], 1));
    let read = Snapshot::read(&dir, ReadBy::Auto).unwrap();
    assert_eq!(read.requests.len(), 1);
    assert_eq!(read.requests[0].0.route, 1);
    let routes: Vec<_> = read.routes.values().map(String::as_str).collect();
    assert_eq!(routes, ["/b", "/a", "/c"]);
}

#[test]
fn a_part_of_a_record() {
    let dir = PlainDir::create();
    dir.write(&peers(400));
    let path = dir.epoch(1).iterator_path(METRICS);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let error = Snapshot::read(&dir, ReadBy::Auto).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("whole records of 376 bytes, found 375 bytes"),
        "{error}"
    );

    fs::write(dir.epoch(1).iterator_path(COUNTERS), []).unwrap();
    let error = Snapshot::read(&dir, ReadBy::Auto).unwrap_err();
    assert!(error.to_string().contains("164 bytes"), "{error}");
}

#[test]
fn other_errors_say_what_was_tried_on_what() {
    let error = Snapshot::read(&PinDir::new("/dev/null"), ReadBy::Auto).unwrap_err();
    assert!(
        error.to_string().starts_with("listing /dev/null: "),
        "{error}"
    );
    let denied = Unreadable::new(
        "opening",
        Path::new("/x"),
        io::Error::from(ErrorKind::PermissionDenied),
    );
    assert!(denied.to_string().contains("no permission to read /x"));
}
