//! The command line for operators, also `linkerd metricd …`.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use clap_complete::Shell;
use metricd::cli::extension::{self, VersionOptions};
use metricd::cli::run;
use metricd::cli::tap::{self, TapArgs};
use metricd::cli::view::{diagnose, stat, top};
use metricd::cli::work::{Work, WorkArgs};
use metricd::cluster::check;
use metricd::cluster::inject::InjectConfig;
use metricd::cluster::inject::manifests::{self, Change};
use metricd::cluster::install;
use metricd::kernel::gc;
use metricd::kernel::options::Options;
use metricd::kernel::target::NodeTarget;
use metricd::logging;
use metricd::read::history::{SHOW_IDLE, show_idle};
use metricd::redirect;
use metricd::sidecar;

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

        /// File that a proxy here records its requests in, by the library
        #[arg(long, env = "METRICD_L7_FILE", value_name = "FILE")]
        l7_file: Option<PathBuf>,

        /// How long to show a series that does not change, which comes back when it does; 0 is for ever
        #[arg(long, env = "METRICD_SHOW_IDLE", value_name = "DURATION", default_value = SHOW_IDLE, value_parser = show_idle)]
        show_idle: Duration,

        /// Address to serve /metrics on; [::] takes IPv4 too
        #[arg(long, env = "METRICD_LISTEN", default_value_t = sidecar::LISTEN)]
        listen: SocketAddr,
    },
    /// Put this version's programs in the place of those that run, without losing a count
    Upgrade(WorkArgs),
    /// The same with maps of another size: name it by --map-size
    Resize(WorkArgs),
    /// Show requests as they happen, until stopped: as root on the pod's node, or through the cluster
    Tap(TapArgs),
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
    Detach(WorkArgs),
    /// Show success, rates and latencies by server port and peer
    ///
    /// SUCCESS is the share of requests that were answered without error, among all that were answered
    /// with a known status or were aborted. An error is an HTTP status from 500 on or, as Linkerd has
    /// it, gRPC's UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE or DATA_LOSS. ABORTED are requests
    /// that never got their whole response, but for streams that their client has ended by design and
    /// requests that were lost from sight. Latencies are estimated from histograms as Prometheus does;
    /// that of an aborted request is how long it had waited.
    Stat(stat::Options),
    /// The same, live on the terminal
    Top(top::Options),
    /// Say whether every request was counted, and if not, what explains the gap
    ///
    /// Looks at the counters of what was lost, and compares with what a proxy in the pod has counted,
    /// if it records by the library. Ends with status 1 if something is missing.
    Diagnose(diagnose::Options),
    /// Say what redirects connections in a pod or network namespace: none, ebpf or iptables
    Redirection {
        #[command(flatten)]
        target: NodeTarget,

        #[command(flatten)]
        options: Options,
    },
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
        // What kube_client says of requests that fail is in our errors, and would be in the midst
        // of top's screen.
        "info,kube_client=off"
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
            Command::Stat(options) => options.source.cluster.verbose,
            Command::Top(options) => options.source.cluster.verbose,
            Command::Diagnose(options) => options.source.cluster.verbose,
            Command::Tap(args) => args.remote.cluster.verbose,
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
        Command::Run {
            options,
            l7_file,
            show_idle,
            listen,
        } => {
            run::run(&options, l7_file, show_idle, listen)?;
            Vec::new()
        }
        Command::Redirection { target, options } => {
            let options = target.enter(options)?;
            let lines = redirect::status(&options.pin_dir)?;
            print(&(lines.join("\n") + "\n"))?;
            Vec::new()
        }
        Command::Install(flags) => {
            print(&install::install(&flags)?)?;
            Vec::new()
        }
        Command::Uninstall(namespace) => {
            print(&install::uninstall(&namespace)?)?;
            Vec::new()
        }
        Command::Upgrade(args) => Work::Upgrade.run(args)?,
        Command::Resize(args) => Work::Resize.run(args)?,
        Command::Detach(args) => Work::Detach.run(args)?,
        Command::Tap(args) => {
            tap::run(&args)?;
            Vec::new()
        }
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
        } => {
            change(&files, &Change::Annotate)?;
            Vec::new()
        }
        Command::Inject {
            files,
            config,
            image,
            ..
        } => {
            let config = InjectConfig::with_image(config.as_deref(), image)?;
            change(&files, &Change::Inject(Box::new(config)))?;
            Vec::new()
        }
        Command::Uninject { files } => {
            change(&files, &Change::Uninject)?;
            Vec::new()
        }
        Command::Stat(options) => {
            print(&stat::run(&options)?)?;
            Vec::new()
        }
        Command::Top(options) => {
            top::run(&options)?;
            Vec::new()
        }
        Command::Diagnose(options) => {
            let (text, whole) = diagnose::run(&options)?;
            print(&text)?;
            return Ok(whole);
        }
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
    say(&lines);
    Ok(true)
}

fn change(files: &[PathBuf], change: &Change) -> Result<()> {
    let (manifests, report) = manifests::change_files(files, change)?;
    eprint!("{report}");
    print(&manifests)
}

fn say(lines: &[String]) {
    lines.iter().for_each(|line| tracing::info!("{line}"));
}

/// Prints a text. Whoever reads the output may have enough before the end, as `head` does.
fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("write to standard output")
        }
        _ => Ok(()),
    }
}
