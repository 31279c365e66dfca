//! Whether the cluster can do it, and what is installed there works.

use std::time::Instant;

use anyhow::Context;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt};

use crate::cluster::check::certificate::Certificate;
use crate::cluster::check::report::{Outcome, Problem, Report, error, warning};
use crate::cluster::check::{Options, data_plane, listing, until};
use crate::cluster::client::{ClusterArgs, explain};
use crate::cluster::sidecars::{self, EXTENSION, Webhook};
use crate::kernel::release;

/// The namespace that `install` makes unless told otherwise.
const NAMESPACE: &str = "linkerd-metricd";

/// The oldest that the manifests are validated for; Pod Security is stable from it on.
const OLDEST: (u32, u32) = (1, 25);

/// What `install` creates, and of which API group it is.
const CREATED: [(&str, &str); 11] = [
    ("Namespaces", ""),
    ("ServiceAccounts", ""),
    ("ClusterRoles", RBAC),
    ("ClusterRoleBindings", RBAC),
    ("ConfigMaps", ""),
    ("Secrets", ""),
    ("Services", ""),
    ("Deployments", "apps"),
    ("DaemonSets", "apps"),
    ("PodDisruptionBudgets", "policy"),
    (
        "MutatingWebhookConfigurations",
        "admissionregistration.k8s.io",
    ),
];
const RBAC: &str = "rbac.authorization.k8s.io";

/// Runs the checks of the cluster.
pub async fn check(report: &mut Report<'_>, options: &Options) {
    let deadline = Instant::now() + options.wait;
    let Some(client) = api(report, &options.cluster).await else {
        return;
    };
    if options.pre {
        report.category("pre-linkerd-metricd");
        report.add(
            "all nodes run Linux 5.10 or later",
            "nodes",
            nodes(&client).await,
        );
        report.add(
            "no other installation exists",
            "pre-installed",
            absent(&client).await,
        );
        for (kind, group) in CREATED {
            let outcome = may_create(&client, group, &kind.to_lowercase()).await;
            report.add(format!("can create {kind}"), "pre-rights", outcome);
        }
        return;
    }
    report.category("linkerd-metricd");
    report.add(
        "all nodes run Linux 5.10 or later",
        "nodes",
        nodes(&client).await,
    );
    installed(report, &client, deadline).await;
    if options.proxy {
        data_plane::check(report, &client, options.namespace.as_deref(), deadline).await;
    }
}

/// Checks the API server and its version, as Linkerd's own categories of these names do.
async fn api(report: &mut Report<'_>, cluster: &ClusterArgs) -> Option<Client> {
    report.category("kubernetes-api");
    let client = cluster.client().await.map_err(Problem::from);
    let client = report.add("can initialize the client", "client", client)?;
    let version = client.apiserver_version().await;
    let version = version.map_err(|e| Problem::Error(explain(e)));
    let version = report.add("can query the Kubernetes API", "api", version)?;
    report.category("kubernetes-version");
    let numbers = release::version(version.git_version.trim_start_matches('v'));
    let outcome = match numbers < OLDEST {
        true => error(format!(
            "Kubernetes {} is too old, {}.{} or later is needed",
            version.git_version, OLDEST.0, OLDEST.1
        )),
        false => Ok(()),
    };
    report.add(
        "is running the minimum Kubernetes API version",
        "version",
        outcome,
    );
    Some(client)
}

async fn nodes(client: &Client) -> Outcome {
    let nodes = Api::<Node>::all(client.clone())
        .list(&ListParams::default())
        .await;
    let nodes = nodes.map_err(|e| Problem::Error(format!("list the nodes: {}", explain(e))))?;
    let mut old = Vec::new();
    for node in &nodes {
        let Some(info) = node.status.as_ref().and_then(|s| s.node_info.as_ref()) else {
            continue;
        };
        // Pods on others are left alone.
        if info.operating_system == "linux" && release::check_release(&info.kernel_version).is_err()
        {
            old.push(format!("{}: {}", node.name_any(), info.kernel_version));
        }
    }
    match old.is_empty() {
        true => Ok(()),
        false => error(listing(
            "the kernels of these nodes are too old, their pods will run without metrics",
            &old,
        )),
    }
}

async fn absent(client: &Client) -> Outcome {
    let found = sidecars::namespaces(client).await?;
    match found.is_empty() {
        true => Ok(()),
        false => error(format!(
            "there is one in namespace {}: to check it, leave out --pre; to remove it, run \
             linkerd-metricd uninstall | kubectl delete -f -",
            found.join(", ")
        )),
    }
}

async fn may_create(client: &Client, group: &str, resource: &str) -> Outcome {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(group.into()),
                resource: Some(resource.into()),
                verb: Some("create".into()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews = Api::<SelfSubjectAccessReview>::all(client.clone());
    let review = reviews.create(&PostParams::default(), &review).await;
    let review = review.map_err(|e| Problem::Error(explain(e)))?;
    let status = review.status.unwrap_or_default();
    if status.allowed {
        return Ok(());
    }
    let why = status.reason.filter(|reason| !reason.is_empty());
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    error(format!(
        "not authorized to create {resource}{why}: ask an administrator, or bind a role that may"
    ))
}

async fn installed(report: &mut Report<'_>, client: &Client, deadline: Instant) -> Option<()> {
    let namespace = report.add(
        "linkerd-metricd Namespace exists",
        "namespace",
        namespace(client).await,
    )?;
    let webhook = report.add(
        "injector webhook is registered",
        "webhook",
        webhook(client, &namespace).await,
    )?;
    report.add(
        "injector webhook never blocks pods",
        "failure-policy",
        never_blocks(&webhook),
    );
    let pods = until(deadline, async || ready(client, &webhook).await).await;
    let pods = report.add("injector pods are ready", "injector", pods)?;
    let certificate = until(deadline, async || {
        let certificate = certificate(client, &namespace, &pods).await?;
        certificate.is_valid().map(|()| certificate)
    });
    let certificate = certificate.await;
    if let Some(certificate) = report.add(
        "injector webhook has valid cert",
        "certificate",
        certificate,
    ) {
        report.add(
            "injector cert is valid for at least 60 days",
            "certificate-expiry",
            certificate.lasts(),
        );
    }
    let injector = pods.iter().find_map(sidecars::injector_version);
    report.add(
        "cli and injector versions match",
        "versions",
        same(injector.as_deref(), "the injector"),
    );
    report.add(
        "sidecar versions match",
        "sidecar-versions",
        sidecar_versions(client, injector.as_deref()).await,
    );
    Some(())
}

async fn namespace(client: &Client) -> Result<String, Problem> {
    let (label, value) = EXTENSION;
    match &sidecars::namespaces(client).await?[..] {
        [one] => Ok(one.clone()),
        [] => {
            let namespaces = Api::<Namespace>::all(client.clone());
            let there = namespaces.get_opt(NAMESPACE).await;
            let there = there.map_err(|e| Problem::Error(explain(e)))?;
            match there {
                Some(_) => error(format!(
                    "namespace {NAMESPACE} lacks the label {label}={value}: kubectl label namespace \
                     {NAMESPACE} {label}={value}"
                )),
                None => error(format!(
                    "no namespace has the label {label}={value}: linkerd-metricd install | kubectl \
                     apply -f -"
                )),
            }
        }
        many => error(format!(
            "more than one has the label {label}={value}: {}; keep one",
            many.join(", ")
        )),
    }
}

async fn webhook(client: &Client, namespace: &str) -> Result<Webhook, Problem> {
    let webhook = sidecars::webhooks(client, namespace)
        .await?
        .into_iter()
        .next();
    webhook.ok_or_else(|| {
        Problem::Error(format!(
            "no MutatingWebhookConfiguration leads to a service in {namespace}: linkerd-metricd \
             install | kubectl apply -f -"
        ))
    })
}

fn never_blocks(webhook: &Webhook) -> Outcome {
    // What it is unless said otherwise: admissionregistration.k8s.io/v1.
    let policy = webhook.webhook.failure_policy.as_deref().unwrap_or("Fail");
    match policy {
        "Ignore" => Ok(()),
        policy => error(format!(
            "failurePolicy of {} in {} is {policy}: no pod starts while the injector is away; make \
             it Ignore",
            webhook.webhook.name, webhook.configuration
        )),
    }
}

async fn ready(client: &Client, webhook: &Webhook) -> Result<Vec<Pod>, Problem> {
    let pods = webhook.pods(client).await?;
    let waiting: Vec<String> = pods
        .iter()
        .filter(|pod| !sidecars::is_pod_ready(pod))
        .map(ResourceExt::name_any)
        .collect();
    match waiting.is_empty() {
        true => Ok(pods),
        false => error(listing("these pods are not ready", &waiting)),
    }
}

/// Looked at anew each time: the authority may be filled in later, by cert-manager.
async fn certificate(
    client: &Client,
    namespace: &str,
    pods: &[Pod],
) -> Result<Certificate, Problem> {
    let webhook = webhook(client, namespace).await?;
    let served = webhook.certificate(client, pods).await?;
    let authorities = webhook.webhook.client_config.ca_bundle.as_ref();
    let authorities = authorities.filter(|bundle| !bundle.0.is_empty());
    let authorities = authorities.with_context(|| {
        format!(
            "{} has no caBundle: the API server trusts no injector",
            webhook.configuration
        )
    })?;
    Ok(Certificate::read(&served, &authorities.0, &webhook.host())?)
}

fn same(version: Option<&str>, whose: &str) -> Outcome {
    const OURS: &str = env!("CARGO_PKG_VERSION");
    match version {
        Some(OURS) => Ok(()),
        Some(version) => warning(format!(
            "{whose} is of version {version}, the cli of {OURS}"
        )),
        None => warning(format!(
            "{whose} does not tell its version: its image has no tag"
        )),
    }
}

async fn sidecar_versions(client: &Client, injector: Option<&str>) -> Outcome {
    let pods = data_plane::pods(client, None).await?;
    let wanted = injector.unwrap_or(env!("CARGO_PKG_VERSION"));
    let others: Vec<String> = pods
        .iter()
        .filter_map(|pod| {
            let image = sidecars::sidecar(pod)?.image.as_deref()?;
            let version = sidecars::image_version(image)?;
            (version != wanted).then(|| format!("{}: {version}", data_plane::name(pod)))
        })
        .collect();
    match others.is_empty() {
        true => Ok(()),
        false => warning(listing(
            &format!("these pods are not of version {wanted}, start them anew"),
            &others,
        )),
    }
}
