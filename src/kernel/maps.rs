//! The maps: what they are called, and which of them belong together.

/// Counters per series.
pub const METRICS: &str = "linkerd_metrics_map";
/// Counters of the series that the map of [`METRICS`] has no room for.
pub const METRICS_MORE: &str = "linkerd_metrics_more_map";
/// Responses by protocol and status.
pub const REQUESTS: &str = "linkerd_requests_map";
/// Responses that the map of [`REQUESTS`] has no room for.
pub const REQUESTS_MORE: &str = "linkerd_requests_more_map";
/// The paths of routes, by number. They stay while the exported maps are replaced.
pub const ROUTES: &str = "linkerd_route_map";
/// Histograms of requests.
pub const LATENCY: &str = "linkerd_latency_map";
/// Histograms of requests that the map of [`LATENCY`] has no room for.
pub const LATENCY_MORE: &str = "linkerd_latency_more_map";
/// Histograms of connections.
pub const HANDSHAKE: &str = "linkerd_handshake_map";
/// Counters per server of DNS.
pub const DNS: &str = "linkerd_dns_map";
/// An array of one: what the programs count about themselves.
pub const COUNTERS: &str = "linkerd_counters_map";
/// An array of one: what a reader must know.
pub const INFO: &str = "linkerd_info_map";

/// What is attached where.
pub const ATTACHMENTS: &str = "linkerd_attachment_map";

/// The maps that are read. Whether they have iterators is told by the first one.
pub const EXPORTED: [&str; 11] = [
    INFO,
    COUNTERS,
    METRICS,
    METRICS_MORE,
    REQUESTS,
    REQUESTS_MORE,
    LATENCY,
    LATENCY_MORE,
    HANDSHAKE,
    DNS,
    ROUTES,
];

/// The maps by which connections are followed, and routes are known: programs with equal
/// [`crate::abi::STATE_VERSION`]s take them over from each other.
pub const STATE_MAPS: [&str; 21] = [
    "linkerd_attachment_map",
    "linkerd_connection_cache_map",
    "linkerd_connection_free_map",
    "linkerd_connection_index_map",
    "linkerd_connection_map",
    "linkerd_dns_query_map",
    "linkerd_early_bytes_map",
    "linkerd_early_free_map",
    "linkerd_early_map",
    "linkerd_flow_map",
    "linkerd_half_open_map",
    "linkerd_http2_free_map",
    "linkerd_http2_map",
    "linkerd_http2_more_map",
    "linkerd_route_cache_map",
    "linkerd_route_candidate_map",
    "linkerd_route_free_map",
    "linkerd_route_index_map",
    "linkerd_route_map",
    "linkerd_server_port_map",
    "linkerd_tried_port_map",
];

/// The maps of an epoch: what is exported, and what it takes to find an element there.
pub const EPOCH_MAPS: [&str; 18] = [
    "linkerd_counters_map",
    "linkerd_dns_map",
    "linkerd_handshake_map",
    "linkerd_info_map",
    "linkerd_latency_free_map",
    "linkerd_latency_index_map",
    "linkerd_latency_map",
    "linkerd_latency_more_map",
    "linkerd_metrics_free_map",
    "linkerd_metrics_index_map",
    "linkerd_metrics_map",
    "linkerd_metrics_more_map",
    "linkerd_perf_map",
    "linkerd_requests_free_map",
    "linkerd_requests_index_map",
    "linkerd_requests_map",
    "linkerd_requests_more_map",
    "linkerd_tap_map",
];

/// The ring buffer that events are written to while somebody listens.
pub const PERF: &str = "linkerd_perf_map";
/// Until when somebody listens to events: CLOCK_MONOTONIC in nanoseconds.
pub const TAP: &str = "linkerd_tap_map";

/// The name under which a map of the BPF object is pinned. Variables are in a map that has their
/// section's name.
pub fn pin_name(map: &str) -> &str {
    match map {
        ".data.tap" => TAP,
        name => name,
    }
}
