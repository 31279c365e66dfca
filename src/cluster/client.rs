//! The cluster that the command line talks to, and who it is there.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

/// How long an answer of the API server may take, but for logs that are followed.
const ANSWER: Duration = Duration::from_secs(30);

/// The flags that the Linkerd CLI hands to every extension (EXTENSIONS.md of linkerd2).
#[derive(Args, Clone, Debug, Default)]
pub struct ClusterArgs {
    /// File that says where the cluster is, and who you are [default: $KUBECONFIG, ~/.kube/config,
    /// or the service account of the pod it runs in]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// Context of that file [default: its current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,

    /// User to act as
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,

    /// Group to act as, repeatable
    #[arg(long = "as-group", value_name = "GROUP", value_parser = list)]
    groups: Vec<List>,

    /// Log what is going on
    #[arg(long)]
    pub verbose: bool,

    #[command(flatten)]
    linkerd: LinkerdArgs,
}

/// Where Linkerd itself is: extensions must accept it, and nothing here depends on it.
#[derive(Args, Clone, Debug, Default)]
struct LinkerdArgs {
    #[arg(long, hide = true)]
    api_addr: Option<String>,

    #[arg(long, short = 'L', hide = true)]
    linkerd_namespace: Option<String>,

    #[arg(long, hide = true)]
    cni_namespace: Option<String>,
}

/// What one `--as-group` names: one, or, as the Linkerd CLI hands it on, several in brackets.
type List = Vec<String>;

fn list(text: &str) -> Result<List, String> {
    let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) else {
        return Ok(vec![text.to_owned()]);
    };
    let named = inner.split(',').filter(|name| !name.is_empty());
    Ok(named.map(str::to_owned).collect())
}

impl ClusterArgs {
    /// Where the cluster is, and how to get in. Nothing is sent yet.
    ///
    /// # Errors
    /// With what was tried, if there is no configuration, or it can't be used.
    pub async fn config(&self) -> Result<Config> {
        let mut config = match self.kubeconfig()? {
            Some(kubeconfig) => {
                let options = KubeConfigOptions {
                    context: self.context.clone(),
                    ..KubeConfigOptions::default()
                };
                let mut config = Config::from_custom_kubeconfig(kubeconfig, &options)
                    .await
                    .context("use the kubeconfig")?;
                if config.proxy_url.is_some() && config.proxy_url == proxy_of_the_environment() {
                    // Which kube takes without a look at NO_PROXY.
                    let matcher = Matcher::from_env();
                    let proxy = matcher.intercept(&config.cluster_url);
                    config.proxy_url = proxy.map(|proxy| proxy.uri().clone());
                }
                config
            }
            None => match Config::incluster() {
                Ok(config) => config,
                Err(e) => bail!(
                    "no cluster is known: $KUBECONFIG is not set, there is no ~/.kube/config, and \
                     this is not a pod with a service account ({e}): name a file by --kubeconfig"
                ),
            },
        };
        if self.user.is_some() {
            config.auth_info.impersonate = self.user.clone();
        }
        let groups: Vec<String> = self.groups.concat();
        if !groups.is_empty() {
            config.auth_info.impersonate_groups = Some(groups);
        }
        config.read_timeout = Some(ANSWER);
        // What is worth another try is for the caller to say.
        config.default_retry = false;
        Ok(config)
    }

    /// A client for the cluster.
    ///
    /// # Errors
    /// If [`Self::config`] fails, or no client can be made of it.
    pub async fn client(&self) -> Result<Client> {
        Ok(Client::try_from(self.config().await?)?)
    }

    /// Whether anything says where a cluster is.
    pub fn is_configured(&self) -> bool {
        !matches!(self.kubeconfig(), Ok(None)) || Config::incluster().is_ok()
    }

    fn kubeconfig(&self) -> Result<Option<Kubeconfig>> {
        if let Some(path) = &self.kubeconfig {
            let read = Kubeconfig::read_from(path);
            return read
                .map(Some)
                .with_context(|| format!("read the kubeconfig {}", path.display()));
        }
        match Kubeconfig::read() {
            Ok(kubeconfig) => Ok(Some(kubeconfig)),
            Err(KubeconfigError::ReadConfig(e, _))
                if e.kind() == std::io::ErrorKind::NotFound
                    && std::env::var_os("KUBECONFIG").is_none() =>
            {
                Ok(None)
            }
            Err(KubeconfigError::FindPath) => Ok(None),
            Err(e) => Err(e).context("read the kubeconfig ($KUBECONFIG, or ~/.kube/config)"),
        }
    }
}

/// The proxy that kube takes where the kubeconfig names none.
fn proxy_of_the_environment() -> Option<Uri> {
    let proxy = ["HTTPS_PROXY", "https_proxy"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|proxy| !proxy.is_empty())?;
    proxy.parse().ok()
}

/// Runs to its end what talks to the cluster.
///
/// # Errors
/// If the kernel refuses what a runtime is made of.
pub fn block_on<F: Future>(future: F) -> std::io::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(future))
}

/// In a sentence: what the API server said, or what kept it from saying something.
pub fn explain(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => match status.code {
            403 => format!("{}: it takes that right", status.message),
            _ => status.message,
        },
        error => format!("{:#}", anyhow::Error::from(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_as_the_linkerd_cli_names_them() {
        assert_eq!(list("dev").unwrap(), ["dev"]);
        assert_eq!(list("[]").unwrap(), [""; 0]);
        assert_eq!(list("[dev,ops]").unwrap(), ["dev", "ops"]);
    }
}
