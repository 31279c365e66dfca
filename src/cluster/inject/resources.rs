//! What the two containers request and are limited to, so that the pod stays valid and keeps its class.

use serde_json::{Value, json};

use super::config::{Amounts, InjectConfig, Resources};
use super::{items, memory, quantity};

/// The room that there is in a pod.
pub struct Room<'a> {
    config: &'a InjectConfig,
    /// Bytes that the maps take from the start.
    maps_at_first: u64,
    /// Bytes that the maps take at most.
    maps_at_most: u64,
    /// Whether the pod is of the class Guaranteed.
    guaranteed: bool,
    /// Whether the pod as a whole says what it requests or is limited to, of CPU and of memory.
    /// Source: `spec.resources`, on by default since Kubernetes 1.34; the API server refuses pods whose
    /// containers request more in sum.
    pods_cpu: bool,
    pods_memory: bool,
}

impl<'a> Room<'a> {
    pub fn of(bare: &Value, config: &'a InjectConfig) -> Self {
        let is_said = |what: &str| {
            let resources = &bare["spec"]["resources"];
            ["requests", "limits"].map(|of| !resources[of][what].is_null()) != [false; 2]
        };
        Self {
            config,
            maps_at_first: memory::at_first(config),
            maps_at_most: memory::at_most(config),
            guaranteed: is_guaranteed(bare),
            pods_cpu: is_said("cpu"),
            pods_memory: is_said("memory"),
        }
    }

    /// A container's resources with room for the maps in their memory, where that is said: for what
    /// they take from the start in what is requested, for all that they may in what is allowed. In a pod
    /// of the class Guaranteed they keep it so: what is requested is what is allowed. What the pod says
    /// as a whole they leave to it.
    pub fn resources(&self, resources: &Resources) -> Value {
        let add = |amounts: &Amounts, maps| Amounts {
            cpu: amounts.cpu.clone(),
            memory: amounts
                .memory
                .as_ref()
                .map(|memory| quantity::add_bytes(memory, maps)),
        };
        let mut requests = add(&resources.requests, self.maps_at_first);
        let mut limits = add(&resources.limits, self.maps_at_most);
        if self.guaranteed {
            requests.cpu = Some(guaranteed_cpu(requests.cpu.take(), limits.cpu.take()));
            limits.cpu.clone_from(&requests.cpu);
            requests.memory = limits.memory.clone().or(requests.memory);
            limits.memory.clone_from(&requests.memory);
        }
        for amounts in [&mut requests, &mut limits] {
            amounts.cpu.take_if(|_| self.pods_cpu);
            amounts.memory.take_if(|_| self.pods_memory);
        }
        json!({"requests": requests, "limits": limits})
    }

    /// That the pod's own memory has to do for the maps, too.
    pub fn warning(&self) -> Option<String> {
        let sidecar = self.config.sidecar_resources.limits.memory.as_deref();
        let memory = quantity::add_bytes(sidecar.unwrap_or("0"), self.maps_at_most);
        self.pods_memory.then(|| {
            format!(
                "spec.resources: the pod's memory has to do for metricd, too, which takes up to \
                 {memory}"
            )
        })
    }
}

/// CPU that is requested and allowed: so much that a scrape is quick, unless what is said leaves no
/// choice, and no more, for the whole pod must find a node that has it.
fn guaranteed_cpu(request: Option<String>, limit: Option<String>) -> String {
    const USUAL: &str = "100m";
    let usual = quantity::thousandths(USUAL);
    match (request, limit) {
        (Some(request), _) if quantity::thousandths(&request) > usual => request,
        (_, Some(limit)) if quantity::thousandths(&limit) < usual => limit,
        _ => USUAL.into(),
    }
}

/// Whether each container has limits for CPU and memory, and requests nothing else. Source:
/// kubernetes.io/docs/concepts/workloads/pods/pod-qos.
fn is_guaranteed(bare: &Value) -> bool {
    let is = |container: &Value| {
        let resources = &container["resources"];
        ["cpu", "memory"].into_iter().all(|what| {
            let amount = |of: &str| resources[of][what].as_str().map(quantity::thousandths);
            let limit = amount("limits");
            limit.is_some() && amount("requests").is_none_or(|request| Some(request) == limit)
        })
    };
    ["initContainers", "containers"]
        .into_iter()
        .flat_map(|field| items(bare, field))
        .all(is)
}
