//! The kernel memory of the maps, which the kernel charges to the container that makes them, and
//! when that has ended to its pod.

use super::Config;
use crate::abi::{LatencyEntry, Layout, MetricEntry, RequestEntry, RouteEntry};
use crate::options;

/// An element of a hash with keys and values of up to 64 bytes in all, its part of the buckets, and
/// the number in a free list that goes with it. The kernel's allocator has no sizes between.
const HASHED: u64 = 128 + 32 + 4;
/// One of `linkerd_handshake_map`: 600 bytes, of which the same is true.
const HANDSHAKE: u64 = 1024 + 32;
/// A slot, bpf/state.h, and up to four words of the cache in front of it.
const CONNECTION: u64 = 576 + 4 * 8;
/// bpf/state.h.
const HTTP2: u64 = 5056 + 4;
/// `ROUTE_CACHE` in src/loader.rs, if there are routes.
const ROUTE_CACHE: u64 = 4096 * HASHED;
/// Of the ring buffer, beside its bytes: where its ends are, and what the kernel keeps of its pages.
const RING: u64 = 4 * 4096;
/// 568 bytes of a value of `linkerd_dns_map`, for each of `DNS_SERVERS` and the rest.
const DNS: u64 = 65 * HANDSHAKE;
/// What no setting changes: early bytes (16 × 128 KB), scratch space for each CPU, the programs.
const FIXED: u64 = 4 << 20;

/// Bytes that the maps take at most, when all entries are in use.
pub fn bytes(config: &Config) -> u64 {
    let settings = |routes| options::Settings {
        map_size: config.map_size,
        detail: config.detail,
        routes,
        ..options::Settings::default()
    };
    let latencies = u64::from(settings(config.routes).histograms());
    // Connections are not told apart by route.
    let handshakes = u64::from(settings(0).histograms());
    let routes = u64::from(config.routes);
    let series = MetricEntry::SIZE as u64 + RequestEntry::SIZE as u64 + 2 * HASHED;
    FIXED
        + u64::from(config.map_size) * series
        + latencies * (LatencyEntry::SIZE as u64 + HASHED)
        + handshakes * HANDSHAKE
        + u64::from(config.connections) * (CONNECTION + HASHED)
        + u64::from(config.http2_connections.min(config.connections)) * HTTP2
        + DNS
        + u64::from(config.perf_buffer_size)
        + RING
        + routes * (RouteEntry::SIZE as u64 + HASHED)
        + if routes > 0 { ROUTE_CACHE } else { 0 }
}
