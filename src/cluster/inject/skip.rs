//! Which pods are left alone, and why.

use std::fmt;

use serde_json::Value;

use super::annotations;
use super::containers::NAMES;
use super::names::{DISABLED, ENABLED, INJECT};
use super::{Around, InjectConfig, annotation, items, name};

/// Why a pod is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Skip {
    SwitchedOff,
    UnsupportedKind,
    NotEnabled,
    DisabledByPod,
    DisabledByNamespace,
    HostNetwork,
    UserNamespace,
    Windows,
    MirrorPod,
    PodSecurity,
    RunsToCompletion,
    NameTaken,
}

impl Skip {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::SwitchedOff,
        Self::UnsupportedKind,
        Self::NotEnabled,
        Self::DisabledByPod,
        Self::DisabledByNamespace,
        Self::HostNetwork,
        Self::UserNamespace,
        Self::Windows,
        Self::MirrorPod,
        Self::PodSecurity,
        Self::RunsToCompletion,
        Self::NameTaken,
    ];

    /// For the label of a metric: it stays what it is.
    pub fn name(self) -> &'static str {
        match self {
            Self::SwitchedOff => "switched_off",
            Self::UnsupportedKind => "unsupported_kind",
            Self::NotEnabled => "not_enabled",
            Self::DisabledByPod => "disabled_by_pod",
            Self::DisabledByNamespace => "disabled_by_namespace",
            Self::HostNetwork => "host_network",
            Self::UserNamespace => "user_namespace",
            Self::Windows => "windows",
            Self::MirrorPod => "mirror_pod",
            Self::PodSecurity => "pod_security",
            Self::RunsToCompletion => "runs_to_completion",
            Self::NameTaken => "name_taken",
        }
    }

    /// Whether somebody wanted metrics of the pod, and does not get them.
    pub fn is_a_surprise(self) -> bool {
        !matches!(
            self,
            Self::SwitchedOff
                | Self::UnsupportedKind
                | Self::NotEnabled
                | Self::DisabledByPod
                | Self::DisabledByNamespace
        )
    }
}

/// A sentence, without its full stop.
impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::SwitchedOff => "injection is switched off for this installation",
            Self::UnsupportedKind => "there are no pods in this kind of object",
            Self::NotEnabled => {
                "neither the pod nor its namespace has metricd.linkerd.io/inject: enabled"
            }
            Self::DisabledByPod => "the pod has metricd.linkerd.io/inject: disabled",
            Self::DisabledByNamespace => "the namespace has metricd.linkerd.io/inject: disabled",
            Self::HostNetwork => {
                "hostNetwork: true: the pod's network is its node's, which is not the pod's to observe"
            }
            Self::UserNamespace => {
                "hostUsers: false: no BPF program can be loaded from within a user namespace"
            }
            Self::Windows => "the pod is for Windows, which has no eBPF of this kind",
            Self::MirrorPod => "it stands for a static pod, which runs as its node's file says",
            Self::PodSecurity => {
                "the namespace's pod-security.kubernetes.io/enforce would refuse the pod, for \
                 metricd-init needs capabilities and the node's bpffs, and only the level \
                 privileged grants them"
            }
            Self::RunsToCompletion => {
                "the pod is to end by itself, which it never would beside a sidecar that is not an \
                 init container (Kubernetes before 1.29, and servers before 1.32, whose kubelets may \
                 be older)"
            }
            Self::NameTaken => {
                "a container or volume that is not ours is called metricd, metricd-init, \
                 metricd-bpf or metricd-l7"
            }
        })
    }
}

/// Whether to inject, and if not, why. `bare` is the pod without what is ours.
pub fn decide(
    pod: &Value,
    bare: &Value,
    around: &Around,
    config: &InjectConfig,
    warnings: &mut Vec<String>,
) -> Result<(), Skip> {
    let has_pods = pod["kind"].as_str().is_none_or(|kind| kind == "Pod");
    let spec = &pod["spec"];
    if !has_pods || !spec.is_object() {
        return Err(Skip::UnsupportedKind);
    }
    if !config.enabled {
        return Err(Skip::SwitchedOff);
    }
    consent(pod, around, warnings)?;
    if spec["hostNetwork"] == true {
        return Err(Skip::HostNetwork);
    }
    if spec["hostUsers"] == false {
        return Err(Skip::UserNamespace);
    }
    let systems = [
        &spec["os"]["name"],
        &spec["nodeSelector"]["kubernetes.io/os"],
        &spec["nodeSelector"]["beta.kubernetes.io/os"],
    ];
    if systems.into_iter().any(|system| system == "windows") {
        return Err(Skip::Windows);
    }
    if annotation(pod, "kubernetes.io/config.mirror").is_some() {
        return Err(Skip::MirrorPod);
    }
    // An invalid level is taken for restricted: ParseLevel in Kubernetes' pod-security-admission.
    let level = around
        .namespace
        .and_then(|namespace| namespace.labels.get("pod-security.kubernetes.io/enforce"));
    if level.is_some_and(|level| level != "privileged") {
        return Err(Skip::PodSecurity);
    }
    let restarts = spec["restartPolicy"].as_str().unwrap_or("Always");
    if !config.native_sidecars() && restarts != "Always" {
        return Err(Skip::RunsToCompletion);
    }
    let is_taken = |(field, names): &(&str, &[&str])| {
        items(bare, field)
            .iter()
            .any(|item| names.contains(&name(item)))
    };
    if NAMES.iter().any(is_taken) {
        return Err(Skip::NameTaken);
    }
    Ok(())
}

/// What the annotations say.
fn consent(pod: &Value, around: &Around, warnings: &mut Vec<String>) -> Result<(), Skip> {
    let mut word = |of: &str, value: Option<&str>| match value? {
        ENABLED => Some(true),
        DISABLED => Some(false),
        value => {
            let problem = "is neither enabled nor disabled";
            warnings.push(format!(
                "{of}{}",
                annotations::refused(INJECT, value, problem)
            ));
            None
        }
    };
    let pods = word("", annotation(pod, INJECT));
    let namespace = around
        .namespace
        .and_then(|namespace| namespace.annotations.get(INJECT));
    let namespaces = word("namespace: ", namespace.map(String::as_str));
    match (pods, namespaces) {
        (Some(true), _) => Ok(()),
        (Some(false), _) => Err(Skip::DisabledByPod),
        (None, _) if around.asked => Ok(()),
        (None, Some(true)) => Ok(()),
        (None, Some(false)) => Err(Skip::DisabledByNamespace),
        (None, None) => Err(Skip::NotEnabled),
    }
}
