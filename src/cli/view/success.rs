//! What a success is, as docs/looking.md defines it. The script of the sidecar's page and the rules for
//! Prometheus state that definition, too; tests/view/success.json has cases that all three are held against.

#![forbid(unsafe_code)]

use crate::read::samples::Sample;
use crate::read::success::is_success;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Answered without error.
    Success,
    /// Answered with an error.
    Failure,
    /// Answered with a status that is not known, or lost from sight.
    Unclassified,
    /// Never got its whole response, and was to have it.
    Aborted,
    /// A stream that its client has ended by design.
    Stopped,
}

/// How the responses of a sample of `linkerd_ebpf_responses_total` ended.
pub fn of_response(sample: &Sample) -> End {
    let is_grpc = sample.label("protocol") == "grpc";
    let status = sample.label("status").parse().ok();
    let grpc_status = sample.label("grpc_status").parse().ok();
    match is_success(is_grpc, status, grpc_status) {
        Some(true) => End::Success,
        Some(false) => End::Failure,
        None => End::Unclassified,
    }
}

/// How the responses of a sample of `linkerd_ebpf_pod_responses_total` ended.
pub fn of_class(sample: &Sample) -> End {
    match sample.label("status_class") {
        "1xx" | "2xx" | "3xx" | "4xx" | "ok" => End::Success,
        "5xx" | "error" => End::Failure,
        _ => End::Unclassified,
    }
}

/// How the requests of a sample of `linkerd_ebpf_requests_aborted_total` or its total ended.
pub fn of_aborted(sample: &Sample) -> End {
    match sample.label("reason") {
        // Answers to others of these have no class.
        _ if sample.label("direction") == "other" => End::Unclassified,
        "stopped" => End::Stopped,
        "evicted" => End::Unclassified,
        _ => End::Aborted,
    }
}

/// The success rate: the share of what was answered without error among all that was answered with a known
/// status or was aborted. None, if that is nothing.
pub fn rate(success: f64, failure: f64, aborted: f64) -> Option<f64> {
    let ended = success + failure + aborted;
    (ended > 0.0).then(|| success / ended)
}
