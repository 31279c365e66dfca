//! Durations as people write them.

#![forbid(unsafe_code)]

use std::time::Duration;

/// A duration as Go writes it, for example 5m0s.
///
/// # Errors
/// If the text is none.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<jiff::SignedDuration>();
    parsed
        .ok()
        .and_then(|duration| duration.try_into().ok())
        .ok_or_else(|| "not a duration such as 30s or 5m0s".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_does() {
        for (text, seconds) in [
            ("5m0s", 300.0),
            ("1h2m3s", 3723.0),
            ("1.5s", 1.5),
            ("300ms", 0.3),
            ("0s", 0.0),
        ] {
            assert_eq!(duration(text).unwrap().as_secs_f64(), seconds, "{text}");
        }
        for text in ["", "5", "-5s", "soon"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
