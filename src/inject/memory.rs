//! The kernel memory of the maps, which the kernel charges to the container that makes them, and
//! when that has ended to its pod.

use super::Config;

/// Bytes that the maps take at most, all entries in use.
pub fn bytes(config: &Config) -> u64 {
    (4 << 20)
        + u64::from(config.map_size) * 700
        + u64::from(config.connections) * 800
        + u64::from(config.http2_connections) * 5000
        + u64::from(config.routes) * 2000
}
