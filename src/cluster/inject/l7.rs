//! What a proxy's container and the sidecar have in common: a volume, in which the one records and
//! the other reads ([`metricd_l7`]).

use serde_json::{Value, json};

use super::annotations::Settings;
use super::names::L7_CONTAINER;
use super::record::{LISTS, Record};
use super::{items, name};
use metricd_l7 as l7;

pub const VOLUME: &str = "metricd-l7";
const MOUNT: &str = "/run/metricd/l7";
const FILE: &str = "/run/metricd/l7/requests";

/// Where the container may be: proxies are sidecars, too.
const CONTAINERS: [&str; 2] = ["initContainers", "containers"];

/// The name of the container that the pod's settings ask for, if it can have what it needs.
pub fn container<'a>(
    bare: &Value,
    settings: &'a Settings,
    warnings: &mut Vec<String>,
) -> Option<&'a str> {
    let wanted = settings.l7_container.as_deref()?;
    let mut containers = CONTAINERS.into_iter().flat_map(|field| items(bare, field));
    match containers.find(|item| name(item) == wanted).map(check) {
        Some(Ok(())) => return Some(wanted),
        Some(Err(problem)) => warnings.push(format!("{L7_CONTAINER}: {wanted} {problem}")),
        None => warnings.push(format!("{L7_CONTAINER}: there is no container {wanted}")),
    }
    None
}

fn check(container: &Value) -> Result<(), &'static str> {
    let list = |field: &str| match &container[field] {
        Value::Null => Ok(&[][..]),
        Value::Array(items) => Ok(&items[..]),
        _ => Err("is no container: a list is not one"),
    };
    if list("env")?.iter().any(|env| name(env) == l7::FILE) {
        return Err("has a METRICD_L7_FILE of its own");
    }
    let is_ours = |mount: &Value| name(mount) == VOLUME || mount["mountPath"] == MOUNT;
    match list("volumeMounts")?.iter().any(is_ours) {
        true => Err("has something else at /run/metricd/l7"),
        false => Ok(()),
    }
}

/// The volume for the table. It is in memory, so that nothing that is written waits for a disk, and
/// twice as large as the largest table; what is not used takes nothing.
pub fn volume() -> Value {
    json!({"name": VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "48Mi"}})
}

/// Lets the sidecar read the volume.
pub fn add_to_sidecar(sidecar: &mut Value) {
    add(sidecar, true);
}

/// Lets the container `wanted` record into the volume.
pub fn add_to_container(pod: &mut Value, wanted: &str, record: &mut Record) {
    if let Some(container) = containers(pod).find(|item| name(item) == wanted) {
        record.lists(container);
        add(container, false);
    }
}

fn add(container: &mut Value, read_only: bool) {
    let mut mount = json!({"name": VOLUME, "mountPath": MOUNT});
    if read_only {
        mount["readOnly"] = true.into();
    }
    let env = json!({"name": l7::FILE, "value": FILE});
    for (field, item) in LISTS.into_iter().zip([env, mount]) {
        match &mut container[field] {
            Value::Array(items) => items.push(item),
            none => *none = json!([item]),
        }
    }
}

/// Takes out of the pod's containers what [`add_to_container`] has put in.
pub fn take_out(pod: &mut Value, record: &Record) {
    let is_ours = |item: &Value| name(item) == VOLUME || name(item) == l7::FILE;
    for container in containers(pod) {
        let mounts = container["volumeMounts"].as_array();
        if !mounts.is_some_and(|mounts| mounts.iter().any(|mount| name(mount) == VOLUME)) {
            continue;
        }
        for field in LISTS {
            if let Some(items) = container[field].as_array_mut() {
                items.retain(|item| !is_ours(item));
            }
        }
        record.undo_lists(container);
    }
}

/// All containers of a pod.
fn containers(pod: &mut Value) -> impl Iterator<Item = &mut Value> {
    let spec = pod.get_mut("spec").and_then(Value::as_object_mut);
    spec.into_iter()
        .flat_map(|spec| spec.iter_mut())
        .filter(|(field, _)| CONTAINERS.contains(&field.as_str()))
        .filter_map(|(_, list)| list.as_array_mut())
        .flatten()
}
