//! Plain HTTP for the kubelet and Prometheus: `/metrics`, `/ready` and `/live`.

use std::sync::Arc;

use anyhow::{Result, ensure};
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, body::Bytes};
use tokio::sync::watch;

use super::{cluster::Cluster, metrics::Metrics, tls::Certificates};
use crate::read::prometheus::Format;
use crate::web::http;

/// What is told.
pub struct Admin {
    pub certificates: Arc<Certificates>,
    pub cluster: Arc<Cluster>,
    pub metrics: Arc<Metrics>,
    /// Whether the end has begun.
    pub stopping: watch::Receiver<bool>,
}

impl Admin {
    pub fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if let Some(refusal) = http::refuse(request, &["/", "/metrics", "/ready", "/live"]) {
            return refusal;
        }
        match request.uri().path() {
            "/metrics" => {
                // Whose expiry is told is the one that the next handshake would take.
                let _ = self.certificates.current();
                http::full(
                    StatusCode::OK,
                    Format::Text.content_type(),
                    self.metrics.text(),
                )
            }
            "/ready" => match self.ready() {
                Ok(()) => http::text(StatusCode::OK, "ready\n"),
                Err(error) => http::text(StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}\n")),
            },
            "/live" => http::text(StatusCode::OK, "live\n"),
            _ => http::text(
                StatusCode::OK,
                "metricd-injector: /metrics, /ready, /live\n",
            ),
        }
    }

    fn ready(&self) -> Result<()> {
        ensure!(!*self.stopping.borrow(), "stopping");
        self.certificates.current()?;
        self.cluster.ready()
    }
}
