//! Loading the object: configured, its maps sized and filled, not yet pinned nor attached.

use std::fs;
use std::mem::MaybeUninit;
use std::sync::Once;

use anyhow::{Context, Result};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, OpenObject, PrintLevel, ProgramAttachType, set_print};
use nix::unistd::{SysconfVar, sysconf};

use crate::abi::{
    DnsKey, DnsValue, HandshakeKey, HandshakeValue, LatencyEntry, Layout, MetricKey, RequestEntry,
    STATUS_OTHER, STATUS_REQUESTS, constants, key_check, series_kind,
};
use crate::kernel::maps::{EPOCH_MAPS, STATE_MAPS, pin_name};
use crate::kernel::pin_dir::{EpochDir, PinDir};
use crate::kernel::settings::{DNS_SERVERS, IDLE_OTHER, IDLE_TCP, Settings};
use crate::skel::{MetricdSkel, MetricdSkelBuilder};

/// Paths whose route is remembered.
pub const ROUTE_CACHE: u32 = 4096;
/// Paths that are remembered until an answer proves them.
pub const ROUTE_CANDIDATES: u32 = 1024;

/// Directions of connections whose bytes can be kept at a time until those before them come.
const EARLY: u32 = 16;
/// Pieces in which the early bytes of one direction are kept.
const EARLY_PIECES: u32 = constants::EARLY_PIECES as u32;
/// Pieces for early bytes in all.
pub const EARLY_ENTRIES: u32 = EARLY * EARLY_PIECES;

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

/// Elements for series, and for series by status: most pods have no more. Memory for these is taken
/// at once, for further ones as they come.
pub const FIRST: u32 = 512;
/// Elements with histograms for which memory is taken at once.
pub const FIRST_HISTOGRAMS: u32 = 128;
/// Connections that speak HTTP/2 for which memory is taken at once.
pub const FIRST_HTTP2: u32 = 64;

/// How many entries a map has; `None` if the BPF object says how many.
fn entries(map: &str, settings: &Settings) -> Option<u32> {
    let histograms = settings.histograms();
    let routes = settings.routes;
    Some(match map {
        // One more than asked for, where there is an element for `other`.
        "linkerd_metrics_map" => FIRST.min(settings.map_size + 1),
        "linkerd_metrics_more_map" => behind(FIRST, settings.map_size + 1),
        "linkerd_metrics_index_map" | "linkerd_metrics_free_map" => settings.map_size,
        "linkerd_requests_map" => FIRST.min(settings.map_size + 2),
        "linkerd_requests_more_map" => behind(FIRST, settings.map_size + 2),
        "linkerd_requests_index_map" | "linkerd_requests_free_map" => settings.map_size,
        "linkerd_dns_map" => DNS_SERVERS + 1,
        "linkerd_latency_map" => FIRST_HISTOGRAMS.min(histograms + 1),
        "linkerd_latency_more_map" => behind(FIRST_HISTOGRAMS, histograms + 1),
        "linkerd_handshake_map" => histograms + 1,
        "linkerd_latency_index_map" | "linkerd_latency_free_map" => histograms,
        "linkerd_connection_map" | "linkerd_connection_free_map" => settings.connections,
        "linkerd_half_open_map" | "linkerd_flow_map" => share(settings.connections),
        // Beside a proxy connections on the loopback have two keys.
        "linkerd_connection_index_map" => {
            settings.connections << u32::from(settings.proxy_uid.is_some())
        }
        "linkerd_connection_cache_map" => cache(settings.connections),
        "linkerd_http2_map" => FIRST_HTTP2.min(settings.http2_connections),
        "linkerd_http2_more_map" => behind(FIRST_HTTP2, settings.http2_connections),
        "linkerd_http2_free_map" => settings.http2_connections,
        "linkerd_early_map" | "linkerd_early_free_map" => EARLY,
        "linkerd_early_bytes_map" => EARLY_ENTRIES,
        "linkerd_route_map" => routes + 1,
        "linkerd_route_index_map" | "linkerd_route_free_map" => routes.max(1),
        "linkerd_route_cache_map" if routes > 0 => ROUTE_CACHE,
        "linkerd_route_candidate_map" if routes > 0 => ROUTE_CANDIDATES,
        "linkerd_perf_map" => whole_pages(settings.perf_buffer_size),
        _ => return None,
    })
}

/// How many slots of connections those may take at most that have not opened, and how many flows of
/// other protocols than TCP may take.
pub fn share(connections: u32) -> u32 {
    (connections / 4).max(1)
}

/// Entries of the map behind an array of `first` entries, for `all` entries in all: at least one,
/// as the kernel takes no map without entries.
fn behind(first: u32, all: u32) -> u32 {
    all.saturating_sub(first).max(1)
}

/// The size of a ring buffer in bytes: the kernel takes powers of two that fill pages.
fn whole_pages(bytes: u32) -> u32 {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    bytes.max(page.unwrap_or(4096) as u32)
}

/// Places in the cache of connections: a power of two, and at least twice as many, so that few
/// connections share a place.
fn cache(connections: u32) -> u32 {
    connections
        .saturating_mul(2)
        .checked_next_power_of_two()
        .unwrap_or(1 << 31)
}

/// The ports that sockets of this network namespace get that ask for none (ip(7),
/// `ip_local_port_range`), or Linux's default where that is not readable.
fn client_ports() -> (u16, u16) {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let parsed = range.ok().and_then(|range| {
        let mut ports = range.split_whitespace().map(|port| port.parse().ok());
        Some((ports.next()??, ports.next()??))
    });
    parsed.unwrap_or((32768, 60999))
}

/// How many CPUs can be told apart by their numbers, of which not all need be there.
fn cpus() -> Result<u32> {
    let path = "/sys/devices/system/cpu/possible";
    let possible = fs::read_to_string(path).with_context(|| {
        format!("read how many CPUs there can be from {path}: is /sys mounted?")
    })?;
    highest(&possible)
        .map(|highest| highest + 1)
        .with_context(|| format!("{path} says {possible:?}, which is no list of CPUs"))
}

/// The highest number of a list in the kernel's form, as `0-3,8`.
fn highest(list: &str) -> Option<u32> {
    list.trim().rsplit(['-', ',']).next()?.parse().ok()
}

/// Whether this machine's atomic additions are full barriers: see bpf/CONCURRENCY.md.
pub const ORDERED: bool = cfg!(target_arch = "x86_64");

/// What programs are loaded for.
pub struct Plan<'a> {
    pub settings: &'a Settings,
    /// The index of the interface on which both ends of every connection are local, or 0; outside
    /// of tests it is [`crate::kernel::hook::LOOPBACK`].
    pub loopback: u32,
    /// Whether an atomic add is a full barrier; outside of tests [`ORDERED`].
    pub ordered: bool,
    /// The epoch of the maps that the programs fill.
    pub epoch: u32,
    /// Where [`STATE_MAPS`] are pinned, to be used rather than made.
    pub state: Option<&'a PinDir>,
    /// Where [`EPOCH_MAPS`] are pinned, to be used rather than made.
    pub exported: Option<&'a EpochDir>,
}

/// Loads programs, and the maps that the plan does not have.
///
/// # Errors
/// If the kernel refuses: with what to do about it.
pub fn load<'a>(object: &'a mut MaybeUninit<OpenObject>, plan: &Plan) -> Result<MetricdSkel<'a>> {
    log_libbpf();
    let settings = plan.settings;
    let mut open = MetricdSkelBuilder::default()
        .open(object)
        .context("open the BPF object")?;
    let rodata = open
        .maps
        .rodata_data
        .as_deref_mut()
        .context("the BPF object has no configuration")?;
    let config = &mut rodata.config;
    config.bounds_ns = settings.bounds_ns;
    config.idle_tcp_ns = IDLE_TCP.as_nanos() as u64;
    config.idle_other_ns = IDLE_OTHER.as_nanos() as u64;
    config.dns_ports = settings.dns_ports;
    config.connections = settings.connections;
    config.cache_mask = cache(settings.connections) - 1;
    config.routes = settings.routes;
    config.loopback_ifindex = plan.loopback;
    config.epoch = plan.epoch;
    (config.client_ports_low, config.client_ports_high) = client_ports();
    config.detail = settings.detail as u8;
    config.ipv6 = u8::from(settings.ipv6);
    config.mesh = u8::from(settings.proxy_uid.is_some());
    config.proxy_uid = settings.proxy_uid.unwrap_or(0);
    config.ordered = u8::from(plan.ordered);
    open.maps
        .linkerd_scratch_map
        .set_max_entries(cpus()?)
        .context("size linkerd_scratch_map")?;
    for mut map in open.open_object_mut().maps_mut() {
        let name = pin_name(&map.name().to_string_lossy()).to_owned();
        let pinned = if STATE_MAPS.contains(&name.as_str()) {
            plan.state.map(|dir| dir.map_path(&name))
        } else if EPOCH_MAPS.contains(&name.as_str()) {
            plan.exported.map(|epoch| epoch.map_path(&name))
        } else {
            None
        };
        if let Some(path) = pinned {
            map.reuse_pinned_map(&path)
                .with_context(|| format!("take over the pinned map {}", path.display()))?;
        } else if let Some(entries) = entries(&name, settings) {
            map.set_max_entries(entries)
                .with_context(|| format!("size {name}"))?;
        }
    }
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
    if plan.state.is_none() {
        prepare_state(&skel, settings)?;
    }
    if plan.exported.is_none() {
        prepare_epoch(&skel, settings)?;
    }
    Ok(skel)
}

fn prepare_state(skel: &MetricdSkel, settings: &Settings) -> Result<()> {
    let maps = &skel.maps;
    fill(&maps.linkerd_connection_free_map, 0..settings.connections)?;
    // These free lists are stacks: the lowest number is to come first.
    fill(
        &maps.linkerd_http2_free_map,
        (0..settings.http2_connections).rev(),
    )?;
    fill(&maps.linkerd_early_free_map, (0..EARLY).rev())?;
    fill(&maps.linkerd_route_free_map, 1..=settings.routes)
}

fn prepare_epoch(skel: &MetricdSkel, settings: &Settings) -> Result<()> {
    let maps = &skel.maps;
    fill(&maps.linkerd_metrics_free_map, 1..=settings.map_size)?;
    fill(&maps.linkerd_requests_free_map, 2..=settings.map_size + 1)?;
    fill(&maps.linkerd_latency_free_map, 1..=settings.histograms())?;
    let other = MetricKey {
        kind: series_kind::OTHER,
        ..MetricKey::default()
    };
    put_series(&maps.linkerd_metrics_map, &other)?;
    for (number, status) in [(0u32, STATUS_OTHER), (1, STATUS_REQUESTS)] {
        let mut requests = RequestEntry::default();
        requests.key.series = other;
        requests.key.status = status;
        requests.check = key_check(&requests.key.to_bytes());
        put(&maps.linkerd_requests_map, &number, &requests)?;
    }
    let mut latency = LatencyEntry::default();
    latency.key.kind = series_kind::OTHER;
    latency.check = key_check(&latency.key.to_bytes());
    put(&maps.linkerd_latency_map, &0u32, &latency)?;
    put(
        &maps.linkerd_handshake_map,
        &HandshakeKey {
            kind: series_kind::OTHER,
            ..HandshakeKey::default()
        },
        &HandshakeValue::default(),
    )?;
    let dns = DnsKey {
        kind: series_kind::OTHER,
        ..DnsKey::default()
    };
    put(&maps.linkerd_dns_map, &dns, &DnsValue::default())?;
    put(&maps.linkerd_info_map, &0u32, &settings.info())
}

/// Writes an entry, for instance the one for what does not fit, so that there is always room for it.
fn put<K: Layout, V: Layout>(map: &impl MapCore, key: &K, value: &V) -> Result<()> {
    write(map, &key.to_bytes(), &value.to_bytes())
}

fn write(map: &impl MapCore, key: &[u8], value: &[u8]) -> Result<()> {
    map.update(key, value, MapFlags::ANY)
        .with_context(|| format!("write into {}", map.name().to_string_lossy()))
}

/// Writes the first series, of this key and without counts. Its check is the last word of the element,
/// also in a layout whose values are longer.
fn put_series(map: &impl MapCore, key: &MetricKey) -> Result<()> {
    let check = key_check(&key.to_bytes()).to_bytes();
    let mut series = key.to_bytes();
    series.resize(map.value_size() as usize - check.len(), 0);
    series.extend(check);
    write(map, &0u32.to_bytes(), &series)
}

/// Fills a free list.
fn fill(list: &impl MapCore, elements: impl Iterator<Item = u32>) -> Result<()> {
    for element in elements {
        list.update(&[], &element.to_ne_bytes(), MapFlags::ANY)
            .with_context(|| format!("fill {}", list.name().to_string_lossy()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_of_a_list() {
        assert_eq!(highest("0\n"), Some(0));
        assert_eq!(highest("0-63\n"), Some(63));
        assert_eq!(highest("0,2-3"), Some(3));
        assert_eq!(highest("0-3,8"), Some(8));
        assert_eq!(highest(""), None);
    }
}
