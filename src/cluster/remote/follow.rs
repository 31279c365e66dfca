//! What the node's pod says, while it says so.

use std::ops::ControlFlow;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use futures_util::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::LogParams;
use kube::{Api, Client};
use tokio::time;

use super::{Errand, GRACE, LAST_WORDS, PAUSE, RemoteArgs, Stop, late, said, status};
use crate::cluster::client::{self, explain};

/// Seconds for the node's pod to end by itself, once it is told to.
const TO_END: u32 = 5;

/// Has the subcommand done to a pod `[namespace/]name` of the cluster, which ends there by itself
/// after `lifetime`, and hands each line that is said there to `take`, until that wants no more. An
/// interrupt ends it as it would there: last words are still heard.
///
/// # Errors
/// If the pod is not one of ours, the node's pod can't be made, does not start in time, or fails, or
/// its log breaks off.
pub fn follow(
    subcommand: &str,
    pod: &str,
    remote: &RemoteArgs,
    args: Vec<String>,
    lifetime: Duration,
    take: impl FnMut(&str) -> Result<ControlFlow<()>>,
) -> Result<()> {
    client::block_on(async {
        let config = remote.cluster.config().await?;
        // Lines come when there is something to say.
        let mut unhurried = config.clone();
        unhurried.read_timeout = None;
        let deadline = remote.wait + lifetime + GRACE;
        let errand = Errand::prepare(config, subcommand, pod, remote, args, deadline).await?;
        let home = errand.wanted.metadata.namespace.as_deref();
        let logs = Api::namespaced(Client::try_from(unhurried)?, home.unwrap_or_default());
        let listened = errand.listen(&logs, remote.wait, lifetime, take).await;
        listened.context(errand.title)
    })?
}

impl Errand {
    /// Creates the pod, listens to its end, and deletes it.
    async fn listen(
        &self,
        logs: &Api<Pod>,
        patience: Duration,
        lifetime: Duration,
        take: impl FnMut(&str) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let mut stop = Stop::new()?;
        let name = self.create().await?;
        let mut heard = pin!(async {
            started(&self.api, &name, patience).await?;
            match time::timeout(lifetime + GRACE, hear(logs, &name, take)).await {
                Ok(Ok(ControlFlow::Continue(()))) => ended(&self.api, &name).await,
                Ok(Ok(ControlFlow::Break(()))) => Ok(()),
                Ok(Err(e)) => Err(e),
                Err(_) => Err(anyhow!("the log of the node's pod {name} does not end")),
            }
        });
        let outcome = tokio::select! {
            outcome = &mut heard => outcome,
            _ = stop.told() => {
                self.delete(&name, TO_END).await;
                tokio::select! {
                    _ = time::timeout(LAST_WORDS, heard) => {}
                    _ = stop.told() => {}
                }
                Ok(())
            }
        };
        self.delete(&name, 0).await;
        outcome
    }
}

async fn started(api: &Api<Pod>, name: &str, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let status = status(api, name).await?;
        match status.phase.as_deref() {
            Some("Running" | "Succeeded" | "Failed") => return Ok(()),
            _ if Instant::now() < deadline => time::sleep(PAUSE).await,
            _ => return Err(late(name, "started", patience, &said("", &status))),
        }
    }
}

/// Hands on each line of the pod's log, until the log ends or nobody wants more.
async fn hear(
    logs: &Api<Pod>,
    name: &str,
    mut take: impl FnMut(&str) -> Result<ControlFlow<()>>,
) -> Result<ControlFlow<()>> {
    let params = LogParams {
        follow: true,
        ..LogParams::default()
    };
    let log = logs.log_stream(name, &params).await;
    let log = log.map_err(|e| anyhow!("read the log of the node's pod {name}: {}", explain(e)))?;
    let mut lines = log.lines();
    let broken = || format!("the log of the node's pod {name} broke off");
    while let Some(line) = lines.try_next().await.with_context(broken)? {
        if take(&line)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// How the pod ended, once its log has ended.
async fn ended(api: &Api<Pod>, name: &str) -> Result<()> {
    let deadline = Instant::now() + LAST_WORDS;
    loop {
        let status = status(api, name).await?;
        match status.phase.as_deref() {
            Some("Succeeded") => return Ok(()),
            Some("Failed") => bail!("the node's pod {name} failed: {}", why(&status)),
            _ if Instant::now() < deadline => time::sleep(PAUSE).await,
            _ => bail!("the log of the node's pod {name} ended, and the pod has not"),
        }
    }
}

fn why(status: &PodStatus) -> String {
    match status.reason {
        Some(_) => said("", status),
        None => "it has said why".into(),
    }
}
