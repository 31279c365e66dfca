//! The command line for operators, also `linkerd metricd …`.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use metricd::inject::Config;
use metricd::inject::manifests::{self, Change};
use metricd::options::Options;
use metricd::target::NodeTarget;
use metricd::{gc, init, install, logging, run};

/// Request metrics for every pod, collected in the kernel.
#[derive(Parser)]
#[command(name = "linkerd-metricd", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print what `kubectl apply -f -` takes to install it in a cluster
    Install(install::Flags),
    /// Print what `kubectl delete -f -` takes to remove it again; injected pods go on
    Uninstall(install::Namespace),
    /// Observe this network namespace and serve its metrics, until stopped
    Run {
        #[command(flatten)]
        options: Options,

        /// Address to serve /metrics on; [::] takes IPv4 too
        #[arg(long, env = "METRICD_LISTEN", default_value = "[::]:4191")]
        listen: SocketAddr,
    },
    /// Put this version's programs in the place of those that run, without losing a count
    Upgrade {
        #[command(flatten)]
        target: NodeTarget,

        #[command(flatten)]
        options: Options,
    },
    /// The same with maps of another size: name it by --map-size
    Resize {
        #[command(flatten)]
        target: NodeTarget,

        #[command(flatten)]
        options: Options,
    },
    /// Ask for metricd in the pods of manifests: kubectl get deploy -o yaml | linkerd-metricd inject
    /// - | kubectl apply -f -
    ///
    /// Adds the annotation metricd.linkerd.io/inject: enabled, for the webhook to see. With
    /// --manual, it adds the containers themselves, and no webhook is needed. Documents without pods
    /// go through as they are. What was done is reported on standard error.
    Inject {
        /// YAML files; - is standard input
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,

        /// Add the containers rather than the annotation
        #[arg(long)]
        manual: bool,

        /// With --manual, the installation's settings, as the injector has them
        #[arg(long, value_name = "FILE", requires = "manual")]
        config: Option<PathBuf>,

        /// With --manual, the image of the containers
        #[arg(long, requires = "manual")]
        image: Option<String>,
    },
    /// Take out of manifests what inject has put in: the containers, else the annotation
    Uninject {
        /// YAML files; - is standard input
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
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

        /// Do so again and again, until stopped
        #[arg(long, env = "METRICD_GC_EVERY", value_name = "SECONDS")]
        every: Option<NonZeroU64>,
    },
    /// Detach what was attached, and remove the pins
    Detach {
        #[command(flatten)]
        target: NodeTarget,

        #[command(flatten)]
        options: Options,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    logging::start();
    logging::exit(execute(args.command))
}

fn execute(command: Command) -> Result<()> {
    let lines = match command {
        Command::Run { options, listen } => return run::run(&options, listen),
        Command::Install(flags) => return print(&install::install(&flags)?),
        Command::Uninstall(namespace) => return print(&install::uninstall(&namespace)?),
        Command::Upgrade { target, options } => init::upgrade(&target.enter(options)?)?,
        Command::Resize { target, options } => init::resize(&target.enter(options)?)?,
        Command::Gc {
            pin_root,
            dry_run,
            every,
        } => loop {
            let lines = gc::collect(&pin_root, dry_run)?;
            let Some(seconds) = every else {
                break lines;
            };
            say(&lines);
            thread::sleep(Duration::from_secs(seconds.get()));
        },
        Command::Inject {
            files,
            manual: false,
            ..
        } => return change(&files, &Change::Annotate),
        Command::Inject {
            files,
            config,
            image,
            ..
        } => {
            let config = Config::with_image(config.as_deref(), image)?;
            return change(&files, &Change::Inject(Box::new(config)));
        }
        Command::Uninject { files } => return change(&files, &Change::Uninject),
        Command::Detach { target, options } => init::detach(&target.enter(options)?.pin_dir)?,
    };
    say(&lines);
    Ok(())
}

fn change(files: &[PathBuf], change: &Change) -> Result<()> {
    let (manifests, report) = manifests::change_files(files, change)?;
    eprint!("{report}");
    print(&manifests)
}

fn say(lines: &[String]) {
    lines.iter().for_each(|line| tracing::info!("{line}"));
}

/// Whoever reads it may have enough before the end, as `head` does.
fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("write to standard output")
        }
        _ => Ok(()),
    }
}
