//! Where metrics are had from.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, ValueHint};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, Config, ResourceExt};

use crate::cluster::client::{ClusterArgs, explain};
use crate::cluster::sidecars::{self, SIDECAR};
use crate::kernel::options::ReadBy;
use crate::kernel::pin_dir::PinDir;
use crate::read::prometheus::{Exposition, Format};
use crate::read::proxy;
use crate::read::snapshot::Snapshot;
use crate::sidecar::WHOLE;

/// How long a sidecar may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// What `linkerd-metricd run` serves.
const LOCAL: &str = "http://localhost:4191/metrics";

/// Whose metrics [default: those at http://localhost:4191/metrics]
#[derive(Args, Clone, Debug)]
pub struct SourceArgs {
    /// Pod of the cluster, asked through the API server [default: http://localhost:4191/metrics]
    #[arg(value_name = "[NAMESPACE/]POD", conflicts_with_all = ["url", "pin_dir"])]
    pod: Option<String>,

    /// Namespace of the pod [default: the context's]
    #[arg(long, short, requires = "pod")]
    namespace: Option<String>,

    /// Where a sidecar serves them
    #[arg(long, conflicts_with = "pin_dir")]
    url: Option<String>,

    /// Folder with the pinned maps, read as the sidecar does
    #[arg(long, value_name = "DIR", value_hint = ValueHint::AnyPath)]
    pin_dir: Option<PinDir>,

    /// With --pin-dir, the file that a proxy records its requests in
    #[arg(long, value_name = "FILE", requires = "pin_dir")]
    l7_file: Option<PathBuf>,

    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Where to ask, again and again.
pub struct Source {
    /// What the source is called, for people.
    pub name: String,
    place: Place,
}

enum Place {
    /// Pinned maps, and what a proxy records into, if there is one.
    Pins(PinDir, Option<PathBuf>),
    Web(Client, String),
}

impl SourceArgs {
    /// Finds the source; nothing is asked for metrics yet. To be called within a runtime.
    ///
    /// # Errors
    /// If the address is not valid, or the pod is not one of ours.
    pub async fn open(&self) -> Result<Source> {
        match (&self.pod, &self.pin_dir, &self.url) {
            (Some(pod), _, _) => self.of_pod(pod).await,
            (_, Some(dir), _) => Ok(Source {
                name: dir.to_string(),
                place: Place::Pins(dir.clone(), self.l7_file.clone()),
            }),
            (_, _, url) => at(url.as_deref().unwrap_or(LOCAL)),
        }
    }

    async fn of_pod(&self, pod: &str) -> Result<Source> {
        let config = self.cluster.config().await?;
        let (namespace, name) =
            sidecars::pod_name(pod, self.namespace.as_deref(), &config.default_namespace)?;
        let client = Client::try_from(config)?;
        let pods = Api::<Pod>::namespaced(client.clone(), &namespace);
        let found = pods.get(&name).await;
        let found = found.map_err(|e| anyhow!("get pod {namespace}/{name}: {}", explain(e)))?;
        if sidecars::sidecar(&found).is_none() {
            bail!(
                "pod {namespace}/{name} has no container {SIDECAR}: it was not injected, annotate \
                 it (metricd.linkerd.io/inject: enabled) and start it anew"
            );
        }
        Ok(Source {
            name: format!("{namespace}/{}", found.name_any()),
            place: Place::Web(client, sidecars::metrics_path(&found)),
        })
    }
}

/// The source at a URL. Its client is the one for clusters, which is a client of HTTP in the first
/// place.
fn at(url: &str) -> Result<Source> {
    let uri: http::Uri = url
        .parse()
        .with_context(|| format!("--url {url} is none"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        bail!("--url {url} is none: name it as in {LOCAL}");
    }
    let path = match uri.path() {
        "/" => "/metrics".to_owned(),
        path => path.to_owned(),
    };
    let mut parts = uri.into_parts();
    parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    let mut config = Config::new(http::Uri::from_parts(parts)?);
    config.connect_timeout = Some(ANSWER);
    config.read_timeout = Some(ANSWER);
    config.default_retry = false;
    Ok(Source {
        name: url.to_owned(),
        place: Place::Web(Client::try_from(config)?, path),
    })
}

impl Source {
    /// The text of a scrape, with all series: one that comes and goes would seem to begin anew. Pins that
    /// can't be read are told of in it, as the sidecar does.
    ///
    /// # Errors
    /// If nobody answers, or not with metrics.
    pub async fn scrape(&self) -> Result<String> {
        match &self.place {
            Place::Pins(dir, l7_file) => Ok(of_pins(dir, l7_file.as_deref())),
            Place::Web(client, path) => {
                let request = http::Request::get(format!("{path}?{WHOLE}")).body(Vec::new())?;
                let text = client.request_text(request).await;
                text.map_err(|e| anyhow!("scrape {}: {}", self.name, why(e)))
            }
        }
    }
}

/// What the server said, else the cause of all that follows from it.
fn why(error: kube::Error) -> String {
    match error {
        error @ kube::Error::Api(_) => explain(error),
        error => anyhow::Error::from(error).root_cause().to_string(),
    }
}

fn of_pins(dir: &PinDir, l7_file: Option<&Path>) -> String {
    let read = ReadBy::Auto;
    let reading = Snapshot::read(dir, read)
        .map(Arc::new)
        .map_err(|e| e.to_string());
    let proxied = l7_file.map(|file| proxy::read(file, read).map_err(|e| e.to_string()));
    let text = Exposition::new(reading, proxied, Format::Text);
    let text = text.flatten().collect();
    String::from_utf8(text).expect("labels and names are")
}
