//! The installation's settings, as a file has them.

use std::{fs, path::Path};

use metricd::cluster::inject::InjectConfig;
use serde_yaml::Value;

#[test]
fn what_is_not_said_has_its_default() {
    for empty in ["", "{}", "# nothing\n"] {
        assert_eq!(InjectConfig::parse(empty).unwrap(), InjectConfig::default());
    }
    let config = InjectConfig::parse("mapSize: 5\nnativeSidecars: false").unwrap();
    assert_eq!(
        config,
        InjectConfig {
            map_size: 5,
            native_sidecars: Some(false),
            ..InjectConfig::default()
        }
    );
}

#[test]
fn the_chart_has_the_same_defaults() {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/chart/values.yaml");
    let values: Value = serde_yaml::from_str(&fs::read_to_string(chart).unwrap()).unwrap();
    let config = serde_yaml::to_string(&values["config"]).unwrap();
    assert_eq!(
        InjectConfig::parse(&config).unwrap(),
        InjectConfig::default()
    );
}

#[test]
fn what_is_written_can_be_read() {
    let text = serde_yaml::to_string(&InjectConfig::default()).unwrap();
    assert_eq!(InjectConfig::parse(&text).unwrap(), InjectConfig::default());
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (text, problem) in [
        ("mapsize: 5", "unknown field `mapsize`"),
        (
            "mapSize: 0",
            "mapSize: \"0\" is not a whole number from 1 to 16777212",
        ),
        ("mapSize: many", "mapSize: invalid type"),
        ("routes: 16369", "routes: "),
        (
            "perfBufferSize: 5000",
            "perfBufferSize: \"5000\" is not a power of two",
        ),
        ("connections: 0", "connections: "),
        ("http2Connections: 0", "http2Connections: "),
        ("port: 80", "port: \"80\" is not a port from 1024 to 65535"),
        ("meshedPort: 1", "meshedPort: "),
        ("detail: all", "unknown variant `all`"),
        ("image: A b", "image: \"A b\" is not an image's name"),
        ("imagePullPolicy: Sometimes", "imagePullPolicy: "),
        ("buckets: [2, 1]", "buckets: \"2,1\" is not 1 to 31 numbers"),
        ("buckets: []", "buckets: "),
        ("dnsPorts: []", "dnsPorts: "),
        ("dnsPorts: [0]", "dnsPorts: \"0\" is not 1 to 4 ports"),
        (
            "showIdle: 5",
            "showIdle: \"5\" is not a duration such as 1h, nor 0",
        ),
        ("showIdle: [1h]", "showIdle: neither a text nor a number"),
        ("interfaces: ['a b']", "interfaces: "),
        (
            "bpffs: sys/fs/bpf",
            "bpffs: \"sys/fs/bpf\" is not an absolute path",
        ),
        ("bpffs: /sys/../etc", "bpffs: "),
        (
            "initResources: {limits: {cpu: much}}",
            "initResources: cpu: \"much\" is not",
        ),
        (
            "sidecarResources: {limits: {memory: 1Mi}, requests: {memory: 2Mi}}",
            "sidecarResources: memory: more is requested than the limit",
        ),
        ("a: [", ""),
    ] {
        let error = InjectConfig::parse(text).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains(problem), "{text}: {error}");
        assert_eq!(error.lines().count(), 1, "{text}: {error}");
    }
}

#[test]
fn the_file_is_named() {
    let error = InjectConfig::read("/no/such".as_ref()).unwrap_err();
    assert_eq!(
        format!("{error:#}"),
        "read /no/such: No such file or directory (os error 2)"
    );
}
