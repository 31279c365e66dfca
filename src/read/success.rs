//! Which responses are successes.

#![forbid(unsafe_code)]

/// gRPC's UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE and DATA_LOSS, which Linkerd calls failures of
/// the server (linkerd/app/core/src/classify.rs of linkerd2-proxy).
const GRPC_FAILURES: [u8; 5] = [2, 4, 13, 14, 15];

/// Whether a response is a success: its status of HTTP is below 500, and of gRPC its own is none of
/// [`GRPC_FAILURES`]. None, where the status is not known, which for gRPC is its own.
pub fn is_success(is_grpc: bool, status: Option<u16>, grpc_status: Option<u8>) -> Option<bool> {
    match (status, grpc_status) {
        (Some(500..600), _) => Some(false),
        (_, Some(grpc_status)) if is_grpc => Some(!GRPC_FAILURES.contains(&grpc_status)),
        (Some(100..500), _) if !is_grpc => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_as_a_success() {
        for (status, expected) in [
            (Some(101), Some(true)),
            (Some(200), Some(true)),
            (Some(499), Some(true)),
            (Some(500), Some(false)),
            (Some(503), Some(false)),
            (Some(600), None),
            (None, None),
        ] {
            assert_eq!(is_success(false, status, None), expected, "{status:?}");
        }
        let failures =
            (0..=16).filter(|status| is_success(true, Some(200), Some(*status)) == Some(false));
        assert_eq!(failures.collect::<Vec<_>>(), GRPC_FAILURES);
        assert_eq!(is_success(true, None, Some(5)), Some(true));
        assert_eq!(is_success(true, None, Some(14)), Some(false));
        assert_eq!(is_success(true, Some(503), Some(0)), Some(false));
        assert_eq!(is_success(true, Some(200), None), None);
        // As gRPC-web has it, which is no gRPC.
        assert_eq!(is_success(false, Some(200), Some(14)), Some(true));
    }
}
