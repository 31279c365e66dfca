//! What an operator has done to a pod while it runs: on its node, or from anywhere through the
//! cluster.

use anyhow::Result;
use clap::Args;

use crate::cluster::remote::{self, RemoteArgs};
use crate::kernel::options::Options;
use crate::kernel::target::NodeTarget;
use crate::lifecycle;

/// What to do to a pod.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    Upgrade,
    Resize,
    Detach,
}

/// Which pod, and how.
#[derive(Args, Clone, Debug)]
pub struct WorkArgs {
    /// Pod of the cluster, on whichever node: a short-lived privileged pod does it there
    #[arg(value_name = "[NAMESPACE/]POD", conflicts_with_all = ["netns", "pid", "pod"])]
    cluster_pod: Option<String>,

    #[command(flatten)]
    target: NodeTarget,

    #[command(flatten)]
    pub remote: RemoteArgs,

    #[command(flatten)]
    options: Options,
}

impl Work {
    /// The subcommand.
    pub fn name(self) -> &'static str {
        match self {
            Self::Upgrade => "upgrade",
            Self::Resize => "resize",
            Self::Detach => "detach",
        }
    }

    /// Does the work, here or through the cluster. Returns what there is to say.
    ///
    /// # Errors
    /// If the pod can't be reached, or what [`crate::lifecycle`] or [`remote::run`] does fails.
    pub fn run(self, args: WorkArgs) -> Result<Vec<String>> {
        if let Some(pod) = &args.cluster_pod {
            self.check(&args.options)?;
            let said = remote::run(self.name(), pod, &args.remote, &args.options)?;
            return Ok(said.lines().map(str::to_owned).collect());
        }
        let options = args.target.enter(args.options)?;
        match self {
            Self::Upgrade => lifecycle::upgrade(&options),
            Self::Resize => lifecycle::resize(&options),
            Self::Detach => lifecycle::detach(&options.pin_dir),
        }
    }

    /// What can be told before a pod is made.
    fn check(self, options: &Options) -> Result<()> {
        options.wanted.settle(None)?;
        match self {
            Self::Resize => lifecycle::check_resize(options),
            _ => Ok(()),
        }
    }
}
