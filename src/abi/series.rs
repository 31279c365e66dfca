//! Who talks to whom, and the counters of that.

use super::*;

layout! {
    /// A series: who talks to whom. `src` is the client, `dst` the server; ports in host order.
    MetricKey = metric_key {
        /// IPv4 as ::ffff:a.b.c.d.
        src: [u8; 16],
        dst: [u8; 16],
        /// 0 unless `--detail full`.
        src_port: u16,
        dst_port: u16,
        /// IANA protocol number.
        proto: u8,
        /// See [`direction`].
        direction: u8,
        /// See [`series_kind`].
        kind: u8,
        /// See [`origin`].
        origin: u8,
    }
}

counters! {
    IoValue = io_value {
        /// As on the wire: GSO segments.
        packets: u64,
        /// As on the wire, with the L2 header.
        bytes: u64,
        /// TCP segments whose bytes had been seen before.
        retransmits: u64,
    }
}

counters! {
    /// Connections by how they ended.
    ClosedValue = closed_value {
        fin: u64,
        rst: u64,
        /// RST in answer to the SYN.
        refused: u64,
        /// Silent for longer than the idle time, or replaced by a new SYN.
        idle: u64,
        /// The slot was needed for a new connection.
        evicted: u64,
    }
}

counters! {
    /// Requests that never got their whole response, by why. Entries of [`STATUS_ABORTED`] tell more
    /// reasons apart, see [`abort_reason`].
    AbortedValue = aborted_value {
        /// The connection ended in order, without the rest.
        fin: u64,
        rst: u64,
        idle: u64,
        evicted: u64,
        /// HTTP/2: by the client, or by the server with CANCEL.
        cancelled: u64,
        /// HTTP/2: not processed, by REFUSED_STREAM or GOAWAY.
        refused: u64,
        /// HTTP/2: by the server for another reason.
        reset: u64,
    }
}

counters! {
    /// Requests that never got their whole response, by [`abort_reason`].
    AbortedOther = aborted_other {
        fin: u64,
        rst: u64,
        idle: u64,
        evicted: u64,
        cancelled: u64,
        refused: u64,
        reset: u64,
        timeout: u64,
        stopped: u64,
    }
}

counters! {
    /// Connections whose requests could not be followed any further, by why.
    LostValue = lost_value {
        /// Bytes that the parser needed were never seen in order.
        gap: u64,
        malformed: u64,
        /// Beyond what is followed in one packet, or what the maps hold.
        bound: u64,
        /// More outstanding requests than are remembered.
        pipeline: u64,
        /// A response that no request asked for.
        unsolicited: u64,
        /// The connection was older than the programs.
        midstream: u64,
    }
}

counters! {
    /// Connections of TCP by what they turned out to carry; those of TLS are [`MetricValue::tls`],
    /// and those of DNS [`MetricValue::dns`].
    DecidedValue = decided_value {
        http1: u64,
        http2: u64,
        /// The server spoke first, and not HTTP/2.
        server_first: u64,
        /// The client's first bytes are no request.
        not_http: u64,
        /// More than the parsers or the maps hold.
        bound: u64,
        /// The beginning was not seen.
        midstream: u64,
        /// The proxy's own in a series of [`origin::PROXY`], else a further subflow of Multipath TCP.
        passed_over: u64,
        /// Ended before its bytes told.
        never: u64,
    }
}

counters! {
    /// By protocol.
    RequestsValue = requests_value {
        http1: u64,
        http2: u64,
        grpc: u64,
    }
}

counters! {
    /// The counters of a series; `active` is a gauge.
    MetricValue = metric_value {
        opened: u64,
        active: u64,
        tls: u64,
        /// As the pod sees it.
        recv: IoValue,
        /// Connections of TCP that carry DNS.
        dns: u64,
        requests: RequestsValue,
        /// Responses whose duration could not be known.
        untimed: u64,
        sent: IoValue,
        /// Requests, in whatever way.
        ended: u64,
        aborted: AbortedValue,
        closed: ClosedValue,
        lost: LostValue,
        /// With `tls` and `dns` as many as `opened`, once all have ended.
        decided: DecidedValue,
        /// When its last packet came, or up to a second before; 0 if none has.
        seen_ns: Latest,
    }
}

layout! {
    /// An element of `linkerd_metrics_map`.
    MetricEntry = metric_entry {
        key: MetricKey,
        value: MetricValue,
        pad2: u32,
        /// See [`key_check`].
        check: u32,
    }
}
