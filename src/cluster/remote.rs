//! Work on a pod from anywhere: by a privileged pod on its node, which runs `linkerd-metricd …
//! --pod` there, is waited for ([`run`]) or listened to ([`follow`]), and deleted whatever comes of it.

mod follow;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use k8s_openapi::api::core::v1::{LocalObjectReference, Pod, PodStatus};
use kube::api::{DeleteParams, LogParams, PostParams};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time;

use crate::cluster::client::{self, ClusterArgs, explain};
use crate::cluster::sidecars::{self, INIT};
use crate::duration::duration;
use crate::kernel::options::{Options, PIN_DIR};
use crate::kernel::target::LOGS;
pub use follow::follow;

/// How long to wait before the node's pod is looked at again.
const PAUSE: Duration = Duration::from_millis(500);
/// For what is still to be asked of the kubelet once the time is up, or the command was interrupted.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// The node's pod ends by itself, should nobody be left to delete it.
const GRACE: Duration = Duration::from_secs(60);

/// How to work on a pod of the cluster.
#[derive(Args, Clone, Debug)]
pub struct RemoteArgs {
    /// Namespace of the pod [default: the context's]
    #[arg(long, short, requires = "cluster_pod")]
    namespace: Option<String>,

    /// Image with linkerd-metricd, for the node's pod [default: the injector's]
    #[arg(long, requires = "cluster_pod")]
    image: Option<String>,

    /// How long it may take, with pulling the image; tap, to start
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "2m0s",
        value_parser = duration
    )]
    wait: Duration,

    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Has the subcommand done to a pod `[namespace/]name` of the cluster. Returns what was said there.
///
/// # Errors
/// If the pod is not one of ours, or the node's pod can't be made, fails or takes too long: with
/// what it has said.
pub fn run(subcommand: &str, pod: &str, remote: &RemoteArgs, options: &Options) -> Result<String> {
    client::block_on(async {
        let config = remote.cluster.config().await?;
        let args = options.to_args();
        let deadline = remote.wait + GRACE;
        let errand = Errand::prepare(config, subcommand, pod, remote, args, deadline).await?;
        errand.execute(remote.wait).await.context(errand.title)
    })?
}

/// The node's pod, before it is made.
struct Errand {
    api: Api<Pod>,
    wanted: Pod,
    /// What is done, to which pod, and where.
    title: String,
}

impl Errand {
    async fn prepare(
        config: Config,
        subcommand: &str,
        pod: &str,
        remote: &RemoteArgs,
        args: Vec<String>,
        deadline: Duration,
    ) -> Result<Self> {
        let (namespace, name) =
            sidecars::pod_name(pod, remote.namespace.as_deref(), &config.default_namespace)?;
        let client = Client::try_from(config)?;
        let node = node_of(&client, &namespace, &name).await?;
        let home = sidecars::namespaces(&client).await?;
        let home = home.into_iter().next().context(
            "no namespace has the label linkerd.io/extension=metricd, for the node's pod to be in: \
             linkerd-metricd install | kubectl apply -f -",
        )?;
        let (image, pull_secrets) = match &remote.image {
            Some(image) => (image.clone(), None),
            None => image(&client, &home).await?,
        };
        let mut words = vec![subcommand.to_owned(), format!("--pod={namespace}/{name}")];
        words.extend(args);
        let mut wanted = node_pod(subcommand, &node, &image, &words, deadline)?;
        wanted.metadata.namespace = Some(home.clone());
        if let Some(spec) = &mut wanted.spec {
            spec.image_pull_secrets = pull_secrets;
        }
        Ok(Self {
            api: Api::namespaced(client, &home),
            wanted,
            title: format!("{subcommand} {namespace}/{name} on node {node}"),
        })
    }

    /// Creates the pod, waits for its end and deletes it. Returns its log.
    async fn execute(&self, patience: Duration) -> Result<String> {
        // Taken before there is anything to delete.
        let mut stop = Stop::new()?;
        let name = self.create().await?;
        let outcome = tokio::select! {
            outcome = watch(&self.api, &name, patience) => outcome,
            how = stop.told() => Err(anyhow!(how)),
        };
        self.delete(&name, 0).await;
        outcome
    }

    /// Creates the node's pod. Returns the pod's name.
    async fn create(&self) -> Result<String> {
        let created = self.api.create(&PostParams::default(), &self.wanted).await;
        let created = created.map_err(|e| anyhow!("create the node's pod: {}", explain(e)))?;
        Ok(created.name_any())
    }

    /// Ends the node's pod by SIGTERM, and after `grace` seconds for good.
    async fn delete(&self, name: &str, grace: u32) {
        let params = DeleteParams::default().grace_period(grace);
        match time::timeout(LAST_WORDS, self.api.delete(name, &params)).await {
            Ok(Ok(_)) => {}
            // Somebody else has deleted the pod.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => {}
            Ok(Err(e)) => tracing::warn!("pod {name} is left behind: {}", explain(e)),
            Err(_) => tracing::warn!("pod {name} is left behind: the API server does not answer"),
        }
    }
}

/// What tells a command to stop, which then has a pod to delete.
struct Stop {
    terminated: Signal,
    interrupted: Signal,
    hung_up: Signal,
}

impl Stop {
    fn new() -> Result<Self> {
        Ok(Self {
            terminated: signal(SignalKind::terminate())?,
            interrupted: signal(SignalKind::interrupt())?,
            hung_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits until the command is told to stop. Returns how it was told.
    async fn told(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminated.recv() => "terminated",
            _ = self.interrupted.recv() => "interrupted",
            _ = self.hung_up.recv() => "the terminal is gone",
        }
    }
}

/// The node of a pod that has our init container.
async fn node_of(client: &Client, namespace: &str, name: &str) -> Result<String> {
    let pod = Api::<Pod>::namespaced(client.clone(), namespace)
        .get(name)
        .await;
    let pod = pod.map_err(|e| anyhow!("get pod {namespace}/{name}: {}", explain(e)))?;
    let spec = pod.spec.unwrap_or_default();
    let mut init = spec.init_containers.iter().flatten();
    if !init.any(|container| container.name == INIT) {
        bail!(
            "pod {namespace}/{name} has no container {INIT}: it was not injected, annotate it \
             (metricd.linkerd.io/inject: enabled) and start it anew"
        );
    }
    spec.node_name
        .with_context(|| format!("pod {namespace}/{name} is on no node yet"))
}

/// What the injector runs, and what it takes to pull that.
async fn image(client: &Client, home: &str) -> Result<(String, Option<Vec<LocalObjectReference>>)> {
    let webhook = sidecars::webhooks(client, home).await?;
    let webhook = webhook.into_iter().next();
    let webhook = webhook.context("no webhook leads to the injector: name the image by --image")?;
    let pods = webhook.pods(client).await?;
    let mut images = pods.into_iter().filter_map(|pod| {
        let spec = pod.spec?;
        let container = spec.containers.into_iter().next()?;
        Some((container.image?, spec.image_pull_secrets))
    });
    let image = images.next();
    image.context("the injector's pods tell no image: name it by --image")
}

/// The node's pod. It sees the node's processes, to find the pod's network namespace, and the
/// node's bpffs.
fn node_pod(
    subcommand: &str,
    node: &str,
    image: &str,
    args: &[String],
    deadline: Duration,
) -> Result<Pod> {
    let folder = |path: &str| json!({"path": path, "type": "Directory"});
    Ok(serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": format!("linkerd-metricd-{subcommand}-"),
            "labels": {"app.kubernetes.io/name": "linkerd-metricd", "app.kubernetes.io/component": "node"},
            "annotations": {
                "metricd.linkerd.io/inject": "disabled",
                "linkerd.io/inject": "disabled",
            },
        },
        "spec": {
            "nodeName": node,
            "hostPID": true,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": deadline.as_secs(),
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{
                "name": "linkerd-metricd",
                "image": image,
                "command": ["/linkerd-metricd"],
                "args": args,
                "securityContext": {"privileged": true, "runAsUser": 0, "runAsNonRoot": false},
                "volumeMounts": [
                    {"name": "bpf", "mountPath": PIN_DIR},
                    {"name": "logs", "mountPath": LOGS, "readOnly": true},
                ],
            }],
            "volumes": [
                {"name": "bpf", "hostPath": folder(PIN_DIR)},
                {"name": "logs", "hostPath": folder(LOGS)},
            ],
        },
    }))?)
}

async fn watch(api: &Api<Pod>, name: &str, patience: Duration) -> Result<String> {
    let deadline = Instant::now() + patience;
    loop {
        let status = status(api, name).await?;
        let done = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        if !done && Instant::now() < deadline {
            time::sleep(PAUSE).await;
            continue;
        }
        let log = time::timeout(LAST_WORDS, api.logs(name, &LogParams::default())).await;
        let log = match log {
            Ok(Ok(log)) => log.trim_end().to_owned(),
            _ => String::new(),
        };
        return match status.phase.as_deref() {
            Some("Succeeded") => Ok(log),
            Some("Failed") => Err(anyhow!("{}", said(&log, &status))),
            _ => Err(late(name, "done", patience, &said(&log, &status))),
        };
    }
}

async fn status(api: &Api<Pod>, name: &str) -> Result<PodStatus> {
    let pod = api.get(name).await;
    let pod = pod.map_err(|e| anyhow!("look at the node's pod {name}: {}", explain(e)))?;
    Ok(pod.status.unwrap_or_default())
}

fn late(name: &str, what: &str, patience: Duration, why: &str) -> anyhow::Error {
    let seconds = i64::try_from(patience.as_secs()).unwrap_or(i64::MAX);
    let patience = jiff::SignedDuration::from_secs(seconds);
    anyhow!("the node's pod {name} was not {what} within {patience}: {why}")
}

/// Why the node's pod failed, as far as that is known.
fn said(log: &str, status: &PodStatus) -> String {
    let container = status.container_statuses.iter().flatten().next();
    let state = container.and_then(|container| container.state.as_ref());
    let waiting = state.and_then(|state| state.waiting.as_ref());
    let waiting = waiting.map(|w| [w.reason.clone(), w.message.clone()]);
    let whole = [status.reason.clone(), status.message.clone()];
    let mut words: Vec<String> = waiting
        .into_iter()
        .flatten()
        .chain(whole)
        .flatten()
        .collect();
    if !log.is_empty() {
        words.push(log.to_owned());
    }
    match words.is_empty() {
        true => format!("it is {}", status.phase.as_deref().unwrap_or("not started")),
        false => words.join(": "),
    }
}
