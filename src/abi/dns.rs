//! Queries of DNS.

use super::*;

layout! {
    /// The server that is asked by DNS.
    DnsKey = dns_key {
        /// Zero with `--detail pod`.
        server: [u8; 16],
        /// See [`direction`].
        direction: u8,
        /// See [`series_kind`].
        kind: u8,
        pad: [u16; 3],
    }
}

counters! {
    /// Queries without an answer, by why an answer is not waited for any more.
    DnsUnanswered = dns_unanswered {
        timeout: u64,
        /// The query was sent again.
        retried: u64,
        /// The place was needed for another query.
        evicted: u64,
    }
}

counters! {
    DnsValue = dns_value {
        queries: u64,
        /// Answers by response code, RFC 6895 section 2.3; the last one counts all codes above,
        /// too.
        answers: [u64; DNS_RCODES],
        unanswered: DnsUnanswered,
        /// Answers that no query waits for.
        unsolicited: u64,
        /// Answers with the TC bit.
        truncated: u64,
        /// The time to the answer, of queries that were answered.
        duration: Histogram,
    }
}
