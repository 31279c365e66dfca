//! Where metricd listens: never where somebody else in the pod does.

use serde_json::Value;

use super::annotations::{LINKERD_INJECT, PORT, Settings};
use super::{Around, annotation, items, name};

/// linkerd-proxy listens on these, not all of which it declares. Source:
/// linkerd.io/2/reference/proxy-configuration and charts/linkerd-control-plane/values.yaml.
const LINKERD: [u16; 4] = [4140, 4143, 4190, 4191];

/// Chooses the port: the annotation's, else the installation's, else the next that is free.
pub fn choose(
    bare: &Value,
    around: &Around,
    settings: &Settings,
    warnings: &mut Vec<String>,
) -> u16 {
    let meshed = is_meshed(bare, around);
    let owner = |port: u16| match declared_by(bare, port) {
        None if meshed && LINKERD.contains(&port) => Some("linkerd-proxy"),
        owner => owner,
    };
    if let Some(port) = settings.port {
        match owner(port) {
            None => return port,
            Some(other) => warnings.push(format!(
                "{PORT}: {port} is container {other}'s, so it is ignored"
            )),
        }
    }
    let usual = match meshed {
        true => settings.config.meshed_port,
        false => settings.config.port,
    };
    let free = (usual..=u16::MAX)
        .chain(1024..usual)
        .find(|&port| owner(port).is_none());
    let free = free.unwrap_or(usual);
    if let Some(other) = owner(usual) {
        warnings.push(format!(
            "port {usual} is container {other}'s: metricd serves its metrics on {free}"
        ));
    }
    free
}

/// Whether a linkerd-proxy is, or is about to be, in the pod.
pub fn is_meshed(bare: &Value, around: &Around) -> bool {
    let by_namespace = || around.namespace?.annotations.get(LINKERD_INJECT);
    let asked = annotation(bare, LINKERD_INJECT).or(by_namespace().map(String::as_str));
    matches!(asked, Some("enabled" | "ingress"))
        || ["containers", "initContainers"]
            .into_iter()
            .flat_map(|field| items(bare, field))
            .any(|container| name(container) == "linkerd-proxy")
}

/// The container that says it listens on a TCP port. Init containers are gone by then, unless they
/// are sidecars; it does no harm to count them.
fn declared_by(bare: &Value, port: u16) -> Option<&str> {
    let listens = |container: &&Value| {
        let ports = container["ports"].as_array();
        ports.into_iter().flatten().any(|declared| {
            declared["containerPort"] == port
                && declared["protocol"]
                    .as_str()
                    .is_none_or(|protocol| protocol == "TCP")
        })
    };
    let containers = ["containers", "initContainers"];
    let all = containers.into_iter().flat_map(|field| items(bare, field));
    Some(name(all.into_iter().find(listens)?))
}
