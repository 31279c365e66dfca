//! The proxy of a mesh: which one is in the pod, or about to come.

use serde_json::Value;

use super::names::LINKERD_INJECT;
use super::{Around, annotation, istio, items, name};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mesh {
    Linkerd,
    Istio,
}

impl Mesh {
    /// The mesh whose proxy is in the pod, else the one whose proxy is about to come: its injector
    /// may run before ours or after.
    pub fn of(bare: &Value, around: &Around) -> Option<Self> {
        let all = [Self::Linkerd, Self::Istio];
        let there = all.into_iter().find(|mesh| mesh.container(bare).is_some());
        there.or_else(|| all.into_iter().find(|mesh| mesh.comes(bare, around)))
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Linkerd => "Linkerd",
            Self::Istio => "Istio",
        }
    }

    /// The name of the proxy's container.
    pub fn proxy(self) -> &'static str {
        match self {
            Self::Linkerd => "linkerd-proxy",
            Self::Istio => "istio-proxy",
        }
    }

    /// What the proxy listens on, not all of which it declares. Sources:
    /// linkerd.io/2/reference/proxy-configuration and charts/linkerd-control-plane/values.yaml;
    /// istio.io/latest/docs/ops/deployment/application-requirements.
    pub fn ports(self) -> &'static [u16] {
        match self {
            Self::Linkerd => &[4140, 4143, 4190, 4191],
            Self::Istio => &[
                15000, 15001, 15004, 15006, 15008, 15009, 15020, 15021, 15053, 15090,
            ],
        }
    }

    /// The user that the proxy runs as by default. Sources: charts/linkerd-control-plane/values.yaml;
    /// manifests/charts/istio-control/istio-discovery/files/injection-template.yaml.
    pub fn usual_uid(self) -> u32 {
        match self {
            Self::Linkerd => 2102,
            Self::Istio => 1337,
        }
    }

    /// Whether the proxy is all that the pod is for, as in a gateway: its requests are then the
    /// application's.
    pub fn is_alone(self, bare: &Value) -> bool {
        let containers = items(bare, "containers");
        !containers.is_empty() && containers.iter().all(|item| name(item) == self.proxy())
    }

    /// The proxy's container. Among the init containers it is a sidecar.
    pub fn container(self, bare: &Value) -> Option<&Value> {
        let sidecars = items(bare, "initContainers").iter();
        let sidecars = sidecars.filter(|container| container["restartPolicy"] == "Always");
        let mut all = items(bare, "containers").iter().chain(sidecars);
        all.find(|container| name(container) == self.proxy())
    }

    fn comes(self, bare: &Value, around: &Around) -> bool {
        match self {
            Self::Linkerd => {
                let by_namespace = || around.namespace?.annotations.get(LINKERD_INJECT);
                let asked = annotation(bare, LINKERD_INJECT);
                let asked = asked.or(by_namespace().map(String::as_str));
                matches!(asked, Some("enabled" | "ingress"))
            }
            Self::Istio => istio::comes(bare, around),
        }
    }
}
