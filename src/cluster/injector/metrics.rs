//! What the injector says about itself.

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

/// Up to the three seconds that an API server waits.
const SECONDS: [f64; 10] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.01, 0.05, 0.25, 1.0, 3.0,
];

/// All metrics of the injector. A family's name is the field's, with `metricd_injector_` before it.
pub struct Metrics {
    registry: Registry,
    admissions: IntCounterVec,
    duration: Histogram,
    refused: IntCounterVec,
    handshakes_failed: IntCounter,
    certificate_expiry: IntGauge,
    certificate_failures: IntCounter,
    events: IntCounterVec,
    api_errors: IntCounterVec,
}

impl Metrics {
    pub fn new() -> Self {
        let registry = Registry::new();
        let opts = |name: &str, help: &str| Opts::new(format!("metricd_injector_{name}"), help);
        macro_rules! register {
            ($metric:expr) => {{
                let metric = $metric.expect("a name and labels that are right");
                registry
                    .register(Box::new(metric.clone()))
                    .expect("registered once");
                metric
            }};
        }
        let build = register!(prometheus::IntGaugeVec::new(
            opts("build_info", "Which build this is."),
            &["version"]
        ));
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Self {
            admissions: register!(IntCounterVec::new(
                opts(
                    "admissions_total",
                    "Reviews answered, by what became of the pod and why."
                ),
                &["outcome", "reason"]
            )),
            duration: register!(Histogram::with_opts(
                HistogramOpts::from(opts(
                    "admission_duration_seconds",
                    "From a review's last byte to its answer."
                ))
                .buckets(SECONDS.into())
            )),
            refused: register!(IntCounterVec::new(
                opts(
                    "requests_refused_total",
                    "Requests that were no review, by the status of the answer."
                ),
                &["status"]
            )),
            handshakes_failed: register!(IntCounter::with_opts(opts(
                "tls_handshakes_failed_total",
                "Connections that ended before TLS was established."
            ))),
            certificate_expiry: register!(IntGauge::with_opts(opts(
                "certificate_expiry_timestamp_seconds",
                "When the certificate in use expires; 0 if there is none."
            ))),
            certificate_failures: register!(IntCounter::with_opts(opts(
                "certificate_failures_total",
                "Certificates that could not be loaded."
            ))),
            events: register!(IntCounterVec::new(
                opts(
                    "events_total",
                    "Kubernetes events: written, failed, or dropped since too many were waiting."
                ),
                &["result"]
            )),
            api_errors: register!(IntCounterVec::new(
                opts(
                    "api_errors_total",
                    "Requests to the API server that failed, by what was asked."
                ),
                &["request"]
            )),
            registry,
        }
    }

    pub fn admission(&self, outcome: &str, reason: &str, took: Duration) {
        self.admissions.with_label_values(&[outcome, reason]).inc();
        self.duration.observe(took.as_secs_f64());
    }

    pub fn refusal(&self, status: &str) {
        self.refused.with_label_values(&[status]).inc();
    }

    pub fn handshake_failure(&self) {
        self.handshakes_failed.inc();
    }

    /// Seconds since 1970.
    pub fn certificate(&self, expiry: i64) {
        self.certificate_expiry.set(expiry);
    }

    pub fn certificate_failure(&self) {
        self.certificate_failures.inc();
    }

    pub fn event(&self, result: &str) {
        self.events.with_label_values(&[result]).inc();
    }

    pub fn api_error(&self, request: &str) {
        self.api_errors.with_label_values(&[request]).inc();
    }

    /// The metrics as text for Prometheus.
    pub fn text(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("no untyped family")
    }
}
