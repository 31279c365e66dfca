//! Responses by status, requests by route, and routes.

use super::*;

layout! {
    RequestKey = request_key {
        series: MetricKey,
        /// 0 is unknown, [`STATUS_OTHER`] what did not fit; [`STATUS_REQUESTS`] and
        /// [`STATUS_ABORTED`] are none.
        status: u16,
        /// See [`protocol`].
        protocol: u8,
        /// See [`grpc_status`](crate::abi::grpc_status).
        grpc_status: u8,
        /// See [`route`].
        route: u16,
        pad: u16,
    }
}

counters! {
    RequestValue = request_value {
        responses: u64,
    }
}

layout! {
    /// An element of `linkerd_requests_map`.
    RequestEntry = request_entry {
        key: RequestKey,
        /// Element of `linkerd_latency_map`.
        latency: u32,
        /// See [`key_check`].
        check: u32,
        /// Counts what the key's status says.
        value: RequestValue,
    }
}

layout! {
    /// An element of `linkerd_route_map`.
    RouteEntry = route_entry {
        /// The bytes of a path, filled up with NUL.
        text: [u64; 16],
    }
}
