//! The log of every binary: to standard error, filtered by METRICD_LOG, else RUST_LOG, else info.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

/// Starts logging. To be called once.
pub fn start() {
    start_at("info");
}

/// Starts logging, with `level` where nothing says otherwise. To be called once.
pub fn start_at(level: &str) {
    let filter = EnvFilter::try_from_env("METRICD_LOG")
        .or_else(|_| EnvFilter::try_from_default_env())
        .unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
}

/// Says in one line what went wrong, if anything did.
pub fn exit(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
