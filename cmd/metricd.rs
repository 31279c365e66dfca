//! The sidecar: sleeps until it is scraped, reads the pinned maps and answers.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Parser;
use metricd::kernel::options::{PIN_DIR, ReadBy};
use metricd::kernel::pin_dir::PinDir;
use metricd::logging;
use metricd::read::history::{SHOW_IDLE, show_idle};
use metricd::sidecar::{self, SidecarConfig};
use metricd::web;

/// Serves the metrics of this pod's network, which metricd-init set up, to Prometheus.
///
/// METRICD_POD_NAME, METRICD_POD_NAMESPACE and METRICD_POD_OWNER, if set, are shown as
/// linkerd_ebpf_pod_info. What is logged is for METRICD_LOG, else RUST_LOG, to say (default: info).
#[derive(Parser)]
#[command(name = "metricd", version)]
struct Args {
    /// The directory with the pinned maps
    #[arg(long, env = "METRICD_PIN_DIR", default_value = PIN_DIR)]
    pin_dir: PinDir,

    /// How the maps are read: by iterators where metricd-init has pinned them, else as text
    #[arg(long, env = "METRICD_READ", value_enum, default_value_t = ReadBy::Auto)]
    read: ReadBy,

    /// The file that this pod's proxy records its requests in, by the library
    #[arg(long, env = "METRICD_L7_FILE", value_name = "FILE")]
    l7_file: Option<PathBuf>,

    /// How long to show a series that does not change, which comes back when it does; 0 is for ever
    #[arg(long, env = "METRICD_SHOW_IDLE", value_name = "DURATION", default_value = SHOW_IDLE, value_parser = show_idle)]
    show_idle: Duration,

    /// The address to serve /metrics on; [::] takes IPv4 too
    #[arg(long, env = "METRICD_LISTEN", default_value_t = sidecar::LISTEN)]
    listen: SocketAddr,
}

fn main() -> ExitCode {
    let args = Args::parse();
    logging::start();
    let config = SidecarConfig {
        pin_dir: args.pin_dir,
        read: args.read,
        l7_file: args.l7_file,
        show_idle: args.show_idle,
        listen: args.listen,
    };
    logging::exit(serve(config))
}

fn serve(config: SidecarConfig) -> Result<()> {
    web::runtime()?.block_on(async { sidecar::serve(config, web::stop_signal()?).await })
}
