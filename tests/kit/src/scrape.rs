//! What metricd serves, read back.

pub mod exposition;
pub mod metrics;
