//! What is installed on a cluster. It is found by what it is, not by what it is called: a namespace
//! with our label, a webhook that leads to a service there, and the pods behind that.

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhook, MutatingWebhookConfiguration, ServiceReference,
};
use k8s_openapi::api::core::v1::{Container, Namespace, Pod, Secret, Service};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use crate::cluster::client::explain;
use crate::kernel::options;

/// The label of namespaces of Linkerd's extensions, and ours.
pub const EXTENSION: (&str, &str) = ("linkerd.io/extension", "metricd");

/// The namespaces that carry our label, by name.
///
/// # Errors
/// If the API server refuses.
pub async fn namespaces(client: &Client) -> Result<Vec<String>> {
    let (label, value) = EXTENSION;
    let labelled = ListParams::default().labels(&format!("{label}={value}"));
    let found = Api::<Namespace>::all(client.clone()).list(&labelled).await;
    let found = found.map_err(|e| anyhow!("list the namespaces: {}", explain(e)))?;
    Ok(found.iter().map(ResourceExt::name_any).collect())
}

/// A webhook of the API server that leads to a service of ours.
pub struct Webhook {
    /// The configuration's name.
    pub configuration: String,
    pub webhook: MutatingWebhook,
    pub service: ServiceReference,
}

/// The webhooks that lead to a service in `namespace`.
///
/// # Errors
/// If the API server refuses.
pub async fn webhooks(client: &Client, namespace: &str) -> Result<Vec<Webhook>> {
    let api = Api::<MutatingWebhookConfiguration>::all(client.clone());
    let configurations = api.list(&ListParams::default()).await;
    let configurations =
        configurations.map_err(|e| anyhow!("list the webhook configurations: {}", explain(e)))?;
    let mut found = Vec::new();
    for configuration in configurations {
        let name = configuration.name_any();
        for webhook in configuration.webhooks.unwrap_or_default() {
            if let Some(service) = webhook.client_config.service.clone()
                && service.namespace == namespace
            {
                found.push(Webhook {
                    configuration: name.clone(),
                    webhook,
                    service,
                });
            }
        }
    }
    Ok(found)
}

impl Webhook {
    /// The name that the API server expects in the certificate.
    pub fn host(&self) -> String {
        format!("{}.{}.svc", self.service.name, self.service.namespace)
    }

    /// The injector's pods.
    ///
    /// # Errors
    /// If the webhook's service is not there, or has no pods.
    pub async fn pods(&self, client: &Client) -> Result<Vec<Pod>> {
        let ServiceReference {
            namespace, name, ..
        } = &self.service;
        let service = Api::<Service>::namespaced(client.clone(), namespace)
            .get(name)
            .await
            .map_err(|e| anyhow!("get the webhook's service: {}", explain(e)))?;
        let selector = service.spec.and_then(|spec| spec.selector);
        let selector: Vec<String> = selector
            .unwrap_or_default()
            .iter()
            .map(|(label, value)| format!("{label}={value}"))
            .collect();
        let selected = ListParams::default().labels(&selector.join(","));
        let pods = Api::<Pod>::namespaced(client.clone(), namespace)
            .list(&selected)
            .await
            .map_err(|e| {
                anyhow!(
                    "list the pods of service {namespace}/{name}: {}",
                    explain(e)
                )
            })?;
        match pods.items.is_empty() {
            true => Err(anyhow!("service {namespace}/{name} has no pods")),
            false => Ok(pods.items),
        }
    }

    /// The PEM of the certificate that the injector serves, from the secret that its pods mount.
    ///
    /// # Errors
    /// If the pods mount no secret, or it can't be read.
    pub async fn certificate(&self, client: &Client, pods: &[Pod]) -> Result<Vec<u8>> {
        let secrets = Api::<Secret>::namespaced(client.clone(), &self.service.namespace);
        for name in pods.iter().flat_map(secret_volumes) {
            let secret = secrets.get(name).await;
            let secret =
                secret.map_err(|e| anyhow!("get the injector's secret: {}", explain(e)))?;
            if let Some(certificate) = secret.data.unwrap_or_default().remove("tls.crt") {
                return Ok(certificate.0);
            }
        }
        Err(anyhow!(
            "the injector's pods mount no secret with a tls.crt"
        ))
    }
}

fn secret_volumes(pod: &Pod) -> impl Iterator<Item = &str> {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| volume.secret.as_ref()?.secret_name.as_deref())
}

/// The version of the injector that a cluster has.
///
/// # Errors
/// If nothing is installed, or the injector does not tell its version.
pub async fn version(client: &Client) -> Result<String> {
    let installed = namespaces(client).await?;
    let namespace = installed.first().context("it is not installed")?;
    let webhook = webhooks(client, namespace).await?.into_iter().next();
    let webhook = webhook.context("its webhook is not registered")?;
    let pods = webhook.pods(client).await?;
    let version = pods.iter().find_map(injector_version);
    version.context("the injector's pods tell no version")
}

/// The version of the injector in a pod: its label's, else its image's.
pub fn injector_version(pod: &Pod) -> Option<String> {
    let labelled = pod.labels().get("app.kubernetes.io/version").cloned();
    let image = || pod.spec.as_ref()?.containers.first()?.image.as_deref();
    labelled.or_else(|| image_version(image()?).map(str::to_owned))
}

/// The tag of an image, for example 1.2 of `registry:5000/metricd:1.2@sha256:…`.
pub fn image_version(image: &str) -> Option<&str> {
    let name = image.rsplit('/').next()?;
    let name = name.split('@').next()?;
    Some(name.split_once(':')?.1)
}

/// The sidecar in a pod, be it a native one or not.
pub fn sidecar(pod: &Pod) -> Option<&Container> {
    let spec = pod.spec.as_ref()?;
    let native = spec.init_containers.iter().flatten();
    let mut all = spec.containers.iter().chain(native);
    all.find(|container| container.name == SIDECAR)
}

/// The namespace and name of a pod that is called `[namespace/]name`, perhaps beside a namespace.
///
/// # Errors
/// If two namespaces are named.
pub fn pod_name(pod: &str, namespace: Option<&str>, default: &str) -> Result<(String, String)> {
    match (pod.split_once('/'), namespace) {
        (Some((namespace, _)), Some(other)) if namespace != other => {
            bail!("{pod} is not in namespace {other}: name one of them")
        }
        (Some((namespace, name)), _) => Ok((namespace.to_owned(), name.to_owned())),
        (None, namespace) => Ok((namespace.unwrap_or(default).to_owned(), pod.to_owned())),
    }
}

/// Where a pod's sidecar listens.
pub fn metrics_port(pod: &Pod) -> i32 {
    let ports = sidecar(pod).and_then(|sidecar| sidecar.ports.as_ref());
    let mut ports = ports.into_iter().flatten();
    let port = ports.find(|port| port.name.as_deref() == Some(PORT.0));
    port.map_or(PORT.1, |port| port.container_port)
}

/// The path by which the API server hands on what a pod's sidecar serves. It takes the right to
/// get pods/proxy.
pub fn metrics_path(pod: &Pod) -> String {
    format!(
        "/api/v1/namespaces/{}/pods/{}:{}/proxy/metrics",
        pod.namespace().unwrap_or_default(),
        pod.name_any(),
        metrics_port(pod)
    )
}

/// The port's name in the sidecar, and its number where it is not named.
const PORT: (&str, i32) = ("metricd-admin", options::PORT as i32);

/// Names of the containers that are put into pods.
pub const SIDECAR: &str = "metricd";
pub const INIT: &str = "metricd-init";

/// Whether the kubelet calls a container of the pod ready.
pub fn is_ready(pod: &Pod, container: &str) -> bool {
    let status = pod.status.as_ref();
    let native = status.and_then(|status| status.init_container_statuses.as_ref());
    let plain = status.and_then(|status| status.container_statuses.as_ref());
    let mut all = native.into_iter().chain(plain).flatten();
    all.any(|status| status.name == container && status.ready)
}

/// Whether the kubelet calls the pod as a whole ready.
pub fn is_pod_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_is_the_version() {
        for (image, version) in [
            ("metricd:1.2", Some("1.2")),
            ("registry:5000/a/metricd:1.2", Some("1.2")),
            ("registry:5000/a/metricd", None),
            ("a/metricd:1.2@sha256:0f", Some("1.2")),
            ("metricd@sha256:0f", None),
        ] {
            assert_eq!(image_version(image), version, "{image}");
        }
    }
}
