//! DNS.

use prometheus::proto::MetricType::{COUNTER, GAUGE, HISTOGRAM};

use crate::abi::DNS_RCODES;
use crate::read::prometheus::family::{Family, Rows, gauge, happened};
use crate::read::prometheus::labels::OTHER;

/// What the answers' codes are called: IANA's DNS RCODEs.
const RCODES: [&str; DNS_RCODES] = [
    "NOERROR",
    "FORMERR",
    "SERVFAIL",
    "NXDOMAIN",
    "NOTIMP",
    "REFUSED",
    "YXDOMAIN",
    "YXRRSET",
    "NXRRSET",
    "NOTAUTH",
    "NOTZONE",
    "DSOTYPENI",
    "12",
    "13",
    "14",
    "15",
    "BADVERS",
    "BADKEY",
    "BADTIME",
    "BADMODE",
    "BADNAME",
    "BADALG",
    "BADTRUNC",
    "BADCOOKIE",
    "24",
    "25",
    "26",
    "27",
    "28",
    "29",
    "30",
    OTHER,
];

pub const FAMILIES: &[Family] = &[
    Family {
        name: "linkerd_ebpf_dns_queries_total",
        help: "Queries of DNS that were answered, by the answer's code.",
        kind: COUNTER,
        rows: Rows::Dns(&["rcode"], |value, samples| {
            for (name, count) in RCODES.into_iter().zip(value.answers) {
                happened(samples, name, count);
            }
        }),
    },
    Family {
        name: "linkerd_ebpf_dns_queries_unanswered_total",
        help: "Queries of DNS without an answer, by why none is waited for any more.",
        kind: COUNTER,
        rows: Rows::Dns(&["reason"], |value, samples| {
            happened(samples, "timeout", value.unanswered.timeout);
            happened(samples, "retried", value.unanswered.retried);
            happened(samples, "evicted", value.unanswered.evicted);
        }),
    },
    Family {
        name: "linkerd_ebpf_dns_queries_in_flight",
        help: "Queries of DNS that wait for their answer, or for others to come so that it \
               is seen that they have waited for too long.",
        kind: GAUGE,
        rows: Rows::Dns(&[], |value, samples| {
            if value.queries > 0 {
                samples.push(("", gauge(value.in_flight())));
            }
        }),
    },
    Family {
        name: "linkerd_ebpf_dns_answers_unsolicited_total",
        help: "Answers of DNS that no query waited for.",
        kind: COUNTER,
        rows: Rows::Dns(&[], |value, samples| {
            happened(samples, "", value.unsolicited)
        }),
    },
    Family {
        name: "linkerd_ebpf_dns_answers_truncated_total",
        help: "Answers of DNS that say to ask again over TCP.",
        kind: COUNTER,
        rows: Rows::Dns(&[], |value, samples| happened(samples, "", value.truncated)),
    },
    Family {
        name: "linkerd_ebpf_dns_duration_seconds",
        help: "From a query of DNS, when it was first sent, to its answer.",
        kind: HISTOGRAM,
        rows: Rows::DnsDuration,
    },
];
