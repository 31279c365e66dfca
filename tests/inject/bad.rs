//! Annotations whose values make no sense: each is left aside with a warning, which is on the pod,
//! too, and nothing else is different from a pod without it.

use std::fmt::Write;

use metricd::cluster::inject::annotations::{self, SETTINGS};
use metricd::cluster::inject::{Around, InjectConfig, Outcome, inject};
use serde_json::{Value, json};

use crate::golden;

/// What is bad for every annotation, or for those whose names end so.
const BAD: [(&str, &[&str]); 21] = [
    ("", &["", " ", "so many", "1,,2"]),
    (
        "-size",
        &["-1", "0", "1.5", "0x10", "1e3", "99999999999999999999"],
    ),
    ("metric-map-size", &["16777213"]),
    ("perf-buffer-size", &["4095", "5000"]),
    ("/port", &["0", "80", "65536"]),
    ("/detail", &["Full", "pods"]),
    ("/routes", &["16369"]),
    (
        "/interfaces",
        &["eth0,", "a/b", "sixteen-letters-", "..", "eth0 eth1"],
    ),
    ("/dns-ports", &["0", "65536", "1,2,3,4,5", "53,"]),
    ("/show-idle", &["1", "-1h", "never"]),
    ("/ipv6", &["yes", "True", "1"]),
    ("ipv6-enabled", &["yes", "True", "1"]),
    ("connections", &["0", "1048577"]),
    (
        "/buckets",
        &[
            "0.1,0.1",
            "0.2,0.1",
            "0",
            "nan",
            "inf",
            "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32",
        ],
    ),
    (
        "/image",
        &[
            "Web:1",
            "web:",
            "web@sha256:12",
            "web:1:2",
            "example.org/",
            "/web",
            "a//b",
            "http://example.org/web",
            "example.org:x/web",
            "web:-1",
            "web/we..b",
            "web web",
            "wéb",
        ],
    ),
    ("-container", &["Proxy", "-proxy", "proxy-", "a_b", "a.b"]),
    ("/proxy-uid", &["-1", "4294967295", "0x1", "root"]),
    ("/redirect", &["true", "Enabled"]),
    ("-fallback", &["refuse", "Pass"]),
    ("-policy", &["always", "ifnotpresent"]),
    (
        "-request",
        &["0", "1mi", "1 Mi", "-5m", "1e99", "0.0001m x"],
    ),
];

fn injected(name: &str, value: &str) -> (Value, Vec<String>) {
    let pod = json!({
        "metadata": {"annotations": {name: value}},
        "spec": {"containers": [{"name": "web"}]},
    });
    let around = Around {
        asked: true,
        ..Around::default()
    };
    match inject(&pod, &around, &InjectConfig::default()).unwrap() {
        Outcome::Injected { pod, warnings } => (pod, warnings),
        skipped => panic!("{skipped:?}"),
    }
}

/// Without the annotation, and the one with the warning.
fn bare(mut pod: Value, name: &str) -> Value {
    let annotations = pod["metadata"]["annotations"].as_object_mut().unwrap();
    annotations.shift_remove(name);
    annotations.shift_remove(annotations::WARNING);
    pod
}

#[test]
fn bad_values_are_left_aside() {
    let (plain, none) = injected("note", "");
    assert!(none.is_empty(), "{none:?}");
    let plain = bare(plain, "note");
    let mut text = String::new();
    for (name, _) in SETTINGS {
        let values = BAD.iter().filter(|(end, _)| name.ends_with(end));
        for value in values.flat_map(|(_, values)| *values) {
            let (pod, warnings) = injected(name, value);
            assert_eq!(warnings.len(), 1, "{name}: {value:?}: {warnings:?}");
            assert_eq!(
                pod["metadata"]["annotations"][annotations::WARNING],
                warnings[0].as_str()
            );
            assert_eq!(bare(pod, name), plain, "{name}: {value:?}");
            writeln!(text, "{}", warnings[0]).unwrap();
        }
    }
    golden::check("bad-annotations.txt", &text);
}

#[test]
fn a_long_value_is_not_repeated() {
    let (_, warnings) = injected(annotations::DETAIL, &"é".repeat(100_000));
    assert!(warnings[0].len() < 300, "{}", warnings[0]);
}

#[test]
fn what_images_are_called() {
    let digest = format!("web@sha256:{}", "0a".repeat(32));
    for good in [
        "web",
        "web:1",
        "library/web:1.2_3-x",
        "localhost/web",
        "localhost:5000/web",
        "example.org/a/b__c/d-e.f:T",
        "example.org:443/web@sha512:",
        "[::1]:5000/web",
        "UPPER.example/web",
        &digest,
    ] {
        let good = match good.strip_suffix("sha512:") {
            Some(start) => format!("{start}sha512:{}", "f".repeat(128)),
            None => good.into(),
        };
        let (pod, warnings) = injected(annotations::IMAGE, &good);
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(pod["spec"]["initContainers"][0]["image"], good);
    }
}
