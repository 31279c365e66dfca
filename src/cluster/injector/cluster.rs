//! What the injector knows of its cluster: namespaces, and what the server's version implies.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use futures_util::StreamExt;
use k8s_openapi::{api::core::v1, apimachinery::pkg::version::Info};
use kube::{
    Api, Client, Config, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store},
        watcher,
        watcher::Event,
    },
};
use tokio::time;

use super::metrics::Metrics;
use crate::cluster::inject::Namespace;

type Meta = PartialObjectMeta<v1::Namespace>;

/// For a namespace that the watch has not brought yet. An API server waits for us three seconds.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two attempts at asking for the server's version, and two askings.
const VERSION_RETRY: Duration = Duration::from_secs(3);
const VERSION_REFRESH: Duration = Duration::from_secs(600);

/// The first server all of whose kubelets have sidecars among the init containers. Kubernetes has
/// them by default since 1.29, but a kubelet may be three versions older than its server (version
/// skew policy), and one before 1.29 would wait for the sidecar's end and never start the pod.
const NATIVE_SIDECARS: (u32, u32) = (1, 32);

/// A view of the cluster that is kept up to date.
pub struct Cluster {
    client: Client,
    metrics: Arc<Metrics>,
    namespaces: Store<Meta>,
    state: Mutex<State>,
}

struct State {
    /// What keeps the namespaces from being known, as long as they are not.
    unsynced: Option<String>,
    /// Major and minor, or why they are not known.
    version: Result<(u32, u32), String>,
}

/// What is known of a namespace.
pub enum Known {
    Yes(Namespace),
    /// The server says there is no such namespace.
    No,
    /// The server could not be asked.
    Unknown,
}

impl Cluster {
    /// Begins to watch.
    ///
    /// # Errors
    ///
    /// If there is nothing that tells where the API server is.
    pub async fn start(metrics: Arc<Metrics>) -> Result<Arc<Self>> {
        let config = Config::infer().await.context(
            "find the API server: neither a kubeconfig (KUBECONFIG, ~/.kube/config) nor a pod's \
             service account",
        )?;
        tracing::info!(api_server = %config.cluster_url, "watching namespaces");
        let client = Client::try_from(config).context("prepare to ask the API server")?;
        let (namespaces, writer) = reflector::store();
        let cluster = Arc::new(Self {
            client,
            metrics,
            namespaces,
            state: Mutex::new(State {
                unsynced: Some("not listed yet".into()),
                version: Err("not known yet".into()),
            }),
        });
        tokio::spawn(cluster.clone().watch(writer));
        tokio::spawn(cluster.clone().follow_version());
        Ok(cluster)
    }

    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Whether every node can have sidecars among the init containers, as far as is known.
    pub fn native_sidecars(&self) -> bool {
        let version = &self.state.lock().unwrap().version;
        version.as_ref().is_ok_and(|it| *it >= NATIVE_SIDECARS)
    }

    /// Whether all is known that answers need.
    ///
    /// # Errors
    ///
    /// What is not known, and why.
    pub fn ready(&self) -> Result<()> {
        let state = self.state.lock().unwrap();
        if let Some(problem) = &state.unsynced {
            return Err(anyhow!("namespaces: {problem}"));
        }
        if let Err(problem) = &state.version {
            return Err(anyhow!("the API server's version: {problem}"));
        }
        Ok(())
    }

    /// A namespace by its name. One that the watch has not brought is asked for.
    pub async fn namespace(&self, name: &str) -> Known {
        if let Some(meta) = self.namespaces.get(&ObjectRef::new(name)) {
            return Known::Yes(namespace(&meta));
        }
        let api = Api::<Meta>::all(self.client());
        let problem = match time::timeout(LOOKUP_TIMEOUT, api.get_opt(name)).await {
            Ok(Ok(Some(meta))) => return Known::Yes(namespace(&meta)),
            Ok(Ok(None)) => return Known::No,
            Ok(Err(error)) => format!("{:#}", anyhow!(error)),
            Err(_) => format!("no answer within {} s", LOOKUP_TIMEOUT.as_secs()),
        };
        self.metrics.api_error("get namespace");
        tracing::warn!("get namespace {name}: {problem}");
        Known::Unknown
    }

    async fn watch(self: Arc<Self>, writer: reflector::store::Writer<Meta>) {
        let api = Api::<Meta>::all(self.client());
        let stream = watcher(api, watcher::Config::default())
            .default_backoff()
            .modify(|meta| meta.managed_fields_mut().clear())
            .reflect(writer);
        let mut stream = pin!(stream);
        while let Some(event) = stream.next().await {
            match event {
                Ok(Event::InitDone) => {
                    let before = self.state.lock().unwrap().unsynced.take();
                    if before.is_some() {
                        tracing::info!(namespaces = self.namespaces.len(), "namespaces known");
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    let problem = format!("{:#}", anyhow!(error));
                    tracing::warn!("watch namespaces: {problem}");
                    self.metrics.api_error("watch namespaces");
                    if let Some(unsynced) = &mut self.state.lock().unwrap().unsynced {
                        *unsynced = problem;
                    }
                }
            }
        }
    }

    async fn follow_version(self: Arc<Self>) {
        loop {
            let version = match self.client.apiserver_version().await {
                Ok(info) => parse(&info),
                Err(error) => Err(format!("{:#}", anyhow!(error))),
            };
            let known = version.is_ok();
            match (version, &mut self.state.lock().unwrap().version) {
                (Err(problem), known) => {
                    tracing::warn!("ask for the API server's version: {problem}");
                    self.metrics.api_error("get version");
                    // A version that was known once is better than none.
                    if known.is_err() {
                        *known = Err(problem);
                    }
                }
                (Ok(now), before) if before.as_ref() != Ok(&now) => {
                    let native_sidecars = now >= NATIVE_SIDECARS;
                    tracing::info!(native_sidecars, "the API server is {}.{}", now.0, now.1);
                    *before = Ok(now);
                }
                (Ok(_), _) => {}
            }
            time::sleep(if known {
                VERSION_REFRESH
            } else {
                VERSION_RETRY
            })
            .await;
        }
    }
}

fn namespace(meta: &Meta) -> Namespace {
    let owned = |map: Option<&BTreeMap<String, String>>| map.cloned().unwrap_or_default();
    Namespace {
        name: meta.name_any(),
        labels: owned(meta.metadata.labels.as_ref()),
        annotations: owned(meta.metadata.annotations.as_ref()),
    }
}

/// Some vendors write a minor version with something behind it, such as `29+`.
fn parse(info: &Info) -> Result<(u32, u32), String> {
    let number = |text: &str| {
        let digits = text.find(|c: char| !c.is_ascii_digit());
        text[..digits.unwrap_or(text.len())].parse().ok()
    };
    match (number(&info.major), number(&info.minor)) {
        (Some(major), Some(minor)) => Ok((major, minor)),
        _ => Err(format!("{:?}.{:?} is none", info.major, info.minor)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_vendors_write_them() {
        for (major, minor, expected) in [
            ("1", "36", Some((1, 36))),
            ("1", "29+", Some((1, 29))),
            ("2", "0", Some((2, 0))),
            ("", "", None),
            ("1", "+", None),
        ] {
            let info = Info {
                major: major.into(),
                minor: minor.into(),
                ..Info::default()
            };
            assert_eq!(parse(&info).ok(), expected, "{major} {minor}");
        }
    }
}
