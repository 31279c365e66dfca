//! Manifests, as `linkerd-metricd inject` and `uninject` read and write them: streams of YAML
//! documents, of which those without pods go through as they are, comments and all.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::names::{ENABLED, INJECT, STATUS};
use super::{Around, InjectConfig, Outcome, annotation, inject, uninject, yaml};

/// What to do to the pods.
#[derive(Clone, Debug)]
pub enum Change {
    /// Ask the webhook for metricd, by an annotation.
    Annotate,
    /// Put the containers in.
    Inject(Box<InjectConfig>),
    /// Take out both.
    Uninject,
}

/// What became of one object.
struct Report {
    /// As kubectl says it: `deployment "web"`.
    object: String,
    /// `injected`, `uninjected` or `skipped`.
    result: &'static str,
    remarks: Vec<String>,
}

/// Reads files, or standard input where one is called `-`. Returns the manifests as they are to be,
/// and a report for people.
///
/// # Errors
/// If a file can't be read, is no YAML, or has a pod that is none.
pub fn change_files(files: &[PathBuf], change: &Change) -> Result<(String, String)> {
    let mut all = String::new();
    let mut reports = Vec::new();
    for file in files {
        let (text, from) = match file.to_str() {
            Some("-") => (io::read_to_string(io::stdin()), "standard input".into()),
            _ => (fs::read_to_string(file), file.display().to_string()),
        };
        let text = text.with_context(|| format!("read {from}"))?;
        let text = change_stream(&text, change, &mut reports).context(from)?;
        if !all.is_empty() && !yaml::is_separator(&text) {
            all.push_str("---\n");
        }
        all.push_str(&text);
        if !all.ends_with('\n') {
            all.push('\n');
        }
    }
    Ok((all, summary(&reports)))
}

/// Changes the pods of a stream of documents in memory. Returns the documents as they are to be,
/// and a report for people.
///
/// # Errors
/// If the stream is no YAML, or has a pod that is none.
pub fn change_text(stream: &str, change: &Change) -> Result<(String, String)> {
    let mut reports = Vec::new();
    let text = change_stream(stream, change, &mut reports)?;
    Ok((text, summary(&reports)))
}

fn change_stream(stream: &str, change: &Change, reports: &mut Vec<Report>) -> Result<String> {
    let mut all = String::new();
    for (i, document) in yaml::documents(stream).into_iter().enumerate() {
        let context = || format!("document {}", i + 1);
        let before = yaml::parse(document).with_context(context)?;
        let mut after = before.clone();
        if !before.is_null() {
            change_object(&mut after, change, reports).with_context(context)?;
        }
        if after == before {
            all.push_str(document);
            continue;
        }
        if yaml::is_separator(document) {
            all.push_str("---\n");
        }
        all.push_str(&yaml::print(&after).with_context(context)?);
    }
    Ok(all)
}

fn change_object(object: &mut Value, change: &Change, reports: &mut Vec<Report>) -> Result<()> {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    if kind == "List" {
        for item in object["items"].as_array_mut().into_iter().flatten() {
            change_object(item, change, reports)?;
        }
        return Ok(());
    }
    let meta = &object["metadata"];
    let name = meta["name"].as_str().or(meta["generateName"].as_str());
    let name = name.unwrap_or_default().to_owned();
    let mut report = Report {
        object: match kind.as_str() {
            "" => "document without a kind".into(),
            kind => format!("{} {name:?}", kind.to_lowercase()),
        },
        result: "skipped",
        remarks: Vec::new(),
    };
    let pod = template(&kind).and_then(|pointer| object.pointer_mut(pointer));
    if let Some(pod) = pod {
        let workload = format!("{kind}/{name}");
        change_pod(pod, &workload, change, &mut report).with_context(|| workload.clone())?;
    }
    reports.push(report);
    Ok(())
}

/// Where the pod is in an object, by its kind.
fn template(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "Pod" => "",
        "CronJob" => "/spec/jobTemplate/spec/template",
        "DaemonSet"
        | "Deployment"
        | "Job"
        | "ReplicaSet"
        | "ReplicationController"
        | "StatefulSet" => "/spec/template",
        _ => return None,
    })
}

fn change_pod(pod: &mut Value, workload: &str, change: &Change, report: &mut Report) -> Result<()> {
    let config = match change {
        Change::Uninject => {
            if take_out(pod) {
                report.result = "uninjected";
            }
            return Ok(());
        }
        Change::Inject(config) => config,
        Change::Annotate => &Box::default(),
    };
    let around = Around {
        // A pod on its own is nobody's.
        workload: (!workload.starts_with("Pod/")).then_some(workload),
        asked: true,
        ..Around::default()
    };
    // The pod is injected anew, for its annotations may have been changed.
    let outcome = inject(&uninject(pod), &around, config)?;
    match outcome {
        Outcome::Injected {
            pod: injected,
            warnings,
        } => {
            match change {
                Change::Annotate => annotate(pod),
                _ => *pod = injected,
            }
            report.result = "injected";
            report.remarks = warnings;
        }
        Outcome::Skipped { reason, warnings } => {
            report.remarks = warnings;
            report.remarks.push(reason.to_string());
        }
    }
    Ok(())
}

fn annotate(pod: &mut Value) {
    for field in ["/metadata", "/metadata/annotations"] {
        let (parent, field) = field.rsplit_once('/').expect("it has one");
        let parent = pod.pointer_mut(parent).expect("made, or a pod");
        if parent[field].is_null() {
            parent[field] = json!({});
        }
    }
    pod["metadata"]["annotations"][INJECT] = ENABLED.into();
}

/// Takes out the containers; where there are none, the annotation. Returns whether there was either.
fn take_out(pod: &mut Value) -> bool {
    if annotation(pod, STATUS).is_some() {
        *pod = uninject(pod);
        return true;
    }
    if annotation(pod, INJECT) != Some(ENABLED) {
        return false;
    }
    for (parent, field) in [
        ("/metadata/annotations", INJECT),
        ("/metadata", "annotations"),
        ("", "metadata"),
    ] {
        let parent = pod.pointer_mut(parent).and_then(Value::as_object_mut);
        let fields = parent.expect("an annotation was there");
        let is_gone = |value: &Value| value.as_object().is_none_or(|fields| fields.is_empty());
        if fields.get(field).is_some_and(is_gone) {
            fields.shift_remove(field);
        }
    }
    true
}

/// In the manner of `linkerd inject`: what is worth a remark, then a line for each object, with an
/// empty line before and behind.
fn summary(reports: &[Report]) -> String {
    let mut text = String::from("\n");
    for report in reports {
        for remark in &report.remarks {
            let _ = writeln!(text, "‼ {}: {remark}", report.object);
        }
    }
    if reports.iter().all(|report| report.result == "skipped") {
        text.push_str("‼ no supported objects found\n");
    }
    if text.len() > 1 {
        text.push('\n');
    }
    for Report { object, result, .. } in reports {
        let _ = writeln!(text, "{object} {result}");
    }
    text.push('\n');
    text
}
