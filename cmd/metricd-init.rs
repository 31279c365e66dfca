//! One shot: attaches the programs to a network namespace and pins their maps.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use metricd::options::Options;
use metricd::{init, logging, netns};

/// Attaches metricd's programs to the interfaces of a network namespace, and pins their maps for
/// metricd to read.
#[derive(Parser)]
#[command(name = "metricd-init", version)]
struct Args {
    /// Network namespace to enter [default: the one it runs in]
    #[arg(
        long,
        env = "METRICD_NETNS",
        value_name = "PATH",
        conflicts_with = "pid"
    )]
    netns: Option<PathBuf>,

    /// Process whose network namespace to enter
    #[arg(long, env = "METRICD_PID")]
    pid: Option<u32>,

    #[command(flatten)]
    options: Options,

    /// Do nothing, successfully
    #[arg(long, env = "METRICD_DISABLE")]
    disable: bool,

    /// Detach what was attached, and remove the pins
    #[arg(long, env = "METRICD_DETACH")]
    detach: bool,

    /// End with success whatever happens, so that the pod starts
    #[arg(long, env = "METRICD_FAIL_OPEN")]
    fail_open: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    logging::start();
    match run(&args) {
        Ok(lines) => {
            lines.iter().for_each(|line| tracing::info!("{line}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{error:#}");
            if !args.fail_open {
                return ExitCode::FAILURE;
            }
            // Kubernetes shows it as the container's last state; elsewhere there is no such file.
            let log = Path::new("/dev/termination-log");
            if log.exists() {
                let _ = fs::write(log, format!("metricd-init: {error:#}\n"));
            }
            ExitCode::SUCCESS
        }
    }
}

fn run(args: &Args) -> Result<Vec<String>> {
    if args.disable {
        return Ok(vec!["disabled".into()]);
    }
    if let Some(path) = args.netns.clone().or(args.pid.map(netns::of_pid)) {
        netns::enter(&path)?;
    }
    if args.detach {
        init::detach(&args.options.pin_dir)
    } else {
        init::attach(&args.options)
    }
}
