//! The chart's values: its own, those of files, and single ones, as Helm merges them.

use std::fs;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Map, Value};

use super::Flags;
use crate::cluster::inject::yaml;

/// The values to render with, later ones before earlier ones. A null removes what there was.
///
/// # Errors
/// If a file can't be read, or a value is not as the chart's schema says.
pub fn merge(flags: &Flags) -> Result<Value> {
    let mut values = parse(chart!("values.yaml")).context("values.yaml")?;
    // `kubectl apply` does not make it, as `helm --create-namespace` can.
    set(&mut values, "namespace.create=true")?;
    if flags.ha {
        overlay(&mut values, parse(chart!("values-ha.yaml"))?);
    }
    for file in &flags.values {
        let read = || -> Result<Value> { parse(&fs::read_to_string(file)?) };
        overlay(
            &mut values,
            read().with_context(|| format!("read values from {}", file.display()))?,
        );
    }
    for pair in &flags.set {
        set(&mut values, pair).with_context(|| format!("--set {pair}"))?;
    }
    if flags.disable_ebpf_metrics {
        set(&mut values, "disableEbpfMetrics=true")?;
    }
    drop_nulls(&mut values);
    check(&values)?;
    Ok(values)
}

fn parse(text: &str) -> Result<Value> {
    match yaml::parse(text)? {
        Value::Null => Ok(Map::new().into()),
        values @ Value::Object(_) => Ok(values),
        _ => bail!("not a mapping of keys to values"),
    }
}

/// Maps are merged, all else is replaced.
fn overlay(values: &mut Value, over: Value) {
    match (values, over) {
        (Value::Object(values), Value::Object(over)) => {
            for (key, value) in over {
                overlay(values.entry(key).or_insert(Value::Null), value);
            }
        }
        (value, over) => *value = over,
    }
}

/// Applies `a.b=value`.
fn set(values: &mut Value, pair: &str) -> Result<()> {
    let (path, value) = pair.split_once('=').context("it is not KEY=VALUE")?;
    let mut over: Value = match value {
        "" => "".into(),
        value => yaml::parse(value).context("its value is not YAML")?,
    };
    // What is escaped is put aside meanwhile.
    let path = path.replace(r"\.", "\0");
    for key in path.rsplit('.') {
        over = Map::from_iter([(key.replace('\0', "."), over)]).into();
    }
    overlay(values, over);
    Ok(())
}

fn drop_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(drop_nulls);
    }
}

fn check(values: &Value) -> Result<()> {
    let schema =
        serde_json::from_str(chart!("values.schema.json")).context("values.schema.json")?;
    let validator = jsonschema::validator_for(&schema)
        .map_err(|error| anyhow!("values.schema.json: {error}"))?;
    let errors: Vec<String> = validator
        .iter_errors(values)
        .map(|error| format!("{}: {error}", key(error.instance_path().as_str())))
        .collect();
    if !errors.is_empty() {
        bail!(
            "values that the chart does not have, or not so: {}; manifests/chart/values.yaml has them all",
            errors.join("; ")
        );
    }
    Ok(())
}

/// A JSON pointer (RFC 6901) as one writes the key.
fn key(pointer: &str) -> String {
    match pointer.strip_prefix('/') {
        Some(path) => path.replace('/', ".").replace("~1", "/").replace("~0", "~"),
        None => "values".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn set_values_are_yaml_and_dots_can_be_escaped() {
        let mut values = json!({"a": {"b": 1, "c": 2}});
        for pair in [r"a.b=[3, 4]", r"x\.y/z=yes", "e=", "f=a=b"] {
            set(&mut values, pair).unwrap();
        }
        let expected = json!({"a": {"b": [3, 4], "c": 2}, "x.y/z": true, "e": "", "f": "a=b"});
        assert_eq!(values, expected);
        assert!(set(&mut values, "a").is_err());
        assert!(set(&mut values, "a=[").is_err());
    }

    #[test]
    fn a_null_removes_a_value() {
        let mut values = json!({"a": {"b": 1}, "c": 2});
        overlay(&mut values, json!({"a": {"b": null}}));
        drop_nulls(&mut values);
        assert_eq!(values, json!({"a": {}, "c": 2}));
    }

    #[test]
    fn errors_name_the_key_as_it_is_written() {
        assert_eq!(key("/image/tag"), "image.tag");
        assert_eq!(key("/a.b~1c"), "a.b/c");
        assert_eq!(key(""), "values");
    }
}
