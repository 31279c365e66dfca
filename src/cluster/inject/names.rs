//! The names of annotations.

/// `enabled` or `disabled`, on the pod, else on its namespace.
pub const INJECT: &str = "metricd.linkerd.io/inject";
pub const ENABLED: &str = "enabled";
pub const DISABLED: &str = "disabled";

/// Ours on the pod: that it is injected, and what it takes to undo it.
pub const STATUS: &str = "metricd.linkerd.io/status";
/// Ours on the pod: what could not be done as it was asked for.
pub const WARNING: &str = "metricd.linkerd.io/warning";

pub const MAP_SIZE: &str = "linkerd.io/ebpf-metric-map-size";
pub const PERF_BUFFER_SIZE: &str = "linkerd.io/ebpf-perf-buffer-size";
pub const PORT: &str = "metricd.linkerd.io/port";
pub const DETAIL: &str = "metricd.linkerd.io/detail";
pub const ROUTES: &str = "metricd.linkerd.io/routes";
pub const INTERFACES: &str = "metricd.linkerd.io/interfaces";
pub const IPV6: &str = "metricd.linkerd.io/ipv6";
pub const IPV6_GLOBAL: &str = "global.linkerd.io/ebpf-ipv6-enabled";
pub const CONNECTIONS: &str = "metricd.linkerd.io/connections";
pub const HTTP2_CONNECTIONS: &str = "metricd.linkerd.io/http2-connections";
pub const BUCKETS: &str = "metricd.linkerd.io/buckets";
pub const DNS_PORTS: &str = "metricd.linkerd.io/dns-ports";
pub const SHOW_IDLE: &str = "metricd.linkerd.io/show-idle";
pub const L7_CONTAINER: &str = "metricd.linkerd.io/l7-container";
pub const PROXY_UID: &str = "metricd.linkerd.io/proxy-uid";
pub const IMAGE: &str = "metricd.linkerd.io/image";
pub const IMAGE_PULL_POLICY: &str = "metricd.linkerd.io/image-pull-policy";
pub const INIT_CPU_REQUEST: &str = "metricd.linkerd.io/init-cpu-request";
pub const INIT_CPU_LIMIT: &str = "metricd.linkerd.io/init-cpu-limit";
pub const INIT_MEMORY_REQUEST: &str = "metricd.linkerd.io/init-memory-request";
pub const INIT_MEMORY_LIMIT: &str = "metricd.linkerd.io/init-memory-limit";
pub const SIDECAR_CPU_REQUEST: &str = "metricd.linkerd.io/sidecar-cpu-request";
pub const SIDECAR_CPU_LIMIT: &str = "metricd.linkerd.io/sidecar-cpu-limit";
pub const SIDECAR_MEMORY_REQUEST: &str = "metricd.linkerd.io/sidecar-memory-request";
pub const SIDECAR_MEMORY_LIMIT: &str = "metricd.linkerd.io/sidecar-memory-limit";

/// Annotations with this prefix are ours alone.
pub const PREFIX: &str = "metricd.linkerd.io/";
/// Linkerd's own, by which a pod becomes meshed.
pub const LINKERD_INJECT: &str = "linkerd.io/inject";
/// The prefix of annotations for Prometheus' scrape configurations.
pub const PROMETHEUS: &str = "prometheus.io/";
