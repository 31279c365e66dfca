//! What numbers of the kernel side mean, and their labels.

/// What a series is about: [`MetricKey::kind`] and its like.
pub mod series_kind {
    pub const IP: u8 = crate::abi::constants::SERIES_IP as u8;
    /// ARP and the like.
    pub const NON_IP: u8 = crate::abi::constants::SERIES_NON_IP as u8;
    /// IPv6 while `--ipv6=false`.
    pub const IPV6_OFF: u8 = crate::abi::constants::SERIES_IPV6_OFF as u8;
    /// What did not fit.
    pub const OTHER: u8 = crate::abi::constants::SERIES_OTHER as u8;
}

/// Who opened the connection: [`MetricKey::direction`] and its like.
pub mod direction {
    pub const NONE: u8 = crate::abi::constants::DIRECTION_NONE as u8;
    /// The pod is the server.
    pub const INBOUND: u8 = crate::abi::constants::DIRECTION_INBOUND as u8;
    /// The pod is the client.
    pub const OUTBOUND: u8 = crate::abi::constants::DIRECTION_OUTBOUND as u8;
    /// Both ends are the pod's own, and neither is its proxy.
    pub const LOCAL: u8 = crate::abi::constants::DIRECTION_LOCAL as u8;

    /// The value of the label `direction`.
    pub fn label(direction: u8) -> &'static str {
        match direction {
            NONE => "",
            INBOUND => "inbound",
            OUTBOUND => "outbound",
            LOCAL => "local",
            _ => "unknown",
        }
    }
}

/// Whose a series is, if it is not the application's: [`MetricKey::origin`].
pub mod origin {
    pub const NONE: u8 = crate::abi::constants::ORIGIN_NONE as u8;
    /// The proxy's own, as its connections with what is outside of the pod.
    pub const PROXY: u8 = crate::abi::constants::ORIGIN_PROXY as u8;
    /// Nobody's: attempts to connect that have not opened a connection, and packets that belong to
    /// none.
    pub const UNOPENED: u8 = crate::abi::constants::ORIGIN_UNOPENED as u8;

    /// The value of the label `origin`, which is not there if this is empty.
    pub fn label(origin: u8) -> &'static str {
        match origin {
            PROXY => "proxy",
            UNOPENED => "unopened",
            _ => "",
        }
    }
}

/// What is spoken: [`RequestKey::protocol`] and its like.
pub mod protocol {
    pub const UNKNOWN: u8 = crate::abi::constants::PROTOCOL_UNKNOWN as u8;
    pub const HTTP1: u8 = crate::abi::constants::PROTOCOL_HTTP1 as u8;
    pub const HTTP2: u8 = crate::abi::constants::PROTOCOL_HTTP2 as u8;
    pub const GRPC: u8 = crate::abi::constants::PROTOCOL_GRPC as u8;

    /// The value of the label `protocol`.
    pub fn label(protocol: u8) -> &'static str {
        match protocol {
            HTTP1 => "http1",
            HTTP2 => "http2",
            GRPC => "grpc",
            _ => "unknown",
        }
    }
}

/// Why a request never got its whole response: [`RequestKey::grpc_status`] of entries of
/// [`STATUS_ABORTED`].
pub mod abort_reason {
    /// The connection ended in order, without the rest.
    pub const FIN: u8 = crate::abi::constants::ABORT_FIN as u8;
    pub const RST: u8 = crate::abi::constants::ABORT_RST as u8;
    pub const IDLE: u8 = crate::abi::constants::ABORT_IDLE as u8;
    /// The connection's slot was needed for another one: nobody knows what came of the request.
    pub const EVICTED: u8 = crate::abi::constants::ABORT_EVICTED as u8;
    /// HTTP/2: by the client, or by the server with CANCEL.
    pub const CANCELLED: u8 = crate::abi::constants::ABORT_CANCELLED as u8;
    /// HTTP/2: not processed, by REFUSED_STREAM or GOAWAY.
    pub const REFUSED: u8 = crate::abi::constants::ABORT_REFUSED as u8;
    /// HTTP/2: by the server for another reason.
    pub const RESET: u8 = crate::abi::constants::ABORT_RESET as u8;
    /// HTTP/2: cancelled at the deadline that the client's grpc-timeout has told.
    pub const TIMEOUT: u8 = crate::abi::constants::ABORT_TIMEOUT as u8;
    /// HTTP/2: by the client, before its deadline, while the answer was under way.
    pub const STOPPED: u8 = crate::abi::constants::ABORT_STOPPED as u8;

    /// The values of the label `reason`, by number.
    pub const LABELS: [&str; crate::abi::constants::ABORT_MAX as usize] = [
        "fin",
        "rst",
        "idle",
        "evicted",
        "cancelled",
        "refused",
        "reset",
        "timeout",
        "stopped",
    ];

    /// The value of the label `reason`.
    pub fn label(reason: u8) -> &'static str {
        LABELS
            .get(usize::from(reason))
            .copied()
            .unwrap_or("unknown")
    }

    /// The reason by which the series counts this one, where fewer are told apart.
    pub fn of_series(reason: u8) -> u8 {
        match reason {
            TIMEOUT | STOPPED => CANCELLED,
            reason => reason,
        }
    }
}

/// Numbers of `linkerd_route_map`, and what is none: [`RequestKey::route`] and its like.
pub mod route {
    /// Routes are not told apart, or the request is for no path.
    pub const NONE: u16 = crate::abi::constants::ROUTE_NONE as u16;
    /// Requests in flight whose answers may prove their paths.
    pub const PENDING: u16 = crate::abi::constants::ROUTE_PENDING as u16;
    /// The path was not in one packet, or no answer has told whether there is such a route.
    pub const UNKNOWN: u16 = crate::abi::constants::ROUTE_UNKNOWN as u16;
    /// More than `--routes`, too long, or proven by no answer.
    pub const OTHER: u16 = crate::abi::constants::ROUTE_OTHER as u16;
    /// The most routes that there can be.
    pub const MAX: u32 = crate::abi::constants::ROUTE_MAX as u32;
}

/// Which addresses and ports a series keeps: [`Info::detail`].
pub mod detail {
    pub const POD: u32 = crate::abi::constants::DETAIL_POD as u32;
    pub const SERVICE: u32 = crate::abi::constants::DETAIL_SERVICE as u32;
    pub const FULL: u32 = crate::abi::constants::DETAIL_FULL as u32;
}
