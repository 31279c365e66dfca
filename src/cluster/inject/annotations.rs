//! What annotations change of the installation's settings.

use serde_json::Value;

use super::config::Resources;
use super::mesh::Mesh;
pub use super::names::*;
use super::quantity::thousandths;
use super::redirect::{self, Redirect};
use super::values::{self, whole};
use super::{InjectConfig, Namespace, annotation, memory};
use crate::kernel::settings::LARGE_MAP;

/// What holds for one pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub config: InjectConfig,
    /// The port, if an annotation names one.
    pub port: Option<u16>,
    /// The name of the proxy's container, if an annotation says it.
    pub l7_container: Option<String>,
    /// The user that the pod's proxy runs as, if our annotation says it.
    pub proxy_uid: Option<u32>,
    pub redirect: Redirect,
}

impl Settings {
    /// The pod's annotations before its namespace's before the installation's settings. A value that
    /// makes no sense leaves what there was, with a warning.
    pub fn new(
        pod: &Value,
        mesh: Option<Mesh>,
        namespace: Option<&Namespace>,
        config: &InjectConfig,
        warnings: &mut Vec<String>,
    ) -> Self {
        let mut settings = Self {
            config: config.clone(),
            port: None,
            l7_container: None,
            proxy_uid: None,
            redirect: Redirect::default(),
        };
        settings.apply(
            &SETTINGS,
            |s, apply, value| apply(s, value),
            pod,
            namespace,
            warnings,
        );
        let linkerd: &[_] = match mesh {
            _ if settings.redirect.enabled => &redirect::LINKERD,
            Some(Mesh::Linkerd) => &[redirect::LINKERD_UID],
            _ => &[],
        };
        settings.apply(
            linkerd,
            |s, take, value| take(&mut s.redirect, value),
            pod,
            namespace,
            warnings,
        );
        let config = &mut settings.config;
        if config.map_size > LARGE_MAP {
            warnings.push(format!(
                "{MAP_SIZE}: a map of {} entries takes up to {} MiB",
                config.map_size,
                memory::at_most(config) >> 20
            ));
        }
        raise("init", &mut config.init_resources, warnings);
        raise("sidecar", &mut config.sidecar_resources, warnings);
        settings.warn_unknown(pod, warnings);
        settings
    }

    fn apply<T>(
        &mut self,
        annotations: &[(&str, T)],
        take: impl Fn(&mut Self, &T, &str) -> Result<(), String>,
        pod: &Value,
        namespace: Option<&Namespace>,
        warnings: &mut Vec<String>,
    ) {
        for (name, apply) in annotations {
            let of_namespace = namespace.and_then(|namespace| namespace.annotations.get(*name));
            if let Some(value) = of_namespace
                && let Err(problem) = take(self, apply, value)
            {
                warnings.push(format!("namespace: {}", refused(name, value, &problem)));
            }
        }
        for (name, apply) in annotations {
            if let Some(value) = annotation(pod, name)
                && let Err(problem) = take(self, apply, value)
            {
                warnings.push(refused(name, value, &problem));
            }
        }
    }

    /// A name that is misspelt would otherwise be overlooked.
    fn warn_unknown(&self, pod: &Value, warnings: &mut Vec<String>) {
        let known = |name: &str| {
            [INJECT, STATUS, WARNING].contains(&name)
                || SETTINGS.iter().any(|(setting, _)| *setting == name)
        };
        let names = pod["metadata"]["annotations"].as_object();
        for name in names.into_iter().flat_map(|names| names.keys()) {
            if name.starts_with(PREFIX) && !known(name) {
                warnings.push(format!("{}: no such annotation", shortened(name)));
            }
        }
    }
}

/// What is said of a value that makes no sense.
pub fn refused(name: &str, value: &str, problem: &str) -> String {
    format!("{name}: {:?} {problem}, so it is ignored", shortened(value))
}

/// Annotations may have 256 KiB.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

/// Kubernetes refuses a pod that requests more than its limit.
fn raise(container: &str, resources: &mut Resources, warnings: &mut Vec<String>) {
    let Resources { requests, limits } = resources;
    for (what, request, limit) in [
        ("cpu", &requests.cpu, &mut limits.cpu),
        ("memory", &requests.memory, &mut limits.memory),
    ] {
        if let (Some(request), Some(limit)) = (request, limit)
            && thousandths(request) > thousandths(limit)
        {
            warnings.push(format!(
                "{PREFIX}{container}-{what}-limit: {limit} is less than the request, so it is \
                 {request}, too"
            ));
            limit.clone_from(request);
        }
    }
}

type Apply = fn(&mut Settings, &str) -> Result<(), String>;

/// Each annotation that changes a setting. Of two for one setting, the later wins.
pub const SETTINGS: [(&str, Apply); 27] = [
    (MAP_SIZE, |s, v| {
        set(&mut s.config.map_size, whole(v, values::MAP_SIZE))
    }),
    (PERF_BUFFER_SIZE, |s, v| {
        set(&mut s.config.perf_buffer_size, values::perf_buffer(v))
    }),
    (PORT, |s, v| set(&mut s.port, values::port(v).map(Some))),
    (DETAIL, |s, v| set(&mut s.config.detail, values::detail(v))),
    (ROUTES, |s, v| {
        set(&mut s.config.routes, whole(v, values::ROUTES))
    }),
    (INTERFACES, |s, v| {
        set(&mut s.config.interfaces, values::interfaces(v))
    }),
    (IPV6_GLOBAL, |s, v| {
        set(&mut s.config.ipv6, values::boolean(v))
    }),
    (IPV6, |s, v| set(&mut s.config.ipv6, values::boolean(v))),
    (CONNECTIONS, |s, v| {
        set(&mut s.config.connections, whole(v, values::CONNECTIONS))
    }),
    (HTTP2_CONNECTIONS, |s, v| {
        set(&mut s.config.http2_connections, whole(v, values::HTTP2))
    }),
    (BUCKETS, |s, v| {
        set(&mut s.config.buckets, values::buckets(v))
    }),
    (DNS_PORTS, |s, v| {
        set(&mut s.config.dns_ports, values::dns_ports(v))
    }),
    (SHOW_IDLE, |s, v| {
        set(&mut s.config.show_idle, values::show_idle(v))
    }),
    (L7_CONTAINER, |s, v| {
        set(&mut s.l7_container, values::container(v).map(Some))
    }),
    (PROXY_UID, |s, v| {
        set(&mut s.proxy_uid, values::uid(v).map(Some))
    }),
    (IMAGE, |s, v| set(&mut s.config.image, values::image(v))),
    (IMAGE_PULL_POLICY, |s, v| {
        set(&mut s.config.image_pull_policy, values::pull_policy(v))
    }),
    (INIT_CPU_REQUEST, |s, v| {
        set_cpu(&mut s.config.init_resources.requests.cpu, v)
    }),
    (INIT_CPU_LIMIT, |s, v| {
        set_cpu(&mut s.config.init_resources.limits.cpu, v)
    }),
    (INIT_MEMORY_REQUEST, |s, v| {
        set_memory(&mut s.config.init_resources.requests.memory, v)
    }),
    (INIT_MEMORY_LIMIT, |s, v| {
        set_memory(&mut s.config.init_resources.limits.memory, v)
    }),
    (SIDECAR_CPU_REQUEST, |s, v| {
        set_cpu(&mut s.config.sidecar_resources.requests.cpu, v)
    }),
    (SIDECAR_CPU_LIMIT, |s, v| {
        set_cpu(&mut s.config.sidecar_resources.limits.cpu, v)
    }),
    (SIDECAR_MEMORY_REQUEST, |s, v| {
        set_memory(&mut s.config.sidecar_resources.requests.memory, v)
    }),
    (SIDECAR_MEMORY_LIMIT, |s, v| {
        set_memory(&mut s.config.sidecar_resources.limits.memory, v)
    }),
    (redirect::REDIRECT, |s, v| s.redirect.enable(v)),
    (redirect::FALLBACK, |s, v| s.redirect.fall_back(v)),
];

fn set<T>(setting: &mut T, value: Result<T, String>) -> Result<(), String> {
    *setting = value?;
    Ok(())
}

fn set_cpu(setting: &mut Option<String>, value: &str) -> Result<(), String> {
    set(setting, values::cpu(value).map(|_| Some(value.into())))
}

fn set_memory(setting: &mut Option<String>, value: &str) -> Result<(), String> {
    set(setting, values::memory(value).map(|_| Some(value.into())))
}
