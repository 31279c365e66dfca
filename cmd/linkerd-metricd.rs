//! The command line for operators, also `linkerd metricd …`.

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use clap_complete::Shell;
use metricd::extension::{self, VersionOptions};
use metricd::options::Options;
use metricd::work::{Work, WorkArgs};
use metricd::{check, gc, logging, run};

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
    /// Put this version's programs in the place of those that run, without losing a count
    Upgrade(WorkArgs),
    /// The same with maps of another size: name it by --map-size
    Resize(WorkArgs),
    /// Remove the pins of pods that are gone: for the node, as root in the host's namespaces
    Gc {
        /// Folder with a folder of pins for each pod
        #[arg(
            long,
            env = "METRICD_PIN_ROOT",
            value_name = "DIR",
            default_value = "/sys/fs/bpf/linkerd-metricd"
        )]
        pin_root: PathBuf,

        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
    },
    /// Detach what was attached, and remove the pins
    Detach(WorkArgs),
    /// Check whether it can work here, or does on a cluster
    Check(check::Options),
    /// Print the version of this command line, and of what is installed on the cluster
    Version(VersionOptions),
    /// Print what makes a shell complete this command line, as in `source <(linkerd-metricd
    /// completion bash)`
    Completion { shell: Shell },
    /// Tell the Linkerd CLI what this extension is
    #[command(name = "_extension-metadata", hide = true)]
    Metadata,
}

fn main() -> ExitCode {
    let args: Args = extension::parse(std::env::args_os());
    logging::start_at(if args.command.is_verbose() {
        "debug"
    } else {
        "info"
    });
    match execute(args.command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => logging::exit(Err(error)),
    }
}

impl Command {
    fn is_verbose(&self) -> bool {
        match self {
            Command::Check(options) => options.cluster.verbose,
            Command::Version(options) => options.cluster.verbose,
            Command::Upgrade(args) | Command::Resize(args) | Command::Detach(args) => {
                args.remote.cluster.verbose
            }
            _ => false,
        }
    }
}

/// Returns whether all is well; what is not has been said.
fn execute(command: Command) -> Result<bool> {
    let lines = match command {
        Command::Run { options, listen } => {
            run::run(&options, listen)?;
            Vec::new()
        }
        Command::Upgrade(args) => Work::Upgrade.run(args)?,
        Command::Resize(args) => Work::Resize.run(args)?,
        Command::Gc { pin_root, dry_run } => gc::collect(&pin_root, dry_run)?,
        Command::Detach(args) => Work::Detach.run(args)?,
        Command::Check(options) => {
            let mut out = io::stdout();
            let color = out.is_terminal();
            return check::run(&options, &mut out, color);
        }
        Command::Version(options) => {
            extension::version(&options)?;
            Vec::new()
        }
        Command::Completion { shell } => {
            extension::complete::<Args>(shell)?;
            Vec::new()
        }
        Command::Metadata => {
            println!("{}", extension::METADATA);
            Vec::new()
        }
    };
    lines.iter().for_each(|line| tracing::info!("{line}"));
    Ok(true)
}
