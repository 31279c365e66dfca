//! The webhook: puts metricd into pods as they are made.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Parser;
use metricd::cluster::inject;
use metricd::cluster::injector::{self, InjectorConfig};
use metricd::logging;
use metricd::web;

/// Answers a Kubernetes API server's reviews of pods (admission.k8s.io/v1), posted to /inject.
///
/// The API server is found by the pod's service account, or a kubeconfig. What is logged is for
/// METRICD_LOG, else RUST_LOG, to say (default: info).
#[derive(Parser)]
#[command(name = "metricd-injector", version)]
struct Args {
    /// YAML file that says what to inject; without it, defaults do
    #[arg(long, env = "METRICD_CONFIG")]
    config: Option<PathBuf>,

    /// The address for reviews, by TLS; [::] takes IPv4 too
    #[arg(long, env = "METRICD_LISTEN", default_value = "[::]:8443")]
    listen: SocketAddr,

    /// The address for /metrics, /ready and /live, by plain HTTP
    #[arg(long, env = "METRICD_ADMIN", default_value = "[::]:9990")]
    admin: SocketAddr,

    /// The folder with tls.crt and tls.key; when they are replaced, so is what is served
    #[arg(long, env = "METRICD_TLS_DIR", default_value = "/var/run/metricd/tls")]
    tls_dir: PathBuf,
}

fn main() -> ExitCode {
    let args = Args::parse();
    logging::start();
    logging::exit(serve(args))
}

fn serve(args: Args) -> Result<()> {
    let inject = match &args.config {
        Some(path) => inject::InjectConfig::read(path)?,
        None => inject::InjectConfig::default(),
    };
    let config = InjectorConfig {
        listen: args.listen,
        admin: args.admin,
        tls_dir: args.tls_dir,
        inject,
    };
    web::runtime()?.block_on(async { injector::serve(config, web::stop_signal()?).await })
}
