//! A cluster on which metricd is installed and works, for tests to break.

use std::collections::BTreeMap;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use serde_json::{Value, json};

use crate::api::World;

pub const VERSION: &str = env!("CARGO_PKG_VERSION");
pub const HOME: &str = "linkerd-metricd";
pub const HOST: &str = "metricd-injector.linkerd-metricd.svc";

pub const NAMESPACES: &str = "/api/v1/namespaces";
pub const NODES: &str = "/api/v1/nodes";
pub const PODS: &str = "/api/v1/pods";
pub const HOME_PODS: &str = "/api/v1/namespaces/linkerd-metricd/pods";
pub const EMOJIVOTO_PODS: &str = "/api/v1/namespaces/emojivoto/pods";
pub const SERVICES: &str = "/api/v1/namespaces/linkerd-metricd/services";
pub const SECRETS: &str = "/api/v1/namespaces/linkerd-metricd/secrets";
pub const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

/// The API server of a cluster that has nothing of ours.
pub fn bare() -> World {
    let version = json!({
        "major": "1", "minor": "33", "gitVersion": "v1.33.1-eks-595af52", "gitCommit": "8adc0f0",
        "gitTreeState": "clean", "buildDate": "2025-05-15T08:19:08Z", "goVersion": "go1.24.2",
        "compiler": "gc", "platform": "linux/amd64",
    });
    World {
        texts: BTreeMap::from([("/version".to_owned(), version.to_string())]),
        objects: BTreeMap::from([
            (
                NAMESPACES.into(),
                vec![
                    namespace("default", json!({})),
                    namespace("emojivoto", json!({})),
                ],
            ),
            (
                NODES.into(),
                vec![
                    node("node-1", "linux", "6.1.134-152.225.amzn2023.x86_64"),
                    node("node-2", "linux", "5.10.236-228.935.amzn2.x86_64"),
                    node("node-3", "windows", "10.0.20348.3692"),
                ],
            ),
            (PODS.into(), vec![]),
            (WEBHOOKS.into(), vec![]),
        ]),
        ..World::default()
    }
}

/// The same, with metricd in it, and two pods that were injected.
pub fn installed() -> World {
    let mut world = bare();
    let authority = Authority::new();
    let (certificate, _) = authority.sign(HOST, (2020, 1), (4000, 1));
    let objects = &mut world.objects;
    let mut put = |path: &str, object: Value| {
        objects.entry(path.to_owned()).or_default().push(object);
    };
    put(
        NAMESPACES,
        namespace(HOME, json!({"linkerd.io/extension": "metricd"})),
    );
    put(WEBHOOKS, webhook(&authority.pem()));
    put(
        SERVICES,
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "metricd-injector", "namespace": HOME},
            "spec": {
                "selector": {"app.kubernetes.io/name": "metricd-injector"},
                "ports": [{"port": 443, "targetPort": 8443, "protocol": "TCP"}],
            },
        }),
    );
    put(SECRETS, secret(&certificate));
    put(
        HOME_PODS,
        injector(&format!("example.org/metricd:{VERSION}"), true),
    );
    for pod in [
        injected("web-7d4b9", &format!("example.org/metricd:{VERSION}"), true),
        injected(
            "vote-5f6c8",
            &format!("example.org/metricd:{VERSION}"),
            true,
        ),
    ] {
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        put(PODS, pod.clone());
        put(EMOJIVOTO_PODS, pod);
        world.texts.insert(
            metrics(&name),
            format!(
                "# TYPE linkerd_ebpf_up gauge\nlinkerd_ebpf_up 1\n# TYPE linkerd_ebpf_build_info \
                 gauge\nlinkerd_ebpf_build_info{{version=\"{VERSION}\",init_version=\"{VERSION}\"}} 1\n"
            ),
        );
    }
    world
}

/// The path by which a pod's metrics are had.
pub fn metrics(pod: &str) -> String {
    format!("{EMOJIVOTO_PODS}/{pod}:4191/proxy/metrics")
}

pub fn namespace(name: &str, labels: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": labels, "uid": "2d0e6a02", "resourceVersion": "12"},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    })
}

pub fn node(name: &str, system: &str, kernel: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/os": system}},
        "status": {"nodeInfo": {
            "machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": kernel,
            "osImage": "", "containerRuntimeVersion": "containerd://1.7.27",
            "kubeletVersion": "v1.33.1", "kubeProxyVersion": "", "operatingSystem": system,
            "architecture": "amd64",
        }},
    })
}

pub fn webhook(authority: &str) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "metricd-injector-webhook-config"},
        "webhooks": [{
            "name": "metricd-injector.linkerd.io",
            "admissionReviewVersions": ["v1"],
            "clientConfig": {
                "service": {"name": "metricd-injector", "namespace": HOME, "path": "/", "port": 443},
                "caBundle": base64(authority.as_bytes()),
            },
            "failurePolicy": "Ignore",
            "matchPolicy": "Equivalent",
            "reinvocationPolicy": "IfNeeded",
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
                       "resources": ["pods"], "scope": "Namespaced"}],
            "sideEffects": "NoneOnDryRun",
            "timeoutSeconds": 3,
        }],
    })
}

pub fn secret(certificate: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "metricd-injector-tls", "namespace": HOME},
        "data": {"tls.crt": base64(certificate.as_bytes()), "tls.key": ""},
    })
}

pub fn injector(image: &str, ready: bool) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "metricd-injector-6c9f7", "namespace": HOME,
            "labels": {"app.kubernetes.io/name": "metricd-injector"},
        },
        "spec": {
            "containers": [{"name": "injector", "image": image}],
            "volumes": [
                {"name": "config", "configMap": {"name": "metricd-injector"}},
                {"name": "tls", "secret": {"secretName": "metricd-injector-tls"}},
            ],
            "imagePullSecrets": [{"name": "registry"}],
            "nodeName": "node-1",
        },
        "status": status(ready, &["injector"], &[]),
    })
}

/// A pod with a native sidecar.
pub fn injected(name: &str, image: &str, ready: bool) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "emojivoto", "uid": "3c1f", "labels": {"app": name}},
        "spec": {
            "containers": [{"name": "app", "image": "example.org/app:v1"}],
            "initContainers": [
                {"name": "metricd-init", "image": image},
                {
                    "name": "metricd", "image": image, "restartPolicy": "Always",
                    "ports": [{"name": "metricd-admin", "containerPort": 4191, "protocol": "TCP"}],
                },
            ],
            "nodeName": "node-2",
        },
        "status": status(ready, &["app"], &["metricd-init", "metricd"]),
    })
}

fn status(ready: bool, containers: &[&str], init: &[&str]) -> Value {
    let of = |name: &&str| {
        json!({"name": name, "ready": ready, "restartCount": 0, "image": "", "imageID": "",
               "started": ready, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}})
    };
    json!({
        "phase": "Running",
        "conditions": [
            {"type": "Initialized", "status": "True"},
            {"type": "Ready", "status": if ready { "True" } else { "False" }},
        ],
        "containerStatuses": containers.iter().map(of).collect::<Vec<_>>(),
        "initContainerStatuses": init.iter().map(of).collect::<Vec<_>>(),
    })
}

/// Signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate, valid between the first days of two months, and its key.
    pub fn sign(&self, host: &str, from: (i32, u8), until: (i32, u8)) -> (String, String) {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.not_before = date_time_ymd(from.0, from.1, 1);
        params.not_after = date_time_ymd(until.0, until.1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

fn base64(bytes: &[u8]) -> String {
    serde_json::to_value(k8s_openapi::ByteString(bytes.to_vec()))
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned()
}
