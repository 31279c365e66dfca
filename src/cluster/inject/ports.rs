//! Where metricd listens: never where somebody else in the pod does.

use serde_json::Value;

use super::annotations::Settings;
use super::mesh::Mesh;
use super::names::PORT;
use super::{items, name};

/// Chooses the port: the annotation's, else the installation's, else the next that is free.
pub fn choose(
    bare: &Value,
    mesh: Option<Mesh>,
    settings: &Settings,
    warnings: &mut Vec<String>,
) -> u16 {
    let owner = |port: u16| {
        let proxys = mesh.filter(|mesh| mesh.ports().contains(&port));
        declared_by(bare, port).or(proxys.map(Mesh::proxy))
    };
    if let Some(port) = settings.port {
        match owner(port) {
            None => return port,
            Some(other) => warnings.push(format!(
                "{PORT}: {port} is container {other}'s, so it is ignored"
            )),
        }
    }
    let usual = match mesh {
        Some(Mesh::Linkerd) => settings.config.meshed_port,
        _ => settings.config.port,
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
