//! Kubernetes events, so that who looks at a workload sees why its pods are without metricd.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use serde_json::Value;
use tokio::{
    sync::mpsc,
    time::{self, MissedTickBehavior},
};

use super::metrics::Metrics;

/// The least time between two events.
const PACE: Duration = Duration::from_millis(200);
/// How many events may wait; further ones are dropped.
const WAITING: usize = 256;
/// How long the API server may take for an event.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a note that the API server takes (validation of events.k8s.io/v1).
const NOTE: usize = 1024;

/// How an event is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Somebody wanted something else.
    Surprise,
    AsAsked,
}

/// Takes events, and writes them when there is time.
pub struct Events {
    queue: mpsc::Sender<(Event, ObjectReference)>,
    metrics: Arc<Metrics>,
}

impl Events {
    pub fn start(client: Client, metrics: Arc<Metrics>) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        let recorder = Recorder::new(client, Reporter::from("metricd-injector"));
        tokio::spawn(write(recorder, waiting, metrics.clone()));
        Self { queue, metrics }
    }

    /// Says about a pod that is being made, to its owner, what happened and why: one word for
    /// machines, and a note. A pod that nothing owns has no place for it yet: whoever makes it gets
    /// the warnings.
    pub fn tell(&self, pod: &Value, namespace: &str, kind: Kind, reason: &str, note: &str) {
        let Some(owner) = owner(pod, namespace) else {
            return;
        };
        let event = Event {
            type_: match kind {
                Kind::Surprise => EventType::Warning,
                Kind::AsAsked => EventType::Normal,
            },
            reason: reason.into(),
            note: Some(cut(note).into()),
            action: "Inject".into(),
            secondary: None,
        };
        if self.queue.try_send((event, owner)).is_err() {
            self.metrics.event("dropped");
        }
    }
}

async fn write(
    recorder: Recorder,
    mut waiting: mpsc::Receiver<(Event, ObjectReference)>,
    metrics: Arc<Metrics>,
) {
    let mut pace = time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while let Some((event, owner)) = waiting.recv().await {
        pace.tick().await;
        let problem = match time::timeout(TIMEOUT, recorder.publish(&event, &owner)).await {
            Ok(Ok(())) => {
                metrics.event("written");
                continue;
            }
            Ok(Err(error)) => format!("{:#}", anyhow::anyhow!(error)),
            Err(_) => format!("no answer within {} s", TIMEOUT.as_secs()),
        };
        metrics.event("failed");
        tracing::warn!("write an event: {problem}");
    }
}

/// The controller of a pod.
fn owner(pod: &Value, namespace: &str) -> Option<ObjectReference> {
    let owners = pod["metadata"]["ownerReferences"].as_array()?;
    let owner = owners.iter().find(|owner| owner["controller"] == true)?;
    let text = |field: &str| owner[field].as_str().map(str::to_owned);
    Some(ObjectReference {
        api_version: text("apiVersion"),
        kind: text("kind"),
        name: Some(text("name")?),
        namespace: Some(namespace.into()),
        uid: text("uid"),
        ..ObjectReference::default()
    })
}

fn cut(note: &str) -> &str {
    let end = (0..=NOTE.min(note.len()))
        .rev()
        .find(|end| note.is_char_boundary(*end));
    &note[..end.unwrap_or(0)]
}
