//! What an installation says about injection: a file that the injector reads, and the command line
//! with `--config`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Deserializer, Serialize};

use super::values;
use crate::kernel::options::{self};
use crate::kernel::settings::{self, DEFAULT_BUCKETS, Detail};
use crate::read::history::SHOW_IDLE;

/// Install-wide settings; annotations of a pod or namespace replace some of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct InjectConfig {
    /// If not, nothing is injected (`--disable-ebpf-metrics`).
    pub enabled: bool,
    /// The image with metricd-init and metricd.
    pub image: String,
    pub image_pull_policy: String,
    /// The port where metricd listens.
    pub port: u16,
    /// The port where metricd listens beside a linkerd-proxy, which has 4191.
    pub meshed_port: u16,
    /// The flags of metricd-init.
    pub map_size: u32,
    pub connections: u32,
    pub http2_connections: u32,
    pub routes: u32,
    pub perf_buffer_size: u32,
    pub detail: Detail,
    pub ipv6: bool,
    /// Seconds, ascending.
    pub buckets: Vec<f64>,
    /// Ports of servers of DNS.
    pub dns_ports: Vec<u16>,
    /// For how long metricd shows a series that does not change: a duration, or 0 for ever.
    #[serde(deserialize_with = "show_idle")]
    pub show_idle: String,
    /// The interfaces to attach to. If none is named, these are all that are up.
    pub interfaces: Vec<String>,
    /// Whether the cluster has sidecars among its init containers (Kubernetes 1.29 and later).
    /// Not said, the injector asks the server's version, and the command line takes it for granted.
    pub native_sidecars: Option<bool>,
    /// Whether pods get `prometheus.io/…` annotations, unless they have some.
    pub prometheus_annotations: bool,
    /// Where nodes have their bpffs.
    pub bpffs: String,
    /// The sidecar's user. It has no capability in any case, but a bpffs as systemd mounts it can be
    /// searched by root alone; where it has another mode, nobody (65534) will do.
    pub sidecar_uid: u32,
    /// The sidecar's group, which may read the maps.
    pub sidecar_gid: u32,
    /// To the memory of both, that of the maps is added.
    pub init_resources: Resources,
    pub sidecar_resources: Resources,
}

/// As a container has them, by `cpu` and `memory`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    pub requests: Amounts,
    pub limits: Amounts,
}

/// Quantities as Kubernetes writes them. What is not said is not set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Amounts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
}

/// A duration, or 0, which in YAML is a number.
fn show_idle<'de, D: Deserializer<'de>>(value: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "showIdle: neither a text nor a number")]
    enum Text {
        Text(String),
        Number(u64),
    }
    Ok(match Text::deserialize(value)? {
        Text::Text(text) => text,
        Text::Number(number) => number.to_string(),
    })
}

impl Default for InjectConfig {
    fn default() -> Self {
        let flags = settings::Settings::default();
        let resources = |cpu: [&str; 2], memory: [&str; 2]| {
            let [requests, limits] = [0, 1].map(|i| Amounts {
                cpu: Some(cpu[i].into()),
                memory: Some(memory[i].into()),
            });
            Resources { requests, limits }
        };
        Self {
            enabled: true,
            image: concat!("linkerd-metricd:", env!("CARGO_PKG_VERSION")).into(),
            image_pull_policy: "IfNotPresent".into(),
            port: options::PORT,
            meshed_port: 4192,
            map_size: flags.map_size,
            connections: flags.connections,
            http2_connections: flags.http2_connections,
            routes: flags.routes,
            perf_buffer_size: flags.perf_buffer_size,
            detail: flags.detail,
            ipv6: flags.ipv6,
            buckets: DEFAULT_BUCKETS.into(),
            dns_ports: settings::DEFAULT_DNS_PORTS.into(),
            show_idle: SHOW_IDLE.into(),
            interfaces: Vec::new(),
            native_sidecars: None,
            prometheus_annotations: true,
            bpffs: options::PIN_DIR.into(),
            sidecar_uid: 0,
            sidecar_gid: options::READER_GID,
            init_resources: resources(["100m", "1"], ["32Mi", "64Mi"]),
            sidecar_resources: resources(["10m", "200m"], ["16Mi", "32Mi"]),
        }
    }
}

impl InjectConfig {
    /// Reads the settings from a YAML file. What the file does not say has its default.
    ///
    /// # Errors
    /// If the file can't be read, or says something that is unknown or makes no sense.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("settings in {}", path.display()))
    }

    /// Reads the settings for the command line, where both the file and the image may be left out.
    ///
    /// # Errors
    /// If the file can't be read, or the file or the image says something that is unknown or makes
    /// no sense.
    pub fn with_image(file: Option<&Path>, image: Option<String>) -> Result<Self> {
        let mut config = file.map_or_else(|| Ok(Self::default()), Self::read)?;
        if let Some(image) = image {
            config.image = image;
            config.check().map_err(|problem| anyhow!(problem))?;
        }
        Ok(config)
    }

    /// Reads the settings from YAML. What it does not say has its default.
    ///
    /// # Errors
    /// If the YAML says something that is unknown or makes no sense.
    pub fn parse(yaml: &str) -> Result<Self> {
        let config: Option<Self> = serde_yaml::from_str(yaml)?;
        let config = config.unwrap_or_default();
        config.check().map_err(|problem| anyhow!(problem))?;
        Ok(config)
    }

    /// Whether the cluster has sidecars among its init containers.
    pub fn native_sidecars(&self) -> bool {
        self.native_sidecars.unwrap_or(true)
    }

    /// Checks the settings against the limits that annotations have.
    fn check(&self) -> Result<(), String> {
        let says = |key: &'static str, value: &dyn ToString| {
            let value = value.to_string();
            move |problem: String| format!("{key}: {value:?} {problem}")
        };
        values::image(&self.image).map_err(says("image", &self.image))?;
        values::pull_policy(&self.image_pull_policy)
            .map_err(says("imagePullPolicy", &self.image_pull_policy))?;
        for (key, port) in [("port", self.port), ("meshedPort", self.meshed_port)] {
            values::port(&port.to_string()).map_err(says(key, &port))?;
        }
        for (key, number, range) in [
            ("mapSize", self.map_size, values::MAP_SIZE),
            ("connections", self.connections, values::CONNECTIONS),
            ("http2Connections", self.http2_connections, values::HTTP2),
            ("routes", self.routes, values::ROUTES),
        ] {
            values::whole(&number.to_string(), range).map_err(says(key, &number))?;
        }
        let bytes = self.perf_buffer_size;
        values::perf_buffer(&bytes.to_string()).map_err(says("perfBufferSize", &bytes))?;
        let buckets = values::join(&self.buckets);
        values::buckets(&buckets).map_err(says("buckets", &buckets))?;
        let ports = values::join(&self.dns_ports);
        values::dns_ports(&ports).map_err(says("dnsPorts", &ports))?;
        values::show_idle(&self.show_idle).map_err(says("showIdle", &self.show_idle))?;
        if !self.interfaces.is_empty() {
            let interfaces = self.interfaces.join(",");
            values::interfaces(&interfaces).map_err(says("interfaces", &interfaces))?;
        }
        if !self.bpffs.starts_with('/') || self.bpffs.split('/').any(|part| part == "..") {
            return Err(says("bpffs", &self.bpffs)("is not an absolute path".into()));
        }
        for (key, resources) in [
            ("initResources", &self.init_resources),
            ("sidecarResources", &self.sidecar_resources),
        ] {
            resources
                .check()
                .map_err(|problem| format!("{key}: {problem}"))?;
        }
        Ok(())
    }
}

impl Resources {
    fn check(&self) -> Result<(), String> {
        for (key, request, limit, check) in [
            (
                "cpu",
                &self.requests.cpu,
                &self.limits.cpu,
                values::cpu as fn(&str) -> Result<_, String>,
            ),
            (
                "memory",
                &self.requests.memory,
                &self.limits.memory,
                values::memory,
            ),
        ] {
            let parse = |amount: &Option<String>| {
                let Some(amount) = amount else {
                    return Ok(None);
                };
                let problem = |problem| format!("{key}: {amount:?} {problem}");
                check(amount).map(Some).map_err(problem)
            };
            if let (Some(request), Some(limit)) = (parse(request)?, parse(limit)?)
                && request > limit
            {
                return Err(format!("{key}: more is requested than the limit"));
            }
        }
        Ok(())
    }
}
