//! Loading the object: configured, its maps sized and filled, not yet pinned nor attached.

use std::fs;
use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::Once;

use anyhow::{Context, Result, bail};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, OpenObject, PrintLevel, ProgramAttachType, set_print};

use crate::abi::{
    HandshakeKey, HandshakeValue, Info, LAYOUT_VERSION, LatencyEntry, Layout, MetricEntry,
    MetricKey, RequestEntry, STATUS_OTHER, STATUS_REQUESTS, series_kind,
};
use crate::options::{IDLE_OTHER, IDLE_TCP, LARGE_MAP, Options};
use crate::skel::{MetricdSkel, MetricdSkelBuilder};

/// Histograms that are kept apart unless `--detail full` keeps them by peer: more server ports and
/// statuses than a pod has.
const HISTOGRAMS: u32 = 1024;

/// Paths whose route is remembered.
const ROUTE_CACHE: u32 = 4096;

/// Directions of connections whose bytes can be kept at a time until those before them come: 132 KB
/// each.
const EARLY: u32 = 16;

/// The loopback's index in every network namespace (LOOPBACK_IFINDEX of linux/net_namespace.h).
pub const LOOPBACK: u32 = 1;

/// Sends what libbpf prints to the log.
pub fn log_libbpf() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        set_print(Some((PrintLevel::Debug, |level, line| {
            let line = line.trim_end();
            match level {
                // libbpf warns of what is tried and may fail; our errors say what was meant.
                PrintLevel::Warn | PrintLevel::Info => tracing::debug!("{line}"),
                PrintLevel::Debug => tracing::trace!("{line}"),
            }
        })));
    });
}

/// Says what this kernel lacks.
///
/// # Errors
/// If it is older than 5.10, or was built without BTF.
pub fn check_kernel() -> Result<()> {
    let release =
        fs::read_to_string("/proc/sys/kernel/osrelease").context("read the kernel's release")?;
    let mut numbers = release.split(['.', '-']).map(|n| n.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < (5, 10) {
        bail!(
            "kernel {} is too old, 5.10 or later is needed",
            release.trim()
        );
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        bail!(
            "kernel {} has no BTF: it must be built with CONFIG_DEBUG_INFO_BTF=y",
            release.trim()
        );
    }
    Ok(())
}

/// Loads programs and maps. `loopback` is the index of the interface on which both ends of every
/// connection are local, or 0; outside of tests it is [`LOOPBACK`].
///
/// # Errors
/// If the options make no sense, or the kernel refuses: with what to do about it.
pub fn load<'a>(
    object: &'a mut MaybeUninit<OpenObject>,
    options: &Options,
    loopback: u32,
) -> Result<MetricdSkel<'a>> {
    log_libbpf();
    let (bounds_ns, bounds) = options.bounds_ns()?;
    let metrics = options.map_size.get();
    let connections = options.connections.get();
    let http2 = options.http2_connections.get().min(connections);
    // Half empty, so that few connections share a place.
    let cache = connections
        .saturating_mul(2)
        .checked_next_power_of_two()
        .unwrap_or(1 << 31);
    if metrics > LARGE_MAP {
        let entry = MetricEntry::SIZE + RequestEntry::SIZE;
        let mib = (u64::from(metrics) * entry as u64) >> 20;
        tracing::warn!("a map of {metrics} entries takes {mib} MiB");
    }
    let routes = options.routes;
    let histograms = match options.detail {
        crate::options::Detail::Full => metrics.max(HISTOGRAMS),
        _ => HISTOGRAMS,
    };
    // Two statuses of each route, with `other` and `unknown`.
    let histograms = histograms.saturating_add(2 * routes);

    let mut open = MetricdSkelBuilder::default()
        .open(object)
        .context("open the BPF object")?;
    let rodata = open
        .maps
        .rodata_data
        .as_deref_mut()
        .context("the BPF object has no configuration")?;
    let config = &mut rodata.config;
    config.bounds_ns = bounds_ns;
    config.idle_tcp_ns = IDLE_TCP.as_nanos() as u64;
    config.idle_other_ns = IDLE_OTHER.as_nanos() as u64;
    config.connections = connections;
    config.cache_mask = cache - 1;
    config.routes = routes;
    config.loopback_ifindex = loopback;
    config.detail = options.detail as u8;
    config.ipv6 = u8::from(options.ipv6);
    config.ordered = u8::from(cfg!(target_arch = "x86_64"));

    let maps = &mut open.maps;
    // One more than asked for, where there is an element for `other`.
    maps.linkerd_metrics_map
        .set_max_entries(metrics.saturating_add(1))?;
    maps.linkerd_metrics_index_map.set_max_entries(metrics)?;
    maps.linkerd_metrics_free_map.set_max_entries(metrics)?;
    maps.linkerd_requests_map
        .set_max_entries(metrics.saturating_add(2))?;
    maps.linkerd_requests_index_map.set_max_entries(metrics)?;
    maps.linkerd_requests_free_map.set_max_entries(metrics)?;
    maps.linkerd_latency_map
        .set_max_entries(histograms.saturating_add(1))?;
    maps.linkerd_latency_index_map.set_max_entries(histograms)?;
    maps.linkerd_latency_free_map.set_max_entries(histograms)?;
    maps.linkerd_handshake_map
        .set_max_entries(histograms.saturating_add(1))?;
    maps.linkerd_connection_map.set_max_entries(connections)?;
    maps.linkerd_connection_index_map
        .set_max_entries(connections)?;
    maps.linkerd_connection_free_map
        .set_max_entries(connections)?;
    maps.linkerd_connection_cache_map.set_max_entries(cache)?;
    maps.linkerd_http2_map.set_max_entries(http2)?;
    maps.linkerd_http2_free_map.set_max_entries(http2)?;
    maps.linkerd_route_map.set_max_entries(routes + 1)?;
    maps.linkerd_route_index_map
        .set_max_entries(routes.max(1))?;
    maps.linkerd_route_free_map.set_max_entries(routes.max(1))?;
    maps.linkerd_route_cache_map
        .set_max_entries(if routes > 0 { ROUTE_CACHE } else { 1 })?;
    maps.linkerd_early_map.set_max_entries(EARLY)?;
    maps.linkerd_early_free_map.set_max_entries(EARLY)?;
    // TCX wants the attach type at load; clsact and kernels without TCX don't look at it.
    open.progs
        .linkerd_ingress
        .set_attach_type(ProgramAttachType::TcxIngress);
    open.progs
        .linkerd_egress
        .set_attach_type(ProgramAttachType::TcxEgress);

    let skel = open.load().context(
        "load the BPF programs (needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, before 5.11 also \
         CAP_SYS_RESOURCE for the maps' memory, and a seccomp profile that allows bpf())",
    )?;
    let maps = &skel.maps;
    fill(&maps.linkerd_connection_free_map, 0..connections)?;
    fill(&maps.linkerd_http2_free_map, 0..http2)?;
    fill(&maps.linkerd_early_free_map, 0..EARLY)?;
    fill(&maps.linkerd_metrics_free_map, 1..=metrics)?;
    fill(&maps.linkerd_requests_free_map, 2..=metrics + 1)?;
    fill(&maps.linkerd_route_free_map, 1..=routes)?;
    fill(&maps.linkerd_latency_free_map, 1..=histograms)?;
    let other = MetricKey {
        kind: series_kind::OTHER,
        ..MetricKey::default()
    };
    let series = MetricEntry {
        key: other,
        ..MetricEntry::default()
    };
    put(&maps.linkerd_metrics_map, &0u32, &series)?;
    let mut requests = RequestEntry::default();
    requests.key.series = other;
    requests.key.status = STATUS_OTHER;
    put(&maps.linkerd_requests_map, &0u32, &requests)?;
    requests.key.status = STATUS_REQUESTS;
    put(&maps.linkerd_requests_map, &1u32, &requests)?;
    let mut latency = LatencyEntry::default();
    latency.key.kind = series_kind::OTHER;
    put(&maps.linkerd_latency_map, &0u32, &latency)?;
    put(
        &maps.linkerd_handshake_map,
        &HandshakeKey {
            kind: series_kind::OTHER,
            ..HandshakeKey::default()
        },
        &HandshakeValue::default(),
    )?;
    let mut version = [0; 32];
    let name = env!("CARGO_PKG_VERSION").as_bytes();
    version[..name.len()].copy_from_slice(name);
    let info = Info {
        layout: LAYOUT_VERSION,
        detail: options.detail as u32,
        metrics_capacity: metrics,
        requests_capacity: metrics,
        latency_capacity: histograms,
        handshake_capacity: histograms,
        connections_capacity: connections,
        http2_capacity: http2,
        bounds,
        bounds_ns,
        version,
        routes,
    };
    put(&maps.linkerd_info_map, &0u32, &info)?;
    Ok(skel)
}

/// Writes an entry, for instance the one for what does not fit, so that there is always room for it.
fn put<K: Layout, V: Layout>(map: &impl MapCore, key: &K, value: &V) -> Result<()> {
    map.update(&key.to_bytes(), &value.to_bytes(), MapFlags::ANY)
        .with_context(|| format!("write into {}", map.name().to_string_lossy()))
}

/// Fills a free list.
fn fill(list: &impl MapCore, elements: impl Iterator<Item = u32>) -> Result<()> {
    for element in elements {
        list.update(&[], &element.to_ne_bytes(), MapFlags::ANY)
            .with_context(|| format!("fill {}", list.name().to_string_lossy()))?;
    }
    Ok(())
}
