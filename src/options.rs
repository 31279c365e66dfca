//! The flags that say how to observe, shared by `metricd-init` and `linkerd-metricd run`.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::abi::BUCKETS;

/// What a series keeps of who talks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[repr(u8)]
pub enum Detail {
    /// The direction, the protocol and the server's port.
    Pod = 0,
    /// Also both addresses.
    Service = 1,
    /// Also the client's port, and the peer in histograms.
    Full = 2,
}

/// How the programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// TCX where the kernel has it (6.6), else clsact.
    Auto,
    Tcx,
    Clsact,
}

/// How to observe.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Interface to attach to, repeatable [default: every one that is up, but lo]
    #[arg(
        long = "interface",
        env = "METRICD_INTERFACE",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub interfaces: Vec<String>,

    /// Folder on a bpffs for the pinned maps, programs and iterators
    #[arg(
        long,
        env = "METRICD_PIN_DIR",
        value_name = "DIR",
        default_value = "/sys/fs/bpf"
    )]
    pub pin_dir: PathBuf,

    /// Series that are kept apart; what does not fit is added up under `other`
    #[arg(
        long,
        env = "METRICD_MAP_SIZE",
        value_name = "ENTRIES",
        default_value = "16384"
    )]
    pub map_size: NonZeroU32,

    /// Connections followed at a time (about 0.5 KB each)
    #[arg(
        long,
        env = "METRICD_CONNECTIONS",
        value_name = "N",
        default_value = "8192"
    )]
    pub connections: NonZeroU32,

    /// Of these, connections that speak HTTP/2 (about 4.7 KB each)
    #[arg(
        long,
        env = "METRICD_HTTP2_CONNECTIONS",
        value_name = "N",
        default_value = "512"
    )]
    pub http2_connections: NonZeroU32,

    /// Tell up to N routes apart: gRPC methods, and paths with {id} for what looks like one; the
    /// rest is `other`
    #[arg(
        long,
        env = "METRICD_ROUTES",
        value_name = "N",
        default_value_t = 0,
        value_parser = clap::value_parser!(u32).range(..=i64::from(crate::abi::route::MAX))
    )]
    pub routes: u32,

    /// What a series keeps of who talks to whom
    #[arg(
        long,
        env = "METRICD_DETAIL",
        value_enum,
        default_value_t = Detail::Service
    )]
    pub detail: Detail,

    /// Look into IPv6 packets; if not, they are counted in one series
    #[arg(long, env = "METRICD_IPV6", action = clap::ArgAction::Set, default_value_t = true)]
    pub ipv6: bool,

    /// Upper bounds of the histograms' buckets in seconds, ascending, at most 31
    #[arg(
        long,
        env = "METRICD_BUCKETS",
        value_name = "SECONDS",
        value_delimiter = ',',
        default_values_t = DEFAULT_BUCKETS
    )]
    pub buckets: Vec<f64>,

    /// Attach by this way only
    #[arg(long, env = "METRICD_ATTACH", value_enum, default_value_t = Way::Auto)]
    pub attach: Way,

    /// Group that may read the iterators: the sidecar's
    #[arg(
        long,
        env = "METRICD_READER_GID",
        value_name = "GID",
        default_value_t = 65534
    )]
    pub reader_gid: u32,
}

/// 100 µs to 60 s; Prometheus' own default bounds are among them.
pub const DEFAULT_BUCKETS: [f64; 18] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0, 60.0,
];

/// From here on the memory that `--map-size` takes is worth a warning.
pub const LARGE_MAP: u32 = 1_048_576;

/// A TCP connection silent for longer is closed as idle when the table is swept.
pub const IDLE_TCP: Duration = Duration::from_secs(2 * 3600);
/// The same for other protocols, and for TCP before the handshake has ended.
pub const IDLE_OTHER: Duration = Duration::from_secs(60);

impl Options {
    /// The bounds in nanoseconds, padded with `u64::MAX`, and how many of them are set.
    ///
    /// # Errors
    /// If there are none or more than 31, or they do not ascend from above zero.
    pub fn bounds_ns(&self) -> Result<([u64; BUCKETS], u32)> {
        let n = self.buckets.len();
        if n == 0 || n >= BUCKETS {
            bail!(
                "--buckets: {n} bounds given, 1 to {} are possible",
                BUCKETS - 1
            );
        }
        let mut bounds = [u64::MAX; BUCKETS];
        for (i, &seconds) in self.buckets.iter().enumerate() {
            let ns = (seconds * 1e9).round();
            if !(1.0..1e18).contains(&ns) || (i > 0 && ns as u64 <= bounds[i - 1]) {
                bail!("--buckets: {seconds} is not above the bound before it, give them ascending");
            }
            bounds[i] = ns as u64;
        }
        Ok((bounds, n as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn parse(args: &[&str]) -> Options {
        Cli::parse_from([&["test"], args].concat()).options
    }

    #[test]
    fn default_bounds_are_exact_nanoseconds() {
        let (bounds, n) = parse(&[]).bounds_ns().unwrap();
        assert_eq!(n, 18);
        assert_eq!(bounds[0], 100_000);
        assert_eq!(bounds[17], 60_000_000_000);
        assert_eq!(bounds[18], u64::MAX);
    }

    #[test]
    fn bounds_must_ascend() {
        for bad in ["0.1,0.1", "0.2,0.1", "0", "-1", "nan"] {
            let arg = format!("--buckets={bad}");
            assert!(parse(&[&arg]).bounds_ns().is_err(), "{bad}");
        }
    }

    #[test]
    fn too_many_bounds_are_refused() {
        let many: Vec<String> = (1..=32).map(|i| i.to_string()).collect();
        let arg = format!("--buckets={}", many.join(","));
        assert!(parse(&[&arg]).bounds_ns().is_err());
    }
}
