//! The formats say the same of the same snapshot, each in its own way.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::decoded::Decoded;
use super::*;
use crate::abi::BUCKETS;
use crate::read::prometheus::{lines, open_metrics};

/// What varies from one page to the next is 0, in each of the formats.
fn of_all_formats(snapshot: &Arc<Snapshot>, proxied: fn() -> Proxied) -> [Decoded; 3] {
    let formats = [
        Format::Text,
        Format::OpenMetrics { created: true },
        Format::Protobuf,
    ];
    formats.map(|format| {
        let page = page(Ok(snapshot.clone()), proxied(), format);
        let mut decoded = match format {
            Format::Text => Decoded::of_text(&page),
            Format::OpenMetrics { .. } => Decoded::of_open_metrics(&page),
            Format::Protobuf => Decoded::of_protobuf(&page),
        };
        for ((name, _), value) in &mut decoded.values {
            if name.starts_with("process_") || name == "linkerd_ebpf_scrape_duration_seconds" {
                *value = 0.0;
            }
        }
        decoded
    })
}

#[test]
fn a_large_page_says_the_same_in_all_formats() {
    let mut snapshot = peers(1000);
    let ages = (0..1000).map(|number| Age {
        created: (number % 3 > 0).then(|| Duration::from_secs(number)),
        is_idle: false,
    });
    snapshot.ages.metrics = ages.collect();
    let [text, mut open_metrics, mut protobuf] = of_all_formats(&Arc::new(snapshot), || None);
    assert!(text.values.len() > 10_000);
    let created = [&mut open_metrics, &mut protobuf].map(|page| std::mem::take(&mut page.created));
    assert_eq!(open_metrics, text);
    assert_eq!(protobuf, text);
    let [in_text, in_protobuf] = created;
    assert!(in_text.len() > 2 * 666);
    assert_eq!(in_text, in_protobuf);
}

proptest! {
    #[test]
    fn odd_labels_are_in_all_formats_what_they_are(
        labels in proptest::collection::vec(prop_oneof![".*", "[\\\\\n\"aé]*"], 2),
    ) {
        let mut snapshot = snapshot();
        let [route, interface] = labels.try_into().unwrap();
        snapshot.routes = [(3, route.clone())].into();
        snapshot.interfaces = vec![(interface.clone(), true)];
        let proxied = || Some(Ok(proxied::tests::snapshot()));
        let [text, open_metrics, protobuf] = of_all_formats(&Arc::new(snapshot), proxied);
        let has = |label: &str, value: &str| {
            let mut series = text.values.keys();
            series.any(|(_, labels)| labels.get(label).is_some_and(|own| own == value))
        };
        prop_assert!(has("route", &route) && has("interface", &interface));
        prop_assert_eq!(&open_metrics, &text);
        prop_assert_eq!(&protobuf, &text);
    }

    /// Lines as no snapshot has them, with the times when they began.
    #[test]
    fn lines_are_in_all_formats_what_they_are(
        labels in proptest::collection::vec(prop_oneof![".*", "[\\\\\n\"aé]*"], 3),
        value in any::<f64>().prop_filter("NaN is equal to nothing", |value| !value.is_nan()),
        buckets: [u32; BUCKETS],
        sum_ns: u64,
        mut bounds_ns in proptest::collection::btree_set(any::<u64>(), 0..BUCKETS),
        created in proptest::option::of((0..1u64 << 40, 0..1_000_000_000u32)),
    ) {
        // Bounds whose seconds are equal as numbers are one bound.
        let mut seconds = BTreeSet::new();
        bounds_ns.retain(|bound| seconds.insert(lines::seconds(*bound).to_bits()));
        let bounds_ns: Vec<u64> = bounds_ns.into_iter().collect();
        let histogram = Histogram { buckets: buckets.map(u64::from), sum_ns };
        let created = created.map(|(seconds, nanos)| Duration::new(seconds, nanos));
        let kinds = [MetricType::COUNTER, MetricType::GAUGE, MetricType::HISTOGRAM];
        let written = |format: Format| {
            let mut page = format.page();
            for (name, kind) in ["a_total", "b_seconds", "c"].into_iter().zip(kinds) {
                let help = "Of \\ and \"\n";
                let mut line = Line::new(name, help, kind, ["x", "y", "z"].into_iter());
                for ((_, label), value) in line.labels.iter_mut().zip(&labels) {
                    label.clone_from(value);
                }
                line.created = created.filter(|_| kind != MetricType::GAUGE);
                for origin in ["", "proxy"] {
                    line.origin = origin;
                    match kind {
                        MetricType::HISTOGRAM => page.histogram(&line, &histogram, &bounds_ns),
                        _ => page.value(&line, value),
                    }
                }
                assert!(!page.end_family());
            }
            page.finish();
            page.take()
        };
        let text = Decoded::of_text(&written(Format::Text));
        let plain = Decoded::of_open_metrics(&written(Format::OpenMetrics { created: false }));
        let with_created = Decoded::of_open_metrics(&written(Format::OpenMetrics { created: true }));
        let protobuf = Decoded::of_protobuf(&written(Format::Protobuf));
        prop_assert_eq!(&plain, &text);
        prop_assert_eq!(&with_created.values, &text.values);
        prop_assert_eq!(&with_created, &protobuf);
        prop_assert_eq!(protobuf.created.len(), if created.is_some() { 4 } else { 0 });
        let expected = created.map(|created| created.as_secs_f64());
        prop_assert!(protobuf.created.values().all(|time| Some(*time) == expected));
    }
}

/// No piece is much larger than it should be, however large a family is, and all families are whole.
#[test]
fn large_families_take_no_more_memory() {
    let snapshot = Arc::new(peers(3000));
    let exposition = Exposition::new(Ok(snapshot), None, Format::Protobuf);
    let mut page = Vec::new();
    for piece in exposition {
        assert!(piece.len() < 2 * Exposition::PIECE + (8 << 10));
        page.extend(piece);
    }
    let decoded = Decoded::of_protobuf(&page);
    let name = "linkerd_ebpf_bytes_total";
    let lines = decoded.values.keys().filter(|(own, _)| own == name);
    assert_eq!(lines.count(), 6000);
}

/// The names of OpenMetrics: a counter ends with `_total`, and no family has a name that a sample of
/// another one has.
#[test]
fn names_are_legal_in_all_formats() {
    let mut taken = BTreeSet::new();
    for family in FAMILIES.iter() {
        let is_counter = family.kind == MetricType::COUNTER;
        assert_eq!(
            family.name.ends_with("_total"),
            is_counter,
            "{}",
            family.name
        );
        let suffixes: &[&str] = match family.kind {
            MetricType::COUNTER => &["", "_total", "_created"],
            MetricType::HISTOGRAM => &["", "_bucket", "_count", "_sum", "_created"],
            _ => &[""],
        };
        let name = open_metrics::family(family.name, family.kind);
        for suffix in suffixes {
            assert!(taken.insert(format!("{name}{suffix}")), "{name}{suffix}");
        }
    }
}
