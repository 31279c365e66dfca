//! Requests and responses, how long they took, and what was not followed.

use prometheus::proto::MetricType::{COUNTER, GAUGE, HISTOGRAM};

use crate::abi::LatencyValue;
use crate::read::prometheus::family::{Family, Rows, gauge, happened};

pub const FAMILIES: &[Family] = &[
    Family {
        name: "linkerd_ebpf_requests_total",
        help: "Requests that began.",
        kind: COUNTER,
        rows: Rows::Requests,
    },
    Family {
        name: "linkerd_ebpf_responses_total",
        help: "Responses that ended, by status.",
        kind: COUNTER,
        rows: Rows::Responses,
    },
    Family {
        name: "linkerd_ebpf_grpc_status_derived_total",
        help: "Responses to requests of gRPC that had no grpc-status. Their status is the one that \
               clients make of HTTP's: 2 (UNKNOWN), 7, 12, 13, 14 or 16.",
        kind: COUNTER,
        rows: Rows::Snapshot(&[], |snapshot, lines| {
            lines.value(snapshot.grpc_derived as f64);
        }),
    },
    Family {
        name: "linkerd_ebpf_requests_unproven",
        help: "Requests in flight that are not counted as yet, since their answers may prove their paths to be routes.",
        kind: GAUGE,
        rows: Rows::Snapshot(&[], |snapshot, lines| {
            if snapshot.info.routes > 0 {
                lines.value(gauge(snapshot.unproven));
            }
        }),
    },
    Family {
        name: "linkerd_ebpf_requests_aborted_total",
        help: "Requests that never got their whole response, by why. Those for the reason stopped are no \
               failures: clients have ended streams whose answers were under way. Of those that were evicted nobody knows.",
        kind: COUNTER,
        rows: Rows::Aborted,
    },
    Family {
        name: "linkerd_ebpf_requests_in_flight",
        help: "Requests that have begun and neither been answered nor aborted.",
        kind: GAUGE,
        rows: Rows::Series(&[], |_, value, samples| {
            if value.requests.total() > 0 || value.ended > 0 {
                samples.push(("", value.in_flight() as f64));
            }
        }),
    },
    Family {
        name: "linkerd_ebpf_request_duration_seconds",
        help: "From the first byte of the request to the last byte of the response or, with the status class \
               aborted, to the end of the connection or the stream, but for those of the reasons stopped and evicted.",
        kind: HISTOGRAM,
        rows: Rows::Latency(LatencyValue::duration),
    },
    Family {
        name: "linkerd_ebpf_time_to_first_byte_seconds",
        help: "From the first byte of the request to the first byte of the response.",
        kind: HISTOGRAM,
        rows: Rows::Latency(LatencyValue::ttfb),
    },
    Family {
        name: "linkerd_ebpf_request_durations_unknown_total",
        help: "Responses, and aborted requests, whose duration could not be known.",
        kind: COUNTER,
        rows: Rows::Series(&[], |_, value, samples| {
            happened(samples, "", value.untimed)
        }),
    },
    Family {
        name: "linkerd_ebpf_state_lost_total",
        help: "Connections whose requests were not followed from some point on, by \
               reason: their bytes still count, their requests do not. \
               docs/principles.md has the bounds.",
        kind: COUNTER,
        rows: Rows::Series(&["reason"], |_, value, samples| {
            happened(samples, "gap", value.lost.gap);
            happened(samples, "malformed", value.lost.malformed);
            happened(samples, "bound", value.lost.bound);
            happened(samples, "pipeline", value.lost.pipeline);
            happened(samples, "unsolicited", value.lost.unsolicited);
            happened(samples, "midstream", value.lost.midstream);
        }),
    },
    Family {
        name: "linkerd_ebpf_state_resumed_total",
        help: "Connections that linkerd_ebpf_state_lost_total counts and whose requests are followed \
               again, from a point where nothing was under way. Those of HTTP/2 never are.",
        kind: COUNTER,
        rows: Rows::Snapshot(&[], |snapshot, lines| {
            lines.value(snapshot.counters.resumed as f64);
        }),
    },
];
