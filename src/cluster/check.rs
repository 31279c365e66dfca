//! `linkerd-metricd check`: whether it can work here, or does on a cluster.

mod certificate;
mod cluster;
mod data_plane;
mod machine;
mod report;

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use tokio::time;

use crate::cluster::client::{self, ClusterArgs};
use crate::duration::duration;
pub use report::Output;
use report::{Problem, Report};

/// How long to wait before a check that did not succeed yet is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// What to check. The flags are those that Linkerd asks of extensions (EXTENSIONS.md of linkerd2).
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Only whether it can be installed
    #[arg(long)]
    pre: bool,

    /// Whether this machine can do it: as root, on a node. Without --pre or --proxy, that alone
    #[arg(long)]
    ebpf: bool,

    /// Also whether the sidecars in pods do their work
    #[arg(long)]
    proxy: bool,

    /// How long to wait for what may still come up
    #[arg(long, value_name = "DURATION", default_value = "5m0s", value_parser = duration)]
    wait: Duration,

    /// Namespace whose pods --proxy is about [default: all]
    #[arg(long, short)]
    namespace: Option<String>,

    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,

    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Runs the checks, and writes what they have found. Returns whether none has failed.
///
/// # Errors
/// If the flags exclude each other, or nothing can be written.
pub fn run(options: &Options, out: &mut dyn Write, color: bool) -> Result<bool> {
    if options.pre && options.proxy {
        bail!("--pre and --proxy flags are mutually exclusive");
    }
    let mut report = Report::new(out, options.output, color);
    let mut line = None;
    if options.ebpf {
        machine::check(&mut report);
        line = Some(match report.success() {
            true => "eBPF metrics: OK",
            false => "eBPF metrics: not possible here",
        });
    }
    let more = options.proxy || (options.pre && options.cluster.is_configured());
    if !options.ebpf || more {
        client::block_on(cluster::check(&mut report, options))?;
    }
    Ok(report.finish(line)?)
}

/// Runs a check again and again, until it succeeds or time is up.
async fn until<T>(
    deadline: Instant,
    mut attempt: impl AsyncFnMut() -> Result<T, Problem>,
) -> Result<T, Problem> {
    let mut told = false;
    loop {
        match attempt().await {
            Err(Problem::Error(reason)) if Instant::now() + PAUSE < deadline => {
                if !told {
                    tracing::info!("waiting: {reason}");
                    told = true;
                }
                time::sleep(PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

/// A sentence and a list, as Linkerd's checks have it.
fn listing(sentence: &str, items: &[String]) -> String {
    const SHOWN: usize = 20;
    let mut text = format!("{sentence}:");
    for item in items.iter().take(SHOWN) {
        text += &format!("\n\t* {item}");
    }
    if items.len() > SHOWN {
        text += &format!("\n\tand {} more", items.len() - SHOWN);
    }
    text
}
