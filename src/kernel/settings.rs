//! What maps and programs are made by.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::abi::{BUCKETS, Info, detail};

/// The port of servers of DNS, as IANA has it.
pub const DEFAULT_DNS_PORTS: [u16; 1] = [53];

/// Servers of DNS that are told apart: more than a pod has, unless it is a resolver.
pub const DNS_SERVERS: u32 = 64;

/// What a series keeps of who talks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Detail {
    /// The direction, the protocol and the server's port.
    Pod = 0,
    /// Also both addresses.
    Service = 1,
    /// Also the client's port, and the peer in histograms.
    Full = 2,
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Pod => "pod",
            Self::Service => "service",
            Self::Full => "full",
        })
    }
}

/// What can be asked of the maps. What is not given stays as it is where the programs run
/// already; elsewhere it has its default.
#[derive(Args, Clone, Debug, Default)]
pub struct Wanted {
    /// Series that are kept apart; what does not fit is added up under `other` [default: 16384]
    #[arg(
        long,
        env = "METRICD_MAP_SIZE",
        value_name = "ENTRIES",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_MAP))
    )]
    pub map_size: Option<u32>,

    /// Connections followed at a time (about 0.6 KB each) [default: 4096]
    #[arg(long, env = "METRICD_CONNECTIONS", value_name = "N")]
    pub connections: Option<NonZeroU32>,

    /// Of these, connections that speak HTTP/2 (about 5.4 KB each) [default: 512]
    #[arg(long, env = "METRICD_HTTP2_CONNECTIONS", value_name = "N")]
    pub http2_connections: Option<NonZeroU32>,

    /// Tell up to N routes apart: gRPC methods, and paths with {id} for what looks like one; the
    /// rest is `other` [default: 0]
    #[arg(
        long,
        env = "METRICD_ROUTES",
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(..=i64::from(crate::abi::route::MAX))
    )]
    pub routes: Option<u32>,

    /// Bytes of the ring buffer through which `linkerd-metricd tap` gets its events: a power of two,
    /// of which a page is the least [default: 4096]
    #[arg(
        long,
        env = "METRICD_PERF_BUFFER_SIZE",
        value_name = "BYTES",
        value_parser = perf_buffer_size
    )]
    pub perf_buffer_size: Option<u32>,

    /// What a series keeps of who talks to whom [default: service]
    #[arg(long, env = "METRICD_DETAIL", value_enum)]
    pub detail: Option<Detail>,

    /// Look into IPv6 packets; if not, they are counted in one series [default: true]
    #[arg(long, env = "METRICD_IPV6", action = clap::ArgAction::Set)]
    pub ipv6: Option<bool>,

    /// Upper bounds of the histograms' buckets in seconds, ascending, at most 31 [default: 18 from
    /// 100 µs to 60 s]
    #[arg(
        long,
        env = "METRICD_BUCKETS",
        value_name = "SECONDS",
        value_delimiter = ','
    )]
    pub buckets: Option<Vec<f64>>,

    /// Ports of servers of DNS, over UDP and TCP, at most 4 [default: 53]
    #[arg(
        long,
        env = "METRICD_DNS_PORTS",
        value_name = "PORTS",
        value_delimiter = ',',
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    pub dns_ports: Option<Vec<u16>>,

    /// The user that the pod's proxy runs as: requests that go through the proxy are counted once, as
    /// the application has them, on lo, which is attached to then
    #[arg(
        long,
        env = "METRICD_PROXY_UID",
        value_name = "UID",
        value_parser = clap::value_parser!(u32).range(..i64::from(u32::MAX))
    )]
    pub proxy_uid: Option<u32>,
}

/// Histograms that are kept apart unless `--detail full` keeps them by peer: more server ports and
/// statuses than a pod has.
const HISTOGRAMS: u32 = 1024;

/// 100 µs to 60 s; Prometheus' own default bounds are among them.
pub const DEFAULT_BUCKETS: [f64; 18] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0, 60.0,
];

/// The default size of the ring buffer in bytes: the least that there can be, on most machines.
const PERF_BUFFER: u32 = 4096;

/// Parses the size of a ring buffer in bytes, if the kernel's can have that size.
fn perf_buffer_size(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(size @ PERF_BUFFER..=0x4000_0000) if u32::is_power_of_two(size) => Ok(size),
        _ => Err(format!(
            "not a power of two from {PERF_BUFFER} to {}",
            1 << 30
        )),
    }
}

/// From here on the memory that `--map-size` takes is worth a warning.
pub const LARGE_MAP: u32 = 1_048_576;

/// A TCP connection silent for longer is closed as idle when the table is swept. That is more than the two
/// hours after which keep-alive probes begin and the four minutes until one is through: RFC 5382, REQ-5.
pub const IDLE_TCP: Duration = Duration::from_secs((2 * 60 + 5) * 60);
/// A connection of another protocol, or of TCP before the handshake has ended, that is silent for
/// longer is closed as idle when the table is swept.
pub const IDLE_OTHER: Duration = Duration::from_secs(60);

/// The most series there can be: their numbers share 32 bits with the epoch.
pub const MAX_MAP: u32 = (1 << 24) - 4;

/// What the programs and maps are made by: [`Wanted`], settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many series are kept apart.
    pub map_size: u32,
    pub connections: u32,
    pub http2_connections: u32,
    pub routes: u32,
    /// The size of the ring buffer in bytes, a power of two.
    pub perf_buffer_size: u32,
    pub detail: Detail,
    pub ipv6: bool,
    /// The ports of servers of DNS: four of 16 bits, 0 is none.
    pub dns_ports: u64,
    /// The user that the pod's proxy runs as, if there is a proxy.
    pub proxy_uid: Option<u32>,
    /// Upper bounds of the histograms' buckets in nanoseconds, padded with `u64::MAX`.
    pub bounds_ns: [u64; BUCKETS],
    /// How many of [`Settings::bounds_ns`] are set.
    pub bounds: u32,
}

impl Wanted {
    /// What is wanted, else what runs, else the default.
    ///
    /// # Errors
    /// If the bounds or the ports make no sense.
    pub fn settle(&self, running: Option<&Info>) -> Result<Settings> {
        let before = running.map_or_else(Settings::default, Settings::of);
        let (bounds_ns, bounds) = match &self.buckets {
            Some(buckets) => bounds_ns(buckets)?,
            None => (before.bounds_ns, before.bounds),
        };
        let connections = self.connections.map_or(before.connections, u32::from);
        let http2 = self.http2_connections.map(u32::from);
        Ok(Settings {
            map_size: self.map_size.unwrap_or(before.map_size),
            connections,
            http2_connections: http2.unwrap_or(before.http2_connections).min(connections),
            routes: self.routes.unwrap_or(before.routes),
            perf_buffer_size: self.perf_buffer_size.unwrap_or(before.perf_buffer_size),
            detail: self.detail.unwrap_or(before.detail),
            ipv6: self.ipv6.unwrap_or(before.ipv6),
            dns_ports: match &self.dns_ports {
                Some(ports) => dns_ports(ports)?,
                None => before.dns_ports,
            },
            proxy_uid: self.proxy_uid.or(before.proxy_uid),
            bounds_ns,
            bounds,
        })
    }
}

impl Default for Settings {
    fn default() -> Self {
        let (bounds_ns, bounds) = bounds_ns(&DEFAULT_BUCKETS).expect("they ascend");
        Self {
            map_size: 16384,
            connections: 4096,
            http2_connections: 512,
            routes: 0,
            perf_buffer_size: PERF_BUFFER,
            detail: Detail::Service,
            ipv6: true,
            dns_ports: dns_ports(&DEFAULT_DNS_PORTS).expect("they are few"),
            proxy_uid: None,
            bounds_ns,
            bounds,
        }
    }
}

impl Settings {
    /// The settings that maps were made by.
    pub fn of(info: &Info) -> Self {
        Self {
            map_size: info.metrics_capacity,
            connections: info.connections_capacity,
            http2_connections: info.http2_capacity,
            routes: info.routes,
            // The size is 0 in an earlier layout, which had none.
            perf_buffer_size: match info.perf_buffer_size {
                0 => PERF_BUFFER,
                size => size,
            },
            detail: match info.detail {
                detail::POD => Detail::Pod,
                detail::FULL => Detail::Full,
                _ => Detail::Service,
            },
            ipv6: info.ipv6 != 0,
            // There are none in an earlier layout, which knew but one.
            dns_ports: match info.dns_ports {
                0 => Self::default().dns_ports,
                ports => ports,
            },
            proxy_uid: info.proxy_user.checked_sub(1),
            bounds_ns: info.bounds_ns,
            bounds: info.bounds,
        }
    }

    /// Histograms that are kept apart, of which two statuses of each route, with `other` and
    /// `unknown`.
    pub fn histograms(&self) -> u32 {
        let series = match self.detail {
            Detail::Full => self.map_size.max(HISTOGRAMS),
            _ => HISTOGRAMS,
        };
        series + 2 * self.routes
    }

    /// Whether maps made by these settings can be filled by programs with `other` settings.
    pub fn same_maps(&self, other: &Self) -> bool {
        *self
            == Self {
                ipv6: self.ipv6,
                dns_ports: self.dns_ports,
                proxy_uid: self.proxy_uid,
                ..other.clone()
            }
    }

    /// What the info map tells a reader of these settings.
    pub fn info(&self) -> Info {
        Info {
            detail: self.detail as u32,
            ipv6: u32::from(self.ipv6),
            proxy_user: self.proxy_uid.map_or(0, |uid| uid + 1),
            metrics_capacity: self.map_size,
            requests_capacity: self.map_size,
            latency_capacity: self.histograms(),
            handshake_capacity: self.histograms(),
            connections_capacity: self.connections,
            http2_capacity: self.http2_connections,
            bounds: self.bounds,
            bounds_ns: self.bounds_ns,
            routes: self.routes,
            perf_buffer_size: self.perf_buffer_size,
            dns_capacity: DNS_SERVERS,
            dns_ports: self.dns_ports,
            ..Info::current()
        }
    }
}

/// The ports as the programs have them.
fn dns_ports(ports: &[u16]) -> Result<u64> {
    if ports.is_empty() || ports.len() > 4 || ports.contains(&0) {
        bail!("--dns-ports: give 1 to 4 ports from 1 to 65535");
    }
    let packed = ports.iter().rev();
    Ok(packed.fold(0, |all, port| all << 16 | u64::from(*port)))
}

/// The bounds in nanoseconds, padded with `u64::MAX`, and how many of them are set.
fn bounds_ns(buckets: &[f64]) -> Result<([u64; BUCKETS], u32)> {
    let n = buckets.len();
    if n == 0 || n >= BUCKETS {
        bail!(
            "--buckets: {n} bounds given, 1 to {} are possible",
            BUCKETS - 1
        );
    }
    let mut bounds = [u64::MAX; BUCKETS];
    for (i, &seconds) in buckets.iter().enumerate() {
        let ns = (seconds * 1e9).round();
        if !(1.0..1e18).contains(&ns) || (i > 0 && ns as u64 <= bounds[i - 1]) {
            bail!("--buckets: {seconds} is not above the bound before it, give them ascending");
        }
        bounds[i] = ns as u64;
    }
    Ok((bounds, n as u32))
}
