//! The two containers and the volumes.
//!
//! The rights are the least that work, as docs/journal.md shows.

use serde_json::{Map, Value, json};

use super::annotations::Settings;
use super::config::InjectConfig;
use super::resources::Room;
use super::{Around, l7, name, values};
use crate::kernel::settings;
use crate::kernel::target::PODS;
use crate::read::history::SHOW_IDLE;

const INIT: &str = "metricd-init";
const SIDECAR: &str = "metricd";
const VOLUME: &str = "metricd-bpf";

/// The lists of a pod's spec, and the names in them that are ours.
pub const NAMES: [(&str, &[&str]); 3] = [
    ("initContainers", &[INIT, SIDECAR]),
    ("containers", &[INIT, SIDECAR]),
    ("volumes", &[VOLUME, l7::VOLUME]),
];

/// The name of the sidecar's port.
const PORT: &str = "metricd-admin";
/// Where containers mount the bpffs: outside of /sys, where their AppArmor profiles let nobody
/// write.
const MOUNT: &str = "/run/metricd/bpf";
/// The prefix of our environment variables.
const ENV: &str = "METRICD_";

/// What is put into a pod.
pub struct Parts {
    pub init: Value,
    pub sidecar: Value,
    pub volumes: Vec<Value>,
}

impl Parts {
    /// These containers and volumes, with what others have added to the ones that were there
    /// `before`.
    pub fn over(self, before: Vec<Value>) -> Self {
        let over = |new: Value| match before.iter().find(|old| name(old) == name(&new)) {
            Some(old) => overlay(old.clone(), new),
            None => new,
        };
        Self {
            init: over(self.init),
            sidecar: over(self.sidecar),
            volumes: self.volumes.into_iter().map(over).collect(),
        }
    }
}

/// Makes the containers and volumes for a pod.
pub fn build(
    bare: &Value,
    around: &Around,
    settings: &Settings,
    port: u16,
    proxy_uid: Option<u32>,
    l7: bool,
    warnings: &mut Vec<String>,
) -> Parts {
    let config = &settings.config;
    let room = Room::of(bare, config);
    warnings.extend(room.warning());

    let mut init_env = pin_dir();
    init_env.push(env("FAIL_OPEN", "true"));
    init_env.extend(flags(config, proxy_uid.is_some() || l7));
    init_env.extend(proxy_uid.map(|uid| env("PROXY_UID", uid.to_string())));
    let redirect = settings.redirect.flags(port);
    init_env.extend(redirect.into_iter().map(|(name, value)| env(name, value)));
    let mut sidecar_env = pin_dir();
    sidecar_env.push(env("LISTEN", format!("[::]:{port}")));
    if config.show_idle != SHOW_IDLE {
        sidecar_env.push(env("SHOW_IDLE", &*config.show_idle));
    }
    sidecar_env.push(from_field("POD_NAME", "metadata.name"));
    sidecar_env.push(from_field("POD_NAMESPACE", "metadata.namespace"));
    sidecar_env.extend(owner(bare, around).map(|owner| env("POD_OWNER", owner)));

    let mut sidecar = json!({
        "name": SIDECAR,
        "image": config.image,
        "imagePullPolicy": config.image_pull_policy,
        "command": ["/metricd"],
        "env": sidecar_env,
        "ports": [{"name": PORT, "containerPort": port, "protocol": "TCP"}],
        "resources": room.resources(&config.sidecar_resources),
        "securityContext": {
            "runAsUser": config.sidecar_uid,
            "runAsGroup": config.sidecar_gid,
            "runAsNonRoot": config.sidecar_uid != 0,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": VOLUME, "mountPath": MOUNT, "readOnly": true}],
    });
    if config.native_sidecars() {
        sidecar["restartPolicy"] = "Always".into();
    }
    // Whole, and of no type that kubelet would check: what is not there must not keep a pod from
    // starting.
    let mut volumes = vec![json!({"name": VOLUME, "hostPath": {"path": config.bpffs}})];
    if l7 {
        l7::add_to_sidecar(&mut sidecar);
        volumes.push(l7::volume());
    }
    Parts {
        init: json!({
            "name": INIT,
            "image": config.image,
            "imagePullPolicy": config.image_pull_policy,
            "command": ["/metricd-init"],
            "env": init_env,
            "resources": room.resources(&config.init_resources),
            "securityContext": {
                // Said outright, against a pod's runAsNonRoot and runAsUser.
                "runAsUser": 0,
                "runAsGroup": config.sidecar_gid,
                "runAsNonRoot": false,
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {
                    "drop": ["ALL"],
                    "add": ["NET_ADMIN", "PERFMON", "BPF", "SYS_RESOURCE"],
                },
                // The usual profiles keep bpf() from a container that is not privileged.
                "seccompProfile": {"type": "Unconfined"},
            },
            "volumeMounts": [{"name": VOLUME, "mountPath": MOUNT}],
        }),
        sidecar,
        volumes,
    }
}

/// Both containers' view of the pins, a folder for each pod.
fn pin_dir() -> Vec<Value> {
    vec![
        from_field("POD_UID", "metadata.uid"),
        env("PIN_DIR", format!("{MOUNT}/{PODS}/$({ENV}POD_UID)")),
    ]
}

/// The flags of metricd-init that are not as they are by default.
fn flags(config: &InjectConfig, loopback: bool) -> Vec<Value> {
    let default = InjectConfig::default();
    let mut flags = Vec::new();
    let mut flag = |name, value: String, usual: String| {
        if value != usual {
            flags.push(env(name, value));
        }
    };
    let number = |number: u32| number.to_string();
    flag(
        "MAP_SIZE",
        number(config.map_size),
        number(default.map_size),
    );
    flag(
        "CONNECTIONS",
        number(config.connections),
        number(default.connections),
    );
    flag(
        "HTTP2_CONNECTIONS",
        number(config.http2_connections),
        number(default.http2_connections),
    );
    flag("ROUTES", number(config.routes), number(default.routes));
    flag(
        "PERF_BUFFER_SIZE",
        number(config.perf_buffer_size),
        number(default.perf_buffer_size),
    );
    flag(
        "DETAIL",
        config.detail.to_string(),
        default.detail.to_string(),
    );
    flag("IPV6", config.ipv6.to_string(), default.ipv6.to_string());
    flag(
        "BUCKETS",
        values::join(&config.buckets),
        values::join(&settings::DEFAULT_BUCKETS),
    );
    flag(
        "DNS_PORTS",
        values::join(&config.dns_ports),
        values::join(&settings::DEFAULT_DNS_PORTS),
    );
    flag(
        "READER_GID",
        number(config.sidecar_gid),
        number(default.sidecar_gid),
    );
    flag("INTERFACE", config.interfaces.join(","), String::new());
    // Between a proxy and the application, what the proxy sees of TLS is plain.
    flag("LOOPBACK", loopback.to_string(), "false".into());
    flags
}

fn env(name: &str, value: impl Into<String>) -> Value {
    json!({"name": format!("{ENV}{name}"), "value": value.into()})
}

fn from_field(name: &str, field: &str) -> Value {
    json!({"name": format!("{ENV}{name}"), "valueFrom": {"fieldRef": {"fieldPath": field}}})
}

/// `Kind/name` of who made the pod, or will.
fn owner(bare: &Value, around: &Around) -> Option<String> {
    let owners = bare["metadata"]["ownerReferences"].as_array();
    let controller =
        owners.and_then(|owners| owners.iter().find(|owner| owner["controller"] == true));
    match controller {
        Some(owner) => Some(format!("{}/{}", owner["kind"].as_str()?, name(owner))),
        None => around.workload.map(Into::into),
    }
}

/// Lays one value over another: of objects each field, of lists with names each element.
fn overlay(old: Value, new: Value) -> Value {
    match (old, new) {
        (Value::Object(mut old), Value::Object(new)) => {
            // Unless it is said anew: a sidecar may move.
            old.shift_remove("restartPolicy");
            let mut both = Map::new();
            for (key, value) in new {
                let value = match old.shift_remove(&key) {
                    Some(old) => overlay(old, value),
                    None => value,
                };
                both.insert(key, value);
            }
            both.extend(old);
            Value::Object(both)
        }
        (Value::Array(mut old), Value::Array(new))
            if new.iter().any(|item| key(item).is_some()) =>
        {
            let mut both = Vec::new();
            for item in new {
                let same = old.iter().position(|old| key(old) == key(&item));
                both.push(match same {
                    Some(at) => overlay(old.remove(at), item),
                    None => item,
                });
            }
            // Variables and mounts of ours that are no more are not somebody else's.
            let is_ours = |old: &Value| name(old).starts_with(ENV) || name(old) == l7::VOLUME;
            both.extend(old.into_iter().filter(|old| !is_ours(old)));
            Value::Array(both)
        }
        (_, new) => new,
    }
}

/// What tells the elements of a list apart.
fn key(item: &Value) -> Option<&str> {
    item["mountPath"].as_str().or(item["name"].as_str())
}
