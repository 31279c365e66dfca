//! For each file in `cases`, a pod and what is around it, the file of that name in `golden` says what
//! becomes of it: the patch, or why there is none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use metricd::cluster::inject::{
    Around, InjectConfig, Namespace, Outcome, Skip, inject, patch, uninject,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::golden;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub pod: Value,
    namespace: Option<Within>,
    workload: Option<String>,
    #[serde(default)]
    asked: bool,
    #[serde(default)]
    config: InjectConfig,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Within {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Case {
    /// All of them, by name.
    pub fn all() -> impl Iterator<Item = (String, Self)> {
        golden::files("cases").into_iter().map(|(name, path)| {
            let case = serde_yaml::from_str(&fs::read_to_string(&path).unwrap());
            let case = case.unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, case)
        })
    }

    /// What becomes of another pod in its place.
    pub fn inject(&self, pod: &Value) -> Outcome {
        let namespace = self.namespace.as_ref().map(|within| Namespace {
            name: within.name.clone(),
            labels: within.labels.clone(),
            annotations: within.annotations.clone(),
        });
        let around = Around {
            namespace: namespace.as_ref(),
            workload: self.workload.as_deref(),
            asked: self.asked,
        };
        inject(pod, &around, &self.config).unwrap()
    }
}

#[test]
fn patches_are_golden() {
    for (name, case) in Case::all() {
        let text = match case.inject(&case.pod) {
            Outcome::Injected { pod, warnings } => {
                json!({"patch": patch(&case.pod, &pod), "warnings": warnings})
            }
            Outcome::Skipped { reason, warnings } => json!({
                "skipped": reason.name(),
                "because": reason.to_string(),
                "warnings": warnings,
            }),
        };
        golden::check(&format!("{name}.json"), &format!("{text:#}\n"));
    }
    let cases = golden::files("cases").len();
    assert_eq!(golden::files("golden").len(), cases + golden::OTHERS);
}

#[test]
fn every_reason_to_skip_has_a_case() {
    let seen: BTreeSet<&str> = Case::all()
        .filter_map(|(_, case)| match case.inject(&case.pod) {
            Outcome::Skipped { reason, .. } => Some(reason.name()),
            Outcome::Injected { .. } => None,
        })
        .collect();
    assert_eq!(seen, Skip::ALL.map(Skip::name).into());
}

#[test]
fn a_patch_makes_the_injected_pod() {
    for (name, case) in Case::all() {
        if let Outcome::Injected { pod, .. } = case.inject(&case.pod) {
            let mut patched = case.pod.clone();
            json_patch::patch(&mut patched, &patch(&case.pod, &pod)).unwrap();
            assert_eq!(patched, pod, "{name}");
        }
    }
}

#[test]
fn injected_again_it_stays_the_same_and_can_be_taken_out() {
    for (name, case) in Case::all() {
        if let Outcome::Injected { pod, warnings } = case.inject(&case.pod) {
            let again = case.inject(&pod);
            assert_eq!(uninject(&pod), case.pod, "{name}");
            assert_eq!(again, Outcome::Injected { pod, warnings }, "{name}");
        }
    }
}

/// Each name is a label's value and part of what people search for.
#[test]
fn reasons_have_names_of_their_own() {
    let names: BTreeSet<&str> = Skip::ALL.map(Skip::name).into();
    assert_eq!(names.len(), Skip::ALL.len());
    for name in names {
        assert!(
            name.bytes()
                .all(|byte| byte == b'_' || byte.is_ascii_lowercase())
        );
    }
}
