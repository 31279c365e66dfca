//! One shot: attaches the programs to a network namespace and pins their maps.

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use anyhow::{Context, Result};
use clap::Parser;
use metricd::kernel::options::Options;
use metricd::kernel::sys;
use metricd::kernel::target::Target;
use metricd::lifecycle;
use metricd::logging;
use metricd::redirect;
use metricd::redirect::flags::Flags;

/// Attaches metricd's programs to the interfaces of a network namespace, and pins their maps for
/// metricd to read.
#[derive(Parser)]
#[command(name = "metricd-init", version)]
struct Args {
    #[command(flatten)]
    target: Target,

    #[command(flatten)]
    options: Options,

    #[command(flatten)]
    redirect: Flags,

    /// Take redirection away, and nothing else
    #[arg(long, env = "METRICD_REDIRECT_OFF", conflicts_with = "detach")]
    redirect_off: bool,

    /// Do nothing, successfully
    #[arg(long, env = "METRICD_DISABLE")]
    disable: bool,

    /// Detach what was attached, and remove the pins
    #[arg(long, env = "METRICD_DETACH")]
    detach: bool,

    /// End with success whatever happens, so that the pod starts; but not with --redirect-fallback drop
    #[arg(long, env = "METRICD_FAIL_OPEN")]
    fail_open: bool,
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) if error.use_stderr() && fails_open() => {
            let _ = error.print();
            return open(&error.to_string());
        }
        Err(error) => error.exit(),
    };
    logging::start();
    match run(&args) {
        Ok(lines) => {
            lines.iter().for_each(|line| tracing::info!("{line}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{error:#}");
            // Who has connections wait for the proxy does not want them to go straight.
            if args.fail_open && !args.redirect.drops() {
                let reason = format!("{error:#}");
                if let Err(error) = lifecycle::say_failure(&args.options, &reason) {
                    tracing::warn!("the sidecar will not know: {error:#}");
                }
                open(&reason)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// Whether to fail open, as far as that can be told when the flags make no sense.
fn fails_open() -> bool {
    env::var("METRICD_FAIL_OPEN").is_ok_and(|value| value == "true")
        || env::args().any(|arg| arg == "--fail-open")
}

/// Ends with success, and one line for who looks after the pod.
fn open(reason: &str) -> ExitCode {
    // Kubernetes shows this file as the container's last state; elsewhere there is no such file.
    let log = Path::new("/dev/termination-log");
    if log.exists() {
        let line = reason.lines().next().unwrap_or_default();
        let _ = fs::write(log, format!("metricd-init: {line}\n"));
    }
    ExitCode::SUCCESS
}

fn run(args: &Args) -> Result<Vec<String>> {
    if args.disable {
        return Ok(vec!["disabled".into()]);
    }
    args.target.enter()?;
    let pin_dir = &args.options.pin_dir;
    let redirect = args.redirect.wanted(args.options.wanted.proxy_uid)?;
    let lines = if args.detach {
        lifecycle::detach(pin_dir)?
    } else if args.redirect_off {
        redirect::detach(pin_dir)?
    } else {
        let mut lines = lifecycle::attach(&args.options)?;
        if let Some(config) = redirect {
            lines.extend(redirect::attach(&args.options, &config)?);
        }
        lines
    };
    // What is left to do takes no right.
    sys::drop_capabilities().context("give up all capabilities")?;
    Ok(lines)
}
