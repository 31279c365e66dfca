//! What Istio's injector is told by labels and annotations.

use serde_json::{Map, Value};

use super::record::{Record, elements};
use super::{Around, annotation, items, name};

/// `true` or `false`: a label of the pod, formerly an annotation.
const INJECT: &str = "sidecar.istio.io/inject";
/// `enabled` or `disabled`: a label of the namespace.
const NAMESPACE: &str = "istio-injection";
/// A label of the namespace or the pod: which of several installations is meant.
const REVISION: &str = "istio.io/rev";

/// Ports with commas between them, or `*`, which is the default.
const INCLUDE: &str = "traffic.sidecar.istio.io/includeInboundPorts";
/// Ports with commas between them.
pub const EXCLUDE: &str = "traffic.sidecar.istio.io/excludeInboundPorts";

/// Whether an istio-proxy is about to be in the pod. Sources:
/// istio.io/latest/docs/setup/additional-setup/sidecar-injection, and Istio's
/// pkg/kube/inject/inject.go (injectRequired).
pub fn comes(bare: &Value, around: &Around) -> bool {
    let of_pod = |label: &str| bare["metadata"]["labels"][label].as_str();
    let of_namespace = |label: &str| Some(around.namespace?.labels.get(label)?.as_str());
    let asked = match of_pod(INJECT).or(annotation(bare, INJECT)) {
        None | Some("") => false,
        Some("y" | "yes" | "true" | "on") => true,
        Some(_) => return false,
    };
    match of_namespace(NAMESPACE) {
        Some(word) => word == "enabled",
        None => asked || of_namespace(REVISION).or(of_pod(REVISION)).is_some(),
    }
}

/// Keeps a port from being led to the proxy.
pub fn exclude(annotations: &mut Map<String, Value>, port: u16, record: &mut Record) {
    // Where ports are included by name, none is excluded, and ours is included on purpose.
    let included = annotations.get(INCLUDE).and_then(Value::as_str);
    if included.is_none_or(|ports| ports == "*") {
        record.append(annotations, EXCLUDE, &port.to_string());
    }
}

/// Whether Istio's injector has been here before the port was excluded, so that istio-init leads it
/// to the proxy. With Istio's CNI plugin, which reads the annotation later, there is no istio-init.
pub fn captures(bare: &Value, port: u16) -> bool {
    let mut init = items(bare, "initContainers").iter();
    let init = init.find(|container| name(container) == "istio-init");
    let Some(args) = init.and_then(|init| init["args"].as_array()) else {
        return false;
    };
    let value = |flag: &str| args.iter().skip_while(|arg| *arg != flag).nth(1)?.as_str();
    let port = port.to_string();
    let excluded = value("-d").unwrap_or_default();
    value("-b") == Some("*") && !elements(excluded).any(|excluded| excluded == port)
}
