//! The kernel memory of the maps, which the kernel charges to the container that makes them, and
//! when that has ended to its pod.

use super::InjectConfig;
use crate::abi::{LatencyEntry, Layout, MetricEntry, RequestEntry, RouteEntry};
use crate::kernel::load::{self, EARLY_ENTRIES, FIRST, FIRST_HISTOGRAMS, FIRST_HTTP2};
use crate::kernel::settings::{self, DNS_SERVERS};
use crate::skel::types;

/// A hash's buckets, 16 bytes each, of which it has up to two for an element.
const BUCKETS: u64 = 32;
/// A number in a free list.
const FREE: u64 = 4;

// Elements of hashes, with what the kernel adds to them. Its allocator has no sizes between.
/// Keys and values of up to 64 bytes in all.
const HASHED: u64 = 128;
/// 440 bytes of `linkerd_metrics_more_map`, 120 of `linkerd_requests_more_map`, 616 of
/// `linkerd_latency_more_map`, 5,112 of `linkerd_http2_more_map`.
const SERIES: u64 = 512;
const RESPONSES: u64 = 128;
const LATENCIES: u64 = 1024;
const MORE_HTTP2: u64 = 8192;
/// 600 bytes of `linkerd_handshake_map`, and as many of `linkerd_dns_map`.
const HANDSHAKE: u64 = 1024;
/// 3,128 bytes of `linkerd_early_bytes_map`.
const EARLY_PIECE: u64 = 4096;

/// A slot, up to four words of the cache in front of it, and a quarter of a word in each of two lists
/// of connections that may take a share.
const CONNECTION: u64 =
    (size_of::<types::conn>() + 4 * size_of::<u64>() + size_of::<u64>() / 2) as u64;
const HTTP2: u64 = size_of::<types::http2>() as u64;
/// Routes of paths, if there are any: all of it is there from the start.
const ROUTE_CACHE: u64 = load::ROUTE_CACHE as u64 * (HASHED + BUCKETS + FREE);
/// Bytes of the ring buffer beside its content: where its ends are, and what the kernel keeps of
/// its pages.
const RING: u64 = 4 * 4096;
/// Elements of `linkerd_dns_map`.
const DNS: u64 = DNS_SERVERS as u64 + 1;
/// What no setting changes: scratch space for each CPU, the programs.
const FIXED: u64 = 2 << 20;

/// Bytes that the maps take from the start.
pub fn at_first(config: &InjectConfig) -> u64 {
    bytes(config, false)
}

/// Bytes that the maps take at most, when all entries are in use.
pub fn at_most(config: &InjectConfig) -> u64 {
    bytes(config, true)
}

fn bytes(config: &InjectConfig, full: bool) -> u64 {
    let hash = |elements: u64, each: u64| elements * (BUCKETS + if full { each } else { 0 });
    // An array, and a hash behind it.
    let both = |elements: u64, first: u32, each: u64, behind: u64| {
        let first = elements.min(first.into());
        first * each + hash(elements - first, behind)
    };
    let found = |elements: u64| hash(elements, HASHED) + elements * FREE;
    let settings = |routes| settings::Settings {
        map_size: config.map_size,
        detail: config.detail,
        routes,
        ..settings::Settings::default()
    };
    let series = u64::from(config.map_size);
    let latencies = u64::from(settings(config.routes).histograms());
    // Connections are not told apart by route.
    let handshakes = u64::from(settings(0).histograms());
    let routes = u64::from(config.routes);
    let connections = u64::from(config.connections);
    let http2 = u64::from(config.http2_connections).min(connections);
    FIXED
        + both(series, FIRST, MetricEntry::SIZE as u64, SERIES)
        + both(series, FIRST, RequestEntry::SIZE as u64, RESPONSES)
        + 2 * found(series)
        + both(
            latencies,
            FIRST_HISTOGRAMS,
            LatencyEntry::SIZE as u64,
            LATENCIES,
        )
        + found(latencies)
        + hash(handshakes + DNS, HANDSHAKE)
        + hash(EARLY_ENTRIES.into(), EARLY_PIECE)
        + connections * CONNECTION
        + found(connections)
        + both(http2, FIRST_HTTP2, HTTP2, MORE_HTTP2)
        + http2 * FREE
        + u64::from(config.perf_buffer_size)
        + RING
        + routes * RouteEntry::SIZE as u64
        + found(routes)
        + if routes > 0 { ROUTE_CACHE } else { 0 }
}
