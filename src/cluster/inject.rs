//! Puts metricd's two containers into a pod, and takes them out again: pure functions from JSON to
//! JSON, which leave what they don't know as it is. The webhook and the command line call them.

pub mod annotations;
pub mod config;
mod containers;
mod istio;
mod l7;
pub mod manifests;
pub mod memory;
mod mesh;
mod names;
mod ports;
mod quantity;
mod record;
pub mod redirect;
mod resources;
mod skip;
mod user;
mod values;
pub(crate) mod yaml;

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::{Map, Value, json};

use annotations::Settings;
pub use config::InjectConfig;
use mesh::Mesh;
use record::Record;
pub use skip::Skip;

/// What of a pod's namespace matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// What a pod does not say itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Around<'a> {
    pub namespace: Option<&'a Namespace>,
    /// `Kind/name` of the workload that a template is of. A pod names its owner itself.
    pub workload: Option<&'a str>,
    /// Whoever calls wants it: no annotation is needed, but one of the pod that disables it counts.
    pub asked: bool,
}

/// What became of a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The pod is as it was, but with metricd in it.
    Injected { pod: Value, warnings: Vec<String> },
    /// The pod stays as it was.
    Skipped { reason: Skip, warnings: Vec<String> },
}

/// Puts metricd into a pod or pod template. If called once more, even after others have changed the
/// pod, it gives an equal pod: `metricd-init` before all other init containers, and what others
/// have added to our containers kept.
///
/// # Errors
/// If a field that matters is not of the type that it has in a pod.
pub fn inject(pod: &Value, around: &Around, config: &InjectConfig) -> Result<Outcome> {
    check(pod)?;
    let mut warnings = Vec::new();
    let mut bare = pod.clone();
    let before = take_out(&mut bare);
    if let Err(reason) = skip::decide(pod, &bare, around, config, &mut warnings) {
        return Ok(Outcome::Skipped { reason, warnings });
    }
    let mesh = Mesh::of(&bare, around);
    let settings = Settings::new(pod, mesh, around.namespace, config, &mut warnings);
    let port = ports::choose(&bare, mesh, &settings, &mut warnings);
    let l7 = l7::container(&bare, &settings, &mut warnings);
    let records = l7.is_some();
    if settings.redirect.enabled
        && let Some(mesh) = mesh
    {
        warnings.push(format!(
            "{}: {} redirects in this pod, too, by iptables: let one of them do it",
            redirect::REDIRECT,
            mesh.name()
        ));
    }
    let excludes = mesh == Some(Mesh::Istio) && !Mesh::Istio.is_alone(&bare);
    if excludes && istio::captures(&bare, port) {
        warnings.push(format!(
            "istio-init has been made before metricd's, so port {port} goes through istio-proxy: \
             name it in {} of the pod's template",
            istio::EXCLUDE
        ));
    }
    let proxy_uid = user::proxy_uid(&bare, mesh, &settings, &mut warnings);
    let parts = containers::build(
        &bare,
        around,
        &settings,
        port,
        proxy_uid,
        records,
        &mut warnings,
    )
    .over(before);

    let mut record = Record::of(&bare);
    let mut pod = bare;
    let mut init = vec![parts.init];
    if config.native_sidecars() {
        init.push(parts.sidecar);
    } else {
        list(&mut pod, "spec", "containers").push(parts.sidecar);
    }
    list(&mut pod, "spec", "initContainers").splice(0..0, init);
    list(&mut pod, "spec", "volumes").extend(parts.volumes);
    if let Some(container) = l7 {
        l7::add_to_container(&mut pod, container, &mut record);
    }
    let added = object(&mut pod, "metadata", "annotations");
    if config.prometheus_annotations {
        match added.keys().find(|key| key.starts_with(names::PROMETHEUS)) {
            Some(own) => warnings.push(format!(
                "the pod has {own} of its own: Prometheus is not told of metricd's port {port}"
            )),
            None => record.add(added, &prometheus(port)),
        }
    }
    if excludes {
        istio::exclude(added, port, &mut record);
    }
    if !warnings.is_empty() {
        added.insert(names::WARNING.into(), warnings.join("; ").into());
    }
    added.insert(names::STATUS.into(), record.to_string().into());
    Ok(Outcome::Injected { pod, warnings })
}

/// Takes out what [`inject`] has put into a pod, and leaves it as it was before.
pub fn uninject(pod: &Value) -> Value {
    let mut pod = pod.clone();
    take_out(&mut pod);
    pod
}

/// What makes the one pod of the other. Containers and volumes that are new are put in first, so
/// that those behind them are not taken for changed.
pub fn patch(before: &Value, after: &Value) -> Patch {
    let mut aligned = before.clone();
    let mut operations = Vec::new();
    for (field, names) in containers::NAMES {
        let pointer = format!("/spec/{field}");
        let Some(list) = aligned.pointer_mut(&pointer).and_then(Value::as_array_mut) else {
            continue;
        };
        for (i, item) in items(after, field).iter().enumerate() {
            let is_new =
                names.contains(&name(item)) && !list.iter().any(|old| name(old) == name(item));
            if is_new && i <= list.len() {
                list.insert(i, item.clone());
                operations.push(PatchOperation::Add(AddOperation {
                    path: PointerBuf::from_tokens(["spec", field, &i.to_string()]),
                    value: item.clone(),
                }));
            }
        }
    }
    operations.extend(json_patch::diff(&aligned, after).0);
    Patch(operations)
}

/// The annotations for Prometheus, as many scrapers understand them.
fn prometheus(port: u16) -> [(&'static str, String); 3] {
    [
        ("prometheus.io/scrape", "true".into()),
        ("prometheus.io/port", port.to_string()),
        ("prometheus.io/path", "/metrics".into()),
    ]
}

/// Removes what is ours, if there is a record of it. Returns the containers and the volumes.
fn take_out(pod: &mut Value) -> Vec<Value> {
    let Some(record) = Record::read(pod) else {
        return Vec::new();
    };
    let mut taken = Vec::new();
    for (field, names) in containers::NAMES {
        let items = pod.pointer_mut(&format!("/spec/{field}"));
        if let Some(items) = items.and_then(Value::as_array_mut) {
            taken.extend(items.extract_if(.., |item| names.contains(&name(item))));
        }
    }
    l7::take_out(pod, &record);
    record.undo(pod);
    taken
}

/// Checks that the fields that are read and changed below have the types that they have in a pod.
fn check(pod: &Value) -> Result<()> {
    for (pointer, kind, is) in [
        ("", "an object", Value::is_object as fn(&Value) -> bool),
        ("/spec", "an object", Value::is_object),
        ("/spec/containers", "a list", Value::is_array),
        ("/spec/initContainers", "a list", Value::is_array),
        ("/spec/volumes", "a list", Value::is_array),
        ("/metadata", "an object", Value::is_object),
        ("/metadata/annotations", "an object", Value::is_object),
    ] {
        let value = pod.pointer(pointer).unwrap_or(&Value::Null);
        // What is missing, or null, is as good as empty.
        if !is(value) && (!value.is_null() || pointer.is_empty()) {
            bail!("pod{}: not {kind}", pointer.replace('/', "."));
        }
    }
    Ok(())
}

/// The list in a field, which is made if there is none. The field's type has been [`check`]ed.
fn list<'a>(pod: &'a mut Value, section: &str, field: &str) -> &'a mut Vec<Value> {
    let value = &mut pod[section][field];
    if value.is_null() {
        *value = json!([]);
    }
    value.as_array_mut().expect("a list")
}

/// The object in a field, which is made if there is none. The field's type has been [`check`]ed.
fn object<'a>(pod: &'a mut Value, section: &str, field: &str) -> &'a mut Map<String, Value> {
    let value = &mut pod[section][field];
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut().expect("an object")
}

/// The elements of a list in the spec, if there are any.
fn items<'a>(pod: &'a Value, field: &str) -> &'a [Value] {
    pod["spec"][field].as_array().map_or(&[], Vec::as_slice)
}

/// The name of an element, or nothing.
fn name(item: &Value) -> &str {
    item["name"].as_str().unwrap_or_default()
}

/// An annotation of the pod.
fn annotation<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    pod["metadata"]["annotations"][name].as_str()
}
