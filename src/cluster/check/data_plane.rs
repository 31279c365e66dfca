//! Whether the sidecars do their work.

use std::time::Instant;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use tokio::task::JoinSet;

use crate::cluster::check::report::{Outcome, Problem, Report, error, warning};
use crate::cluster::check::{listing, until};
use crate::cluster::client::explain;
use crate::cluster::sidecars::{self, SIDECAR};

/// Scrapes at a time.
const AT_A_TIME: usize = 16;

/// Runs the checks of pods, in one namespace or in all.
pub async fn check(
    report: &mut Report<'_>,
    client: &Client,
    namespace: Option<&str>,
    deadline: Instant,
) -> Option<()> {
    report.category("linkerd-metricd-data-plane");
    if let Some(name) = namespace {
        let found = Api::<Namespace>::all(client.clone()).get(name).await;
        let found = found.map_err(Problem::from);
        report.add("data plane namespace exists", "data-plane-namespace", found)?;
    }
    let ready = until(deadline, async || ready(client, namespace).await);
    let pods = report.add("data plane pods are ready", "data-plane-ready", ready.await)?;
    let counting = until(deadline, async || counting(client, &pods).await).await;
    let versions = report.add(
        "data plane pods count (linkerd_ebpf_up)",
        "data-plane-up",
        counting,
    )?;
    report.add(
        "data plane versions match",
        "data-plane-versions",
        same(&versions),
    );
    Some(())
}

/// The pods with a sidecar that are to run.
pub async fn pods(client: &Client, namespace: Option<&str>) -> Result<Vec<Pod>, Problem> {
    let api = match namespace {
        Some(namespace) => Api::<Pod>::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    // As kubectl does for what may be many.
    let page = ListParams::default().limit(500);
    let mut all = Vec::new();
    let mut next = page.clone();
    loop {
        let listed = api.list(&next).await;
        let listed =
            listed.map_err(|e| Problem::Error(format!("list the pods: {}", explain(e))))?;
        let more = listed
            .metadata
            .continue_
            .clone()
            .filter(|token| !token.is_empty());
        all.extend(listed.items.into_iter().filter(is_to_run));
        match more {
            Some(token) => next = page.clone().continue_token(&token),
            None => return Ok(all),
        }
    }
}

fn is_to_run(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none()
        && !matches!(phase, Some("Succeeded" | "Failed"))
        && sidecars::sidecar(pod).is_some()
}

/// Namespace and name.
pub fn name(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}

async fn ready(client: &Client, namespace: Option<&str>) -> Result<Vec<Pod>, Problem> {
    let pods = pods(client, namespace).await?;
    if pods.is_empty() {
        let place = match namespace {
            Some(namespace) => format!("in the \"{namespace}\" namespace"),
            None => "in any namespace".into(),
        };
        return error(format!(
            "no \"{SIDECAR}\" containers found {place}: annotate pods (metricd.linkerd.io/inject: \
             enabled), and start them anew"
        ));
    }
    let waiting: Vec<String> = pods
        .iter()
        .filter(|pod| !sidecars::is_ready(pod, SIDECAR))
        .map(name)
        .collect();
    match waiting.is_empty() {
        true => Ok(pods),
        false => error(listing(
            "the sidecars of these pods are not ready",
            &waiting,
        )),
    }
}

/// What of a sidecar's metrics matters here.
struct Scrape {
    pod: String,
    /// The versions of the sidecar and of the init container.
    versions: [String; 2],
}

/// Scrapes all through the API server.
async fn counting(client: &Client, pods: &[Pod]) -> Result<Vec<Scrape>, Problem> {
    let mut scrapes = Vec::new();
    let mut failed = Vec::new();
    for some in pods.chunks(AT_A_TIME) {
        let mut tasks = JoinSet::new();
        for pod in some {
            tasks.spawn(scrape(client.clone(), pod.clone()));
        }
        for outcome in tasks.join_all().await {
            match outcome {
                Ok(scrape) => scrapes.push(scrape),
                Err(reason) => failed.push(reason),
            }
        }
    }
    failed.sort();
    match failed.is_empty() {
        true => Ok(scrapes),
        false => error(listing("these pods have no metrics", &failed)),
    }
}

async fn scrape(client: Client, pod: Pod) -> Result<Scrape, String> {
    let name = name(&pod);
    let request = http::Request::get(sidecars::metrics_path(&pod)).body(Vec::new());
    let request = request.map_err(|e| format!("{name}: {e}"))?;
    let text = client.request_text(request).await;
    let text = text.map_err(|e| {
        let port = sidecars::metrics_port(&pod);
        format!("{name}: scrape port {port}: {}", explain(e))
    })?;
    read(&name, &text)
}

fn read(pod: &str, text: &str) -> Result<Scrape, String> {
    let up = text
        .lines()
        .find(|line| line.starts_with("linkerd_ebpf_up"));
    match up {
        Some(line) if line.ends_with(" 1") => {}
        Some(line) => {
            let reason = label(line, "reason").unwrap_or_default();
            return Err(format!("{pod}: {reason}"));
        }
        None => return Err(format!("{pod}: what answers is not metricd")),
    }
    let build = text
        .lines()
        .find(|line| line.starts_with("linkerd_ebpf_build_info"));
    let of = |name| build.and_then(|line| label(line, name)).unwrap_or_default();
    Ok(Scrape {
        pod: pod.to_owned(),
        versions: [of("version"), of("init_version")],
    })
}

/// A label's value in a line of the text format.
fn label(line: &str, name: &str) -> Option<String> {
    let at = line
        .find(&format!("{{{name}=\""))
        .or_else(|| line.find(&format!(",{name}=\"")))?;
    let mut value = String::new();
    let mut characters = line[at + name.len() + 3..].chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return Some(value),
            '\\' => match characters.next()? {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

fn same(scrapes: &[Scrape]) -> Outcome {
    const OURS: &str = env!("CARGO_PKG_VERSION");
    let mut others: Vec<String> = scrapes
        .iter()
        .filter(|scrape| scrape.versions.iter().any(|version| version != OURS))
        .map(|scrape| {
            let [metricd, init] = &scrape.versions;
            format!("{}: metricd {metricd}, metricd-init {init}", scrape.pod)
        })
        .collect();
    others.sort();
    match others.is_empty() {
        true => Ok(()),
        false => warning(listing(
            &format!("these pods are not of the cli's version {OURS}, start them anew"),
            &others,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_says_whether_it_counts() {
        let text = "# TYPE linkerd_ebpf_up gauge\nlinkerd_ebpf_up 1\n\
                    linkerd_ebpf_build_info{version=\"2\",init_version=\"1\"} 1\n";
        let scrape = read("a/b", text).ok().unwrap();
        assert_eq!(scrape.versions, ["2", "1"]);
        let down = "linkerd_ebpf_up{reason=\"waiting for \\\"init\\\"\"} 0\n";
        assert_eq!(
            read("a/b", down).err().unwrap(),
            "a/b: waiting for \"init\""
        );
        assert!(read("a/b", "up 1\n").is_err());
    }
}
