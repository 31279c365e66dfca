//! The command line for operators, also `linkerd metricd …`.

use std::net::SocketAddr;

use anyhow::Result;
use clap::{Parser, Subcommand};
use metricd::options::Options;
use metricd::{logging, run};

/// Request metrics for every pod, collected in the kernel.
#[derive(Parser)]
#[command(name = "linkerd-metricd", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Observe this network namespace and serve its metrics, until stopped
    Run {
        #[command(flatten)]
        options: Options,

        /// Address to serve /metrics on; [::] takes IPv4 too
        #[arg(long, env = "METRICD_LISTEN", default_value = "[::]:4191")]
        listen: SocketAddr,
    },
}

fn main() -> Result<()> {
    let args = Args::parse();
    logging::start();
    match args.command {
        Command::Run { options, listen } => run::run(&options, listen),
    }
}
