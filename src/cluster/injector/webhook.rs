//! From an HTTP request to the answer of a review.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Instant};

use anyhow::{Context, Result, ensure};
use futures_util::FutureExt;
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ACCEPT_ENCODING, ALLOW, CONTENT_TYPE, HeaderName, HeaderValue},
    http::request::Parts,
};
use serde_json::Value;

use super::refusal::Refusal;
use super::{
    admission::{self, Answer},
    body::Bodies,
    cluster::{Cluster, Known},
    events::{Events, Kind},
    metrics::Metrics,
};
use crate::cluster::inject::{self, Around, InjectConfig, Outcome, Skip};
use crate::web::http;

/// Where reviews are posted to.
const PATH: &str = "/inject";
/// Values in a pod: some hundred is usual, and each takes a hundred times the room that `0,` does.
const VALUES: usize = 100_000;

/// What answers.
pub struct Webhook {
    /// The settings, where sidecars may be init containers and where not.
    native: InjectConfig,
    plain: InjectConfig,
    bodies: Bodies,
    cluster: Arc<Cluster>,
    events: Events,
    metrics: Arc<Metrics>,
}

/// The answer, and for the metrics what became of the pod and why.
type Decision = (Answer, &'static str, &'static str);

impl Webhook {
    pub fn new(config: &InjectConfig, cluster: Arc<Cluster>, metrics: Arc<Metrics>) -> Self {
        let with = |native| InjectConfig {
            native_sidecars: config.native_sidecars.or(Some(native)),
            ..config.clone()
        };
        Self {
            native: with(true),
            plain: with(false),
            bodies: Bodies::new(),
            events: Events::start(cluster.client(), metrics.clone()),
            cluster,
            metrics,
        }
    }

    /// Answers a request. What is no review, or can't be received, gets a status that says so.
    pub async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        match self.review(request).await {
            Ok(review) => http::full(StatusCode::OK, "application/json", review),
            Err(Refusal { status, text }) => {
                tracing::debug!(%status, "refused: {text}");
                self.metrics.refusal(status.as_str());
                refusal(status, &text)
            }
        }
    }

    async fn review(&self, request: Request<Incoming>) -> Result<Vec<u8>, Refusal> {
        let (head, body) = request.into_parts();
        // Who still sends when a refusal comes may not get to see it.
        let body = self.bodies.receive(&head.headers, body).await;
        check(&head)?;
        let body = body?;
        let begun = Instant::now();
        let request = admission::Request::parse(&body.bytes)
            .map_err(|problem| Refusal::new(StatusCode::BAD_REQUEST, problem))?;
        let (answer, outcome, reason) = in_any_case(&request, self.decide(&request)).await;
        let review = answer.review(&request.uid);
        self.metrics.admission(outcome, reason, begun.elapsed());
        Ok(review)
    }

    async fn decide(&self, request: &admission::Request<'_>) -> Decision {
        if !request.creates_pod() {
            let warnings = vec![
                "metricd is asked for what is not the creation of a pod: see the rules of its \
                 webhook"
                    .into(),
            ];
            return (
                Answer::new(None, warnings),
                "skipped",
                Skip::UnsupportedKind.name(),
            );
        }
        let mut warnings = Vec::new();
        let namespace = match self.cluster.namespace(&request.namespace).await {
            Known::Yes(namespace) => Some(namespace),
            Known::No => None,
            Known::Unknown => {
                warnings.push(format!(
                    "metricd could not look up the namespace {}: only what the pod itself says \
                     counts",
                    request.namespace
                ));
                None
            }
        };
        let around = Around {
            namespace: namespace.as_ref(),
            ..Around::default()
        };
        let config = match self.cluster.native_sidecars() {
            true => &self.native,
            false => &self.plain,
        };
        let (pod, outcome, patch) = match inject(request, &around, config) {
            Ok(done) => done,
            Err(error) => return failed(request, warnings, &format!("{error:#}")),
        };
        let (said, outcome, reason) = match outcome {
            Outcome::Injected { warnings, .. } => (warnings, "injected", None),
            Outcome::Skipped { reason, warnings } => (warnings, "skipped", Some(reason)),
        };
        self.report(request, &pod, reason, &said);
        warnings.extend(said);
        let reason = reason.map_or("", Skip::name);
        (Answer::new(patch, warnings), outcome, reason)
    }

    /// In the log, and as events of the pod's owner.
    fn report(
        &self,
        request: &admission::Request,
        pod: &Value,
        reason: Option<Skip>,
        warnings: &[String],
    ) {
        let namespace = &*request.namespace;
        let pod_name = name(pod);
        match reason {
            None => tracing::info!(namespace, pod = pod_name, "injected"),
            Some(reason @ (Skip::NotEnabled | Skip::SwitchedOff)) => {
                tracing::debug!(namespace, pod = pod_name, "skipped: {reason}");
            }
            Some(reason) => {
                tracing::info!(namespace, pod = pod_name, "skipped: {reason}");
                if !request.dry_run {
                    let kind = match reason.is_a_surprise() {
                        true => Kind::Surprise,
                        false => Kind::AsAsked,
                    };
                    let note = format!("No metricd in the pod: {reason}");
                    self.events
                        .tell(pod, namespace, kind, "MetricdSkipped", &note);
                }
            }
        }
        if !warnings.is_empty() {
            let warnings = warnings.join("; ");
            tracing::info!(namespace, pod = pod_name, "warned: {warnings}");
            if !request.dry_run {
                let kind = Kind::Surprise;
                self.events
                    .tell(pod, namespace, kind, "MetricdWarning", &warnings);
            }
        }
    }
}

/// A pod is not to be without its answer for a fault of ours: a panic allows it, as it is.
async fn in_any_case(
    request: &admission::Request<'_>,
    decision: impl Future<Output = Decision>,
) -> Decision {
    match AssertUnwindSafe(decision).catch_unwind().await {
        Ok(decision) => decision,
        Err(_) => failed(request, Vec::new(), "a fault of metricd's, see its log"),
    }
}

/// The pod, what became of it, and the patch if it is another now.
fn inject(
    request: &admission::Request,
    around: &Around,
    config: &InjectConfig,
) -> Result<(Value, Outcome, Option<json_patch::Patch>)> {
    let pod = request.object.context("the review has no object")?.get();
    ensure!(
        values(pod) <= VALUES,
        "the pod has more than {VALUES} values"
    );
    let pod: Value = serde_json::from_str(pod).context("the review's object")?;
    let outcome = inject::inject(&pod, around, config)?;
    let patch = match &outcome {
        Outcome::Injected { pod: after, .. } if *after != pod => Some(inject::patch(&pod, after)),
        _ => None,
    };
    Ok((pod, outcome, patch))
}

/// How many values there are in JSON that is well formed, within one.
fn values(json: &str) -> usize {
    let (mut count, mut in_string, mut escaped) = (1, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b'[' | b'{' if !in_string => count += 1,
            _ => {}
        }
    }
    count
}

fn failed(request: &admission::Request, mut warnings: Vec<String>, problem: &str) -> Decision {
    let namespace = &*request.namespace;
    tracing::error!(namespace, uid = request.uid, "inject: {problem}");
    warnings.push(format!("no metricd in the pod: {problem}"));
    (Answer::new(None, warnings), "failed", "")
}

/// The name of a pod, as far as it has one before it is made.
fn name(pod: &Value) -> &str {
    let metadata = &pod["metadata"];
    let name = metadata["name"].as_str().filter(|name| !name.is_empty());
    name.or(metadata["generateName"].as_str())
        .unwrap_or_default()
}

/// Whether it is a review, as far as the head tells.
fn check(head: &Parts) -> Result<(), Refusal> {
    if head.uri.path() != PATH {
        let text = format!("not found: reviews are posted to {PATH}");
        return Err(Refusal::new(StatusCode::NOT_FOUND, text));
    }
    if head.method != Method::POST {
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "POST only"));
    }
    check_type(&head.headers)
}

fn check_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let value = headers.get(CONTENT_TYPE);
    let text = value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media_type = text.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!("content-type {text:?}: a review is application/json"),
    ))
}

fn refusal(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = http::text(status, format!("{text}\n"));
    let mut add = |name: HeaderName, value: &'static str| {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    };
    match status {
        StatusCode::METHOD_NOT_ALLOWED => add(ALLOW, "POST"),
        // RFC 9110, section 15.5.16
        StatusCode::UNSUPPORTED_MEDIA_TYPE => add(ACCEPT_ENCODING, "gzip"),
        _ => {}
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_allows_the_pod_as_it_is() {
        let review = r#"{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
            "request": {"uid": "1", "namespace": "shop"}}"#;
        let request = admission::Request::parse(review.as_bytes()).unwrap();
        let decide = async |decision: fn() -> Decision| {
            in_any_case(&request, async {
                tokio::task::yield_now().await;
                decision()
            })
            .await
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let (answer, outcome, _) = runtime.block_on(decide(|| panic!("a fault, as it should be")));
        assert_eq!(outcome, "failed");
        let review: Value = serde_json::from_slice(&answer.review(&request.uid)).unwrap();
        let expected = serde_json::json!({
            "uid": "1",
            "allowed": true,
            "warnings": ["no metricd in the pod: a fault of metricd's, see its log"],
        });
        assert_eq!(review["response"], expected);
        let (_, outcome, reason) =
            runtime.block_on(decide(|| (Answer::default(), "skipped", "not_enabled")));
        assert_eq!((outcome, reason), ("skipped", "not_enabled"));
    }

    #[test]
    fn values_are_counted_outside_of_strings() {
        for (json, count) in [
            ("0", 1),
            ("[0,0]", 3),
            (r#"{"a":[1,2],"b":{"c":"[,{"}}"#, 6),
            (r#"["\",[{",0]"#, 3),
            (r#"["\\",0]"#, 3),
        ] {
            assert_eq!(values(json), count, "{json}");
        }
    }
}
